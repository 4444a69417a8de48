"""What only a real RabbitMQ does: queues that vanish, connections that are closed, big messages."""

import asyncio
import json
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from local_stack.servers import RabbitServer
from moviemetric_contracts import Event, MovieViewed
from service_kit import (
    BatchProcessor,
    Binding,
    Consumer,
    Outgoing,
    PublishError,
    RabbitBroker,
    StatelessStore,
    Subscription,
    UnitOfWork,
)
from service_kit.store import to_outgoing
from service_kit.topology import work_queue

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
QUEUE = "test.views"


def view(name: str) -> Event[MovieViewed]:
    return Event.of(
        MovieViewed(movie_id="tmdb-603", viewed_at=NOON), source="/test", time=NOON, id=name
    )


class Stage:
    """A consumer on a real broker; its effect is a list of ids."""

    def __init__(self, url: str) -> None:
        self.seen: list[str] = []
        self.broker = RabbitBroker(url, name="test")
        self.subscription: Subscription[Any] = Subscription(
            queue=QUEUE, accepts=(MovieViewed,), handle=self._handle, batch_size=10
        )

    async def _handle(self, events: Sequence[Event[Any]], _work: UnitOfWork) -> None:
        self.seen += [event.id for event in events]

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Consumer]:
        processor = BatchProcessor(self.subscription, StatelessStore(), source="test")
        consumer = Consumer(self.subscription, self.broker, processor)
        task = asyncio.create_task(consumer.run())
        try:
            yield consumer
        finally:
            await consumer.stop()
            await asyncio.wait_for(task, 10)
            await self.broker.close()

    async def arrives(self, name: str) -> None:
        """Publish until it is there: the queue may be missing for a moment."""
        async with asyncio.timeout(20):
            while name not in self.seen:
                await self.broker.publish_many([to_outgoing(view(name))])
                await asyncio.sleep(0.1)


async def test_a_deleted_queue_is_made_again(
    rabbit_vhost: str, rabbit_server: RabbitServer
) -> None:
    stage = Stage(rabbit_vhost)
    vhost = urlsplit(rabbit_vhost).path.removeprefix("/")
    async with stage.running():
        await stage.arrives("before")
        with rabbit_server.management() as management:
            management.delete(f"/api/queues/{vhost}/{QUEUE}").raise_for_status()
        await stage.arrives("after")


async def test_connections_closed_by_an_operator_are_made_again(
    rabbit_vhost: str, rabbit_server: RabbitServer
) -> None:
    stage = Stage(rabbit_vhost)
    vhost = urlsplit(rabbit_vhost).path.removeprefix("/")
    async with stage.running():
        await stage.arrives("before")
        with rabbit_server.management() as management:

            def names() -> list[str]:
                listed = management.get(f"/api/vhosts/{vhost}/connections").raise_for_status()
                return [connection["name"] for connection in listed.json()]

            async with asyncio.timeout(15):
                while len(names()) < 2:  # noqa: ASYNC110 -- the page is some seconds behind
                    await asyncio.sleep(0.2)
            for name in names():
                management.delete(f"/api/connections/{name}").raise_for_status()
        await stage.arrives("after")


@pytest.mark.parametrize("size", [0, 1, 131_063, 131_064, 131_065, 1_000_000])
async def test_bodies_of_any_size_arrive_whole(rabbit_vhost: str, size: int) -> None:
    broker = RabbitBroker(rabbit_vhost, name="test")
    await broker.declare(work_queue(QUEUE, (Binding("moviemetric.events", "big.*.*"),)))
    body = bytes(n % 251 for n in range(size))
    small = json.dumps({"n": 1}).encode()
    errors = await broker.publish_many(
        [Outgoing("moviemetric.events", "big.one.v1", sent) for sent in (small, body, small)]
    )
    assert errors == [None, None, None]
    got: list[bytes] = []
    async with asyncio.timeout(30), broker.consume(QUEUE, 10) as stream:
        while len(got) < 3:
            got += [delivery.body for delivery in await stream.take(10, 0.05)]
    await broker.close()
    assert got == [small, body, small]


async def test_a_cancelled_publish_does_not_disturb_the_others(rabbit_vhost: str) -> None:
    broker = RabbitBroker(rabbit_vhost, name="test")
    await broker.declare(work_queue(QUEUE, (Binding("moviemetric.events", "a.*.*"),)))
    message = Outgoing("moviemetric.events", "a.b.v1", b"{}")
    lost = Outgoing("moviemetric.commands", "nobody.wants.v1", b"{}")
    for _ in range(20):
        tasks = [asyncio.create_task(broker.publish(m)) for m in (message, lost) * 10]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await broker.publish_many([message] * 5) == [None] * 5
    await broker.close()


async def test_a_message_that_cannot_be_sent_fails_alone(rabbit_vhost: str) -> None:
    broker = RabbitBroker(rabbit_vhost, name="test")
    await broker.declare(work_queue(QUEUE, (Binding("moviemetric.events", "a.*.*"),)))
    good = Outgoing("moviemetric.events", "a.b.v1", b"{}")
    bad = [
        Outgoing("moviemetric.events", "x" * 300, b"{}"),
        Outgoing("moviemetric.events", "a.b.v1", b"{}", {"x-number": 2**64 - 1}),
        Outgoing("moviemetric.events", "a.b.v1", b"{}", {"x-text": "\ud800"}),
    ]
    async with asyncio.timeout(30):
        errors = await broker.publish_many([good, *bad, good])
        assert [error is None for error in errors] == [True, False, False, False, True]
        assert all("cannot be encoded" in str(error) for error in errors if error)
        assert await broker.publish_many([good] * 20) == [None] * 20
    await broker.close()


@pytest.fixture
def full_broker(rabbit_server: RabbitServer, rabbit_vhost: str) -> Generator[RabbitServer]:
    """A broker whose memory alarm is raised; it reads nothing from connections that publish."""
    del rabbit_vhost  # made first, while the broker still takes requests
    rabbit_server.control("set_vm_memory_high_watermark", "0.00001")
    yield rabbit_server
    rabbit_server.control("set_vm_memory_high_watermark", "absolute", "1GB")


async def test_a_broker_in_alarm_costs_its_publishers_seconds_not_minutes(
    full_broker: RabbitServer, rabbit_vhost: str
) -> None:
    del full_broker
    broker = RabbitBroker(rabbit_vhost, name="test")
    await broker.declare(work_queue(QUEUE, (Binding("moviemetric.events", "a.*.*"),)))
    message = Outgoing("moviemetric.events", "a.b.v1", b"x" * 1000)
    async with asyncio.timeout(30):
        many, *single = await asyncio.gather(
            broker.publish_many([message] * 3000),
            *(broker.publish(message) for _ in range(1500)),
            return_exceptions=True,
        )
    assert isinstance(many, list)
    assert all(isinstance(error, PublishError) for error in [*many, *single])
    await broker.close()
