"""The read API over real data, through ASGI."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

import httpx
import pytest
from compute_service.api import read_api
from compute_service.trend import VERSION, TrendFormula
from fastapi import FastAPI
from moviemetric_contracts import Event
from service_kit import Database, Outcome, install_problem_handlers

Deliver = Callable[[Sequence[Event[Any]]], Awaitable[list[Outcome]]]


@pytest.fixture
async def client(database: Database, formula: TrendFormula) -> AsyncGenerator[httpx.AsyncClient]:
    """Speaks to the service's routes."""
    app = FastAPI()
    install_problem_handlers(app)
    app.include_router(read_api(database, formula))
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://compute") as client:
        yield client


@pytest.fixture
async def _five_films(deliver_all: Deliver, make: Any) -> None:
    films = [
        make.upserted(f"tmdb-{n}", tmdb_id=n, popularity=10.0 * n, release_date=f"200{n}-05-01")
        for n in range(1, 6)
    ]
    await deliver_all([*films, *(make.viewed("tmdb-1") for _ in range(40)), make.viewed("tmdb-77")])


@pytest.mark.usefixtures("_five_films")
async def test_trending(client: httpx.AsyncClient) -> None:
    answer = await client.get("/trending", params={"limit": 2, "offset": 0, "unknown": "ignored"})
    assert answer.status_code == 200
    page = answer.json()
    assert (page["total"], page["limit"], page["offset"], page["window"]) == (5, 2, 0, "day")
    assert page["as_of"].endswith("Z")
    first, second = page["items"]
    assert first.keys() == {
        "movie_id", "tmdb_id", "imdb_id", "title", "original_title", "original_language",
        "release_date", "genres", "vote_average", "vote_count", "popularity", "poster_path",
        "rank", "views", "ratings", "final_trend_score",
    }  # fmt: skip
    assert (first["rank"], first["movie_id"], first["views"]) == (1, "tmdb-1", 40)
    assert (first["release_date"], first["genres"]) == ("2001-05-01", ["Drama"])
    # x = sqrt(40.5 · 410/60), y = sqrt(2.5 · 410/60); 100·x/(x + 10)
    assert first["final_trend_score"] == pytest.approx(62.454, abs=0.05)
    assert (second["rank"], second["movie_id"]) == (2, "tmdb-5")
    assert second["final_trend_score"] == pytest.approx(29.245, abs=0.05)

    rest = (await client.get("/trending", params={"window": "week", "offset": 2})).json()
    assert [(film["rank"], film["movie_id"]) for film in rest["items"]] == [
        (3, "tmdb-4"),
        (4, "tmdb-3"),
        (5, "tmdb-2"),
    ]
    of_2003 = (await client.get("/trending", params={"year": 2003})).json()
    assert (of_2003["total"], of_2003["items"][0]["rank"]) == (1, 1)
    none = (await client.get("/trending", params={"genre": "Western"})).json()
    assert (none["total"], none["items"]) == (0, [])


async def test_trending_the_other_way_round_and_by_votes(
    client: httpx.AsyncClient, deliver_all: Deliver, make: Any
) -> None:
    await deliver_all(
        [make.upserted(f"tmdb-{n}", vote_count=n, popularity=9.0) for n in range(7)[1:]]
        + [make.upserted("tmdb-7", vote_count=0, popularity=4.0), make.viewed("tmdb-8")]
    )
    best_first = (await client.get("/trending")).json()["items"]
    assert best_first[-1]["movie_id"] == "tmdb-7"
    pages = [
        (
            await client.get("/trending", params={"order": "asc", "limit": 4, "offset": offset})
        ).json()
        for offset in (0, 4)
    ]
    worst_first = [film for page in pages for film in page["items"]]
    assert [(film["rank"], film["movie_id"]) for film in worst_first] == [
        (film["rank"], film["movie_id"]) for film in best_first[::-1]
    ]
    assert [page["total"] for page in pages] == [7, 7]
    voted = (await client.get("/trending", params={"min_votes": 5})).json()
    assert (voted["total"], {film["movie_id"] for film in voted["items"]}) == (
        2,
        {"tmdb-5", "tmdb-6"},
    )
    assert (await client.get("/trending", params={"min_votes": 0})).json()["total"] == 7


@pytest.mark.usefixtures("_five_films")
async def test_trends_of_several_films(client: httpx.AsyncClient) -> None:
    answer = await client.get("/trends", params={"ids": "tmdb-77,tmdb-9,5,tmdb-5"})
    unregistered, film = answer.json()["items"]
    assert unregistered == {
        "asked": "tmdb-77",
        "movie_id": "tmdb-77",
        "views": 1,
        "ratings": 0,
        "final_trend_score": None,
        "in_catalogue": False,
    }
    assert (film["movie_id"], film["in_catalogue"]) == ("tmdb-5", True)
    assert film["final_trend_score"] == pytest.approx(29.245, abs=0.05)


