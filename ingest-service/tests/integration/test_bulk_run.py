"""Bulk runs as jobs on a real PostgreSQL, with the stand-in as TMDB.

Run as a script, this file is a process that works on the jobs of a database until it is killed.
The number of films of the run among faults can be set to 2000 by MOVIEMETRIC_BULK_FILMS.
"""

import asyncio
import hashlib
import json
import os
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from ingest_service.bulk_run import BulkRun, Failure, Stored
from ingest_service.tmdb_client import TmdbClient, TmdbDocument, TmdbNotFound
from ingest_service.tmdb_movie import movie_from_tmdb
from moviemetric_contracts import IngestCatalog, ListPages
from service_kit import Database, UnitOfWork, unit_of_work
from service_kit.jobs import Job, JobRunner, enqueue, load_job, request_cancel
from service_kit.migrations import create_job_table, create_messaging_tables
from service_kit.testing import outbox_events
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

CATALOGUE = Path(__file__).resolve().parents[3] / "deploy" / "sample-catalogue" / "movies.jsonl"
SCHEMA = "bulk"
NO_LISTS = dict.fromkeys(ListPages.model_fields, 0)
INCEPTION, MATRIX, UNKNOWN = 27205, 603, 2_000_000_000

_TABLES = (
    """CREATE TABLE ingest_queue (
        job_id text, tmdb_id integer, position integer NOT NULL, attempts smallint DEFAULT 0,
        PRIMARY KEY (job_id, tmdb_id))""",
    """CREATE TABLE films (
        tmdb_id integer PRIMARY KEY, title text, sha256 text, fetched_at timestamptz NOT NULL,
        stored integer NOT NULL DEFAULT 1)""",
    "CREATE TABLE rejected (job_id text, item text, tmdb_id integer, reason text)",
)


@dataclass(frozen=True)
class Film:
    tmdb_id: int
    fetched_at: datetime
    title: str | None
    sha256: str | None


class FilmTable:
    """The catalogue as a run sees it, in one small table; `stored` counts how often."""

    def finding_of(self, answer: TmdbDocument | TmdbNotFound) -> Film:
        if isinstance(answer, TmdbNotFound):
            return Film(answer.tmdb_id, answer.fetched_at, None, None)
        movie = movie_from_tmdb(answer.body, tmdb_id=answer.tmdb_id, fetched_at=answer.fetched_at)
        sha256 = hashlib.sha256(answer.text.encode()).hexdigest()
        return Film(answer.tmdb_id, answer.fetched_at, movie.title, sha256)

    async def store_findings(self, work: UnitOfWork, findings: Sequence[Film]) -> Stored:
        counts = {"new": 0, "changed": 0, "unchanged": 0, "removed": 0}
        for film in findings:
            kept = await work.connection.execute(
                text("SELECT sha256 FROM films WHERE tmdb_id = :tmdb_id"), vars(film)
            )
            known = kept.one_or_none()
            if film.sha256 is None:
                counts["removed"] += 1
            elif known is None:
                counts["new"] += 1
            else:
                counts["unchanged" if known.sha256 == film.sha256 else "changed"] += 1
            await work.connection.execute(
                text("""
                    INSERT INTO films AS kept (tmdb_id, title, sha256, fetched_at)
                    VALUES (:tmdb_id, :title, :sha256, :fetched_at)
                    ON CONFLICT (tmdb_id) DO UPDATE SET
                        title = excluded.title, sha256 = excluded.sha256,
                        fetched_at = excluded.fetched_at, stored = kept.stored + 1
                """),
                vars(film),
            )
        return Stored(**counts)

    async def fresh_ids(
        self, connection: AsyncConnection, tmdb_ids: Collection[int], since: datetime
    ) -> set[int]:
        rows = await connection.execute(
            text("""
                SELECT tmdb_id FROM films
                WHERE tmdb_id = ANY(CAST(:ids AS integer[])) AND fetched_at > :since
            """),
            {"ids": list(tmdb_ids), "since": since},
        )
        return set(rows.scalars())

    async def known_ids(self, connection: AsyncConnection, tmdb_ids: Collection[int]) -> set[int]:
        return await self.fresh_ids(connection, tmdb_ids, datetime(2000, 1, 1, tzinfo=UTC))

    async def reject(self, work: UnitOfWork, job_id: str, failures: Sequence[Failure]) -> None:
        for failure in failures:
            await work.connection.execute(
                text("INSERT INTO rejected VALUES (:job_id, :item, :tmdb_id, :reason)"),
                {"job_id": job_id, **vars(failure)},
            )


