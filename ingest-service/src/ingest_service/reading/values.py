"""What reading takes and gives. Values, no I/O."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class UnreadableFileError(Exception):
    """The file as a whole cannot be read, or not any further; `reason` is for people."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of anything is read before it is refused.

    Attributes:
        cell_characters: of one cell.
        row_characters: of one row, or one JSON object.
        row_lines: physical lines that one row may extend over (cells may hold line ends). So far
            goes the search for the end of a quote.
        columns: of the header.
        header_bytes: of the header, and of what stands before it.
        unpacked_bytes: of a compressed file, unpacked.
        ratio: of unpacked to compressed bytes; holds from the first 16 MiB on.
        text_characters: how much of a bad row is given with it.
    """

    cell_characters: int = 1_000_000
    row_characters: int = 4_000_000
    row_lines: int = 1_000
    columns: int = 1_000
    header_bytes: int = 64 * 1024
    unpacked_bytes: int = 8 * 1024**3
    ratio: int = 200
    text_characters: int = 64 * 1024


class Row(NamedTuple):
    """As many cells as the header has.

    Attributes:
        line: the physical line on which the row begins; the file begins with line 1.
        cells: as written, without quotes.
    """

    line: int
    cells: list[str]


class JsonRow(NamedTuple):
    """An object of a JSON file.

    Attributes:
        line: the number of the element, counted from 1, in an array; else the physical line.
        body: strings without NUL, at most 64 levels deep; numbers are int or float.
    """

    line: int
    body: dict[str, object]


class BadRow(NamedTuple):
    """A row that cannot be read.

    Attributes:
        line: as in `Row` and `JsonRow`.
        reason: for people.
        text: its cells, or its first line in one piece where there is no telling the cells apart.
            Cut to `Limits.text_characters`; what is no character is U+FFFD.
    """

    line: int
    reason: str
    text: tuple[str, ...]


def bad_row(line: int, reason: str, cells: Iterable[str], limits: Limits) -> BadRow:
    left = limits.text_characters
    text: list[str] = []
    for cell in cells:
        if left <= 0:
            text.append("…")
            break
        text.append(cell if len(cell) <= left else cell[:left] + "…")
        left -= len(cell) + 1
    return BadRow(line, reason, tuple(_UNSTORABLE.sub("\ufffd", cell) for cell in text))
