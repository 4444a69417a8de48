"""The unit of work: inbox claim, effect and outbox in one transaction.

    BEGIN
      INSERT INTO inbox … ON CONFLICT DO NOTHING RETURNING    -- which events are new to this queue
      … the handler's own changes …
      INSERT INTO outbox …                                    -- what follows from them
    COMMIT                                                    -- then, and only then, ack

An event whose id is in the inbox has had its effect on that queue, for ever. A second consumer that
claims the same id waits for the first one's commit and then finds it taken. `service_kit.testing`
has a store in memory that behaves the same.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from moviemetric_contracts import Event, Message
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service_kit.broker import Outgoing
from service_kit.database import Database

M = TypeVar("M", bound=Message)

_CLAIM = text("""
    INSERT INTO inbox (consumer, event_id)
    SELECT CAST(:consumer AS text), id FROM unnest(CAST(:ids AS text[])) AS id
    ON CONFLICT DO NOTHING
    RETURNING event_id
""")
_SEEN = text("""
    SELECT event_id FROM inbox
    WHERE consumer = :consumer AND event_id = ANY(CAST(:ids AS text[]))
""")
_ADD_TO_OUTBOX = text("""
    INSERT INTO outbox (exchange, routing_key, body)
    SELECT exchange, routing_key, body
    FROM unnest(CAST(:exchanges AS text[]), CAST(:keys AS text[]), CAST(:bodies AS text[]))
         WITH ORDINALITY AS row (exchange, routing_key, body, position)
    ORDER BY position
""")
_LOCK_UNPUBLISHED = text("""
    SELECT id, exchange, routing_key, body FROM outbox
    ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
""")
_DELETE_PUBLISHED = text("DELETE FROM outbox WHERE id = ANY(CAST(:ids AS bigint[]))")
_OUTBOX_SIZE = text("SELECT count(*) FROM outbox")


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A follow-on event that the broker has not confirmed yet."""

    id: int
    message: Outgoing


def to_outgoing(event: Event[Any]) -> Outgoing:
    """The message that carries an event."""
    return Outgoing(event.data.EXCHANGE, event.type, event.to_bytes())


class UnitOfWork:
    """One transaction: a handler changes `connection` and emits; the runtime commits."""

    def __init__(self, source: str, now: datetime) -> None:
        self.source = source
        self.now = now
        self.emitted: list[Event[Any]] = []

    @property
    def connection(self) -> AsyncConnection:
        """The open transaction, with the service's schema in its search path."""
        msg = "this unit of work has no database"
        raise RuntimeError(msg)

    def emit(
        self,
        data: M,
        *,
        cause: Event[Any] | None = None,
        id: str | None = None,
        time: datetime | None = None,
    ) -> Event[M]:
        """A follow-on event, published after the commit.

        Args:
            cause: the event that led to it.
            id: for an event whose identity is known beforehand; a new one if None.
            time: when it happened, if not now.
        """
        event = Event.of(data, source=f"/{self.source}", time=time or self.now, id=id, cause=cause)
        self.emitted.append(event)
        return event

    async def claim_unseen(self, consumer: str, event_ids: Sequence[str]) -> set[str]:
        """Marks the events as having had their effect on `consumer`; answers which are new."""
        raise NotImplementedError

    async def already_seen(self, consumer: str, event_ids: Sequence[str]) -> set[str]:
        """Which of the events have had their effect on `consumer`; marks nothing."""
        raise NotImplementedError


class Store(Protocol):
    """Where units of work are begun and their follow-on events wait."""

    def begin(self, source: str) -> AbstractAsyncContextManager[UnitOfWork]:
        """A unit of work that commits unless the block raises."""
        ...

    def unpublished(self, limit: int) -> AbstractAsyncContextManager["UnpublishedBatch"]:
        """Follow-on events that nobody else is publishing, oldest first, held until the end."""
        ...


class UnpublishedBatch(Protocol):
    """Rows of the outbox, locked."""

    @property
    def rows(self) -> Sequence[OutboxRow]:
        """The rows, oldest first."""
        ...

    async def delete_published(self, ids: Sequence[int]) -> None:
        """Forget rows that the broker has confirmed."""
        ...


