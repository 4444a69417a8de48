from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tmdb_standin import Catalogue, Film, Settings, create_app


async def ids(client: httpx.AsyncClient, path: str, **params: Any) -> list[int]:
    answer = await client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["results"]]


async def every_item(client: httpx.AsyncClient, path: str, **params: Any) -> list[dict[str, Any]]:
    first = (await client.get(path, params=params)).json()
    items: list[dict[str, Any]] = first["results"]
    for page in range(2, first["total_pages"] + 1):
        items += (await client.get(path, params={**params, "page": page})).json()["results"]
    assert len(items) == first["total_results"]
    return items


async def test_details(client: httpx.AsyncClient) -> None:
    body = (await client.get("/3/movie/27205?append_to_response=external_ids,nonsense")).json()
    assert body["title"] == "Inception"
    assert body["imdb_id"] == body["external_ids"]["imdb_id"] == "tt1375666"
    assert body["genres"][0] == {"id": 28, "name": "Action"}
    assert body["production_countries"][0] == {"iso_3166_1": "GB", "name": "United Kingdom"}
    assert body["spoken_languages"][1] == {
        "english_name": "Japanese",
        "iso_639_1": "ja",
        "name": "日本語",
    }
    assert "nonsense" not in body


@pytest.mark.parametrize("key", ["27205", "27205-inception", "tt1375666"])
async def test_a_film_has_three_addresses(client: httpx.AsyncClient, key: str) -> None:
    assert (await client.get(f"/3/movie/{key}")).json()["id"] == 27205


@pytest.mark.parametrize(
    "path",
    [
        "/3/movie/1",
        "/3/movie/0",
        "/3/movie/-5",
        "/3/movie/abc",
        "/3/movie/tt9999999",
        "/3/movie/\u0665\u0665\u0660",
        "/3/movie/" + "9" * 5000,
        "/3/movie/550/nonsense",
        "/3/movie/1/credits",
        "/3/trending/movie/month",
        "/3/nonsense",
    ],
)
async def test_unknown(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.json()["status_code"] == 34


async def test_other_methods(client: httpx.AsyncClient) -> None:
    answer = await client.post("/3/movie/550")
    assert (answer.status_code, answer.json()["status_code"]) == (405, 4)


async def test_external_ids_alone(client: httpx.AsyncClient) -> None:
    assert (await client.get("/3/movie/550/external_ids")).json() == {
        "id": 550,
        "imdb_id": "tt0137523",
        "wikidata_id": None,
        "facebook_id": None,
        "instagram_id": None,
        "twitter_id": None,
    }


async def test_at_most_twenty_parts(client: httpx.AsyncClient) -> None:
    parts = ",".join(["credits"] * 21)
    answer = await client.get("/3/movie/550", params={"append_to_response": parts})
    assert (answer.status_code, answer.json()["status_code"]) == (400, 27)


@pytest.mark.parametrize("page", ["0", "501", "-1", "abc", "1.5", "", "99999999999"])
async def test_bad_pages(client: httpx.AsyncClient, page: str) -> None:
    answer = await client.get("/3/movie/popular", params={"page": page})
    assert (answer.status_code, answer.json()["status_code"]) == (400, 22)


async def test_popular_in_pages(client: httpx.AsyncClient) -> None:
    items = await every_item(client, "/3/movie/popular")
    assert len({item["id"] for item in items}) == 2400
    popularity = [item["popularity"] for item in items]
    assert popularity == sorted(popularity, reverse=True)
    past_the_end = (await client.get("/3/movie/popular?page=500")).json()
    assert past_the_end == {"page": 500, "results": [], "total_pages": 120, "total_results": 2400}


async def test_top_rated(client: httpx.AsyncClient) -> None:
    assert (await ids(client, "/3/movie/top_rated"))[:2] == [278, 238]


async def test_now_playing_and_upcoming_keep_to_their_dates(client: httpx.AsyncClient) -> None:
    for path, first, last in (
        ("/3/movie/now_playing", "2016-06-15", "2016-07-27"),
        ("/3/movie/upcoming", "2016-07-27", "2016-08-17"),
    ):
        assert (await client.get(path)).json()["dates"] == {"minimum": first, "maximum": last}
        items = await every_item(client, path)
        assert items
        assert all(first <= item["release_date"] <= last for item in items)


async def test_catalogue_day(sample: Catalogue) -> None:
    settings = Settings.model_validate({"catalogue_day": "2010-08-01"})
    transport = httpx.ASGITransport(app=create_app(settings, sample))
    async with httpx.AsyncClient(transport=transport, base_url="http://tmdb") as client:
        assert 27205 in await ids(client, "/3/movie/now_playing", api_key="k")


FILTERS: list[tuple[dict[str, Any], Callable[[Film], bool]]] = [
    ({"vote_count.gte": 10000}, lambda film: film.vote_count >= 10000),
    ({"vote_count.lte": 240}, lambda film: film.vote_count <= 240),
    ({"vote_average.gte": 8.0}, lambda film: film.vote_average >= 8.0),
    ({"with_runtime.lte": 75}, lambda film: film.runtime <= 75),
    ({"with_genres": "878,10749"}, lambda film: {878, 10749} <= set(film.genre_ids)),
    ({"with_genres": "99|10770"}, lambda film: bool({99, 10770} & set(film.genre_ids))),
    ({"without_genres": "18,35,53"}, lambda film: not {18, 35, 53} & set(film.genre_ids)),
    ({"primary_release_year": 1999}, lambda film: film.release_date[:4] == "1999"),
    ({"with_original_language": "ja|ko"}, lambda film: film.original_language in ("ja", "ko")),
    ({"primary_release_date.lte": "1950-12-31"}, lambda film: film.release_date <= "1950-12-31"),
    ({"primary_release_date.gte": "2016-06-29"}, lambda film: film.release_date >= "2016-06-29"),
]


@pytest.mark.parametrize(("params", "passes"), FILTERS, ids=[str(params) for params, _ in FILTERS])
async def test_discover_filters(
    client: httpx.AsyncClient,
    sample: Catalogue,
    params: dict[str, Any],
    passes: Callable[[Film], bool],
) -> None:
    expected = {film.id for film in sample.films.values() if passes(film)}
    found = [item["id"] for item in await every_item(client, "/3/discover/movie", **params)]
    assert 0 < len(expected) < 2400
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize(
    ("order", "first"),
    [
        ("popularity.desc", 211672),
        ("vote_count.desc", 27205),
        ("revenue.desc", 19995),
        ("primary_release_date.asc", 19),
        ("primary_release_date.desc", 271969),
    ],
)
async def test_discover_orders(client: httpx.AsyncClient, order: str, first: int) -> None:
    assert (await ids(client, "/3/discover/movie", sort_by=order))[0] == first


@pytest.mark.parametrize(
    "params",
    [
        {"sort_by": "nonsense"},
        {"vote_count.gte": "many"},
        {"with_genres": "Action"},
        {"primary_release_year": "19"},
        {"primary_release_date.gte": "yesterday"},
    ],
)
async def test_discover_refuses_what_it_cannot_read(
    client: httpx.AsyncClient, params: dict[str, str]
) -> None:
    answer = await client.get("/3/discover/movie", params=params)
    assert (answer.status_code, answer.json()["status_code"]) == (422, 5)


async def test_trending_names_the_media_type(client: httpx.AsyncClient) -> None:
    for window in ("day", "week"):
        items = (await client.get(f"/3/trending/movie/{window}")).json()["results"]
        assert len(items) == 20
        assert {item["media_type"] for item in items} == {"movie"}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("inception", [27205]),
        ("INCEP", [27205]),
        ("amelie", [194]),
        ("amélie poulain", [194]),
        ("千と千尋の神隠し", [129]),
        ("", []),
        ("...", []),
        ("no such film at all", []),
    ],
)
async def test_search(client: httpx.AsyncClient, query: str, found: list[int]) -> None:
    assert await ids(client, "/3/search/movie", query=query) == found


