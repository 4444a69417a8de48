"""Publishes the outbox: lock rows, publish with confirms, delete what was confirmed, commit.

A crash between confirm and commit publishes a row again; its event keeps its id, so consumers see
it once. Rows are never found by a position already passed, since transactions commit out of order.
"""

import asyncio
import logging
from typing import Final

from service_kit import metrics
from service_kit.broker import Broker
from service_kit.outcomes import Outage
from service_kit.store import Store

log = logging.getLogger(__name__)

# One window of confirms: few enough to lose little time when the broker confirms nothing.
BATCH: Final = 500
# Finds what another process of the service committed and did not live to publish.
POLL_SECONDS: Final = 1.0
MAX_BACKOFF: Final = 5.0


class OutboxRelay:
    """Publishes follow-on events; any number may run beside each other.

    Args:
        written: set whenever this process has committed rows.
    """

    def __init__(self, store: Store, broker: Broker, written: asyncio.Event) -> None:
        self._store = store
        self._broker = broker
        self._written = written

    async def publish_next(self) -> int:
        """Publish the oldest rows that nobody else holds; answers how many were confirmed.

        Raises:
            PublishError: none of them was confirmed.
            Outage: the database is away.
        """
        async with self._store.unpublished(BATCH) as batch:
            if not batch.rows:
                return 0
            errors = await self._broker.publish_many([row.message for row in batch.rows])
            confirmed = [
                row.id for row, error in zip(batch.rows, errors, strict=True) if error is None
            ]
            await batch.delete_published(confirmed)
        metrics.OUTBOX_PUBLISHED.inc(len(confirmed))
        failed = [error for error in errors if error is not None]
        if failed:
            metrics.OUTBOX_FAILED.inc(len(failed))
            log.warning(
                "follow-on events were not confirmed and will be published again",
                extra={"count": len(failed), "reason": str(failed[0])},
            )
            if not confirmed:
                raise failed[0]
        return len(confirmed)

    async def run(self) -> None:
        """Publish until cancelled."""
        backoff = 0.0
        while True:
            self._written.clear()
            try:
                while await self.publish_next():
                    backoff = 0.0
            except Outage as outage:
                backoff = min(MAX_BACKOFF, max(0.2, backoff * 2))
                log.warning("outbox relay waits", extra={"reason": str(outage)})
            except Exception as error:  # noqa: BLE001 -- the relay must outlive whatever the broker does
                backoff = min(MAX_BACKOFF, max(0.2, backoff * 2))
                log.warning(
                    "outbox relay waits", extra={"reason": f"{type(error).__name__}: {error}"}
                )
            if backoff:
                await asyncio.sleep(backoff)
            else:
                await self._wait()

    async def drain(self) -> None:
        """Publish all that is there now, or raise as `publish_next` does."""
        while await self.publish_next():
            pass

    async def _wait(self) -> None:
        try:
            await asyncio.wait_for(self._written.wait(), POLL_SECONDS)
        except TimeoutError:
            return