def runner(database: Database, client: TmdbClient, **options: Any) -> JobRunner:
    options.setdefault("fresh_for", timedelta(hours=1))
    options.setdefault("retry_delays", (0.2, 0.2, 0.2))
    bulk = BulkRun(client, FilmTable(), **options)
    return JobRunner(database, source="ingest-service", runs={"ingest": bulk.run})


async def work_until_killed(database_url: str, base_url: str) -> None:
    database = Database(database_url, schema=SCHEMA)
    await runner(database, TmdbClient(base_url, "a-v3-key")).run_pending()


@pytest.fixture
async def database(postgres_database: str) -> AsyncGenerator[Database]:
    """The tables that a run needs, without those of the catalogue."""
    opened = Database(postgres_database, schema=SCHEMA)
    statements: list[str] = []

    class Collected:
        def execute(self, sqltext: str) -> None:
            statements.append(sqltext)

    create_messaging_tables(Collected())
    create_job_table(Collected())
    async with opened.transaction() as connection:
        for statement in (f"CREATE SCHEMA {SCHEMA}", *statements, *_TABLES):
            await connection.execute(text(statement))
    yield opened
    await opened.dispose()


def sample_ids(count: int) -> tuple[int, ...]:
    with CATALOGUE.open() as lines:
        return tuple(json.loads(line)["tmdb_id"] for line in islice(lines, count))


async def rows(database: Database, statement: str) -> list[Any]:
    async with database.reading() as connection:
        return [tuple(row) for row in await connection.execute(text(statement))]


async def order(database: Database, **fields: Any) -> str:
    command = IngestCatalog(job_id=f"ingest-{uuid4().hex}", **fields)
    async with unit_of_work(database, source="test") as work:
        request = command.model_dump(mode="json")
        await enqueue(work, job_id=command.job_id, kind="ingest", request=request, cause=None)
    return command.job_id


async def job(database: Database, job_id: str) -> Job:
    async with database.reading() as connection:
        found = await load_job(connection, job_id)
    assert found is not None
    return found