async def test_search_by_year(client: httpx.AsyncClient) -> None:
    assert set(await ids(client, "/3/search/movie", query="robocop")) == {5550, 97020}
    assert await ids(client, "/3/search/movie", query="robocop", year=2014) == [97020]


async def test_latest(client: httpx.AsyncClient) -> None:
    assert (await client.get("/3/movie/latest")).json()["id"] == 417859


@pytest.mark.parametrize(
    ("headers", "params", "status"),
    [
        ({}, {}, 401),
        ({}, {"api_key": ""}, 401),
        ({}, {"api_key": "invalid"}, 401),
        ({"Authorization": "Bearer wrong"}, {}, 401),
        ({"Authorization": "Bearer "}, {}, 401),
        ({"Authorization": "Bearer a-token"}, {}, 200),
        ({}, {"api_key": "anything"}, 200),
    ],
)
async def test_keys(
    sample: Catalogue, headers: dict[str, str], params: dict[str, str], status: int
) -> None:
    transport = httpx.ASGITransport(app=create_app(Settings(), sample))
    async with httpx.AsyncClient(transport=transport, base_url="http://tmdb") as client:
        answer = await client.get("/3/movie/550", headers=headers, params=params)
        assert answer.status_code == status


async def test_one_accepted_key(sample: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMDB_STANDIN_API_KEY", "only-this")
    transport = httpx.ASGITransport(app=create_app(Settings(), sample))
    async with httpx.AsyncClient(transport=transport, base_url="http://tmdb") as client:
        statuses = [
            (await client.get("/3/movie/550", params={"api_key": key})).status_code
            for key in ("only-this", "another")
        ]
    assert statuses == [200, 401]


async def test_invalid_keys_are_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMDB_STANDIN_INVALID_KEYS", "revoked,expired")
    settings = Settings()
    assert [settings.accepts_key(key) for key in ("revoked", "expired", "wrong")] == [
        False,
        False,
        True,
    ]


async def test_health_needs_no_key(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "films": 2400})
