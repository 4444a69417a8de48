"""A user who asked to be forgotten: nothing names them any more, and no score changes by it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from compute_service.api import read_api
from compute_service.handlers import TrendHandlers, forget_users
from compute_service.rebuild import rebuild
from compute_service.subscriptions import subscriptions
from compute_service.trend import TrendFormula
from fastapi import FastAPI
from moviemetric_contracts import (
    Event,
    MovieRated,
    MovieUnrated,
    MovieViewed,
    Rating,
    UserErased,
)
from service_kit import Ack, Database, Outcome, install_problem_handlers, unit_of_work
from service_kit.testing import deliver
from sqlalchemy import text

Deliver = Callable[[Sequence[Event[Any]]], Awaitable[list[Outcome]]]
ADA, BOB = "user-ada", "bob/of a producer"


@pytest.fixture
async def client(database: Database, formula: TrendFormula) -> AsyncGenerator[httpx.AsyncClient]:
    """Speaks to the service's routes."""
    app = FastAPI()
    install_problem_handlers(app)
    app.include_router(read_api(database, formula))
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://compute") as client:
        yield client


async def rows(database: Database, statement: str) -> list[dict[str, Any]]:
    async with database.reading() as connection:
        return [dict(row) for row in (await connection.execute(text(statement))).mappings()]


async def trends(database: Database) -> list[dict[str, Any]]:
    return await rows(database, "SELECT * FROM trends ORDER BY movie_id")


async def named(database: Database) -> list[str | None]:
    found = await rows(database, "SELECT user_id FROM activity ORDER BY user_id")
    return [row["user_id"] for row in found]


def did(make: Any, user_id: str, movie_id: str = "tmdb-1") -> list[Event[Any]]:
    """A view and a rating."""
    at = make.now - timedelta(hours=1)
    rating = Rating(score=9, rated_at=at)
    return [
        make.of(MovieViewed(movie_id=movie_id, viewed_at=at, user_id=user_id, session_id="s1")),
        make.of(MovieRated(movie_id=movie_id, user_id=user_id, rating=rating)),
    ]


async def test_what_they_did_stays_and_nobody_can_tell_that_it_was_they(
    database: Database, deliver_all: Deliver, make: Any
) -> None:
    await deliver_all(
        [make.upserted("tmdb-1"), *did(make, ADA), *did(make, BOB), make.viewed("tmdb-1")]
    )
    before = await trends(database)
    await deliver_all([make.of(UserErased(user_id=ADA)), make.of(UserErased(user_id=ADA))])
    assert await trends(database) == before
    kept = await rows(database, "SELECT user_id, session_id, kind FROM activity")
    assert sorted((str(row["user_id"]), str(row["session_id"]), row["kind"]) for row in kept) == [
        ("None", "None", "rating"),
        ("None", "None", "view"),
        ("None", "None", "view"),
        (BOB, "None", "rating"),
        (BOB, "s1", "view"),
    ]
    [digest] = await rows(database, "SELECT user_digest AS digest FROM erased_users")
    assert ADA.encode() not in digest["digest"]


async def test_what_comes_of_theirs_afterwards_has_no_effect(
    database: Database, deliver_all: Deliver, make: Any
) -> None:
    early = did(make, ADA)
    await deliver_all([make.upserted("tmdb-1"), *early, make.of(UserErased(user_id=ADA))])
    before = await trends(database)
    previous = Rating(score=9, rated_at=make.now)
    taken_back = MovieUnrated(
        movie_id="tmdb-1", user_id=ADA, previous=previous, unrated_at=make.now
    )
    # the same events, and others of theirs, also of a film that nobody else has touched
    await deliver_all([*early, *did(make, ADA), *did(make, ADA, "tmdb-2"), make.of(taken_back)])
    assert await trends(database) == before
    assert await named(database) == [None, None]

    # in a batch together with others'
    await deliver_all([*did(make, ADA), *did(make, BOB)])
    assert await named(database) == [BOB, BOB, None, None]
    [row] = await trends(database)
    assert row["views"] == before[0]["views"] + 1


async def test_rebuilt_equals_what_was_built_up_also_after_an_erasure(
    database: Database, formula: TrendFormula, deliver_all: Deliver, make: Any
) -> None:
    users = [f"user-{n}" for n in range(5)]
    films = [f"tmdb-{n}" for n in range(1, 8)]
    await deliver_all(
        [
            *(make.upserted(film) for film in films[:5]),
            *(event for user in users for film in films for event in did(make, user, film)),
            make.aggregated("tmdb-1", [9.0] * 5, 1),
        ]
    )
    await deliver_all([make.of(UserErased(user_id=user)) for user in users[:3]])
    await deliver_all(
        [event for user in users for film in films for event in did(make, user, film)]
    )
    built_up = await trends(database)
    assert [row["views"] for row in built_up] == [7] * 7  # five, and two once more
    async with database.transaction() as connection:
        await connection.execute(
            text("UPDATE trends SET views = 0, log_activity_day = NULL, log_activity_week = 1")
        )
    async with database.transaction() as connection:
        assert await rebuild(connection, formula) == 7
    assert await trends(database) == [
        {
            name: pytest.approx(value, abs=1e-9) if isinstance(value, float) else value
            for name, value in row.items()
        }
        for row in built_up
    ]


