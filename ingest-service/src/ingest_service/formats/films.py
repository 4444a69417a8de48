"""Formats whose rows are films."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ingest_service.formats.columns import Format, Spec
from ingest_service.reading import JsonRow, Row
from ingest_service.records import SourceRecord


@dataclass(frozen=True, kw_only=True)
class FilmSpec(Spec[SourceRecord]):
    """A format of films, before it is bound to a file.

    Attributes:
        item_field: the field of a number that a film has in this data set only; empty where there
            is none. Such numbers are no keys, and the set's ratings name films by them.
    """

    item_field: str = ""


class FilmFormat(Format[SourceRecord]):
    """How the rows of one file of films are read."""

    def __init__(self, spec: FilmSpec, header: Sequence[str], *, objects: bool) -> None:
        super().__init__(spec, header, objects=objects)
        self._item_field: Final = spec.item_field

    @property
    def numbers_items(self) -> bool:
        """Whether its films have numbers that only the ratings of the same set know."""
        return bool(self._item_field)

    def item_of(self, row: Row | JsonRow) -> int | None:
        """That number of a film whose row was read."""
        number = self.value(row, self._item_field)
        return number if isinstance(number, int) else None
