"""What a source says of a film: the common coin of every way into the catalogue. Values, no I/O.

A film is the merge of its records (see `merging`), one for each thing that said something of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple


class Source(StrEnum):
    """Who said it. Of two that know a field, the one that stands first here is believed."""

    TMDB = "tmdb"
    """TMDB's API."""
    TMDB_FILE = "tmdb-file"
    """A data set made from TMDB, with TMDB's ids."""
    TMDB_CREDITS = "tmdb-credits"
    """Cast and crew by TMDB's ids, kept apart because they come in a file of their own."""
    TABLE_ADDITION = "table-addition"
    """A row of a generic table that adds to a film without naming it."""
    TABLE = "table"
    """The documented generic table, or the upload format of the IMDB content system."""
    IMDB_BASICS = "imdb-basics"
    IMDB_RATINGS = "imdb-ratings"
    MOVIELENS = "movielens"
    MOVIELENS_LINKS = "movielens-links"


class SourceRecord(NamedTuple):
    """One row, normalised.

    Attributes:
        source: who says it.
        key: the film's key at that source, the best that the row has: `tmdb-862` if it bears a TMDB
            id, else `imdb-tt0114709`, else `movielens-1`, else `title-toy-story-1995`.
        links: other keys that the row says are the same film (never `title-` ones).
        fields: what the row knows of the fields of `moviemetric_contracts.Movie`, as JSON values:
            a date is `YYYY-MM-DD`, a tuple of names is a list, `cast` and `crew` are lists of
            objects. Unknown fields are absent: no None, no empty string or list, no 0 that means
            unknown. Never `movie_id`, `tmdb_id`, `imdb_id`, `aliases`, `fetched_at` (they follow
            from the keys and the time). `vote_average` and `vote_count` come both or neither;
            `adult` only when true. Without a `title` it adds to a film that another record names.
    """

    source: Source
    key: str
    links: tuple[str, ...]
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that is wrong: where and why, and the row as it was, so that it can be mended.

    Attributes:
        line: the physical line of the file on which the row begins; the header is line 1.
        column: the header's name of the column that is wrong; None when it is the whole row.
        reason: for people; says what was expected.
        text: the row's cells as they were read, cut where they are monstrous.
        whole: whether `text` is all of what the row says, so that it can be tried again.
    """

    line: int
    column: str | None
    reason: str
    text: tuple[str, ...]
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that is right and no film, such as a sentinel or a television episode."""

    line: int
    reason: str
