"""All SQL that changes ratings, their sums and the films they are about.

**Locks.** The row in `movies` is a key's mutex: whoever changes the row itself, ratings under the
key, or its aggregate, holds it. The locks of a whole batch are taken in the order of the keys,
missing rows first, hence no two transactions wait for each other in a circle:

- While rows are being inserted, only uncommitted rows of one's own are held, in ascending order;
  those who wait for them are inserting, too.
- While existing rows are being locked, nobody inserting is waited for, since every row is there.

**Keys that belong together.** `movies.film` of a key's row says who claims it. To rate a film its
own row is enough: nobody can claim it, and move what is rated, while it is held. To join keys their
rows and those of the films that they lead to are held. Which these are is read before; when
meanwhile another transaction has joined just these keys, the missing rows are locked out of order.
That may become a deadlock, which PostgreSQL resolves and the runtime repeats.

What depends on a lock is read by a statement of its own after it: one that waits for a lock sees
the locked row as it is, but everything else as it was before.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from moviemetric_contracts import Movie
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from rating_service.ratings.projection import Aggregate, Command, RatingKey, Stored

_INSERT_MISSING: Final = text("""
    INSERT INTO movies (movie_id)
    SELECT id FROM unnest(CAST(:ids AS text[])) AS id ORDER BY id COLLATE "C"
    ON CONFLICT DO NOTHING
""")
# Those who claim each key, one after the other, the key itself first. OFFSET 0: each row is looked
# up in the index, whatever the planner takes the length of the recursion for.
_CHAINS: Final = text("""
    WITH RECURSIVE chain (key, movie_id, film) AS (
        SELECT id, movie_id, film
        FROM unnest(CAST(:ids AS text[])) AS id JOIN movies ON movie_id = id
        UNION ALL
        SELECT key, claimant.movie_id, claimant.film FROM chain, LATERAL (
            SELECT movie_id, film FROM movies WHERE movie_id = chain.film OFFSET 0
        ) AS claimant
    )
    SELECT key, movie_id, film FROM chain
""")
# Joins rather than `= ANY(...)`, so that a scan costs rows plus keys at most, not rows times keys.
_LOCK: Final = text("""
    SELECT movie_id, revision, present, film
    FROM unnest(CAST(:ids AS text[])) AS id JOIN movies ON movie_id = id
    ORDER BY movie_id FOR NO KEY UPDATE OF movies
""")
_MOVIE_COLUMNS: Final = """
    movie_id, revision, present, tmdb_id, title, release_date, genres, genre_keys, vote_average,
    vote_count, poster_path
"""
# JSON rather than arrays, because genres are a list in a row and differ in length.
_NEW_MOVIES: Final = """
    jsonb_to_recordset(CAST(:rows AS jsonb)) AS new (
        movie_id text, revision bigint, present boolean, film text, tmdb_id integer, title text,
        release_date date, genres text[], genre_keys text[], vote_average float8,
        vote_count bigint, poster_path text)
"""
_INSERT_MOVIES: Final = text(f"""
    INSERT INTO movies ({_MOVIE_COLUMNS}, film)
    SELECT {_MOVIE_COLUMNS}, film FROM {_NEW_MOVIES} ORDER BY movie_id COLLATE "C"
    ON CONFLICT DO NOTHING
    RETURNING movie_id, revision, present, film
""")  # noqa: S608 -- made of constants
_UPDATE_MOVIES: Final = text(f"""
    UPDATE movies SET
        revision = new.revision,
        present = new.present,
        tmdb_id = new.tmdb_id,
        title = new.title,
        release_date = new.release_date,
        genres = new.genres,
        genre_keys = new.genre_keys,
        vote_average = new.vote_average,
        vote_count = new.vote_count,
        poster_path = new.poster_path
    FROM {_NEW_MOVIES}
    WHERE movies.movie_id = new.movie_id
""")  # noqa: S608 -- made of constants
_CLAIM: Final = text("""
    UPDATE movies SET film = new.film
    FROM unnest(CAST(:aliases AS text[]), CAST(:films AS text[])) AS new (alias, film)
    WHERE movie_id = new.alias
""")
_RATINGS: Final = text("""
    SELECT user_id, movie_id, half_steps, changed_at, event_id
    FROM unnest(CAST(:users AS text[]), CAST(:films AS text[])) AS wanted (wanted_user, film)
    JOIN ratings ON user_id = wanted_user AND movie_id = film
""")
_WRITE_RATINGS: Final = text("""
    INSERT INTO ratings (user_id, movie_id, half_steps, review, changed_at, event_id)
    SELECT * FROM unnest(
        CAST(:users AS text[]), CAST(:films AS text[]), CAST(:half_steps AS smallint[]),
        CAST(:reviews AS text[]), CAST(:moments AS timestamptz[]), CAST(:event_ids AS text[]))
    ON CONFLICT (user_id, movie_id) DO UPDATE SET
        half_steps = excluded.half_steps,
        review = excluded.review,
        changed_at = excluded.changed_at,
        event_id = excluded.event_id
