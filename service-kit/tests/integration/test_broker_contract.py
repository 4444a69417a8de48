"""What the runtime relies on, held against RabbitMQ and against the broker in memory."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from moviemetric_contracts import MovieViewed, RegisterMovie
from service_kit import Binding, Broker, Outgoing, RabbitBroker, Unroutable
from service_kit.broker import StreamClosed
from service_kit.testing import InMemoryBroker
from service_kit.topology import (
    DEAD_LETTER,
    DELAYS,
    UNROUTED,
    bindings_for,
    dead_queue_name,
    work_queue,
)

VIEWS = "test.views"
COPY = "test.views-copy"


@pytest.fixture(params=["memory", "rabbitmq"])
async def broker(request: pytest.FixtureRequest) -> AsyncGenerator[Broker]:
    made: Broker
    if request.param == "memory":
        made = InMemoryBroker()
    else:
        made = RabbitBroker(request.getfixturevalue("rabbit_vhost"), name="test")
    bindings = bindings_for((MovieViewed,))
    await made.declare([*work_queue(VIEWS, bindings), *work_queue(COPY, bindings)])
    yield made
    await made.close()


def view(text: str, **headers: str | int) -> Outgoing:
    return Outgoing("moviemetric.events", "movie.viewed.v1", text.encode(), headers)


async def bodies(broker: Broker, queue: str, count: int) -> list[str]:
    """The next `count` messages of a queue, acknowledged."""
    found: list[str] = []
    async with broker.consume(queue, 100) as stream:
        while len(found) < count:
            batch = await asyncio.wait_for(stream.take(count - len(found), 0.05), 10)
            found += [delivery.body.decode() for delivery in batch]
            await stream.acknowledge_through(batch[-1])
        await asyncio.sleep(0.05)  # the acknowledgement is written before the channel closes
    return found


async def test_every_bound_queue_gets_a_copy_in_order(broker: Broker) -> None:
    assert await broker.publish_many([view(str(n)) for n in range(20)]) == [None] * 20
    expected = [str(n) for n in range(20)]
    assert sorted(await bodies(broker, VIEWS, 20)) == sorted(expected)
    assert sorted(await bodies(broker, COPY, 20)) == sorted(expected)


async def test_any_version_of_a_type_reaches_its_queue(broker: Broker) -> None:
    await broker.publish(Outgoing("moviemetric.events", "movie.viewed.v9", b"later"))
    assert await bodies(broker, VIEWS, 1) == ["later"]


async def test_a_message_for_nobody_is_reported(broker: Broker) -> None:
    with pytest.raises(Unroutable, match=r"movie\.register\.v1"):
        await broker.publish(Outgoing("moviemetric.commands", RegisterMovie.TYPE, b"{}"))
    errors = await broker.publish_many(
        [view("1"), Outgoing("moviemetric.commands", RegisterMovie.TYPE, b"{}"), view("2")]
    )
    assert [type(error) for error in errors] == [type(None), Unroutable, type(None)]


async def test_a_message_for_nobody_goes_to_the_unrouted_queue_if_there_is_one(
    broker: Broker,
) -> None:

    await broker.declare(work_queue("test.unrouted", (Binding(UNROUTED, ""),)))
    await broker.publish(Outgoing("moviemetric.commands", "film.odd.v1", b"odd"))
    async with broker.consume("test.unrouted", 1) as stream:
        [delivery] = await asyncio.wait_for(stream.take(1, 0), 10)
        assert (delivery.body, delivery.routing_key) == (b"odd", "film.odd.v1")


async def test_what_is_not_acknowledged_comes_again_and_is_counted(broker: Broker) -> None:
    await broker.publish(view("a"))
    async with broker.consume(VIEWS, 10) as stream:
        [first] = await asyncio.wait_for(stream.take(5, 0.05), 10)
        assert first.redeliveries == 0
    async with broker.consume(VIEWS, 10) as stream:
        [again] = await asyncio.wait_for(stream.take(5, 0.05), 10)
        assert (again.body, again.redeliveries) == (b"a", 1)


async def test_one_acknowledgement_covers_all_before_it(broker: Broker) -> None:
    await broker.publish_many([view(str(n)) for n in range(10)])
    async with broker.consume(VIEWS, 10) as stream:
        batch = await asyncio.wait_for(stream.take(10, 20), 30)
        assert len(batch) == 10
        await stream.acknowledge_through(batch[6])
        await asyncio.sleep(0.1)
    rest = await bodies(broker, VIEWS, 3)
    assert rest == [delivery.body.decode() for delivery in batch[7:]]


async def test_no_more_than_the_prefetch_is_given_out(broker: Broker) -> None:
    await broker.publish_many([view(str(n)) for n in range(10)])
    async with broker.consume(VIEWS, 4) as stream:
        for _ in range(2):
            batch = await asyncio.wait_for(stream.take(4, 20), 30)
            assert len(batch) == 4
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stream.take(1, 0), 0.3)
            await stream.acknowledge_through(batch[-1])


async def test_a_delayed_message_comes_back_to_its_queue_only(broker: Broker) -> None:
    await broker.publish(Outgoing(DELAYS[0].name, VIEWS, b"again", {"x-attempt": 2}))
    async with broker.consume(VIEWS, 10) as stream, broker.consume(COPY, 10) as copy:
        started = asyncio.get_running_loop().time()
        [delivery] = await asyncio.wait_for(stream.take(10, 0), 10)
        assert asyncio.get_running_loop().time() - started > 0.8
        assert delivery.body == b"again"
        assert delivery.headers["x-attempt"] == 2
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(copy.take(1, 0), 0.3)


async def test_a_parked_message_waits_in_the_dead_queue(broker: Broker) -> None:
    await broker.publish(Outgoing(DEAD_LETTER, VIEWS, b"bad", {"x-reason": "it is bad"}))
    async with broker.consume(dead_queue_name(VIEWS), 10) as stream:
        [delivery] = await asyncio.wait_for(stream.take(10, 0), 10)
        assert (delivery.body, delivery.headers["x-reason"]) == (b"bad", "it is bad")


async def test_a_cancelled_stream_ends(broker: Broker) -> None:
    await broker.publish_many([view("a"), view("b")])
    async with broker.consume(VIEWS, 10) as stream:
        [first] = await asyncio.wait_for(stream.take(1, 0), 10)
        await stream.cancel()
        with pytest.raises(StreamClosed):
            await stream.take(1, 0)
        await stream.acknowledge_through(first)
        await asyncio.sleep(0.1)
    assert await bodies(broker, VIEWS, 1) == ["b"]


async def test_an_acknowledgement_after_the_end_says_that_it_is_too_late(broker: Broker) -> None:
    await broker.publish(view("a"))
    async with broker.consume(VIEWS, 10) as stream:
        [delivery] = await asyncio.wait_for(stream.take(1, 0), 10)
    with pytest.raises(StreamClosed):
        await stream.acknowledge_through(delivery)
    assert await bodies(broker, VIEWS, 1) == ["a"]


async def test_declaring_again_changes_nothing(broker: Broker) -> None:
    await broker.publish(view("kept"))
    await broker.declare(work_queue(VIEWS, bindings_for((MovieViewed,))))
    assert await bodies(broker, VIEWS, 1) == ["kept"]


async def test_ping_takes_a_moment(broker: Broker) -> None:
    assert 0 <= await broker.ping() < 30


async def test_depth_counts_what_waits(broker: Broker) -> None:
    assert await broker.depth("test.no-such-queue") is None
    assert await broker.depth(VIEWS) == 0
    await broker.publish_many([view(str(n)) for n in range(3)])
    for _ in range(200):
        if await broker.depth(VIEWS) == 3:
            break
        # A queue's leader tells its count a moment after the confirm.
        await asyncio.sleep(0.05)
    assert await broker.depth(VIEWS) == 3
    await bodies(broker, VIEWS, 3)
    assert await broker.depth("test.no-such-queue") is None
