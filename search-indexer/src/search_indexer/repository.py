"""All SQL that changes the search service's tables, and what an external index has to be told.

A row changes only for a higher revision, so statements may come twice and in any order. Rows are
written in the order of their key, and tables always in the order facet_groups, documents, listing,
ranking, index_changes, vocabulary: two batches at the same time cannot deadlock. Every statement
runs on the caller's transaction, and none commits.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from typing import Any, Final
from zlib import crc32

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from search_indexer.documents import (
    CatalogueChange,
    Document,
    Figures,
    Ratings,
    Removal,
    Trend,
)
from search_indexer.folding import fold, initials, key_of_words, words
from search_indexer.tokens import tokens_of

# The longest text whose words are searched; tsvector has an upper bound of 1 MiB.
_MAX_INDEXED: Final = 20_000

_STORE_FACET_GROUPS: Final = text("""
INSERT INTO facet_groups (genres, decade, language, genre_keys)
SELECT DISTINCT genres, COALESCE(decade, 0), COALESCE(original_language, ''), genre_keys
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (
    genres text[], decade integer, original_language text, genre_keys text[])
WHERE genres IS NOT NULL
ORDER BY 1, 2, 3
ON CONFLICT DO NOTHING
""")

_STORE_DOCUMENTS: Final = text("""
WITH rows AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (
        movie_id text, revision bigint, tmdb_id integer, imdb_id text, title text,
        original_title text, original_language text, overview text, people text[],
        keywords text[], genres text[], release_date date, vote_average double precision,
        vote_count bigint, popularity double precision, poster_path text, year integer,
        decade integer, title_key text, tokens text, prose text)
),
changed AS (
    INSERT INTO documents AS d (
        movie_id, revision, removed, tmdb_id, imdb_id, title, original_title, original_language,
        overview, people, keywords, genres, release_date, vote_average, vote_count, popularity,
        poster_path, title_key, derived_by)
    SELECT movie_id, revision, title IS NULL, tmdb_id, imdb_id, title, original_title,
        original_language, overview, COALESCE(people, '{}'), COALESCE(keywords, '{}'),
        COALESCE(genres, '{}'), release_date, vote_average, COALESCE(vote_count, 0),
        COALESCE(popularity, 0), poster_path, COALESCE(title_key, ''),
        CAST(:derived_by AS bigint)
    FROM rows
    ORDER BY movie_id
    ON CONFLICT (movie_id) DO UPDATE SET
        revision = excluded.revision, removed = excluded.removed, tmdb_id = excluded.tmdb_id,
        imdb_id = excluded.imdb_id, title = excluded.title,
        original_title = excluded.original_title,
        original_language = excluded.original_language, overview = excluded.overview,
        people = excluded.people, keywords = excluded.keywords, genres = excluded.genres,
        release_date = excluded.release_date, vote_average = excluded.vote_average,
        vote_count = excluded.vote_count, popularity = excluded.popularity,
        poster_path = excluded.poster_path, title_key = excluded.title_key,
        derived_by = excluded.derived_by
    WHERE d.revision < excluded.revision
    RETURNING movie_id, removed
),
listed AS (
    INSERT INTO listing AS l (
        movie_id, shown, facet_group, year, release_date, vote_average, vote_count, popularity,
        tokens)
    SELECT movie_id, NOT changed.removed,
        (SELECT g.id FROM facet_groups g
            WHERE g.genres = rows.genres AND g.decade = COALESCE(rows.decade, 0)
                AND g.language = COALESCE(rows.original_language, '')),
        rows.year, rows.release_date, rows.vote_average, COALESCE(rows.vote_count, 0),
        COALESCE(rows.popularity, 0),
        CAST(COALESCE(rows.tokens, '') AS tsvector)
            || strip(to_tsvector('pg_catalog.english', COALESCE(rows.prose, '')))
    FROM changed JOIN rows USING (movie_id)
    ORDER BY movie_id
    ON CONFLICT (movie_id) DO UPDATE SET
        shown = excluded.shown, facet_group = excluded.facet_group, year = excluded.year,
        release_date = excluded.release_date, vote_average = excluded.vote_average,
        vote_count = excluded.vote_count, popularity = excluded.popularity,
        tokens = excluded.tokens
    RETURNING movie_id, shown, rank_key, popularity
),
ranked AS (
    INSERT INTO ranking AS r (movie_id, shown, rank_key, popularity)
    SELECT movie_id, shown, rank_key, popularity FROM listed ORDER BY movie_id
    ON CONFLICT (movie_id) DO UPDATE SET
        shown = excluded.shown, rank_key = excluded.rank_key, popularity = excluded.popularity
    RETURNING movie_id
)
INSERT INTO index_changes AS c (movie_id, version, whole_document)
SELECT movie_id, nextval('index_change_versions'), true FROM ranked ORDER BY movie_id
ON CONFLICT (movie_id) DO UPDATE SET
    version = excluded.version, whole_document = true, not_before = '-infinity', error = NULL
