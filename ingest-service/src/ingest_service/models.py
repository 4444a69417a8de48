"""The tables of schema `catalog`, and why each constraint and index is there.

    movies            one row per film that was ever asked for; a removed one stays as a tombstone
    source_documents  what the source sent, as it was received
    genres, movie_genres, external_ids    what films are looked up by

A film's columns are generated from its normalised document, so the two cannot disagree. The
migrations say the same in SQL; a test holds the two against each other.
"""

from typing import Any, Final

from sqlalchemy import (
    CheckConstraint,
    Column,
    ColumnElement,
    Computed,
    ForeignKey,
    Identity,
    Index,
    MetaData,
    Table,
    func,
)
from sqlalchemy.dialects.postgresql import (
    BIGINT,
    DATE,
    DOUBLE_PRECISION,
    INTEGER,
    JSONB,
    SMALLINT,
    TEXT,
    TIMESTAMP,
)

metadata: Final = MetaData()
# Keys are ASCII: the collation "C" compares bytes, which is fast and the same everywhere.
_KEY: Final = TEXT(collation="C")


def _from_document(expression: str) -> Computed:
    return Computed(expression, persisted=True)


movies: Final = Table(
    "movies",
    metadata,
    Column("movie_id", _KEY, primary_key=True),
    # Grows by one with each change, also through removal and return: who keeps a copy compares it.
    Column("revision", BIGINT, nullable=False),
    # When the source was last asked, and when its answer last differed from what was known.
    Column("fetched_at", TIMESTAMP(timezone=True), nullable=False),
    Column("updated_at", TIMESTAMP(timezone=True), nullable=False),
    Column("removed_at", TIMESTAMP(timezone=True)),
    Column("removed_reason", TEXT),
    # The whole `Movie` without `fetched_at`; null for a film that its source never had.
    Column("document", JSONB),
    Column("tmdb_id", INTEGER, _from_document("(document->>'tmdb_id')::integer")),
    Column("imdb_id", TEXT, _from_document("document->>'imdb_id'")),
    Column("title", TEXT, _from_document("document->>'title'")),
    # Cut, because an index entry has to be shorter than a third of a page.
    Column(
        "sort_title", TEXT(collation="und-x-icu"), _from_document("left(document->>'title', 200)")
    ),
    Column("original_title", TEXT, _from_document("document->>'original_title'")),
    Column("original_language", TEXT, _from_document("document->>'original_language'")),
    # A cast from text to date depends on a session's settings, so it cannot be stored.
    Column(
        "release_date",
        DATE,
        _from_document(
            "make_date(left(document->>'release_date', 4)::integer,"
            " substr(document->>'release_date', 6, 2)::integer,"
            " substr(document->>'release_date', 9, 2)::integer)"
        ),
    ),
    Column(
        "release_year", SMALLINT, _from_document("left(document->>'release_date', 4)::smallint")
    ),
    Column("genres", JSONB, _from_document("document->'genres'")),
    Column(
        "vote_average",
        DOUBLE_PRECISION,
        _from_document("(document->>'vote_average')::double precision"),
    ),
    Column("vote_count", INTEGER, _from_document("(document->>'vote_count')::integer")),
    Column(
        "popularity",
        DOUBLE_PRECISION,
        _from_document("(document->>'popularity')::double precision"),
    ),
    Column("poster_path", TEXT, _from_document("document->>'poster_path'")),
    CheckConstraint("revision >= 1", name="movies_revision_counts_from_one"),
    CheckConstraint("updated_at <= fetched_at", name="movies_change_comes_with_a_fetch"),
    CheckConstraint(
        "(removed_at IS NULL) = (removed_reason IS NULL)", name="movies_removal_has_a_reason"
    ),
    CheckConstraint(
        "removed_at IS NOT NULL OR document IS NOT NULL", name="movies_present_has_a_document"
    ),
    CheckConstraint(
        "document IS NULL OR coalesce(document->>'movie_id' = movie_id, false)",
        name="movies_document_is_its_own",
    ),
    CheckConstraint(
        "document IS NULL OR coalesce(title <> '' AND vote_count >= 0 AND popularity >= 0, false)",
        name="movies_document_is_complete",
    ),
    CheckConstraint("vote_average BETWEEN 0 AND 10", name="movies_vote_average_in_range"),
)

source_documents: Final = Table(
    "source_documents",
    metadata,
    Column("source", TEXT, primary_key=True),
    Column("source_id", TEXT, primary_key=True),
    # Text, not jsonb: JSON may hold \u0000 and lone surrogates, which jsonb refuses.
    Column("body", TEXT, nullable=False),
    Column("sha256", TEXT, nullable=False),
    Column("etag", TEXT),
    Column("fetched_at", TIMESTAMP(timezone=True), nullable=False),
    CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="source_documents_sha256_is_hex"),
)

genres: Final = Table(
    "genres",
    metadata,
    Column("genre_id", INTEGER, Identity(always=True), primary_key=True),
    Column("name", TEXT, nullable=False),
    CheckConstraint("name <> ''", name="genres_name_is_not_empty"),
)
# One genre whatever its case, so that a filter need not know how the source writes it.
Index("genres_name_once", func.lower(genres.c.name), unique=True)

movie_genres: Final = Table(
    "movie_genres",
    metadata,
    Column("movie_id", _KEY, ForeignKey("movies.movie_id", ondelete="CASCADE"), primary_key=True),
    Column("genre_id", INTEGER, ForeignKey("genres.genre_id"), primary_key=True),
)

external_ids: Final = Table(
    "external_ids",
    metadata,
    Column("movie_id", _KEY, ForeignKey("movies.movie_id", ondelete="CASCADE"), primary_key=True),
    Column("source", TEXT, primary_key=True),
    Column("external_id", TEXT, nullable=False),
    CheckConstraint("source IN ('tmdb', 'imdb')", name="external_ids_source_is_known"),
)
# Several of a source's films may name the same id (TMDB has such duplicates), so this is no unique
# index: whose id it is would depend on which film came first.
Index("external_ids_id", external_ids.c.source, external_ids.c.external_id)

PRESENT: Final[ColumnElement[bool]] = movies.c.removed_at.is_(None)

# What a list can be sorted by. Unknown values come last in both directions, and equal ones in the
# order of their keys in both, so each direction has an index of its own.
SORT_COLUMNS: Final[dict[str, tuple[ColumnElement[Any], ...]]] = {
    "popularity": (movies.c.popularity,),
    "release_date": (movies.c.release_date,),
    "vote_average": (movies.c.vote_average, movies.c.vote_count),
    "title": (movies.c.sort_title,),
}


def ordering(sort: str, *, descending: bool) -> list[ColumnElement[Any]]:
    """The ORDER BY terms that the index `movies_by_<sort>_<asc|desc>` has."""
    terms = [
        column.desc().nulls_last() if descending else column.asc().nulls_last()
        for column in SORT_COLUMNS[sort]
    ]
    return [*terms, movies.c.movie_id.asc()]


for _sort in SORT_COLUMNS:
    Index(f"movies_by_{_sort}_asc", *ordering(_sort, descending=False), postgresql_where=PRESENT)
    Index(f"movies_by_{_sort}_desc", *ordering(_sort, descending=True), postgresql_where=PRESENT)
# The filters, each with the order that is asked for most.
for _filter in (movies.c.release_year, movies.c.original_language):
    Index(
        f"movies_by_{_filter.name}",
        _filter,
        *ordering("popularity", descending=True),
        postgresql_where=PRESENT,
    )
Index("movie_genres_by_genre", movie_genres.c.genre_id, movie_genres.c.movie_id)
