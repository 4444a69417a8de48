"""The batching consumer of one queue.

    take a batch ─► decode ─► process ─► publish retries and dead letters ─► ack all at once

Deliveries are settled strictly in the order in which they came, so one acknowledgement covers a
batch. The last step never runs before all of the batch is either committed or safe in another
queue; if anything goes wrong earlier, the broker delivers again and the inbox knows what is done.

While a dependency is away the batch in hand waits, the prefetch window fills, and the broker keeps
the rest: no message spends an attempt.
"""

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, Protocol

from moviemetric_contracts import Event, UndecodableEventError, UnexpectedTypeError, decode

from service_kit import metrics
from service_kit.broker import (
    Broker,
    Delivery,
    DeliveryStream,
    HeaderValue,
    Outgoing,
    StreamClosed,
)
from service_kit.outcomes import Ack, Outage, Outcome, Parked, Retry
from service_kit.subscriptions import Subscription
from service_kit.topology import DEAD_LETTER, delay_for

log = logging.getLogger(__name__)

ATTEMPT_HEADER: Final = "x-attempt"
EXCHANGE_HEADER: Final = "x-original-exchange"
ROUTING_KEY_HEADER: Final = "x-original-routing-key"
# After so many deliveries without an ack a message may be what brings the process down.
SUSPICIOUS_REDELIVERIES: Final = 3
MAX_PAUSE: Final = 5.0
# Long, because every repetition of an unconfirmed message may turn out to be a copy of it.
PUT_ASIDE_TIMEOUT: Final = 30.0

State = Literal["connecting", "consuming", "paused", "stopped"]


class Processor(Protocol):
    """Takes events to outcomes; see `service_kit.processor`."""

    async def process(self, events: Sequence[Event[Any]]) -> list[Outcome]:
        """One outcome for each event; raises Outage to have the batch kept."""
        ...


@dataclass(frozen=True, slots=True)
class ConsumerStatus:
    """What a consumer is doing, for health pages; `reason` says why it does not consume."""

    queue: str
    state: State
    reason: str | None


