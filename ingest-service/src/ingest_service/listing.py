"""All SQL that reads films: one by any of its keys, and pages of lists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, and_, cast, func, select, union
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest_service.merging import Content, known_since, merge, with_keys
from ingest_service.models import PRESENT, film_keys, movies, ordering
from ingest_service.repository import decode_records

Sort = Literal["popularity", "release_date", "vote_average", "title"]

_LIST_COLUMNS: Final = (
    movies.c.movie_id,
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
class Filters:
    """Which films a list holds; None: no matter."""

    year: int | None = None
    language: str | None = None
    genre: str | None = None
    min_votes: int | None = None
    movie_ids: Sequence[str] | None = None


@dataclass(frozen=True, kw_only=True)
class KnownMovie:
    """A film's row.

    `content` is None for one that no source has named yet; a removed film keeps what was known.
    """

    movie_id: str
    content: Content | None
    revision: int
    updated_at: datetime
    known_since: datetime | None
    removed_reason: str | None


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some of the films that pass a filter, and how many do."""

    items: list[Mapping[str, Any]]
    total: int


async def find(connection: AsyncConnection, key: str) -> KnownMovie | None:
    """The film that this key stands for; None if there is none."""
    row = (
        await connection.execute(
            select(
                movies.c.movie_id,
                movies.c.revision,
                movies.c.updated_at,
                movies.c.removed_reason,
                movies.c.aliases,
                movies.c.records,
            ).where(_has_key([key]))
        )
    ).first()
    return None if row is None else _known(row)


async def read_films(connection: AsyncConnection, movie_ids: Sequence[str]) -> list[KnownMovie]:
    """The films with these keys of their own, in no order."""
    rows = await connection.execute(
        select(
            movies.c.movie_id,
            movies.c.revision,
            movies.c.updated_at,
            movies.c.removed_reason,
            movies.c.aliases,
            movies.c.records,
        ).where(movies.c.movie_id == func.any(cast(list(movie_ids), ARRAY(TEXT))))
    )
    return [_known(row) for row in rows]


def _known(row: Any) -> KnownMovie:
    records = decode_records(row.records)
    content = with_keys(merge(records), row.movie_id, row.aliases) if records else {}
    return KnownMovie(
        movie_id=row.movie_id,
        content=content if "title" in content else None,
        revision=row.revision,
        updated_at=row.updated_at,
        known_since=known_since(records) if records else None,
        removed_reason=row.removed_reason,
    )


async def fetched_since(
    connection: AsyncConnection, movie_ids: Sequence[str], moment: datetime
) -> set[str]:
    """Which of the films are in the catalogue and were fetched from TMDB at `moment` or later."""
    known = select(movies.c.movie_id).where(
        movies.c.movie_id == func.any(cast(list(movie_ids), ARRAY(TEXT))),
        PRESENT,
        movies.c.fetched_at >= moment,
    )
    return set((await connection.execute(known)).scalars())


async def stored_films(connection: AsyncConnection, movie_ids: Sequence[str]) -> set[str]:
    """Which of the films the catalogue has or has had."""
    known = select(movies.c.movie_id).where(
        movies.c.movie_id == func.any(cast(list(movie_ids), ARRAY(TEXT))),
        movies.c.title.is_not(None) | movies.c.removed_at.is_not(None),
    )
    return set((await connection.execute(known)).scalars())


async def list_page(
    connection: AsyncConnection,
    filters: Filters,
    *,
    sort: Sort,
    descending: bool,
    limit: int,
    offset: int,
) -> Page:
    """One page of films; unknown values last, equal ones in the order in which they came."""
    condition = _condition(filters)
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


def _condition(filters: Filters) -> ColumnElement[bool]:
    conditions = [PRESENT]
    if filters.year is not None:
        conditions.append(
            movies.c.release_date.between(date(filters.year, 1, 1), date(filters.year, 12, 31))
        )
    if filters.language is not None:
        conditions.append(movies.c.original_language == filters.language)
    if filters.min_votes is not None:
        conditions.append(movies.c.vote_count >= filters.min_votes)
    if filters.movie_ids is not None:
        conditions.append(_has_key(filters.movie_ids))
    if filters.genre is not None:
        conditions.append(movies.c.genre_keys.contains([filters.genre.lower()]))
    return and_(*conditions)


def _has_key(keys: Sequence[str]) -> ColumnElement[bool]:
    """The films whose own key, or one that stands for them, is among `keys`."""
    asked = cast(list(keys), ARRAY(TEXT))
    # A union, because with OR over two tables PostgreSQL would read every film.
    return movies.c.movie_id.in_(
        union(
            select(func.unnest(asked)),
            select(film_keys.c.movie_id).where(film_keys.c.key == func.any(asked)),
        )
    )
