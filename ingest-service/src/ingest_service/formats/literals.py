"""A list or object written in one cell: JSON, or a Python literal as pandas writes it.

Nothing is evaluated. `ast.literal_eval` only ever sees a text whose tokens, length and depth were
checked before, because a deep enough text can bring the interpreter itself down.
"""

import ast
import json
import re
from typing import Final

MAX_LENGTH: Final = 1_000_000
MAX_DEPTH: Final = 20

_QUOTED: Final = re.compile(r"'(?:[^'\\]|\\.)*+'|\"(?:[^\"\\]|\\.)*+\"", re.DOTALL)
_OUTSIDE_OF_QUOTES: Final = re.compile(
    r"(?:[\[\](){},:\s]|None|True|False|-?[0-9][0-9.eE+-]{0,30}+)*+"
)
_BRACKETS: Final = re.compile(r"[\[\](){}]")


def parse_literal(text: str) -> object:
    """The value that a cell holds.

    Raises:
        ValueError: it is neither JSON nor a Python literal of strings, numbers, True, False, None,
            lists, tuples and dicts; or too long or too deep.
    """
    if len(text) > MAX_LENGTH:
        msg = f"longer than {MAX_LENGTH:,} characters"
        raise ValueError(msg)
    try:
        return json.loads(text)
    except RecursionError:
        msg = "nested too deeply"
        raise ValueError(msg) from None
    except ValueError:
        return _parse_python(text)


def _parse_python(text: str) -> object:
    bare = _QUOTED.sub(" ", text)
    if not _OUTSIDE_OF_QUOTES.fullmatch(bare):
        msg = "neither JSON nor a Python literal"
        raise ValueError(msg)
    depth = 0
    for bracket in _BRACKETS.findall(bare):
        depth += 1 if bracket in "[({" else -1
        if depth > MAX_DEPTH:
            msg = "nested too deeply"
            raise ValueError(msg)
    try:
        return ast.literal_eval(text)
    except (SyntaxError, TypeError, RecursionError, MemoryError) as error:
        msg = "neither JSON nor a Python literal"
        raise ValueError(msg) from error
