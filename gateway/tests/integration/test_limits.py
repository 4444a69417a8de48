"""Limits that replicas keep together in a real Redis, and alone while it is away."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import httpx
import pytest
from gateway.breaker import Breaker
from gateway.quotas import LocalCounter
from gateway.throttle import SharedCounts
from limits import parse
from limits.aio.storage import RedisStorage
from local_stack.servers import RedisServer
from redis.asyncio import Redis

Run = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]
Eventually = Callable[..., Awaitable[None]]


@pytest.fixture
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, Redis is not taken for away."""
    monkeypatch.setattr("gateway.throttle._TIMEOUT", 30.0)
    monkeypatch.setattr("gateway.throttle._WAIT", 30.0)


async def hits(client: httpx.AsyncClient, count: int, headers: dict[str, str]) -> list[int]:
    """The statuses of `count` requests to a limited route."""
    answers = [await client.get("/admin/jobs", headers=headers) for _ in range(count)]
    for answer in answers:
        assert int(answer.headers["ratelimit-limit"]) > 0
        assert ("retry-after" in answer.headers) or answer.status_code != 429
    return [answer.status_code for answer in answers]


async def test_replicas_count_together_and_alone_while_redis_is_away(
    run_gateway: Run,
    rabbit_vhost: str,
    redis_database: str,
    redis_server: RedisServer,
    upstreams: Any,
    signer: Any,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage: Any = RedisStorage
    acquire, asked = storage.acquire_sliding_window_entry, 0

    async def counted(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return await acquire(*arguments)

    monkeypatch.setattr(storage, "acquire_sliding_window_entry", counted)
    # Long enough for a busy machine to answer, and however long it takes, one pause of the breaker.
    monkeypatch.setattr("gateway.throttle._TIMEOUT", 6.0)
    monkeypatch.setattr("gateway.throttle.Breaker", partial(Breaker, clock=lambda: 0.0))
    for upstream in (upstreams.ingest, upstreams.compute, upstreams.search):
        upstream.answers["/jobs"] = {"items": [], "total": 0, "as_of": "2026-01-01T00:00:00Z"}
    settings = {
        "amqp_url": rabbit_vhost,
        "redis_url": redis_database,
        "limit_admin_per_user": "6/minute",
    }
    headers = signer.bearer("user-1", "admin")
    async with run_gateway(**settings) as one, run_gateway(**settings) as two:
        assert await hits(one, 3, headers) == [200] * 3
        assert await hits(two, 3, headers) == [200] * 3
        assert await hits(one, 1, headers) == [429]
        assert await hits(two, 1, headers) == [429]
        assert await hits(one, 1, signer.bearer("user-2", "admin")) == [200]

        await asyncio.to_thread(redis_server.freeze)
        asked = 0
        alone = await hits(one, 8, headers)
        await asyncio.to_thread(redis_server.resume)
        # It goes on from the three that it has taken; one timeout is all that it costs.
        assert alone == [200] * 3 + [429] * 5
        assert asked == 1

        async def together_again() -> bool:
            return (await two.get("/admin/jobs", headers=headers)).status_code == 429

        await eventually(together_again)


async def test_redis_holds_neither_addresses_nor_names(
    run_gateway: Run, rabbit_vhost: str, redis_database: str, signer: Any
) -> None:
    async with run_gateway(amqp_url=rabbit_vhost, redis_url=redis_database) as client:
        await client.get("/admin/jobs", headers=signer.bearer("user-known", "admin"))
        await client.post("/movies/refresh")
        await client.post("/users", json={})
        await client.post(
            "/auth/token",
            data={"grant_type": "password", "username": "Known", "password": "Secret-1234"},
        )
    redis = Redis.from_url(redis_database)  # pyright: ignore[reportUnknownMemberType]
    found: Any = await redis.keys("*limit*")  # pyright: ignore[reportUnknownMemberType]
    limited: list[str] = [key.decode() for key in found]
    lives = [await redis.ttl(key) for key in limited]
    await redis.aclose()
    assert len(limited) >= 3
    assert all(0 < life <= 2 * 3600 for life in lives)
    for secret in ("127.0.0.1", "user-known", "known", "Known", "Secret"):
        assert not any(secret in key for key in limited)
    digest = hashlib.blake2b(b"user-known", digest_size=12).hexdigest()
    assert any(digest in key for key in limited)


@pytest.mark.usefixtures("_patience")
async def test_a_hundred_at_once_are_not_more_than_the_limit(redis_database: str) -> None:
    counts = [SharedCounts(redis_database) for _ in range(2)]
    item = parse("40/minute")
    quotas = await asyncio.gather(
        *(counts[number % 2].hit(item, "ratings/x") for number in range(100))
    )
    for shared in counts:
        await shared.close()
    assert None not in quotas
    assert sum(not quota.exceeded for quota in quotas if quota) == 40


@pytest.mark.usefixtures("_patience")
async def test_redis_and_a_replica_alone_count_alike(redis_database: str) -> None:
    """The same requests at the same times, around the ends of windows."""
    shared, alone = SharedCounts(redis_database), LocalCounter(parse("5/second"))
    item = parse("5/second")
    told: list[tuple[bool, bool]] = []
    started = time.perf_counter()
    for _ in range(60):
        quota = await shared.hit(item, "x")
        mine = alone.hit("x")
        assert quota is not None
        told.append((quota.exceeded, mine.exceeded))
        await asyncio.sleep(0.05)
    took = time.perf_counter() - started
    await shared.close()
    through = [sum(not told_of[which] for told_of in told) for which in (0, 1)]
    # 3 s or more at 5 a second, and 5 at once; the windows of the two do not begin together.
    assert all(13 <= count <= 5 * took + 5 for count in through), through


@pytest.mark.usefixtures("_patience")
async def test_waiting_as_long_as_redis_tells_is_enough(redis_database: str) -> None:
    shared = SharedCounts(redis_database)
    item = parse("2/second")
    waits = 0
    for _ in range(8):
        quota = await shared.hit(item, "x")
        assert quota is not None
        if quota.exceeded:
            waits += 1
            await asyncio.sleep(quota.reset)
            after = await shared.hit(item, "x")
            assert after is not None
            assert not after.exceeded
    await shared.close()
    assert waits >= 2