""")

# Conflicts are looked up in the index whatever the planner knows of the table; an anti-join that
# was planned while the vocabulary was small would be quadratic.
_STORE_WORDS: Final = text("""
INSERT INTO vocabulary (word, named)
SELECT word, named
FROM unnest(CAST(:words AS text[]), CAST(:named AS boolean[])) AS w (word, named)
ORDER BY word COLLATE "C", named
ON CONFLICT DO NOTHING
""")

_STORE_TRENDS: Final = text("""
WITH changed AS (
    INSERT INTO listing AS l (movie_id, trend_revision, score, rank_key, views)
    SELECT * FROM unnest(
        CAST(:movie_ids AS text[]), CAST(:revisions AS bigint[]),
        CAST(:scores AS double precision[]), CAST(:rank_keys AS double precision[]),
        CAST(:views AS bigint[])
    ) AS r (movie_id, trend_revision, score, rank_key, views)
    ORDER BY movie_id
    ON CONFLICT (movie_id) DO UPDATE SET
        trend_revision = excluded.trend_revision, score = excluded.score,
        rank_key = excluded.rank_key, views = excluded.views
    WHERE l.trend_revision < excluded.trend_revision
    RETURNING movie_id, shown, rank_key, popularity
),
ranked AS (
    INSERT INTO ranking AS r (movie_id, shown, rank_key, popularity)
    SELECT movie_id, shown, rank_key, popularity FROM changed ORDER BY movie_id
    ON CONFLICT (movie_id) DO UPDATE SET
        shown = excluded.shown, rank_key = excluded.rank_key, popularity = excluded.popularity
    RETURNING movie_id
)
INSERT INTO index_changes AS c (movie_id, version, whole_document)
SELECT movie_id, nextval('index_change_versions'), false FROM ranked ORDER BY movie_id
ON CONFLICT (movie_id) DO UPDATE SET
    version = excluded.version, not_before = '-infinity', error = NULL
""")

_STORE_RATINGS: Final = text("""
WITH changed AS (
    INSERT INTO listing AS l (movie_id, ratings_revision, local_ratings, local_mean)
    SELECT * FROM unnest(
        CAST(:movie_ids AS text[]), CAST(:revisions AS bigint[]),
        CAST(:counts AS bigint[]), CAST(:means AS double precision[])
    ) AS r (movie_id, ratings_revision, local_ratings, local_mean)
    ORDER BY movie_id
    ON CONFLICT (movie_id) DO UPDATE SET
        ratings_revision = excluded.ratings_revision, local_ratings = excluded.local_ratings,
        local_mean = excluded.local_mean
    WHERE l.ratings_revision < excluded.ratings_revision
    RETURNING movie_id
)
INSERT INTO index_changes AS c (movie_id, version, whole_document)
SELECT movie_id, nextval('index_change_versions'), false FROM changed ORDER BY movie_id
ON CONFLICT (movie_id) DO UPDATE SET
    version = excluded.version, not_before = '-infinity', error = NULL
