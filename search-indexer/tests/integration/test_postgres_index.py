"""What the PostgreSQL engine keeps beside the films: counts, the chart, and how it came to be."""

import asyncio
import random
from importlib import import_module
from typing import Any

from search_indexer import repository
from search_indexer.engine import SearchRequest
from search_indexer.postgres_engine import PostgresEngine
from search_indexer.subscriptions import SUBSCRIPTIONS
from service_kit import Database
from service_kit.migrations import upgrade
from service_kit.testing import deliver
from sqlalchemy import text

CATALOGUE, TRENDS, *_ = SUBSCRIPTIONS
MIGRATION = import_module("search_indexer.migrations.versions.0004_search")
GENRES: tuple[list[str], ...] = (["Drama"], ["Comedy"], ["Drama", "Comedy"], [])

_COUNTED = """
SELECT facet_group, sum(films)::bigint FROM facet_counts GROUP BY 1 HAVING sum(films) <> 0
"""
_LISTED = "SELECT facet_group, count(*) FROM listing WHERE shown GROUP BY 1"
_RANKING = "SELECT movie_id, shown, rank_key, popularity FROM ranking ORDER BY 1"
_RANKED = "SELECT movie_id, shown, rank_key, popularity FROM listing ORDER BY 1"


async def rows(database: Database, query: str) -> set[tuple[Any, ...]]:
    async with database.reading() as connection:
        return {tuple(row) for row in await connection.execute(text(query))}


async def test_counts_and_chart_hold_whatever_happens_at_the_same_time(
    database: Database, make: Any
) -> None:
    """Films come, change, go and are ranked, by four writers; counts are summed up meanwhile."""
    draw = random.Random(3)
    events: list[Any] = []
    for revision in range(1, 9):
        for number in range(1, 31):
            film = make.movie(
                number,
                f"Film {number}",
                genres=draw.choice(GENRES),
                language=draw.choice(["en", "fr", None]),
                released=draw.choice(["1999-01-01", "2001-01-01", None]),
                popularity=draw.random(),
            )
            gone = draw.random() < 0.2
            events.append(
                make.removed(f"tmdb-{number}", revision) if gone else make.upserted(film, revision)
            )
        entries = {f"tmdb_{n}": (50.0, draw.random(), 1) for n in range(1, 41)}
        events.append(make.trend(revision, **entries))
    draw.shuffle(events)

    async def write(part: list[Any]) -> None:
        for start in range(0, len(part), 8):
            for subscription in SUBSCRIPTIONS:
                batch = part[start : start + 8]
                taken = [e for e in batch if isinstance(e.data, subscription.accepts)]
                if taken:
                    await deliver(subscription, database, taken)

    async def sum_up() -> None:
        for _ in range(10):
            async with database.transaction() as connection:
                await repository.sum_up_facet_counts(connection)

    await asyncio.gather(*(write(events[n::4]) for n in range(4)), sum_up())
    listed = await rows(database, _LISTED)
    assert listed
    assert await rows(database, _COUNTED) == listed
    assert await rows(database, _RANKING) == await rows(database, _RANKED)
    await sum_up()
    assert await rows(database, "SELECT facet_group, films FROM facet_counts") == listed