async def wait_until(what: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not await what():  # noqa: ASYNC110 -- it waits for another process
            await asyncio.sleep(0.02)


async def bulk_run(database: Database, jobs: JobRunner, **fields: Any) -> Job:
    job_id = await order(database, **fields)
    await jobs.run_pending()
    return await job(database, job_id)


def lists(**pages: int) -> ListPages:
    return ListPages(**{**NO_LISTS, **pages})


async def test_each_film_of_the_lists_is_fetched_once(
    database: Database, standin: Any, make_client: Any
) -> None:
    jobs = runner(database, make_client(standin.base_url, requests_per_second=1000))
    pages = lists(
        popular=3,
        top_rated=2,
        now_playing=500,
        upcoming=1,
        trending_week=2,
        discover_popularity=2,
        discover_vote_average=1,
    )
    done = await bulk_run(database, jobs, lists=pages, tmdb_ids=(INCEPTION, MATRIX, INCEPTION))
    log = standin.requests()
    asked = {path: sum(counts.values()) for path, counts in log["paths"].items()}
    films = await rows(database, "SELECT tmdb_id, stored FROM films")
    assert (done.state, done.error, done.rejected) == ("succeeded", None, 0)
    assert all(stored == 1 for _, stored in films)
    assert {int(film) for film in log["films"]} == {tmdb_id for tmdb_id, _ in films}
    assert all(counts == {"asked": 1, "answered": 1} for counts in log["films"].values())
    assert asked["/3/movie/popular"] == 3
    assert asked["/3/discover/movie"] == 3
    read = done.result["lists"]
    assert read.pop("now_playing") == asked["/3/movie/now_playing"] < 30  # all there are
    assert read == {
        "popular": 3,
        "top_rated": 2,
        "upcoming": 1,
        "trending_week": 2,
        "discover_popularity": 2,
        "discover_vote_average": 1,
    }
    assert done.done == done.total == done.result["found"] == done.result["new"] == len(films)
    assert done.result["requests"] == log["total"]
    assert await rows(database, "SELECT * FROM ingest_queue") == []


async def test_the_same_run_again_asks_for_lists_only_and_stores_nothing(
    database: Database, standin: Any, make_client: Any
) -> None:
    jobs = runner(database, make_client(standin.base_url, requests_per_second=1000))
    pages = lists(popular=3, top_rated=3)
    first = await bulk_run(database, jobs, lists=pages)
    before = await rows(database, "SELECT * FROM films ORDER BY tmdb_id")
    standin.reset()
    second = await bulk_run(database, jobs, lists=pages)
    log = standin.requests()
    assert (log["total"], log["films"]) == (6, {})
    assert second.state == "succeeded"
    assert second.done == second.total == second.result["fresh"] == first.result["found"] > 60
    assert await rows(database, "SELECT * FROM films ORDER BY tmdb_id") == before

    forced = await bulk_run(database, jobs, lists=pages, force=True)
    assert (forced.result["fresh"], forced.result["unchanged"]) == (0, first.result["found"])


async def test_a_film_that_tmdb_does_not_have_is_removed(
    database: Database, standin: Any, make_client: Any
) -> None:
    jobs = runner(database, make_client(standin.base_url))
    done = await bulk_run(database, jobs, tmdb_ids=(INCEPTION, UNKNOWN))
    assert (done.state, done.result["new"], done.result["removed"]) == ("succeeded", 1, 1)
    assert done.result["lists"] == {}


async def test_of_what_changed_only_known_films_are_fetched(
    database: Database, standin: Any, make_client: Any
) -> None:
    jobs = runner(
        database,
        make_client(standin.base_url, requests_per_second=1000),
        fresh_for=timedelta(0),
    )
    known = sample_ids(150)
    await bulk_run(database, jobs, tmdb_ids=known)
    others = sample_ids(300)[150:]
    standin.reset()
    edited: dict[int, dict[str, Any]] = {tmdb_id: {} for tmdb_id in (*known[:110], *others)}
    edited[known[0]] = {"title": "Another title"}
    standin.follow(overrides=edited, removed_ids=[known[149]])
    since = datetime.now(UTC).date() - timedelta(days=30)
    done = await bulk_run(database, jobs, changed_since=since)
    log = standin.requests()
    assert {int(film) for film in log["films"]} == {*known[:110], known[149]}
    assert log["paths"]["/3/movie/changes"] == {"200": 1 + 1 + 3}  # 261 films, 100 a page
    assert list(done.result["lists"].values()) == [1, 1, 3]
    counts = {name: done.result[name] for name in ("changed", "unchanged", "removed", "new")}
    assert counts == {"changed": 1, "unchanged": 109, "removed": 1, "new": 0}


async def test_among_faults_the_rate_is_kept_and_no_film_is_missing(
    database: Database, standin: Any, make_client: Any
) -> None:
    films = sample_ids(int(os.environ.get("MOVIEMETRIC_BULK_FILMS", "200")))
    figures = ""
    # On a busy machine the stand-in is held up, and what waited for it then arrives at once.
    for _ in range(3):
        standin.reset()
        standin.follow(
            seed=int(os.environ.get("MOVIEMETRIC_BULK_SEED", "3")),
            requests_per_second=40,
            latency=[0.03, 0.15],
            fractions={"429": 0.05, "500": 0.02, "timeout": 0.01},
        )
        jobs = runner(database, make_client(standin.base_url, retry_delay=0.25))
        pages = lists(popular=5, top_rated=5)
        began = time.monotonic()
        done = await bulk_run(database, jobs, tmdb_ids=films, lists=pages, force=True)
        took = time.monotonic() - began
        log = standin.requests()
        needed = done.result["found"] + 10
        figures = (
            f"{needed} requests needed, {log['total']} sent, {took:.1f} s:"
            f" {took / (needed / 40):.2f} of needed / 40, {took / (log['total'] / 40):.2f} of"
            f" sent / 40; {log['statuses']}, at most {log['peak_per_second']} in a second,"
            f" {log['peak_in_flight']} in flight, {log['rate_limited']} over the limit"
        )
        print(figures)  # noqa: T201 -- for a run by hand
        stored = await rows(database, "SELECT tmdb_id FROM films WHERE title IS NOT NULL")
        assert set(films) <= {tmdb_id for (tmdb_id,) in stored}
        assert len(stored) == done.result["found"] == done.done
        assert (done.state, done.rejected) == ("succeeded", 0)
        # How long it takes is measured by `make bench-bulk`.
        if log["rate_limited"] == 0 and log["peak_per_second"] <= 40:
            return
    pytest.fail(figures)


async def test_a_film_that_is_never_delivered_is_told_and_the_others_are_kept(
    database: Database, standin: Any, make_client: Any
) -> None:
    films = sample_ids(60)
    standin.follow(fail_ids={films[0]: "500", films[59]: "503"})
    client = make_client(standin.base_url, requests_per_second=1000, max_attempts=2)
    done = await bulk_run(database, runner(database, client, chunk=10), tmdb_ids=films)
    assert (done.state, done.rejected, done.done, done.total) == ("succeeded", 2, 60, 60)
    assert (done.result["failed"], done.result["new"]) == (2, 58)
    assert sorted(await rows(database, "SELECT item, tmdb_id, reason FROM rejected")) == sorted(
        (f"film {film}", film, f"TMDB did not answer /movie/{film}: status {status} (attempt 2)")
        for film, status in ((films[0], 500), (films[59], 503))
    )
    log = standin.requests()["films"]
    assert log[str(films[0])]["asked"] == log[str(films[59])]["asked"] == 2 * 4
    assert await rows(database, "SELECT * FROM ingest_queue") == []


async def test_many_films_that_are_never_delivered_are_told_apart_from_an_outage(
    database: Database, standin: Any, make_client: Any
) -> None:
    films = sample_ids(40)
    standin.follow(fail_ids=dict.fromkeys(films, "500"))
    client = make_client(standin.base_url, requests_per_second=1000, max_attempts=1)
    done = await bulk_run(database, runner(database, client, retry_delays=(0.05,)), tmdb_ids=films)
    assert (done.state, done.rejected, done.result["new"]) == ("succeeded", 40, 0)


async def test_a_film_comes_in_the_end_when_tmdb_delivers_it_late(
    database: Database, standin: Any, make_client: Any
) -> None:
    standin.follow(fail_ids={MATRIX: "500"})
    client = make_client(standin.base_url, max_attempts=1)
    job_id = await order(database, tmdb_ids=(MATRIX, INCEPTION))
    running = asyncio.create_task(
        runner(database, client, retry_delays=(0.2, 0.2, 8.0)).run_pending()
    )

    async def failed_thrice() -> bool:
        return standin.requests()["films"].get(str(MATRIX), {}).get("asked", 0) >= 3

    await wait_until(failed_thrice)
    standin.follow()
    await running
    done = await job(database, job_id)
    assert (done.state, done.rejected, done.result["new"]) == ("succeeded", 0, 2)


async def test_a_page_that_is_never_delivered_is_told(
    database: Database, standin: Any, make_client: Any
) -> None:
    standin.follow(next=[{"outcome": "500", "count": 2}])
    client = make_client(standin.base_url, max_attempts=2)
    done = await bulk_run(
        database,
        runner(database, client, retry_delays=()),
        lists=lists(popular=1),
        tmdb_ids=(INCEPTION,),
    )
    assert (done.state, done.rejected, done.done, done.total) == ("succeeded", 1, 1, 1)
    ((item, tmdb_id, reason),) = await rows(database, "SELECT item, tmdb_id, reason FROM rejected")
    assert (item, tmdb_id) == ("popular, page 1", None)
    assert "status 500" in reason


async def test_while_tmdb_is_away_the_job_waits_and_no_film_is_given_up(
    database: Database, standin: Any, make_client: Any
) -> None:
    films = sample_ids(100)
    client = make_client(standin.base_url, requests_per_second=1000, max_attempts=2)
    jobs = runner(database, client, away_pause=0.3, chunk=10, window=30)
    standin.follow(latency=0.2)
    job_id = await order(database, tmdb_ids=films)
    running = asyncio.create_task(jobs.run_pending())

    async def is_under_way() -> bool:
        return 0 < (await job(database, job_id)).done < 100

    async def waits() -> bool:
        return "waiting: TMDB is not available" in ((await job(database, job_id)).error or "")

    await wait_until(is_under_way)
    standin.follow(fractions={"500": 1.0})
    await wait_until(waits)
    await asyncio.sleep(1)  # several more tries
    waiting = await job(database, job_id)
    assert (waiting.state, waiting.rejected) == ("running", 0)
    standin.follow()
    await running
    done = await job(database, job_id)
    assert (done.state, done.rejected, done.done, done.error) == ("succeeded", 0, 100, None)
    assert {stored for (stored,) in await rows(database, "SELECT stored FROM films")} == {1}


async def test_a_refused_key_is_waited_for_and_a_missing_one_is_not(
    database: Database, standin: Any, make_client: Any
) -> None:
    failed = await bulk_run(
        database, runner(database, make_client(standin.base_url, None)), tmdb_ids=(MATRIX,)
    )
    assert failed.state == "failed"
    assert "no TMDB API key; set TMDB_API_KEY" in (failed.error or "")
    assert standin.requests()["total"] == 0

    job_id = await order(database, tmdb_ids=(MATRIX,))
    running = asyncio.create_task(
        runner(database, make_client(standin.base_url, "wrong")).run_pending()
    )

    async def waits() -> bool:
        return "refuses the API key" in ((await job(database, job_id)).error or "")

    await wait_until(waits)
    assert (await job(database, job_id)).state == "running"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_killed_run_goes_on_where_it_was(
    database: Database, postgres_database: str, standin: Any, make_client: Any
) -> None:
    films = sample_ids(400)
    standin.follow(latency=0.2)
    job_id = await order(database, tmdb_ids=films)

    # Far from the end: it goes on while this process is held up.
    for part in (0.2, 0.4):
        process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, postgres_database, standin.base_url
        )

        async def has_come_far_enough(part: float = part) -> bool:
            return (await job(database, job_id)).done >= part * len(films)

        try:
            await wait_until(has_come_far_enough)
        finally:
            process.kill()
            await process.wait()
        assert (await job(database, job_id)).state == "running"

    client = make_client(standin.base_url, requests_per_second=1000)
    jobs = runner(database, client)

    async def is_free() -> bool:  # the server has noticed that the killed one is gone
        await jobs.run_pending()
        return (await job(database, job_id)).state != "running"

    await wait_until(is_free)
    done = await job(database, job_id)
    assert (done.state, done.done, done.result["new"]) == ("succeeded", 400, 400)
    stored = await rows(database, "SELECT tmdb_id, stored FROM films")
    assert sorted(stored) == sorted((film, 1) for film in films)
    asked = [counts["asked"] for counts in standin.requests()["films"].values()]
    assert max(asked) <= 3
    assert sum(asked) - 400 <= 2 * 120


