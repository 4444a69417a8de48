"""The SQL of models and of answers.

**A model** is written under its own number in one transaction, and read by nobody before it
serves. `serve` turns readers to it and deletes the older ones, those that a killed run left behind
among them, on the transaction of its caller. What reads more than one table of a model does so
within `unchanging`, so that it has the whole of one model.

**Keys.** A model knows films by the keys that were theirs when it was fitted, `numbers_of` and
`films_by_number` lead from today's keys there and back.
"""

from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final, Protocol, cast

import numpy as np
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from compute_service.recommendation.scoring import FilmRow, Scorer
from compute_service.repository import genre_key

_NO_TIMEOUT: Final = text("SET LOCAL statement_timeout = 0")
_UNCHANGING: Final = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
_HOUR: Final = 3600.0
_RATINGS: Final = """
    SELECT user_id, coalesce(film, ratings.movie_id),
           extract(epoch FROM rated_at)::float8, coalesce(half_steps, 0)
    FROM user_ratings AS ratings LEFT JOIN trends ON trends.movie_id = ratings.movie_id
    WHERE rated_at < $1
"""
_VIEWS: Final = """
    SELECT user_id, coalesce(film, activity.movie_id),
           extract(epoch FROM max(occurred_at))::float8, 0
    FROM activity LEFT JOIN trends ON trends.movie_id = activity.movie_id
    WHERE kind = 'view' AND user_id IS NOT NULL AND occurred_at < $1
    GROUP BY 1, 2
"""
_KNOWN_FILMS: Final = text("""
    SELECT movie_id FROM unnest(CAST(:ids AS text[])) AS id JOIN movies ON movie_id = id
    WHERE NOT removed
""")
_MOST_VOTED: Final = text("""
    SELECT movie_id FROM movies WHERE vote_count > 0 ORDER BY vote_count DESC, movie_id LIMIT :limit
""")
_CONTENT: Final = text("""
    SELECT movie_id, genres, release_year, coalesce(keywords, '{}') AS keywords,
           coalesce(people, '{}') AS people, coalesce(overview, '') AS overview
    FROM unnest(CAST(:ids AS text[])) WITH ORDINALITY AS wanted (id, place)
    JOIN movies ON movies.movie_id = id LEFT JOIN movie_content USING (movie_id)
    ORDER BY place
""")
_NEW_MODEL: Final = text("""
    INSERT INTO recommendation_models (
        as_of, computed_at, films, users, interactions, half_life_short, half_life_long, scale,
        popularity)
    VALUES (:as_of, :computed_at, :films, :users, :interactions, :short, :long, :scale, :popularity)
    RETURNING model_id
""")
_FILM_COLUMNS: Final = (
    *("model_id", "movie_id", "number", "linear", "targets", "short", "long", "near", "closeness"),
)
_SIMILAR_COLUMNS: Final = ("model_id", "movie_id", "similar_ids", "scores", "audience")
# Two runs that end together take turns. Nobody who reads waits for this.
_TAKE_TURNS: Final = text("LOCK TABLE recommendation_models IN SHARE ROW EXCLUSIVE MODE")
_BETTER: Final = text("""
    SELECT EXISTS (
        SELECT FROM recommendation_models AS serving, recommendation_models AS fitted
        WHERE serving.serving AND fitted.model_id = :model
          AND (serving.as_of, serving.model_id) > (fitted.as_of, fitted.model_id))
""")
_GIVE_UP: Final = text("""
    DELETE FROM recommendation_models WHERE model_id = :model AND NOT serving RETURNING films
""")
_STOP_SERVING: Final = text("""
    UPDATE recommendation_models SET serving = false WHERE serving AND model_id < :model
""")
_DELETE_OLDER: Final = text("DELETE FROM recommendation_models WHERE model_id < :model")
_SERVE: Final = text("""
    UPDATE recommendation_models SET serving = true WHERE model_id = :model RETURNING films
""")
_SERVING: Final = text("""
    SELECT model_id, as_of, computed_at, films, users, interactions, half_life_short,
           half_life_long, scale, CASE WHEN :scorer THEN popularity ELSE '' END AS popularity
    FROM recommendation_models WHERE serving
""")
_RATINGS_OF: Final = text("""
    SELECT DISTINCT ON (key) coalesce(film, ratings.movie_id) AS key, half_steps, rated_at
    FROM user_ratings AS ratings LEFT JOIN trends ON trends.movie_id = ratings.movie_id
    WHERE user_id = :user
    ORDER BY key, rated_at DESC, half_steps DESC NULLS LAST
""")
_VIEWS_OF: Final = text("""
    SELECT coalesce(film, activity.movie_id) AS key, max(occurred_at) AS viewed_at
    FROM activity LEFT JOIN trends ON trends.movie_id = activity.movie_id
    WHERE user_id = :user AND kind = 'view'
    GROUP BY 1
""")
_NUMBERS: Final = text("""
    SELECT wanted.id, number FROM (
        SELECT id, id AS key FROM unnest(CAST(:ids AS text[])) AS id
        UNION ALL
        SELECT id, alias FROM unnest(CAST(:ids AS text[])) AS id JOIN aliases ON movie_id = id
        JOIN trends ON trends.movie_id = alias AND film = id
    ) AS wanted
    JOIN recommendation_films ON movie_id = key AND model_id = :model
""")
_ROWS: Final = text("""
    SELECT number, linear, targets, short, long, near, closeness
    FROM unnest(CAST(:numbers AS int[])) AS wanted
    JOIN recommendation_films ON number = wanted AND model_id = :model
""")
_SIMILAR_TO: Final = text("""
    SELECT similar_ids, scores, audience FROM movie_recommendations
    WHERE model_id = :model AND movie_id = ANY(
        SELECT CAST(:id AS text)
        UNION ALL
        SELECT alias FROM aliases JOIN trends ON trends.movie_id = alias AND film = :id
        WHERE aliases.movie_id = :id)
    ORDER BY movie_id <> :id, movie_id LIMIT 1
""")
_PASSES: Final = """
    NOT movies.removed
    AND (CAST(:genre AS text) IS NULL OR genre_keys @> ARRAY[CAST(:genre AS text)])
    AND (CAST(:year AS int) IS NULL OR release_year = CAST(:year AS int))
    AND (CAST(:language AS text) IS NULL
         OR lower(original_language) = lower(CAST(:language AS text)))
    AND (CAST(:min_votes AS bigint) IS NULL OR vote_count >= CAST(:min_votes AS bigint))
"""
_PASSING_NUMBERS: Final = text(f"""
    SELECT array_agg(number)
    FROM recommendation_films AS fitted LEFT JOIN trends USING (movie_id)
    JOIN movies ON movies.movie_id = coalesce(film, fitted.movie_id)
    WHERE model_id = :model AND {_PASSES}
""")  # noqa: S608 -- made of constants
_FILM: Final = """
    movies.movie_id, tmdb_id, imdb_id, title, original_title, original_language, release_date,
    release_year, genres, vote_average, vote_count, popularity, poster_path,
    own.views + own.alias_views AS views, own.ratings_count + own.alias_ratings_count AS ratings,
    own.rank_key_day AS rank_key, own.log_quality,
    coalesce(keywords, '{}') AS keywords, coalesce(people, '{}') AS people
"""
_FILMS_BY_NUMBER: Final = text(f"""
    SELECT number, {_FILM}
    FROM unnest(CAST(:numbers AS int[])) AS wanted
    JOIN recommendation_films AS fitted ON number = wanted AND model_id = :model
    LEFT JOIN trends AS key ON key.movie_id = fitted.movie_id
    JOIN movies ON movies.movie_id = coalesce(key.film, fitted.movie_id)
    JOIN trends AS own ON own.movie_id = movies.movie_id
    LEFT JOIN movie_content ON movie_content.movie_id = movies.movie_id
    WHERE NOT movies.removed
""")  # noqa: S608 -- made of constants
_FILMS_BY_KEY: Final = text(f"""
    SELECT asked, {_FILM}
    FROM unnest(CAST(:ids AS text[])) AS asked
    LEFT JOIN trends AS key ON key.movie_id = asked
    JOIN movies ON movies.movie_id = coalesce(key.film, asked)
    JOIN trends AS own ON own.movie_id = movies.movie_id
    LEFT JOIN movie_content ON movie_content.movie_id = movies.movie_id
    WHERE {_PASSES}
""")  # noqa: S608 -- made of constants
_POPULAR: Final = f"""
    (SELECT movie_id FROM movies WHERE vote_count > 0 AND {_PASSES}
     ORDER BY vote_count DESC, movie_id LIMIT :limit)
    UNION
    (SELECT movie_id FROM trends JOIN movies USING (movie_id)
     WHERE rank_key_week IS NOT NULL AND {_PASSES}
     ORDER BY rank_key_week DESC, movie_id LIMIT :limit)
"""  # noqa: S608 -- made of constants
_POPULAR_FILMS: Final = text(_POPULAR)
# Each part is bounded by itself. People have few films each; a keyword may have thousands, of which
# any will do; those that share a genre are looked for among the films with the most votes.
_CANDIDATES: Final = text(f"""
    (SELECT movie_id FROM movie_content JOIN movies USING (movie_id)
     WHERE people && CAST(:people AS text[]) AND {_PASSES} LIMIT :limit)
    UNION
    (SELECT movie_id FROM movie_content JOIN movies USING (movie_id)
     WHERE keywords && CAST(:keywords AS text[]) AND {_PASSES} LIMIT :limit)
    UNION
    (SELECT movie_id FROM (
         SELECT movie_id, genre_keys FROM movies WHERE vote_count > 0 AND {_PASSES}
         ORDER BY vote_count DESC LIMIT 10 * :limit
     ) AS voted
     WHERE genre_keys && CAST(:genres AS text[]) LIMIT :limit)
    UNION {_POPULAR}
""")  # noqa: S608 -- made of constants


