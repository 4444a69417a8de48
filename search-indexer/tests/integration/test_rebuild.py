"""Rebuilding: the same answers afterwards, nothing lost meanwhile, nothing left behind.

The rebuilt tables are compared with those of a database that was told the same and never rebuilt.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from moviemetric_contracts import CancelJob, RebuildSearch, RepairSearch
from search_indexer import repository
from search_indexer.drift import compare_index, compare_tables, measure
from search_indexer.engine import SearchRequest
from search_indexer.index_sync import IndexSync, IndexWriter
from search_indexer.jobs import SearchJobs
from search_indexer.postgres_engine import PostgresEngine
from search_indexer.subscriptions import SUBSCRIPTIONS
from search_indexer.upkeep_repository import NextTables
from service_kit import Ack, Database, JobRunner
from service_kit.jobs import Job, load_job
from service_kit.testing import deliver
from sqlalchemy import text

SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'search%' ORDER BY 1"
STRUCTURE = """
SELECT tablename || ': ' || indexdef FROM pg_indexes
WHERE schemaname = 'search' AND tablename IN (
    'documents', 'listing', 'facet_groups', 'facet_counts', 'ranking', 'vocabulary')
UNION ALL
SELECT c.conrelid::regclass || ': ' || conname || ' ' || pg_get_constraintdef(c.oid)
FROM pg_constraint c WHERE connamespace = 'search'::regnamespace
UNION ALL
SELECT tgrelid::regclass || ': ' || pg_get_triggerdef(t.oid) FROM pg_trigger t
WHERE NOT tgisinternal AND tgrelid = 'search.listing'::regclass
UNION ALL
SELECT concat(attrelid::regclass, '.', attname, ': ', attstorage, attidentity, attnotnull)
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
            SELECT l.movie_id, shown, g.genres, g.decade, g.language, genre_keys, year,
                release_date, vote_average, vote_count, popularity, tokens, trend_revision, score,
                rank_key, views, ratings_revision, local_ratings, local_mean
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
async def busy(make: Any) -> AsyncGenerator[Any]:
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
    for _ in range(2):
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


async def test_searches_and_updates_go_on_during_a_rebuild_in_meilisearch(
    database: Database, make: Any, busy: Any, meilisearch_server: Any
) -> None:
    """The same, on the engine itself, which is told of updates while it is rebuilt."""
    uid = f"test-{uuid4().hex}"
    index, engine = meilisearch_server.index(uid), meilisearch_server.engine(uid)
    upkeep = Upkeep(database, index)
    await upkeep.tell(*catalogue(make))
    await upkeep.sync()
    before = await index.identity()
    done, bad = busy(engine, upkeep)
    assert (await upkeep.run(make, rebuild_command())).state == "succeeded"
    during = dict(done)
    await busy.finish()
    await upkeep.sync()
    assert during["searches"] > 20
    assert during["updates"] > 20
    assert bad == []
    assert await index.identity() != before
    assert await index.successor().identity() is None
    assert await index.count() == 2300
    assert await upkeep.drift() == 0
    number = 1 + (done["updates"] - 1) % 2300
    [hit] = (await engine.search(SearchRequest(q=f"renewed {number}", limit=1))).hits
    assert hit.title == f"Film renewed {number}"
    await index.close()
    await engine.close()


