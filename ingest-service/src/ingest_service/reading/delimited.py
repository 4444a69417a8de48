"""Rows of delimited files. Rows that are as they should be take the short way, others a long one.

A quote that is never closed must not swallow the rest of the file. So a row over several lines is
taken as such only if it proves right; else its first line is the bad row, and reading goes on with
the line after that one.
"""

import csv
import re
from collections.abc import Iterable, Iterator

from ingest_service.reading.lines import MOST_DELIMITERS, TOO_LONG, TOO_MANY_CELLS, Lines
from ingest_service.reading.quoting import TextAfterQuoteError, UnclosedQuoteError, parse_row
from ingest_service.reading.recognition import Layout
from ingest_service.reading.values import BadRow, Limits, Row, bad_row

_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
# Lines are read again after a quote that is never closed. A file made of such quotes would be read
# a thousand times over: beyond this many characters in vain, cells over several lines are refused.
_IN_VAIN_AT_LEAST = 64 * 1024**2
_IN_VAIN_PER_CHARACTER = 8
_IN_VAIN_PER_LINE = 16


def unquoted_rows(
    blocks: Iterable[Lines], layout: Layout, limits: Limits
) -> Iterator[Row | BadRow]:
    """Rows of a file that knows no quotes: a line is a row."""
    delimiter, width = layout.delimiter, len(layout.names)
    last = layout.header[-1] if layout.header else None
    judge = _Judge(layout, limits)
    number = 0
    for lines, suspect in blocks:
        for line in lines:
            number += 1
            if number <= layout.lines:
                continue
            cells = (line[:-1] if line.endswith("\r") else line).split(delimiter)
            if len(cells) == width and not suspect and cells[-1] != last and any(cells):
                yield Row(number, cells)
            elif (row := judge.row(number, cells)) is not None:
                yield row


def quoted_rows(blocks: Iterable[Lines], layout: Layout, limits: Limits) -> Iterator[Row | BadRow]:
    """Rows whose cells may be quoted, and hold delimiters and line ends then (RFC 4180)."""
    delimiter, width, last = layout.delimiter, len(layout.names), layout.header[-1]
    window = _Window(iter(blocks), delimiter, limits)
    window.skip(layout.lines)
    reading = _CarefulReading(window, layout, limits)
    while True:
        if window.start == len(window.lines):
            if not window.fill():
                return
            if (rows := window.rows()) is not None:
                for start, cells in enumerate(rows):
                    if len(cells) == width and cells[-1] != last and any(cells):
                        yield Row(window.number + start, cells)
                        continue
                    window.start, window.next = start, start + 1
                    if (row := reading.row()) is not None:
                        yield row
                window.start = window.next = len(rows)
                continue
        reader = csv.reader(window.feed(), delimiter=delimiter, strict=True)
        try:
            for cells in reader:
                start = window.start
                if (
                    len(cells) == width
                    and window.next == start + 1
                    and not window.suspect
                    and cells[-1] != last
                    and any(cells)
                ):
                    window.start = start + 1
                    yield Row(window.number + start, cells)
                elif (row := reading.row()) is not None:
                    yield row
        except (csv.Error, _RowTooLargeError):
            if (row := reading.row()) is not None:
                yield row


class _RowTooLargeError(Exception):
    pass


