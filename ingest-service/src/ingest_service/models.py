"""The tables of schema `catalog`, and why each constraint and index is there.

    movies            one row per film: its records, and the columns that lists need
    film_keys         which film a key stands for that is not `tmdb-` or `title-`
    source_documents  what TMDB sent, as it was received
    announcements     films whose change is still to be published
    ingest_queue      films that a bulk run has still to fetch
    import_rejects    rows of imported files that were wrong
    import_unchanged  what a running import has found to be as it was
    movielens_items   which film a number of ml-100k is

What a film's columns hold is computed from its records (`merging`) in the same statement that
writes them. The migrations say the same in SQL; a test holds the two against each other.
"""

from typing import Any, Final

from sqlalchemy import (
    CheckConstraint,
    Column,
    ColumnElement,
    Identity,
    Index,
    MetaData,
    Table,
    text,
)
from sqlalchemy.dialects.postgresql import (
    ARRAY,
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE_PRECISION,
    INTEGER,
    SMALLINT,
    TEXT,
    TIMESTAMP,
)

metadata: Final = MetaData()
# Keys are ASCII: the collation "C" compares bytes, which is fast and the same everywhere.
_KEY: Final = TEXT(collation="C")
_TIME: Final = TIMESTAMP(timezone=True)

movies: Final = Table(
    "movies",
    metadata,
    Column("movie_id", _KEY, primary_key=True),
    # Breaks ties when films are sorted: new rows go to the end of each index, not all over it.
    Column("film_no", BIGINT, Identity(always=True), nullable=False),
    # Grows by one with each change, also through removal and return: who keeps a copy compares it.
    Column("revision", BIGINT, nullable=False),
    # When the content last differed from what was known; when TMDB was last asked.
    Column("updated_at", _TIME, nullable=False),
    Column("fetched_at", _TIME),
    Column("removed_at", _TIME),
    Column("removed_reason", TEXT),
    # JSON: {"<source>/<key>": {"at", "fields", "job"?, "repeated"?}}. Not of that type, which
    # would have it parsed once more: nothing looks inside.
    Column("records", TEXT, nullable=False),
    Column("aliases", ARRAY(_KEY), nullable=False),
    # From here on: the merged content, as far as lists need it. Without a title the film waits.
    Column("title", TEXT),
    Column("sort_title", _KEY),
    Column("imdb_id", TEXT),
    Column("original_title", TEXT),
    Column("original_language", TEXT),
    Column("release_date", DATE),
    Column("genres", ARRAY(TEXT), nullable=False),
    Column("genre_keys", ARRAY(TEXT), nullable=False),
    Column("vote_average", DOUBLE_PRECISION),
    Column("vote_count", BIGINT, nullable=False),
    Column("popularity", DOUBLE_PRECISION, nullable=False),
    Column("poster_path", TEXT),
    CheckConstraint("revision >= 1", name="movies_revision_counts_from_one"),
    CheckConstraint(
        "(removed_at IS NULL) = (removed_reason IS NULL)", name="movies_removal_has_a_reason"
    ),
    CheckConstraint(
        "(title IS NULL) = (sort_title IS NULL) AND title <> ''", name="movies_title_can_be_sorted"
    ),
    CheckConstraint("vote_average BETWEEN 0 AND 10", name="movies_vote_average_in_range"),
    CheckConstraint("vote_count >= 0 AND popularity >= 0", name="movies_counts_are_not_negative"),
)

film_keys: Final = Table(
    "film_keys",
    metadata,
    # A film whose own key is `imdb-` or `movielens-` stands here too: that row is what settles who
    # was first when such a key becomes another film's alias at the same time.
    Column("key", _KEY, primary_key=True),
    # There is a film for every key. No foreign key: it would be checked for each row of millions.
    Column("movie_id", _KEY, nullable=False),
    CheckConstraint("key !~ '^(tmdb|title)-' OR key <> movie_id", name="film_keys_are_claimable"),
)
Index("film_keys_of_film", film_keys.c.movie_id)