@dataclass(frozen=True, slots=True)
class FilmFilter:
    """Which films are wanted; None: all. `min_votes` are the source's."""

    genre: str | None = None
    year: int | None = None
    language: str | None = None
    min_votes: int | None = None


@dataclass(frozen=True, slots=True)
class SaidOrSeen:
    """Ratings or views, as columns.

    Attributes:
        users: which user each is of, by number; the numbers of `keys` go on from call to call.
        films: likewise.
        moments: seconds since 1970.
        half_steps: of ratings, 0 where taken back; 0 for views.
    """

    users: "array[int]" = field(default_factory=lambda: array("q"))
    films: "array[int]" = field(default_factory=lambda: array("q"))
    moments: "array[float]" = field(default_factory=lambda: array("d"))
    half_steps: "array[int]" = field(default_factory=lambda: array("b"))


@dataclass(frozen=True, slots=True)
class Content:
    """What a film is about."""

    movie_id: str
    genres: list[str]
    release_year: int | None
    keywords: list[str]
    people: list[str]
    overview: str


@dataclass(frozen=True, slots=True)
class SimilarFilms:
    """The films most like one, best first; `audience` is how much of each score it gave."""

    movie_ids: list[str]
    scores: list[float]
    audience: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a model was fitted from."""

    as_of: date
    computed_at: datetime
    films: int
    users: int
    interactions: int


@dataclass(frozen=True, slots=True)
class StoredModel:
    """The model that serves; `scorer.popularity` is empty unless it was asked for."""

    model_id: int
    figures: Figures
    scorer: Scorer


@dataclass(frozen=True, slots=True)
class CatalogueFilm:
    """A film as the catalogue has it, and what it is about."""

    movie_id: str
    tmdb_id: int | None
    imdb_id: str | None
    title: str
    original_title: str | None
    original_language: str | None
    release_date: date | None
    release_year: int | None
    genres: list[str]
    vote_average: float | None
    vote_count: int
    popularity: float
    poster_path: str | None
    views: int
    ratings: int
    rank_key: float | None
    log_quality: float
    keywords: list[str]
    people: list[str]


# ------------------------------------------------------------------------------------------- inputs


async def unchanging(connection: AsyncConnection) -> None:
    """Everything is read as of now; to be called first in a transaction."""
    await connection.execute(_UNCHANGING)


async def take_your_time(connection: AsyncConnection) -> None:
    """Statements of this transaction may take long."""
    await connection.execute(_NO_TIMEOUT)


class _Copying(Protocol):
    async def copy_from_query(
        self,
        query: str,
        *args: object,
        output: Callable[[bytes], Awaitable[None]],
        timeout: float,  # noqa: ASYNC109 -- as the driver names it
    ) -> str: ...

    async def copy_records_to_table(
        self,
        table_name: str,
        *,
        records: Iterable[tuple[object, ...]] | AsyncIterator[tuple[object, ...]],
        columns: Sequence[str],
        timeout: float,  # noqa: ASYNC109 -- as the driver names it
    ) -> str: ...


async def _driver(connection: AsyncConnection) -> _Copying:
    """For COPY. SQLAlchemy begins a transaction with its first statement, which must be past."""
    return cast("_Copying", (await connection.get_raw_connection()).driver_connection)


async def ratings_before(
    connection: AsyncConnection, moment: datetime, users: dict[str, int], films: dict[str, int]
) -> SaidOrSeen:
    """All ratings before a moment; who or what has no number yet gets the next one."""
    return await _copied(connection, _RATINGS, moment, users, films)


async def views_before(
    connection: AsyncConnection, moment: datetime, users: dict[str, int], films: dict[str, int]
) -> SaidOrSeen:
    """The last view of each user and film before a moment, of those that name a user."""
    return await _copied(connection, _VIEWS, moment, users, films)


async def _copied(
    connection: AsyncConnection,
    query: str,
    moment: datetime,
    users: dict[str, int],
    films: dict[str, int],
) -> SaidOrSeen:
    columns = SaidOrSeen()
    begun = b""

    async def take(piece: bytes) -> None:
        nonlocal begun
        whole, _, begun = (begun + piece).rpartition(b"\n")
        if whole:
            # tabs and ends of lines within a value come escaped
            values = whole.decode().replace("\n", "\t").split("\t")
            columns.users.extend([users.setdefault(user, len(users)) for user in values[::4]])
            columns.films.extend([films.setdefault(film, len(films)) for film in values[1::4]])
            columns.moments.extend(map(float, values[2::4]))
            columns.half_steps.extend(map(int, values[3::4]))

    driver = await _driver(connection)
    await driver.copy_from_query(query, moment, output=take, timeout=_HOUR)
    return columns


async def in_catalogue(connection: AsyncConnection, movie_ids: Collection[str]) -> set[str]:
    """Those of the films that are in the catalogue."""
    return set((await connection.execute(_KNOWN_FILMS, {"ids": list(movie_ids)})).scalars())


async def most_voted(connection: AsyncConnection, limit: int) -> list[str]:
    """The films with the most votes of the source."""
    return list((await connection.execute(_MOST_VOTED, {"limit": limit})).scalars())


async def content_of(connection: AsyncConnection, movie_ids: Sequence[str]) -> list[Content]:
    """What films of the catalogue are about, in the order given."""
    rows = await connection.execute(_CONTENT, {"ids": list(movie_ids)})
    return [Content(*row) for row in rows]


# -------------------------------------------------------------------------------------------- model


async def write_model(
    connection: AsyncConnection,
    figures: Figures,
    scorer: Scorer,
    movie_ids: Sequence[str],
    rows: Iterable[FilmRow],
    similar: Iterable[SimilarFilms],
) -> int:
    """Write a model that nobody reads yet; answers its number.

    Args:
        movie_ids: of the films, by number; `rows` and `similar` have one for each of them.
    """
    found = await connection.execute(
        _NEW_MODEL,
        {
            "as_of": figures.as_of,
            "computed_at": figures.computed_at,
            "films": figures.films,
            "users": figures.users,
            "interactions": figures.interactions,
            "short": scorer.short,
            "long": scorer.long,
            "scale": scorer.scale,
            "popularity": scorer.popularity.astype("<f4").tobytes(),
        },
    )
    model_id = int(found.scalar_one())
    driver = await _driver(connection)
    await driver.copy_records_to_table(
        "recommendation_films",
        columns=_FILM_COLUMNS,
        timeout=_HOUR,
        records=(
            (
                model_id,
                movie_ids[row.number],
                row.number,
                row.linear,
                row.targets.astype("<i4").tobytes(),
                row.short.astype("<f4").tobytes(),
                row.long.astype("<f4").tobytes(),
                row.near.astype("<i4").tobytes(),
                row.closeness.astype("<f4").tobytes(),
            )
            for row in rows
        ),
    )
    await driver.copy_records_to_table(
        "movie_recommendations",
        columns=_SIMILAR_COLUMNS,
        timeout=_HOUR,
        records=(
            (model_id, movie_id, found.movie_ids, found.scores, found.audience)
            for movie_id, found in zip(movie_ids, similar, strict=True)
        ),
    )
    return model_id


async def serve(connection: AsyncConnection, model_id: int) -> int | None:
    """Turn readers to a model and delete all older ones.

    One of an earlier day than that which serves is deleted instead, so that computing the past
    leaves the present alone.

    Returns:
        How many films it has; None when it is gone, since a newer one serves already.
    """
    await connection.execute(_TAKE_TURNS)
    if (await connection.execute(_BETTER, {"model": model_id})).scalar_one():
        given_up = await connection.execute(_GIVE_UP, {"model": model_id})
        return given_up.scalar_one_or_none()
    for statement in (_STOP_SERVING, _DELETE_OLDER):
        await connection.execute(statement, {"model": model_id})
    films: int | None = (await connection.execute(_SERVE, {"model": model_id})).scalar_one_or_none()
    return films


# ---------------------------------------------------------------------------------------- answering


async def serving_model(
    connection: AsyncConnection, *, with_scorer: bool = True
) -> StoredModel | None:
    """The model that serves; None before the first one."""
    rows = await connection.execute(_SERVING, {"scorer": with_scorer})
    row = rows.one_or_none()
    if row is None:
        return None
    figures = Figures(
        as_of=row.as_of,
        computed_at=row.computed_at,
        films=row.films,
        users=row.users,
        interactions=row.interactions,
    )
    popularity = np.frombuffer(row.popularity, "<f4")
    scorer = Scorer(row.half_life_short, row.half_life_long, row.scale, popularity)
    return StoredModel(row.model_id, figures, scorer)


async def ratings_of(connection: AsyncConnection, user_id: str) -> dict[str, tuple[int, datetime]]:
    """Half steps and time of each film that a user has rated, by its own key."""
    rows = await connection.execute(_RATINGS_OF, {"user": user_id})
    return {row.key: (row.half_steps, row.rated_at) for row in rows if row.half_steps is not None}


async def views_of(connection: AsyncConnection, user_id: str) -> dict[str, datetime]:
    """When a user last viewed each film that they viewed, by its own key."""
    rows = await connection.execute(_VIEWS_OF, {"user": user_id})
    return {row.key: row.viewed_at for row in rows}


async def numbers_of(
    connection: AsyncConnection, model_id: int, movie_ids: Collection[str]
) -> dict[str, list[int]]:
    """The numbers of those films that a model knows, under whatever key of the film."""
    rows = await connection.execute(_NUMBERS, {"ids": list(movie_ids), "model": model_id})
    found: dict[str, list[int]] = {}
    for row in rows:
        found.setdefault(row.id, []).append(row.number)
    return found


async def rows_of(
    connection: AsyncConnection, model_id: int, numbers: Collection[int]
) -> dict[int, FilmRow]:
    """What films say of others."""
    rows = await connection.execute(_ROWS, {"numbers": list(numbers), "model": model_id})
    return {
        row.number: FilmRow(
            row.number,
            row.linear,
            np.frombuffer(row.targets, "<i4"),
            np.frombuffer(row.short, "<f4"),
            np.frombuffer(row.long, "<f4"),
            np.frombuffer(row.near, "<i4"),
            np.frombuffer(row.closeness, "<f4"),
        )
        for row in rows
    }


async def similar_to(
    connection: AsyncConnection, model_id: int, movie_id: str
) -> SimilarFilms | None:
    """What a model has found to be like a film; None where it does not know it."""
    rows = await connection.execute(_SIMILAR_TO, {"model": model_id, "id": movie_id})
    row = rows.one_or_none()
    return None if row is None else SimilarFilms(*row)


async def passing_numbers(
    connection: AsyncConnection, model_id: int, wanted: FilmFilter
) -> list[int]:
    """The numbers of a model's films that are in the catalogue and pass the filters."""
    parameters = {"model": model_id, **_filter(wanted)}
    numbers: list[int] | None = (
        await connection.execute(_PASSING_NUMBERS, parameters)
    ).scalar_one()
    return numbers or []


