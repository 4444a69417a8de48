"""The read API over a real catalogue, as the gateway asks for it."""

from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from ingest_service.api import router
from ingest_service.catalogue import Finding
from ingest_service.ledger import keys_of
from ingest_service.records import Source, SourceRecord
from ingest_service.repository import open_ledger, save
from ingest_service.storing import store_findings
from moviemetric_contracts import CastMember, Movie
from service_kit import Database, install_problem_handlers, unit_of_work

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def film(number: int, title: str, **fields: Any) -> Movie:
    return Movie.model_validate(
        {
            "movie_id": f"tmdb-{number}",
            "tmdb_id": number,
            "title": title,
            "original_language": "en",
            "fetched_at": NOON,
            **fields,
        }
    )


FILMS = [
    film(
        27205,
        "Inception",
        imdb_id="tt1375666",
        original_title="Inception",
        release_date=date(2010, 7, 15),
        genres=("Action", "Science Fiction"),
        vote_average=8.4,
        vote_count=30_000,
        popularity=80.5,
        poster_path="/a.jpg",
        cast=(CastMember(name="Leonardo DiCaprio", character="Cobb"),),
    ),
    film(
        11,
        "Écran",
        original_language="fr",
        release_date=date(2010, 1, 1),
        genres=("Drama",),
        vote_average=8.4,
        vote_count=10,
        popularity=5,
    ),
    film(2, "apollo", release_date=date(1999, 1, 1), popularity=5, genres=("Science Fiction",)),
    film(1, "Zodiac", vote_average=3, vote_count=50, popularity=99, imdb_id="tt1375666"),
    film(3, "Removed", release_date=date(2010, 2, 2), popularity=1000, genres=("Drama",)),
]
ALL = ["tmdb-1", "tmdb-27205", "tmdb-11", "tmdb-2"]  # by popularity, the tie as they came


@pytest.fixture
async def api(database: Database) -> AsyncGenerator[httpx.AsyncClient]:
    later = NOON + timedelta(hours=1)
    gone = [
        Finding(movie_id="tmdb-3", fetched_at=later, removed_reason="TMDB does not know it"),
        Finding(movie_id="tmdb-4", fetched_at=later, removed_reason="TMDB does not know it"),
    ]
    # In their order: of films that claim one IMDb id, the first one gets it.
    found = [[Finding(movie_id=m.movie_id, fetched_at=NOON, movie=m)] for m in FILMS]
    for findings in [*found, gone]:
        async with unit_of_work(database, source="test") as work:
            await store_findings(work, findings)
    app = FastAPI()
    install_problem_handlers(app)
    app.include_router(router(database))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://ingest") as client:
        yield client


async def keys(api: httpx.AsyncClient, **params: Any) -> Sequence[str]:
    answer = await api.get("/movies", params=params)
    assert answer.status_code == 200, answer.text
    page = answer.json()
    listed = [item["movie_id"] for item in page["items"]]
    if "limit" not in params and "offset" not in params:
        assert page["total"] == len(listed)
    return listed


