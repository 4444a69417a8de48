"""Imports of films: the rows of a file become records, and these films."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import orjson
from service_kit import Conflict
from service_kit.jobs import RunningJob, Step

from ingest_service.announcing import announce_later
from ingest_service.film_reading import FilmChunk, FilmReader, PackedFilmChunk, ReadRecord
from ingest_service.formats import FilmFormat
from ingest_service.import_rows import RowSource, UploadedFile
from ingest_service.import_runs import ImportRun, ReadAgain
from ingest_service.items import remember_items
from ingest_service.ledger import (
    ContradictedError,
    Effect,
    Ledger,
    RefusedError,
    keys_of,
)
from ingest_service.merging import slot
from ingest_service.reading_process import ReadingProcess
from ingest_service.records import Rejection, SourceRecord
from ingest_service.repository import (
    add_unseen,
    forget_unchanged,
    found_unchanged,
    open_ledger,
    remember_unchanged,
    save,
)
from ingest_service.storing import fact_of

# A dry run writes nothing, so that it has to remember itself which films the file has named.
_MAX_REMEMBERED: Final = 500_000
# In bytes. A smaller file is read sooner than a process has started.
_FOR_ITS_OWN_PROCESS: Final = 4_000_000

_AnyChunk = FilmChunk | PackedFilmChunk


class FilmImport(ImportRun[_AnyChunk]):
    """One attempt at one file of films.

    Args:
        retried: the imports whose rejected rows this one tries.
    """

    def __init__(
        self,
        running: RunningJob,
        source: RowSource,
        file_format: FilmFormat,
        *,
        size: int | None,
        retried: Sequence[str],
    ) -> None:
        super().__init__(running, file_format, effects=tuple(Effect), size=size)
        self._source = source
        self._format = file_format
        self._at = running.job.created_at
        self._retried = retried
        self._seen: dict[int, int] | None = {} if self._dry_run else None
        # Whether the last chunk held nothing that was known.
        self._all_new = True
        # Of a first import nobody asks for them, so another process need not hand them over.
        self._records_wanted = self._dry_run

    def open_reader(self, skip: int) -> FilmReader | ReadingProcess:
        source, job_id, at = self._source, self._job_id, self._at
        if isinstance(source, UploadedFile) and (self._size or 0) >= _FOR_ITS_OWN_PROCESS:
            return ReadingProcess(
                source.open_file,
                self._format.name,
                skip=skip,
                job_id=job_id,
                at=at,
                with_records=self._records_wanted,
            )
        return FilmReader(source, self._format, skip=skip, job_id=job_id, at=at)

    async def apply(self, chunk: _AnyChunk, step: Step) -> tuple[Counter[str], list[Rejection]]:
        if chunk.items and not self._dry_run:
            await remember_items(step.work.connection, chunk.items)
        if await self._add_unseen(chunk, step):
            return Counter[str]({Effect.NEW: len(chunk.keys)}), []
        return await self._merge(chunk, step)

    async def end(self, step: Step) -> None:
        await forget_unchanged(step.work.connection, self._job_id)

    async def _add_unseen(self, chunk: _AnyChunk, step: Step) -> bool:
        """Add a chunk without looking for its films; False, and nothing done, if one is known.

        Most chunks of a first import: the primary key says all that looking would.
        """
        if self._seen is not None or not self._all_new or not chunk.unlinked:
            return False
        connection = step.work.connection
        try:
            async with connection.begin_nested():
                await add_unseen(connection, chunk.block)
        except Conflict:
            self._all_new = False
            return False
        await announce_later(connection, chunk.keys, step.work.now)
        return True

    async def _merge(self, chunk: _AnyChunk, step: Step) -> tuple[Counter[str], list[Rejection]]:
        """Bring a chunk together with the films that are known."""
        connection = step.work.connection
        if chunk.records is None:
            self._records_wanted = True
            raise ReadAgain
        read = chunk.records
        records = [record for record, _ in read]
        ledger = await open_ledger(
            connection,
            keys_of(records),
            job_id=self._job_id,
            unchanged=await found_unchanged(connection, self._job_id, records)
            if self._tally.effects[Effect.UNCHANGED]
            else frozenset(),
            retried=self._retried,
        )
        self._all_new = not ledger.films
        effects, refused = await asyncio.to_thread(
            _apply, ledger, read, self._at, self._format, self._seen
        )
        if self._seen is None:
            changes = await save(connection, ledger, step.work.now)
            present = [change.movie_id for change in changes if change.removed_reason is None]
            await announce_later(connection, [*ledger.fresh, *present], step.work.now)
            await remember_unchanged(connection, self._job_id, ledger.found_unchanged)
            for change in changes:
                if change.removed_reason is not None:
                    step.work.emit(fact_of(change), cause=self._running.cause)
        return effects, refused


def _apply(
    ledger: Ledger,
    read: Sequence[ReadRecord],
    at: datetime,
    file_format: FilmFormat,
    seen: dict[int, int] | None,
) -> tuple[Counter[str], list[Rejection]]:
    effects: Counter[str] = Counter()
    refused: list[Rejection] = []
    now_seen: dict[int, int] = {}
    for record, row in read:
        try:
            if seen is not None:
                name, content = hash(slot(record.source, record.key)), _digest(record)
                if name in seen:
                    if seen[name] != content:
                        raise ContradictedError(record.key)
                    effects[Effect.REPEATED] += 1
                    continue
                now_seen.setdefault(name, content)
            effects[ledger.apply(record, at)] += 1
        except RefusedError as error:
            refused.append(Rejection(row.line, None, str(error), file_format.original(row)))
    # Within a chunk the ledger tells itself which film was named before.
    if seen is not None and len(seen) < _MAX_REMEMBERED:
        seen |= now_seen
    return effects, refused


def _digest(record: SourceRecord) -> int:
    return hash(orjson.dumps(record.fields, option=orjson.OPT_SORT_KEYS))
