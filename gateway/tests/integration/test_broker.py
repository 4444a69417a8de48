"""202 and 503 with a real RabbitMQ, and nothing lost in between."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
from local_stack.servers import RabbitServer, RedisServer
from moviemetric_contracts import MovieViewed, RefreshMovie, RegisterMovie
from service_kit import RabbitBroker, Subscription

Run = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]
BATCH = "application/cloudevents-batch+json"


async def nothing(*_: Any) -> None:
    """The queue is read by the test."""


TAKERS = Subscription[Any](
    queue="taker.everything", accepts=(MovieViewed, RegisterMovie, RefreshMovie), handle=nothing
)


async def declare(url: str) -> RabbitBroker:
    broker = RabbitBroker(url, name="test")
    await broker.declare(TAKERS.queues())
    return broker


async def received(broker: RabbitBroker, count: int) -> list[dict[str, Any]]:
    """The bodies of the next `count` messages; they are acknowledged."""
    bodies: list[dict[str, Any]] = []
    async with asyncio.timeout(30), broker.consume(TAKERS.queue, 1000) as stream:
        while len(bodies) < count:
            deliveries = await stream.take(1000, 0.01)
            bodies += [json.loads(delivery.body) for delivery in deliveries]
            await stream.acknowledge_through(deliveries[-1])
    return bodies


def view(event_id: str) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": "/test",
        "type": "movie.viewed.v1",
        "data": {"movie_id": "tmdb-1", "viewed_at": "2024-01-01T00:00:00Z"},
    }


async def test_what_got_a_202_is_in_the_queue(
    run_gateway: Run, rabbit_vhost: str, redis_database: str, rating: Any
) -> None:
    broker = await declare(rabbit_vhost)
    async with run_gateway(amqp_url=rabbit_vhost, redis_url=redis_database) as client:
        register = await client.post("/api/v1/movies/register", json={"tmdb_id": 27205})
        viewed = await client.post(
            "/movies/view", json={"tmdb_id": 5}, headers={"X-Request-Id": "r-1"}
        )
        batch = await client.post(
            "/events",
            content=json.dumps([view(f"b-{number}") for number in range(500)]),
            headers={"content-type": BATCH, "x-api-key": rating.new_key("events")},
        )
    assert [r.status_code for r in (register, viewed, batch)] == [202, 202, 202]
    bodies = await received(broker, 502)
    await broker.close()
    assert {body["id"] for body in bodies} == {
        register.json()["event_id"],
        viewed.json()["event_id"],
        *(f"b-{number}" for number in range(500)),
    }
    [event] = [body for body in bodies if body["id"] == viewed.json()["event_id"]]
    assert event["type"] == "movie.viewed.v1"
    assert event["correlationid"] == "r-1"
    assert event["data"]["movie_id"] == "tmdb-5"


async def test_an_event_that_no_queue_takes_is_kept_with_the_reason(
    run_gateway: Run, rabbit_vhost: str, redis_database: str
) -> None:
    async with run_gateway(amqp_url=rabbit_vhost, redis_url=redis_database) as client:
        async with asyncio.timeout(20):
            # Its own queues are being declared, and nothing but the page tells.
            while (await client.get("/ready")).status_code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        answer = await client.post("/movies/view", json={"tmdb_id": 5})
        assert answer.status_code == 202
        broker = RabbitBroker(rabbit_vhost, name="test")
        async with asyncio.timeout(30), broker.consume("gateway.unrouted.dead", 10) as stream:
            [parked] = await stream.take(10, 0)
        await broker.close()
    assert json.loads(parked.body)["id"] == answer.json()["event_id"]
    assert parked.headers["x-original-routing-key"] == "movie.viewed.v1"
    assert str(parked.headers["x-reason"]).startswith("no queue takes 'movie.viewed.v1'")


async def test_a_stopped_broker_is_503_at_once_and_202_again_after_its_return(
    run_gateway: Run,
    rabbit_server: RabbitServer,
    rabbit_vhost: str,
    redis_database: str,
    eventually: Callable[..., Awaitable[None]],
) -> None:
    broker = await declare(rabbit_vhost)
    await broker.close()
    async with run_gateway(amqp_url=rabbit_vhost, redis_url=redis_database) as client:
        assert (await client.post("/movies/view", json={"tmdb_id": 1})).status_code == 202
        await asyncio.to_thread(rabbit_server.stop)
        away = await client.post(
            "/movies/view", json={"tmdb_id": 2}, headers={"Idempotency-Key": "k"}
        )
        assert away.status_code == 503
        assert int(away.headers["Retry-After"]) >= 1
        assert (await client.get("/ready")).status_code == 503
        health = await client.get("/health")
        assert health.status_code == 200
        assert health.json()["dependencies"]["rabbitmq"]["status"] == "down"
        await asyncio.to_thread(rabbit_server.start)

        async def taken() -> bool:
            again = await client.post(
                "/movies/view", json={"tmdb_id": 2}, headers={"Idempotency-Key": "k"}
            )
            return again.status_code == 202

        await eventually(taken, 30)
        again = await client.post("/movies/register", json={"tmdb_id": 3})
        assert again.status_code == 202


async def test_a_frozen_broker_is_503_within_seconds(
    run_gateway: Run, rabbit_server: RabbitServer, rabbit_vhost: str, redis_database: str
) -> None:
    broker = await declare(rabbit_vhost)
    await broker.close()
    async with run_gateway(amqp_url=rabbit_vhost, redis_url=redis_database) as client:
        assert (await client.post("/movies/view", json={"tmdb_id": 1})).status_code == 202
        await asyncio.to_thread(rabbit_server.freeze)
        started = time.perf_counter()
        answers = await asyncio.gather(
            *(client.post("/movies/view", json={"tmdb_id": 1}) for _ in range(50))
        )
        took = time.perf_counter() - started
        await asyncio.to_thread(rabbit_server.resume)
    assert {answer.status_code for answer in answers} == {503}
    # 2 s for the confirm of all of them; one after the other would take 100.
    assert took < 30


async def test_a_key_is_good_for_one_request_only(
    run_gateway: Run, rabbit_vhost: str, redis_server: RedisServer, redis_database: str
) -> None:
    broker = await declare(rabbit_vhost)
    headers = {"Idempotency-Key": "k"}
    async with run_gateway(amqp_url=rabbit_vhost, redis_url=redis_database) as client:

        async def register(tmdb_id: int) -> httpx.Response:
            return await client.post("/movies/register", json={"tmdb_id": tmdb_id}, headers=headers)

        first, second, other = await register(1), await register(1), await register(2)
        await asyncio.to_thread(redis_server.freeze)
        unchecked = await register(2)
        await asyncio.to_thread(redis_server.resume)
    assert first.status_code == second.status_code == 202
    assert first.json() == second.json()
    assert other.status_code == 422
    assert other.json()["errors"][0]["field"] == "Idempotency-Key"
    assert unchecked.status_code == 202
    # Where nothing remembers the first use, the other request is at least not taken for it.
    assert unchecked.json()["event_id"] != first.json()["event_id"]
    bodies = await received(broker, 3)
    await broker.close()
    assert {body["id"]: body["data"]["tmdb_id"] for body in bodies} == {
        first.json()["event_id"]: 1,
        unchecked.json()["event_id"]: 2,
    }
