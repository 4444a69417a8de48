"""Publishes events, for processes that have no outbox."""

from collections.abc import Sequence
from typing import Any

from moviemetric_contracts import Event

from service_kit.broker import Broker, PublishError
from service_kit.store import to_outgoing


class Publisher:
    """Publishes events straight to the broker; every success is a confirmed one."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def publish(self, event: Event[Any]) -> None:
        """Returns when the broker holds the event durably.

        Raises:
            Unroutable: no queue takes it.
            PublishError: not confirmed; the event may or may not have been taken. Publishing the
                same event again is harmless.
        """
        await self._broker.publish(to_outgoing(event))

    async def publish_many(self, events: Sequence[Event[Any]]) -> list[PublishError | None]:
        """Publish with many in flight; one entry for each event, None where confirmed."""
        return await self._broker.publish_many([to_outgoing(event) for event in events])
