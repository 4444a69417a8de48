"""Ratings reach the hits by revision, on both engines; searches are counted, within bounds."""

import asyncio
import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest
from moviemetric_contracts import SearchOpened, SearchPerformed
from search_indexer import signals_repository
from search_indexer.bootstrap import bootstrap
from search_indexer.engine import SearchRequest
from search_indexer.settings import SearchSettings
from search_indexer.signals import QueryCounts
from search_indexer.signals_repository import TopSearch, top_searches
from search_indexer.subscriptions import SUBSCRIPTIONS
from service_kit import Ack, Database
from service_kit.testing import deliver
from sqlalchemy import text

SIGNALS = next(s for s in SUBSCRIPTIONS if s.queue == "search-indexer.signals")
DAY = date(2025, 1, 31)


async def test_ratings_are_shown_with_the_film(world: Any, make: Any) -> None:
    """Also such as came before it; of two the later revision counts; none left is none."""

    async def shown() -> tuple[int, float | None]:
        [hit] = (await world.engine.search(SearchRequest(q="heat"))).hits
        return hit.local_ratings, hit.local_mean

    await world.deliver(make.rated("tmdb-949", 5, 8.0, 9.0))
    assert (await world.engine.search(SearchRequest())).total == 0
    await world.deliver(make.upserted(make.movie(949, "Heat"), 1))
    assert await shown() == (2, 8.5)
    await world.deliver(make.rated("tmdb-949", 4, 1.0))
    assert await shown() == (2, 8.5)
    await world.deliver(make.rated("tmdb-949", 6, 8.0, 9.0, 4.0))
    assert await shown() == (3, 7.0)
    await world.deliver(make.upserted(make.movie(949, "Heat"), 2))
    await world.deliver(make.trend(1, tmdb_949=(40.0, 1.0, 7)))
    assert await shown() == (3, 7.0)
    await world.deliver(make.rated("tmdb-949", 7))
    assert await shown() == (0, None)


async def test_ratings_in_any_order_give_the_same(database: Database, make: Any) -> None:
    """Shuffled, repeated and cut into batches."""
    ratings = next(s for s in SUBSCRIPTIONS if s.queue == "search-indexer.ratings")
    events = [
        make.rated(f"tmdb-{number}", revision, *([float(revision)] * number))
        for number in range(1, 8)
        for revision in range(1, 9)
    ] * 3
    random.Random(4).shuffle(events)
    while events:
        batch, events = events[:11], events[11:]
        outcomes = await deliver(ratings, database, batch)
        assert all(isinstance(outcome, Ack) for outcome in outcomes), outcomes
    async with database.reading() as connection:
        rows = await connection.execute(
            text(
                "SELECT movie_id, ratings_revision, local_ratings, local_mean FROM listing "
                "ORDER BY movie_id"
            )
        )
        found = [tuple(row) for row in rows]
    assert found == [(f"tmdb-{number}", 8, number, 8.0) for number in range(1, 8)]


