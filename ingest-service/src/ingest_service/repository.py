"""All SQL of the ingest-service, on a connection whose transaction the caller commits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from moviemetric_contracts import Movie
from sqlalchemy import ColumnElement, and_, cast, false, func, or_, select, text, union
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest_service.catalogue import Finding, RawDocument
from ingest_service.models import PRESENT, external_ids, genres, movie_genres, movies, ordering

Sort = Literal["popularity", "release_date", "vote_average", "title"]

# The row lock that ON CONFLICT takes makes comparing and writing one step, also between replicas. A
# finding that is not newer than what is kept changes nothing and is not returned. `updated_at` is
# set only by a change, and `fetched_at` always grows, so the two are equal exactly after a change.
_KEEP_NEWER: Final = text("""
    INSERT INTO movies AS kept
        (movie_id, revision, fetched_at, updated_at, removed_at, removed_reason, document)
    SELECT movie_id, 1, fetched_at, fetched_at,
           CASE WHEN removed_reason IS NOT NULL THEN fetched_at END, removed_reason,
           CAST(document AS jsonb)
    FROM unnest(CAST(:movie_ids AS text[]), CAST(:fetched_ats AS timestamptz[]),
                CAST(:removed_reasons AS text[]), CAST(:documents AS text[]))
         AS found (movie_id, fetched_at, removed_reason, document)
    ORDER BY movie_id COLLATE "C"
    ON CONFLICT (movie_id) DO UPDATE SET
        revision = kept.revision + CASE
            WHEN (kept.removed_at IS NULL) <> (excluded.removed_at IS NULL)
                OR excluded.document <> kept.document
            THEN 1 ELSE 0 END,
        updated_at = CASE
            WHEN (kept.removed_at IS NULL) <> (excluded.removed_at IS NULL)
                OR excluded.document <> kept.document
            THEN excluded.fetched_at ELSE kept.updated_at END,
        fetched_at = excluded.fetched_at,
        removed_at = CASE WHEN excluded.removed_at IS NOT NULL
            THEN coalesce(kept.removed_at, excluded.removed_at) END,
        removed_reason = CASE WHEN excluded.removed_at IS NOT NULL
            THEN coalesce(kept.removed_reason, excluded.removed_reason) END,
        document = coalesce(excluded.document, kept.document)
    WHERE excluded.fetched_at > kept.fetched_at
    RETURNING movie_id, revision, updated_at = fetched_at AS changed
""")

# Only for films of which something newer was just stored: their rows are locked by then.
_KEEP_SOURCE_DOCUMENTS: Final = text("""
    INSERT INTO source_documents AS kept (source, source_id, body, sha256, etag, fetched_at)
    SELECT source, source_id, body, sha256, etag, fetched_at
    FROM unnest(CAST(:sources AS text[]), CAST(:source_ids AS text[]), CAST(:bodies AS text[]),
                CAST(:sha256s AS text[]), CAST(:etags AS text[]),
                CAST(:fetched_ats AS timestamptz[]))
         AS sent (source, source_id, body, sha256, etag, fetched_at)
    ORDER BY source, source_id
    ON CONFLICT (source, source_id) DO UPDATE SET
        body = CASE WHEN kept.sha256 = excluded.sha256 THEN kept.body ELSE excluded.body END,
        sha256 = excluded.sha256, etag = excluded.etag, fetched_at = excluded.fetched_at
""")

_ADD_MISSING_GENRES: Final = text("""
    INSERT INTO genres (name)
    SELECT wanted.name FROM unnest(CAST(:names AS text[])) AS wanted (name)
    WHERE NOT EXISTS (SELECT FROM genres AS known WHERE lower(known.name) = lower(wanted.name))
    ORDER BY lower(wanted.name), wanted.name
    ON CONFLICT (lower(name)) DO NOTHING
""")
_REMOVE_OTHER_GENRES: Final = text("""
    DELETE FROM movie_genres AS kept
    USING genres
    WHERE kept.movie_id = ANY(CAST(:changed_ids AS text[])) AND genres.genre_id = kept.genre_id
      AND NOT EXISTS (
        SELECT FROM unnest(CAST(:movie_ids AS text[]), CAST(:names AS text[]))
             AS has (movie_id, name)
        WHERE has.movie_id = kept.movie_id AND lower(has.name) = lower(genres.name))
""")
_ADD_GENRES: Final = text("""
    INSERT INTO movie_genres (movie_id, genre_id)
    SELECT has.movie_id, genres.genre_id
    FROM unnest(CAST(:movie_ids AS text[]), CAST(:names AS text[])) AS has (movie_id, name)
    JOIN genres ON lower(genres.name) = lower(has.name)
    ON CONFLICT DO NOTHING
