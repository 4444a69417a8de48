"""Schedules on a real PostgreSQL: each command once, whoever leads and whatever breaks."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest
from compute_service.bootstrap import NAME, bootstrap
from compute_service.scheduling import DEFAULTS, Scheduler, schedule_table
from compute_service.settings import Settings
from moviemetric_contracts import RunCompute
from service_kit import Database
from service_kit.testing import outbox_events
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

ALL_OFF = dict.fromkeys(DEFAULTS, "off")
# A Tuesday.
NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
MakeScheduler = Callable[..., Scheduler]


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The clock of all schedulers of a test."""
    return Clock()


@pytest.fixture
async def make_scheduler(
    database: Database, postgres_database: str, clock: Clock
) -> AsyncGenerator[MakeScheduler]:
    """Makes schedulers with connections of their own, all schedules off but those given."""
    databases: list[Database] = []

    def make(**settings: str) -> Scheduler:
        own = Database(postgres_database, schema=database.schema)
        databases.append(own)
        names = {name.replace("_", "-"): setting for name, setting in settings.items()}
        return Scheduler(own, schedule_table({**ALL_OFF, **names}), source=NAME, clock=clock)

    yield make
    for own in databases:
        await own.dispose()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 -- it is the database that is watched
            await asyncio.sleep(0.02)


async def execute(database: Database, statement: str) -> None:
    async with database.transaction() as connection:
        await connection.execute(text(statement))


async def stored(database: Database, name: str = "trending") -> Any:
    async with database.reading() as connection:
        found = await connection.execute(
            text("SELECT * FROM schedules WHERE name = :name"), {"name": name}
        )
        return found.one()


async def commands(database: Database) -> list[tuple[str, date | None]]:
    """The artifacts asked for, with their days."""
    events = await outbox_events(database)
    return [(e.data.artifact, e.data.as_of) for e in events if isinstance(e.data, RunCompute)]


async def test_a_command_goes_out_when_it_is_due(
    database: Database, make_scheduler: MakeScheduler, clock: Clock
) -> None:
    scheduler = make_scheduler(trending="0 3 * * *")
    assert await scheduler.publish_due() == []  # it has just been seen for the first time
    clock.now = datetime(2026, 3, 11, 2, 59, 59, tzinfo=UTC)
    assert await scheduler.publish_due() == []
    clock.now = datetime(2026, 3, 11, 3, 0, 0, 400_000, tzinfo=UTC)
    [published] = await scheduler.publish_due()
    clock.now += timedelta(seconds=1)
    assert await scheduler.publish_due() == []

    due = datetime(2026, 3, 11, 3, 0, tzinfo=UTC)
    assert (published.name, published.due) == ("trending", due)
    [event] = await outbox_events(database)
    assert (event.id, event.time) == (published.event_id, due)
    assert event.data == RunCompute(
        job_id=published.job_id, artifact="trending", as_of=date(2026, 3, 10)
    )
    row = await stored(database)
    assert (row.cron, row.last_due, row.event_id) == ("0 3 * * *", due, event.id)
    assert row.job_id == published.job_id


async def test_what_was_missed_while_nobody_ran_is_made_up_once(
    database: Database, make_scheduler: MakeScheduler, clock: Clock
) -> None:
    await make_scheduler(trending="0 3 * * *").publish_due()
    clock.now += timedelta(days=5)
    restarted = make_scheduler(trending="0 3 * * *")
    assert [found.due.day for found in await restarted.publish_due()] == [15]
    assert await restarted.publish_due() == []
    assert await make_scheduler(trending="0 3 * * *").publish_due() == []
    assert await commands(database) == [("trending", date(2026, 3, 14))]


async def test_two_at_the_same_time_publish_once(
    database: Database, make_scheduler: MakeScheduler, clock: Clock
) -> None:
    leaders = [make_scheduler(trending="0 3 * * *", genre_stats="15 3 * * *") for _ in range(2)]
    await asyncio.gather(*(leader.publish_due() for leader in leaders))
    clock.now += timedelta(days=1)
    # Both have seen what is due, and are about to take it, before either can.
    async with database.transaction() as connection:
        await connection.execute(text("SELECT name FROM schedules FOR UPDATE"))
        ticks = [asyncio.create_task(leader.publish_due()) for leader in leaders]
        await until(lambda: both_wait(database))
    published = [found for tick in ticks for found in await tick]
    assert sorted(found.name for found in published) == ["genre-stats", "trending"]
    assert sorted(await commands(database)) == [
        ("genre-stats", date(2026, 3, 10)),
        ("trending", date(2026, 3, 10)),
    ]


