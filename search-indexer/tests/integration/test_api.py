"""`GET /search` of the wired service, over PostgreSQL."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from search_indexer.bootstrap import bootstrap
from search_indexer.settings import SearchSettings
from search_indexer.subscriptions import SUBSCRIPTIONS
from service_kit import Database
from service_kit.testing import deliver

FILM = {
    "movie_id",
    "tmdb_id",
    "imdb_id",
    "title",
    "original_title",
    "original_language",
    "release_date",
    "genres",
    "vote_average",
    "vote_count",
    "popularity",
    "poster_path",
    "final_trend_score",
    "views",
    "local_ratings",
    "local_mean",
}

PAGE = {"query", "hits", "total", "limit", "offset", "facets", "engine", "as_of"}


@pytest.fixture
async def api(database_url: str) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of the service's read API."""
    service = bootstrap(
        SearchSettings(database_url=database_url, amqp_url="amqp://guest@127.0.0.1:9/")
    )
    transport = httpx.ASGITransport(app=service.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://search") as client:
        yield client
    await service.close()


async def test_a_search(api: httpx.AsyncClient, database: Database, make: Any) -> None:
    """The shape that the gateway passes on."""
    film = make.movie(
        27205,
        "Inception",
        released="2010-07-15",
        genres=["Action", "Science Fiction"],
        vote_average=8.4,
        vote_count=34000,
    )
    await deliver(SUBSCRIPTIONS[0], database, [make.upserted(film)])
    await deliver(SUBSCRIPTIONS[1], database, [make.trend(1, tmdb_27205=(70.5, 3.0, 12))])
    answer = await api.get(
        "/search",
        params={
            "q": "incepton",
            "genre": ["action", "science fiction"],
            "year": 2010,
            "language": "en",
            "min_rating": 8,
            "min_votes": 1000,
            "unknown": "ignored",
        },
    )
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == PAGE
    assert body["engine"] == "postgres"
    assert (body["query"], body["total"], body["limit"], body["offset"]) == ("incepton", 1, 20, 0)
    assert body["facets"] == {
        "genre": {"Action": 1, "Science Fiction": 1},
        "decade": {"2010": 1},
        "language": {"en": 1},
    }
    (hit,) = body["hits"]
    assert set(hit) == FILM
    assert (hit["title"], hit["release_date"]) == ("Inception", "2010-07-15")
    assert (hit["final_trend_score"], hit["views"]) == (70.5, 12)
    age = datetime.now(UTC) - datetime.fromisoformat(body["as_of"])
    assert 0 <= age.total_seconds() < 60


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"offset": -1}, "offset"),
        ({"offset": 100_001}, "offset"),
        ({"limit": "many"}, "limit"),
        ({"q": "x" * 201}, "q"),
        ({"year": 0}, "year"),
        ({"year": 10**30}, "year"),
        ({"year_from": 0}, "year_from"),
        ({"year_to": 10_000}, "year_to"),
        ({"decade": 1995}, "decade"),
        ({"genre_mode": "some"}, "genre_mode"),
        ({"sort": "title"}, "sort"),
        ({"order": "up"}, "order"),
        ({"highlight": "perhaps"}, "highlight"),
        ({"min_rating": "NaN"}, "min_rating"),
        ({"min_rating": "inf"}, "min_rating"),
        ({"min_rating": 10.1}, "min_rating"),
        ({"min_votes": -1}, "min_votes"),
        ({"min_votes": 10**30}, "min_votes"),
        ({"genre": ["x"] * 21}, "genre"),
    ],
)
async def test_a_wrong_parameter_is_named(
    api: httpx.AsyncClient, parameters: dict[str, Any], field: str
) -> None:
    """As a problem document."""
    answer = await api.get("/search", params=parameters)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["field"] == field


async def test_what_was_found_is_marked_on_demand(
    api: httpx.AsyncClient, database: Database, make: Any
) -> None:
    """Only then do hits have `highlights`."""
    await deliver(SUBSCRIPTIONS[0], database, [make.upserted(make.movie(1, "Fish & <i>Chips</i>"))])
    asked = {"q": "chips", "sort": "date", "order": "asc", "year_to": 2020}
    (plain,) = (await api.get("/search", params={"q": "chips"})).json()["hits"]
    assert "highlights" not in plain
    (hit,) = (await api.get("/search", params={"q": "chips", "highlight": True})).json()["hits"]
    assert hit["highlights"] == {
        "title": "Fish &amp; &lt;i&gt;<mark>Chips</mark>&lt;/i&gt;",
    }
    assert (await api.get("/search", params=asked)).json()["total"] == 0


async def test_suggestions(api: httpx.AsyncClient, database: Database, make: Any) -> None:
    """Films and people, for what is being typed."""
    film = make.movie(27205, "Inception", released="2010-07-15", cast=["Ince Ptolemy", "Ann Ince"])
    await deliver(SUBSCRIPTIONS[0], database, [make.upserted(film)])
    body = (await api.get("/search/suggest", params={"q": "ince"})).json()
    assert datetime.fromisoformat(body.pop("as_of")).tzinfo is not None
    assert body == {
        "query": "ince",
        "films": [{"movie_id": "tmdb-27205", "title": "Inception", "year": 2010}],
        "people": ["Ince Ptolemy", "Ann Ince"],
        "engine": "postgres",
    }
    for parameters, field in (
        ({}, "q"),
        ({"q": "x" * 201}, "q"),
        ({"q": "x", "limit": 21}, "limit"),
    ):
        answer = await api.get("/search/suggest", params=parameters)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == field


@pytest.mark.parametrize(
    "query", ["", "\x00", "a\x00b", "'\"\\%_", "💥", "x" * 200, "\u202e", "a&b|!c:*"]
)
@pytest.mark.parametrize("parameter", ["q", "genre", "language"])
async def test_hostile_text_is_no_error(api: httpx.AsyncClient, parameter: str, query: str) -> None:
    """Whatever it is given for; a language is at most twenty characters."""
    answer = await api.get("/search", params={parameter: query[:20]})
    assert answer.status_code == 200
