"""Recommendations from events to answers: fitted by a real process, on a real PostgreSQL.

Whoever saw Alien went on to Blade and Cube; whoever saw Amelie went on to Before and Coeur.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from compute_service.artifacts import Artifact, Day
from compute_service.recommendation import repository
from compute_service.recommendation.api import recommendations_api
from compute_service.recommendation.artifact import Recommendations
from compute_service.recommendation.orders import ModelSettings, Order
from compute_service.trend import TrendFormula
from fastapi import FastAPI
from local_stack.procfs import descendants
from moviemetric_contracts import Event, MovieRated, MovieUnrated, MovieViewed, Rating
from service_kit import Database, JobFailed, Outage, Outcome, install_problem_handlers
from sqlalchemy import text

Deliver = Callable[[Sequence[Event[Any]]], Awaitable[list[Outcome]]]
Get = Callable[..., Awaitable[Any]]
SPACE, LOVE = ("tmdb-1", "tmdb-2", "tmdb-3"), ("tmdb-4", "tmdb-5", "tmdb-6")
FILMS: dict[str, dict[str, Any]] = {
    "tmdb-1": {"title": "Alien", "genres": ("Horror",), "keywords": ("space",), "year": 1979},
    "tmdb-2": {"title": "Blade", "genres": ("Horror",), "keywords": ("android",), "year": 1982},
    "tmdb-3": {"title": "Cube", "genres": ("Horror",), "keywords": ("maths",), "year": 1997},
    "tmdb-4": {"title": "Amelie", "genres": ("Romance",), "keywords": ("paris",), "year": 2001},
    "tmdb-5": {"title": "Before", "genres": ("Romance",), "keywords": ("vienna",), "year": 1995},
    "tmdb-6": {"title": "Coeur", "genres": ("Romance",), "keywords": ("paris",), "year": 1992},
    # of which nobody has seen anything
    "tmdb-7": {"title": "Dusk", "genres": ("Romance",), "keywords": ("paris",), "year": 2003},
    "tmdb-8": {"title": "Empty", "genres": (), "keywords": (), "year": 2003, "vote_count": 5},
}


@pytest.fixture
async def client(database: Database, formula: TrendFormula) -> AsyncGenerator[httpx.AsyncClient]:
    """Speaks to the routes."""
    app = FastAPI()
    install_problem_handlers(app)
    app.include_router(recommendations_api(database, formula, view_weight=0.3))
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://compute") as client:
        yield client


@pytest.fixture
def get(client: httpx.AsyncClient) -> Get:
    """What a route answers."""

    async def ask(path: str, **query: Any) -> Any:
        answer = await client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return ask


@pytest.fixture
def recommendations(postgres_database: str) -> Recommendations:
    """The artifact."""
    return Recommendations(postgres_database, ModelSettings(threads=1))


def film(make: Any, movie_id: str, revision: int = 1, **fields: Any) -> Event[Any]:
    known = {**FILMS[movie_id], **fields}
    year = known.pop("year")
    return make.upserted(movie_id, revision, release_date=f"{year}-06-01", **known)


def rated(make: Any, user_id: str, movie_id: str, score: float, minutes_ago: float) -> Event[Any]:
    rating = Rating(score=score, rated_at=make.now - timedelta(minutes=minutes_ago))
    return make.of(MovieRated(movie_id=movie_id, user_id=user_id, rating=rating))


def viewed(make: Any, user_id: str, movie_id: str, minutes_ago: float) -> Event[Any]:
    at = make.now - timedelta(minutes=minutes_ago)
    return make.of(MovieViewed(movie_id=movie_id, viewed_at=at, user_id=user_id))


def history(make: Any, users: int = 60) -> list[Event[Any]]:
    """Ratings of most of them, views of every fifth."""
    did: list[Event[Any]] = []
    for user in range(users):
        films = (SPACE if user % 2 else LOVE)[user % 3 == 0 :]
        for place, movie_id in enumerate(films):
            minutes = 600 - 60 * place
            did.append(
                viewed(make, f"user-{user}", movie_id, minutes)
                if user % 5 == 0
                else rated(make, f"user-{user}", movie_id, 8, minutes)
            )
    return did


async def compute(artifact: Artifact, database: Database, day: Day | None = None) -> int:
    """As the runner of jobs does it."""
    now = datetime.now(UTC)
    write = await artifact.prepare(day or Day.of(now.date(), now))
    async with database.transaction() as connection:
        return await write(connection)


async def models(database: Database) -> list[tuple[int, bool]]:
    async with database.reading() as connection:
        rows = await connection.execute(
            text("SELECT model_id, serving FROM recommendation_models ORDER BY 1")
        )
        return [(row.model_id, row.serving) for row in rows]


def ids(page: Any) -> list[str]:
    return [item["movie_id"] for item in page["items"]]


async def test_films_for_a_user(
    recommendations: Recommendations, database: Database, deliver_all: Deliver, get: Get, make: Any
) -> None:
    await deliver_all([*(film(make, movie_id) for movie_id in FILMS), *history(make)])
    assert await compute(recommendations, database) == 8

    await deliver_all([rated(make, "ada", "tmdb-1", 9, 5)])
    page = await get("/recommendations", user_id="ada", limit=10)
    assert page["based_on"] == {"ratings": 1, "views": 0, "likes": 0}
    figures = page["model"]
    assert (figures["films"], figures["users"], figures["interactions"]) == (8, 60, 160)
    assert (figures["as_of"], page["total"]) == (make.now.date().isoformat(), 7)
    assert set(ids(page)[:2]) == {"tmdb-2", "tmdb-3"}
    assert sorted(ids(page)) == [f"tmdb-{n}" for n in range(2, 9)]
    first = page["items"][0]
    title = {"tmdb-2": "Blade", "tmdb-3": "Cube"}[first["movie_id"]]
    assert first["reasons"] == [
        {"kind": "because", "movie_id": "tmdb-1", "title": "Alien", "share": 1.0},
        {"kind": "genres", "values": ["Horror"]},
    ]
    assert (first["score"], first["title"], first["original_language"]) == (1, title, "en")
    scores = [item["score"] for item in page["items"]]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) >= 0
    assert first.keys() == {
        "movie_id", "tmdb_id", "imdb_id", "title", "original_title", "original_language",
        "release_date", "genres", "vote_average", "vote_count", "popularity", "poster_path",
        "views", "ratings", "final_trend_score", "score", "reasons",
    }  # fmt: skip
    pages = [await get("/recommendations", user_id="ada", limit=3, offset=n) for n in (0, 3, 6)]
    assert [movie_id for part in pages for movie_id in ids(part)] == ids(page)

    # What was rated or viewed a moment ago counts, and is left out.
    await deliver_all([rated(make, "ada", "tmdb-2", 8, 1)])
    page = await get("/recommendations", user_id="ada")
    assert ids(page)[0] == "tmdb-3"
    assert {"tmdb-1", "tmdb-2"}.isdisjoint(ids(page))
    told = [reason for reason in page["items"][0]["reasons"] if reason["kind"] == "because"]
    assert {reason["movie_id"] for reason in told} == {"tmdb-1", "tmdb-2"}
    assert sum(reason["share"] for reason in told) == pytest.approx(1, abs=0.01)
    await deliver_all([viewed(make, "ada", "tmdb-3", 0)])
    assert "tmdb-3" not in ids(await get("/recommendations", user_id="ada"))
    again = await get("/recommendations", user_id="ada", include_seen=True)
    assert "tmdb-3" in ids(again)
    assert {"tmdb-1", "tmdb-2"}.isdisjoint(ids(again))
    at = make.now - timedelta(seconds=5)
    taken_back = MovieUnrated(
        movie_id="tmdb-2", user_id="ada", previous=Rating(score=8, rated_at=at), unrated_at=at
    )
    await deliver_all([make.of(taken_back)])
    assert "tmdb-2" in ids(await get("/recommendations", user_id="ada"))

    # A film that was disliked is no reason for another one.
    await deliver_all([rated(make, "bob", "tmdb-1", 1.5, 9), rated(make, "bob", "tmdb-4", 9, 5)])
    for item in (await get("/recommendations", user_id="bob"))["items"]:
        because = [told["movie_id"] for told in item["reasons"] if told["kind"] == "because"]
        assert set(because) <= {"tmdb-4"}

    # Picked films, under any key, and what passes the filters.
    page = await get("/recommendations", like="tmdb-99, 4")
    assert set(ids(page)[:2]) == {"tmdb-5", "tmdb-6"}
    assert page["unknown_likes"] == ["tmdb-99"]
    assert page["based_on"] == {"ratings": 0, "views": 0, "likes": 1}
    assert "tmdb-4" not in ids(page)
    both = await get("/recommendations", user_id="bob", like="tmdb-2")
    assert both["based_on"] == {"ratings": 2, "views": 0, "likes": 1}
    assert ids(both)[0] == "tmdb-3"
    assert ids(await get("/recommendations", like="tmdb-1", genre="romance", year=2003)) == [
        "tmdb-7"
    ]
    assert "tmdb-8" not in ids(await get("/recommendations", like="tmdb-1", min_votes=6))
    assert ids(await get("/recommendations", like="tmdb-1", language="fr")) == []
    plain = ids(await get("/recommendations", like="tmdb-4", limit=3))
    diverse = ids(await get("/recommendations", like="tmdb-4", limit=3, diversity=0.9))
    assert set(plain) == {"tmdb-5", "tmdb-6", "tmdb-7"}
    assert diverse[0] == plain[0]
    assert not set(diverse) <= set(plain)

    # Films leave the catalogue and get better keys without a new model.
    await deliver_all(
        [
            make.removed("tmdb-5", 2),
            make.upserted("tmdb-77", aliases=("tmdb-6",), title="Coeur again", genres=("Romance",)),
            make.removed("tmdb-6", 2),
        ]
    )
    page = await get("/recommendations", like="tmdb-4")
    assert {"tmdb-5", "tmdb-6"}.isdisjoint(ids(page))
    assert ids(page).count("tmdb-77") == 1
    await deliver_all([rated(make, "eve", "tmdb-77", 9, 1)])
    assert "tmdb-77" not in ids(await get("/recommendations", user_id="eve"))
    assert (await get("/similar/tmdb-6"))["movie_id"] == "tmdb-77"

    # A film that came after the model counts by what it is about.
    await deliver_all(
        [make.upserted("tmdb-100", title="Fog", genres=("Horror",), keywords=("maths",))]
    )
    page = await get("/recommendations", like="tmdb-100")
    assert ids(page)[0] == "tmdb-3"
    assert page["items"][0]["reasons"] == [
        {"kind": "because", "movie_id": "tmdb-100", "title": "Fog", "share": 1.0},
        {"kind": "genres", "values": ["Horror"]},
        {"kind": "keywords", "values": ["maths"]},
    ]


async def test_similar_films(
    recommendations: Recommendations, database: Database, deliver_all: Deliver, get: Get, make: Any
) -> None:
    await deliver_all([*(film(make, movie_id) for movie_id in FILMS), *history(make)])
    before = await get("/similar/4", limit=2)
    assert (before["basis"], before["model"]) == ("content", None)
    # of the same genre and keyword, by decade
    assert ids(before) == ["tmdb-7", "tmdb-6"]
    assert before["items"][0]["reasons"] == [
        {"kind": "genres", "values": ["Romance"]},
        {"kind": "keywords", "values": ["paris"]},
    ]

    await compute(recommendations, database)
    page = await get("/similar/tmdb-4", limit=3)
    assert (page["basis"], page["movie_id"]) == ("model", "tmdb-4")
    assert set(ids(page)) == {"tmdb-5", "tmdb-6", "tmdb-7"}
    [before_sunrise] = [item for item in page["items"] if item["movie_id"] == "tmdb-5"]
    kinds = {reason["kind"]: reason for reason in before_sunrise["reasons"]}
    assert 0.2 < kinds["audience"]["share"] <= 1
    assert kinds["genres"]["values"] == ["Romance"]
    # Nobody has seen it, so that its content decides, and nothing is said of an audience.
    dusk = await get("/similar/tmdb-7", limit=3)
    assert dusk["basis"] == "model"
    assert set(ids(dusk)[:2]) == {"tmdb-4", "tmdb-6"}
    assert all(reason["kind"] != "audience" for reason in dusk["items"][0]["reasons"])
    # Filters apply to what the model found, and content fills up.
    assert ids(await get("/similar/tmdb-4", genre="Horror", year=1997)) == ["tmdb-3"]
    nothing_in_common = await get("/similar/tmdb-8", limit=50)
    assert len(ids(nothing_in_common)) == 7

    later = make.upserted("tmdb-500", genres=("Romance",), keywords=("vienna",))
    await deliver_all([later])
    outside = await get("/similar/tmdb-500", limit=2)
    assert (outside["basis"], ids(outside)[0]) == ("content", "tmdb-5")
    assert outside["model"]["films"] == 8


async def test_before_anything_is_known(
    recommendations: Recommendations,
    database: Database,
    deliver_all: Deliver,
    get: Get,
    client: httpx.AsyncClient,
    make: Any,
) -> None:
    assert (await client.get("/similar/tmdb-1")).status_code == 404
    empty = await get("/recommendations", user_id="ada", like="tmdb-1")
    assert (empty["items"], empty["model"], empty["unknown_likes"]) == ([], None, ["tmdb-1"])
    assert await compute(recommendations, database) == 0
    assert (await get("/recommendations"))["items"] == []

    # Good by many before good by few, and before many but bad.
    await deliver_all(
        [
            make.upserted("tmdb-1", vote_average=8.5, vote_count=20_000),
            make.upserted("tmdb-2", vote_average=9.9, vote_count=2),
            make.upserted("tmdb-3", vote_average=3.0, vote_count=20_000),
            make.upserted("tmdb-4", vote_average=8.5, vote_count=9_000, genres=("War",)),
        ]
    )
    page = await get("/recommendations", user_id="nobody")
    assert page["based_on"] == {"ratings": 0, "views": 0, "likes": 0}
    assert ids(page)[:2] == ["tmdb-1", "tmdb-4"]
    assert [item["reasons"] for item in page["items"]] == [[]] * 4
    assert ids(await get("/recommendations", genre="war")) == ["tmdb-4"]
    assert ids(await get("/recommendations", like="tmdb-4"))[0] == "tmdb-1"


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("/similar/tt1", {}, "movie_id"),
        ("/similar/1", {"limit": 51}, "limit"),
        ("/similar/1", {"diversity": 1.5}, "diversity"),
        ("/recommendations", {"diversity": "nan"}, "diversity"),
        ("/recommendations", {"like": "tmdb-1,film"}, "like"),
        ("/recommendations", {"like": ","}, "like"),
        ("/recommendations", {"like": ",".join(map(str, range(1, 52)))}, "like"),
        ("/recommendations", {"limit": 101}, "limit"),
        ("/recommendations", {"user_id": ""}, "user_id"),
        ("/recommendations", {"year": 0}, "year"),
    ],
)
async def test_bad_input_is_refused_by_name(
    client: httpx.AsyncClient, path: str, query: dict[str, Any], field: str
) -> None:
    answer = await client.get(path, params=query)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field


async def test_readers_have_one_model_as_a_whole(
    recommendations: Recommendations, database: Database, deliver_all: Deliver, make: Any
) -> None:
    await deliver_all([*(film(make, movie_id) for movie_id in FILMS), *history(make, 20)])
    await compute(recommendations, database)
    [(old, _)] = await models(database)
    left_behind = await recommendations.prepare(Day.of(make.now.date(), datetime.now(UTC)))
    write = await recommendations.prepare(Day.of(make.now.date(), datetime.now(UTC)))
    assert [serving for _, serving in await models(database)] == [True, False, False]

    async def seen_by(connection: Any) -> tuple[int, int]:
        model = await repository.serving_model(connection)
        assert model is not None
        rows = await repository.rows_of(connection, model.model_id, range(8))
        return model.model_id, len(rows)

    async with database.reading() as reader:
        await repository.unchanging(reader)
        assert await seen_by(reader) == (old, 8)
        async with database.transaction() as connection:
            assert await write(connection) == 8
            async with database.reading() as other:
                assert await seen_by(other) == (old, 8)
        assert await seen_by(reader) == (old, 8)
    [(new, serving)] = await models(database)
    assert (new, serving) == (old + 2, True)
    async with database.reading() as reader:
        assert await seen_by(reader) == (new, 8)

    # A run that was overtaken does not bring its older model back.
    async with database.transaction() as connection:
        assert await left_behind(connection) == 8
    assert await models(database) == [(new, True)]


async def test_an_earlier_day_has_what_came_before_its_end(
    recommendations: Recommendations, database: Database, deliver_all: Deliver, get: Get, make: Any
) -> None:
    days = timedelta(days=1).total_seconds() / 60
    await deliver_all(
        [
            *(film(make, movie_id) for movie_id in FILMS),
            rated(make, "ada", "tmdb-1", 8, 3 * days),
            rated(make, "bob", "tmdb-2", 8, 2 * days),
            viewed(make, "eve", "tmdb-3", 1),
        ]
    )
    day = (make.now - timedelta(days=2)).date()
    await compute(recommendations, database, Day.of(day, datetime.now(UTC)))
    figures = (await get("/recommendations"))["model"]
    assert (figures["as_of"], figures["users"], figures["interactions"]) == (day.isoformat(), 2, 2)
    # The present replaces the past, but not the other way round.
    now = datetime.now(UTC)
    for date in (now.date(), day):
        await compute(recommendations, database, Day.of(date, now))
    figures = (await get("/recommendations"))["model"]
    assert (figures["as_of"], figures["users"]) == (now.date().isoformat(), 3)
    assert len(await models(database)) == 1


def children() -> list[int]:
    """The processes that fit for this one."""
    return [
        process.pid for process in descendants(os.getpid()) if "fitting" in _command(process.pid)
    ]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


async def child() -> int:
    """The process, as soon as it is there."""
    for _ in range(2000):
        if found := children():
            return found[0]
        await asyncio.sleep(0.01)
    msg = "no process was started"
    raise AssertionError(msg)


async def test_a_run_that_ends_early_leaves_the_model_as_it_was(
    recommendations: Recommendations,
    postgres_database: str,
    database: Database,
    deliver_all: Deliver,
    make: Any,
) -> None:
    await deliver_all([film(make, movie_id) for movie_id in FILMS])
    await compute(recommendations, database)
    before = await models(database)
    day = Day.of(make.now.date(), datetime.now(UTC))

    killed = asyncio.create_task(recommendations.prepare(day))
    os.kill(await child(), signal.SIGKILL)
    with pytest.raises(JobFailed, match="was ended by SIGKILL"):
        await killed

    cancelled = asyncio.create_task(recommendations.prepare(day))
    await child()
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert children() == []

    # It ends with whoever started it.
    order = Order(as_of=day.date, until=day.until, films=10, dense_films=10, view_weight=0.3)
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "compute_service.recommendation.fitting"],
        input=order.model_dump_json().encode() + b"\n",
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "DATABASE_URL": postgres_database},
    )
    assert (ended.returncode, ended.stdout) == (1, b"")
    assert await models(database) == before


async def test_the_reason_of_a_failure_is_told(postgres_database: str, make: Any) -> None:
    day = Day.of(make.now.date(), datetime.now(UTC))
    unmigrated = Recommendations(postgres_database, ModelSettings(threads=1))
    with pytest.raises(JobFailed, match='relation "user_ratings" does not exist'):
        await unmigrated.prepare(day)
    away = Recommendations("postgresql://nobody@127.0.0.1:1/none", ModelSettings(threads=1))
    with pytest.raises(Outage, match="cannot connect"):
        await away.prepare(day)
