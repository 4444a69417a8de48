"""Jobs on a real PostgreSQL: claims, steps, ends, and what happens when things go wrong."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from moviemetric_contracts import CancelJob, Event, JobChanged
from service_kit import (
    Conflict,
    Database,
    Job,
    JobCancelled,
    JobFailed,
    JobLost,
    JobRunner,
    Outage,
    Park,
    RetryLater,
    RunningJob,
    unit_of_work,
)
from service_kit.jobs import Run, enqueue, list_jobs, load_job, request_cancel
from service_kit.migrations import create_job_table, create_messaging_tables
from service_kit.testing import outbox_events
from sqlalchemy import Connection, text

COMMAND = Event[Any].of(
    CancelJob(job_id="any"),
    source="/test",
    time=datetime(2026, 3, 1, tzinfo=UTC),
    id="command-1",
    correlationid="request-1",
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)
PATIENCE = 20.0


class UnforeseenError(Exception):
    """What nobody expects of a run."""


def make_tables(connection: Connection) -> None:
    operations = Operations(MigrationContext.configure(connection))
    create_messaging_tables(operations)
    create_job_table(operations)
    # Every number is written once, in the step that has it; twice is refused.
    operations.execute("CREATE TABLE numbers (number integer PRIMARY KEY, attempt integer)")


@pytest.fixture
async def database(postgres_database: str) -> AsyncGenerator[Database]:
    database = Database(postgres_database, schema="test")
    async with database.transaction() as connection:
        await connection.execute(text("CREATE SCHEMA test"))
        await connection.run_sync(make_tables)
    yield database
    await database.dispose()


async def add(
    database: Database, job_id: str = "count-1", kind: str = "count", **request: Any
) -> None:
    async with unit_of_work(database, source="test") as work:
        await enqueue(work, job_id=job_id, kind=kind, request=request, cause=COMMAND)


async def cancel(database: Database, job_id: str = "count-1") -> bool:
    async with unit_of_work(database, source="test") as work:
        return await request_cancel(work, job_id, cause=COMMAND)


async def job(database: Database, job_id: str = "count-1") -> Job:
    async with database.reading() as connection:
        found = await load_job(connection, job_id)
    assert found is not None
    return found


async def changes(database: Database) -> list[JobChanged]:
    return [e.data for e in await outbox_events(database) if isinstance(e.data, JobChanged)]


async def numbers(database: Database) -> list[tuple[int, int]]:
    async with database.transaction() as connection:
        rows = await connection.execute(text("SELECT number, attempt FROM numbers ORDER BY 1"))
        return [(row.number, row.attempt) for row in rows]


async def execute(database: Database, statement: str, **values: Any) -> None:
    async with database.transaction() as connection:
        await connection.execute(text(statement), values)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():  # noqa: ASYNC110 -- it is the database that is watched
            await asyncio.sleep(0.02)


async def write_number(running: RunningJob, number: int, upto: int) -> None:
    async with running.step() as step:
        await step.work.connection.execute(
            text("INSERT INTO numbers VALUES (:number, :attempt)"),
            {"number": number, "attempt": running.job.attempt},
        )
        step.advance(done=number, total=upto, checkpoint={"number": number})


async def count(running: RunningJob) -> None:
    """Writes the numbers up to `upto`, each in a step, `pause` seconds apart."""
    request = running.job.request
    for number in range(running.job.checkpoint.get("number", 0) + 1, request["upto"] + 1):
        await write_number(running, number, request["upto"])
        await asyncio.sleep(request.get("pause", 0))


def runner(database: Database, run: Run = count, *, concurrency: int = 1) -> JobRunner:
    return JobRunner(database, source="test", runs={"count": run}, concurrency=concurrency)


async def run(database: Database, run: Run = count) -> None:
    async with asyncio.timeout(PATIENCE):
        await runner(database, run).run_pending()


async def test_a_job_is_announced_run_and_finished(database: Database) -> None:
    await add(database, upto=3)
    queued = await job(database)
    assert (queued.state, queued.attempt, queued.started_at) == ("queued", 0, None)
    await run(database)
    finished = await job(database)
    assert finished.state == "succeeded"
    assert (finished.done, finished.total, finished.rejected) == (3, 3, 0)
    assert (finished.attempt, finished.error, finished.rate) == (1, None, None)
    assert finished.checkpoint == {"number": 3}
    assert finished.started_at is not None
    assert finished.finished_at is not None
    assert queued.created_at <= finished.started_at <= finished.finished_at
    assert await numbers(database) == [(1, 1), (2, 1), (3, 1)]
    assert [(c.state, c.done, c.total) for c in await changes(database)] == [
        ("queued", 0, None),
        ("running", 0, None),
        ("succeeded", 3, 3),
    ]


async def test_every_change_belongs_to_the_command(database: Database) -> None:
    await add(database, upto=1)
    await run(database)
    events = await outbox_events(database)
    assert len(events) == 3
    assert {(e.source, e.subject, e.correlationid, e.causationid) for e in events} == {
        ("/test", "count-1", "request-1", "command-1")
    }
    assert {e.traceparent for e in events} == {COMMAND.traceparent}


async def test_the_same_job_twice_is_one_job(database: Database) -> None:
    await add(database, upto=1)
    await run(database)
    await add(database, upto=5)
    await run(database)
    assert (await job(database)).done == 1
    assert len(await changes(database)) == 3


async def test_a_job_nobody_runs_here_stays_queued(database: Database) -> None:
    await add(database, "other-1", "other")
    await run(database)
    assert (await job(database, "other-1")).state == "queued"


async def test_jobs_are_run_in_the_order_they_came(database: Database) -> None:
    order: list[str] = []

    async def note(running: RunningJob) -> None:
        order.append(running.job.job_id)

    for name in ("count-c", "count-a", "count-b"):
        await add(database, name)
    await run(database, note)
    assert order == ["count-c", "count-a", "count-b"]


async def test_a_step_that_fails_has_no_effect(database: Database) -> None:
    calls = 0

    async def stumble(running: RunningJob) -> None:
        nonlocal calls
        calls += 1
        async with running.step() as step:
            await step.work.connection.execute(text("INSERT INTO numbers VALUES (1, 1)"))
            step.work.emit(CancelJob(job_id="emitted"))
            step.advance(done=1, checkpoint={"number": 1})
            if calls == 1:
                raise UnforeseenError
            step.advance(rejected=7, result={"new": 1}, note="nearly done")
        shown = await job(database)
        assert (shown.error, shown.rejected, shown.result) == ("nearly done", 7, {"new": 1})

    await add(database)
    await run(database, stumble)
    assert calls == 2
    assert await numbers(database) == [(1, 1)]
    finished = await job(database)
    assert (finished.state, finished.attempt, finished.error) == ("succeeded", 1, None)
    emitted = [e for e in await outbox_events(database) if isinstance(e.data, CancelJob)]
    assert len(emitted) == 1


async def test_what_is_not_advanced_stays_as_it_was(database: Database) -> None:
    async def partly(running: RunningJob) -> None:
        async with running.step() as step:
            step.advance(done=2, total=9, rejected=1, checkpoint={"a": 1}, result={"b": 2})
        async with running.step():
            pass

    await add(database)
    await run(database, partly)
    finished = await job(database)
    assert (finished.done, finished.total, finished.rejected) == (2, 9, 1)
    assert (finished.checkpoint, finished.result) == ({"a": 1}, {"b": 2})


async def test_progress_is_announced_at_most_twice_a_second(database: Database) -> None:
    await add(database, upto=130, pause=0.01)
    began = asyncio.get_running_loop().time()
    await run(database)
    took = asyncio.get_running_loop().time() - began
    progress = [c for c in await changes(database) if c.state == "running"]
    assert progress[0].done == 0
    assert 2 <= len(progress) - 1 <= took / 0.5
    assert [c.done for c in progress] == sorted({c.done for c in progress})
    assert (await changes(database))[-1].done == 130


async def test_a_running_job_shows_its_rate_and_end(database: Database) -> None:
    await add(database, upto=100, pause=0.05)
    began = asyncio.get_running_loop().time()
    running = asyncio.create_task(run(database))

    async def halfway() -> bool:
        return (await job(database)).done >= 20

    await until(halfway)
    shown = await job(database)
    took = asyncio.get_running_loop().time() - began
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert shown.rate is not None
    # 20 a second at most; on a busy machine less, but not less than it did.
    assert shown.done / took < shown.rate < 20.5
    assert shown.estimated_end is not None
    left = (shown.estimated_end - shown.as_of).total_seconds()
    assert left == pytest.approx((100 - shown.done) / shown.rate)


async def test_a_queued_job_is_cancelled_at_once(database: Database) -> None:
    await add(database, upto=1)
    assert await cancel(database)
    assert not await cancel(database)
    await run(database)
    cancelled = await job(database)
    assert (cancelled.state, cancelled.attempt) == ("cancelled", 0)
    assert await numbers(database) == []
    assert [c.state for c in await changes(database)] == ["queued", "cancelled"]


async def test_a_running_job_ends_at_its_next_step(database: Database) -> None:
    seen: list[type[BaseException]] = []

    async def observed(running: RunningJob) -> None:
        try:
            await count(running)
        except JobCancelled as cancelled:
            seen.append(type(cancelled))
            raise

    await add(database, upto=10_000, pause=0.01)
    task = asyncio.create_task(run(database, observed))

    async def underway() -> bool:
        return (await job(database)).done >= 3

    await until(underway)
    assert await cancel(database)
    assert not await cancel(database)
    await task
    cancelled = await job(database)
    assert cancelled.state == "cancelled"
    assert 3 <= cancelled.done < 1000
    assert len(await numbers(database)) == cancelled.done
    assert seen == [JobCancelled]
    assert [c.state for c in await changes(database)][-1] == "cancelled"


async def test_a_cancellation_during_a_step_takes_the_step_back(database: Database) -> None:
    async def slow(running: RunningJob) -> None:
        async with running.step() as step:
            await step.work.connection.execute(text("INSERT INTO numbers VALUES (1, 1)"))
            assert await cancel(database)
            step.advance(done=1)

    await add(database)
    await run(database, slow)
    assert (await job(database)).state == "cancelled"
    assert await numbers(database) == []


async def test_a_finished_job_cannot_be_cancelled(database: Database) -> None:
    await add(database, upto=1)
    await run(database)
    assert not await cancel(database)
    assert (await job(database)).state == "succeeded"


async def test_a_cancellation_that_overtakes_its_job_comes_again(database: Database) -> None:
    with pytest.raises(RetryLater, match="no job count-1 is known here yet"):
        await cancel(database)


async def test_a_job_cancelled_while_its_owner_was_gone(database: Database) -> None:
    await add(database, upto=1)
    await execute(
        database,
        "UPDATE jobs SET state = 'running', attempt = 1, started_at = now(),"
        " attempt_started_at = now()",
    )
    assert await cancel(database)
    await run(database)
    assert (await job(database)).state == "cancelled"
    assert await numbers(database) == []


@pytest.mark.parametrize("error", [JobFailed("no header"), Park("no header")])
async def test_a_job_that_cannot_succeed_fails_at_once(
    database: Database, error: Exception
) -> None:
    calls = 0

    async def fail(running: RunningJob) -> None:
        nonlocal calls
        calls += 1
        await write_number(running, 1, 2)
        raise error

    await add(database)
    await run(database, fail)
    failed = await job(database)
    assert (failed.state, failed.error, failed.done, calls) == ("failed", "no header", 1, 1)
    last = (await changes(database))[-1]
    assert (last.state, last.error, last.done) == ("failed", "no header", 1)


async def test_an_unforeseen_error_is_tried_three_times(database: Database) -> None:
    notes: list[str | None] = []

    async def fail(running: RunningJob) -> None:
        notes.append(running.job.error)
        msg = "bad \x00 \ud800 value"
        raise UnforeseenError(msg)

    await add(database)
    await run(database, fail)
    reason = "UnforeseenError: bad \\x00 \\ud800 value"
    assert notes == [None, *[f"will be tried again after {reason}"] * 2]
    failed = await job(database)
    assert (failed.state, failed.error, failed.attempt) == ("failed", reason, 1)


async def test_values_that_no_column_holds_fail_the_job(database: Database) -> None:
    async def fail(running: RunningJob) -> None:
        async with running.step() as step:
            step.advance(result={"title": "a\x00b"})

    await add(database)
    await run(database, fail)
    failed = await job(database)
    assert failed.state == "failed"
    assert failed.error is not None
    assert failed.error.startswith("the database cannot hold it")


async def test_a_job_waits_for_what_is_away_and_goes_on(database: Database) -> None:
    away = 2
    shown: list[str | None] = []

    async def fetch(running: RunningJob) -> None:
        nonlocal away
        shown.append(running.job.error)
        for number in range(running.job.checkpoint.get("number", 0) + 1, 5):
            if number == 3 and away:
                away -= 1
                raise Outage("TMDB", "refuses the key", retry_after=0.05)
            await write_number(running, number, 4)

    await add(database)
    await run(database, fetch)
    finished = await job(database)
    assert (finished.state, finished.attempt, finished.error) == ("succeeded", 1, None)
    assert await numbers(database) == [(1, 1), (2, 1), (3, 1), (4, 1)]
    waiting = "waiting: TMDB is not available: refuses the key"
    assert shown == [None, waiting, waiting]
    assert [(c.state, c.done, c.error) for c in await changes(database)] == [
        ("queued", 0, None),
        ("running", 0, None),
        ("running", 2, waiting),
        ("running", 2, waiting),
        ("succeeded", 4, None),
    ]


async def test_a_waiting_job_can_be_cancelled(database: Database) -> None:
    async def fetch(_running: RunningJob) -> None:
        raise Outage("TMDB", "refuses the key", retry_after=60)

    await add(database)
    task = asyncio.create_task(run(database, fetch))

    async def waits() -> bool:
        return (await job(database)).error is not None

    await until(waits)
    await cancel(database)
    await asyncio.wait_for(task, 30)
    cancelled = await job(database)
    assert (cancelled.state, cancelled.error) == ("cancelled", None)


async def test_conflicts_are_repeated_without_a_word(database: Database) -> None:
    conflicts = 4

    async def contended(running: RunningJob) -> None:
        nonlocal conflicts
        if conflicts:
            conflicts -= 1
            raise Conflict
        await count(running)

    await add(database, upto=2)
    await run(database, contended)
    assert (await job(database)).state == "succeeded"
    assert [c.error for c in await changes(database)] == [None] * 3


async def test_a_lost_connection_of_a_step_is_waited_out(database: Database) -> None:
    killed = False

    async def cut(running: RunningJob) -> None:
        nonlocal killed
        for number in range(running.job.checkpoint.get("number", 0) + 1, 4):
            async with running.step() as step:
                if number == 2 and not killed:
                    killed = True
                    await step.work.connection.execute(
                        text("SELECT pg_terminate_backend(pg_backend_pid())")
                    )
                step.advance(done=number, checkpoint={"number": number})

    await add(database)
    await run(database, cut)
    finished = await job(database)
    assert (finished.state, finished.done, finished.attempt) == ("succeeded", 3, 1)


async def test_a_server_that_restarts_is_waited_for(database: Database) -> None:
    await add(database, upto=60, pause=0.02)
    task = asyncio.create_task(run(database))

    async def underway() -> bool:
        return (await job(database)).done >= 5

    await until(underway)
    # As a restart does: every connection to the database ends, the one with the lock too.
    with suppress(Outage):
        await execute(
            database,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
    await task
    finished = await job(database)
    assert (finished.state, finished.error) == ("succeeded", None)
    assert [number for number, _ in await numbers(database)] == list(range(1, 61))


async def test_two_runners_share_the_jobs(database: Database) -> None:
    for n in range(6):
        await add(database, f"count-{n}")
    ran: list[tuple[str, str]] = []
    both = asyncio.Barrier(2)

    def by(name: str) -> Run:
        async def note(running: RunningJob) -> None:
            async with running.step() as step:
                step.advance(done=1)
            ran.append((running.job.job_id, name))
            if [by for _, by in ran].count(name) == 1:
                await both.wait()  # so that neither can do it all before the other has begun

        return note

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(
            runner(database, by("a")).run_pending(), runner(database, by("b")).run_pending()
        )
    assert sorted(job_id for job_id, _ in ran) == [f"count-{n}" for n in range(6)]
    assert {name for _, name in ran} == {"a", "b"}
    assert {(await job(database, f"count-{n}")).attempt for n in range(6)} == {1}


async def test_a_runner_has_as_many_jobs_in_hand_as_it_may(database: Database) -> None:
    in_hand = most = 0
    three = asyncio.Barrier(3)

    async def note(_running: RunningJob) -> None:
        nonlocal in_hand, most
        in_hand += 1
        most = max(most, in_hand)
        await three.wait()
        await asyncio.sleep(0.1)
        in_hand -= 1

    for n in range(6):
        await add(database, f"count-{n}")
    async with asyncio.timeout(PATIENCE):
        await runner(database, note, concurrency=3).run_pending()
    assert most == 3


async def test_a_job_that_comes_later_starts_beside_one_that_runs(database: Database) -> None:
    both = asyncio.Barrier(2)

    async def meet(_running: RunningJob) -> None:
        async with asyncio.timeout(30):
            await both.wait()

    await add(database, "count-1")
    task = asyncio.create_task(runner(database, meet, concurrency=2).run_pending())
    await asyncio.sleep(0.3)
    await add(database, "count-2")
    await asyncio.wait_for(task, PATIENCE)
    assert {(await job(database, f"count-{n}")).state for n in (1, 2)} == {"succeeded"}


async def test_an_owner_that_was_given_up_cannot_write_any_more(database: Database) -> None:
    result: list[BaseException] = []
    ready, taken_over = asyncio.Event(), asyncio.Event()

    async def zombie(running: RunningJob) -> None:
        await write_number(running, 1, 3)
        try:
            async with running.step() as step:
                await step.work.connection.execute(text("INSERT INTO numbers VALUES (2, 1)"))
                ready.set()
                await taken_over.wait()
                step.advance(done=2, checkpoint={"number": 2})
        except JobLost as lost:
            result.append(lost)
            raise

    await add(database, upto=3)
    first = asyncio.create_task(run(database, zombie))
    await asyncio.wait_for(ready.wait(), PATIENCE)
    # Its lock's connection ends, as when the server thinks that the machine is gone.
    await execute(
        database,
        "SELECT pg_terminate_backend(pid) FROM pg_locks"
        " WHERE locktype = 'advisory' AND pid <> pg_backend_pid()",
    )
    claimed = asyncio.Event()

    async def successor(running: RunningJob) -> None:
        claimed.set()
        await asyncio.wait_for(first, PATIENCE)
        await count(running)

    second = asyncio.create_task(run(database, successor))
    await asyncio.wait_for(claimed.wait(), PATIENCE)
    taken_over.set()
    await second
    assert [str(lost) for lost in result] == ["attempt 1 of job count-1 no longer owns it"]
    assert await numbers(database) == [(1, 1), (2, 2), (3, 2)]
    assert (await job(database)).state == "succeeded"


async def test_readers_and_writers_of_other_rows_never_wait_for_a_step(
    database: Database,
) -> None:
    async def slow(running: RunningJob) -> None:
        async with running.step() as step:
            await step.work.connection.execute(text("INSERT INTO numbers VALUES (1, 1)"))
            async with asyncio.timeout(10):
                assert (await job(database)).state == "running"
                # Not even the job's own row is locked before the end of the step.
                await execute(database, "UPDATE jobs SET updated_at = now()")
            step.advance(done=1)

    await add(database)
    await run(database, slow)
    assert (await job(database)).state == "succeeded"


async def test_shutdown_takes_the_step_back_and_frees_the_job(database: Database) -> None:
    within = asyncio.Event()

    async def hang(running: RunningJob) -> None:
        await write_number(running, 1, 2)
        async with running.step() as step:
            await step.work.connection.execute(text("INSERT INTO numbers VALUES (2, 1)"))
            within.set()
            await asyncio.sleep(60)

    await add(database, upto=2)
    task = asyncio.create_task(run(database, hang))
    await asyncio.wait_for(within.wait(), PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 30)
    left = await job(database)
    assert (left.state, left.done) == ("running", 1)
    await run(database)
    assert await numbers(database) == [(1, 1), (2, 2)]
    finished = await job(database)
    assert (finished.state, finished.attempt) == ("succeeded", 2)


async def test_orderly_shutdowns_never_count_against_a_job(database: Database) -> None:
    await add(database, upto=1)
    for _ in range(8):
        began = asyncio.Event()

        async def hang(_running: RunningJob, began: asyncio.Event = began) -> None:
            began.set()
            await asyncio.sleep(60)

        task = asyncio.create_task(run(database, hang))
        await asyncio.wait_for(began.wait(), PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await run(database)
    finished = await job(database)
    assert (finished.state, finished.attempt) == ("succeeded", 9)


PROGRAM = """
import asyncio, os, signal, sys
from service_kit import Database, JobRunner
from sqlalchemy import text

