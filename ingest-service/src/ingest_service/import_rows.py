"""The rows of an import in chunks, whatever it is that they say.

Everything here blocks and is meant for a worker thread.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Final, Generic, Protocol, TypeVar

from ingest_service.formats import FilmFormat, RatingFormat, recognise
from ingest_service.reading import BadRow, JsonRow, Row, UnreadableFileError, open_table
from ingest_service.records import Rejection, Skipped

# What a chunk holds at most, and after so many rejected rows it ends: up to three of them are in
# memory.
ROWS_A_CHUNK: Final = 4_000
TEXT_A_CHUNK: Final = 5_000_000
_REJECTIONS_A_CHUNK: Final = 10_000
# Sentinels may stand before the first film of a JSON file.
_SAMPLED: Final = 20


@dataclass(slots=True)
class Chunk:
    """Some rows of a file; `bytes_read` of the whole file so far."""

    rows: int = 0
    bytes_read: int = 0
    rejections: list[Rejection] = field(default_factory=list[Rejection])
    skipped: Counter[str] = field(default_factory=Counter[str])


C = TypeVar("C", bound=Chunk)


class RowSource(Protocol):
    """Where the rows of an import come from."""

    format: FilmFormat | RatingFormat

    def rows(self) -> Iterator[Row | JsonRow | BadRow]:
        """All of them, once. Raises UnreadableFileError where the file cannot be read on."""
        ...

    @property
    def bytes_read(self) -> int:
        """Of the file."""
        ...


class UploadedFile:
    """The rows of a file.

    Args:
        open_file: gives it from its beginning; more than once, for more than one reader.

    Raises:
        UnreadableFileError: it is no table.
        UnknownFormatError: its columns are those of no known format.
    """

    def __init__(self, open_file: Callable[[], BinaryIO], format_name: str) -> None:
        self.open_file = open_file
        self._table = open_table(open_file())
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


class ChunkReader(ABC, Generic[C]):
    """Reads a source in chunks.

    Args:
        skip: rows that an earlier attempt has dealt with.

    Attributes:
        problem: why the file could not be read to its end; None if it could.
    """

    rows_a_chunk = ROWS_A_CHUNK
    text_a_chunk = TEXT_A_CHUNK

    def __init__(self, source: RowSource, *, skip: int) -> None:
        self._source = source
        self._rows = source.rows()
        self._skip = skip
        self.problem: str | None = None

    def close(self) -> None:
        """Nothing more is wanted."""

    @abstractmethod
    def new_chunk(self) -> C:
        """One without rows."""

    @abstractmethod
    def taker(self, chunk: C) -> Callable[[Row | JsonRow], int]:
        """What understands a row as part of the chunk; how many characters the chunk grows by."""

    def next_chunk(self) -> C | None:
        """The next rows; None at the end, or where the file cannot be read on."""
        chunk = self.new_chunk()
        try:
            while self._skip > 0 and next(self._rows, None) is not None:
                self._skip -= 1
            self._skip = 0
            self._read_into(chunk)
        except UnreadableFileError as error:
            self.problem = str(error)
        chunk.bytes_read = self._source.bytes_read
        return chunk if chunk.rows else None

    def _read_into(self, chunk: C) -> None:
        take = self.taker(chunk)
        length = 0
        for row in self._rows:
            chunk.rows += 1
            if isinstance(row, BadRow):
                unread = Rejection(row.line, None, row.reason, row.text, whole=False)
                length += add_unusable(chunk, unread)
            else:
                length += take(row)
            if (
                chunk.rows >= self.rows_a_chunk
                or length > self.text_a_chunk
                or len(chunk.rejections) >= _REJECTIONS_A_CHUNK
            ):
                return


def add_unusable(chunk: Chunk, found: Rejection | Skipped) -> int:
    """A row that is wrong or says nothing; how many characters the chunk grows by."""
    if isinstance(found, Skipped):
        chunk.skipped[found.reason] += 1
        return 0
    chunk.rejections.append(found)
    return sum(map(len, found.text))