async def test_a_film_in_a_list(api: httpx.AsyncClient) -> None:
    page = (await api.get("/movies", params={"limit": 1, "offset": 1, "unknown": "x"})).json()
    as_of = datetime.fromisoformat(page.pop("as_of"))
    assert abs(datetime.now(UTC) - as_of) < timedelta(minutes=1)
    assert page == {
        "items": [
            {
                "movie_id": "tmdb-27205",
                "tmdb_id": 27205,
                "imdb_id": "tt1375666",
                "title": "Inception",
                "original_title": "Inception",
                "original_language": "en",
                "release_date": "2010-07-15",
                "genres": ["Action", "Science Fiction"],
                "vote_average": 8.4,
                "vote_count": 30000,
                "popularity": 80.5,
                "poster_path": "/a.jpg",
            }
        ],
        "total": 4,
        "limit": 1,
        "offset": 1,
    }


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, ALL),
        ({"order": "asc"}, ["tmdb-11", "tmdb-2", "tmdb-27205", "tmdb-1"]),
        ({"sort": "release_date"}, ["tmdb-27205", "tmdb-11", "tmdb-2", "tmdb-1"]),
        ({"sort": "release_date", "order": "asc"}, ["tmdb-2", "tmdb-11", "tmdb-27205", "tmdb-1"]),
        ({"sort": "vote_average"}, ["tmdb-27205", "tmdb-11", "tmdb-1", "tmdb-2"]),
        ({"sort": "vote_average", "order": "asc"}, ["tmdb-1", "tmdb-11", "tmdb-27205", "tmdb-2"]),
        ({"sort": "title", "order": "asc"}, ["tmdb-2", "tmdb-11", "tmdb-27205", "tmdb-1"]),
        ({"sort": "title"}, ["tmdb-1", "tmdb-27205", "tmdb-11", "tmdb-2"]),
        ({"year": 2010}, ["tmdb-27205", "tmdb-11"]),
        ({"year": 1901}, []),
        ({"language": "FR"}, ["tmdb-11"]),
        ({"genre": "science fiction"}, ["tmdb-27205", "tmdb-2"]),
        ({"genre": "DRAMA"}, ["tmdb-11"]),
        ({"genre": "Western"}, []),
        ({"genre": "a' OR '1'='1"}, []),
        ({"genre": "Dra\x00ma"}, ["tmdb-11"]),
        ({"min_votes": 50}, ["tmdb-1", "tmdb-27205"]),
        ({"year": 2010, "genre": "action", "language": "en", "min_votes": 1}, ["tmdb-27205"]),
        ({"limit": 2, "offset": 1}, ALL[1:3]),
        ({"offset": 100_000}, []),
        ({"ids": "tmdb-2, 27205,tmdb-3,tmdb-99,title-no-such-1999"}, ["tmdb-27205", "tmdb-2"]),
        ({"ids": "imdb-tt1375666"}, ["tmdb-27205"]),
        ({"ids": "imdb-tt1375666,tmdb-27205,27205,tmdb-1"}, ["tmdb-1", "tmdb-27205"]),
        ({"ids": ""}, []),
        ({"ids": "tmdb-1,tmdb-2", "year": 1999}, ["tmdb-2"]),
    ],
)
async def test_lists(api: httpx.AsyncClient, params: dict[str, Any], expected: list[str]) -> None:
    assert await keys(api, **params) == expected


async def test_named_films_all_come_without_a_limit(api: httpx.AsyncClient) -> None:
    page = (await api.get("/movies", params={"ids": ",".join(ALL)})).json()
    assert (len(page["items"]), page["limit"]) == (4, 100)


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"offset": -1}, "offset"),
        ({"offset": 100_001}, "offset"),
        ({"year": "next"}, "year"),
        ({"year": 10_000}, "year"),
        ({"min_votes": -1}, "min_votes"),
        ({"min_votes": 10**12}, "min_votes"),
        ({"sort": "revenue"}, "sort"),
        ({"order": "sideways"}, "order"),
        ({"genre": " "}, "genre"),
        ({"ids": "tmdb-1,what"}, "ids"),
        ({"ids": ",".join(str(number) for number in range(1, 102))}, "ids"),
    ],
)
async def test_bad_parameters_are_named(
    api: httpx.AsyncClient, params: dict[str, Any], field: str
) -> None:
    answer = await api.get("/movies", params=params)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.parametrize("key", ["tmdb-27205", "27205", "imdb-tt1375666"])
async def test_one_film_by_any_of_its_keys(api: httpx.AsyncClient, key: str) -> None:
    # tmdb-1 claims the same IMDb id; the film that was there first has it.
    answer = await api.get(f"/movies/{key}")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    updated_at = datetime.fromisoformat(body.pop("updated_at"))
    assert abs(datetime.now(UTC) - updated_at) < timedelta(minutes=1)
    assert body.pop("revision") == 1
    expected = FILMS[0].model_copy(update={"aliases": ("imdb-tt1375666",)})
    assert Movie.model_validate_json(answer.content, extra="ignore") == expected
    assert body == expected.model_dump(mode="json")


