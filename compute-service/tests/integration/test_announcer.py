"""`trend.updated.v1`: one entry for a film and interval, nothing lost, revisions that only grow."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from compute_service import repository
from compute_service.announcer import TrendAnnouncer
from compute_service.bootstrap import NAME
from compute_service.handlers import TrendHandlers
from compute_service.trend import TrendFormula, Window
from moviemetric_contracts import Event, TrendUpdated
from service_kit import Database, Outcome, unit_of_work
from service_kit.testing import outbox_events
from sqlalchemy import text

Deliver = Callable[[Sequence[Event[Any]]], Awaitable[list[Outcome]]]
Sweep = Callable[[], Awaitable[list[TrendUpdated]]]


async def test_many_views_of_a_film_are_one_entry(
    deliver_all: Deliver, sweep: Sweep, formula: TrendFormula, make: Any
) -> None:
    await deliver_all([make.upserted("tmdb-1"), make.upserted("tmdb-2")])
    await deliver_all([make.viewed("tmdb-1") for _ in range(700)])
    [update] = await sweep()
    assert [(entry.movie_id, entry.views) for entry in update.entries] == [
        ("tmdb-1", 700),
        ("tmdb-2", 0),
    ]
    watched, still = update.entries
    assert watched.breakdown.activity == pytest.approx(701, rel=1e-3)  # 700 views, a prior of 1
    assert watched.breakdown.quality == pytest.approx(410 / 60)
    assert watched.score == pytest.approx(
        formula.score(Window.DAY, watched.rank_key, update.as_of), rel=1e-12
    )
    assert watched.rank_key > still.rank_key
    assert await sweep() == []

    await deliver_all([make.viewed("tmdb-2")])
    [later] = await sweep()
    assert [(entry.movie_id, entry.views) for entry in later.entries] == [("tmdb-2", 1)]
    assert later.revision > update.revision


async def test_films_outside_the_catalogue_are_not_announced(
    deliver_all: Deliver, sweep: Sweep, make: Any
) -> None:
    await deliver_all([make.viewed("tmdb-1"), make.upserted("tmdb-2", 1)])
    await deliver_all([make.removed("tmdb-2", 2)])
    assert await sweep() == []
    await deliver_all([make.upserted("tmdb-1")])
    [update] = await sweep()
    assert [(entry.movie_id, entry.views) for entry in update.entries] == [("tmdb-1", 1)]


async def test_more_films_than_a_page_are_announced_in_one_sweep(
    deliver_all: Deliver, sweep: Sweep, make: Any
) -> None:
    await deliver_all([make.upserted(f"tmdb-{n}") for n in range(1, 36)])
    updates = await sweep()
    assert [len(update.entries) for update in updates] == [10, 10, 10, 5]
    assert sorted(entry.movie_id for update in updates for entry in update.entries) == sorted(
        f"tmdb-{n}" for n in range(1, 36)
    )
    revisions = [update.revision for update in updates]
    assert revisions == sorted(set(revisions))


async def test_replicas_that_sweep_while_views_arrive_end_with_the_exact_state(
    database: Database, deliver_all: Deliver, formula: TrendFormula, make: Any
) -> None:
    await deliver_all([make.upserted(f"tmdb-{n}") for n in range(1, 21)])
    stop = asyncio.Event()

    async def replica() -> None:
        announcer = TrendAnnouncer(database, formula, source=NAME, page=7)
        while not stop.is_set():
            await announcer.sweep()
            await asyncio.sleep(0)

    async def view() -> None:
        for _ in range(30):
            await deliver_all([make.viewed(f"tmdb-{n}") for n in range(1, 21) for _ in range(3)])
        stop.set()

    await asyncio.gather(replica(), replica(), view())
    await TrendAnnouncer(database, formula, source=NAME).sweep()
    updates = [event.data for event in await outbox_events(database)]
    revisions = [update.revision for update in updates]
    assert revisions == sorted(set(revisions))
    last = {entry.movie_id: entry for update in updates for entry in update.entries}
    async with database.reading() as connection:
        found = await connection.execute(text("SELECT movie_id, views, rank_key_day FROM trends"))
        state = {row.movie_id: (row.views, row.rank_key_day) for row in found}
    assert {key: (entry.views, entry.rank_key) for key, entry in last.items()} == state
    assert {views for views, _ in state.values()} == {90}
    # coalesced: far fewer entries than the 1800 views
    assert sum(len(update.entries) for update in updates) < 1000


async def test_a_view_that_is_being_counted_during_the_sweep_is_not_lost(
    database: Database, deliver_all: Deliver, sweep: Sweep, formula: TrendFormula, make: Any
) -> None:
    await deliver_all([make.upserted("tmdb-1"), make.viewed("tmdb-1")])
    async with unit_of_work(database, source=NAME) as work:
        await TrendHandlers(formula).count_views([make.viewed("tmdb-1")], work)
        sweeping = asyncio.ensure_future(sweep())
        async with asyncio.timeout(30):
            await somebody_waits_for_a_lock(database)
    [update] = await sweeping
    assert [entry.views for entry in update.entries] == [2]
    assert await sweep() == []


async def somebody_waits_for_a_lock(database: Database) -> None:
    statement = text(
        "SELECT 1 FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    while True:
        async with database.reading() as connection:
            if (await connection.execute(statement)).first() is not None:
                return
        await asyncio.sleep(0.01)


async def test_while_one_replica_announces_the_others_leave_it_to_that_one(
    database: Database, deliver_all: Deliver, sweep: Sweep, make: Any
) -> None:
    await deliver_all([make.upserted("tmdb-1")])
    async with database.transaction() as connection:
        assert await repository.try_to_be_the_announcer(connection)
        assert await sweep() == []
    assert len(await sweep()) == 1