class PostgresUnitOfWork(UnitOfWork):
    """A unit of work on the service's schema."""

    def __init__(self, connection: AsyncConnection, source: str, now: datetime) -> None:
        super().__init__(source, now)
        self._connection = connection

    @property
    def connection(self) -> AsyncConnection:
        return self._connection

    async def claim_unseen(self, consumer: str, event_ids: Sequence[str]) -> set[str]:
        # In the order of the ids, so that two batches with the same events cannot deadlock.
        rows = await self._connection.execute(
            _CLAIM, {"consumer": consumer, "ids": sorted(set(event_ids))}
        )
        return set(rows.scalars())

    async def already_seen(self, consumer: str, event_ids: Sequence[str]) -> set[str]:
        rows = await self._connection.execute(_SEEN, {"consumer": consumer, "ids": list(event_ids)})
        return set(rows.scalars())

    async def write_outbox(self) -> None:
        """Part of the commit: the emitted events become rows of the outbox."""
        messages = [to_outgoing(event) for event in self.emitted]
        await self._connection.execute(
            _ADD_TO_OUTBOX,
            {
                "exchanges": [str(message.exchange) for message in messages],
                "keys": [message.routing_key for message in messages],
                "bodies": [message.body.decode() for message in messages],
            },
        )


@dataclass
class PostgresUnpublishedBatch:
    """Rows of the outbox that this transaction holds."""

    connection: AsyncConnection
    rows: Sequence[OutboxRow]

    async def delete_published(self, ids: Sequence[int]) -> None:
        await self.connection.execute(_DELETE_PUBLISHED, {"ids": list(ids)})


class PostgresStore:
    """Units of work on a service's own schema."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @asynccontextmanager
    async def begin(self, source: str) -> AsyncGenerator[UnitOfWork]:
        async with self.database.transaction() as connection:
            work = PostgresUnitOfWork(connection, source, datetime.now(UTC))
            yield work
            if work.emitted:
                await work.write_outbox()
        if work.emitted:
            self.database.outbox_written.set()

    @asynccontextmanager
    async def unpublished(self, limit: int) -> AsyncGenerator[PostgresUnpublishedBatch]:
        async with self.database.transaction() as connection:
            rows = await connection.execute(_LOCK_UNPUBLISHED, {"limit": limit})
            yield PostgresUnpublishedBatch(
                connection,
                [
                    OutboxRow(row.id, Outgoing(row.exchange, row.routing_key, row.body.encode()))
                    for row in rows
                ],
            )

    async def outbox_size(self) -> int:
        """How many follow-on events wait to be published."""
        async with self.database.transaction() as connection:
            return int((await connection.execute(_OUTBOX_SIZE)).scalar_one())


class StatelessStore:
    """For a process without a schema: nothing is remembered, so handlers must be idempotent."""

    @asynccontextmanager
    async def begin(self, source: str) -> AsyncGenerator[UnitOfWork]:
        work = _StatelessUnitOfWork(source, datetime.now(UTC))
        yield work
        if work.emitted:
            msg = "follow-on events need an outbox, and this process has no database"
            raise RuntimeError(msg)

    @asynccontextmanager
    async def unpublished(self, limit: int) -> AsyncGenerator[UnpublishedBatch]:
        del limit
        yield _NothingUnpublished()


class _StatelessUnitOfWork(UnitOfWork):
    async def claim_unseen(self, consumer: str, event_ids: Sequence[str]) -> set[str]:
        del consumer
        return set(event_ids)

    async def already_seen(self, consumer: str, event_ids: Sequence[str]) -> set[str]:
        del consumer, event_ids
        return set()


class _NothingUnpublished:
    rows: Sequence[OutboxRow] = ()

    async def delete_published(self, ids: Sequence[int]) -> None:
        del ids


def unit_of_work(database: Database, *, source: str) -> AbstractAsyncContextManager[UnitOfWork]:
    """A unit of work outside of a subscription: commits unless the block raises."""
    return PostgresStore(database).begin(source)