""")

FACTS: Final = """
    d.revision, d.removed, d.tmdb_id, d.imdb_id, d.title, d.original_title, d.original_language,
    d.overview, d.people, d.keywords, d.genres, d.release_date, d.vote_average, d.vote_count,
    d.popularity, d.poster_path, l.trend_revision, l.score, l.rank_key, l.views,
    l.ratings_revision, l.local_ratings, l.local_mean
"""

# Rows that are being summed up by another process are skipped: they are gone when it has committed.
_SUM_UP_FACET_COUNTS: Final = text("""
WITH gone AS (
    DELETE FROM facet_counts WHERE ctid IN (
        SELECT ctid FROM facet_counts FOR UPDATE SKIP LOCKED
    )
    RETURNING facet_group, films
)
INSERT INTO facet_counts (facet_group, films)
SELECT facet_group, sum(films) FROM gone GROUP BY facet_group HAVING sum(films) <> 0
""")

_COUNT_ROWS: Final = text("""
SELECT count(*) - count(DISTINCT facet_group) FROM facet_counts
""")

_PENDING: Final = text(f"""
SELECT c.movie_id, c.version, c.whole_document,
    d.movie_id IS NOT NULL AND NOT d.removed AS shown, {FACTS}
FROM (
    SELECT * FROM index_changes WHERE not_before <= now() ORDER BY version LIMIT :limit
) AS c
LEFT JOIN documents d USING (movie_id)
LEFT JOIN listing l USING (movie_id)
ORDER BY c.version
""")  # noqa: S608 -- made of constants; values are bound

_IS_PENDING: Final = text("SELECT EXISTS (SELECT FROM index_changes WHERE not_before <= now())")

_SETTLE: Final = text("""
DELETE FROM index_changes c
USING unnest(CAST(:movie_ids AS text[]), CAST(:versions AS bigint[])) AS done (movie_id, version)
WHERE c.movie_id = done.movie_id AND c.version = done.version
""")

_POSTPONE: Final = text("""
UPDATE index_changes SET not_before = now() + :delay, error = :error
WHERE movie_id = :movie_id AND version = :version
""")

_ADOPT_INDEX: Final = text("""
WITH before AS MATERIALIZED (SELECT * FROM index_state WHERE engine = :engine)
INSERT INTO index_state AS s (engine, identity) VALUES (:engine, :identity)
ON CONFLICT (engine) DO UPDATE SET
    identity = excluded.identity, next_identity = NULL,
    filled = s.filled AND s.next_identity IS NOT DISTINCT FROM excluded.identity
WHERE s.identity <> excluded.identity
RETURNING (SELECT next_identity FROM before) IS DISTINCT FROM identity AS unknown
""")

_MARK_ALL: Final = text("""
INSERT INTO index_changes AS c (movie_id, version, whole_document)
SELECT movie_id, nextval('index_change_versions'), true FROM documents WHERE NOT removed
ORDER BY movie_id
ON CONFLICT (movie_id) DO UPDATE SET
    version = excluded.version, whole_document = true, not_before = '-infinity', error = NULL
""")

_TAKE_LEASE: Final = text("""
INSERT INTO index_state AS s (engine, lease_holder, lease_until)
VALUES (:engine, :holder, clock_timestamp() + :duration)
ON CONFLICT (engine) DO UPDATE SET
    lease_holder = excluded.lease_holder, lease_until = excluded.lease_until
WHERE s.lease_holder = excluded.lease_holder OR s.lease_until IS NULL
    OR s.lease_until < clock_timestamp()
RETURNING rebuilt_by
""")

_MARK: Final = text("""
INSERT INTO index_changes AS c (movie_id, version, whole_document)
SELECT movie_id, nextval('index_change_versions'), true
FROM unnest(CAST(:movie_ids AS text[])) AS m (movie_id)
ORDER BY movie_id
ON CONFLICT (movie_id) DO UPDATE SET
    version = excluded.version, whole_document = true, not_before = '-infinity', error = NULL
