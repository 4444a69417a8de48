"""One row of quoted cells (RFC 4180), read with care rather than with speed.

The csv module reads the rows that are as they should be. It cannot say where a row went wrong, and
takes a lone CR in an unquoted cell for an error: such rows come here.
"""

import re
from functools import lru_cache

_QUOTED = re.compile(r'"([^"]*+(?:""[^"]*+)*+)" *+')


class TextAfterQuoteError(Exception):
    """A closing quote has text after it.

    Attributes:
        column: index of the cell.
        lines: how many line ends stand between the opening quote and that text.
    """

    def __init__(self, column: int, lines: int) -> None:
        self.column = column
        self.lines = lines
        super().__init__(f"text after the closing quote of cell {column}")


class UnclosedQuoteError(Exception):
    """The text ends within a quoted cell, `column` by index."""

    def __init__(self, column: int) -> None:
        self.column = column
        super().__init__(f"cell {column} has no closing quote")


@lru_cache(maxsize=8)
def _ending(delimiter: str) -> re.Pattern[str]:
    return re.compile(f"[{re.escape(delimiter)}\n]")


def parse_row(text: str, delimiter: str) -> tuple[list[str], int]:
    """The cells of the row with which `text` begins, and where that row ends.

    A row ends at LF, CR LF or the end of the text; a CR elsewhere is a character like any other.

    Raises:
        UnclosedQuoteError: more text may mend it.
        TextAfterQuoteError: more text does not.
    """
    ending = _ending(delimiter)
    cells: list[str] = []
    at = 0
    while True:
        if text.startswith('"', at):
            match = _QUOTED.match(text, at)
            if match is None:
                raise UnclosedQuoteError(len(cells))
            cell, end = match[1].replace('""', '"'), match.end()
        else:
            match = ending.search(text, at)
            end = match.start() if match else len(text)
            cell = text[at:end]
            if cell.endswith("\r") and text[end : end + 1] in ("", "\n"):
                cell = cell[:-1]
        begin, at = at, end
        cells.append(cell)
        if at == len(text) or text[at] == "\n":
            return cells, at
        if text[at] == delimiter:
            at += 1
        elif text[at] == "\r" and text[at + 1 : at + 2] in ("", "\n"):
            return cells, at + 1
        else:
            raise TextAfterQuoteError(len(cells) - 1, text.count("\n", begin, at))
