"""The SQL of what events change: activity, trends, films and their claims.

The charts are read in `charts`; what is computed ahead has a repository of its own.

**Locks.** The row in `trends` is a key's mutex: whoever changes anything of it, here, in `movies`
or in `aliases` (there: of both keys), holds it. `lock_trends` takes the locks of a whole batch in
the order of the keys, missing rows first, and so does the announcer, hence no two transactions
wait for each other in a circle:

- While rows are being inserted, only uncommitted rows of one's own are held, in ascending order;
  those who wait for them are inserting, too.
- While existing rows are being locked, nobody inserting is waited for, since every row is there.

**Keys that belong together.** Which film a key belongs to is `trends.film` of its row, so whoever
holds the row knows it for certain, and the film's own row has to be held as well. To which keys a
film must be joined is read from `aliases` after locking, when all who could change it wait. The
locks are taken by what was known before; when meanwhile another transaction has joined just
these keys, the missing ones are locked out of order. That may become a deadlock, which PostgreSQL
resolves and the runtime repeats.
"""

import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from moviemetric_contracts import Movie
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from compute_service.aliases import Claim
from compute_service.facets import Facets
from compute_service.projection import TrendState, WindowState
from compute_service.recommendation.inputs import write_content
from compute_service.trend import Film, Kind, Ratings