async def films_by_number(
    connection: AsyncConnection, model_id: int, numbers: Collection[int]
) -> dict[int, CatalogueFilm]:
    """Those of a model's films that are in the catalogue."""
    rows = await connection.execute(_FILMS_BY_NUMBER, {"numbers": list(numbers), "model": model_id})
    return {row.number: _film(row) for row in rows}


async def films_by_key(
    connection: AsyncConnection, keys: Collection[str], wanted: FilmFilter | None = None
) -> dict[str, CatalogueFilm]:
    """The films of these keys that are in the catalogue and pass the filters."""
    parameters = {"ids": list(keys), **_filter(wanted or FilmFilter())}
    rows = await connection.execute(_FILMS_BY_KEY, parameters)
    return {row.asked: _film(row) for row in rows}


async def popular_films(connection: AsyncConnection, wanted: FilmFilter, limit: int) -> list[str]:
    """The films with the most votes, and those at the top of the chart of the week."""
    parameters = {"limit": limit, **_filter(wanted)}
    return list((await connection.execute(_POPULAR_FILMS, parameters)).scalars())


async def candidates(
    connection: AsyncConnection,
    about: Sequence[CatalogueFilm],
    wanted: FilmFilter,
    limit: int,
) -> list[str]:
    """Films that have something in common with one of these, and popular ones; at most 5·limit."""
    parameters = {
        "people": sorted({name for film in about for name in film.people}),
        "keywords": sorted({name for film in about for name in film.keywords}),
        "genres": sorted({genre_key(genre) for film in about for genre in film.genres}),
        "limit": limit,
        **_filter(wanted),
    }
    return list((await connection.execute(_CANDIDATES, parameters)).scalars())


def _filter(wanted: FilmFilter) -> dict[str, Any]:
    return {
        "genre": None if wanted.genre is None else genre_key(wanted.genre),
        "year": wanted.year,
        "language": wanted.language,
        "min_votes": wanted.min_votes,
    }


def _film(row: Row[Any]) -> CatalogueFilm:
    return CatalogueFilm(*tuple(row)[1:])
