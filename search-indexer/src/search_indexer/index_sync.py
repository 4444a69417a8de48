"""Brings an external index up to what the database says.

A change is committed in PostgreSQL first, with a row in `index_changes`. This job sends what those
rows name, follows each write to its end, and only then deletes the row, unless the film has changed
again meanwhile. So nothing is lost while the engine is away, and repeating a write is harmless. An
index that was created anew gets every document.

One process writes at a time (a lease): two of them could send two versions of a document in the
wrong order.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final
from uuid import uuid4

from service_kit import Database

from search_indexer import repository
from search_indexer.engine import ChangeRefusedError, ExternalIndex
from search_indexer.repository import PendingChange

logger = logging.getLogger(__name__)

_BATCH: Final = 1000
_BATCHES_PER_RUN: Final = 100
_LEASE: Final = timedelta(seconds=240)
# Well below the lease, so that a writer that hangs has given up before another one may start.
_BATCH_TIMEOUT: Final = 180.0
_REFUSED_AGAIN_AFTER: Final = timedelta(minutes=10)
# How often an index that nothing changes in is looked at, in case it was lost or created anew.
_LOOK_EVERY: Final = 30.0


class IndexSync:
    """The background job; `run` is called again and again."""

    def __init__(self, database: Database, index: ExternalIndex, *, engine: str) -> None:
        self._database = database
        self._index = index
        self._engine = engine
        self._holder = str(uuid4())
        self._looked_at: float | None = None

    async def run(self) -> None:
        """Sends everything that is pending.

        Raises:
            Outage: the engine or the database is away; what is pending stays so.
        """
        if not (await self._is_due() and await self._take_lease()):
            return
        try:
            await self._adopt_index()
            for _ in range(_BATCHES_PER_RUN):
                async with asyncio.timeout(_BATCH_TIMEOUT):
                    sent = await self._send_batch()
                if sent < _BATCH or not await self._take_lease():
                    return
        finally:
            async with self._database.transaction() as connection:
                await repository.give_lease_back(
                    connection, engine=self._engine, holder=self._holder
                )

    async def _is_due(self) -> bool:
        if self._looked_at is None or time.monotonic() - self._looked_at > _LOOK_EVERY:
            return True
        async with self._database.reading() as connection:
            return await repository.is_pending(connection)

    async def _take_lease(self) -> bool:
        async with self._database.transaction() as connection:
            return await repository.take_lease(
                connection, engine=self._engine, holder=self._holder, duration=_LEASE
            )

    async def _adopt_index(self) -> None:
        identity = await self._index.ensure_ready()
        async with self._database.transaction() as connection:
            adopted = await repository.adopt_index(
                connection, engine=self._engine, identity=identity
            )
        self._looked_at = time.monotonic()
        if adopted:
            logger.info("a new index is being filled", extra={"engine": self._engine})

    async def _send_batch(self) -> int:
        async with self._database.reading() as connection:
            changes = await repository.pending_changes(connection, _BATCH)
        removed = [change for change in changes if change.document is None]
        whole = [change for change in changes if change.document and change.whole_document]
        trends = [change for change in changes if change.document and not change.whole_document]
        await self._send(removed, self._remove)
        await self._send(whole, self._replace)
        await self._send(trends, self._update_trends)
        return len(changes)

    async def _send(
        self,
        changes: Sequence[PendingChange],
        write: Callable[[Sequence[PendingChange]], Awaitable[None]],
    ) -> None:
        """Writes changes and settles them; one that is refused is found by halving."""
        if not changes:
            return
        try:
            await write(changes)
        except ChangeRefusedError as error:
            if len(changes) == 1:
                await self._postpone(changes[0], error)
                return
            middle = len(changes) // 2
            await self._send(changes[:middle], write)
            await self._send(changes[middle:], write)
            return
        async with self._database.transaction() as connection:
            await repository.settle(connection, changes)

    async def _postpone(self, change: PendingChange, error: ChangeRefusedError) -> None:
        logger.error(
            "a change was refused by the search engine",
            extra={"movie_id": change.movie_id, "reason": error.reason},
        )
        async with self._database.transaction() as connection:
            await repository.postpone(
                connection, change, error=error.reason, delay=_REFUSED_AGAIN_AFTER
            )

    async def _remove(self, changes: Sequence[PendingChange]) -> None:
        await self._index.remove([change.movie_id for change in changes])

    async def _replace(self, changes: Sequence[PendingChange]) -> None:
        await self._index.index(
            [(change.document, change.trend) for change in changes if change.document]
        )

    async def _update_trends(self, changes: Sequence[PendingChange]) -> None:
        await self._index.update_trends([change.trend for change in changes if change.trend])
