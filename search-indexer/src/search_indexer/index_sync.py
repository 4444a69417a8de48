"""Brings an external index up to what the database says.

A change is committed in PostgreSQL first, with a row in `index_changes`. This job sends what those
rows name, follows each write to its end, and only then deletes the row, unless the film has changed
again meanwhile. So nothing is lost while the engine is away, and repeating a write is harmless. An
index that was created anew gets every document. While a rebuild fills a second index, that one is
told of every change as well.

One process writes at a time, because two of them could send two versions of a document in the wrong
order.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Final

from service_kit import Database

from search_indexer import repository
from search_indexer.engine import ChangeRefusedError, DocumentIndex, ExternalIndex
from search_indexer.lease import Lease
from search_indexer.repository import PendingChange

logger = logging.getLogger(__name__)

_BATCH: Final = 1000
_BATCHES_PER_RUN: Final = 100
_REFUSED_AGAIN_AFTER: Final = timedelta(minutes=10)
# How often an index that nothing changes in is looked at, in case it was lost or created anew.
_LOOK_EVERY: Final = 30.0
# How long what was seen then counts while changes are sent. An index that was lost meanwhile is
# made by the first of them, and is noticed to be another one by the next look.
_TRUSTED_FOR: Final = 5.0

_Write = Callable[[DocumentIndex, Sequence[PendingChange]], Awaitable[None]]
_Refused = Callable[[PendingChange, ChangeRefusedError], Awaitable[None]]


class IndexWriter:
    """Writes to an external index, within `writing` only.

    Attributes:
        index: what searches use.
        engine: its name in `index_state`.
    """

    def __init__(self, database: Database, index: ExternalIndex, *, engine: str) -> None:
        self.index = index
        self.engine = engine
        self._database = database
        self._lease = Lease(database, engine)

    def writing(self, *, wait: float = 0.0) -> AbstractAsyncContextManager[bool]:
        """The right to write within the block; False while somebody else has it.

        Args:
            wait: seconds to wait for it.

        Raises:
            Outage: the database is away.
        """
        return self._lease.held(wait=wait)

    def check(self) -> None:
        """Call before a write.

        Raises:
            Outage: it is no longer certain that nobody else writes.
        """
        self._lease.check()

    async def adopt_index(self) -> None:
        """Creates the index where needed; one that was not known gets everything."""
        self.check()
        identity = await self.index.ensure_ready()
        async with self._database.transaction() as connection:
            adopted = await repository.adopt_index(
                connection, engine=self.engine, identity=identity
            )
        if adopted:
            logger.info("a new index is being filled", extra={"engine": self.engine})

    async def mark_filled(self) -> None:
        """The index has had everything."""
        async with self._database.transaction() as connection:
            await repository.mark_filled(connection, self.engine)

    async def begin_rebuild(self, job_id: str | None) -> None:
        """From now on a second index is told of changes too, for this job; None: no longer."""
        async with self._database.transaction() as connection:
            await repository.set_rebuilt_by(connection, engine=self.engine, job_id=job_id)
        self._lease.rebuilt_by = job_id

    async def drop_abandoned(self) -> None:
        """Deletes the second index of a rebuild that has ended without swapping it in."""
        if self._lease.rebuilt_by is None:
            return
        async with self._database.reading() as connection:
            ended = await repository.ended_rebuild(connection, self.engine)
        if ended is not None:
            await self.drop_successor()
            logger.info("an unfinished index was deleted", extra={"job_id": ended})

    async def drop_successor(self) -> None:
        """Deletes the second index; nothing is sent to it any more."""
        self.check()
        await self.begin_rebuild(None)
        await self.index.successor().drop()

    def rebuild_ended(self) -> None:
        """The second index is in place, and `rebuilt_by` is empty again."""
        self._lease.rebuilt_by = None

    async def send_pending(self, limit: int = _BATCH) -> int:
        """Sends the oldest pending changes; how many there were."""
        async with self._database.reading() as connection:
            changes = await repository.pending_changes(connection, limit)
        removed = [change for change in changes if change.document is None]
        whole = [change for change in changes if change.document and change.whole_document]
        figures = [change for change in changes if change.document and not change.whole_document]
        if changes:
            try:
                await self._apply(removed, whole, figures)
            except ChangeRefusedError:
                await self._send(removed, _remove)
                await self._send(whole, _replace)
                await self._send(figures, _update_figures)
            else:
                await self._settle(changes)
        return len(changes)

    async def send_all(self) -> None:
        """Sends everything that is pending; after that the index has had everything once."""
        for _ in range(_BATCHES_PER_RUN):
            if await self.send_pending() < _BATCH:
                await self.mark_filled()
                return

    async def fill(self, index: DocumentIndex, changes: Sequence[PendingChange]) -> None:
        """Adds documents to the second index; one that it refuses is sent again as a change."""
        await self._halving(changes, _replace, [index], self._send_again)

    async def _send(self, changes: Sequence[PendingChange], write: _Write) -> None:
        accepted = await self._halving(changes, write, self._indexes(), self._postpone)
        if accepted:
            await self._settle(accepted)

    async def _apply(
        self,
        removed: Sequence[PendingChange],
        whole: Sequence[PendingChange],
        figures: Sequence[PendingChange],
    ) -> None:
        self.check()
        results = await asyncio.gather(
            *(
                index.apply(
                    removed=[change.movie_id for change in removed],
                    documents=[(c.document, c.figures) for c in whole if c.document],
                    figures=[(change.movie_id, change.figures) for change in figures],
                )
                for index in self._indexes()
            ),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def _indexes(self) -> list[DocumentIndex]:
        rebuilding = self._lease.rebuilt_by is not None
        return [self.index, self.index.successor()] if rebuilding else [self.index]

    async def _settle(self, changes: Sequence[PendingChange]) -> None:
        async with self._database.transaction() as connection:
            await repository.settle(connection, changes)

    async def _halving(
        self,
        changes: Sequence[PendingChange],
        write: _Write,
        indexes: Sequence[DocumentIndex],
        refused: _Refused,
    ) -> list[PendingChange]:
        """Writes changes; one that is refused is found by halving. Those that were not."""
        if not changes:
            return []
        try:
            for index in indexes:
                self.check()
                await write(index, changes)
        except ChangeRefusedError as error:
            if len(changes) == 1:
                await refused(changes[0], error)
                return []
            middle = len(changes) // 2
            return [
                *await self._halving(changes[:middle], write, indexes, refused),
                *await self._halving(changes[middle:], write, indexes, refused),
            ]
        return list(changes)

    async def _postpone(self, change: PendingChange, error: ChangeRefusedError) -> None:
        logger.error(
            "a change was refused by the search engine",
            extra={"movie_id": change.movie_id, "reason": error.reason},
        )
        async with self._database.transaction() as connection:
            await repository.postpone(
                connection, change, error=error.reason, delay=_REFUSED_AGAIN_AFTER
            )

    async def _send_again(self, change: PendingChange, error: ChangeRefusedError) -> None:
        logger.warning(
            "a new index refused a document",
            extra={"movie_id": change.movie_id, "reason": error.reason},
        )
        async with self._database.transaction() as connection:
            await repository.mark(connection, [change.movie_id])


async def _remove(index: DocumentIndex, changes: Sequence[PendingChange]) -> None:
    await index.remove([change.movie_id for change in changes])


async def _replace(index: DocumentIndex, changes: Sequence[PendingChange]) -> None:
    await index.index([(change.document, change.figures) for change in changes if change.document])


async def _update_figures(index: DocumentIndex, changes: Sequence[PendingChange]) -> None:
    await index.update_figures([(change.movie_id, change.figures) for change in changes])


class IndexSync:
    """The background job; `run` is called again and again."""

    def __init__(self, database: Database, writer: IndexWriter) -> None:
        self._database = database
        self._writer = writer
        self._looked_at: float | None = None

    async def run(self) -> None:
        """Sends everything that is pending, unless somebody else does.

        Raises:
            Outage: the engine or the database is away; what is pending stays so.
        """
        if not await self._is_due():
            return
        async with self._writer.writing() as may_write:
            if may_write:
                await self._send_all()

    async def _send_all(self) -> None:
        if self._is_older_than(_TRUSTED_FOR):
            await self._writer.adopt_index()
            self._looked_at = time.monotonic()
        await self._writer.drop_abandoned()
        await self._writer.send_all()

    def _is_older_than(self, seconds: float) -> bool:
        return self._looked_at is None or time.monotonic() - self._looked_at > seconds

    async def _is_due(self) -> bool:
        if self._is_older_than(_LOOK_EVERY):
            return True
        async with self._database.reading() as connection:
            return await repository.is_pending(connection)
