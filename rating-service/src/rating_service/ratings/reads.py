"""All SQL that only reads ratings.

A film can be asked for under any of its keys; a film that is not in the catalogue has no answers,
but who rated it sees what they said.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from rating_service.ratings.projection import STEPS, by_score, total_of
from rating_service.ratings.repository import genre_key

Sort = Literal["rated_at", "score", "title", "release_date"]

# A chain of claims ends: each film's key is of a better kind than the one it claims.
_OWN_KEY: Final = """
    WITH RECURSIVE chain (movie_id, film) AS (
        SELECT movie_id, film FROM movies WHERE movie_id = :key
        UNION ALL
        SELECT movies.movie_id, movies.film FROM chain JOIN movies ON movies.movie_id = chain.film
    ), own (movie_id) AS (SELECT movie_id FROM chain WHERE film IS NULL)
"""
_FILM: Final = text(f"""
    {_OWN_KEY}
    SELECT movies.movie_id, vote_average, vote_count, histogram
    FROM own JOIN movies USING (movie_id) LEFT JOIN aggregates USING (movie_id)
    WHERE present
""")  # noqa: S608 -- made of constants
_RATING: Final = text(f"""
    {_OWN_KEY}
    SELECT movie_id, half_steps, review, changed_at FROM own JOIN ratings USING (movie_id)
    WHERE user_id = :user_id AND half_steps IS NOT NULL
""")  # noqa: S608 -- made of constants
_REVIEWS: Final = text("""
    SELECT users.name, half_steps, review, changed_at
    FROM (
        SELECT * FROM ratings WHERE movie_id = :movie_id AND review IS NOT NULL
        ORDER BY changed_at DESC, user_id LIMIT :limit OFFSET :offset
    ) AS page
    LEFT JOIN users ON users.user_id = page.user_id
    ORDER BY changed_at DESC, page.user_id
""")
_COUNT_REVIEWS: Final = text("""
    SELECT count(*) FROM ratings WHERE movie_id = :movie_id AND review IS NOT NULL
""")
_HISTOGRAM_OF_USER: Final = text("""
    SELECT half_steps, count(*) AS ratings FROM ratings
    WHERE user_id = :user_id AND half_steps IS NOT NULL GROUP BY half_steps
""")
_ALL_OF_USER: Final = text("""
    SELECT movie_id, title, half_steps, review, changed_at FROM ratings
    LEFT JOIN movies USING (movie_id)
    WHERE user_id = :user_id AND half_steps IS NOT NULL
    ORDER BY changed_at DESC, movie_id
""")
_LISTED: Final = """
    movie_id, tmdb_id, title, release_date, genres, poster_path, half_steps, review, changed_at,
    present
"""
_ORDER: Final[dict[Sort, str]] = {
    "rated_at": "changed_at",
    "score": "half_steps",
    "title": 'lower(title) COLLATE "und-x-icu"',
    "release_date": "release_date",
}
_RATINGS_ONLY: Final = frozenset({"rated_at", "score"})


@dataclass(frozen=True, slots=True)
class FilmRatings:
    """A film's sum of ratings, beside what its source says."""

    movie_id: str
    histogram: list[int]
    vote_average: float | None
    vote_count: int

    @property
    def count(self) -> int:
        """How many ratings."""
        return sum(self.histogram)

    @property
    def total(self) -> float:
        """The sum of the scores."""
        return total_of(self.histogram)


@dataclass(frozen=True, slots=True)
class OwnRating:
    """A user's rating of a film."""

    movie_id: str
    score: float
    review: str | None
    rated_at: datetime


@dataclass(frozen=True, slots=True)
class ListedRating:
    """A rating in its user's list, with the film as the catalogue has it, if it does."""

    movie_id: str
    tmdb_id: int | None
    title: str | None
    release_date: date | None
    genres: list[str]
    poster_path: str | None
    score: float
    review: str | None
    rated_at: datetime
    in_catalogue: bool


@dataclass(frozen=True, slots=True)
class FilmReview:
    """What somebody said of a film; `user` is None for a user without an account."""

    user: str | None
    score: float
    review: str
    rated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which of a user's ratings; None: all. `title_part` is a part of the film's title."""

    min_half_steps: int | None = None
    max_half_steps: int | None = None
    genre: str | None = None
    year: int | None = None
    title_part: str | None = None


async def ratings_of_film(connection: AsyncConnection, key: str) -> FilmRatings | None:
    """The film with this key; None where it is not in the catalogue."""
    row = (await connection.execute(_FILM, {"key": key})).one_or_none()
    if row is None:
        return None
    histogram = [0] * STEPS if row.histogram is None else list(row.histogram)
    return FilmRatings(row.movie_id, histogram, row.vote_average, row.vote_count)


async def rating_of(connection: AsyncConnection, user_id: str, key: str) -> OwnRating | None:
    """A user's rating of the film with this key, in the catalogue or not."""
    row = (await connection.execute(_RATING, {"key": key, "user_id": user_id})).one_or_none()
    if row is None:
        return None
    return OwnRating(row.movie_id, row.half_steps / 2, row.review, row.changed_at)