""")
_MOVE_RATINGS: Final = text("""
    WITH moved AS (
        DELETE FROM ratings
        USING unnest(CAST(:aliases AS text[]), CAST(:films AS text[])) AS pair (alias, film)
        WHERE movie_id = pair.alias
        RETURNING user_id, pair.film, half_steps, review, changed_at, event_id
    ), written AS (
        INSERT INTO ratings (user_id, movie_id, half_steps, review, changed_at, event_id)
        SELECT DISTINCT ON (user_id, film) * FROM moved
        ORDER BY user_id, film, changed_at DESC, event_id DESC
        ON CONFLICT (user_id, movie_id) DO UPDATE SET
            half_steps = excluded.half_steps,
            review = excluded.review,
            changed_at = excluded.changed_at,
            event_id = excluded.event_id
        WHERE (ratings.changed_at, ratings.event_id) < (excluded.changed_at, excluded.event_id)
        RETURNING movie_id
    )
    SELECT DISTINCT movie_id FROM written
""")
_COUNT_RATINGS: Final = text("""
    SELECT movie_id, half_steps, count(*) AS ratings
    FROM unnest(CAST(:ids AS text[])) AS id JOIN ratings ON movie_id = id
    WHERE half_steps IS NOT NULL GROUP BY movie_id, half_steps
""")
_AGGREGATES: Final = text("""
    SELECT movie_id, histogram, revision
    FROM unnest(CAST(:ids AS text[])) AS id JOIN aggregates ON movie_id = id
""")
_SAVE_AGGREGATES: Final = text("""
    INSERT INTO aggregates (movie_id, histogram, revision)
    SELECT id, CAST(histogram AS bigint[]), revision
    FROM unnest(CAST(:ids AS text[]), CAST(:histograms AS text[]), CAST(:revisions AS bigint[]))
        AS new (id, histogram, revision)
    ON CONFLICT (movie_id) DO UPDATE SET
        histogram = excluded.histogram, revision = excluded.revision
""")
_FILMS_RATED_BY: Final = text("SELECT movie_id FROM ratings WHERE user_id = :user_id")
_DELETE_RATINGS_OF: Final = text("""
    DELETE FROM ratings WHERE user_id = :user_id RETURNING movie_id, half_steps
""")


@dataclass(frozen=True, slots=True)
class KeyState:
    """What is known of a key; `film` is who claims it, `revision` 0 where there is no version."""

    revision: int = 0
    present: bool = False
    film: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What a revision says of a film; `movie` is None when it left the catalogue."""

    movie_id: str
    revision: int
    movie: Movie | None


async def lock_films(
    connection: AsyncConnection, keys: Collection[str]
) -> tuple[dict[str, str], dict[str, KeyState]]:
    """Hold the films that these keys name until the end of the transaction.

    Keys of which nothing is known yet are created.

    Returns:
        The own key of each key's film, and the states of those.
    """
    own = await _own_keys(connection, keys)
    if missing := sorted(set(keys) - own.keys()):
        await connection.execute(_INSERT_MISSING, {"ids": missing})
        own |= await _own_keys(connection, missing)
    states = await _lock(connection, set(own.values()))
    # A film may have been claimed while its row was waited for.
    while lost := [key for key, film in own.items() if states[film].film is not None]:
        own |= await _own_keys(connection, lost)
        states |= await _lock(connection, set(own.values()) - states.keys())
    return own, states


async def lock_chains(connection: AsyncConnection, keys: Collection[str]) -> dict[str, KeyState]:
    """Hold these keys, which all have a row, and all that they lead to."""
    rows = await connection.execute(_CHAINS, {"ids": list(keys)})
    wanted = {row.movie_id for row in rows}
    states: dict[str, KeyState] = {}
    while wanted:
        states |= await _lock(connection, wanted)
        wanted = {state.film for state in states.values() if state.film} - states.keys()
    return states


async def _own_keys(connection: AsyncConnection, keys: Collection[str]) -> dict[str, str]:
    rows = await connection.execute(_CHAINS, {"ids": list(keys)})
    return {row.key: row.movie_id for row in rows if row.film is None}


async def _lock(connection: AsyncConnection, keys: Collection[str]) -> dict[str, KeyState]:
    rows = await connection.execute(_LOCK, {"ids": list(keys)})
    return {row.movie_id: KeyState(row.revision, row.present, row.film) for row in rows}


async def insert_movies(
    connection: AsyncConnection, versions: Collection[Version], claims: Mapping[str, str]
) -> dict[str, KeyState]:
    """Create those of the films and claimed keys of which nothing is known yet, as they are.

    Nearly all in a bulk import, where this is all that is written. The rows are held.

    Args:
        claims: which film claims a key.
    """
    known = {version.movie_id: version for version in versions}
    rows = [
        _movie_row(known.get(key) or Version(movie_id=key, revision=0, movie=None))
        | {"film": claims.get(key)}
        for key in known.keys() | claims.keys()
    ]
    created = await connection.execute(_INSERT_MOVIES, {"rows": json.dumps(rows)})
    return {row.movie_id: KeyState(row.revision, row.present, row.film) for row in created}