async def test_an_external_index_is_filled_beside_the_old_one(
    database: Database, make: Any, recording_index: Any
) -> None:
    """Both are told what changes meanwhile; then the new one has everything, and the old is gone.

    The index that was swapped in is known, so that nothing is sent to it a second time.
    """
    index = recording_index()
    upkeep = Upkeep(database, index)
    await upkeep.tell(*catalogue(make))
    await upkeep.sync()
    index.documents["tmdb-stale"] = index.documents["tmdb-1"]
    del index.documents["tmdb-2"]

    async def change() -> None:
        await upkeep.tell(
            make.upserted(make.movie(3, "Changed meanwhile"), 9),
            make.upserted(make.movie(2301, "New meanwhile"), 1),
            make.removed("tmdb-4", 9),
            make.trend(9, tmdb_5=(60.0, 2.5, 13)),
            make.rated("tmdb-6", 9, 1.0),
        )

    index.successor().meanwhile = change
    job = await upkeep.run(make, rebuild_command())
    assert (job.state, job.error) == ("succeeded", None)
    assert job.done == job.total
    assert index.created == "next 1"
    assert "tmdb-stale" not in index.documents
    assert index.documents["tmdb-2"][0].title == "Film número 2"
    assert index.documents["tmdb-3"][0].title == "Changed meanwhile"
    assert "tmdb-4" not in index.documents
    assert index.documents["tmdb-5"][1].trend.views == 13
    assert index.documents["tmdb-6"][1].ratings.count == 1
    assert len(index.documents) == 2290
    assert (index.next.created, index.next.documents) == ("", {})
    assert await upkeep.drift() == 0
    assert await upkeep.rows("SELECT count(*) FROM index_changes") == [(0,)]
    told = await upkeep.rows(
        "SELECT body::json #>> '{data,index}' FROM outbox "
        "WHERE routing_key = 'search.rebuilt.v1' ORDER BY id"
    )
    assert told == [("postgres",), ("index",)]
    await upkeep.sync()
    assert await upkeep.rows("SELECT count(*) FROM index_changes") == [(0,)]
    state = await upkeep.rows(
        "SELECT identity, rebuilt_by, filled FROM index_state WHERE engine = 'index'"
    )
    assert state == [("next 1", None, True)]


