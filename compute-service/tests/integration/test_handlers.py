"""Handlers and SQL on a real PostgreSQL: exact counts, any order, any replica."""

import asyncio
import itertools
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from compute_service import charts
from compute_service.charts import ChartFilter
from compute_service.handlers import TrendHandlers
from compute_service.rebuild import FormulaKeeper, rebuild
from compute_service.subscriptions import subscriptions
from compute_service.trend import TrendFormula, Window
from moviemetric_contracts import Event, MovieUnrated, MovieViewed, Rating, RatingAggregated
from service_kit import Ack, Database, Outcome, Parked
from service_kit.testing import deliver
from sqlalchemy import text

Deliver = Callable[[Sequence[Event[Any]]], Awaitable[list[Outcome]]]
LAST_MOMENT = datetime(9999, 12, 31, tzinfo=UTC)
FIRST_MOMENT = datetime(1, 1, 1, tzinfo=UTC)


async def rows(database: Database, statement: str) -> list[dict[str, Any]]:
    async with database.reading() as connection:
        return [dict(row) for row in (await connection.execute(text(statement))).mappings()]


async def trends(database: Database) -> dict[str, dict[str, Any]]:
    found = await rows(database, "SELECT * FROM trends")
    return {row.pop("movie_id"): row for row in found}


async def content(database: Database) -> list[list[dict[str, Any]]]:
    """All that the service keeps, without what only says what is still to be announced."""
    return [
        await rows(database, "SELECT * FROM movies ORDER BY movie_id"),
        [
            {key: value for key, value in row.items() if key != "dirty"}
            for row in await rows(database, "SELECT * FROM trends ORDER BY movie_id")
        ],
        await rows(
            database,
            "SELECT * FROM activity ORDER BY movie_id, kind, occurred_at, user_id, session_id",
        ),
    ]


