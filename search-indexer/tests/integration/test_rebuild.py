"""Rebuilding: the same answers afterwards, nothing lost meanwhile, nothing left behind.

The rebuilt tables are compared with those of a database that was told the same and never rebuilt.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any
from uuid import uuid4

import pytest
from moviemetric_contracts import CancelJob, RebuildSearch, RepairSearch
from search_indexer.drift import compare_index, compare_tables, measure
from search_indexer.engine import SearchRequest
from search_indexer.index_sync import IndexSync, IndexWriter
from search_indexer.jobs import SearchJobs
from search_indexer.postgres_engine import PostgresEngine
from search_indexer.subscriptions import SUBSCRIPTIONS
from service_kit import Ack, Database, JobRunner
from service_kit.jobs import Job, load_job
from service_kit.testing import deliver
from sqlalchemy import text

SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'search%' ORDER BY 1"
STRUCTURE = """
SELECT tablename || ': ' || indexdef FROM pg_indexes
WHERE schemaname = 'search' AND tablename = ANY('{documents,listing,facet_groups,facet_counts,ranking,vocabulary}')
UNION ALL
SELECT c.conrelid::regclass || ': ' || conname || ' ' || pg_get_constraintdef(c.oid)
FROM pg_constraint c WHERE connamespace = 'search'::regnamespace
UNION ALL
SELECT tgrelid::regclass || ': ' || pg_get_triggerdef(t.oid) FROM pg_trigger t
WHERE NOT tgisinternal AND tgrelid = 'search.listing'::regclass
UNION ALL
SELECT attrelid::regclass || '.' || attname || ': ' || attstorage::text || attidentity::text || attnotnull::text
FROM pg_attribute
WHERE attrelid IN ('search.listing'::regclass, 'search.documents'::regclass) AND attnum > 0
    AND NOT attisdropped