async def both_wait(database: Database) -> bool:
    async with database.reading() as connection:
        found = await connection.execute(
            text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        )
        return found.scalar_one() == 2


async def test_a_command_that_cannot_be_written_is_not_taken_as_published(
    database: Database, make_scheduler: MakeScheduler, clock: Clock
) -> None:
    scheduler = make_scheduler(trending="0 3 * * *")
    await scheduler.publish_due()
    clock.now += timedelta(days=1)
    await execute(database, "ALTER TABLE outbox RENAME TO elsewhere")
    with pytest.raises(ProgrammingError, match="outbox"):
        await scheduler.publish_due()
    assert (await stored(database)).last_due is None
    await execute(database, "ALTER TABLE elsewhere RENAME TO outbox")
    assert len(await scheduler.publish_due()) == 1
    assert await commands(database) == [("trending", date(2026, 3, 10))]


async def test_after_a_restored_backup_the_same_run_is_the_same_event(
    database: Database, make_scheduler: MakeScheduler, clock: Clock
) -> None:
    scheduler = make_scheduler(trending="0 3 * * *")
    await scheduler.publish_due()
    clock.now += timedelta(days=1)
    [once] = await scheduler.publish_due()
    await execute(
        database,
        "UPDATE schedules SET done_until = done_until - interval '1 hour' WHERE name = 'trending'",
    )
    assert await scheduler.publish_due() == [once]
    first, second = await outbox_events(database)
    assert first.to_bytes() == second.to_bytes()


async def test_expressions_change_and_are_switched_off(
    database: Database, make_scheduler: MakeScheduler, clock: Clock
) -> None:
    await make_scheduler(trending="0 3 * * *").publish_due()
    clock.now += timedelta(minutes=1)
    assert await make_scheduler(trending="0 11 * * *").publish_due() == []
    assert (await stored(database)).cron == "0 11 * * *"
    clock.now += timedelta(days=1)
    assert await make_scheduler(trending="off").publish_due() == []
    assert (await stored(database)).cron is None
    clock.now += timedelta(days=1)
    assert await make_scheduler(trending="0 11 * * *").publish_due() == []
    assert await commands(database) == []


async def ask(app: Any, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get(path)


async def test_every_process_tells_of_the_schedules(
    postgres_database: str, make_scheduler: MakeScheduler, database: Database, clock: Clock
) -> None:
    def settings(role: Any) -> Settings:
        return Settings(
            amqp_url="amqp://nowhere/",
            database_url=postgres_database,
            roles=frozenset({role}),
            schedule_genre_stats="off",
        )

    services = [bootstrap(settings(role)) for role in ("scheduler", "api")]

    async def page() -> dict[str, Any]:
        pages = [(await ask(service.app, "/schedules")).json() for service in services]
        assert pages[0]["items"] == pages[1]["items"]
        return pages[0]

    # Nobody has led so far: what will be done when somebody does.
    before = await page()
    assert before["leader"] == {"held": False, "process": None}
    found = {item["name"]: item for item in before["items"]}
    assert list(found) == list(DEFAULTS)
    assert (found["genre-stats"]["cron"], found["genre-stats"]["next_due"]) == (None, None)
    assert found["trending"]["cron"] == "0 3 * * *"
    assert found["ingest"]["command"] == "catalog.ingest.v1"
    assert (found["trending"]["command"], found["trending"]["artifact"]) == (
        "compute.run.v1",
        "trending",
    )

    # What the leader goes by is what counts, not how the answering process is set up.
    leader = make_scheduler(trending="30 4 * * *")
    await leader.publish_due()
    clock.now += timedelta(days=1)
    await leader.publish_due()
    leads = asyncio.create_task(leader.lead())

    async def is_led() -> bool:
        return (await page())["leader"]["held"]

    await until(is_led)
    after = await page()
    leads.cancel()
    await asyncio.gather(leads, return_exceptions=True)
    trending = {item["name"]: item for item in after["items"]}["trending"]
    assert trending["cron"] == "30 4 * * *"
    row = await stored(database)
    assert datetime.fromisoformat(trending["last_due"]) == row.last_due
    assert datetime.fromisoformat(trending["last_published_at"]) == row.published_at
    assert trending["last_job_id"] == row.job_id
    following = datetime.fromisoformat(trending["next_due"])
    assert (following.hour, following.minute, following.second) == (4, 30, 0)
    for service in services:
        await service.close()