class _Window:
    """The lines of the row that is being read, and those after it that are at hand.

    Attributes:
        lines: the window.
        number: the physical line number of the first of them.
        start: index of the line with which the present row begins.
        next: index of the line that is read next.
        suspect: whether some of the lines may hold what a row must not.
        most_lines: that a row may have.
    """

    def __init__(self, blocks: Iterator[Lines], delimiter: str, limits: Limits) -> None:
        self._blocks = blocks
        self._delimiter = delimiter
        self._delimiters = 0  # after the first line of the present row
        self._limits = limits
        self._read = 0
        self._in_vain = 0
        self.lines: list[str] = []
        self.number = 1
        self.start = 0
        self.next = 0
        self.suspect = False
        self.most_lines = limits.row_lines

    def rows(self) -> list[list[str]] | None:
        """The cells of all lines, if each line is a row; as nearly all are, and this is quick."""
        if self.suspect:
            return None
        try:
            rows = list(csv.reader(self.lines, delimiter=self._delimiter, strict=True))
        except csv.Error:
            return None
        # A row over several lines would be one row less than there are lines.
        return rows if len(rows) == len(self.lines) else None

    def feed(self) -> Iterator[str]:
        """The lines from the next one on, without their ends, to the end of the window or its row.

        Raises:
            _RowTooLargeError: the present row is larger than a row may be.
        """
        while True:
            lines = self.lines
            while self.next < len(lines):
                line = lines[self.next]
                if self.next > self.start:
                    self._go_on_within_a_row(line)
                self.next += 1
                yield line
            if self.start == self.next:
                return
            if self._pending_characters() > self._limits.row_characters:
                raise _RowTooLargeError
            if not self.fill():
                return

    def _go_on_within_a_row(self, line: str) -> None:
        lines = self.next - self.start
        if lines == 1:
            self._delimiters = 0
        self._delimiters += line.count(self._delimiter)
        if lines >= self.most_lines or self._delimiters > MOST_DELIMITERS:
            raise _RowTooLargeError

    def _pending_characters(self) -> int:
        return sum(map(len, self.lines[self.start : self.next]))

    def fill(self) -> bool:
        """Let go of the rows that were read, and get more lines; False at the end of the file."""
        block = next(self._blocks, None)
        if block is None:
            return False
        pending = self.lines[self.start :]
        self.suspect = block.suspect or (bool(pending) and self.suspect)
        self.lines = pending + block.lines
        self._read += sum(map(len, block.lines)) + len(block.lines)
        self.number += self.start
        self.next -= self.start
        self.start = 0
        return True

    def skip(self, count: int) -> None:
        while len(self.lines) < count and self.fill():
            pass
        self.start = self.next = min(count, len(self.lines))

    def go_back(self) -> None:
        """Go on with the line after the first one of the present row."""
        again = self.lines[self.start + 1 : self.next]
        self._in_vain += sum(map(len, again)) + _IN_VAIN_PER_LINE * len(again)
        if self._in_vain > _IN_VAIN_AT_LEAST + _IN_VAIN_PER_CHARACTER * self._read:
            self.most_lines = 1
        self.start = self.next = self.start + 1


class _Judge:
    """Says what is wrong with a row whose cells are known."""

    def __init__(self, layout: Layout, limits: Limits) -> None:
        self._names = layout.names
        self._header = layout.header
        self._limits = limits

    def row(self, line: int, cells: list[str]) -> Row | BadRow | None:
        """The row, or what is wrong with it; None where there is nothing in it."""
        if not any(cell.strip() for cell in cells):
            return None
        width = len(self._names)
        if len(cells) > width and not any(cells[width:]):
            del cells[width:]
        reason = self._flaw(cells)
        return Row(line, cells) if reason is None else bad_row(line, reason, cells, self._limits)

    def column(self, index: int) -> str:
        if index < len(self._names) and self._names[index]:
            return f'column "{self._names[index]}"'
        return f"column {index + 1}"

    def far_too_many_cells(self) -> str:
        return f"has far more cells than the header, which has {len(self._names):,}"

    def _flaw(self, cells: list[str]) -> str | None:
        for index, cell in enumerate(cells):
            if found := _NOT_TEXT.search(cell):
                return self._not_text(found[0], index)
        for index, cell in enumerate(cells):
            if len(cell) > self._limits.cell_characters:
                return (
                    f"{self.column(index)} holds {len(cell):,} characters, "
                    f"at most {self._limits.cell_characters:,} are read"
                )
        if len(cells) != len(self._names):
            return f"has {_count(len(cells), 'cell')}, the header has {len(self._names):,}"
        if self._header and cells[-1] == self._header[-1]:
            first = cells[0].removeprefix("\ufeff")  # of a file that was appended to another one
            if [first, *cells[1:]] == self._header:
                return "the header again"
        return None

    def _not_text(self, found: str, index: int) -> str:
        if found == TOO_LONG:
            return f"the line is longer than {self._limits.row_characters:,} characters"
        if found == TOO_MANY_CELLS:
            return self.far_too_many_cells()
        if found == "\0":
            return f"a NUL character in {self.column(index)}: remove it"
        return (
            f"not UTF-8: byte 0x{ord(found) - 0xDC00:02x} in {self.column(index)}; "
            "save the file as UTF-8"
        )