source_documents: Final = Table(
    "source_documents",
    metadata,
    Column("source", TEXT, primary_key=True),
    Column("source_id", TEXT, primary_key=True),
    # Text, not jsonb: JSON may hold \u0000 and lone surrogates, which jsonb refuses.
    Column("body", TEXT, nullable=False),
    Column("sha256", TEXT, nullable=False),
    Column("etag", TEXT),
    Column("fetched_at", _TIME, nullable=False),
    CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="source_documents_sha256_is_hex"),
)

announcements: Final = Table(
    "announcements",
    metadata,
    Column("id", BIGINT, Identity(always=True), primary_key=True),
    # Up to a few hundred: one row for each film would cost as much as the films.
    Column("movie_ids", ARRAY(_KEY), nullable=False),
    Column("created_at", _TIME, nullable=False),
)

ingest_queue: Final = Table(
    "ingest_queue",
    metadata,
    Column("job_id", TEXT, primary_key=True),
    Column("tmdb_id", INTEGER, primary_key=True),
    Column("position", INTEGER, nullable=False),
    Column("attempts", SMALLINT, nullable=False, server_default=text("0")),
)
Index("ingest_queue_next", ingest_queue.c.job_id, ingest_queue.c.position)

import_rejects: Final = Table(
    "import_rejects",
    metadata,
    Column("job_id", TEXT, primary_key=True),
    Column("line", BIGINT, primary_key=True),
    Column("column_name", TEXT),
    Column("reason", TEXT, nullable=False),
    Column("cells", ARRAY(TEXT), nullable=False),
    # Not so: unreadable or cut, and nothing that could be tried again.
    Column("whole", BOOLEAN, nullable=False),
)

import_unchanged: Final = Table(
    "import_unchanged",
    metadata,
    Column("job_id", TEXT, primary_key=True),
    Column("slot", BIGINT, primary_key=True),
)

movielens_items: Final = Table(
    "movielens_items",
    metadata,
    Column("item", INTEGER, primary_key=True, autoincrement=False),
    # A `title-` key, which never stands for another film. No foreign key, as above.
    Column("movie_id", _KEY, nullable=False),
)

PRESENT: Final[ColumnElement[bool]] = movies.c.removed_at.is_(None) & movies.c.title.is_not(None)

# What a list can be sorted by; unknown values come last in both directions. The orders that are
# asked for most have an index. Titles have none: it took a third of the time of writing a film.
SORT_COLUMNS: Final[dict[str, tuple[ColumnElement[Any], ...]]] = {
    "popularity": (movies.c.popularity,),
    "release_date": (movies.c.release_date,),
    "vote_average": (movies.c.vote_average, movies.c.vote_count),
    "title": (movies.c.sort_title,),
}


def ordering(sort: str, *, descending: bool) -> list[ColumnElement[Any]]:
    """The ORDER BY terms; those of the index `movies_by_<sort>` in its direction."""
    terms = [
        column.desc().nulls_last() if descending else column.asc().nulls_last()
        for column in SORT_COLUMNS[sort]
    ]
    return [*terms, movies.c.film_no.asc()]


# Many films have no popularity, so that the order among them is part of the index. Few have the
# same date or votes: PostgreSQL sorts those few, and the indexes are half as large.
Index("movies_by_popularity", *ordering("popularity", descending=True), postgresql_where=PRESENT)
for _sort in ("release_date", "vote_average"):
    *_terms, _tie = ordering(_sort, descending=True)
    Index(f"movies_by_{_sort}", *_terms, postgresql_where=PRESENT)
Index("movies_by_original_language", movies.c.original_language, postgresql_where=PRESENT)
Index("movies_by_genre", movies.c.genre_keys, postgresql_using="gin", postgresql_where=PRESENT)
