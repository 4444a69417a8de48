"""A subscription: which events come to a queue, and what is done with a batch of them."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from moviemetric_contracts import Event, Message

from service_kit.store import UnitOfWork
from service_kit.topology import Binding, QueueSpec, bindings_for, work_queue

P = TypeVar("P")

BatchHandler = Callable[[Sequence[P], UnitOfWork], Awaitable[None]]
Prepare = Callable[[Event[Any]], Awaitable[P]]


@dataclass(frozen=True, kw_only=True)
class Subscription(Generic[P]):
    """One work queue and its handler.

    `handle` gets a batch in one transaction, and only events that this queue has never seen. It
    raises for a batch as it would for a single event: the runtime then divides the batch until it
    knows which event fails, and commits the others.

    `prepare`, where given, does the input and output that must not hold a transaction open (asking
    another system). It runs for each event on its own, all of a batch at the same time; `handle`
    gets what it returned.

    Attributes:
        queue: `<service>.<stream>`.
        accepts: the types that the queue is bound to, in every version.
        batch_size: most events in a transaction.
        linger: seconds to wait for more once there is one.
        prefetch: unacknowledged messages at most; None: three batches.
        max_attempts: a failing message is parked after so many.
        bindings: instead of those that `accepts` gives.
    """

    queue: str
    accepts: tuple[type[Message], ...]
    handle: BatchHandler[P]
    prepare: Prepare[P] | None = None
    batch_size: int = 500
    linger: float = 0.01
    prefetch: int | None = None
    max_attempts: int = 8
    bindings: tuple[Binding, ...] | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.max_attempts < 1 or self.linger < 0:
            msg = f"{self.queue}: batch_size and max_attempts are at least 1, linger at least 0"
            raise ValueError(msg)

    @property
    def window(self) -> int:
        """Unacknowledged messages at most."""
        return self.prefetch or 3 * self.batch_size

    def queues(self) -> tuple[QueueSpec, QueueSpec]:
        """The work queue with its bindings, and its dead-letter queue."""
        bindings = bindings_for(self.accepts) if self.bindings is None else self.bindings
        return work_queue(self.queue, bindings)