""")

_MARK_FILLED: Final = text("""
UPDATE index_state SET filled = true WHERE engine = :engine AND NOT filled
""")

_IS_FILLED: Final = text("SELECT filled FROM index_state WHERE engine = :engine")

_SET_REBUILT_BY: Final = text("""
UPDATE index_state SET rebuilt_by = :job_id, next_identity = NULL WHERE engine = :engine
""")

_EXPECT_NEXT: Final = text("""
UPDATE index_state SET next_identity = :identity WHERE engine = :engine
""")

_ENDED_REBUILD: Final = text("""
SELECT s.rebuilt_by FROM index_state s LEFT JOIN jobs j ON j.job_id = s.rebuilt_by
WHERE s.engine = :engine AND s.rebuilt_by IS NOT NULL
    AND (j.job_id IS NULL OR j.finished_at IS NOT NULL)
""")

_GIVE_LEASE_BACK: Final = text("""
UPDATE index_state SET lease_holder = NULL, lease_until = NULL
WHERE engine = :engine AND lease_holder = :holder
""")


_TELLING: Final = tuple(
    Document(
        movie_id=f"tmdb-{number}",
        revision=1,
        tmdb_id=number,
        imdb_id=None,
        title=title,
        original_title=original_title,
        original_language="en",
        overview="Zwölf Jahre später, in Łódź: it's the 1990s.",
        people=("Zoë Kravitz", "Þórunn Ósk", "İbrahim Çelikkol"),
        keywords=("sci-fi", "based on novel"),
        genres=("Science Fiction", "Comédie"),
        release_date=date(1999, 12, 31),
        vote_average=7.5,
        vote_count=10,
        popularity=1.0,
        poster_path=None,
    )
    for number, (title, original_title) in enumerate(
        (
            ("The Fabulous Destiny of Amélie", "Le Fabuleux Destin d'Amélie Poulain"),
            ("Fast & Furious 9: A Spider-Man", "千と千尋の神隠し"),
            ("Ocean\u2019s Eleven ½", "Смешарики. हिन्दी"),
        ),
        start=1,
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingChange:
    """A film whose copy in the external index is behind `version`.

    `document` is None when the film must not be found (any more). Unless `whole_document`, only
    figures have changed.
    """

    movie_id: str
    version: int
    whole_document: bool
    document: Document | None
    figures: Figures


async def store_catalogue_changes(
    connection: AsyncConnection, changes: Sequence[CatalogueChange]
) -> None:
    """Writes documents and tombstones that are newer than what is stored; one entry a film."""
    if not changes:
        return
    vocabulary: dict[str, bool] = {}
    rows = json.dumps([_row_of(change, vocabulary) for change in changes])
    await connection.execute(_STORE_FACET_GROUPS, {"rows": rows})
    await connection.execute(_STORE_DOCUMENTS, {"rows": rows, "derived_by": derivation()})
    learnt = {word: named for word, named in vocabulary.items() if len(word) > 2}
    await connection.execute(_STORE_WORDS, {"words": list(learnt), "named": list(learnt.values())})


async def store_trends(connection: AsyncConnection, trends: Sequence[Trend]) -> None:
    """Writes trends that are newer than what is stored, also of unknown films; one entry a film."""
    if not trends:
        return
    await connection.execute(
        _STORE_TRENDS,
        {
            "movie_ids": [trend.movie_id for trend in trends],
            "revisions": [trend.revision for trend in trends],
            "scores": [trend.score for trend in trends],
            "rank_keys": [trend.rank_key for trend in trends],
            "views": [trend.views for trend in trends],
        },
    )


async def store_ratings(connection: AsyncConnection, ratings: Sequence[Ratings]) -> None:
    """As `store_trends`, for ratings."""
    if not ratings:
        return
    await connection.execute(
        _STORE_RATINGS,
        {
            "movie_ids": [entry.movie_id for entry in ratings],
            "revisions": [entry.revision for entry in ratings],
            "counts": [entry.count for entry in ratings],
            "means": [entry.mean for entry in ratings],
        },
    )


async def sum_up_facet_counts(connection: AsyncConnection) -> None:
    """Makes the counts of groups short again, where changes have made them long."""
    surplus: int = (await connection.execute(_COUNT_ROWS)).scalar_one()
    if surplus:
        await connection.execute(_SUM_UP_FACET_COUNTS)


async def pending_changes(connection: AsyncConnection, limit: int) -> list[PendingChange]:
    """What the external index has to be told next, oldest change first."""
    rows = (await connection.execute(_PENDING, {"limit": limit})).mappings()
    return [
        PendingChange(
            movie_id=row["movie_id"],
            version=row["version"],
            whole_document=row["whole_document"],
            document=document_from(row) if row["shown"] else None,
            figures=figures_from(row),
        )
        for row in rows
    ]


async def is_pending(connection: AsyncConnection) -> bool:
    """Whether the external index has to be told anything."""
    return bool((await connection.execute(_IS_PENDING)).scalar_one())


async def settle(connection: AsyncConnection, done: Iterable[PendingChange]) -> None:
    """Forgets changes that are indexed, except where the film has changed again since."""
    ordered = sorted(done, key=lambda change: change.movie_id)
    await connection.execute(
        _SETTLE,
        {
            "movie_ids": [change.movie_id for change in ordered],
            "versions": [change.version for change in ordered],
        },
    )


async def postpone(
    connection: AsyncConnection, change: PendingChange, *, error: str, delay: timedelta
) -> None:
    """Keeps a change that was refused, for later or until the film changes again."""
    await connection.execute(
        _POSTPONE,
        {
            "movie_id": change.movie_id,
            "version": change.version,
            "error": error[:1000],
            "delay": delay,
        },
    )


async def adopt_index(connection: AsyncConnection, *, engine: str, identity: str) -> bool:
    """True when this index was not known: then every document is to be sent to it.

    An index that a rebuild was about to swap in is known, and has everything.
    """
    adopted = await connection.execute(_ADOPT_INDEX, {"engine": engine, "identity": identity})
    row = adopted.first()
    if row is None or not row.unknown:
        return False
    await connection.execute(_MARK_ALL)
    return True


async def mark(connection: AsyncConnection, movie_ids: Sequence[str]) -> None:
    """The external index is to be told of these films again, whether they are there or not."""
    await connection.execute(_MARK, {"movie_ids": list(movie_ids)})


async def mark_filled(connection: AsyncConnection, engine: str) -> None:
    """The index has had every document; from now on it may answer searches."""
    await connection.execute(_MARK_FILLED, {"engine": engine})


async def is_filled(connection: AsyncConnection, engine: str) -> bool:
    """Whether the index has had every document since it was created."""
    return bool((await connection.execute(_IS_FILLED, {"engine": engine})).scalar_one_or_none())


async def set_rebuilt_by(connection: AsyncConnection, *, engine: str, job_id: str | None) -> None:
    """From now on, changes go to a second index too, which this job fills; None: not any more."""
    await connection.execute(_SET_REBUILT_BY, {"engine": engine, "job_id": job_id})


async def expect_next(connection: AsyncConnection, *, engine: str, identity: str) -> None:
    """The index with this identity is about to be swapped in, and has everything."""
    await connection.execute(_EXPECT_NEXT, {"engine": engine, "identity": identity})


async def ended_rebuild(connection: AsyncConnection, engine: str) -> str | None:
    """The job that was filling a second index and has ended without swapping it in."""
    return (await connection.execute(_ENDED_REBUILD, {"engine": engine})).scalar_one_or_none()


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The right to write to an index. `rebuilt_by`: the job that fills a second one, if any."""

    rebuilt_by: str | None


