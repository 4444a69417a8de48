"""A file that was recognised, and the rows in it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

from ingest_service.reading.delimited import quoted_rows, unquoted_rows
from ingest_service.reading.lines import text_lines
from ingest_service.reading.objects import array_rows, line_rows
from ingest_service.reading.recognition import (
    encoding_of,
    is_json,
    layout_of,
    refuse_what_is_no_text,
)
from ingest_service.reading.unpacking import Peekable, Source, lf_for_cr, utf8_from, without_bom
from ingest_service.reading.values import BadRow, JsonRow, Limits, Row, UnreadableFileError


@dataclass(eq=False)
class Table:
    """The rows of a file, to be iterated once.

    Attributes:
        header: the names of the columns as written, stripped; a column without a name is "". Empty
            for JSON.
        kind: `delimited` gives `Row`s, `json` gives `JsonRow`s; both give `BadRow`s.
        delimiter: `,` `;` `|` `::` or a tab; empty for JSON.
        encoding: `utf-8`, `utf-16-le` or `utf-16-be`. `latin-1`: MovieLens' files without a header,
            of which lines that are UTF-8 are read as such nevertheless.
        compressed: whether it is gzip.
    """

    header: tuple[str, ...]
    kind: Literal["delimited", "json"]
    delimiter: str
    encoding: str
    compressed: bool
    _source: Source = field(repr=False)
    _rows: Iterator[Row | JsonRow | BadRow] = field(repr=False)

    def __iter__(self) -> Iterator[Row | JsonRow | BadRow]:
        """The rows in their order, good and bad.

        Raises:
            UnreadableFileError: it cannot be read further than the rows that were given.
        """
        return self._rows

    @property
    def bytes_read(self) -> int:
        """Bytes taken from the stream so far; of a compressed file, compressed ones."""
        return self._source.bytes_read


def open_table(stream: BinaryIO, limits: Limits = Limits()) -> Table:  # noqa: B008  it is frozen
    """Recognise a file by its beginning.

    Args:
        stream: at its beginning; read on as the table is iterated, and left open.
        limits: how much of anything is too much.

    Raises:
        UnreadableFileError: it is no table, or none that can be read.
    """
    source = Source(stream, limits)
    unpacked = Peekable(source)
    sample = unpacked.peek(limits.header_bytes)
    if not sample and unpacked.failure is not None:
        raise unpacked.failure
    refuse_what_is_no_text(sample)
    encoding, bom = encoding_of(sample)
    blocks = without_bom(unpacked, bom) if bom else iter(unpacked)
    text = Peekable(blocks if encoding == "utf-8" else utf8_from(encoding, blocks))
    sample = text.peek(limits.header_bytes)
    whole = text.ended and len(sample) <= limits.header_bytes
    sample = sample[: limits.header_bytes]
    if is_json(sample):
        return Table((), "json", "", encoding, source.compressed, source, _objects(text, limits))
    blocks = iter(text)
    if b"\r" in sample and b"\n" not in sample:
        sample, blocks = sample.replace(b"\r", b"\n"), lf_for_cr(text)
    if b"\n" not in sample and text.failure is not None:
        raise text.failure
    layout = layout_of(sample, whole=whole, limits=limits)
    latin1 = not layout.header
    lines = text_lines(blocks, layout.delimiter, limits, latin1=latin1)
    rows = (quoted_rows if layout.quoted else unquoted_rows)(lines, layout, limits)
    return Table(
        layout.names,
        "delimited",
        layout.delimiter,
        "latin-1" if latin1 and encoding == "utf-8" else encoding,
        source.compressed,
        source,
        rows,
    )


def _objects(text: Peekable, limits: Limits) -> Iterator[JsonRow | BadRow]:
    sample = text.peek(limits.header_bytes).lstrip()
    if sample.startswith(b"["):
        return array_rows(text, limits)
    if sample.partition(b"\n")[0].strip() == b"{":
        raise UnreadableFileError(
            "The file is one JSON object over several lines; upload an array of objects, or JSON "
            "lines with an object in each."
        )
    return line_rows(text, limits)
