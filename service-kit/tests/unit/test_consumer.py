"""Consumer and processor together, on the fakes that the contract suites hold to be true."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from moviemetric_contracts import Event, MovieViewed, RegisterMovie
from service_kit import (
    BatchProcessor,
    Conflict,
    Consumer,
    Outage,
    OutboxRelay,
    Outgoing,
    Park,
    RetryLater,
    Subscription,
    UnitOfWork,
)
from service_kit.store import to_outgoing
from service_kit.testing import InMemoryBroker, InMemoryStore

QUEUE = "test.views"
DEAD = "test.views.dead"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def view(name: str) -> Event[MovieViewed]:
    return Event.of(
        MovieViewed(movie_id="tmdb-603", viewed_at=NOON), source="/test", time=NOON, id=name
    )


class Counter:
    """A handler whose effect is a list of event ids, and that fails as it is told."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.batches: list[int] = []
        self.failures: dict[str, list[Exception]] = {}

    async def handle(self, events: Sequence[Event[MovieViewed]], work: UnitOfWork) -> None:
        for event in events:
            failures = self.failures.get(event.id)
            if failures:
                raise failures[0] if len(failures) == 1 else failures.pop(0)
            work.emit(event.data, cause=event)
        self.seen += [event.id for event in events]
        self.batches.append(len(events))


class Stage:
    """A broker, a store, a subscription and what runs on them."""

    def __init__(self) -> None:
        self.broker = InMemoryBroker(time_scale=0.02)
        self.store = InMemoryStore()
        self.counter = Counter()
        self.subscription: Subscription[Any] = Subscription(
            queue=QUEUE, accepts=(MovieViewed,), handle=self.counter.handle, batch_size=10
        )

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Consumer]:
        await self.broker.declare(self.subscription.queues())
        processor = BatchProcessor(self.subscription, self.store, source="test")
        consumer = Consumer(self.subscription, self.broker, processor)
        task = asyncio.create_task(consumer.run())
        try:
            yield consumer
        finally:
            await consumer.stop()
            await asyncio.wait_for(task, 30)
            await self.broker.close()

    async def publish(self, *names: str) -> None:
        await self.broker.declare(self.subscription.queues())
        for name in names:
            await self.broker.publish(to_outgoing(view(name)))

    def dead(self) -> list[Outgoing]:
        return self.broker.messages(DEAD)


async def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 -- polls what has no event to wait for
            await asyncio.sleep(0.005)