UNION ALL
SELECT relname || ': ' || coalesce(reloptions::text, '') FROM pg_class
WHERE relnamespace = 'search'::regnamespace AND relkind = 'r'
ORDER BY 1
"""


class Upkeep:
    """A database, an external index if any, and what runs jobs on them."""

    def __init__(self, database: Database, index: Any = None) -> None:
        self.database = database
        self.index = index
        self.writer = IndexWriter(database, index, engine="index") if index else None
        self.jobs = SearchJobs(database, self.writer, source="search-indexer")
        self.runner = JobRunner(database, source="search-indexer", runs={"search": self.jobs.run})

    async def tell(self, *events: Any) -> None:
        for subscription in SUBSCRIPTIONS:
            taken = [event for event in events if isinstance(event.data, subscription.accepts)]
            if taken:
                outcomes = await deliver(subscription, self.database, taken)
                assert all(isinstance(outcome, Ack) for outcome in outcomes), outcomes

    async def sync(self) -> None:
        assert self.writer is not None
        await IndexSync(self.database, self.writer).run()

    async def run(self, make: Any, command: Any) -> Job:
        await self.tell(make.event(command))
        await self.runner.run_pending()
        return await self.job(command.job_id)

    async def job(self, job_id: str) -> Job:
        async with self.database.reading() as connection:
            job = await load_job(connection, job_id)
        assert job is not None
        return job

    async def rows(self, query: str) -> list[Any]:
        async with self.database.reading() as connection:
            return [tuple(row) for row in await connection.execute(text(query))]

    async def execute(self, statement: str) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(text(statement))

    async def drift(self) -> int:
        drift = await measure(compare_tables(self.database))
        total = drift.total
        if self.index is not None:
            total += (await measure(compare_index(self.database, self.index))).total
        return total


def rebuild_command() -> RebuildSearch:
    return RebuildSearch(job_id=f"search-{uuid4().hex}")


def catalogue(make: Any, films: int = 2300) -> list[Any]:
    """Films with everything that is derived from, some removed, some only known by figures."""
    events = [
        make.upserted(
            make.movie(
                number,
                f"Film número {number}",
                released=f"{1930 + number % 90}-05-01",
                original_title=f"Фильм {number}",
                language=("en", "ru", "fr")[number % 3],
                genres=[("Drama", "Comedy", "Science Fiction")[number % 3], "War"],
                cast=[f"Person {number % 200}", "Zoë Kravitz"],
                keywords=["sci-fi"],
                overview="A long journey.",
                vote_count=number,
            ),
            3,
        )
        for number in range(1, films + 1)
    ]
    events += [make.removed(f"tmdb-{number}", 4) for number in range(50, 60)]
    events.append(make.trend(7, tmdb_5=(50.0, 1.5, 12), tmdb_99999=(1.0, -1.0, 1)))
    events.append(make.rated("tmdb-6", 2, 8.0, 9.0))
    events.append(make.rated("tmdb-88888", 2, 4.0))
    return events


async def _content(upkeep: Upkeep) -> dict[str, list[Any]]:
    return {
        "documents": await upkeep.rows("SELECT * FROM documents ORDER BY movie_id"),
        "listing": await upkeep.rows("""
            SELECT l.movie_id, shown, g.genres, g.decade, g.language, genre_keys, year, release_date,
                vote_average, vote_count, popularity, tokens, trend_revision, score, rank_key,
                views, ratings_revision, local_ratings, local_mean
            FROM listing l LEFT JOIN facet_groups g ON g.id = l.facet_group ORDER BY movie_id"""),
        "ranking": await upkeep.rows("""
            SELECT * FROM ranking
            WHERE movie_id IN (SELECT movie_id FROM documents) ORDER BY movie_id"""),
        "facet_counts": await upkeep.rows("""
            SELECT genres, decade, language, sum(films)
            FROM facet_counts JOIN facet_groups ON id = facet_group
            GROUP BY 1, 2, 3 HAVING sum(films) <> 0 ORDER BY 1, 2, 3"""),
        "vocabulary": await upkeep.rows("SELECT word, named FROM vocabulary ORDER BY word, named"),
    }


async def test_rebuilt_tables_are_those_that_events_built(database: Database, make: Any) -> None:
    """In content, indexes, constraints and options; nothing is left of the old ones."""
    upkeep = Upkeep(database)
    await upkeep.tell(*catalogue(make))
    before, structure = await _content(upkeep), await upkeep.rows(STRUCTURE)
    schemas = await upkeep.rows(SCHEMAS)
    versions = await upkeep.rows("SELECT * FROM index_changes ORDER BY movie_id")

    job = await upkeep.run(make, rebuild_command())
    assert (job.state, job.error) == ("succeeded", None)
    assert (job.done, job.total) == (2302, 2302)
    assert await _content(upkeep) == before
    assert await upkeep.rows(STRUCTURE) == structure
    assert await upkeep.rows(SCHEMAS) == schemas == [("search",)]
    assert await upkeep.rows("SELECT * FROM index_changes ORDER BY movie_id") == versions
    [(told,)] = await upkeep.rows("SELECT body FROM outbox WHERE routing_key = 'search.rebuilt.v1'")
    assert '"index":"postgres","documents":2290' in told
    assert job.job_id in told
    # What comes afterwards finds its sequences and indexes.
    await upkeep.tell(make.upserted(make.movie(1, "Quite another", genres=["Western"]), 9))
    hits = (await PostgresEngine(database).search(SearchRequest(q="quite anothr"))).hits
    assert [hit.movie_id for hit in hits] == ["tmdb-1"]
    again = await upkeep.run(make, rebuild_command())
    assert again.state == "succeeded"


async def test_a_rebuild_forgets_words_that_no_film_has(database: Database, make: Any) -> None:
    """And mends what was derived wrongly, whatever made it so."""
    upkeep = Upkeep(database)
    await upkeep.tell(make.upserted(make.movie(1, "Zanzibar"), 1))
    await upkeep.tell(make.upserted(make.movie(1, "Casablanca"), 2))
    await upkeep.execute("UPDATE documents SET title_key = '', derived_by = 1")
    assert await upkeep.drift() == 1
    await upkeep.run(make, rebuild_command())
    assert await upkeep.rows("SELECT word FROM vocabulary") == [("casablanca",)]
    assert await upkeep.drift() == 0
    assert (await PostgresEngine(database).search(SearchRequest(q="casablanca"))).total == 1


@pytest.fixture
async def busy(database: Database, make: Any) -> AsyncGenerator[Any]:
    """Starts searches and updates that go on until the test is over, and counts bad answers."""
    stop = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []
    bad: list[Any] = []
    done = {"searches": 0, "updates": 0}

    async def search(engine: Any) -> None:
        queries = ("film", "kravitz", "filn numero 77", "")
        while not stop.is_set():
            query = queries[done["searches"] % len(queries)]
            try:
                result = await engine.search(SearchRequest(q=query))
            except Exception as error:  # noqa: BLE001 -- whatever it is, it is a bad answer
                bad.append(error)
            else:
                if not result.hits:
                    bad.append(query)
            done["searches"] += 1
            await asyncio.sleep(0.005)

    async def update(upkeep: Upkeep) -> None:
        revision = 10
        while not stop.is_set():
            revision += 1
            number = 1 + done["updates"] % 2300
            await upkeep.tell(
                make.upserted(make.movie(number, f"Film renewed {number}"), revision),
                make.trend(revision, **{f"tmdb_{number + 1}": (1.0, 2.0, revision)}),
                make.rated(f"tmdb-{number + 2}", revision, 7.0),
            )
            done["updates"] += 1
            await asyncio.sleep(0.01)

    def start(engine: Any, upkeep: Upkeep) -> tuple[dict[str, int], list[Any]]:
        tasks.extend(asyncio.create_task(work) for work in (search(engine), update(upkeep)))
        return done, bad

    async def finish() -> None:
        stop.set()
        await asyncio.gather(*tasks)

    start.finish = finish  # pyright: ignore[reportFunctionMemberAccess]
    yield start
    await finish()


async def test_searches_and_updates_go_on_during_a_rebuild(
    database: Database, make: Any, busy: Any
) -> None:
    """No empty and no failed answer, and no update is lost."""
    upkeep = Upkeep(database)
    await upkeep.tell(*catalogue(make))
    done, bad = busy(PostgresEngine(database), upkeep)
    for _ in range(3):
        assert (await upkeep.run(make, rebuild_command())).state == "succeeded"
    during = dict(done)
    await busy.finish()
    assert during["searches"] > 20
    assert during["updates"] > 20
    assert bad == []
    assert await upkeep.drift() == 0
    revisions = await upkeep.rows(
        "SELECT max(revision), max(ratings_revision) FROM documents JOIN listing USING (movie_id)"
    )
    assert revisions == [(10 + done["updates"],) * 2]