class Consumer:
    """Consumes one subscription until `stop`."""

    def __init__(
        self, subscription: Subscription[Any], broker: Broker, processor: Processor
    ) -> None:
        self._subscription = subscription
        self._broker = broker
        self._processor = processor
        self._accepted = {cls.TYPE for cls in subscription.accepts}
        self._stopping = asyncio.Event()
        self._state: State = "connecting"
        self._reason: str | None = None
        self._stream: DeliveryStream | None = None

    @property
    def status(self) -> ConsumerStatus:
        """What the consumer is doing now."""
        return ConsumerStatus(self._subscription.queue, self._state, self._reason)

    def _enter(self, state: State, reason: str | None = None) -> None:
        if (state, reason) != (self._state, self._reason):
            level = logging.WARNING if reason else logging.INFO
            log.log(
                level,
                "consumer is %s",
                state,
                extra={"queue": self._subscription.queue, "reason": reason},
            )
        self._state, self._reason = state, reason
        metrics.CONSUMING.labels(self._subscription.queue).set(state == "consuming")

    async def stop(self) -> None:
        """Take no more, finish the batch in hand; `run` returns soon after."""
        self._stopping.set()
        if self._stream is not None:
            await self._stream.cancel()

    async def run(self) -> None:
        """Consume until `stop`; opens a new stream whenever one ends."""
        failures = 0
        while not self._stopping.is_set():
            try:
                # A queue that was deleted while it was consumed is there again after this.
                await self._broker.declare(self._subscription.queues())
                async with self._broker.consume(
                    self._subscription.queue, self._subscription.window
                ) as stream:
                    self._stream = stream
                    self._enter("consuming")
                    failures = 0
                    await self._consume(stream)
            except StreamClosed as error:
                if not self._stopping.is_set():
                    self._enter("connecting", str(error))
            except Exception as error:  # noqa: BLE001 -- a consumer must outlive whatever its broker does
                failures += 1
                self._enter("connecting", f"{type(error).__name__}: {error}")
            finally:
                self._stream = None
            await self._pause(min(MAX_PAUSE, 0.1 * 2 ** min(failures, 6)))
        self._enter("stopped")

    async def _consume(self, stream: DeliveryStream) -> None:
        while not self._stopping.is_set():
            batch = await stream.take(self._subscription.batch_size, self._subscription.linger)
            if any(delivery.redeliveries >= SUSPICIOUS_REDELIVERIES for delivery in batch):
                # Whichever brings the process down, the others before it are done with.
                for delivery in batch:
                    await self._complete(stream, [delivery])
            else:
                await self._complete(stream, batch)

    async def _complete(self, stream: DeliveryStream, batch: Sequence[Delivery]) -> None:
        started = time.perf_counter()
        outcomes: list[Outcome] = [Ack()] * len(batch)
        events: list[Event[Any]] = []
        positions: list[int] = []
        for position, delivery in enumerate(batch):
            try:
                events.append(self._decode(delivery))
                positions.append(position)
            except UndecodableEventError as error:
                outcomes[position] = Parked(error.reason)
        if events:
            processed = await self._process(stream, events)
            for position, outcome in zip(positions, processed, strict=True):
                outcomes[position] = outcome
        await self._settle(stream, batch, outcomes)
        await stream.acknowledge_through(batch[-1])
        queue = self._subscription.queue
        metrics.BATCH_SECONDS.labels(queue).observe(time.perf_counter() - started)
        metrics.BATCH_EVENTS.labels(queue).observe(len(batch))

    def _decode(self, delivery: Delivery) -> Event[Any]:
        hint = delivery.headers.get(ROUTING_KEY_HEADER, delivery.routing_key)
        event = decode(delivery.body, hint=hint if isinstance(hint, str) else "")
        if event.type not in self._accepted:
            raise UnexpectedTypeError(event.type, sorted(self._accepted))
        return event

    async def _process(self, stream: DeliveryStream, events: Sequence[Event[Any]]) -> list[Outcome]:
        outages = 0
        while True:
            try:
                outcomes = await self._processor.process(events)
            except Outage as outage:
                outages += 1
                self._enter("paused", str(outage))
                metrics.OUTAGES.labels(self._subscription.queue, outage.dependency).inc()
                await self._pause(outage.retry_after or min(MAX_PAUSE, 0.2 * 2 ** min(outages, 6)))
                if self._stopping.is_set() or stream.closed:
                    # Someone else may have the batch by now; nothing of it is lost.
                    msg = f"gave the batch back: {outage}"
                    raise StreamClosed(msg) from outage
            else:
                if outages:
                    self._enter("consuming")
                return outcomes

    async def _settle(
        self, stream: DeliveryStream, batch: Sequence[Delivery], outcomes: Sequence[Outcome]
    ) -> None:
        """Put what failed where it belongs, confirmed, so that the batch can be acknowledged.

        Raises:
            StreamClosed: the batch will be delivered again.
        """
        queue = self._subscription.queue
        moved: list[Outgoing] = []
        acknowledged = 0
        for delivery, outcome in zip(batch, outcomes, strict=True):
            attempt = _attempt_of(delivery)
            match outcome:
                case Ack():
                    acknowledged += 1
                case Retry() if attempt < self._subscription.max_attempts:
                    moved.append(self._retry(delivery, outcome, attempt))
                    metrics.EVENTS.labels(queue, "retried").inc()
                case Retry(reason=reason):
                    moved.append(self._park(delivery, f"failed {attempt} times: {reason}", attempt))
                    metrics.EVENTS.labels(queue, "parked").inc()
                case Parked(reason=reason):
                    moved.append(self._park(delivery, reason, attempt))
                    metrics.EVENTS.labels(queue, "parked").inc()
        metrics.EVENTS.labels(queue, "acknowledged").inc(acknowledged)
        if moved:
            await self._put_aside(stream, moved)

    async def _put_aside(self, stream: DeliveryStream, messages: Sequence[Outgoing]) -> None:
        # Giving the batch back instead would count as a delivery of every message in the prefetch
        # window, and soon the broker would dead-letter them all.
        failures = 0
        while True:
            errors = await self._broker.publish_many(messages, confirm_within=PUT_ASIDE_TIMEOUT)
            reasons = [error for error in errors if error is not None]
            if not reasons:
                break
            messages = [m for m, error in zip(messages, errors, strict=True) if error is not None]
            failures += 1
            self._enter("paused", f"{len(messages)} failed messages wait: {reasons[0]}")
            await self._pause(min(MAX_PAUSE, 0.1 * 2 ** min(failures, 6)))
            if self._stopping.is_set() or stream.closed:
                msg = f"gave the batch back: {reasons[0]}"
                raise StreamClosed(msg)
        if failures:
            self._enter("consuming")

    def _retry(self, delivery: Delivery, retry: Retry, attempt: int) -> Outgoing:
        delay = delay_for(attempt, retry.delay)
        headers = _origin(delivery) | {
            ATTEMPT_HEADER: attempt + 1,
            "x-last-error": _encodable(retry.reason[:1000]),
        }
        return Outgoing(delay.name, self._subscription.queue, delivery.body, headers)

    def _park(self, delivery: Delivery, reason: str, attempts: int) -> Outgoing:
        queue = self._subscription.queue
        handler = self._subscription.handle
        headers = _origin(delivery) | {
            "x-reason": _encodable(reason[:2000]),
            "x-queue": queue,
            "x-handler": str(getattr(handler, "__qualname__", handler)),
            "x-attempts": attempts,
            "x-parked-at": datetime.now(UTC).isoformat(),
        }
        log.error("message parked", extra={"queue": queue, "reason": reason, "attempts": attempts})
        return Outgoing(DEAD_LETTER, queue, delivery.body, headers)

    async def _pause(self, seconds: float) -> None:
        jittered = seconds * random.uniform(0.75, 1.0)  # noqa: S311 -- jitter
        try:
            await asyncio.wait_for(self._stopping.wait(), jittered)
        except TimeoutError:
            return


def _attempt_of(delivery: Delivery) -> int:
    attempt = delivery.headers.get(ATTEMPT_HEADER, 1)
    return attempt if isinstance(attempt, int) and attempt > 0 else 1


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()


def _origin(delivery: Delivery) -> dict[str, HeaderValue]:
    """Where the message was first published, kept through every detour."""
    exchange = delivery.headers.get(EXCHANGE_HEADER, delivery.exchange)
    key = delivery.headers.get(ROUTING_KEY_HEADER, delivery.routing_key)
    return {EXCHANGE_HEADER: str(exchange), ROUTING_KEY_HEADER: str(key)}
