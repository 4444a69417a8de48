"""A format bound to one file: which column is which, and rows → what they say.

The columns are looked up once, when the header is known; a row then costs a loop over the columns
that are used. What one cell says does not depend on the others, except in `Spec.finish`, which
makes of the fields what the format is for: a film's record, or a rating.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar, cast

from ingest_service.formats.cells import CellError, Kind, storable
from ingest_service.reading import JsonRow, Row
from ingest_service.records import Rejection, Skipped

JSON_COLUMN: Final = "json"
"""The one column of the rejected rows of a JSON file, when they are given out as CSV."""

_MAX_TEXT: Final = 131_072  # a cell of a rejected row is kept up to this length

Fields = dict[str, Any]
T = TypeVar("T")


class Column(NamedTuple):
    """A column that a format reads.

    Attributes:
        name: in the header; case and surrounding blanks make no difference.
        field: where its value goes; a name with a colon is for `Spec.finish` only.
        kind: how a cell is read.
    """

    name: str
    field: str
    kind: Kind


class FormatInfo(NamedTuple):
    """What people should know of a format."""

    title: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    description: str


def _as_it_is(body: Mapping[str, object]) -> Mapping[str, object]:
    return body


def _no_sentinel(cells: Mapping[str, object]) -> str | None:
    del cells


@dataclass(frozen=True, kw_only=True)
class Spec(Generic[T]):
    """A format, before it is bound to a file; `T` is what a row of it says.

    Attributes:
        required: the columns that make a file one of this format.
        absent: columns that make it another one.
        columns: every column that is read, in the order in which a row is complained about.
        finish: what a row's fields say, or the reason why that is nothing; may raise CellError.
        sentinel: why a row that is refused is no row at all, by the texts of its columns.
        flat: an object of a JSON file with all that is read at its top level.
    """

    name: str
    title: str
    description: str
    required: tuple[str, ...]
    absent: frozenset[str] = frozenset()
    columns: tuple[Column, ...]
    finish: Callable[[Fields], T | str]
    sentinel: Callable[[Mapping[str, object]], str | None] = _no_sentinel
    flat: Callable[[Mapping[str, object]], Mapping[str, object]] = _as_it_is

    def info(self) -> FormatInfo:
        """What people should know of it."""
        optional = dict.fromkeys(
            column.name for column in self.columns if column.name not in self.required
        )
        return FormatInfo(self.title, self.required, tuple(optional), self.description)


def normal(name: str) -> str:
    """A column's name as it is compared."""
    return name.strip("\ufeff \t\r\n").casefold()


class Format(Generic[T]):
    """How the rows of one file are read.

    Attributes:
        name: which format it is.
        header: the names of the columns as they stand in the file; `("json",)` for a JSON file.
    """

    def __init__(self, spec: Spec[T], header: Sequence[str], *, objects: bool) -> None:
        """Bind a format to a file.

        Args:
            spec: the format.
            header: the names of the columns, or of what the objects of a JSON file hold.
            objects: whether the rows are JSON objects, also when they come in one cell each.
        """
        self.name: Final = spec.name
        self.header: Final = (JSON_COLUMN,) if objects else tuple(storable(name) for name in header)
        self._spec = spec
        self._objects = objects
        self._written = {normal(name): name for name in header}
        at = {normal(name): index for index, name in enumerate(header)}
        self._plan = tuple(
            (at[column.name], column.field, column.kind.text)
            for column in spec.columns
            if column.name in at
        )
        self._object_plan = tuple(
            (self._written.get(column.name, column.name), column) for column in spec.columns
        )

    def read(self, row: Row | JsonRow) -> T | Rejection | Skipped:
        """What a row says; never raises for what is in the row."""
        if self._objects:
            return self._read_object(row)
        if not isinstance(row, Row):
            msg = "a format of cells was given an object"
            raise TypeError(msg)
        cells = row.cells
        if len(cells) != len(self.header):
            reason = f"expected {len(self.header)} cells as in the header, got {len(cells)}"
            return Rejection(row.line, None, reason, self.original(row))
        fields: Fields = {}
        index = 0
        try:
            for index, field, read in self._plan:
                value = read(cells[index])
                if value is not None:
                    fields[field] = value
        except CellError as error:
            return self._refused(row, cells, error, self.header[index])
        try:
            made = self._spec.finish(fields)
        except CellError as error:
            return self._refused(row, cells, error, None)
        return Skipped(row.line, made) if isinstance(made, str) else made

    def value(self, row: Row | JsonRow, field: str) -> object:
        """What a row that was read says of one field, once more; None for a JSON object."""
        if isinstance(row, Row) and not self._objects:
            for index, name, read in self._plan:
                if name == field:
                    return read(row.cells[index])
        return None

    def refuse(self, row: Row | JsonRow, field: str, reason: str) -> Rejection:
        """A row that was read, but whose field cannot be right; `reason` says what was expected."""
        return Rejection(row.line, self._column_of(field), reason, self.original(row))

    def original(self, row: Row | JsonRow) -> tuple[str, ...]:
        """The cells of a row as they were read; of a JSON file one cell, the object's JSON.

        Cells are cut where they are monstrous, and what cannot be stored is left out.
        """
        if isinstance(row, Row):
            return tuple(_kept(cell) for cell in row.cells)
        return (_kept(json.dumps(row.body, ensure_ascii=False, default=str)),)

    def _refused(
        self, row: Row, cells: Sequence[str], error: CellError, column: str | None
    ) -> Rejection | Skipped:
        if not any(cell.strip() for cell in cells):
            return Skipped(row.line, "an empty line")
        named = {normal(name): cell for name, cell in zip(self.header, cells, strict=True)}
        if (reason := self._spec.sentinel(named)) is not None:
            return Skipped(row.line, reason)
        if error.field is not None:
            column = self._column_of(error.field)
        return Rejection(row.line, column, str(error), self.original(row))

    def _column_of(self, field: str) -> str | None:
        names = (column.name for column in self._spec.columns if column.field == field)
        return next((self._written[name] for name in names if name in self._written), None)

    def _read_object(self, row: Row | JsonRow) -> T | Rejection | Skipped:
        if isinstance(row, JsonRow):
            body: Mapping[str, object] = row.body
        elif (parsed := _object_in(row.cells)) is None:
            reason = "expected a JSON object in one cell"
            return Rejection(row.line, JSON_COLUMN, reason, self.original(row))
        else:
            body = parsed
        body = self._spec.flat(body)
        fields: Fields = {}
        key: str | None = None
        try:
            for key, column in self._object_plan:
                value = body.get(key, "" if column.name in self._spec.required else None)
                if value is None and column.name not in self._spec.required:
                    continue
                if value is None or isinstance(value, str):
                    found = column.kind.text(value or "")
                else:
                    found = column.kind.native(value)
                if found is not None:
                    fields[column.field] = found
            key = None
            made = self._spec.finish(fields)
        except CellError as error:
            if (reason := self._spec.sentinel(body)) is not None:
                return Skipped(row.line, reason)
            if error.field is not None:
                key = self._column_of(error.field)
            return Rejection(row.line, key, str(error), self.original(row))
        return Skipped(row.line, made) if isinstance(made, str) else made


def _object_in(cells: Sequence[str]) -> dict[str, object] | None:
    try:
        value: object = json.loads(cells[0]) if len(cells) == 1 else None
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def _kept(cell: str) -> str:
    return storable(f"{cell[:_MAX_TEXT]}…" if len(cell) > _MAX_TEXT else cell)