def _at(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def _searches(make: Any, query: str, *totals: int, day: date = DAY) -> list[Any]:
    return [
        make.event(SearchPerformed(search_id="s-1", query=query, total=total, searched_at=_at(day)))
        for total in totals
    ]


def _opened(make: Any, query: str, *movie_ids: str, day: date = DAY) -> list[Any]:
    return [
        make.event(SearchOpened(movie_id=movie_id, query=query, opened_at=_at(day)))
        for movie_id in movie_ids
    ]


@pytest.fixture
async def counted(database: Database, make: Any) -> None:
    """Two days of searches."""
    yesterday = DAY - timedelta(days=1)
    events = [
        *_searches(make, "heat", 3, 3, 3),
        *_searches(make, "Heat", 3, day=yesterday),
        *_searches(make, "haet", 0, 0),
        *_searches(make, "brazil", 5, 0),
        *_opened(make, "heat", "tmdb-949", "tmdb-949", "tmdb-11"),
        *_opened(make, "HEAT", "tmdb-11", "tmdb-11", day=yesterday),
        *_opened(make, "stalker", "tmdb-1398"),
    ]
    random.Random(1).shuffle(events)
    for start in range(0, len(events), 4):
        batch = events[start : start + 4]
        assert await deliver(SIGNALS, database, batch) == [Ack()] * len(batch)
    # The same events once more count once.
    assert await deliver(SIGNALS, database, events) == [Ack()] * len(events)


@pytest.mark.usefixtures("counted")
async def test_what_was_searched_for_most(database: Database) -> None:
    """By count, over the days that are asked for, with what was opened."""
    async with database.reading() as connection:
        week, total = await top_searches(
            connection,
            date_from=DAY - timedelta(days=6),
            date_to=DAY,
            no_results=False,
            limit=3,
            offset=0,
        )
        rest, _ = await top_searches(
            connection, date_from=DAY, date_to=DAY, no_results=False, limit=3, offset=2
        )
        in_vain, vain = await top_searches(
            connection, date_from=DAY, date_to=DAY, no_results=True, limit=10, offset=0
        )
    assert total == 4
    assert week == [
        TopSearch(
            query="heat",
            searches=4,
            no_result_searches=0,
            opened=5,
            top_opened=["tmdb-11", "tmdb-949"],
        ),
        TopSearch(query="brazil", searches=2, no_result_searches=1, opened=0, top_opened=[]),
        TopSearch(query="haet", searches=2, no_result_searches=2, opened=0, top_opened=[]),
    ]
    assert [item.query for item in rest] == ["haet", "stalker"]
    assert ([item.query for item in in_vain], vain) == (["haet", "brazil"], 2)


@pytest.mark.usefixtures("counted")
async def test_old_and_rare_searches_are_forgotten(database: Database) -> None:
    """So the tables stay small, whatever is typed; what is opened goes with its query."""
    async with database.transaction() as connection:
        await signals_repository.forget(connection, before=DAY, most_queries=2, most_films=1)
    async with database.reading() as connection:
        searches = await connection.execute(text("SELECT day, query FROM searches ORDER BY query"))
        films = await connection.execute(text("SELECT query, movie_id FROM opened_films"))
        assert [tuple(row) for row in searches] == [(DAY, "brazil"), (DAY, "heat")]
        assert [tuple(row) for row in films] == [("heat", "tmdb-949")]


async def test_batches_at_the_same_time_do_not_deadlock(database: Database) -> None:
    """All count the same queries, in other orders."""

    async def add(seed: int) -> None:
        queries = [f"query {number}" for number in range(60)]
        random.Random(seed).shuffle(queries)
        counts = {
            (DAY, query): QueryCounts(searches=1, opened=1, films={"tmdb-1": 1})
            for query in queries
        }
        async with database.transaction() as connection:
            await signals_repository.add(connection, counts)

    async with asyncio.timeout(60):
        await asyncio.gather(*(add(seed) for seed in range(8)))
    async with database.reading() as connection:
        sums = await connection.execute(text("SELECT DISTINCT searches, opened FROM searches"))
        assert [tuple(row) for row in sums] == [(8, 8)]


async def test_operators_are_told_over_http(
    database_url: str, database: Database, make: Any
) -> None:
    """Drift, top searches and jobs, in the shapes that the gateway passes on."""
    service = bootstrap(
        SearchSettings(database_url=database_url, amqp_url="amqp://guest@127.0.0.1:9/")
    )
    await deliver(SUBSCRIPTIONS[0], database, [make.upserted(make.movie(1, "Heat"))])
    today = datetime.now(UTC).date()
    await deliver(SIGNALS, database, _searches(make, "heat", 3, day=today))
    transport = httpx.ASGITransport(app=service.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://search") as client:
        drift = await client.get("/drift")
        top = await client.get("/top-searches?days=1&limit=5")
        refused = await client.get("/top-searches?days=1&date_to=2025-01-31")
        jobs = await client.get("/jobs?kind=search")
        other_kind = await client.get("/jobs?kind=import")
    await service.close()
    nothing: dict[str, Any] = {"count": 0, "sample": []}
    assert drift.json()["indexes"] == {
        "postgres": {
            "checked": 1,
            "drift": 0,
            "missing": nothing,
            "surplus": nothing,
            "outdated": nothing,
            "miscounted_groups": 0,
        }
    }
    assert drift.json()["drift"] == 0
    assert top.json()["items"] == [
        {
            "query": "heat",
            "searches": 1,
            "no_result_searches": 0,
            "opened": 0,
            "top_opened": [],
        }
    ]
    assert (top.json()["date_from"], top.json()["date_to"]) == (today.isoformat(),) * 2
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "days"
    assert jobs.json()["items"] == []
    assert other_kind.status_code == 422
