"""A film under several keys: what is counted under any of them is the film's, in any order."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from compute_service import repository
from compute_service.handlers import TrendHandlers
from compute_service.rebuild import rebuild
from compute_service.subscriptions import subscriptions
from compute_service.trend import TrendFormula
from moviemetric_contracts import Event, TrendUpdated
from service_kit import Ack, Database, Outcome, unit_of_work
from service_kit.testing import deliver
from sqlalchemy import text

Deliver = Callable[[Sequence[Event[Any]]], Awaitable[list[Outcome]]]
Sweep = Callable[[], Awaitable[list[TrendUpdated]]]
TMDB, IMDB, LENS, TITLE = "tmdb-862", "imdb-tt0114709", "movielens-1", "title-toy-story-1995"


async def films(database: Database) -> dict[str, dict[str, Any]]:
    """Each film's trend with all that was counted under any of its keys; aliases left out."""
    statement = text("""
        SELECT movie_id, views + alias_views AS views,
            ratings_count + alias_ratings_count AS ratings,
            ratings_sum + alias_ratings_sum AS scores, log_quality, log_prior_day,
            rank_key_day, rank_key_week
        FROM trends WHERE film IS NULL
    """)
    async with database.reading() as connection:
        rows = [dict(row) for row in (await connection.execute(statement)).mappings()]
    return {row.pop("movie_id"): row for row in rows}


async def stored(database: Database) -> list[list[tuple[Any, ...]]]:
    """Everything, but for what is still to be announced."""
    statements = (
        """SELECT movie_id, film, views, ratings_count, ratings_sum, ratings_revision, alias_views,
            alias_ratings_count, alias_ratings_sum, log_activity_day, log_activity_week,
            alias_log_activity_day, alias_log_activity_week, log_prior_day, log_prior_week,
            log_quality, rank_key_day, rank_key_week FROM trends ORDER BY movie_id""",
        "SELECT * FROM aliases ORDER BY alias, movie_id",
        "SELECT * FROM movies ORDER BY movie_id",
        "SELECT * FROM activity ORDER BY movie_id, kind, occurred_at",
    )
    async with database.reading() as connection:
        return [
            [tuple(row) for row in await connection.execute(text(statement))]
            for statement in statements
        ]


def nearly(tables: Iterable[Iterable[tuple[Any, ...]]]) -> list[list[tuple[Any, ...]]]:
    """Equal to the same content with sums that differ in the last digits."""
    return [
        [
            tuple(pytest.approx(v, rel=1e-11) if isinstance(v, float) else v for v in row)
            for row in table
        ]
        for table in tables
    ]