_APPEND_ACTIVITY: Final = text("""
    INSERT INTO activity (movie_id, kind, occurred_at, user_id, session_id)
    SELECT * FROM unnest(
        CAST(:movie_ids AS text[]), CAST(:kinds AS text[]), CAST(:moments AS timestamptz[]),
        CAST(:users AS text[]), CAST(:sessions AS text[]))
""")
_FORGET_USERS: Final = text("""
    UPDATE activity SET user_id = NULL, session_id = NULL
    FROM unnest(CAST(:users AS text[])) AS erased (id) WHERE user_id = erased.id
""")
# Rows have no key of their own; among those of the same moment their place in the table decides.
# Nothing but an erasure moves them, and that leaves none to go on with.
_ACTIVITY_OF_USER: Final = text("""
    SELECT movie_id, kind, occurred_at, session_id, CAST(ctid AS text) AS place FROM activity
    WHERE user_id = :user AND occurred_at >= :moment
      AND (occurred_at > :moment OR ctid > CAST(CAST(:place AS text) AS tid))
    ORDER BY occurred_at, ctid LIMIT :limit
""")
_INSERT_MISSING: Final = text("""
    INSERT INTO trends (movie_id)
    SELECT id FROM unnest(CAST(:ids AS text[])) AS id ORDER BY id COLLATE "C"
    ON CONFLICT DO NOTHING
    RETURNING movie_id
""")
_STATE_COLUMNS: Final = """
    movie_id, views, ratings_count, ratings_sum, ratings_revision, log_quality,
    log_activity_day, log_prior_day, rank_key_day,
    log_activity_week, log_prior_week, rank_key_week,
    film, alias_views, alias_ratings_count, alias_ratings_sum,
    alias_log_activity_day, alias_log_activity_week,
    facet_year, facet_language, facet_votes, facet_genres
"""
# Joins rather than `= ANY(...)`: a plan made while a table was small and kept for too long may scan
# it, which then costs rows plus keys, not rows times keys.
_LOCK: Final = text(f"""
    SELECT {_STATE_COLUMNS}
    FROM (
        SELECT unnest(CAST(:ids AS text[])) AS id
        UNION
        SELECT key.film FROM unnest(CAST(:ids AS text[])) AS id
        JOIN trends AS key ON key.movie_id = id WHERE key.film IS NOT NULL
    ) AS wanted
    JOIN trends ON movie_id = id
    ORDER BY movie_id FOR NO KEY UPDATE OF trends
""")  # noqa: S608 -- made of constants
_READ: Final = text(f"""
    SELECT {_STATE_COLUMNS} FROM unnest(CAST(:ids AS text[])) AS id JOIN trends ON movie_id = id
""")  # noqa: S608 -- made of constants
_FILMS_OF: Final = text("""
    SELECT movie_id, film FROM unnest(CAST(:ids AS text[])) AS id JOIN trends ON movie_id = id
    WHERE film IS NOT NULL
""")
_NEW_STATES: Final = f"""
    unnest(
        CAST(:movie_id AS text[]), CAST(:views AS bigint[]), CAST(:ratings_count AS bigint[]),
        CAST(:ratings_sum AS float8[]), CAST(:ratings_revision AS bigint[]),
        CAST(:log_quality AS float8[]), CAST(:log_activity_day AS float8[]),
        CAST(:log_prior_day AS float8[]), CAST(:rank_key_day AS float8[]),
        CAST(:log_activity_week AS float8[]), CAST(:log_prior_week AS float8[]),
        CAST(:rank_key_week AS float8[]), CAST(:film AS text[]), CAST(:alias_views AS bigint[]),
        CAST(:alias_ratings_count AS bigint[]), CAST(:alias_ratings_sum AS float8[]),
        CAST(:alias_log_activity_day AS float8[]), CAST(:alias_log_activity_week AS float8[]),
        CAST(:facet_year AS smallint[]), CAST(:facet_language AS text[]),
        CAST(:facet_votes AS bigint[]), CAST(:facet_genres AS bigint[])
    ) AS new ({_STATE_COLUMNS})
"""
_INSERT_STATES: Final = text(f"""
    INSERT INTO trends ({_STATE_COLUMNS}, dirty)
    SELECT {_STATE_COLUMNS}, rank_key_day IS NOT NULL FROM {_NEW_STATES}
    ORDER BY movie_id COLLATE "C"
    ON CONFLICT DO NOTHING
    RETURNING movie_id
""")  # noqa: S608 -- made of constants
_SAVE: Final = text(f"""
    UPDATE trends SET
        views = new.views,
        ratings_count = new.ratings_count,
        ratings_sum = new.ratings_sum,
        ratings_revision = new.ratings_revision,
        log_quality = new.log_quality,
        log_activity_day = new.log_activity_day,
        log_prior_day = new.log_prior_day,
        rank_key_day = new.rank_key_day,
        log_activity_week = new.log_activity_week,
        log_prior_week = new.log_prior_week,
        rank_key_week = new.rank_key_week,
        film = new.film,
        alias_views = new.alias_views,
        alias_ratings_count = new.alias_ratings_count,
        alias_ratings_sum = new.alias_ratings_sum,
        alias_log_activity_day = new.alias_log_activity_day,
        alias_log_activity_week = new.alias_log_activity_week,
        facet_year = new.facet_year,
        facet_language = new.facet_language,
        facet_votes = new.facet_votes,
        facet_genres = new.facet_genres,
        dirty = new.rank_key_day IS NOT NULL
    FROM {_NEW_STATES}
    WHERE trends.movie_id = new.movie_id
""")  # noqa: S608 -- made of constants
# JSON rather than arrays, because genres are a list in a row and differ in length.
_UPSERT_MOVIES: Final = text("""
    INSERT INTO movies (
        movie_id, revision, removed, tmdb_id, imdb_id, title, original_title, original_language,
        release_date, genres, genre_keys, vote_average, vote_count, popularity, poster_path,
        fetched_at, aliases_revision)
    SELECT
        movie_id, revision, removed, tmdb_id, imdb_id, title, original_title, original_language,
        release_date, genres, genre_keys, vote_average, vote_count, popularity, poster_path,
        fetched_at, aliases_revision
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS new (
        movie_id text, revision bigint, removed boolean, tmdb_id integer, imdb_id text, title text,
        original_title text, original_language text, release_date date, genres text[],
        genre_keys text[], vote_average float8, vote_count bigint, popularity float8,
        poster_path text, fetched_at timestamptz, aliases_revision bigint)
    ON CONFLICT (movie_id) DO UPDATE SET
        revision = excluded.revision,
        removed = excluded.removed,
        tmdb_id = excluded.tmdb_id,
        imdb_id = excluded.imdb_id,
        title = excluded.title,
        original_title = excluded.original_title,
        original_language = excluded.original_language,
        release_date = excluded.release_date,
        genres = excluded.genres,
        genre_keys = excluded.genre_keys,
        vote_average = excluded.vote_average,
        vote_count = excluded.vote_count,
        popularity = excluded.popularity,
        poster_path = excluded.poster_path,
        fetched_at = excluded.fetched_at,
        aliases_revision = GREATEST(movies.aliases_revision, excluded.aliases_revision)
    WHERE movies.revision < excluded.revision
    RETURNING movie_id, aliases_revision
""")
_FILMS: Final = text("""
    SELECT movie_id, vote_average, vote_count, popularity, fetched_at, release_date,
        original_language, genre_keys
    FROM unnest(CAST(:ids AS text[])) AS id JOIN movies ON movie_id = id
    WHERE NOT removed
""")
# An older version than the removal that came before it, but with newer claims than were known.
_CLAIM_FOR_REMOVED: Final = text("""
    UPDATE movies SET aliases_revision = new.revision
    FROM unnest(CAST(:ids AS text[]), CAST(:revisions AS bigint[])) AS new (id, revision)
    WHERE movie_id = id AND removed AND aliases_revision < new.revision
    RETURNING movie_id, aliases_revision
""")
# UNION, not UNION ALL: it ends also where films claim each other. OFFSET 0: each key is looked up
# in the index, whatever the planner takes the length of the recursion for.
_CONNECTED_CLAIMS: Final = text("""
    WITH RECURSIVE connected (id) AS (
        SELECT id COLLATE "C" FROM unnest(CAST(:ids AS text[])) AS id
        UNION
        SELECT neighbour.id FROM connected, LATERAL (
            SELECT movie_id FROM aliases WHERE alias = connected.id
            UNION ALL
            SELECT alias FROM aliases WHERE movie_id = connected.id
        ) AS neighbour (id)
    )
    SELECT claim.alias, claim.movie_id FROM connected, LATERAL (
        SELECT alias, movie_id FROM aliases WHERE alias = connected.id OFFSET 0
    ) AS claim
""")
_ALL_CLAIMS: Final = text("SELECT alias, movie_id FROM aliases")
_ADD_CLAIMS: Final = text("""
    INSERT INTO aliases (alias, movie_id)
    SELECT * FROM unnest(CAST(:aliases AS text[]), CAST(:films AS text[]))
""")
_DROP_CLAIMS: Final = text("""
    DELETE FROM aliases
    USING unnest(CAST(:aliases AS text[]), CAST(:films AS text[])) AS old (alias, movie_id)
    WHERE aliases.alias = old.alias AND aliases.movie_id = old.movie_id
""")
_TRY_TO_BE_THE_ANNOUNCER: Final = text("""
    SELECT pg_try_advisory_xact_lock(hashtextextended('compute-service trend announcer', 0))
""")
_LOCK_DIRTY: Final = text(f"""
    SELECT {_STATE_COLUMNS} FROM trends
    WHERE dirty AND movie_id > :after
    ORDER BY movie_id LIMIT :limit FOR NO KEY UPDATE
""")  # noqa: S608 -- made of constants
_MARK_CLEAN: Final = text("""
    UPDATE trends SET dirty = false
    FROM unnest(CAST(:ids AS text[])) AS id WHERE movie_id = id
""")
_NEXT_REVISION: Final = text("SELECT nextval('trend_revision')")
_STOP_CHANGES: Final = text("LOCK TABLE trends IN SHARE ROW EXCLUSIVE MODE")
_NO_TIMEOUT: Final = text("SET LOCAL statement_timeout = 0")
_ALL_ACTIVITY: Final = text("SELECT movie_id, kind, occurred_at FROM activity")
_TREND_KEYS: Final = text("SELECT movie_id FROM trends ORDER BY movie_id")
_APPLIED_FORMULA: Final = text("SELECT fingerprint FROM applied_formula")
_APPLY_FORMULA: Final = text("""
    INSERT INTO applied_formula (fingerprint) VALUES (:fingerprint)
    ON CONFLICT (one_row) DO UPDATE SET fingerprint = excluded.fingerprint
""")
# asyncpg takes the very first moment of the calendar for -infinity.
_BEFORE_ALL: Final = datetime.min.replace(tzinfo=UTC)
_EARLIEST: Final = _BEFORE_ALL.replace(microsecond=1)