async def settle(condition: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 -- polls what has no event to wait for
            await asyncio.sleep(0.005)


async def test_a_batch_is_one_unit_of_work() -> None:
    stage = Stage()
    await stage.publish(*[str(n) for n in range(25)])
    async with stage.running():
        await eventually(lambda: len(stage.counter.seen) == 25)
    assert stage.counter.seen == [str(n) for n in range(25)]
    assert stage.counter.batches == [10, 10, 5]
    assert await stage.store.outbox_size() == 25


async def test_the_same_id_has_one_effect() -> None:
    stage = Stage()
    await stage.publish("a", "a", "b", "a")
    async with stage.running():
        await eventually(lambda: len(stage.counter.seen) == 2)
        await stage.publish("b", "a", "c")
        await eventually(lambda: "c" in stage.counter.seen)
    assert stage.counter.seen == ["a", "b", "c"]


async def test_one_bad_event_does_not_hold_up_the_others() -> None:
    stage = Stage()
    stage.counter.failures["3"] = [Park("never heard of it")]
    await stage.publish(*[str(n) for n in range(10)])
    async with stage.running():
        await eventually(lambda: len(stage.counter.seen) == 9 and len(stage.dead()) == 1)
    assert sorted(stage.counter.seen) == sorted(set("0123456789") - {"3"})
    [parked] = stage.dead()
    assert json.loads(parked.body)["id"] == "3"
    assert parked.headers["x-reason"] == "never heard of it"
    assert parked.headers["x-queue"] == QUEUE
    assert parked.headers["x-handler"] == "Counter.handle"
    assert parked.headers["x-attempts"] == 1
    assert parked.headers["x-original-routing-key"] == "movie.viewed.v1"
    assert parked.headers["x-original-exchange"] == "moviemetric.events"


async def test_a_failing_event_is_tried_again_and_then_counts_once() -> None:
    stage = Stage()
    stage.counter.failures["x"] = [RetryLater("not yet"), RetryLater("not yet"), Park("unused")]
    await stage.publish("x", "y")
    async with stage.running():
        await eventually(lambda: "y" in stage.counter.seen)
        stage.counter.failures["x"] = [RetryLater("once more"), RetryLater("and again")]
        await asyncio.sleep(0.05)
        stage.counter.failures.clear()
        await eventually(lambda: "x" in stage.counter.seen)
    assert sorted(stage.counter.seen) == ["x", "y"]
    assert stage.dead() == []


async def test_an_event_that_keeps_failing_is_parked_with_its_attempts() -> None:
    stage = Stage()
    stage.subscription = replace(stage.subscription, max_attempts=3)
    stage.counter.failures["x"] = [ValueError("too odd")]
    await stage.publish("x")
    async with stage.running():
        await eventually(lambda: len(stage.dead()) == 1)
    [parked] = stage.dead()
    assert parked.headers["x-attempts"] == 3
    assert parked.headers["x-reason"] == "failed 3 times: ValueError: too odd"


async def test_what_cannot_be_read_is_parked_at_once() -> None:
    stage = Stage()
    await stage.broker.declare(stage.subscription.queues())
    good = to_outgoing(view("good"))
    later_version = view("v2").to_bytes().replace(b"movie.viewed.v1", b"movie.viewed.v2")
    register = Event.of(RegisterMovie(tmdb_id=603), source="/test", time=NOON)
    for message in (
        Outgoing("moviemetric.events", "movie.viewed.v1", b"{nonsense"),
        Outgoing("moviemetric.events", "movie.viewed.v2", later_version),
        Outgoing("moviemetric.events", "movie.viewed.v1", register.to_bytes()),
        good,
    ):
        await stage.broker.publish(message)
    async with stage.running():
        await eventually(lambda: stage.counter.seen == ["good"] and len(stage.dead()) == 3)
    reasons = [str(message.headers["x-reason"]) for message in stage.dead()]
    assert reasons[0].startswith("malformed event: the body is not JSON")
    assert reasons[1] == (
        "unknown version of an event type: 'movie.viewed.v2'; known: movie.viewed.v1"
    )
    assert reasons[2] == (
        "event type 'movie.register.v1' is not handled here; handled: movie.viewed.v1"
    )


async def test_an_outage_pauses_the_intake_and_spends_no_attempt() -> None:
    stage = Stage()
    stage.subscription = replace(stage.subscription, max_attempts=1)
    stage.counter.failures["x"] = [Outage("PostgreSQL", "it restarts", retry_after=0.01)] * 3
    stage.counter.failures["x"].append(Outage("PostgreSQL", "it restarts", retry_after=0.01))
    await stage.publish("x", "y")
    async with stage.running() as consumer:
        await eventually(lambda: consumer.status.state == "paused")
        assert consumer.status.reason == "PostgreSQL is not available: it restarts"
        stage.counter.failures.clear()
        await eventually(lambda: stage.counter.seen == ["x", "y"])
        await eventually(lambda: consumer.status.state == "consuming")
    assert stage.dead() == []


async def test_conflicts_between_transactions_are_repeated_and_spend_no_attempt() -> None:
    stage = Stage()
    stage.subscription = replace(stage.subscription, max_attempts=1)
    stage.counter.failures["x"] = [Conflict("deadlock detected")] * 8
    await stage.publish("x", "y")
    async with stage.running() as consumer:
        await eventually(lambda: consumer.status.state == "paused", 10)
        stage.counter.failures.clear()
        await eventually(lambda: stage.counter.seen == ["x", "y"], 10)
    assert stage.dead() == []


async def test_stopping_in_an_outage_gives_the_batch_back() -> None:
    stage = Stage()
    stage.counter.failures["x"] = [Outage("PostgreSQL", "gone")]
    await stage.publish("x", "y")
    async with stage.running() as consumer:
        await eventually(lambda: consumer.status.state == "paused")
    stage.counter.failures.clear()
    async with stage.running():
        await eventually(lambda: sorted(stage.counter.seen) == ["x", "y"])


async def test_a_lost_connection_in_mid_batch_changes_nothing() -> None:
    stage = Stage()
    entered, go_on = asyncio.Event(), asyncio.Event()
    plain = stage.counter.handle

    async def slow(events: Sequence[Event[MovieViewed]], work: UnitOfWork) -> None:
        entered.set()
        await go_on.wait()
        await plain(events, work)

    stage.subscription = replace(stage.subscription, handle=slow)
    await stage.publish("a", "b", "c")
    async with stage.running():
        await entered.wait()
        stage.broker.disconnect()
        go_on.set()
        await eventually(lambda: len(stage.counter.seen) == 3)
        await stage.publish("d")
        await eventually(lambda: "d" in stage.counter.seen)
    assert stage.counter.seen == ["a", "b", "c", "d"]


async def test_the_batch_is_kept_while_failed_messages_cannot_be_put_aside() -> None:
    stage = Stage()
    stage.counter.failures["x"] = [Park("bad")]
    await stage.publish("x", "y")
    stage.broker.refuse_publishing = True
    async with stage.running():
        await eventually(lambda: "y" in stage.counter.seen)
        await asyncio.sleep(0.05)
        stage.broker.refuse_publishing = False
        await eventually(lambda: len(stage.dead()) == 1)
    assert stage.counter.seen == ["y"]
    assert json.loads(stage.dead()[0].body)["id"] == "x"


async def test_however_long_it_takes_nothing_is_delivered_again_meanwhile() -> None:
    stage = Stage()
    stage.counter.failures["x"] = [Park("bad")]
    names = [str(n) for n in range(20)]
    await stage.publish("x", *names)
    stage.broker.refuse_publishing = True
    async with stage.running() as consumer:
        await eventually(lambda: consumer.status.state == "paused")
        await asyncio.sleep(1)
        assert stage.counter.seen == names[:9]
        stage.broker.refuse_publishing = False
        await eventually(lambda: len(stage.counter.seen) == 20)
    assert stage.counter.seen == names
    [parked] = stage.dead()
    assert json.loads(parked.body)["id"] == "x"


async def test_messages_that_may_bring_the_process_down_come_alone() -> None:
    stage = Stage()
    await stage.publish(*"abcd")
    for _ in range(3):
        async with stage.broker.consume(QUEUE, 10) as stream:
            await stream.take(10, 0)
    async with stage.running():
        await eventually(lambda: len(stage.counter.seen) == 4)
    assert stage.counter.batches == [1, 1, 1, 1]


async def test_prepare_runs_for_each_event_and_its_failures_are_its_own() -> None:
    stage = Stage()
    prepared: list[str] = []

    async def prepare(event: Event[Any]) -> Event[Any]:
        prepared.append(event.id)
        if event.id == "bad":
            raise Park("the source does not know it")
        return event

    stage.subscription = replace(stage.subscription, prepare=prepare)
    await stage.publish("a", "bad", "b")
    async with stage.running():
        await eventually(lambda: stage.counter.seen == ["a", "b"] and len(stage.dead()) == 1)
        await stage.publish("a", "c")
        await eventually(lambda: "c" in stage.counter.seen)
    assert prepared == ["a", "bad", "b", "c"]


async def test_an_outage_while_preparing_keeps_what_was_prepared() -> None:
    stage = Stage()
    asked: list[str] = []
    away = True

    async def prepare(event: Event[Any]) -> Event[Any]:
        asked.append(event.id)
        if event.id == "b" and away:
            raise Outage("TMDB", "refuses the key", retry_after=0.01)
        return event

    stage.subscription = replace(stage.subscription, prepare=prepare)
    await stage.publish("a", "b")
    async with stage.running() as consumer:
        await eventually(lambda: consumer.status.state == "paused" and asked.count("b") > 1)
        away = False
        await eventually(lambda: sorted(stage.counter.seen) == ["a", "b"])
    assert asked.count("a") == 1


async def test_the_relay_publishes_what_was_committed_and_keeps_what_fails() -> None:
    stage = Stage()
    await stage.broker.declare(stage.subscription.queues())
    relay = OutboxRelay(stage.store, stage.broker, stage.store.outbox_written)
    task = asyncio.create_task(relay.run())
    try:
        stage.broker.refuse_publishing = True
        async with stage.store.begin("test") as work:
            work.emit(view("x").data)
        await asyncio.sleep(0.05)
        assert await stage.store.outbox_size() == 1
        stage.broker.refuse_publishing = False

        async def empty() -> bool:
            return await stage.store.outbox_size() == 0

        await settle(empty)
        assert len(stage.broker.messages(QUEUE)) == 1
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await stage.broker.close()
