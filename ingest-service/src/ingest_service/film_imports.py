"""Imports of films: the rows of a file become records, and these films."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import orjson
from service_kit import Conflict
from service_kit.jobs import RunningJob, Step

from ingest_service.announcing import announce_later
from ingest_service.film_rows import line_of_new
from ingest_service.formats import FilmFormat
from ingest_service.import_rows import Chunk, ChunkReader, RowSource, add_unusable
from ingest_service.import_runs import ImportRun
from ingest_service.items import remember_items
from ingest_service.ledger import (
    ContradictedError,
    Effect,
    Ledger,
    RefusedError,
    keys_of,
    may_be_fresh,
)
from ingest_service.merging import slot
from ingest_service.reading import JsonRow, Row
from ingest_service.records import Rejection, SourceRecord
from ingest_service.repository import (
    forget_unchanged,
    found_unchanged,
    open_ledger,
    remember_unchanged,
    save,
)
from ingest_service.storing import fact_of

# A dry run writes nothing, so that it has to remember itself which films the file has named.
_MAX_REMEMBERED: Final = 500_000


@dataclass(slots=True)
class FilmChunk(Chunk):
    """Rows that are films.

    `lines` holds a film's row, by its key, for records that may be all that is known of it;
    `items` the keys of films by the numbers that this set alone gives them.
    """

    records: list[tuple[SourceRecord, Row | JsonRow]] = field(
        default_factory=list[tuple[SourceRecord, Row | JsonRow]]
    )
    lines: dict[str, str] = field(default_factory=dict[str, str])
    items: dict[int, str] = field(default_factory=dict[int, str])

    @property
    def unlinked(self) -> bool:
        """Whether each record is a film's own, by a key that never stands for another one."""
        return 0 < len(self.records) == len(self.lines)


class FilmReader(ChunkReader[FilmChunk]):
    """Reads films.

    Args:
        job_id, at: the import that the records belong to.
    """

    def __init__(
        self, source: RowSource, file_format: FilmFormat, *, skip: int, job_id: str, at: datetime
    ) -> None:
        super().__init__(source, skip=skip)
        self._format = file_format
        self._job_id = job_id
        self._at = at

    def new_chunk(self) -> FilmChunk:
        return FilmChunk()

    def taker(self, chunk: FilmChunk) -> Callable[[Row | JsonRow], int]:
        read, records, lines = self._format.read, chunk.records, chunk.lines
        job_id, at, now = self._job_id, self._at, datetime.now(UTC)
        item_of = self._format.item_of if self._format.numbers_items else None

        def take(row: Row | JsonRow) -> int:
            found = read(row)
            if not isinstance(found, SourceRecord):
                return add_unusable(chunk, found)
            records.append((found, row))
            if item_of is not None and (item := item_of(row)) is not None:
                chunk.items[item] = found.key
            if found.key not in lines and may_be_fresh(found):
                line = lines[found.key] = line_of_new(found, at, job_id, now)
                return len(line)
            if isinstance(row, Row):
                return sum(map(len, row.cells))
            return len(orjson.dumps(found.fields))

        return take


class FilmImport(ImportRun[FilmChunk]):
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

    def open_reader(self, skip: int) -> FilmReader:
        return FilmReader(self._source, self._format, skip=skip, job_id=self._job_id, at=self._at)

    async def apply(self, chunk: FilmChunk, step: Step) -> tuple[Counter[str], list[Rejection]]:
        if chunk.items and not self._dry_run:
            await remember_items(step.work.connection, chunk.items)
        if await self._add_unseen(chunk, step):
            return Counter[str]({Effect.NEW: len(chunk.records)}), []
        return await self._merge(chunk, step)

    async def end(self, step: Step) -> None:
        await forget_unchanged(step.work.connection, self._job_id)

    async def _add_unseen(self, chunk: FilmChunk, step: Step) -> bool:
        """Add a chunk without looking for its films; False, and nothing done, if one is known.

        Most chunks of a first import: the primary key says all that looking would.
        """
        if self._seen is not None or not self._all_new or not chunk.unlinked:
            return False
        connection = step.work.connection
        ledger = Ledger([], {}, job_id=self._job_id)
        ledger.take_fresh((record for record, _ in chunk.records), self._at)
        try:
            async with connection.begin_nested():
                await save(connection, ledger, step.work.now, lines=chunk.lines)
        except Conflict:
            self._all_new = False
            return False
        await announce_later(connection, list(ledger.fresh), step.work.now)
        return True

    async def _merge(self, chunk: FilmChunk, step: Step) -> tuple[Counter[str], list[Rejection]]:
        """Bring a chunk together with the films that are known."""
        connection = step.work.connection
        records = [record for record, _ in chunk.records]
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
            _apply, ledger, chunk, self._at, self._format, self._seen
        )
        if self._seen is None:
            changes = await save(connection, ledger, step.work.now, lines=chunk.lines)
            present = [change.movie_id for change in changes if change.removed_reason is None]
            await announce_later(connection, [*ledger.fresh, *present], step.work.now)
            await remember_unchanged(connection, self._job_id, ledger.found_unchanged)
            for change in changes:
                if change.removed_reason is not None:
                    step.work.emit(fact_of(change), cause=self._running.cause)
        return effects, refused


def _apply(
    ledger: Ledger,
    chunk: FilmChunk,
    at: datetime,
    file_format: FilmFormat,
    seen: dict[int, int] | None,
) -> tuple[Counter[str], list[Rejection]]:
    effects: Counter[str] = Counter()
    refused: list[Rejection] = []
    now_seen: dict[int, int] = {}
    for record, row in chunk.records:
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