async def test_a_database_of_before_is_searched_as_one_that_was_filled_anew(
    database_url: str, make: Any
) -> None:
    """The migration makes tokens, counts and the chart of what is there."""
    database = Database(database_url, schema="search")
    films = [
        make.movie(
            27205,
            "Inception",
            released="2010-07-15",
            cast=["Leonardo DiCaprio"],
            genres=["Action"],
            overview="A thief who enters dreams.",
        ),
        make.movie(194, "Amélie", original_title="Le Fabuleux Destin", language="fr"),
        make.movie(3, "Gone"),
    ]
    await deliver(CATALOGUE, database, [make.upserted(film) for film in films])
    await deliver(CATALOGUE, database, [make.removed("tmdb-3", 2)])
    await deliver(TRENDS, database, [make.trend(1, tmdb_194=(60.0, 2.0, 1), tmdb_9=(1.0, 1.0, 1))])
    requests = [
        SearchRequest(q=q)
        for q in ("", "inception", "dicaprio", "thief", "dreaming", "amelie", "fabuleux", "gone")
    ]
    engine = PostgresEngine(database)
    new = [await engine.search(request) for request in requests]
    assert [result.total for result in new] == [2, 1, 1, 1, 1, 1, 1, 0]

    async with database.transaction() as connection:
        for statement in BEFORE:
            await connection.execute(text(statement))
    await database.dispose()
    await asyncio.to_thread(upgrade, database_url, package="search_indexer", schema="search")

    database = Database(database_url, schema="search")
    engine = PostgresEngine(database)
    assert [await engine.search(request) for request in requests] == new
    assert await rows(database, _COUNTED) == await rows(database, _LISTED)
    assert await rows(database, _RANKING) == await rows(database, _RANKED)
    await database.dispose()


def _words(prefixes: str) -> str:
    return f"""array_to_tsvector(ARRAY(
        SELECT DISTINCT substr(w, 3) FROM unnest(tsvector_to_array(l.tokens)) AS w
        WHERE left(w, 2) = ANY ('{prefixes}')
    ))"""  # noqa: S608 -- constants


# Takes the tables back to what they were, with the same films in them.
BEFORE = (
    "DROP TRIGGER count_listed ON listing",
    "DROP TRIGGER count_relisted ON listing",
    "DROP FUNCTION count_listed",
    "DROP FUNCTION count_relisted",
    "DROP TABLE facet_counts",
    "DROP TABLE ranking",
    """
    ALTER TABLE documents
        ADD COLUMN original_title_key text COLLATE "C" NOT NULL DEFAULT '',
        ADD COLUMN title_words tsvector NOT NULL DEFAULT '',
        ADD COLUMN name_words tsvector NOT NULL DEFAULT '',
        ADD COLUMN all_words tsvector NOT NULL DEFAULT ''
    """,
    f"""
    UPDATE documents d SET
        title_words = {_words("{t/}")},
        name_words = {_words("{t/,p/,g/}")},
        all_words = array_to_tsvector(ARRAY(
            SELECT DISTINCT CASE WHEN substr(w, 2, 1) = '/' THEN substr(w, 3) ELSE w END
            FROM unnest(tsvector_to_array(l.tokens)) AS w WHERE left(w, 2) <> 'k/'
        )),
        original_title_key = CASE WHEN d.movie_id = 'tmdb-194' THEN 'lefabuleuxdestin' ELSE '' END
    FROM listing l WHERE l.movie_id = d.movie_id
    """,  # noqa: S608 -- constants
    "ALTER TABLE listing ADD COLUMN genre_keys text[] NOT NULL DEFAULT '{}'",
    "ALTER TABLE listing ADD COLUMN language text",
    """
    UPDATE listing l SET genre_keys = g.genre_keys, language = g.language
    FROM facet_groups g WHERE g.id = l.facet_group
    """,
    "ALTER TABLE facet_groups DROP COLUMN genre_keys",
    """
    ALTER TABLE listing DROP COLUMN number, DROP COLUMN release_date, DROP COLUMN tokens,
        DROP COLUMN padding
    """,
    "DROP INDEX listing_year, listing_facet_group",
    "DELETE FROM vocabulary WHERE NOT named",
    "ALTER TABLE vocabulary DROP CONSTRAINT vocabulary_pkey",
    "ALTER TABLE vocabulary DROP COLUMN named",
    "ALTER TABLE vocabulary ADD PRIMARY KEY (word)",
    f"UPDATE alembic_version SET version_num = '{MIGRATION.down_revision}'",  # noqa: S608
)
