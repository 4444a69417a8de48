"""Exchanges and queues as values; `service_kit.rabbit` declares them.

    producer ──► moviemetric.commands / .events (topic) ──► <service>.<stream>
                       └─ no queue bound ──► moviemetric.unrouted (fanout)
    failed   ──► moviemetric.delay.<n>s (fanout) ──TTL──► moviemetric.requeue (direct) ─► same queue
    parked   ──► moviemetric.dead-letter (direct) ──► <queue>.dead

The arguments work on RabbitMQ 3.10 and 4.x alike and are explicit, because a queue that exists with
other arguments cannot be declared again: to change them, rename the queue.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from moviemetric_contracts import Exchange, Message, binding_key

REQUEUE: Final = "moviemetric.requeue"
DEAD_LETTER: Final = "moviemetric.dead-letter"
UNROUTED: Final = "moviemetric.unrouted"

# Bounds how often a message may bring its consumer down. Well above the crashes to be expected,
# because every message in the prefetch window is counted along with the one that did it.
DELIVERY_LIMIT: Final = 50

Argument = str | int


@dataclass(frozen=True, slots=True)
class ExchangeSpec:
    """A durable exchange."""

    name: str
    kind: Literal["topic", "direct", "fanout"]
    arguments: Mapping[str, Argument] = field(default_factory=dict[str, Argument])


@dataclass(frozen=True, slots=True)
class Binding:
    """What makes an exchange's messages reach a queue."""

    exchange: str
    routing_key: str


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """A durable quorum queue and its bindings."""

    name: str
    arguments: Mapping[str, Argument]
    bindings: tuple[Binding, ...]


@dataclass(frozen=True, slots=True)
class Delay:
    """A place where failed messages wait for `seconds`."""

    seconds: int

    @property
    def name(self) -> str:
        """The name of the exchange and of its queue."""
        return f"moviemetric.delay.{self.seconds}s"


DELAYS: Final = (Delay(1), Delay(10), Delay(60), Delay(600))
# Which of them each failed attempt takes: about 25 minutes in all before a message is parked.
_GROWTH: Final = (0, 0, 1, 1, 2, 2, 3, 3)


def delay_for(attempt: int, wanted: float | None = None) -> Delay:
    """The delay after failed attempt number `attempt` (from 1), or the least one ≥ `wanted`."""
    if wanted is not None:
        return next((delay for delay in DELAYS if delay.seconds >= wanted), DELAYS[-1])
    return DELAYS[_GROWTH[min(attempt, len(_GROWTH)) - 1]]


EXCHANGES: Final = (
    ExchangeSpec(UNROUTED, "fanout"),
    ExchangeSpec(Exchange.COMMANDS, "topic", {"alternate-exchange": UNROUTED}),
    ExchangeSpec(Exchange.EVENTS, "topic", {"alternate-exchange": UNROUTED}),
    ExchangeSpec(REQUEUE, "direct"),
    ExchangeSpec(DEAD_LETTER, "direct"),
    *(ExchangeSpec(delay.name, "fanout") for delay in DELAYS),
)

DELAY_QUEUES: Final = tuple(
    QueueSpec(
        delay.name,
        {
            "x-queue-type": "quorum",
            "x-message-ttl": delay.seconds * 1000,
            "x-dead-letter-exchange": REQUEUE,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
        (Binding(delay.name, ""),),
    )
    for delay in DELAYS
)


def dead_queue_name(queue: str) -> str:
    """Where the parked messages of `queue` wait."""
    return f"{queue}.dead"


def work_queue(name: str, bindings: tuple[Binding, ...]) -> tuple[QueueSpec, QueueSpec]:
    """A work queue and the queue of its dead letters."""
    work = QueueSpec(
        name,
        {
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": DEAD_LETTER,
            "x-dead-letter-routing-key": name,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
        (*bindings, Binding(REQUEUE, name)),
    )
    dead = QueueSpec(
        dead_queue_name(name), {"x-queue-type": "quorum"}, (Binding(DEAD_LETTER, name),)
    )
    return dead, work


def bindings_for(accepts: tuple[type[Message], ...]) -> tuple[Binding, ...]:
    """Bindings that bring every version of these types to a queue."""
    pairs = {(cls.EXCHANGE.value, binding_key(cls.TYPE)) for cls in accepts}
    return tuple(Binding(exchange, key) for exchange, key in sorted(pairs))