async def count(running):
    request = running.job.request
    for number in range(running.job.checkpoint.get("number", 0) + 1, request["upto"] + 1):
        async with running.step() as step:
            await step.work.connection.execute(
                text("INSERT INTO numbers VALUES (:n, :a)"),
                {"n": number, "a": running.job.attempt},
            )
            if number == request.get("die_at"):
                os.kill(os.getpid(), signal.SIGKILL)
            step.advance(done=number, total=request["upto"], checkpoint={"number": number})
        attempt = running.job.attempt
        held = request.get("held_at", [])[attempt - 1 : attempt] == [number]
        await asyncio.sleep(60 if held else request.get("pause", 0))

async def main():
    database = Database(sys.argv[1], schema="test")
    try:
        await JobRunner(database, source="test", runs={"count": count}).run_pending()
    finally:
        await database.dispose()

asyncio.run(main())
"""


async def start_process(url: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, url)


async def test_a_killed_process_is_succeeded_by_the_next(
    database: Database, postgres_database: str
) -> None:
    # Held up, it would come no further than that.
    await add(database, upto=60, pause=0.02, held_at=[25, 50])
    kills = 0
    for at in (10, 30):
        process = await start_process(postgres_database)

        async def so_far(at: int = at) -> bool:
            return (await job(database)).done >= at

        try:
            await until(so_far)
        finally:
            os.kill(process.pid, signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
        kills += 1
        assert (await job(database)).state == "running"
    # The lock goes with the connection: nothing to wait for but the server's noticing it.
    async with asyncio.timeout(30):
        while (await job(database)).state == "running":
            await runner(database).run_pending()
            await asyncio.sleep(0.02)
    finished = await job(database)
    assert (finished.state, finished.done, finished.attempt) == ("succeeded", 60, kills + 1)
    written = await numbers(database)
    assert [number for number, _ in written] == list(range(1, 61))
    assert {attempt for _, attempt in written} == {1, 2, 3}


async def test_a_waiting_runner_takes_over_soon_after_a_kill(
    database: Database, postgres_database: str
) -> None:
    await add(database, upto=200, pause=0.01, held_at=[50])
    process = await start_process(postgres_database)

    async def underway() -> bool:
        return (await job(database)).done >= 5

    await until(underway)
    await runner(database).run_pending()
    assert (await job(database)).attempt == 1
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    loop = asyncio.get_running_loop()
    killed = loop.time()
    taken: list[float] = []

    async def note(_running: RunningJob) -> None:
        taken.append(loop.time() - killed)

    while not taken and loop.time() - killed < 30:
        await runner(database, note).run_pending()
        await asyncio.sleep(0.02)
    # A lock that had to expire first would be held for longer.
    assert taken


async def test_a_job_that_kills_its_process_each_time_fails(
    database: Database, postgres_database: str
) -> None:
    await add(database, upto=9, die_at=3)
    # The first gets as far as 2, which is headway; after it five more may try.
    for _ in range(6):
        process = await start_process(postgres_database)
        assert await asyncio.wait_for(process.wait(), PATIENCE) == -signal.SIGKILL
        assert (await job(database)).state == "running"
    await run(database)
    failed = await job(database)
    assert failed.state == "failed"
    assert failed.error is not None
    assert failed.error.startswith("started 5 times, and each time its process ended")
    assert failed.done == 2
    assert (await changes(database))[-1].state == "failed"


async def test_lists_are_newest_first_and_filtered(database: Database) -> None:
    async def nothing(_running: RunningJob) -> None:
        return

    for n in range(5):
        await add(database, f"count-{n}")
    await add(database, "other-1", "other")
    await run(database, nothing)
    async with database.reading() as connection:
        everything, total = await list_jobs(connection)
        assert [j.job_id for j in everything] == [
            "other-1",
            *(f"count-{n}" for n in (4, 3, 2, 1, 0)),
        ]
        assert total == 6
        page, total = await list_jobs(connection, kind="count", limit=2, offset=1)
        assert [j.job_id for j in page] == ["count-3", "count-2"]
        assert total == 5
        queued, total = await list_jobs(connection, state="queued")
        assert ([j.job_id for j in queued], total) == (["other-1"], 1)
        assert await list_jobs(connection, kind="none") == ([], 0)
