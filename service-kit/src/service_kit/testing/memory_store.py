"""A store in memory: units of work that commit whole or not at all, one after the other."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from service_kit.store import OutboxRow, UnitOfWork, to_outgoing


@dataclass
class _State:
    inbox: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    outbox: list[OutboxRow] = field(default_factory=list[OutboxRow])
    next_id: int = 1


class _MemoryUnitOfWork(UnitOfWork):
    def __init__(self, source: str, now: datetime, state: _State) -> None:
        super().__init__(source, now)
        self._state = state
        self.claimed: set[tuple[str, str]] = set()

    async def claim_unseen(self, consumer: str, event_ids: Sequence[str]) -> set[str]:
        unseen = {
            event_id
            for event_id in event_ids
            if (consumer, event_id) not in self._state.inbox | self.claimed
        }
        self.claimed |= {(consumer, event_id) for event_id in unseen}
        return unseen

    async def already_seen(self, consumer: str, event_ids: Sequence[str]) -> set[str]:
        return {
            event_id
            for event_id in event_ids
            if (consumer, event_id) in self._state.inbox | self.claimed
        }


class _MemoryUnpublishedBatch:
    def __init__(self, rows: Sequence[OutboxRow]) -> None:
        self.rows = rows
        self.deleted: set[int] = set()

    async def delete_published(self, ids: Sequence[int]) -> None:
        self.deleted |= set(ids)


class InMemoryStore:
    """Inbox and outbox without a database; handlers have no connection."""

    def __init__(self) -> None:
        self._state = _State()
        self._lock = asyncio.Lock()
        self.outbox_written = asyncio.Event()

    @asynccontextmanager
    async def begin(self, source: str) -> AsyncGenerator[UnitOfWork]:
        async with self._lock:
            work = _MemoryUnitOfWork(source, datetime.now(UTC), self._state)
            yield work
            self._state.inbox |= work.claimed
            for event in work.emitted:
                self._state.outbox.append(OutboxRow(self._state.next_id, to_outgoing(event)))
                self._state.next_id += 1
        if work.emitted:
            self.outbox_written.set()

    @asynccontextmanager
    async def unpublished(self, limit: int) -> AsyncGenerator[_MemoryUnpublishedBatch]:
        async with self._lock:
            batch = _MemoryUnpublishedBatch(self._state.outbox[:limit])
            yield batch
            self._state.outbox = [row for row in self._state.outbox if row.id not in batch.deleted]

    async def outbox_size(self) -> int:
        """How many follow-on events wait to be published."""
        return len(self._state.outbox)