async def test_the_film_whose_imdb_id_is_anothers_key_still_shows_it(
    api: httpx.AsyncClient,
) -> None:
    body = (await api.get("/movies/tmdb-1")).json()
    assert (body["imdb_id"], body["aliases"]) == ("tt1375666", [])


async def _take(database: Database, *records: SourceRecord) -> None:
    async with database.transaction() as connection:
        ledger = await open_ledger(connection, keys_of(records))
        for record in records:
            ledger.apply(record, NOON)
        await save(connection, ledger, NOON)


async def test_films_of_other_sources_and_old_ids(
    api: httpx.AsyncClient, database: Database
) -> None:
    """A film that has no TMDB id, one without any id, one that nobody has named yet."""
    by_title = "title-kagemusha-1980"
    await _take(
        database,
        SourceRecord(Source.IMDB_BASICS, "imdb-tt0000005", ("movielens-5",), {"title": "Five"}),
        SourceRecord(Source.TABLE, by_title, (), {"title": "Kagemusha", "popularity": 0.5}),
        SourceRecord(
            Source.IMDB_RATINGS, "imdb-tt0000006", (), {"vote_average": 9.9, "vote_count": 10}
        ),
    )
    for key in ("imdb-tt0000005", "movielens-5"):
        body = (await api.get(f"/movies/{key}")).json()
        shown = {name: body[name] for name in ("movie_id", "tmdb_id", "imdb_id", "aliases")}
        assert shown == {
            "movie_id": "imdb-tt0000005",
            "tmdb_id": None,
            "imdb_id": "tt0000005",
            "aliases": ["movielens-5"],
        }
    assert (await api.get(f"/movies/{by_title}")).json()["title"] == "Kagemusha"
    unnamed = await api.get("/movies/imdb-tt0000006")
    assert unnamed.status_code == 404
    assert unnamed.json()["detail"] == "imdb-tt0000006 is not in the catalogue"
    assert await keys(api) == [*ALL, by_title, "imdb-tt0000005"]
    assert await keys(api, ids=f"movielens-5,{by_title}") == [by_title, "imdb-tt0000005"]

    # The link to TMDB's id comes later.
    await _take(database, SourceRecord(Source.MOVIELENS_LINKS, "tmdb-2", ("movielens-5",), {}))
    for key in ("tmdb-2", "2", "imdb-tt0000005", "movielens-5"):
        body = (await api.get(f"/movies/{key}")).json()
        assert (body["movie_id"], body["title"]) == ("tmdb-2", "apollo")
        assert (body["imdb_id"], body["revision"]) == ("tt0000005", 2)
    assert await keys(api, ids="imdb-tt0000005,movielens-5") == ["tmdb-2"]
    assert await keys(api) == [*ALL, by_title]


@pytest.mark.parametrize(
    ("key", "status", "detail"),
    [
        ("tmdb-99", 404, "tmdb-99 is not in the catalogue"),
        ("imdb-tt0000001", 404, "imdb-tt0000001 is not in the catalogue"),
        ("tmdb-3", 404, "tmdb-3 was removed from the catalogue: TMDB does not know it"),
        ("tmdb-4", 404, "tmdb-4 was removed from the catalogue: TMDB does not know it"),
        ("what", 422, "'what' is no movie id"),
        ("tmdb-0", 422, "is no movie id"),
    ],
)
async def test_no_film(api: httpx.AsyncClient, key: str, status: int, detail: str) -> None:
    answer = await api.get(f"/movies/{key}")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert detail in answer.json()["detail"]


async def test_a_database_that_is_away_is_503() -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/none", schema="catalog")
    app = FastAPI()
    install_problem_handlers(app)
    app.include_router(router(away))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://ingest"
    ) as client:
        assert (await client.get("/movies")).status_code == 503
    await away.dispose()