@pytest.mark.parametrize(
    ("deployed", "created"), [(False, "next 1"), (True, "next 2")], ids=["as it was", "deployed"]
)
async def test_a_rebuild_goes_on_after_an_outage(
    deployed: bool,
    created: str,
    database: Database,
    make: Any,
    recording_index: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where it was, with the second index, unless a program with other rules goes on with it."""
    index = recording_index()
    upkeep = Upkeep(database, index)
    await upkeep.tell(*catalogue(make))
    await upkeep.sync()

    async def fail() -> None:
        index.successor().away = True

    index.successor().meanwhile = fail
    command = rebuild_command()
    await upkeep.tell(make.event(command))
    running = asyncio.create_task(upkeep.runner.run_pending())

    async def waits() -> bool:
        return "waiting" in ((await upkeep.job(command.job_id)).error or "")

    async with asyncio.timeout(20):
        while not await waits():  # noqa: ASYNC110 -- a row sets no event
            await asyncio.sleep(0.02)
    assert len(index.documents) == 2290
    if deployed:
        monkeypatch.setattr("search_indexer.upkeep_repository.derivation", lambda: 1)
    index.successor().away = False
    await asyncio.wait_for(running, 30)
    assert (await upkeep.job(command.job_id)).state == "succeeded"
    assert index.created == created
    assert len(index.documents) == 2290


@pytest.mark.parametrize("made_by", ["", "1 0003", "the same"])
async def test_tables_of_another_layout_are_begun_again(
    made_by: str, database: Database, make: Any
) -> None:
    """Such as after a deployment with a migration, which does not know of the second set."""
    upkeep = Upkeep(database)
    await upkeep.tell(*catalogue(make, 120))
    content = await _content(upkeep)
    tables = NextTables("search")
    async with database.transaction() as connection:
        await tables.create(connection)
        now = await tables.made_by(connection)
    command = rebuild_command()
    await upkeep.tell(make.event(command))
    began = "2026-01-01T00:00:00+00:00"
    checkpoint = {"phase": "fill", "after": "tmdb-98", "began": began}
    checkpoint["made_by"] = now if made_by == "the same" else made_by
    async with database.transaction() as connection:
        await connection.execute(
            text("UPDATE jobs SET checkpoint = CAST(:checkpoint AS jsonb)"),
            {"checkpoint": json.dumps(checkpoint)},
        )
    await upkeep.runner.run_pending()
    job = await upkeep.job(command.job_id)
    assert (job.state, job.done) == ("succeeded", 2 if made_by == "the same" else 122)
    assert await _content(upkeep) == content
    assert await upkeep.drift() == 0


async def test_a_migration_during_a_rebuild_begins_it_again(
    database: Database, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second set would take back what the migration did."""
    upkeep = Upkeep(database)
    await upkeep.tell(*catalogue(make, 120))
    content = await _content(upkeep)
    stop_writers, made = NextTables.stop_writers, list[str]()

    async def migrated(self: NextTables, connection: Any) -> None:
        await stop_writers(self, connection)
        if not made:
            monkeypatch.setattr("search_indexer.upkeep_repository.derivation", lambda: 1)
        made.append(await self.made_by(connection))

    monkeypatch.setattr(NextTables, "stop_writers", migrated)
    job = await upkeep.run(make, rebuild_command())
    assert (job.state, job.done) == ("succeeded", 122)
    assert made == [made[0]] * 2
    assert await _content(upkeep) == content
    assert await upkeep.rows(SCHEMAS) == [("search",)]


async def test_cancelling_leaves_the_old_index(
    database: Database, make: Any, recording_index: Any
) -> None:
    """And nothing of the new one."""
    index = recording_index()
    upkeep = Upkeep(database, index)
    await upkeep.tell(*catalogue(make))
    await upkeep.sync()
    command = rebuild_command()

    async def cancel() -> None:
        await upkeep.tell(make.event(CancelJob(job_id=command.job_id)))

    index.successor().meanwhile = cancel
    job = await upkeep.run(make, command)
    assert job.state == "cancelled"
    assert (index.created, len(index.documents)) == ("first", 2290)
    assert (index.next.created, index.next.documents) == ("", {})
    await upkeep.tell(make.upserted(make.movie(1, "Afterwards"), 9))
    await upkeep.sync()
    assert index.documents["tmdb-1"][0].title == "Afterwards"
    assert index.next.documents == {}
    assert await upkeep.rows(SCHEMAS) == [("search",)]
    assert await upkeep.drift() == 0


async def test_what_a_dead_process_left_is_taken_away(
    database: Database, make: Any, recording_index: Any
) -> None:
    """Once its job has ended: cancelled before another process could go on with it."""
    index = recording_index()
    upkeep = Upkeep(database, index)
    await upkeep.tell(make.upserted(make.movie(1, "One")))
    await upkeep.sync()
    command = rebuild_command()
    await upkeep.tell(make.event(command))
    async with database.transaction() as connection:
        await NextTables("search").create(connection)
        await repository.set_rebuilt_by(connection, engine="index", job_id=command.job_id)
    await index.successor().ensure_ready()
    await upkeep.jobs.tidy()
    assert len(await upkeep.rows(SCHEMAS)) == 2
    await upkeep.tell(make.upserted(make.movie(2, "Two")))
    await upkeep.sync()
    assert set(index.documents) == {"tmdb-1", "tmdb-2"}
    assert set(index.next.documents) == {"tmdb-2"}

    await upkeep.tell(make.event(CancelJob(job_id=command.job_id)))
    await upkeep.jobs.tidy()
    await upkeep.tell(make.upserted(make.movie(3, "Three")))
    await upkeep.sync()
    assert await upkeep.rows(SCHEMAS) == [("search",)]
    assert set(index.documents) == {"tmdb-1", "tmdb-2", "tmdb-3"}
    assert (index.next.created, index.next.documents) == ("", {})


async def test_drift_is_told_and_repaired(
    database: Database, make: Any, recording_index: Any
) -> None:
    """Missing, surplus and outdated films of both indexes; others are not touched."""
    index = recording_index()
    upkeep = Upkeep(database, index)
    await upkeep.tell(*catalogue(make, 120))
    await upkeep.sync()
    assert await upkeep.drift() == 0
    content = await _content(upkeep)

    documents = index.documents
    documents["tmdb-777"] = documents["tmdb-8"]
    documents["tmdb-50"] = documents["tmdb-8"]
    del documents["tmdb-1"]
    old, figures = documents["tmdb-2"]
    documents["tmdb-2"] = replace(old, revision=2, title="Old"), figures
    documents["tmdb-5"] = documents["tmdb-5"][0], replace(figures, trend=None)
    documents["tmdb-6"] = documents["tmdb-6"][0], replace(figures, ratings=None)
    found = await measure(compare_index(database, index))
    assert found.samples == {
        "missing": ["tmdb-1"],
        "surplus": ["tmdb-777", "tmdb-50"],
        "outdated": ["tmdb-2", "tmdb-5", "tmdb-6"],
    }
    assert (found.checked, found.total) == (110, 6)

    for statement in (
        "UPDATE listing SET shown = false WHERE movie_id = 'tmdb-10'",
        "UPDATE listing SET shown = true, facet_group = (SELECT min(id) FROM facet_groups) "
        "WHERE movie_id = 'tmdb-50'",
        "UPDATE listing SET tokens = '' WHERE movie_id = 'tmdb-11'",
        "UPDATE listing SET year = 1066 WHERE movie_id = 'tmdb-12'",
        "UPDATE documents SET derived_by = 1 WHERE movie_id = 'tmdb-13'",
        "DELETE FROM ranking WHERE movie_id = 'tmdb-14'",
        "UPDATE facet_counts SET films = films + 1 "
        "WHERE facet_group = (SELECT facet_group FROM listing WHERE movie_id = 'tmdb-20')",
    ):
        await upkeep.execute(statement)
    found = await measure(compare_tables(database))
    assert found.samples == {
        "missing": ["tmdb-10"],
        "surplus": ["tmdb-50"],
        "outdated": ["tmdb-11", "tmdb-12", "tmdb-13", "tmdb-14"],
    }
    assert found.miscounted >= 1

    job = await upkeep.run(make, RepairSearch(job_id=f"search-{uuid4().hex}"))
    assert (job.state, job.error) == ("succeeded", None)
    # Film 50 was about to be sent again, since the tables had been mended.
    assert job.result["index"] == {
        "missing": 1,
        "surplus": 1,
        "outdated": 3,
        "miscounted_groups": 0,
    }
    assert await upkeep.drift() == 0
    assert await _content(upkeep) == content
    assert documents["tmdb-5"][1].trend.revision == 7
    assert documents["tmdb-6"][1].ratings.count == 2
    assert documents["tmdb-2"][0].title == "Film número 2"


async def test_what_is_about_to_be_sent_is_no_drift(
    database: Database, make: Any, recording_index: Any
) -> None:
    """It is only late."""
    index = recording_index()
    upkeep = Upkeep(database, index)
    await upkeep.tell(make.upserted(make.movie(1, "One")), make.upserted(make.movie(2, "Two")))
    await upkeep.sync()
    await upkeep.tell(
        make.upserted(make.movie(1, "Changed"), 2),
        make.removed("tmdb-2", 2),
        make.upserted(make.movie(3, "New")),
    )
    assert await upkeep.drift() == 0


async def test_what_was_refused_is_drift(
    database: Database, make: Any, recording_index: Any
) -> None:
    """It may never be taken; a repair tries it at once."""
    index = recording_index()
    upkeep = Upkeep(database, index)
    await upkeep.tell(*(make.upserted(make.movie(n, f"Film {n}")) for n in (1, 2, 3)))
    await upkeep.sync()
    index.refused = {"tmdb-2", "tmdb-3"}
    await upkeep.tell(make.upserted(make.movie(2, "Changed"), 2), make.removed("tmdb-3", 2))
    await upkeep.sync()
    found = await measure(compare_index(database, index))
    assert found.samples == {"missing": [], "surplus": ["tmdb-3"], "outdated": ["tmdb-2"]}
    index.refused = set()
    await upkeep.run(make, RepairSearch(job_id=f"search-{uuid4().hex}"))
    assert index.titles == {"tmdb-1": "Film 1", "tmdb-2": "Changed"}
    assert await upkeep.drift() == 0


async def test_films_derived_by_other_rules_are_derived_again(
    database: Database, make: Any
) -> None:
    """By one job, however many processes find out."""
    upkeep, other = Upkeep(database), Upkeep(database)
    await upkeep.tell(make.upserted(make.movie(1, "Casablanca")))
    for jobs in (upkeep.jobs, other.jobs):
        await jobs.follow_rules()
    assert await upkeep.rows("SELECT count(*) FROM jobs") == [(0,)]
    await upkeep.execute("UPDATE documents SET derived_by = 1")
    for jobs in (Upkeep(database).jobs, Upkeep(database).jobs):
        await jobs.follow_rules()
    await upkeep.runner.run_pending()
    assert await upkeep.rows("SELECT state, request->>'task' FROM jobs") == [
        ("succeeded", "rebuild")
    ]
    assert await upkeep.drift() == 0


async def test_jobs_take_turns(database: Database, make: Any) -> None:
    """Two replicas do not rebuild at the same time; both jobs succeed."""
    upkeep, other = Upkeep(database), Upkeep(database)
    await upkeep.tell(*catalogue(make, 50))
    commands = [rebuild_command(), rebuild_command()]
    await upkeep.tell(*(make.event(command) for command in commands))
    await asyncio.gather(upkeep.runner.run_pending(), other.runner.run_pending())
    states = [(await upkeep.job(command.job_id)).state for command in commands]
    assert states == ["succeeded", "succeeded"]
    assert await upkeep.drift() == 0