async def forget_everything(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(text("TRUNCATE inbox, movies, aliases, trends, activity"))


def history(make: Any) -> list[Event[Any]]:
    """One film, of which four sources know one key each and learn of each other bit by bit."""
    return [
        make.viewed(TITLE, ago=timedelta(hours=5)),
        make.upserted(TITLE, 1),
        make.viewed(IMDB, ago=timedelta(hours=4)),
        make.viewed(IMDB, ago=timedelta(hours=3), user_id="ada"),
        make.upserted(IMDB, 3, aliases=(TITLE,)),
        make.removed(TITLE, 2),
        make.rated(IMDB),
        make.aggregated(IMDB, [8.0], 1),
        make.aggregated(IMDB, [8.0, 3.5], 2),
        make.viewed(LENS, ago=timedelta(hours=2)),
        make.aggregated(LENS, [10.0], 1),
        make.viewed(TMDB, ago=timedelta(hours=1)),
        make.aggregated(TMDB, [6.0, 6.5], 4),
        make.upserted(TMDB, 1, title="Toy Story", aliases=(IMDB,)),
        make.removed(IMDB, 4),
        make.upserted(TMDB, 2, title="Toy Story", popularity=80.0, aliases=(IMDB, LENS)),
        make.viewed("tmdb-1", ago=timedelta(hours=1)),
        make.upserted("tmdb-1", 1),
    ]


def under_one_key(make: Any) -> list[Event[Any]]:
    """The same if everybody had known the film's own key from the beginning."""
    return [
        *(make.viewed(TMDB, ago=timedelta(hours=hours)) for hours in range(1, 6)),
        make.rated(TMDB),
        make.aggregated(TMDB, [8.0, 3.5, 10.0, 6.0, 6.5], 1),
        make.upserted(TMDB, 2, title="Toy Story", popularity=80.0),
        make.viewed("tmdb-1", ago=timedelta(hours=1)),
        make.upserted("tmdb-1", 1),
    ]


@pytest.mark.parametrize("seed", range(4))
async def test_any_order_gives_what_one_key_would_have_given(
    database: Database, formula: TrendFormula, deliver_all: Deliver, make: Any, seed: int
) -> None:
    await deliver_all(under_one_key(make))
    expected = await films(database)
    assert expected[TMDB]["views"] == 5
    await forget_everything(database)
    await deliver_all(history(make))
    content = await stored(database)

    chance = random.Random(seed)
    for _ in range(25):
        await forget_everything(database)
        events = history(make)
        events += chance.choices(events, k=6) + chance.sample(history(make)[-6:-2], 2)
        # the last ones came again with other ids; only what is compared by revision may
        events = [
            event for n, event in enumerate(events) if n < 24 or hasattr(event.data, "revision")
        ]
        chance.shuffle(events)
        while events:
            size = chance.choice((1, 1, 2, 5, 20))
            await deliver_all(events[:size])
            events = events[size:]
        found = await films(database)
        assert found == {
            key: {name: pytest.approx(value, rel=1e-11) for name, value in row.items()}
            for key, row in expected.items()
        }
        assert await stored(database) == nearly(content)

    before = await stored(database)
    async with database.transaction() as connection:
        await connection.execute(
            text(
                "UPDATE trends SET views = 0, film = NULL, alias_views = 9, rank_key_day = NULL, "
                "rank_key_week = NULL, alias_log_activity_day = 1, log_activity_day = NULL, "
                "alias_ratings_count = 0, alias_ratings_sum = 0, dirty = false"
            )
        )
        await rebuild(connection, formula)
    assert await stored(database) == nearly(before)


async def test_replicas_at_the_same_time_lose_nothing(
    database: Database, formula: TrendFormula, make: Any
) -> None:
    chance = random.Random(9)
    numbers = range(1, 31)
    keys = {n: (f"tmdb-{n}", f"imdb-tt{n:07}", f"movielens-{n}") for n in numbers}
    views = [
        make.viewed(chance.choice(keys[chance.choice(numbers)]), ago=timedelta(seconds=n))
        for n in range(3000)
    ]
    catalogue = [
        event
        for n, (tmdb, imdb, lens) in keys.items()
        for event in (
            make.upserted(imdb, 1, aliases=(lens,)),
            make.upserted(tmdb, 1),
            make.upserted(tmdb, 2, aliases=(imdb,)),
            make.removed(imdb, 2),
            make.upserted(tmdb, 3, aliases=(lens, imdb) if n % 2 else (imdb,)),
        )
    ]
    ratings = [
        event
        for tmdb, imdb, lens in keys.values()
        for event in (
            make.aggregated(lens, [5.0], 1),
            make.aggregated(imdb, [7.0, 7.5], 1),
            make.aggregated(tmdb, [9.0], 1),
            make.aggregated(tmdb, [9.0, 9.0, 9.0], 2),
        )
    ]
    for events in (catalogue, ratings):
        chance.shuffle(events)
    by_views, by_catalogue, by_ratings, *_ = subscriptions(TrendHandlers(formula))

    async def replica(subscription: Any, events: list[Event[Any]], size: int) -> None:
        for start in range(0, len(events), size):
            batch = events[start : start + size]
            assert await deliver(subscription, database, batch) == [Ack()] * len(batch)

    async with asyncio.timeout(60):
        await asyncio.gather(
            replica(by_views, views[:1500], 60),
            replica(by_views, views[1500:], 60),
            replica(by_views, views[1000:2000], 45),  # redelivered to a third one
            replica(by_catalogue, catalogue[::2], 7),
            replica(by_catalogue, catalogue[1::2], 7),
            replica(by_catalogue, catalogue[::-1], 11),
            replica(by_ratings, ratings[::2], 15),
            replica(by_ratings, ratings[1::2], 15),
        )
    film_of = {key: own[0] for own in keys.values() for key in own}
    counted = Counter(film_of[event.data.movie_id] for event in views)
    found = await films(database)
    assert {key: (row["views"], row["ratings"], row["scores"]) for key, row in found.items()} == {
        own[0]: (counted[own[0]], 6, 46.5) for own in keys.values()
    }
    before = await stored(database)
    async with database.transaction() as connection:
        await rebuild(connection, formula)
    assert await stored(database) == nearly(before)


async def test_a_view_that_is_being_counted_while_its_key_is_joined_is_not_stranded(
    database: Database, formula: TrendFormula, deliver_all: Deliver, make: Any
) -> None:
    """In both orders: the view waits for the film, or the film for the view."""
    handlers = TrendHandlers(formula)
    join = make.upserted(TMDB, 1, aliases=(IMDB,))
    async with unit_of_work(database, source="test") as work:
        await handlers.count_views([make.viewed(IMDB)], work)
        joining = asyncio.ensure_future(deliver_all([join]))
        await somebody_waits_for_a_lock(database)
    await joining
    assert (await films(database))[TMDB]["views"] == 1

    await forget_everything(database)
    await deliver_all([make.viewed(IMDB), make.upserted(TMDB, 1)])
    async with unit_of_work(database, source="test") as work:
        await repository.lock_trends(work.connection, [IMDB])
        viewing = asyncio.ensure_future(deliver_all([make.viewed(IMDB), make.rated(IMDB)]))
        await somebody_waits_for_a_lock(database)
        await handlers.follow_catalogue([make.upserted(TMDB, 2, aliases=(IMDB,))], work)
    await viewing
    [film] = (await films(database)).values()
    assert film["views"] == 2
    before = await stored(database)
    async with database.transaction() as connection:
        await rebuild(connection, formula)
    assert await stored(database) == nearly(before)


async def test_claims_that_meet_in_the_middle(
    database: Database, formula: TrendFormula, deliver_all: Deliver, make: Any
) -> None:
    """title → imdb and imdb → tmdb are committed at the same time; neither sees the other first."""
    await deliver_all([make.viewed(TITLE), make.viewed(IMDB), make.viewed(TMDB)])
    handlers = TrendHandlers(formula)
    for first, second in (
        (make.upserted(IMDB, 1, aliases=(TITLE,)), make.upserted(TMDB, 1, aliases=(IMDB,))),
        (make.upserted(TMDB, 2, aliases=(IMDB,)), make.upserted(IMDB, 2, aliases=(TITLE,))),
    ):
        async with unit_of_work(database, source="test") as work:
            await handlers.follow_catalogue([first], work)
            other = asyncio.ensure_future(deliver_all([second]))
            await somebody_waits_for_a_lock(database)
        await other
        found = await films(database)
        assert {key: row["views"] for key, row in found.items()} == {TMDB: 3}
        async with database.transaction() as connection:
            await connection.execute(text("TRUNCATE aliases, movies"))
            await rebuild(connection, formula)


async def test_a_deadlock_is_a_conflict_that_is_repeated(
    database: Database, formula: TrendFormula, deliver_all: Deliver, make: Any
) -> None:
    """The one that waited first gives way, and its batch has its effect once all the same."""
    await deliver_all([make.viewed(IMDB), make.viewed(TMDB)])
    handlers = TrendHandlers(formula)
    async with unit_of_work(database, source="test") as work:
        await handlers.count_views([make.viewed(TMDB)], work)
        joining = asyncio.ensure_future(deliver_all([make.upserted(TMDB, aliases=(IMDB,))]))
        await somebody_waits_for_a_lock(database)
        await handlers.count_views(
            [make.viewed(IMDB)], work
        )  # the other one holds it, and gives way
    await joining
    assert (await films(database))[TMDB]["views"] == 4


async def test_a_mended_link_takes_its_counts_along(
    database: Database, deliver_all: Deliver, make: Any
) -> None:
    await deliver_all([make.viewed(LENS), make.viewed(LENS), make.aggregated(LENS, [4.0], 1)])
    await deliver_all([make.upserted("tmdb-1", 1, aliases=(LENS,)), make.upserted("tmdb-2", 1)])
    assert {key: row["views"] for key, row in (await films(database)).items()} == {
        "tmdb-1": 2,
        "tmdb-2": 0,
    }
    await deliver_all([make.upserted("tmdb-2", 2, aliases=(LENS,))])
    await deliver_all([make.upserted("tmdb-1", 2)])
    await deliver_all([make.upserted("tmdb-1", 1, aliases=(LENS,)), make.viewed(LENS)])
    assert {
        key: (row["views"], row["ratings"]) for key, row in (await films(database)).items()
    } == {
        "tmdb-1": (0, 0),
        "tmdb-2": (3, 1),
    }


async def test_a_link_that_was_mended_before_it_was_heard_of_is_none(
    database: Database, deliver_all: Deliver, make: Any
) -> None:
    await deliver_all([make.upserted("tmdb-1", 2)])
    await deliver_all([make.upserted("tmdb-1", 1, aliases=(LENS,))])
    await deliver_all([make.upserted("tmdb-2", 1, aliases=(IMDB,)), make.upserted("tmdb-2", 2)])
    await deliver_all([make.viewed(LENS), make.viewed(IMDB)])
    assert {key: row["views"] for key, row in (await films(database)).items()} == {
        "tmdb-1": 0,
        "tmdb-2": 0,
        LENS: 1,
        IMDB: 1,
    }


async def test_a_key_that_is_a_film_again_has_its_own_counts(
    database: Database, deliver_all: Deliver, make: Any
) -> None:
    await deliver_all([make.viewed(IMDB), make.viewed(TMDB), make.upserted(IMDB, 1)])
    await deliver_all([make.upserted(TMDB, 1, aliases=(IMDB,))])
    found = await films(database)
    assert found.keys() == {TMDB}
    await deliver_all([make.removed(IMDB, 2), make.removed(TMDB, 2)])
    assert (await films(database))[TMDB]["views"] == 2
    await deliver_all([make.upserted(IMDB, 3)])
    found = await films(database)
    assert {key: row["views"] for key, row in found.items()} == {IMDB: 1, TMDB: 1}
    assert found[IMDB]["rank_key_day"] is not None
    assert found[TMDB]["rank_key_day"] is None


async def test_when_the_ratings_are_merged_at_their_service_they_count_once(
    database: Database, deliver_all: Deliver, make: Any
) -> None:
    """It then says of the other key that it has none, and of the film's own that it has all."""
    await deliver_all([make.upserted(TMDB, 1, aliases=(IMDB,))])
    await deliver_all([make.aggregated(IMDB, [8.0, 9.0], 5), make.aggregated(TMDB, [7.0], 2)])
    assert (await films(database))[TMDB]["ratings"] == 3
    await deliver_all([make.aggregated(IMDB, [], 6), make.aggregated(TMDB, [7.0, 8.0, 9.0], 3)])
    film = (await films(database))[TMDB]
    assert (film["ratings"], film["scores"]) == (3, 24.0)
    # (10·6 + 50·7 + 24) / (10 + 50 + 3)
    assert 2 ** film["log_quality"] == pytest.approx(434 / 63)


async def test_only_the_film_is_announced(deliver_all: Deliver, sweep: Sweep, make: Any) -> None:
    await deliver_all([make.upserted(IMDB, 1), make.viewed(IMDB)])
    await deliver_all([make.upserted(TMDB, 1, aliases=(IMDB,))])
    [update] = await sweep()
    assert [(entry.movie_id, entry.views) for entry in update.entries] == [(TMDB, 1)]
    await deliver_all([make.viewed(IMDB)])
    [update] = await sweep()
    assert [(entry.movie_id, entry.views) for entry in update.entries] == [(TMDB, 2)]
    assert update.entries[0].breakdown.activity == pytest.approx(3, rel=1e-3)  # a prior of 1


async def somebody_waits_for_a_lock(database: Database) -> None:
    statement = text(
        "SELECT 1 FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(30):
        while True:
            async with database.reading() as connection:
                if (await connection.execute(statement)).first() is not None:
                    return
            await asyncio.sleep(0.01)