""")

_REMOVE_OTHER_EXTERNAL_IDS: Final = text("""
    DELETE FROM external_ids AS kept
    WHERE movie_id = ANY(CAST(:changed_ids AS text[]))
      AND NOT EXISTS (
        SELECT FROM unnest(CAST(:movie_ids AS text[]), CAST(:sources AS text[]))
             AS has (movie_id, source)
        WHERE has.movie_id = kept.movie_id AND has.source = kept.source)
""")
_SET_EXTERNAL_IDS: Final = text("""
    INSERT INTO external_ids AS kept (movie_id, source, external_id)
    SELECT * FROM unnest(CAST(:movie_ids AS text[]), CAST(:sources AS text[]),
                         CAST(:external_ids AS text[]))
    ON CONFLICT (movie_id, source) DO UPDATE SET external_id = excluded.external_id
    WHERE kept.external_id <> excluded.external_id
""")

# A prepared statement soon gets one plan for all values; with several filters that plan was ten
# times slower, as measured, than the one for the values at hand.
_PLAN_FOR_THE_VALUES: Final = text("SET LOCAL plan_cache_mode = force_custom_plan")

_LIST_COLUMNS: Final = (
    movies.c.movie_id,
    movies.c.tmdb_id,
    movies.c.imdb_id,
    movies.c.title,
    movies.c.original_title,
    movies.c.original_language,
    movies.c.release_date,
    movies.c.genres,
    movies.c.vote_average,
    movies.c.vote_count,
    movies.c.popularity,
    movies.c.poster_path,
)


@dataclass(frozen=True, kw_only=True)
class Change:
    """A film whose content differs from before, with its new revision."""

    finding: Finding
    revision: int


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which films a list holds; None: no matter."""

    year: int | None = None
    language: str | None = None
    genre: str | None = None
    min_votes: int | None = None
    movie_ids: Sequence[str] | None = None


