"""Run a subscription as the consumer would, without a broker."""

from collections.abc import Sequence
from typing import Any

from moviemetric_contracts import Event, decode
from sqlalchemy import text

from service_kit.database import Database
from service_kit.outcomes import Outcome
from service_kit.processor import BatchProcessor
from service_kit.store import PostgresStore
from service_kit.subscriptions import Subscription


async def deliver(
    subscription: Subscription[Any], database: Database, events: Sequence[Event[Any]]
) -> list[Outcome]:
    """One batch through prepare, claim, handler and commit; one outcome for each event.

    Raises:
        Outage: as the consumer would see it.
    """
    source = subscription.queue.partition(".")[0]
    processor = BatchProcessor(subscription, PostgresStore(database), source=source)
    return await processor.process(events)


async def outbox_events(database: Database) -> list[Event[Any]]:
    """The follow-on events that wait to be published, oldest first."""
    async with database.transaction() as connection:
        bodies = await connection.execute(text("SELECT body FROM outbox ORDER BY id"))
        return [decode(body.encode()) for body in bodies.scalars()]