@pytest.mark.usefixtures("_five_films")
async def test_the_explanation_adds_up(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/trends/tmdb-1", params={"window": "week"})).json()
    assert answer.keys() == {
        "movie_id", "views", "ratings", "final_trend_score", "window", "in_catalogue",
        "components", "formula", "as_of",
    }  # fmt: skip
    activity, quality = answer["components"]["activity"], answer["components"]["quality"]
    parameters = answer["formula"]["parameters"]
    raw = activity["value"] ** activity["exponent"] * quality["value"] ** quality["exponent"]
    expected = 100 * raw / (raw + parameters["reference"])
    assert answer["final_trend_score"] == pytest.approx(expected, rel=1e-9)
    assert activity["from_events"] == pytest.approx(40, rel=1e-3)
    assert (answer["views"], answer["in_catalogue"], answer["window"]) == (40, True, "week")
    assert answer["formula"]["version"] == VERSION

    unregistered = (await client.get("/trends/77")).json()
    assert (unregistered["final_trend_score"], unregistered["in_catalogue"]) == (None, False)
    assert unregistered["views"] == 1


async def test_a_film_answers_to_its_other_keys(
    client: httpx.AsyncClient, deliver_all: Deliver, make: Any
) -> None:
    await deliver_all([make.viewed("imdb-tt0000001"), make.viewed("tmdb-1"), make.viewed("tmdb-2")])
    await deliver_all([make.aggregated("imdb-tt0000001", [9.0, 9.5], 1)])
    await deliver_all([make.upserted("tmdb-1", aliases=("imdb-tt0000001", "movielens-7"))])
    asked = "movielens-7,tmdb-2,tmdb-1,imdb-tt0000001,imdb-tt0000009"
    items = (await client.get("/trends", params={"ids": asked})).json()["items"]
    assert [(item["asked"], item["movie_id"], item["views"]) for item in items] == [
        ("movielens-7", "tmdb-1", 2),
        ("tmdb-2", "tmdb-2", 1),
        ("tmdb-1", "tmdb-1", 2),
        ("imdb-tt0000001", "tmdb-1", 2),
    ]
    own, other = [
        (await client.get(f"/trends/{key}")).json() for key in ("tmdb-1", "imdb-tt0000001")
    ]
    assert own.pop("as_of") <= other.pop("as_of")
    assert (other["movie_id"], other["views"], other["ratings"]) == ("tmdb-1", 2, 2)
    assert other["in_catalogue"]
    activity, quality = other["components"]["activity"], other["components"]["quality"]
    assert activity["from_events"] == pytest.approx(2, rel=1e-3)
    assert quality["value"] == pytest.approx(428.5 / 62)
    assert own["components"]["quality"] == quality
    [film] = (await client.get("/trending")).json()["items"]
    assert (film["movie_id"], film["views"], film["ratings"]) == ("tmdb-1", 2, 2)
    assert film["final_trend_score"] == pytest.approx(other["final_trend_score"], rel=1e-4)


async def test_what_nothing_is_known_of_is_not_found(
    client: httpx.AsyncClient, deliver_all: Deliver, make: Any
) -> None:
    await deliver_all([make.removed("tmdb-3", 1)])
    for movie_id in ("tmdb-3", "tmdb-4"):
        answer = await client.get(f"/trends/{movie_id}")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert movie_id in answer.json()["detail"]
    assert (await client.get("/trends?ids=tmdb-3,tmdb-4")).json()["items"] == []


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/trending?limit=0", "limit"),
        ("/trending?limit=101", "limit"),
        ("/trending?order=up", "order"),
        ("/trending?min_votes=-1", "min_votes"),
        ("/trending?min_votes=9007199254740992", "min_votes"),
        ("/trending?offset=-1", "offset"),
        ("/trending?offset=100001", "offset"),
        ("/trending?window=month", "window"),
        ("/trending?year=12345", "year"),
        ("/trending?genre=%00", "genre"),
        ("/trending?language=" + "x" * 21, "language"),
        ("/trends", "ids"),
        ("/trends?ids=", "ids"),
        ("/trends?ids=tmdb-1,nonsense", "ids"),
        ("/trends?ids=" + ",".join(["1"] * 501), "ids"),
        ("/trends/nonsense", "movie_id"),
        ("/trends/tmdb-1?window=year", "window"),
    ],
)
async def test_bad_input_names_the_field(client: httpx.AsyncClient, path: str, field: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [problem["field"] for problem in answer.json()["errors"]] == [field]
