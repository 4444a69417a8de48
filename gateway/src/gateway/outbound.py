"""Publishing for HTTP: 202 only after the broker's confirm, otherwise 503 and try again."""

from collections.abc import Sequence
from typing import Any, Final, Protocol

from moviemetric_contracts import Event
from service_kit import PublishError, Unroutable
from service_kit.http import ProblemError

from gateway import metrics

RETRY_AFTER: Final = "2"


class EventPublisher(Protocol):
    """What the gateway needs of `service_kit.Publisher`."""

    async def publish(self, event: Event[Any]) -> None:
        """Returns after the broker's confirm; raises PublishError."""
        ...

    async def publish_many(self, events: Sequence[Event[Any]]) -> list[PublishError | None]:
        """As `publish` for many at a time; None where confirmed."""
        ...


class Outbound:
    """Publishes, counts, and turns what the broker says into what a client is told."""

    def __init__(self, publisher: EventPublisher) -> None:
        self._publisher = publisher

    async def send(self, event: Event[Any]) -> None:
        """Returns when the event is durable.

        Raises:
            ProblemError: 503 with Retry-After.
        """
        try:
            await self._publisher.publish(event)
        except PublishError as error:
            _count(event, error)
            raise not_confirmed(error) from error
        _count(event, None)

    async def send_many(self, events: Sequence[Event[Any]]) -> list[str | None]:
        """Publish all; for each event None, or why it is not known to be durable."""
        errors = await self._publisher.publish_many(events)
        for event, error in zip(events, errors, strict=True):
            _count(event, error)
        return [None if error is None else reason(error) for error in errors]


def reason(error: PublishError) -> str:
    """What a client is told; the broker's own words stay in the log."""
    if isinstance(error, Unroutable):
        return "no service takes this type of event at the moment"
    return "the message broker did not confirm the event in time; it may or may not be taken"


def not_confirmed(error: PublishError) -> ProblemError:
    """The 503 for an event whose outcome is unknown."""
    return ProblemError(
        503,
        "Event not confirmed",
        f"{reason(error).capitalize()}. Try again with the same Idempotency-Key.",
        headers={"Retry-After": RETRY_AFTER},
    )


def _count(event: Event[Any], error: PublishError | None) -> None:
    outcome = (
        "confirmed"
        if error is None
        else "unroutable"
        if isinstance(error, Unroutable)
        else "unconfirmed"
    )
    metrics.PUBLISHED.labels(event.type, outcome).inc()
