"""What the runtime needs of a message broker.

`service_kit.rabbit.RabbitBroker` is the real one; `service_kit.testing.InMemoryBroker` behaves the
same, and one suite holds both to it.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from service_kit.topology import QueueSpec

HeaderValue = str | int


class PublishError(Exception):
    """The broker did not confirm a message. It may have taken it all the same."""


class Unroutable(PublishError):  # noqa: N818 -- reads as what happened to the message
    """The broker has no queue for the message and gave it back."""

    def __init__(self, exchange: str, routing_key: str) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        super().__init__(
            f"no queue takes messages that go to {exchange!r} with routing key {routing_key!r}; "
            "run `migrate` of the services that handle it, which declares their queues"
        )


class StreamClosed(Exception):  # noqa: N818 -- how a stream ends rather than an error
    """No more deliveries will come on this stream; what is not acknowledged is delivered again."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish."""

    exchange: str
    routing_key: str
    body: bytes
    headers: Mapping[str, HeaderValue] = field(default_factory=dict[str, HeaderValue])
    content_type: str = "application/cloudevents+json"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as it arrived. `redeliveries` counts how often it was given out without an ack."""

    tag: int
    exchange: str
    routing_key: str
    body: bytes
    headers: Mapping[str, object]
    redeliveries: int = 0


class DeliveryBuffer:
    """Deliveries between the broker's callback, which only adds, and the consumer that takes."""

    def __init__(self) -> None:
        self._items: deque[Delivery] = deque()
        self._wanted = 1
        self._ready = asyncio.Event()
        self._closed: str | None = None

    def add(self, delivery: Delivery) -> None:
        """Append one; wakes the taker when there are as many as it waits for.

        What comes after the end is not taken: it could not be acknowledged.
        """
        if self._closed is not None:
            return
        self._items.append(delivery)
        if len(self._items) >= self._wanted:
            self._ready.set()

    def close(self, reason: str) -> None:
        """Nothing more will come. What is here may still be taken."""
        if self._closed is None:
            self._closed = reason
        self._ready.set()

    @property
    def closed(self) -> bool:
        """Whether the end of the stream is known."""
        return self._closed is not None

    def discard(self) -> None:
        """Forget what was not taken; the broker delivers it again once the channel closes."""
        self._items.clear()

    async def take(self, size: int, linger: float) -> list[Delivery]:
        """Between 1 and `size` deliveries: waits for the first one, then `linger` s for more.

        Raises:
            StreamClosed: the stream has ended and nothing is left.
        """
        await self._wait_for(1)
        if len(self._items) < size and self._closed is None and linger > 0:
            try:
                async with asyncio.timeout(linger):
                    await self._wait_for(size)
            except TimeoutError:
                pass
        if not self._items:
            raise StreamClosed(self._closed)
        return [self._items.popleft() for _ in range(min(size, len(self._items)))]

    async def _wait_for(self, count: int) -> None:
        while len(self._items) < count and self._closed is None:
            self._wanted = count
            self._ready.clear()
            await self._ready.wait()


class DeliveryStream(Protocol):
    """The deliveries of one queue on one channel, in order, for a single taker."""

    @property
    def closed(self) -> bool:
        """Whether the stream has ended, so that what was taken can no longer be acknowledged."""
        ...

    async def take(self, size: int, linger: float) -> list[Delivery]:
        """Between 1 and `size` deliveries; raises StreamClosed at the end."""
        ...

    async def acknowledge_through(self, delivery: Delivery) -> None:
        """Settle this delivery and all before it; raises StreamClosed when it is too late."""
        ...

    async def cancel(self) -> None:
        """Ask for no more deliveries and forget those that were not taken."""
        ...


class Broker(Protocol):
    """Publishing with confirms, consuming with acknowledgements."""

    async def declare(self, queues: Sequence[QueueSpec]) -> None:
        """Declare the shared exchanges and these queues. Repeating it changes nothing."""
        ...

    async def publish(self, message: Outgoing) -> None:
        """Returns when the broker holds the message durably.

        Raises:
            Unroutable: no queue takes it.
            PublishError: not confirmed in time, refused, or the broker is away.
        """
        ...

    async def publish_many(
        self, messages: Sequence[Outgoing], *, confirm_within: float = 2.0
    ) -> list[PublishError | None]:
        """Publish with many in flight; one entry for each message, None where confirmed.

        `confirm_within` is how many seconds the broker has for each confirm.
        """
        ...

    def consume(self, queue: str, prefetch: int) -> AbstractAsyncContextManager[DeliveryStream]:
        """A stream of the queue's messages, `prefetch` of them unacknowledged at most."""
        ...

    async def depth(self, queue: str) -> int | None:
        """How many messages wait in a queue to be delivered; None if there is no such queue.

        Raises:
            ConnectionError: the broker is away.
        """
        ...

    async def ping(self) -> float:
        """Seconds that a round trip to the broker takes.

        Raises:
            ConnectionError: the broker is away.
        """
        ...

    async def close(self) -> None:
        """Close the connections; unacknowledged messages go back to their queues."""
        ...
