"""Jobs that compute: atomic for readers, gone on with after a death, failing with a reason."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from compute_service.artifacts import Artifact, Day, Write
from moviemetric_contracts import CancelJob, Event
from service_kit import Database, Outcome
from service_kit.testing import outbox_events
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

Deliver = Callable[[Sequence[Event[Any]]], Awaitable[list[Outcome]]]


@dataclass
class Halting:
    """An artifact that stops before or while it is written, until it may go on."""

    inner: Artifact
    before: bool = False
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    prepared: int = 0
    given_up: bool = False

    @property
    def name(self) -> str:
        return self.inner.name

    async def prepare(self, day: Day) -> Write:
        self.prepared += 1
        if self.before:
            self.reached.set()
            try:
                await self.go_on.wait()
            except asyncio.CancelledError:
                self.given_up = True
                raise
        write = await self.inner.prepare(day)

        async def halting(connection: AsyncConnection) -> int:
            rows = await write(connection)
            self.reached.set()
            await self.go_on.wait()
            return rows

        return write if self.before else halting


async def runs(database: Database) -> dict[str, tuple[datetime, int]]:
    async with database.reading() as connection:
        found = await connection.execute(
            text("SELECT artifact, computed_at, rows FROM artifact_runs")
        )
        return {row.artifact: (row.computed_at, row.rows) for row in found}


@pytest.fixture
async def _three_films(deliver_all: Deliver, make: Any) -> None:
    await deliver_all(
        [
            make.upserted("tmdb-1", genres=("Drama", "War"), release_date="1994-05-01"),
            make.upserted("tmdb-2", genres=("Drama",), release_date="1999-05-01"),
            make.upserted("tmdb-3", genres=(), release_date="2004-05-01"),
        ]
    )


@pytest.mark.usefixtures("_three_films")
async def test_all_artifacts_one_step_each(database: Database, compute: Any, make: Any) -> None:
    day = make.now.date() - timedelta(days=1)
    job = await compute("all", day)
    assert (job.state, job.done, job.total, job.error) == ("succeeded", 3, 3, None)
    assert job.result["as_of"] == str(day)
    rows_of = {"trending": 6, "genre-stats": 2, "ratings-by-decade": 2}
    assert {name: done["rows"] for name, done in job.result["artifacts"].items()} == rows_of
    assert all(done["seconds"] > 0 for done in job.result["artifacts"].values())
    assert {name: rows for name, (_, rows) in (await runs(database)).items()} == rows_of
    told = [e for e in await outbox_events(database) if e.type == "artifact.computed.v1"]
    assert [(e.data.artifact, e.data.rows, e.data.as_of, e.data.job_id) for e in told] == [
        (name, rows, day, job.job_id) for name, rows in rows_of.items()
    ]
    assert all(event.causationid for event in told)


async def test_without_a_day_it_is_the_present_one(compute: Any) -> None:
    before = datetime.now(UTC).date()
    job = await compute("genre-stats")
    assert before <= datetime.fromisoformat(job.result["as_of"]).date() <= datetime.now(UTC).date()
    assert (job.state, job.result["artifacts"]["genre-stats"]["rows"]) == ("succeeded", 0)


@pytest.mark.usefixtures("_three_films")
async def test_of_the_first_day_of_the_calendar(compute: Any, api: httpx.AsyncClient) -> None:
    job = await compute("all", "0001-01-01")
    assert (job.state, job.error) == ("succeeded", None)
    chart = (await api.get("/trending", params={"as_of": "0001-01-01"})).json()
    assert (chart["date"], chart["total"]) == ("0001-01-01", 3)


@pytest.mark.usefixtures("_three_films")
async def test_a_job_that_fails_says_why_and_leaves_what_was_there(
    database: Database, compute: Any, deliver_all: Deliver, make: Any, api: httpx.AsyncClient
) -> None:
    today = make.now.date()
    assert (await compute("all", today)).state == "succeeded"
    paths = ("/analytics/top-genres", "/analytics/ratings-by-decade", "/rising")
    paths += (f"/trending?as_of={today}",)
    before = [(await api.get(path)).json() for path in paths]
    assert [genre["genre"] for genre in before[0]["items"]] == ["Drama", "War"]

    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    job = await compute("all", tomorrow)
    assert (job.state, job.error) == ("failed", f"as_of: {tomorrow} lies in the future")
    job = await compute("recommendations")
    assert job.state == "failed"
    assert "'recommendations' is not computed here; what is: trending, genre-stats" in job.error

    # Now the database itself refuses, after the old rows are gone within the step.
    await deliver_all([make.upserted("tmdb-4", genres=("Comedy",), release_date="1984-01-01")])
    async with database.transaction() as connection:
        await connection.execute(
            text(
                "ALTER TABLE genre_stats_daily "
                "ADD CONSTRAINT no_comedy CHECK (genre <> 'Comedy') NOT VALID"
            )
        )
    job = await compute("genre-stats", today)
    assert job.state == "failed"
    assert 'violates check constraint "no_comedy"' in job.error
    assert [(await api.get(path)).json() for path in paths[:2]] == before[:2]
    told = [e for e in await outbox_events(database) if e.type == "artifact.computed.v1"]
    assert len(told) == 3

    # What comes before the one that fails is new, what comes behind it is as it was.
    job = await compute("all", today)
    assert (job.state, job.done) == ("failed", 1)
    after = [(await api.get(path)).json() for path in paths]
    assert after[:2] == before[:2]
    assert after[3]["as_of"] > before[3]["as_of"]
    assert (before[3]["total"], after[3]["total"]) == (3, 4)

    async with database.transaction() as connection:
        await connection.execute(text("ALTER TABLE genre_stats_daily DROP CONSTRAINT no_comedy"))
    assert (await compute("all", today)).state == "succeeded"
    genres = (await api.get(paths[0])).json()["items"]
    assert [genre["genre"] for genre in genres] == ["Drama", "Comedy", "War"]


@pytest.mark.usefixtures("_three_films")
async def test_readers_see_the_old_one_until_the_new_one_is_whole(
    compute: Any, deliver_all: Deliver, make: Any, api: httpx.AsyncClient
) -> None:
    today = make.now.date()
    assert (await compute("all", today)).state == "succeeded"
    trending, genres, _ = compute.artifacts()
    await deliver_all([make.upserted("tmdb-4", genres=("Comedy",)), make.viewed("tmdb-4")])
    for artifact, path in (
        (genres, "/analytics/top-genres"),
        (trending, f"/trending?as_of={today}"),
    ):
        before = (await api.get(path)).json()
        halting = Halting(artifact)
        running = asyncio.create_task(compute(artifact.name, today, artifacts=[halting]))
        async with asyncio.timeout(30):
            await halting.reached.wait()
            assert (await api.get(path)).json() == before
            halting.go_on.set()
            assert (await running).state == "succeeded"
        after = (await api.get(path)).json()
        assert after["as_of"] > before["as_of"]
        assert after["total"] == before["total"] + 1


@pytest.mark.usefixtures("_three_films")
async def test_a_killed_job_goes_on_behind_its_last_artifact(
    database: Database, compute: Any
) -> None:
    trending, genres, decades = compute.artifacts()
    first, second = Halting(trending, before=True), Halting(genres, before=True)
    first.go_on.set()
    job_id = await compute.ask("all")
    killed = asyncio.create_task(compute.runner([first, second, decades]).run_pending())
    async with asyncio.timeout(30):
        await second.reached.wait()
    killed.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await killed
    job = await compute.job(job_id)
    assert (job.state, job.done, job.total) == ("running", 1, 3)
    computed = await runs(database)
    assert computed.keys() == {"trending"}

    second.go_on.set()
    await compute.runner([first, second, decades]).run_pending()
    again = await compute.job(job_id)
    assert (again.state, again.done, again.attempt) == ("succeeded", 3, 2)
    assert again.checkpoint["day"] == job.checkpoint["day"]
    assert (first.prepared, second.prepared) == (1, 2)
    assert (await runs(database))["trending"] == computed["trending"]


async def test_cancelling(compute: Any, deliver_all: Deliver, make: Any) -> None:
    job_id = await compute.ask("all")
    await deliver_all([make.of(CancelJob(job_id="import-1")), make.of(CancelJob(job_id=job_id))])
    assert (await compute.job(job_id)).state == "cancelled"
    await compute.runner().run_pending()
    assert (await compute.job(job_id)).done == 0


async def test_cancelling_in_the_middle_of_an_artifact(
    database: Database, compute: Any, deliver_all: Deliver, make: Any
) -> None:
    """What is slow is given up, not waited for."""
    [_, genres, _] = compute.artifacts()
    halting = Halting(genres, before=True)
    job_id = await compute.ask(genres.name)
    running = asyncio.create_task(compute.runner([halting]).run_pending())
    async with asyncio.timeout(30):
        await halting.reached.wait()
        await deliver_all([make.of(CancelJob(job_id=job_id))])
        await running
    job = await compute.job(job_id)
    assert (job.state, job.done) == ("cancelled", 0)
    assert halting.given_up
    assert await runs(database) == {}


async def test_jobs_can_be_asked_for(compute: Any, api: httpx.AsyncClient) -> None:
    job = await compute("ratings-by-decade")
    listed = (await api.get("/jobs", params={"kind": "compute"})).json()
    assert [item["job_id"] for item in listed["items"]] == [job.job_id]
    answer = (await api.get(f"/jobs/{job.job_id}")).json()
    assert (answer["state"], answer["done"], answer["total"]) == ("succeeded", 1, 1)
    assert answer["request"] == {"artifact": "ratings-by-decade"}
    assert (await api.get("/jobs", params={"kind": "import"})).status_code == 422
    assert (await api.get("/jobs/compute-nothing")).status_code == 404