async def update_movies(connection: AsyncConnection, versions: Sequence[Version]) -> None:
    """Write versions that are newer than the stored ones, whose rows are held."""
    if versions:
        rows = [_movie_row(version) for version in versions]
        await connection.execute(_UPDATE_MOVIES, {"rows": json.dumps(rows)})


async def claim_keys(connection: AsyncConnection, claims: Mapping[str, str]) -> None:
    """From now on these keys lead to these films. The rows of the keys are held."""
    if claims:
        parameters = {"aliases": list(claims), "films": list(claims.values())}
        await connection.execute(_CLAIM, parameters)


async def read_ratings(
    connection: AsyncConnection, keys: Collection[RatingKey]
) -> dict[RatingKey, Stored]:
    """What is known of these users and films."""
    rows = await connection.execute(
        _RATINGS, {"users": [user for user, _ in keys], "films": [film for _, film in keys]}
    )
    return {
        (row.user_id, row.movie_id): Stored(row.half_steps, row.changed_at, row.event_id)
        for row in rows
    }


async def write_ratings(connection: AsyncConnection, commands: Mapping[RatingKey, Command]) -> None:
    """Put these in the place of what is known. The films are held."""
    if not commands:
        return
    # In the order of the primary key, so that neighbours are written together.
    items = sorted(commands.items(), key=lambda item: item[0])
    await connection.execute(
        _WRITE_RATINGS,
        {
            "users": [user for (user, _), _ in items],
            "films": [film for (_, film), _ in items],
            "half_steps": [command.stored.half_steps for _, command in items],
            "reviews": [command.review for _, command in items],
            "moments": [command.stored.changed_at for _, command in items],
            "event_ids": [command.stored.event_id for _, command in items],
        },
    )


async def move_ratings(connection: AsyncConnection, films: Mapping[str, str]) -> set[str]:
    """What was rated under a key becomes its film's; of two ratings of a user the newer stays.

    Returns:
        The films that have other ratings than before.
    """
    if not films:
        return set()
    parameters = {"aliases": list(films), "films": list(films.values())}
    return set((await connection.execute(_MOVE_RATINGS, parameters)).scalars())


async def count_ratings(
    connection: AsyncConnection, movie_ids: Collection[str]
) -> dict[str, list[int]]:
    """The histogram of each film, counted anew."""
    if not movie_ids:
        return {}
    histograms = {movie_id: Aggregate(movie_id).histogram for movie_id in movie_ids}
    for row in await connection.execute(_COUNT_RATINGS, {"ids": list(movie_ids)}):
        histograms[row.movie_id][row.half_steps - 1] = row.ratings
    return histograms


async def read_aggregates(
    connection: AsyncConnection, movie_ids: Collection[str]
) -> dict[str, Aggregate]:
    """The sums of those films that were ever rated."""
    rows = await connection.execute(_AGGREGATES, {"ids": list(movie_ids)})
    return {
        row.movie_id: Aggregate(row.movie_id, list(row.histogram), row.revision) for row in rows
    }


async def save_aggregates(connection: AsyncConnection, aggregates: Iterable[Aggregate]) -> None:
    """Write sums of films that are held; each gets the next revision."""
    changed = sorted(aggregates, key=lambda aggregate: aggregate.movie_id)
    if not changed:
        return
    for aggregate in changed:
        aggregate.revision += 1
    await connection.execute(
        _SAVE_AGGREGATES,
        {
            "ids": [aggregate.movie_id for aggregate in changed],
            "histograms": [
                "{" + ",".join(map(str, aggregate.histogram)) + "}" for aggregate in changed
            ],
            "revisions": [aggregate.revision for aggregate in changed],
        },
    )


async def films_rated_by(connection: AsyncConnection, user_id: str) -> set[str]:
    """Every film of which anything of the user's is kept."""
    return set((await connection.execute(_FILMS_RATED_BY, {"user_id": user_id})).scalars())


async def delete_ratings_of(
    connection: AsyncConnection, user_id: str
) -> list[tuple[str, int | None]]:
    """Drop all of a user's ratings, whose films are held; answers each film and half steps."""
    rows = await connection.execute(_DELETE_RATINGS_OF, {"user_id": user_id})
    return [(row.movie_id, row.half_steps) for row in rows]


def genre_key(genre: str) -> str:
    """By what genres are compared: `Science Fiction` and `science fiction` are the same."""
    return genre.strip().casefold()


def _movie_row(version: Version) -> dict[str, Any]:
    movie = version.movie
    row: dict[str, Any] = {
        "movie_id": version.movie_id,
        "revision": version.revision,
        "present": movie is not None,
        "genres": [],
        "genre_keys": [],
    }
    if movie is None:
        return row
    return row | {
        "tmdb_id": movie.tmdb_id,
        "title": movie.title,
        "release_date": movie.release_date.isoformat() if movie.release_date else None,
        "genres": list(movie.genres),
        "genre_keys": [genre_key(genre) for genre in movie.genres],
        "vote_average": movie.vote_average,
        "vote_count": movie.vote_count,
        "poster_path": movie.poster_path,
    }
