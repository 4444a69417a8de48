"""The SQL that keeps what recommendations are made from: users' ratings, and films' content.

Called by the handlers, on their transactions, for the films with the locks of `repository`.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from moviemetric_contracts import Movie
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

MAX_CAST: Final = 10
MAX_KEYWORDS: Final = 50
MAX_OVERVIEW: Final = 1000

# Of two at the same moment the higher score counts, and a score before none: any rule will do, as
# long as it is the same in every order.
_KEEP_NEWEST: Final = text("""
    INSERT INTO user_ratings (user_id, movie_id, half_steps, rated_at)
    SELECT * FROM unnest(
        CAST(:users AS text[]), CAST(:movies AS text[]), CAST(:half_steps AS smallint[]),
        CAST(:moments AS timestamptz[]))
    ON CONFLICT (user_id, movie_id) DO UPDATE SET
        half_steps = excluded.half_steps, rated_at = excluded.rated_at
    WHERE (user_ratings.rated_at, coalesce(user_ratings.half_steps, 0))
        < (excluded.rated_at, coalesce(excluded.half_steps, 0))
""")
_FORGET: Final = text("""
    DELETE FROM user_ratings
    USING unnest(CAST(:users AS text[])) AS erased (id) WHERE user_id = erased.id
""")
_WRITE_CONTENT: Final = text("""
    INSERT INTO movie_content (movie_id, keywords, people, overview)
    SELECT movie_id, keywords, people, overview FROM jsonb_to_recordset(CAST(:rows AS jsonb))
        AS new (movie_id text, keywords text[], people text[], overview text)
    ON CONFLICT (movie_id) DO UPDATE SET
        keywords = excluded.keywords, people = excluded.people, overview = excluded.overview
    WHERE (movie_content.keywords, movie_content.people, movie_content.overview)
        IS DISTINCT FROM (excluded.keywords, excluded.people, excluded.overview)
""")
_DROP_CONTENT: Final = text("""
    DELETE FROM movie_content
    USING unnest(CAST(:ids AS text[])) AS id WHERE movie_id = id
""")
# asyncpg takes the very first moment of the calendar for -infinity.
_EARLIEST: Final = datetime.min.replace(microsecond=1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class UserRating:
    """A user's word on a film; `half_steps` is twice the score, None where it was taken back."""

    user_id: str
    movie_id: str
    half_steps: int | None
    rated_at: datetime

    @property
    def order(self) -> tuple[datetime, int]:
        """The greatest one counts."""
        return self.rated_at, self.half_steps or 0


async def keep_newest_ratings(connection: AsyncConnection, ratings: Iterable[UserRating]) -> None:
    """Store those that are newer than what is stored of the same user and key."""
    newest: dict[tuple[str, str], UserRating] = {}
    for rating in ratings:
        key = (rating.user_id, rating.movie_id)
        known = newest.get(key)
        if known is None or known.order < rating.order:
            newest[key] = rating
    if not newest:
        return
    # In the order of the keys, so that no two transactions wait for each other in a circle.
    rows = [newest[key] for key in sorted(newest)]
    parameters = {
        "users": [row.user_id for row in rows],
        "movies": [row.movie_id for row in rows],
        "half_steps": [row.half_steps for row in rows],
        "moments": [max(row.rated_at, _EARLIEST) for row in rows],
    }
    await connection.execute(_KEEP_NEWEST, parameters)


async def forget_ratings(connection: AsyncConnection, user_ids: Collection[str]) -> None:
    """Delete all ratings of these users."""
    await connection.execute(_FORGET, {"users": list(user_ids)})


async def write_content(
    connection: AsyncConnection, changed: Sequence[tuple[str, Movie | None, bool]]
) -> None:
    """Store what films are about, as of the versions that were just stored.

    Args:
        changed: each film's key, its newest version (None: removed), and whether it is new; of a
            new film without content there is nothing to do, as of nearly all in a bulk import.
    """
    rows: list[dict[str, object]] = []
    without: list[str] = []
    for movie_id, movie, is_new in changed:
        keywords = () if movie is None else unique(movie.keywords, MAX_KEYWORDS)
        people = () if movie is None else people_of(movie)
        overview = "" if movie is None else (movie.overview or "")[:MAX_OVERVIEW]
        if keywords or people or overview:
            rows.append(
                {
                    "movie_id": movie_id,
                    "keywords": keywords,
                    "people": people,
                    "overview": overview,
                }
            )
        elif not is_new:
            without.append(movie_id)
    if rows:
        await connection.execute(_WRITE_CONTENT, {"rows": json.dumps(rows)})
    if without:
        await connection.execute(_DROP_CONTENT, {"ids": without})


def people_of(movie: Movie) -> tuple[str, ...]:
    """The directors, and the first of the cast by billing."""
    directors = [member.name for member in movie.crew if member.job.casefold() == "director"]
    billed = sorted(movie.cast, key=lambda member: member.order)[:MAX_CAST]
    return unique([*directors, *(member.name for member in billed)], 2 * MAX_CAST)


def unique(names: Iterable[str], limit: int) -> tuple[str, ...]:
    """The first of each name, without regard to case."""
    found: dict[str, str] = {}
    for name in names:
        if stripped := name.strip():
            found.setdefault(stripped.casefold(), stripped)
    return tuple(found.values())[:limit]
