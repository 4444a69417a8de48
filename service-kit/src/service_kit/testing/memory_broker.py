"""A broker in memory that behaves like RabbitMQ as far as the runtime can tell.

Topic, direct and fanout exchanges, alternate exchanges, dead-letter exchanges by delivery limit and
queue TTL, acknowledgements in order, redelivery with a count when a stream ends. The suite in
`tests/integration/test_broker_contract.py` holds it and the real one to the same behaviour.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from service_kit.broker import (
    Delivery,
    DeliveryBuffer,
    DeliveryStream,
    Outgoing,
    PublishError,
    StreamClosed,
    Unroutable,
)
from service_kit.topology import DELAY_QUEUES, EXCHANGES, QueueSpec


@dataclass
class _Stored:
    exchange: str
    message: Outgoing
    redeliveries: int = 0


@dataclass
class _Queue:
    spec: QueueSpec
    ready: deque[_Stored] = field(default_factory=deque[_Stored])
    streams: list["_MemoryStream"] = field(default_factory=list["_MemoryStream"])


class _MemoryStream:
    def __init__(self, broker: "InMemoryBroker", queue: _Queue, prefetch: int) -> None:
        self._broker = broker
        self._queue = queue
        self._prefetch = prefetch
        self._buffer = DeliveryBuffer()
        self._unacknowledged: dict[int, _Stored] = {}
        self._tag = 0
        self._cancelled = False

    @property
    def has_room(self) -> bool:
        return not self._cancelled and len(self._unacknowledged) < self._prefetch

    def deliver(self, stored: _Stored) -> None:
        self._tag += 1
        self._unacknowledged[self._tag] = stored
        headers: dict[str, object] = dict(stored.message.headers)
        if stored.redeliveries:
            headers["x-delivery-count"] = stored.redeliveries
        self._buffer.add(
            Delivery(
                self._tag,
                stored.exchange,
                stored.message.routing_key,
                stored.message.body,
                headers,
                stored.redeliveries,
            )
        )

    @property
    def closed(self) -> bool:
        return self._buffer.closed

    async def take(self, size: int, linger: float) -> list[Delivery]:
        return await self._buffer.take(size, linger)

    async def acknowledge_through(self, delivery: Delivery) -> None:
        if self not in self._queue.streams:
            msg = "too late to acknowledge: the stream has ended"
            raise StreamClosed(msg)
        for tag in [tag for tag in self._unacknowledged if tag <= delivery.tag]:
            del self._unacknowledged[tag]
        self._broker.pump(self._queue)

    async def cancel(self) -> None:
        self._cancelled = True
        self._buffer.close("the consumer was cancelled")
        self._buffer.discard()

    def end(self, reason: str) -> None:
        """Give back what was not acknowledged, in order, as a closed channel does."""
        if self not in self._queue.streams:
            return
        self._queue.streams.remove(self)
        self._buffer.close(reason)
        self._buffer.discard()
        for stored in reversed(self._unacknowledged.values()):
            stored.redeliveries += 1
            if stored.redeliveries > int(self._queue.spec.arguments.get("x-delivery-limit", 1000)):
                self._broker.dead_letter(self._queue, stored)
            else:
                self._queue.ready.appendleft(stored)
        self._unacknowledged.clear()
        self._broker.pump(self._queue)


class InMemoryBroker:
    """See the module. `disconnect` and `refuse_publishing` make it fail as a real one does.

    Args:
        time_scale: multiplies every queue TTL, so that a test need not wait for minutes.
    """

    def __init__(self, *, time_scale: float = 1.0) -> None:
        self._time_scale = time_scale
        self._exchanges = {spec.name: spec for spec in EXCHANGES}
        self._queues: dict[str, _Queue] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self.refuse_publishing = False

    async def declare(self, queues: Sequence[QueueSpec]) -> None:
        for spec in (*DELAY_QUEUES, *queues):
            known = self._queues.setdefault(spec.name, _Queue(spec))
            if dict(known.spec.arguments) != dict(spec.arguments):
                msg = f"queue {spec.name} exists with other arguments"
                raise ValueError(msg)

    async def publish(self, message: Outgoing) -> None:
        if self.refuse_publishing:
            msg = "the broker is away"
            raise PublishError(msg)
        if not self._route(message.exchange, message):
            raise Unroutable(message.exchange, message.routing_key)

    async def publish_many(
        self, messages: Sequence[Outgoing], *, confirm_within: float = 2.0
    ) -> list[PublishError | None]:
        del confirm_within
        errors: list[PublishError | None] = []
        for message in messages:
            try:
                await self.publish(message)
            except PublishError as error:
                errors.append(error)
            else:
                errors.append(None)
        return errors

    @asynccontextmanager
    async def consume(self, queue: str, prefetch: int) -> AsyncGenerator[DeliveryStream]:
        stream = _MemoryStream(self, self._queues[queue], prefetch)
        self._queues[queue].streams.append(stream)
        self.pump(self._queues[queue])
        try:
            yield stream
        finally:
            stream.end("the channel closed")

    async def depth(self, queue: str) -> int | None:
        known = self._queues.get(queue)
        return None if known is None else len(known.ready)

    async def ping(self) -> float:
        started = time.perf_counter()
        await asyncio.sleep(0)
        return time.perf_counter() - started

    async def close(self) -> None:
        self.disconnect()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def disconnect(self) -> None:
        """End every stream, as a lost connection does."""
        for queue in self._queues.values():
            for stream in list(queue.streams):
                stream.end("the connection was lost")

    def messages(self, queue: str) -> list[Outgoing]:
        """What is ready in a queue, oldest first."""
        return [stored.message for stored in self._queues[queue].ready]

    def pump(self, queue: _Queue) -> None:
        """Hand out what is ready to streams that have room."""
        while queue.ready:
            stream = next((stream for stream in queue.streams if stream.has_room), None)
            if stream is None:
                return
            stream.deliver(queue.ready.popleft())

    def dead_letter(self, queue: _Queue, stored: _Stored) -> None:
        """Send a message where its queue's arguments say."""
        exchange = str(queue.spec.arguments["x-dead-letter-exchange"])
        key = queue.spec.arguments.get("x-dead-letter-routing-key", stored.message.routing_key)
        self._route(exchange, replace(stored.message, exchange=exchange, routing_key=str(key)))

    def _route(self, exchange: str, message: Outgoing) -> bool:
        spec = self._exchanges[exchange]
        queues = list(self._matching(exchange, spec.kind, message.routing_key))
        if not queues and "alternate-exchange" in spec.arguments:
            return self._route(str(spec.arguments["alternate-exchange"]), message)
        for queue in queues:
            stored = _Stored(message.exchange, message)
            queue.ready.append(stored)
            self._expire_later(queue, stored)
            self.pump(queue)
        return bool(queues)

    def _matching(self, exchange: str, kind: str, key: str) -> Iterable[_Queue]:
        for queue in self._queues.values():
            for binding in queue.spec.bindings:
                if binding.exchange == exchange and _matches(kind, binding.routing_key, key):
                    yield queue
                    break

    def _expire_later(self, queue: _Queue, stored: _Stored) -> None:
        ttl = queue.spec.arguments.get("x-message-ttl")
        if ttl is None:
            return

        def expire() -> None:
            self._timers.discard(timer)
            if stored in queue.ready:
                queue.ready.remove(stored)
                self.dead_letter(queue, stored)

        timer = asyncio.get_running_loop().call_later(int(ttl) / 1000 * self._time_scale, expire)
        self._timers.add(timer)


def _matches(kind: str, pattern: str, key: str) -> bool:
    if kind == "fanout":
        return True
    if kind == "direct":
        return pattern == key
    wanted, words = pattern.split("."), key.split(".")
    return len(wanted) == len(words) and all(
        want in {"*", word} for want, word in zip(wanted, words, strict=True)
    )
