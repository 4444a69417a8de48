"""From blocks of bytes to physical lines, which end with LF. A line is bounded, however long it is.

Bytes that are no UTF-8 become lone surrogates (`surrogateescape`), and what stands for a line that
is not read bears a mark that is one as well: no valid text has any, so they can be told in a row
afterwards, without a look at each line on the way.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ingest_service.reading.unpacking import BLOCK_BYTES
from ingest_service.reading.values import Limits

TOO_LONG = "\ud800"
TOO_MANY_CELLS = "\ud801"
_SHOWN = 1_000
MOST_DELIMITERS = 100_000
"""In a row. Text with more is no table, and its cells would take many times the memory of it."""


class Bytes(NamedTuple):
    """Whole lines with their ends; or the beginning of a single one that is too long."""

    data: bytes
    too_long: bool


def whole_lines(blocks: Iterable[bytes], longest: int) -> Iterator[Bytes]:
    """The same bytes, divided at line ends; the last line may have none."""
    held: list[bytes] = []
    size = 0
    dropping = False
    for whole_block in blocks:
        block = whole_block
        if dropping:
            end = block.find(b"\n") + 1
            if not end:
                continue
            block = block[end:]
            dropping = False
        end = block.rfind(b"\n") + 1
        if end:
            held.append(block[:end])
            yield Bytes(b"".join(held), too_long=False)
            held = []
            size = 0
        if end < len(block):
            held.append(block[end:])
            size += len(block) - end
        if size > longest:
            yield Bytes(b"".join(held)[:_SHOWN] + b"\n", too_long=True)
            held = []
            size = 0
            dropping = True
    if held:
        yield Bytes(b"".join(held), too_long=False)


class Lines(NamedTuple):
    """Attributes:
    lines: without LF; a CR before it is left.
    suspect: whether a cell may be too long or hold what it must not: bytes that are no UTF-8,
        NUL, a mark.
    """

    lines: list[str]
    suspect: bool


def text_lines(
    blocks: Iterable[bytes], delimiter: str, limits: Limits, *, latin1: bool
) -> Iterator[Lines]:
    """Lines of text.

    Args:
        blocks: UTF-8 by and large.
        delimiter: of cells.
        limits: a line is as long as a row may be, at most.
        latin1: whether a line that is no UTF-8 is Latin-1; it is suspect otherwise.
    """
    decode = _utf8_or_latin1 if latin1 else _utf8
    for data, too_long in whole_lines(blocks, limits.row_characters):
        text, suspect = decode(data)
        lines = text.split("\n")
        if not lines[-1]:
            lines.pop()
        if too_long:
            yield Lines([_stand_in(lines[0], TOO_LONG)], suspect=True)
            continue
        if len(text) > 2 * BLOCK_BYTES:
            lines = [_unless_monstrous(line, delimiter) for line in lines]
            suspect = True
        yield Lines(lines, suspect or "\0" in text or len(text) > limits.cell_characters)


_Decode = Callable[[bytes], tuple[str, bool]]


def _utf8(data: bytes) -> tuple[str, bool]:
    try:
        return data.decode(), False
    except UnicodeDecodeError:
        return data.decode("utf-8", "surrogateescape"), True


def _utf8_or_latin1(data: bytes) -> tuple[str, bool]:
    try:
        return data.decode(), False
    except UnicodeDecodeError:
        return "\n".join(map(_line_utf8_or_latin1, data.split(b"\n"))), False


def _line_utf8_or_latin1(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _unless_monstrous(line: str, delimiter: str) -> str:
    if len(line) > BLOCK_BYTES and line.count(delimiter) > MOST_DELIMITERS:
        return _stand_in(line, TOO_MANY_CELLS)
    return line


def _stand_in(line: str, mark: str) -> str:
    return line[:_SHOWN].replace('"', "'") + mark  # a quote would open a cell over the next lines
