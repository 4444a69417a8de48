"""Rows of a file become films' records, in chunks. Nothing here knows of a database."""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

import orjson

from ingest_service.film_rows import line_of_new
from ingest_service.formats import FilmFormat
from ingest_service.import_rows import Chunk, ChunkReader, RowSource, add_unusable
from ingest_service.ledger import may_be_fresh
from ingest_service.reading import JsonRow, Row
from ingest_service.records import SourceRecord

ReadRecord = tuple[SourceRecord, Row | JsonRow]


@dataclass
class FilmChunk(Chunk):
    """Rows that are films.

    Attributes:
        records: with the rows that say so.
        lines: a film's row, by its key, for records that may be all that is known of it.
        items: the keys of films by the numbers that this set alone gives them.
    """

    records: list[ReadRecord] = field(default_factory=list[ReadRecord])
    lines: dict[str, str] = field(default_factory=dict[str, str])
    items: dict[int, str] = field(default_factory=dict[int, str])

    @property
    def unlinked(self) -> bool:
        """Whether each record is a film's own, by a key that never stands for another one."""
        return 0 < len(self.records) == len(self.lines)

    @property
    def keys(self) -> Sequence[str]:
        """The keys of `lines`, in their order."""
        return sorted(self.lines)

    @property
    def block(self) -> bytes:
        """All of `lines`, in the order of their keys."""
        return "".join([self.lines[key] for key in self.keys]).encode()

    def packed(self, *, with_records: bool) -> "PackedFilmChunk":
        """For another process; the records of an unlinked chunk only where they are wanted."""
        unlinked = self.unlinked
        return PackedFilmChunk(
            rows=self.rows,
            bytes_read=self.bytes_read,
            rejections=self.rejections,
            skipped=self.skipped,
            items=self.items,
            unlinked=unlinked,
            keys=self.keys if unlinked else (),
            block=self.block if unlinked else b"",
            packed_records=pickle.dumps(self.records, pickle.HIGHEST_PROTOCOL)
            if with_records or not unlinked
            else None,
        )


@dataclass(kw_only=True)
class PackedFilmChunk(Chunk):
    """A `FilmChunk` as it comes out of another process.

    Of a chunk that is `unlinked` mostly `keys` and `block` are all that is asked for. Packing the
    records takes half as long as reading them did, so they are left out until somebody wants them.
    """

    items: dict[int, str]
    unlinked: bool
    keys: Sequence[str]
    block: bytes
    packed_records: bytes | None

    @cached_property
    def records(self) -> list[ReadRecord] | None:
        """As of a `FilmChunk`; None: left out."""
        if self.packed_records is None:
            return None
        # Packed by the process that this one has started.
        return pickle.loads(self.packed_records)  # noqa: S301


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