async def test_no_view_slips_in_behind_an_erasure(
    database: Database, formula: TrendFormula, make: Any
) -> None:
    by_views, *_, by_erasures = subscriptions(TrendHandlers(formula))
    begun, erased = asyncio.Event(), asyncio.Event()

    async def viewing(film: str) -> None:
        for batch in range(40):
            views = [make.viewed(film, user_id=ADA) for _ in range(10)]
            assert await deliver(by_views, database, views) == [Ack()] * 10
            if batch > 2:
                begun.set()
            if batch > 10 and not erased.is_set():
                await erased.wait()

    async def erasing() -> None:
        await begun.wait()
        assert await deliver(by_erasures, database, [make.of(UserErased(user_id=ADA))]) == [Ack()]
        erased.set()

    await asyncio.gather(*(viewing(f"tmdb-{n}") for n in range(1, 4)), erasing())
    assert set(await named(database)) == {None}
    [counted] = await rows(database, "SELECT sum(views)::int AS views FROM trends")
    [kept] = await rows(database, "SELECT count(*) AS kept FROM activity")
    assert counted["views"] == kept["kept"]
    assert 0 < kept["kept"] < 1200, "before it some counted, and behind it none"


async def test_an_erasure_waits_for_views_that_are_being_applied(
    database: Database, formula: TrendFormula, make: Any
) -> None:
    handlers = TrendHandlers(formula)

    async def erase() -> None:
        async with unit_of_work(database, source="test") as work:
            await forget_users([make.of(UserErased(user_id=ADA))], work)

    async with unit_of_work(database, source="test") as work:
        await handlers.count_views([make.viewed("tmdb-1", user_id=ADA)], work)
        erasing = asyncio.create_task(erase())
        done, _ = await asyncio.wait([erasing], timeout=0.3)
        assert not done
    await asyncio.wait_for(erasing, 10)
    assert await named(database) == [None]


async def test_everything_of_a_user_page_by_page(
    client: httpx.AsyncClient, deliver_all: Deliver, make: Any
) -> None:
    # Several of the same moment, so that time alone does not tell where a page ends.
    times = [make.now - timedelta(minutes=n // 4) for n in range(23)]
    views = [
        MovieViewed(movie_id=f"tmdb-{n}", viewed_at=at, user_id=BOB, session_id=f"s{n}")
        for n, at in enumerate(times, start=1)
    ]
    early = MovieViewed(
        movie_id="tmdb-99", viewed_at=datetime(1, 1, 1, 0, 0, 0, 5, UTC), user_id=BOB
    )
    await deliver_all([make.of(view) for view in [*views, early]])
    await deliver_all([*did(make, ADA), make.viewed("tmdb-1")])

    url = "/users/bob%2Fof%20a%20producer/activity"
    whole = (await client.get(url)).json()
    assert whole["next"] is None
    assert whole["items"][0] == {
        "movie_id": "tmdb-99",
        "kind": "view",
        "occurred_at": "0001-01-01T00:00:00.000005Z",
        "session_id": None,
    }
    told = [(item["occurred_at"], item["session_id"]) for item in whole["items"]]
    assert [at for at, _ in told] == sorted(at for at, _ in told)
    assert {session for _, session in told} == {None, *(f"s{n}" for n in range(1, 24))}

    items: list[Any] = []
    after: str | None = None
    for _ in range(5):
        page = (
            await client.get(url, params={"limit": 5, **({"after": after} if after else {})})
        ).json()
        items += page["items"]
        after = page["next"]
        if after is None:
            break
    assert items == whole["items"]

    ada = (await client.get(f"/users/{ADA}/activity")).json()["items"]
    assert sorted((item["kind"], item["session_id"]) for item in ada if item["session_id"]) == [
        ("view", "s1")
    ]
    assert len(ada) == 2
    assert (await client.get("/users/nobody/activity")).json() == {"items": [], "next": None}


@pytest.mark.parametrize(
    "query",
    [
        {"after": "x"},
        {"after": "1.1"},
        {"after": "999999999999999999.1.1"},
        {"after": "1.1.99999"},
        {"limit": 0},
        {"limit": 5001},
    ],
)
async def test_what_is_no_page_is_refused(client: httpx.AsyncClient, query: dict[str, str]) -> None:
    answer = await client.get("/users/ada/activity", params=query)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] in query


@pytest.mark.parametrize("user_id", ["%00", "a" * 129])
async def test_what_is_no_user_is_refused(client: httpx.AsyncClient, user_id: str) -> None:
    assert (await client.get(f"/users/{user_id}/activity")).status_code == 422