class _CarefulReading:
    """Reads the row at the start of the window over again, without the csv module."""

    def __init__(self, window: _Window, layout: Layout, limits: Limits) -> None:
        self._window = window
        self._layout = layout
        self._limits = limits
        self._judge = _Judge(layout, limits)

    def row(self) -> Row | BadRow | None:
        """The row, or what is wrong with it; None where it is blank. Moves the window on."""
        window = self._window
        count = max(1, window.next - window.start)
        while True:
            self._reach(count)
            text = "\n".join(window.lines[window.start : window.next])
            if count > 1 and text.count(self._layout.delimiter) > 2 * MOST_DELIMITERS:
                return self._first_line_is_bad(self._judge.far_too_many_cells())
            try:
                cells, end = parse_row(text, self._layout.delimiter)
            except TextAfterQuoteError as error:
                return self._text_after_quote(error)
            except UnclosedQuoteError as error:
                got = window.next - window.start
                if (
                    got < count
                    or count >= window.most_lines
                    or (len(text) > self._limits.row_characters)
                ):
                    return self._unclosed(error.column)
                count = min(2 * count, window.most_lines)
            else:
                break
        lines = text.count("\n", 0, end) + 1
        window.next = window.start + lines
        if end > self._limits.row_characters:
            return self._first_line_is_bad(
                f"longer than {self._limits.row_characters:,} characters; "
                "perhaps a quote is never closed"
            )
        number = window.number + window.start
        row = self._judge.row(number, cells)
        if isinstance(row, BadRow) and lines > 1 and self._holds_whole_rows(window.start + 1):
            return self._first_line_is_bad(
                f"a quote is never closed (the row {row.reason} and extends over {lines:,} lines, "
                "of which some are rows by themselves)"
            )
        window.start = window.next
        return row

    def _reach(self, count: int) -> None:
        """Have `count` lines of the present row in the window, or as many as there are."""
        window = self._window
        while len(window.lines) - window.start < count and window.fill():
            pass
        window.next = min(window.start + count, len(window.lines))

    def _holds_whole_rows(self, begin: int) -> bool:
        for line in self._window.lines[begin : self._window.next]:
            try:
                cells, _ = parse_row(line, self._layout.delimiter)
            except (TextAfterQuoteError, UnclosedQuoteError):
                continue
            if len(cells) == len(self._layout.names) > 1:
                return True
        return False

    def _text_after_quote(self, error: TextAfterQuoteError) -> BadRow:
        column = self._judge.column(error.column)
        if error.lines:
            return self._first_line_is_bad(
                f"a quote in {column} is never closed (the next quote, {error.lines:,} "
                f"{'line' if error.lines == 1 else 'lines'} further on, has text after it)"
            )
        return self._first_line_is_bad(
            f"text after the closing quote in {column}: a quote within a quoted cell is doubled"
        )

    def _unclosed(self, index: int) -> BadRow:
        where = f"a quote in {self._judge.column(index)} is never closed"
        if self._window.most_lines == 1:
            where += (
                " on this line; cells over several lines are not read any more, as too many quotes "
                "in this file are never closed"
            )
        return self._first_line_is_bad(where)

    def _first_line_is_bad(self, reason: str) -> BadRow:
        window = self._window
        number, line = window.number + window.start, window.lines[window.start]
        window.go_back()
        return bad_row(number, reason, (line.removesuffix("\r"),), self._limits)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