async def take_lease(
    connection: AsyncConnection, *, engine: str, holder: str, duration: timedelta
) -> Taken | None:
    """Takes or prolongs the right to write to the index; None while another process has it."""
    taken = await connection.execute(
        _TAKE_LEASE, {"engine": engine, "holder": holder, "duration": duration}
    )
    row = taken.first()
    return None if row is None else Taken(rebuilt_by=row.rebuilt_by)


async def give_lease_back(connection: AsyncConnection, *, engine: str, holder: str) -> None:
    """Lets another process write at once."""
    await connection.execute(_GIVE_LEASE_BACK, {"engine": engine, "holder": holder})


@cache
def derivation() -> int:
    """Names the rules by which searched columns are derived, on 32 bits.

    It changes with the statement that derives them, and with what folding makes of a few texts. A
    row that was derived by other rules may be found differently than it should be.
    """
    made = [_row_of(document, dict[str, bool]()) for document in _TELLING]
    return crc32(f"{_STORE_DOCUMENTS.text}{json.dumps(made)}".encode())


def _row_of(change: CatalogueChange, vocabulary: dict[str, bool]) -> dict[str, Any]:
    """A row for `_STORE_DOCUMENTS`; adds its words to `vocabulary`, and whether they name it."""
    if isinstance(change, Removal):
        return {"movie_id": change.movie_id, "revision": change.revision}
    original = change.original_title or ""
    title = words(change.title[:_MAX_INDEXED])
    original_words = title if original == change.title else words(original[:_MAX_INDEXED])
    people = words(" ".join(change.people)[:_MAX_INDEXED])
    keywords = words(" ".join(change.keywords)[:_MAX_INDEXED])
    prose = fold(" ".join((change.title, *change.keywords, change.overview or "")))
    title_key = key_of_words(title)
    vocabulary.update(
        (word, True) for part in (title, original_words, people, keywords) for word in part
    )
    for word in words(change.overview or ""):
        vocabulary.setdefault(word, False)
    return {
        "movie_id": change.movie_id,
        "revision": change.revision,
        "tmdb_id": change.tmdb_id,
        "imdb_id": change.imdb_id,
        "title": change.title,
        "original_title": change.original_title,
        "original_language": change.original_language,
        "overview": change.overview,
        "people": change.people,
        "keywords": change.keywords,
        "genres": change.genres,
        "release_date": change.release_date.isoformat() if change.release_date else None,
        "vote_average": change.vote_average,
        "vote_count": change.vote_count,
        "popularity": change.popularity,
        "poster_path": change.poster_path,
        "year": change.year,
        "decade": change.decade,
        "genre_keys": [fold(genre) for genre in change.genres],
        "title_key": title_key,
        "tokens": tokens_of(
            titles=[*title, *original_words, *initials(f"{change.title} {original}")],
            keys=[title_key, key_of_words(original_words)],
            people=people,
            keywords=keywords,
        ),
        "prose": prose,
    }