def nearly(tables: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    """Equal to the same content with sums that differ in the last digits."""
    return [
        [
            {
                key: pytest.approx(value, rel=1e-12) if isinstance(value, float) else value
                for key, value in row.items()
            }
            for row in table
        ]
        for table in tables
    ]


async def chart(database: Database, window: Window = Window.DAY, **wanted: Any) -> list[str]:
    async with database.reading() as connection:
        page = await charts.read_chart(
            connection, window, ChartFilter(**wanted), limit=100, offset=0
        )
        total = await charts.count_chart(connection, ChartFilter(**wanted))
    assert total == len(page.entries)
    return [entry.movie_id for entry in page.entries]


def zipf_views(make: Any, *, films: int, views: int, seed: int) -> list[Event[Any]]:
    chance = random.Random(seed)
    keys = [f"tmdb-{number}" for number in range(1, films + 1)]
    weights = [1 / rank for rank in range(1, films + 1)]
    return [
        make.viewed(movie_id, ago=timedelta(seconds=chance.uniform(-200, 3 * 86400)))
        for movie_id in chance.choices(keys, weights, k=views)
    ]


async def test_views_of_an_unknown_film_are_kept_until_it_is_registered(
    database: Database, deliver_all: Deliver, make: Any
) -> None:
    await deliver_all([make.viewed("tmdb-1"), make.viewed("tmdb-1", user_id="ada")])
    state = (await trends(database))["tmdb-1"]
    assert (state["views"], state["rank_key_day"], state["dirty"]) == (2, None, False)
    assert await chart(database) == []

    await deliver_all([make.upserted("tmdb-2", popularity=1.0), make.upserted("tmdb-1")])
    assert await chart(database) == ["tmdb-1", "tmdb-2"]
    assert (await trends(database))["tmdb-1"]["views"] == 2


async def test_a_view_is_kept_with_its_own_time_but_at_most_five_minutes_ahead(
    database: Database, deliver_all: Deliver, make: Any
) -> None:
    before = datetime.now(UTC)
    await deliver_all(
        [
            make.of(MovieViewed(movie_id="tmdb-1", viewed_at=LAST_MOMENT, session_id="s")),
            make.of(MovieViewed(movie_id="tmdb-2", viewed_at=FIRST_MOMENT, user_id="u")),
        ]
    )
    future, past = await rows(database, "SELECT * FROM activity ORDER BY movie_id")
    ahead = timedelta(minutes=5)
    assert before + ahead <= future["occurred_at"] <= datetime.now(UTC) + ahead
    assert past["occurred_at"] == FIRST_MOMENT + timedelta(microseconds=1)
    assert (future["user_id"], future["session_id"]) == (None, "s")
    assert (past["user_id"], past["session_id"]) == ("u", None)
    state = await trends(database)
    assert all(math.isfinite(state[key]["log_activity_week"]) for key in state)


async def test_five_times_in_any_order_is_the_same_as_once(
    database: Database, deliver_all: Deliver, make: Any
) -> None:
    events = [
        *zipf_views(make, films=40, views=300, seed=1),
        *(
            make.upserted(f"tmdb-{n}", revision, popularity=n + revision)
            for n in range(1, 31)
            for revision in (1, 2, 3)
        ),
        *(make.removed(f"tmdb-{n}", 4) for n in range(1, 6)),
        *(make.upserted(f"tmdb-{n}", 5, title="Back") for n in range(1, 3)),
        *(make.rated(f"tmdb-{n}") for n in range(1, 20)),
        *(
            make.aggregated(f"tmdb-{n}", [8.0] * revision + [0.5], revision)
            for n in range(1, 20)
            for revision in (1, 2, 3)
        ),
    ]
    await deliver_all(events)
    once = await content(database)
    async with database.transaction() as connection:
        await connection.execute(text("TRUNCATE inbox, movies, trends, activity"))

    repeated = events * 5
    random.Random(7).shuffle(repeated)
    for start in range(0, len(repeated), 137):
        await deliver_all(repeated[start : start + 137])
    assert await content(database) == nearly(once)


async def test_replicas_at_the_same_time_count_exactly_and_never_deadlock(
    database: Database, formula: TrendFormula, make: Any
) -> None:
    views = zipf_views(make, films=100, views=6000, seed=2)
    others = [
        *(make.upserted(f"tmdb-{n}", revision) for n in range(100, 0, -1) for revision in (1, 2)),
        *(make.aggregated(f"tmdb-{n}", [7.0], 1) for n in range(100, 0, -1)),
        *(make.rated(f"tmdb-{n}") for n in range(1, 101)),
    ]
    random.Random(3).shuffle(others)
    by_views, by_catalogue, by_ratings, *_ = subscriptions(TrendHandlers(formula))

    async def replica(subscription: Any, events: list[Event[Any]], size: int) -> None:
        for start in range(0, len(events), size):
            batch = events[start : start + size]
            assert await deliver(subscription, database, batch) == [Ack()] * len(batch)

    catalogue = [event for event in others if isinstance(event.data, by_catalogue.accepts)]
    ratings = [event for event in others if isinstance(event.data, by_ratings.accepts)]
    await asyncio.gather(
        replica(by_views, views[:3000], 250),
        replica(by_views, views[3000:], 250),
        replica(by_views, views[2000:4000], 170),  # redelivered to a third one
        replica(by_catalogue, catalogue, 40),
        replica(by_catalogue, catalogue[::-1], 40),
        replica(by_ratings, ratings, 40),
    )
    [conflicts] = await rows(
        database, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    assert conflicts == {"deadlocks": 0}
    counts = Counter(event.data.movie_id for event in views)
    state = await trends(database)
    assert {key: row["views"] for key, row in state.items()} == {
        f"tmdb-{n}": counts[f"tmdb-{n}"] for n in range(1, 101)
    }
    assert all(row["ratings_count"] == 1 for row in state.values())
    [kept] = await rows(database, "SELECT count(*) FROM activity WHERE kind = 'view'")
    assert kept == {"count": 6000}


async def test_the_newest_version_wins_in_any_order(
    database: Database, deliver_all: Deliver, make: Any
) -> None:
    versions: list[tuple[str, int, dict[str, Any]]] = [
        ("upserted", 1, {"title": "One", "genres": ("Drama", "War")}),
        ("upserted", 2, {"title": "Two"}),
        ("removed", 3, {}),
    ]
    orders = list(itertools.permutations(versions))
    for number, order in enumerate(orders, start=1):
        for kind, revision, fields in order:
            await deliver_all([getattr(make, kind)(f"tmdb-{number}", revision, **fields)])
    stored = await rows(database, "SELECT * FROM movies")
    assert len(stored) == len(orders)
    for row in stored:
        assert (row["removed"], row["revision"], row["title"], row["genres"]) == (True, 3, None, [])
    assert await chart(database) == []

    # ... and within one batch
    batch = [
        getattr(make, kind)("tmdb-99", revision, **fields) for kind, revision, fields in versions
    ]
    await deliver_all([batch[2], batch[0], batch[1]])
    assert await chart(database) == []
    await deliver_all([make.upserted("tmdb-99", 4, title="Back")])
    assert await chart(database) == ["tmdb-99"]


async def test_a_removed_film_comes_back_with_its_views(
    database: Database, deliver_all: Deliver, make: Any
) -> None:
    await deliver_all([make.upserted("tmdb-1", 1), make.viewed("tmdb-1")])
    await deliver_all([make.removed("tmdb-1", 2)])
    await deliver_all([make.viewed("tmdb-1")])
    assert await chart(database) == []
    await deliver_all([make.upserted("tmdb-1", 3)])
    state = (await trends(database))["tmdb-1"]
    assert state["views"] == 2
    assert 2.0 ** (2 * state["rank_key_day"] - state["log_quality"] - state["log_prior_day"]) == (
        pytest.approx(1 + 2 / (0.05 * 20), rel=1e-3)  # 2 views on a prior of 1
    )


async def test_ratings_move_quality_and_activity(
    database: Database, deliver_all: Deliver, make: Any
) -> None:
    await deliver_all([make.upserted("tmdb-1"), make.upserted("tmdb-2")])
    await deliver_all(
        [
            make.aggregated("tmdb-1", [9.0, 9.5], 2),
            make.aggregated("tmdb-1", [9.0], 1),
            make.aggregated("tmdb-2", [], 3),
            make.rated("tmdb-2"),
            make.of(
                MovieUnrated(
                    movie_id="tmdb-2",
                    user_id="ada",
                    previous=Rating(score=3, rated_at=make.now),
                    unrated_at=make.now,
                )
            ),
        ]
    )
    state = await trends(database)
    # (10·6 + 50·7 + 18.5) / (10 + 50 + 2)
    assert 2 ** state["tmdb-1"]["log_quality"] == pytest.approx(428.5 / 62)
    assert (state["tmdb-1"]["ratings_count"], state["tmdb-1"]["ratings_sum"]) == (2, 18.5)
    assert state["tmdb-1"]["log_activity_day"] is None
    assert 2 ** state["tmdb-2"]["log_quality"] == pytest.approx(410 / 60)
    assert state["tmdb-2"]["log_activity_day"] is not None
    assert await chart(database) == ["tmdb-2", "tmdb-1"]


async def test_ratings_that_came_before_the_film_count_when_it_is_registered(
    database: Database, deliver_all: Deliver, make: Any
) -> None:
    await deliver_all([make.aggregated("tmdb-1", [9.0, 9.5], 2)])
    assert (await trends(database))["tmdb-1"]["log_quality"] is None
    await deliver_all([make.upserted("tmdb-1")])
    log_quality = (await trends(database))["tmdb-1"]["log_quality"]
    assert 2**log_quality == pytest.approx(428.5 / 62)


async def test_an_aggregate_that_contradicts_itself_is_parked_alone(
    database: Database, formula: TrendFormula, make: Any
) -> None:
    wrong = RatingAggregated(
        movie_id="tmdb-1", count=5, mean=8.0, histogram=(0,) * 19 + (1,), revision=1
    )
    ratings = subscriptions(TrendHandlers(formula))[2]
    outcomes = await deliver(
        ratings,
        database,
        [make.rated("tmdb-1"), make.of(wrong), make.aggregated("tmdb-2", [5.0], 1)],
    )
    assert outcomes[0] == outcomes[2] == Ack()
    assert outcomes[1] == Parked(
        "rating.aggregated of tmdb-1: count is 5, but the histogram has 1 ratings"
    )


@pytest.mark.parametrize(("window", "hours"), [(Window.DAY, 24), (Window.WEEK, 168)])
async def test_the_chart_equals_one_computed_from_scratch(
    database: Database, deliver_all: Deliver, make: Any, window: Window, hours: int
) -> None:
    chance = random.Random(5)
    films = {
        f"tmdb-{n}": (chance.uniform(3, 9), chance.randint(0, 200), chance.uniform(0.5, 400))
        for n in range(1, 81)
    }
    events = zipf_views(make, films=80, views=1500, seed=6)
    for movie_id, (average, votes, popularity) in films.items():
        events.append(
            make.upserted(
                movie_id,
                vote_average=average,
                vote_count=votes,
                popularity=popularity,
                fetched_at=make.now - timedelta(hours=30),
            )
        )
    chance.shuffle(events)
    await deliver_all(events)

    raw: dict[str, float] = {}
    for movie_id, (average, votes, popularity) in films.items():
        activity = 0.05 * popularity * 2 ** (-30 / hours)
        for event in events:
            if isinstance(event.data, MovieViewed) and event.data.movie_id == movie_id:
                age = (make.now - event.data.viewed_at).total_seconds() / 3600
                activity += 2 ** (-age / hours)
        quality = (60 + min(votes, 50) * average) / (10 + min(votes, 50))
        raw[movie_id] = math.sqrt(activity * quality)
    assert await chart(database, window) == sorted(raw, key=lambda key: -raw[key])


async def test_rebuilt_from_activity_equals_what_was_built_up(
    database: Database, formula: TrendFormula, deliver_all: Deliver, make: Any
) -> None:
    events = [
        *zipf_views(make, films=50, views=2000, seed=8),
        *(make.upserted(f"tmdb-{n}", popularity=n) for n in range(10, 60)),
        *(make.aggregated(f"tmdb-{n}", [8.0, 3.5], 1) for n in range(1, 30)),
        *(make.rated(f"tmdb-{n}") for n in range(20, 40)),
        make.removed("tmdb-15", 2),
    ]
    for start in range(0, len(events), 100):
        await deliver_all(events[start : start + 100])
    built_up = await trends(database)
    async with database.transaction() as connection:
        await connection.execute(
            text(
                "UPDATE trends SET views = 0, log_activity_day = NULL, log_activity_week = 1, "
                "rank_key_day = NULL, rank_key_week = NULL, dirty = false"
            )
        )
    async with database.transaction() as connection:
        assert await rebuild(connection, formula) == len(built_up) == 59
    rebuilt = await trends(database)
    assert rebuilt == {
        key: {name: pytest.approx(value, abs=1e-9) for name, value in row.items()}
        for key, row in built_up.items()
    }


async def test_another_formula_rebuilds_once(
    database: Database, formula: TrendFormula, deliver_all: Deliver, make: Any
) -> None:
    await deliver_all([make.upserted("tmdb-1"), make.viewed("tmdb-1")])
    await FormulaKeeper(database, formula).apply_once()
    before = (await trends(database))["tmdb-1"]
    other = TrendFormula(half_life_day_hours=48, view_weight=8)
    keeper = FormulaKeeper(database, other)
    await keeper.apply_once()
    after = (await trends(database))["tmdb-1"]
    seconds = (make.now - datetime(2020, 1, 1, tzinfo=UTC)).total_seconds()
    assert before["log_activity_day"] == pytest.approx(seconds / 86400)
    assert after["log_activity_day"] == pytest.approx(seconds / 86400 / 2 + 3)

    # a replica that still has the old formula may rebuild once; this one has had its turn
    await FormulaKeeper(database, formula).apply_once()
    await keeper.apply_once()
    assert (await trends(database))["tmdb-1"] == before


async def test_filters(database: Database, deliver_all: Deliver, make: Any) -> None:
    await deliver_all(
        [
            make.upserted(
                "tmdb-1",
                popularity=9,
                genres=("Science Fiction", "Drama"),
                release_date="2010-07-16",
                original_language="en",
            ),
            make.upserted(
                "tmdb-2",
                popularity=8,
                genres=("Drama",),
                release_date="2010-01-01",
                original_language="ja",
            ),
            make.upserted(
                "tmdb-3", popularity=7, genres=(), release_date=None, original_language=None
            ),
            make.upserted("tmdb-4", popularity=0.0),
        ]
    )
    assert await chart(database) == ["tmdb-1", "tmdb-2", "tmdb-3"]
    assert await chart(database, genre="sCIENCE fiction") == ["tmdb-1"]
    assert await chart(database, genre="drama") == ["tmdb-1", "tmdb-2"]
    assert await chart(database, genre="science") == []
    assert await chart(database, year=2010) == ["tmdb-1", "tmdb-2"]
    assert await chart(database, language="JA") == ["tmdb-2"]
    assert await chart(database, year=2010, language="en", genre="Drama") == ["tmdb-1"]
    assert await chart(database, year=1999) == []
