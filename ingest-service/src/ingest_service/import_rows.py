"""The rows of an import in chunks: read, and understood as records, rejections or nothing.

Everything here blocks and is meant for a worker thread.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import BinaryIO, Final, Protocol

import orjson

from ingest_service.film_rows import line_of_new
from ingest_service.formats import Format, recognise
from ingest_service.ledger import may_be_fresh
from ingest_service.reading import BadRow, JsonRow, Row, UnreadableFileError, open_table
from ingest_service.records import Rejection, Skipped, SourceRecord

# What a chunk holds at most: up to three of them are in memory.
ROWS_A_CHUNK: Final = 4_000
_TEXT_A_CHUNK: Final = 5_000_000
# Sentinels may stand before the first film of a JSON file.
_SAMPLED: Final = 20


@dataclass(slots=True)
class Chunk:
    """Some rows of a file; `bytes_read` of the whole file so far.

    `lines` holds a film's row, by its key, for records that may be all that is known of it.
    """

    rows: int = 0
    bytes_read: int = 0
    records: list[tuple[SourceRecord, Row | JsonRow]] = field(
        default_factory=list[tuple[SourceRecord, Row | JsonRow]]
    )
    lines: dict[str, str] = field(default_factory=dict[str, str])
    rejections: list[Rejection] = field(default_factory=list[Rejection])
    skipped: Counter[str] = field(default_factory=Counter[str])

    @property
    def unlinked(self) -> bool:
        """Whether each record is a film's own, by a key that never stands for another one."""
        return 0 < len(self.records) == len(self.lines)


class RowSource(Protocol):
    """Where the rows of an import come from."""

    format: Format

    def rows(self) -> Iterator[Row | JsonRow | BadRow]:
        """All of them, once. Raises UnreadableFileError where the file cannot be read on."""
        ...

    @property
    def bytes_read(self) -> int:
        """Of the file."""
        ...


class UploadedFile:
    """The rows of a file.

    Raises:
        UnreadableFileError: it is no table.
        UnknownFormatError: its columns are those of no known format.
    """

    def __init__(self, stream: BinaryIO, format_name: str) -> None:
        self._table = open_table(stream)
        self._rows = iter(self._table)
        self._first: list[Row | JsonRow | BadRow] = []
        self._broken: UnreadableFileError | None = None
        sample = self._sample() if self._table.kind == "json" else None
        self.format = recognise(self._table.header, json_sample=sample, name=format_name)

    def rows(self) -> Iterator[Row | JsonRow | BadRow]:
        yield from self._first
        if self._broken is not None:
            raise self._broken
        yield from self._rows

    @property
    def bytes_read(self) -> int:
        return self._table.bytes_read

    def _sample(self) -> Mapping[str, object]:
        try:
            for row in self._rows:
                self._first.append(row)
                if len(self._first) >= _SAMPLED:
                    break
        except UnreadableFileError as error:
            if not self._first:
                raise
            self._broken = error
        bodies = [row.body for row in self._first if isinstance(row, JsonRow)]
        return max(bodies, key=len) if bodies else {}


class RejectedRows:
    """The rejected rows of an earlier import, as a table that holds only them."""

    bytes_read = 0

    def __init__(
        self, rejections: Sequence[Rejection], *, header: Sequence[str], format_name: str
    ) -> None:
        self._rejections = rejections
        self.format = recognise(header, name=format_name)

    def rows(self) -> Iterator[Row | JsonRow | BadRow]:
        width = len(self.format.header)
        for rejection in self._rejections:
            # What could not be read has left marks in place of what stood there.
            if rejection.whole and len(rejection.text) == width:
                yield Row(rejection.line, list(rejection.text))
            else:
                yield BadRow(rejection.line, rejection.reason, rejection.text)


class ChunkReader:
    """Reads a source in chunks.

    Args:
        skip: rows that an earlier attempt has dealt with.
        job_id, at: the import that the records belong to.

    Attributes:
        problem: why the file could not be read to its end; None if it could.
    """

    def __init__(self, source: RowSource, *, skip: int, job_id: str, at: datetime) -> None:
        self._source = source
        self._job_id = job_id
        self._at = at
        self._rows = source.rows()
        self._skip = skip
        self.problem: str | None = None

    def next_chunk(self) -> Chunk | None:
        """The next rows; None at the end, or where the file cannot be read on."""
        chunk = Chunk()
        try:
            while self._skip > 0 and next(self._rows, None) is not None:
                self._skip -= 1
            self._skip = 0
            self._read_into(chunk)
        except UnreadableFileError as error:
            self.problem = str(error)
        chunk.bytes_read = self._source.bytes_read
        return chunk if chunk.rows else None

    def _read_into(self, chunk: Chunk) -> None:
        read, records, lines = self._source.format.read, chunk.records, chunk.lines
        now = datetime.now(UTC)
        length = 0
        for row in self._rows:
            chunk.rows += 1
            if isinstance(row, BadRow):
                unread = Rejection(row.line, None, row.reason, row.text, whole=False)
                chunk.rejections.append(unread)
                length += sum(map(len, row.text))
            elif isinstance(found := read(row), SourceRecord):
                records.append((found, row))
                if found.key not in lines and may_be_fresh(found):
                    line = lines[found.key] = line_of_new(found, self._at, self._job_id, now)
                    length += len(line)
                elif isinstance(row, Row):
                    length += sum(map(len, row.cells))
                else:
                    length += len(orjson.dumps(found.fields))
            elif isinstance(found, Skipped):
                chunk.skipped[found.reason] += 1
            else:
                chunk.rejections.append(found)
                length += sum(map(len, found.text))
            if chunk.rows >= ROWS_A_CHUNK or length > _TEXT_A_CHUNK:
                return
