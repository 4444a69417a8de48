"""What is kept of ratings, reviews and profiles in a real Redis, and when it is gone."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from moviemetric_contracts import Event, RatingAggregated, UserErased
from redis.asyncio import Redis
from service_kit import Publisher, RabbitBroker

Run = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]
Eventually = Callable[..., Awaitable[None]]

ALIAS = "imdb-tt1375666"
AS_OF = "2025-01-31T20:15:00Z"
PAGE = {"total": 1, "limit": 20, "offset": 0, "as_of": AS_OF}
PERSONAL = ["/movies/27205/reviews", "/users/ada"]


def ratings(count: int) -> dict[str, Any]:
    return {"movie_id": "tmdb-27205", "count": count, "mean": 8.0, "as_of": AS_OF}


@pytest.fixture(autouse=True)
def _answers(upstreams: Any) -> None:
    item = {"user": "ada", "score": 8.0, "review": "Twice.", "rated_at": AS_OF}
    upstreams.rating.answers = {
        "/movies/tmdb-27205/ratings": ratings(1),
        f"/movies/{ALIAS}/ratings": ratings(1),
        "/movies/tmdb-27205/reviews": {"items": [item], **PAGE},
        f"/movies/{ALIAS}/reviews": {"items": [item], **PAGE},
        "/users/ada": {"name": "ada", "created_at": AS_OF, "ratings": {"count": 1}},
    }
    upstreams.ingest.answers = {"/movies": {"items": [], **PAGE}}


@pytest.fixture
def gateway(run_gateway: Run, rabbit_vhost: str, redis_database: str) -> Run:
    """The gateway with long lives for its answers, so that only events end them."""

    def run(**settings: Any) -> Any:
        given = {"movies_ttl": 60, "ready": True, **settings}
        return run_gateway(amqp_url=rabbit_vhost, redis_url=redis_database, **given)

    return run


async def source(client: httpx.AsyncClient, path: str) -> str:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.headers["X-Cache"]


def change(upstreams: Any, count: int) -> None:
    for key in ("tmdb-27205", ALIAS):
        upstreams.rating.answers[f"/movies/{key}/ratings"] = ratings(count)


async def count(client: httpx.AsyncClient, key: str = "27205") -> int:
    return (await client.get(f"/movies/{key}/ratings")).json()["count"]


@pytest.mark.parametrize("key", ["27205", ALIAS])
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_who_waits_reads_what_they_wrote(
    gateway: Run, upstreams: Any, signer: Any, key: str, method: str
) -> None:
    path = f"/movies/{key}/rating"
    headers = {**signer.bearer(), "Idempotency-Key": "k"}
    body = {"score": 8} if method == "PUT" else None
    async with gateway() as client:
        first = await client.request(method, path, json=body, headers=headers)
        event_id = first.json()["event_id"]
        read = [f"/movies/{name}/ratings" for name in {key, "27205"}]
        assert [await source(client, name) for name in read] == ["miss"] * len(read)
        assert [await source(client, name) for name in read] == ["hit"] * len(read)
        change(upstreams, 2)
        not_yet = await client.request(method, f"{path}?wait=0.1", json=body, headers=headers)
        assert not_yet.json() == {**first.json(), "processed": False}
        assert await source(client, read[0]) == "hit"
        effect = {"queue": "rating-service.ratings", "processed_at": AS_OF}
        upstreams.rating.answers[f"/inbox/{event_id}"] = {"items": [effect], "as_of": AS_OF}
        after = await client.request(method, f"{path}?wait=2", json=body, headers=headers)
        assert after.json() == {**first.json(), "processed": True}
        assert await count(client, key) == 2
        assert await count(client) == 2


async def test_an_aggregate_drops_the_films_ratings_and_no_list(
    gateway: Run, upstreams: Any, rabbit_vhost: str, eventually: Eventually
) -> None:
    broker = RabbitBroker(rabbit_vhost, name="test")
    aggregated = RatingAggregated(
        movie_id="tmdb-27205",
        count=2,
        mean=8.0,
        histogram=(*[0] * 15, 2, *[0] * 4),
        revision=2,
    )
    event = Event.of(aggregated, source="test", time=datetime.now(UTC))
    async with gateway() as client:
        for path in ("/movies/27205/ratings", "/movies/27205/reviews", "/movies"):
            assert await source(client, path) == "miss"
            assert await source(client, path) == "hit"
        change(upstreams, 2)
        await Publisher(broker).publish(event)

        async def seen() -> bool:
            return await count(client) == 2

        await eventually(seen)
        assert await source(client, "/movies/27205/reviews") == "miss"
        assert await source(client, "/movies") == "hit"
    await broker.close()


async def test_under_another_key_an_answer_is_soon_asked_for_again(
    gateway: Run, upstreams: Any
) -> None:
    async with gateway() as client:
        paths = [f"/movies/{ALIAS}/ratings", f"/movies/{ALIAS}/reviews"]
        for path in paths:
            assert await source(client, path) == "miss"
            assert await source(client, path) == "hit"
        change(upstreams, 2)
        await asyncio.sleep(1.1)
        assert [await source(client, path) for path in paths] == ["miss", "miss"]


async def kept(redis_url: str) -> list[str]:
    client: Any = Redis.from_url(redis_url)  # pyright: ignore[reportUnknownMemberType] -- untyped
    try:
        names: list[bytes] = await client.keys("gateway:entry:*")
        return sorted(name.decode().removeprefix("gateway:entry:") for name in names)
    finally:
        await client.aclose()


async def test_nothing_of_a_person_is_kept_longer_than_it_is_fresh(
    gateway: Run, upstreams: Any, redis_database: str, eventually: Eventually
) -> None:
    async with gateway(movies_ttl=0.3) as client:
        for path in ("/movies/27205/ratings", "/movies/27205/reviews"):
            assert await source(client, path) == "miss"
        assert len(await kept(redis_database)) == 2

        async def only_numbers() -> bool:
            return await kept(redis_database) == ["ratings/tmdb-27205"]

        await eventually(only_numbers)
        await upstreams.rating.stop()
        assert await source(client, "/movies/27205/ratings") == "stale"
        assert (await client.get("/movies/27205/reviews")).status_code == 503


async def test_an_erased_user_is_not_shown_from_the_cache(
    gateway: Run, upstreams: Any, rabbit_vhost: str, eventually: Eventually
) -> None:
    broker = RabbitBroker(rabbit_vhost, name="test")
    async with gateway() as client:
        for path in PERSONAL:
            assert await source(client, path) == "miss"
            assert await source(client, path) == "hit"
        del upstreams.rating.answers["/users/ada"]
        upstreams.rating.answers["/movies/tmdb-27205/reviews"] = {"items": [], **PAGE, "total": 0}
        erased = UserErased(user_id="user-1")
        await Publisher(broker).publish(Event.of(erased, source="test", time=datetime.now(UTC)))

        async def gone() -> bool:
            return (await client.get("/users/ada")).status_code == 404

        await eventually(gone)
        assert (await client.get("/movies/27205/reviews")).json()["total"] == 0
    await broker.close()


async def test_a_dropped_profile_is_not_shown_while_its_service_is_away(
    gateway: Run, upstreams: Any, rabbit_vhost: str, eventually: Eventually
) -> None:
    broker = RabbitBroker(rabbit_vhost, name="test")
    async with gateway() as client:
        assert await source(client, "/users/ada") == "miss"
        await upstreams.rating.stop()
        assert await source(client, "/users/ada") == "hit"
        erased = UserErased(user_id="user-1")
        await Publisher(broker).publish(Event.of(erased, source="test", time=datetime.now(UTC)))

        async def refused() -> bool:
            return (await client.get("/users/ada")).status_code == 503

        await eventually(refused)
    await broker.close()


async def test_credentials_and_what_they_open_are_in_no_cache(
    gateway: Run, upstreams: Any, redis_database: str, signer: Any
) -> None:
    upstreams.rating.answers |= {
        "/users/me": {"name": "ada"},
        "/users/me/ratings": {"items": []},
        "/users/me/export": {"account": {}},
        "/movies/tmdb-27205/rating": {"score": 8.0},
        "POST /auth/token": {"access_token": "a"},
    }
    async with gateway() as client:
        for path in ("/users/me", "/users/me/ratings", "/users/me/export", "/movies/27205/rating"):
            answer = await client.get(path, headers=signer.bearer())
            assert "X-Cache" not in answer.headers
            assert answer.headers["Cache-Control"] == "no-store"
        await client.post("/auth/token", data={"grant_type": "password", "username": "ada"})
        await client.get("/events/e")
    assert await kept(redis_database) == []