def document_from(row: RowMapping) -> Document:
    """The document in a row with `FACTS`."""
    return Document(
        movie_id=row["movie_id"],
        revision=row["revision"],
        tmdb_id=row["tmdb_id"],
        imdb_id=row["imdb_id"],
        title=row["title"],
        original_title=row["original_title"],
        original_language=row["original_language"],
        overview=row["overview"],
        people=tuple(row["people"]),
        keywords=tuple(row["keywords"]),
        genres=tuple(row["genres"]),
        release_date=row["release_date"],
        vote_average=row["vote_average"],
        vote_count=row["vote_count"],
        popularity=row["popularity"],
        poster_path=row["poster_path"],
    )


def figures_from(row: RowMapping) -> Figures:
    """The figures in a row with `FACTS`."""
    trend = ratings = None
    if row["trend_revision"]:
        trend = Trend(
            movie_id=row["movie_id"],
            revision=row["trend_revision"],
            score=row["score"],
            rank_key=row["rank_key"],
            views=row["views"],
        )
    if row["ratings_revision"]:
        ratings = Ratings(
            movie_id=row["movie_id"],
            revision=row["ratings_revision"],
            count=row["local_ratings"],
            mean=row["local_mean"],
        )
    return Figures(trend=trend, ratings=ratings)