async def reviews_of_film(
    connection: AsyncConnection, movie_id: str, *, limit: int, offset: int
) -> tuple[list[FilmReview], int]:
    """A page of a film's reviews, newest first, and how many it has; by the film's own key."""
    total = (await connection.execute(_COUNT_REVIEWS, {"movie_id": movie_id})).scalar_one()
    rows = await connection.execute(
        _REVIEWS, {"movie_id": movie_id, "limit": limit, "offset": offset}
    )
    reviews = [FilmReview(row.name, row.half_steps / 2, row.review, row.changed_at) for row in rows]
    return reviews, total


async def ratings_listed(
    connection: AsyncConnection,
    user_id: str,
    wanted: Wanted,
    *,
    sort: Sort,
    descending: bool,
    limit: int,
    offset: int,
) -> tuple[list[ListedRating], int]:
    """A page of a user's ratings, and how many there are; what is unknown comes last."""
    conditions, parameters = _conditions(wanted)
    parameters["user_id"] = user_id
    direction = "DESC" if descending else "ASC"
    order = f"{_ORDER[sort]} {direction} NULLS LAST, movie_id"
    if sort == "rated_at" and descending:
        order = "changed_at DESC, movie_id"  # as the index has it
    films = "" if _needs_no_films(wanted) else "JOIN movies USING (movie_id)"
    total = text(f"SELECT count(*) FROM ratings {films} WHERE {conditions}")  # noqa: S608 -- constants
    if sort in _RATINGS_ONLY and not films:
        # Films of the page only, rather than of all the user's ratings.
        source = f"""(
            SELECT * FROM ratings WHERE {conditions} ORDER BY {order} LIMIT :limit OFFSET :offset
        ) AS page JOIN movies USING (movie_id) ORDER BY {order}"""  # noqa: S608 -- constants
    else:
        source = f"""ratings JOIN movies USING (movie_id)
            WHERE {conditions} ORDER BY {order} LIMIT :limit OFFSET :offset"""
    page = text(f"SELECT {_LISTED} FROM {source}")  # noqa: S608 -- constants
    count = (await connection.execute(total, parameters)).scalar_one()
    rows = await connection.execute(page, parameters | {"limit": limit, "offset": offset})
    listed = [
        ListedRating(
            movie_id=row.movie_id,
            tmdb_id=row.tmdb_id,
            title=row.title,
            release_date=row.release_date,
            genres=list(row.genres),
            poster_path=row.poster_path,
            score=row.half_steps / 2,
            review=row.review,
            rated_at=row.changed_at,
            in_catalogue=row.present,
        )
        for row in rows
    ]
    return listed, count


async def ratings_of(connection: AsyncConnection, user_id: str) -> list[dict[str, Any]]:
    """Everything that is kept of a user's ratings, newest first.

    Each is `{movie_id, title, score, review, rated_at}`; `title` is None while the film is not in
    the catalogue. Ratings that were taken back are left out.
    """
    return [
        {
            "movie_id": row.movie_id,
            "title": row.title,
            "score": row.half_steps / 2,
            "review": row.review,
            "rated_at": row.changed_at,
        }
        for row in await connection.execute(_ALL_OF_USER, {"user_id": user_id})
    ]


async def summary_of(connection: AsyncConnection, user_id: str) -> dict[str, Any]:
    """`{count, mean, histogram: {"0.5": n, …, "10.0": n}}`; `mean` is None without ratings."""
    histogram = [0] * STEPS
    for row in await connection.execute(_HISTOGRAM_OF_USER, {"user_id": user_id}):
        histogram[row.half_steps - 1] = row.ratings
    count = sum(histogram)
    return {
        "count": count,
        "mean": total_of(histogram) / count if count else None,
        "histogram": by_score(histogram),
    }


def _needs_no_films(wanted: Wanted) -> bool:
    return wanted.genre is None and wanted.year is None and wanted.title_part is None


def _conditions(wanted: Wanted) -> tuple[str, dict[str, Any]]:
    conditions = ["user_id = :user_id", "half_steps IS NOT NULL"]
    parameters: dict[str, Any] = {}
    if wanted.min_half_steps is not None:
        conditions.append("half_steps >= CAST(:least AS smallint)")
        parameters["least"] = wanted.min_half_steps
    if wanted.max_half_steps is not None:
        conditions.append("half_steps <= CAST(:most AS smallint)")
        parameters["most"] = wanted.max_half_steps
    if wanted.genre is not None:
        conditions.append("genre_keys @> ARRAY[CAST(:genre AS text)]")
        parameters["genre"] = genre_key(wanted.genre)
    if wanted.year is not None:
        conditions.append("release_date BETWEEN :first_day AND :last_day")
        parameters["first_day"] = date(wanted.year, 1, 1)
        parameters["last_day"] = date(wanted.year, 12, 31)
    if wanted.title_part is not None:
        conditions.append("title ILIKE CAST(:pattern AS text)")
        escaped = wanted.title_part.translate({ord(sign): f"\\{sign}" for sign in "\\%_"})
        parameters["pattern"] = f"%{escaped}%"
    return " AND ".join(conditions), parameters
