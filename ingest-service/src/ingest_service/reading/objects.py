"""Rows of JSON files: an array of objects, or JSON lines (an object in each line).

An array is divided into its elements first, by its brackets, and each element is parsed by itself:
so a broken one is a bad row like any other. A streaming parser would not do here: it holds the path
of names that leads to where it is, which for deep nesting grows with the square of the file.
"""

import re
from collections.abc import Iterable, Iterator
from typing import cast

import orjson

from ingest_service.reading.lines import whole_lines
from ingest_service.reading.values import BadRow, JsonRow, Limits, UnreadableFileError, bad_row

_DEEPEST = 64
_STRING = rb'"[^"\\]*+(?:\\[\x00-\xff][^"\\]*+)*+"'
_NO_BRACKET = rb'[^"\[\]{}]*+'
_TO_BRACKET = re.compile(_NO_BRACKET + rb"(?:" + _STRING + _NO_BRACKET + rb")*+[\[\]{}]")
_SCALAR = re.compile(rb"(?:" + _STRING + rb"|[^\s,\[\]{}\"])++(?=[\s,\[\]{}\"])")
_BLANKS = re.compile(rb"[ \t\r\n]*+")
_OPENING = b"[{"


def array_rows(blocks: Iterable[bytes], limits: Limits) -> Iterator[JsonRow | BadRow]:
    """The elements of an array, one at a time."""
    text = _Text(iter(blocks), limits)
    text.take(b"[")
    while text.peek() != b"]":
        text.elements += 1
        yield _parsed(text.elements, text.element(), limits)
        if text.peek() != b"]":
            text.take(b",")
    text.take(b"]")
    if found := text.peek():
        raise text.broken(f"{_shown(found)} after the end of the array")


class _Text:
    """What is not read yet of an array, as far as it is at hand.

    Attributes:
        elements: how many have been come to.
    """

    def __init__(self, blocks: Iterator[bytes], limits: Limits) -> None:
        self._blocks = blocks
        self._limits = limits
        self._data = b""
        self._at = 0
        self._dropped = 0
        self.elements = 0

    def peek(self) -> bytes:
        """The next byte that is not blank; empty at the end of the file."""
        while True:
            if blanks := _BLANKS.match(self._data, self._at):
                self._at = blanks.end()
            if self._at < len(self._data):
                return self._data[self._at : self._at + 1]
            if not self._more():
                return b""

    def take(self, wanted: bytes) -> None:
        if (found := self.peek()) != wanted:
            raise self.broken(f"{_shown(found)} where {_shown(wanted)} is expected")
        self._at += 1

    def element(self) -> bytes:
        if self.peek() not in (b"{", b"["):
            while not (scalar := _SCALAR.match(self._data, self._at)):
                if not self._more():
                    raise self.broken("no element where one is expected")
            self._at = scalar.end()
            return scalar[0]
        depth, at = 0, self._at
        while True:
            while bracket := _TO_BRACKET.match(self._data, at):
                at = bracket.end()
                depth += 1 if self._data[at - 1] in _OPENING else -1
                if depth == 0:
                    element = self._data[self._at : at]
                    self._at = at
                    return element
            at -= self._at
            if not self._more():
                raise self.broken("it ends within the next element")
            at += self._at

    def _more(self) -> bool:
        """Have more of the file at hand: at least as much again as there is left, if there is."""
        left = len(self._data) - self._at
        if left > self._limits.row_characters:
            raise UnreadableFileError(
                f"Element {self.elements:,} of the JSON array is larger than "
                f"{self._limits.row_characters:,} bytes, or one of its brackets or quotes is never "
                "closed; mend it, or upload JSON lines with an object in each."
            )
        parts = [self._data[self._at :]]
        added = 0
        while added <= left and (block := next(self._blocks, None)) is not None:
            parts.append(block)
            added += len(block)
        self._dropped += self._at
        self._data = b"".join(parts)
        self._at = 0
        return added > 0

    def broken(self, how: str) -> UnreadableFileError:
        return UnreadableFileError(
            f"The JSON array is broken after element {self.elements:,}, at byte "
            f"{self._dropped + self._at + 1:,}: {how}. Mend it there, or upload JSON lines with an "
            "object in each."
        )


def line_rows(blocks: Iterable[bytes], limits: Limits) -> Iterator[JsonRow | BadRow]:
    """The objects of a file that has one in each line."""
    number = 0
    for data, too_long in whole_lines(blocks, limits.row_characters):
        for line in data.removesuffix(b"\n").split(b"\n"):
            number += 1
            if too_long:
                reason = f"the line is longer than {limits.row_characters:,} bytes"
                yield bad_row(number, reason, (_text(line),), limits)
            elif line.strip():
                yield _parsed(number, line, limits)


def _parsed(number: int, text: bytes, limits: Limits) -> JsonRow | BadRow:
    try:
        element: object = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return bad_row(number, f"no valid JSON: {error.msg}", (_text(text),), limits)
    if isinstance(element, dict):
        body = cast("dict[str, object]", element)
        # Most objects show by their text that there is no flaw to be looked for.
        harmless = text.count(b"[") + text.count(b"{") <= _DEEPEST and b"\\u0000" not in text
        reason = None if harmless else _flaw(body)
        if reason is None:
            return JsonRow(number, body)
    else:
        kind = next((name for type_, name in _KINDS if isinstance(element, type_)), "a number")
        reason = f"{kind} where an object is expected"
    return bad_row(number, reason, (_text(text),), limits)


_KINDS = ((list, "an array"), (str, "a string"), (bool, "a boolean"), (type(None), "null"))


def _flaw(body: dict[str, object]) -> str | None:
    level: list[object] = [body]
    for _ in range(_DEEPEST):
        below: list[object] = []
        for value in level:
            if type(value) is str:
                if "\0" in value:
                    return "a NUL character in a string: remove it"
            elif type(value) is dict:
                fields = cast("dict[str, object]", value)
                below.extend(fields)
                below.extend(fields.values())
            elif type(value) is list:
                below.extend(cast("list[object]", value))
        if not below:
            return None
        level = below
    return f"nested more than {_DEEPEST} levels deep"


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")


def _shown(found: bytes) -> str:
    return f"`{_text(found)}`" if found else "the end of the file"
