"""Server-sent events over real sockets, between replicas, with real RabbitMQ and Redis."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from local_stack.servers import RedisServer
from moviemetric_contracts import (
    Event,
    JobChanged,
    Message,
    TrendBreakdown,
    TrendEntry,
    TrendUpdated,
)
from service_kit import Publisher, RabbitBroker

Run = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]
Eventually = Callable[..., Awaitable[None]]
JOB_ID = "import-0b6b5f0e6a0f5d7e9f396f0f6f1c9f4e"


@pytest.fixture
def gateway(run_gateway: Run, rabbit_vhost: str, redis_database: str, signer: Any) -> Run:
    """For a user with the role admin, unless other `headers` are given."""

    def run(**settings: Any) -> Any:
        return run_gateway(
            ready=True,
            amqp_url=rabbit_vhost,
            redis_url=redis_database,
            **{"headers": signer.bearer("user-admin", "admin"), **settings},
        )

    return run


@pytest.fixture
async def tell(rabbit_vhost: str) -> AsyncGenerator[Callable[[Message], Awaitable[None]]]:
    """`await tell(data)`: publish an event as another service does."""
    broker = RabbitBroker(rabbit_vhost, name="test")
    publisher = Publisher(broker)

    async def publish(data: Message) -> None:
        await publisher.publish(Event.of(data, source="test", time=datetime.now(UTC)))

    yield publish
    await broker.close()


class Said:
    """What a stream says: fields of events as a list, comments as (\":\", text)."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines

    async def next(self, seconds: float = 20.0) -> tuple[str, Any]:
        """The next event or comment."""
        name = ""
        async with asyncio.timeout(seconds):
            async for line in self._lines:
                if line.startswith(":"):
                    return ":", line[2:]
                if line.startswith("retry:"):
                    return "retry", int(line[6:])
                if line.startswith("event:"):
                    name = line[7:]
                elif line.startswith("data:"):
                    return name, json.loads(line[6:])
        return "end", None


@asynccontextmanager
async def listening(
    client: httpx.AsyncClient, query: str = "", headers: dict[str, str] | None = None
) -> AsyncGenerator[Said]:
    path = f"/api/v1/stream{query}"
    async with client.stream("GET", path, timeout=30, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        said = Said(answer.aiter_lines())
        assert await said.next() == ("retry", 3000)
        comment = await said.next()
        if comment != (":", "listening"):  # a machine that is busy took Redis for away
            comment = await said.next()
        assert comment == (":", "listening")
        yield said


def job(done: int, job_id: str = JOB_ID) -> JobChanged:
    return JobChanged(job_id=job_id, kind="import", state="running", done=done, total=100)


def trend(*numbers: int) -> TrendUpdated:
    breakdown = TrendBreakdown(activity=1, quality=7)
    entries = [
        TrendEntry(movie_id=f"tmdb-{n}", score=61.5, rank_key=1.0, views=n, breakdown=breakdown)
        for n in numbers
    ]
    return TrendUpdated(as_of=datetime.now(UTC), revision=1, entries=tuple(entries))


async def test_every_stream_of_every_replica_hears_what_it_is_for(
    gateway: Run, tell: Callable[[Message], Awaitable[None]]
) -> None:
    other = "import-" + "0" * 32
    async with (
        gateway() as one,
        gateway() as two,
        listening(one) as all_of_one,
        listening(two) as all_of_two,
        listening(two, "?movie_id=2&movie_id=tmdb-3") as films,
        listening(one, f"?job_id={other}") as one_job,
        listening(one, "?events=trend") as trends,
    ):
        for number in range(1, 4):
            await tell(job(number))
        for said in (all_of_one, all_of_two):
            # The replicas take the three side by side; one that comes late is left out.
            told = [0]
            while told[-1] < 3:
                name, data = await said.next()
                assert (name, data["job_id"]) == ("job", JOB_ID)
                assert data["done"] > told[-1]
                told.append(data["done"])
        await tell(trend(1, 2))
        for said in (all_of_one, all_of_two, trends):
            name, data = await said.next()
            assert name == "trend"
            assert [film["movie_id"] for film in data["entries"]] == ["tmdb-1", "tmdb-2"]
            assert data["entries"][0]["final_trend_score"] == 61.5
        name, data = await films.next()
        assert (name, [film["movie_id"] for film in data["entries"]]) == ("trend", ["tmdb-2"])
        await tell(job(7, other))
        name, data = await one_job.next()
        assert (name, data["job_id"], data["done"]) == ("job", other, 7)


async def test_a_named_job_is_told_at_once(gateway: Run, upstreams: Any) -> None:
    upstreams.ingest.answers[f"/jobs/{JOB_ID}"] = {
        "job_id": JOB_ID,
        "kind": "import",
        "state": "failed",
        "done": 5,
        "total": 9,
        "rejected": 1,
        "error": "no header",
        "request": {"uri": "file:///x"},
    }
    async with gateway() as client, listening(client, f"?job_id={JOB_ID}") as said:
        assert await said.next() == (
            "job",
            {
                "job_id": JOB_ID,
                "kind": "import",
                "state": "failed",
                "done": 5,
                "total": 9,
                "rejected": 1,
                "error": "no header",
            },
        )


async def test_streams_end_at_once_when_the_service_stops(gateway: Run) -> None:
    async with httpx.AsyncClient(trust_env=False) as outside:
        async with gateway() as client:
            outside.base_url = client.base_url
            outside.headers = client.headers
            stream = listening(outside)
            said = await stream.__aenter__()
        assert await read_to_the_end(said) == [
            (":", "the service stops; connect again"),
            ("end", None),
        ]
        await stream.__aexit__(None, None, None)


async def read_to_the_end(said: Said) -> list[tuple[str, Any]]:
    found = [await said.next()]
    while found[-1][0] != "end":
        found.append(await said.next())
    return found


async def test_more_streams_than_allowed_are_503_until_one_ends(
    gateway: Run, eventually: Eventually
) -> None:
    async with gateway(max_streams=2) as client:
        async with listening(client), listening(client):
            refused = await client.get("/stream")
            assert refused.status_code == 503
            assert int(refused.headers["Retry-After"]) >= 1

        async def free() -> bool:
            async with client.stream("GET", "/stream") as answer:
                return answer.status_code == 200

        await eventually(free)
        metrics = (await client.get("/metrics")).text
        assert "gateway_streams " in metrics


async def test_a_stream_survives_a_frozen_redis_and_says_so(
    gateway: Run,
    redis_server: RedisServer,
    tell: Callable[[Message], Awaitable[None]],
) -> None:
    async with gateway() as client, listening(client) as said:
        await tell(job(1))
        assert (await said.next())[1]["done"] == 1
        await asyncio.to_thread(redis_server.freeze)
        kind, text = await said.next()
        assert (kind, text.startswith("Redis is away")) == (":", True)
        async with client.stream("GET", "/stream") as late:
            said_late = Said(late.aiter_lines())
            assert await said_late.next() == ("retry", 3000)
            kind, text = await said_late.next()
            assert (kind, text.startswith("Redis is away")) == (":", True)
        await asyncio.to_thread(redis_server.resume)
        assert await said.next() == (":", "listening")
        await tell(job(2))
        assert (await said.next())[1]["done"] == 2


async def test_a_stream_survives_a_restart_of_redis(
    gateway: Run,
    redis_server: RedisServer,
    tell: Callable[[Message], Awaitable[None]],
) -> None:
    async with gateway() as client, listening(client) as said:
        await asyncio.to_thread(redis_server.kill)
        kind, text = await said.next()
        assert (kind, text.startswith("Redis is away")) == (":", True)
        await asyncio.to_thread(redis_server.start)
        assert await said.next() == (":", "listening")
        # The breaker of the replica that tells may still be open.
        await asyncio.sleep(2.1)
        await tell(job(2))
        assert (await said.next())[1]["done"] == 2


async def test_a_client_that_does_not_read_holds_up_nobody_and_is_told_what_it_missed(
    gateway: Run, tell: Callable[[Message], Awaitable[None]]
) -> None:
    async with gateway() as client, listening(client) as reading:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", client.base_url.port))
        reader, writer = await asyncio.open_connection(sock=connection, limit=1024)
        writer.write(b"GET /stream?events=trend HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"listening\n")
        # 300 messages of about 18 kB each: more than sockets and queue hold together.
        heard = 0
        for _ in range(12):
            await tell(trend(*range(1, 5001)))
            for _ in range(25):
                name, _ = await reading.next()
                heard += name == "trend"
        assert heard == 300
        dropped = 0
        async with asyncio.timeout(20):
            while not dropped:
                line = await _line(reader)
                if line == b"event: dropped\n":
                    data = (await _line(reader)).removeprefix(b"data: ")
                    dropped = json.loads(data)["count"]
        assert 0 < dropped < 300
        writer.close()


async def _line(reader: asyncio.StreamReader) -> bytes:
    """The next line, of which only the end is kept if it is long."""
    while True:
        try:
            return await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            await reader.readexactly(max(error.consumed, 1))


async def test_the_progress_of_jobs_is_not_parked_and_leaves_cached_lists_alone(
    gateway: Run, upstreams: Any, tell: Callable[[Message], Awaitable[None]]
) -> None:
    page = {"total": 0, "limit": 20, "offset": 0, "as_of": "2025-01-31T20:15:00Z"}
    upstreams.ingest.answers["/movies"] = {"items": [], **page}
    async with gateway(movies_ttl=60) as client, listening(client) as said:
        await client.get("/movies")
        await tell(job(1))
        assert (await said.next())[0] == "job"
        assert (await client.get("/movies")).headers["X-Cache"] == "hit"
        health = (await client.get("/health")).json()
    assert health["status"] == "ok"


async def test_jobs_are_for_operators_and_trends_for_all(
    gateway: Run, tell: Callable[[Message], Awaitable[None]], signer: Any, rating: Any
) -> None:
    for_all: list[dict[str, str]] = [
        {},
        signer.bearer("user-1"),
        {"X-API-Key": rating.new_key("events")},
    ]
    async with gateway(headers={}) as client, AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(listening(client, headers=headers))
            for headers in for_all
        ]
        named = await stack.enter_async_context(listening(client, "?movie_id=1"))
        key = {"X-API-Key": rating.new_key("admin")}
        jobs = await stack.enter_async_context(listening(client, "?events=job", headers=key))
        await tell(job(1))
        assert (await jobs.next())[0] == "job"
        await tell(trend(1))
        for said in (*streams, named):
            # The job was told before, and not to them.
            assert (await said.next())[0] == "trend"


async def test_a_stream_with_jobs_ends_with_its_token(
    gateway: Run, tell: Callable[[Message], Awaitable[None]], signer: Any
) -> None:
    short = signer.bearer("user-1", "admin", seconds=10)
    async with (
        gateway(headers={}) as client,
        listening(client, "?events=job", headers=short) as jobs,
        listening(client, "?events=trend", headers=short) as trends,
    ):
        await tell(job(1))
        assert (await jobs.next())[0] == "job"
        kind, text = await read_until_comment(jobs)
        assert (kind, "connect again" in text) == (":", True)
        assert (await jobs.next())[0] == "end"
        await tell(trend(1))
        assert (await trends.next())[0] == "trend"


async def read_until_comment(said: Said) -> tuple[str, Any]:
    """The first comment that is no sign of life."""
    while (found := await said.next()) == (":", "still here"):
        pass
    return found