@dataclass(frozen=True, slots=True)
class Impulse:
    """Somebody did something with a film. `occurred_at` is already clamped to the server's
    clock."""

    movie_id: str
    kind: Kind
    occurred_at: datetime
    user_id: str | None = None
    session_id: str | None = None


@dataclass(frozen=True, slots=True)
class ActivityPlace:
    """Where a row stands among those of its user: by time, and by its place in the table."""

    occurred_at: datetime
    place: str


@dataclass(frozen=True, slots=True)
class UserActivity:
    """What is kept of something that a user did."""

    movie_id: str
    kind: Kind
    session_id: str | None
    at: ActivityPlace


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What a revision says of a film.

    Attributes:
        movie: None when the film left the catalogue.
        film: what the score needs of it, with its time of fetching clamped to the server's clock.
        aliases: the other keys that the film claimed when it was changed last, at
            `aliases_revision`; 0 when that is not known.
    """

    movie_id: str
    revision: int
    movie: Movie | None
    film: Film | None
    aliases: tuple[str, ...] = ()
    aliases_revision: int = 0


async def append_activity(connection: AsyncConnection, impulses: Sequence[Impulse]) -> None:
    """Keep the raw events, in one statement."""
    await connection.execute(
        _APPEND_ACTIVITY,
        {
            "movie_ids": [impulse.movie_id for impulse in impulses],
            "kinds": [impulse.kind.value for impulse in impulses],
            "moments": [max(impulse.occurred_at, _EARLIEST) for impulse in impulses],
            "users": [impulse.user_id for impulse in impulses],
            "sessions": [impulse.session_id for impulse in impulses],
        },
    )


async def forget_users(connection: AsyncConnection, user_ids: Collection[str]) -> None:
    """What they did stays, and that it was they who did it does not."""
    await connection.execute(_FORGET_USERS, {"users": list(user_ids)})


async def activity_of(
    connection: AsyncConnection, user_id: str, *, after: ActivityPlace | None, limit: int
) -> list[UserActivity]:
    """What a user did behind `after`, oldest first."""
    parameters = {
        "user": user_id,
        "moment": _BEFORE_ALL if after is None else after.occurred_at,
        "place": "(0,0)" if after is None else after.place,
        "limit": limit,
    }
    return [
        UserActivity(
            movie_id=row.movie_id,
            kind=Kind(row.kind),
            session_id=row.session_id,
            at=ActivityPlace(row.occurred_at, row.place),
        )
        for row in await connection.execute(_ACTIVITY_OF_USER, parameters)
    ]


async def lock_trends(
    connection: AsyncConnection,
    keys: Collection[str],
    *,
    initial: Mapping[str, TrendState] = MappingProxyType({}),
) -> dict[str, TrendState]:
    """The states of the keys, created where missing, and of the films that they belong to.

    They are held until the end of the transaction.

    Args:
        initial: what to create those as of which nothing is known yet; the very objects are
            answered then, and need not be saved. So the films of a bulk import are written once
            instead of created, locked, read and written again.
    """
    ids = sorted(set(keys))
    if initial:
        fresh = [initial.get(key) or TrendState(key) for key in ids]
        rows = await connection.execute(_INSERT_STATES, _columns(fresh))
    else:
        rows = await connection.execute(_INSERT_MISSING, {"ids": ids})
    states = {key: initial.get(key) or TrendState(key) for key in rows.scalars()}
    ids = [key for key in ids if key not in states]
    while ids:
        rows = await connection.execute(_LOCK, {"ids": ids})
        states |= {row.movie_id: _state(row) for row in rows}
        # A key may have been joined to its film while its row was waited for.
        ids = sorted({state.film for state in states.values() if state.film} - states.keys())
    return states


async def read_trends(connection: AsyncConnection, keys: Sequence[str]) -> dict[str, TrendState]:
    """The states of those keys that anything is known of, each as it is stored."""
    rows = await connection.execute(_READ, {"ids": list(keys)})
    return {row.movie_id: _state(row) for row in rows}


async def films_of(connection: AsyncConnection, keys: Sequence[str]) -> dict[str, str]:
    """The own key of the film that each key names, itself where it is no other name of one."""
    rows = await connection.execute(_FILMS_OF, {"ids": list(keys)})
    return {key: key for key in keys} | {row.movie_id: row.film for row in rows}


async def save_locked(connection: AsyncConnection, states: Sequence[TrendState]) -> None:
    """Write states whose locks are held; those with a score will be announced."""
    if states:
        await connection.execute(_SAVE, _columns(states))


async def write_newer_movies(
    connection: AsyncConnection, versions: Sequence[Version]
) -> tuple[set[str], list[Version]]:
    """Store each version whose revision is above the stored one, with what the film is about.

    Args:
        versions: one for each film. Their trends must be locked.

    Returns:
        The keys of the films that changed, and those versions whose claims are the newest.
    """
    rows = [_movie_row(version) for version in versions]
    written = await connection.execute(_UPSERT_MOVIES, {"rows": json.dumps(rows)})
    claims_of = {row.movie_id: row.aliases_revision for row in written}
    changed = set(claims_of)
    await write_content(
        connection,
        [
            (version.movie_id, version.movie, version.revision == 1)
            for version in versions
            if version.movie_id in changed
        ],
    )
    late = [version for version in versions if version.movie_id not in changed]
    if late := [version for version in late if version.aliases_revision]:
        written = await connection.execute(
            _CLAIM_FOR_REMOVED,
            {
                "ids": [version.movie_id for version in late],
                "revisions": [version.aliases_revision for version in late],
            },
        )
        claims_of |= {row.movie_id: row.aliases_revision for row in written}
    newest = [
        version
        for version in versions
        if version.aliases_revision and claims_of.get(version.movie_id) == version.aliases_revision
    ]
    return changed, newest


async def connected_claims(connection: AsyncConnection, keys: Collection[str]) -> set[Claim]:
    """All claims that lead to or from these keys, directly or by other keys."""
    rows = await connection.execute(_CONNECTED_CLAIMS, {"ids": list(keys)})
    return {Claim(*row) for row in rows}


async def all_claims(connection: AsyncConnection) -> set[Claim]:
    """Every claim of every film."""
    return {Claim(*row) for row in await connection.execute(_ALL_CLAIMS)}


async def change_claims(
    connection: AsyncConnection, *, before: Collection[Claim], after: Collection[Claim]
) -> None:
    """Of the claims `before` only those `after` are left, and new ones added.

    The trends of all their keys must be locked.
    """
    for statement, claims in (
        (_DROP_CLAIMS, set(before).difference(after)),
        (_ADD_CLAIMS, set(after).difference(before)),
    ):
        if claims:
            parameters = {
                "aliases": [claim.alias for claim in claims],
                "films": [claim.movie_id for claim in claims],
            }
            await connection.execute(statement, parameters)


async def films_in_catalogue(
    connection: AsyncConnection, movie_ids: Collection[str]
) -> dict[str, Film]:
    """What the score needs of those films that are in the catalogue."""
    rows = await connection.execute(_FILMS, {"ids": list(movie_ids)})
    return {
        row.movie_id: Film(
            vote_average=row.vote_average,
            vote_count=row.vote_count,
            popularity=row.popularity,
            fetched_at=row.fetched_at,
            facets=Facets.of(
                release_date=row.release_date,
                original_language=row.original_language,
                vote_count=row.vote_count,
                genre_keys=row.genre_keys,
            ),
        )
        for row in rows
    }


async def try_to_be_the_announcer(connection: AsyncConnection) -> bool:
    """Whether nobody else announces until the end of this transaction.

    One at a time, so that revisions are committed in the order of their numbers. Skipping locked
    rows instead would pass over the busiest films again and again.
    """
    return bool((await connection.execute(_TRY_TO_BE_THE_ANNOUNCER)).scalar_one())


async def take_dirty(connection: AsyncConnection, *, after: str, limit: int) -> list[TrendState]:
    """The next changed films by key above `after`, locked, and no longer marked as changed."""
    rows = await connection.execute(_LOCK_DIRTY, {"after": after, "limit": limit})
    states = [_state(row) for row in rows]
    if states:
        await connection.execute(_MARK_CLEAN, {"ids": [state.movie_id for state in states]})
    return states


async def next_revision(connection: AsyncConnection) -> int:
    """A number above all that were given out before."""
    return int((await connection.execute(_NEXT_REVISION)).scalar_one())


async def stop_changes(connection: AsyncConnection) -> None:
    """Until the end of the transaction nobody else changes trends; it may take its time."""
    await connection.execute(_NO_TIMEOUT)
    await connection.execute(_STOP_CHANGES)


async def all_trend_keys(connection: AsyncConnection) -> list[str]:
    """Every film that has a state, in the order of the keys."""
    return list((await connection.execute(_TREND_KEYS)).scalars())


async def stream_activity(
    connection: AsyncConnection, *, size: int = 5000
) -> AsyncIterator[Sequence[tuple[str, Kind, datetime]]]:
    """All that ever happened, in no order, in pieces of `size` rows: key, kind, when."""
    async with connection.stream(_ALL_ACTIVITY) as rows:
        async for partition in rows.partitions(size):
            yield [(row.movie_id, Kind(row.kind), row.occurred_at) for row in partition]


async def applied_formula(connection: AsyncConnection) -> str | None:
    """The fingerprint of the formula that the stored states were made with; None for none yet."""
    fingerprint: str | None = (await connection.execute(_APPLIED_FORMULA)).scalar_one_or_none()
    return fingerprint


async def record_applied_formula(connection: AsyncConnection, fingerprint: str) -> None:
    """From now on the stored states are made with this formula."""
    await connection.execute(_APPLY_FORMULA, {"fingerprint": fingerprint})


def genre_key(genre: str) -> str:
    """By what genres are compared: `Science Fiction` and `science fiction` are the same."""
    return genre.strip().casefold()


def _columns(states: Sequence[TrendState]) -> dict[str, list[Any]]:
    return {
        "movie_id": [state.movie_id for state in states],
        "views": [state.views for state in states],
        "ratings_count": [state.ratings.count for state in states],
        "ratings_sum": [state.ratings.total for state in states],
        "ratings_revision": [state.ratings_revision for state in states],
        "log_quality": [state.log_quality for state in states],
        "log_activity_day": [state.day.log_activity for state in states],
        "log_prior_day": [state.day.log_prior for state in states],
        "rank_key_day": [state.day.rank_key for state in states],
        "log_activity_week": [state.week.log_activity for state in states],
        "log_prior_week": [state.week.log_prior for state in states],
        "rank_key_week": [state.week.rank_key for state in states],
        "film": [state.film for state in states],
        "alias_views": [state.alias_views for state in states],
        "alias_ratings_count": [state.alias_ratings.count for state in states],
        "alias_ratings_sum": [state.alias_ratings.total for state in states],
        "alias_log_activity_day": [state.day.alias_log_activity for state in states],
        "alias_log_activity_week": [state.week.alias_log_activity for state in states],
        "facet_year": [state.facets.year for state in states],
        "facet_language": [state.facets.language for state in states],
        "facet_votes": [state.facets.votes for state in states],
        "facet_genres": [state.facets.genres for state in states],
    }


def _movie_row(version: Version) -> dict[str, Any]:
    movie, film = version.movie, version.film
    row: dict[str, Any] = {
        "movie_id": version.movie_id,
        "revision": version.revision,
        "removed": movie is None,
        "aliases_revision": version.aliases_revision,
        "genres": [],
        "genre_keys": [],
    }
    if movie is None or film is None:
        return row
    return row | {
        "tmdb_id": movie.tmdb_id,
        "imdb_id": movie.imdb_id,
        "title": movie.title,
        "original_title": movie.original_title,
        "original_language": movie.original_language,
        "release_date": movie.release_date.isoformat() if movie.release_date else None,
        "genres": list(movie.genres),
        "genre_keys": [genre_key(genre) for genre in movie.genres],
        "poster_path": movie.poster_path,
        "vote_average": film.vote_average,
        "vote_count": film.vote_count,
        "popularity": film.popularity,
        "fetched_at": film.fetched_at.isoformat(),
    }


def _state(row: Row[Any]) -> TrendState:
    return TrendState(
        movie_id=row.movie_id,
        views=row.views,
        ratings=Ratings(count=row.ratings_count, total=row.ratings_sum),
        ratings_revision=row.ratings_revision,
        log_quality=row.log_quality,
        day=WindowState(
            row.log_activity_day, row.log_prior_day, row.rank_key_day, row.alias_log_activity_day
        ),
        week=WindowState(
            row.log_activity_week,
            row.log_prior_week,
            row.rank_key_week,
            row.alias_log_activity_week,
        ),
        film=row.film,
        alias_views=row.alias_views,
        alias_ratings=Ratings(count=row.alias_ratings_count, total=row.alias_ratings_sum),
        facets=Facets(
            year=row.facet_year,
            language=row.facet_language,
            votes=row.facet_votes,
            genres=row.facet_genres,
        ),
    )