async def test_a_cancelled_run_ends_and_leaves_nothing_in_the_queue(
    database: Database, standin: Any, make_client: Any
) -> None:
    standin.follow(latency=0.1)
    jobs = runner(database, make_client(standin.base_url), chunk=10)
    job_id = await order(database, tmdb_ids=sample_ids(300))
    running = asyncio.create_task(jobs.run_pending())

    async def is_under_way() -> bool:
        return (await job(database, job_id)).done > 0

    await wait_until(is_under_way)
    async with unit_of_work(database, source="test") as work:
        assert await request_cancel(work, job_id, cause=None)
    await running
    assert (await job(database, job_id)).state == "cancelled"
    await bulk_run(database, jobs, tmdb_ids=(INCEPTION,), force=True)
    assert await rows(database, "SELECT * FROM ingest_queue") == []


async def test_progress_is_told_while_it_goes_on(
    database: Database, standin: Any, make_client: Any
) -> None:
    jobs = runner(database, make_client(standin.base_url))
    await bulk_run(database, jobs, tmdb_ids=sample_ids(120))
    told = [(event.data.done, event.data.total) for event in await outbox_events(database)]
    assert told[-1] == (120, 120)
    assert len({done for done, _ in told}) > 3


if __name__ == "__main__":
    asyncio.run(work_until_killed(sys.argv[1], sys.argv[2]))