@dataclass(frozen=True, kw_only=True)
class KnownMovie:
    """A film's row. `movie` is None for one that its source never had; a removed film keeps its."""

    movie: Movie | None
    revision: int
    updated_at: datetime
    removed_reason: str | None


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some of the films that pass a filter, and how many do."""

    items: list[Mapping[str, Any]]
    total: int


async def fetched_since(connection: AsyncConnection, movie_id: str, moment: datetime) -> bool:
    """Whether the film is in the catalogue and was fetched at `moment` or later."""
    known = select(movies.c.movie_id).where(
        movies.c.movie_id == movie_id, PRESENT, movies.c.fetched_at >= moment
    )
    return (await connection.execute(known)).first() is not None


async def keep_newer(connection: AsyncConnection, findings: Sequence[Finding]) -> list[Change]:
    """Store what was found, unless something newer is kept already; answers what changed by it.

    The revision of a film grows by one exactly when it changed, is removed or comes back. Replicas
    that store the same films at the same time wait for each other and cannot deadlock: films are
    locked first and in the order of their keys, then genres in the order of their names.

    Args:
        findings: at most one for each film.
    """
    rows = await connection.execute(
        _KEEP_NEWER,
        {
            "movie_ids": [finding.movie_id for finding in findings],
            "fetched_ats": [finding.fetched_at for finding in findings],
            "removed_reasons": [finding.removed_reason for finding in findings],
            "documents": [
                finding.movie.model_dump_json(exclude={"fetched_at"}) if finding.movie else None
                for finding in findings
            ],
        },
    )
    stored = {row.movie_id: row for row in rows}
    newer = [finding for finding in findings if finding.movie_id in stored]
    await _keep_source_documents(connection, [f.raw for f in newer if f.raw is not None])
    changes = [
        Change(finding=finding, revision=stored[finding.movie_id].revision)
        for finding in newer
        if stored[finding.movie_id].changed
    ]
    await _replace_lookups(connection, [c.finding.movie for c in changes if c.finding.movie])
    return changes


async def _keep_source_documents(
    connection: AsyncConnection, documents: Sequence[RawDocument]
) -> None:
    if not documents:
        return
    await connection.execute(
        _KEEP_SOURCE_DOCUMENTS,
        {
            "sources": [document.source for document in documents],
            "source_ids": [document.source_id for document in documents],
            "bodies": [document.body for document in documents],
            "sha256s": [document.sha256 for document in documents],
            "etags": [document.etag for document in documents],
            "fetched_ats": [document.fetched_at for document in documents],
        },
    )


async def _replace_lookups(connection: AsyncConnection, changed: Sequence[Movie]) -> None:
    if not changed:
        return
    changed_ids = [movie.movie_id for movie in changed]
    named = [(movie.movie_id, name) for movie in changed for name in movie.genres]
    names = sorted({name for _, name in named})
    has_genre = {"movie_ids": [key for key, _ in named], "names": [name for _, name in named]}
    await connection.execute(_ADD_MISSING_GENRES, {"names": names})
    await connection.execute(_REMOVE_OTHER_GENRES, {"changed_ids": changed_ids, **has_genre})
    await connection.execute(_ADD_GENRES, has_genre)

    linked = [
        (movie.movie_id, source, external_id)
        for movie in changed
        for source, external_id in (
            ("tmdb", None if movie.tmdb_id is None else str(movie.tmdb_id)),
            ("imdb", movie.imdb_id),
        )
        if external_id is not None
    ]
    has_id = {
        "movie_ids": [key for key, _, _ in linked],
        "sources": [source for _, source, _ in linked],
    }
    await connection.execute(_REMOVE_OTHER_EXTERNAL_IDS, {"changed_ids": changed_ids, **has_id})
    await connection.execute(
        _SET_EXTERNAL_IDS, {**has_id, "external_ids": [external_id for *_, external_id in linked]}
    )


async def find(connection: AsyncConnection, movie_id: str) -> KnownMovie | None:
    """The film with this key, or with the external id that the key holds; None if there is none.

    A film that is present wins over a removed one, then its own key over an external id, then the
    one with the most votes: several films of a source may claim the same external id.
    """
    best = (
        select(
            movies.c.document,
            movies.c.fetched_at,
            movies.c.revision,
            movies.c.updated_at,
            movies.c.removed_reason,
        )
        .where(_has_key([movie_id]))
        .order_by(
            movies.c.removed_at.is_not(None),
            (movies.c.movie_id == movie_id).desc(),
            movies.c.vote_count.desc().nulls_last(),
            movies.c.movie_id,
        )
        .limit(1)
    )
    row = (await connection.execute(best)).first()
    if row is None:
        return None
    return KnownMovie(
        movie=Movie.model_validate({**row.document, "fetched_at": row.fetched_at})
        if row.document is not None
        else None,
        revision=row.revision,
        updated_at=row.updated_at,
        removed_reason=row.removed_reason,
    )


async def list_page(
    connection: AsyncConnection,
    filters: Filters,
    *,
    sort: Sort,
    descending: bool,
    limit: int,
    offset: int,
) -> Page:
    """One page of films; unknown values last, equal ones in the order of their keys."""
    await connection.execute(_PLAN_FOR_THE_VALUES)
    condition = await _condition(connection, filters)
    total = select(func.count()).select_from(movies).where(condition)
    order = ordering(sort, descending=descending)
    # The keys first: an index has them, so the rows of the pages before this one are not read.
    chosen = (
        select(movies.c.movie_id).where(condition).order_by(*order).limit(limit).offset(offset)
    ).subquery()
    page = (
        select(*_LIST_COLUMNS).join(chosen, chosen.c.movie_id == movies.c.movie_id).order_by(*order)
    )
    return Page(
        total=(await connection.execute(total)).scalar_one(),
        items=[dict(row) for row in (await connection.execute(page)).mappings()],
    )


async def _condition(connection: AsyncConnection, filters: Filters) -> ColumnElement[bool]:
    conditions = [PRESENT]
    if filters.year is not None:
        conditions.append(movies.c.release_year == filters.year)
    if filters.language is not None:
        conditions.append(movies.c.original_language == filters.language)
    if filters.min_votes is not None:
        conditions.append(movies.c.vote_count >= filters.min_votes)
    if filters.movie_ids is not None:
        conditions.append(_has_key(filters.movie_ids))
    if filters.genre is not None:
        named = select(genres.c.genre_id).where(
            func.lower(genres.c.name) == func.lower(filters.genre)
        )
        genre_id = (await connection.execute(named)).scalar_one_or_none()
        if genre_id is None:
            return false()
        conditions.append(
            select(movie_genres.c.movie_id)
            .where(
                movie_genres.c.movie_id == movies.c.movie_id, movie_genres.c.genre_id == genre_id
            )
            .exists()
        )
    return and_(*conditions)


def _has_key(movie_ids: Sequence[str]) -> ColumnElement[bool]:
    """`imdb-tt1375666` is the film with that key, and any that names tt1375666 as its IMDb id."""
    ids_of: dict[str, list[str]] = {}
    for movie_id in movie_ids:
        source, _, external_id = movie_id.partition("-")
        ids_of.setdefault(source, []).append(external_id)
    linked = or_(
        false(),
        *(
            and_(external_ids.c.source == source, external_ids.c.external_id.in_(ids))
            for source, ids in ids_of.items()
        ),
    )
    # A union, because with OR over two tables PostgreSQL would read every film.
    return movies.c.movie_id.in_(
        union(
            select(func.unnest(cast(list(movie_ids), ARRAY(TEXT)))),
            select(external_ids.c.movie_id).where(linked),
        )
    )
