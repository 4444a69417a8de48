"""The gateway with a publisher that confirms at once: the same routes, nothing behind them."""

from collections.abc import Sequence
from typing import Any

from gateway.bootstrap import NAME, bootstrap
from gateway.settings import Settings
from moviemetric_contracts import Event
from service_kit import PublishError, Service, main


class NoPublisher:
    """Takes everything and keeps nothing."""

    async def publish(self, event: Event[Any]) -> None:
        """Confirmed."""

    async def publish_many(self, events: Sequence[Event[Any]]) -> list[PublishError | None]:
        """All confirmed."""
        return [None] * len(events)


def without_broker(settings: Settings) -> Service:
    """Everything of the gateway but the publishing."""
    return bootstrap(settings, NoPublisher())


if __name__ == "__main__":
    main(NAME, Settings, without_broker)
