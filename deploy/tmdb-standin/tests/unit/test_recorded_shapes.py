"""Holds the stand-in's answers against bodies recorded from the live API: same keys, same types."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
import pytest
from tmdb_standin import Catalogue
from tmdb_standin.shapes import details, list_item

NEWEST = "movie_47964__tmdblib.json"
APPENDABLE = {
    "alternative_titles",
    "changes",
    "credits",
    "external_ids",
    "images",
    "keywords",
    "lists",
    "recommendations",
    "release_dates",
    "reviews",
    "similar",
    "translations",
    "videos",
    "watch/providers",
}

EMPTY_HERE = {
    "movie_47964_similar__tmdblib_2",
    "movie_47964_recommendations__tmdblib_2",
}


@pytest.fixture(scope="module")
def recorded(shared_data: Path) -> Path:
    return shared_data / "tmdb_api"


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def kind(value: object) -> str:
    return "number" if type(value) in (int, float) else type(value).__name__


def kinds_by_key(bodies: list[dict[str, Any]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for body in bodies:
        for key, value in body.items():
            found[key].add(kind(value))
    return found


def recorded_details(recorded: Path) -> list[dict[str, Any]]:
    folders = (recorded / "details", recorded / "details_from_bulk")
    return [read(path) for folder in folders for path in sorted(folder.glob("*.json"))]


def recorded_lists(recorded: Path, *kinds: str) -> list[dict[str, Any]]:
    return [
        read(path) for kind in kinds for path in sorted((recorded / "lists").glob(f"*{kind}*.json"))
    ]


def test_details_of_every_film_have_the_newest_keys_and_recorded_types(
    recorded: Path, sample: Catalogue
) -> None:
    newest = read(recorded / "details" / NEWEST)
    known = kinds_by_key(recorded_details(recorded))
    for film in sample.films.values():
        body = details(film.body)
        assert body.keys() == newest.keys()
        assert {
            key: kind(value) for key, value in body.items() if kind(value) not in known[key]
        } == {}
        for nested in ("genres", "spoken_languages", "production_countries"):
            for item in body[nested]:
                assert item.keys() == newest[nested][0].keys()
                assert all(kind(item[key]) == kind(newest[nested][0][key]) for key in item)


def test_no_recorded_detail_has_a_key_that_the_stand_in_lacks(
    recorded: Path, sample: Catalogue
) -> None:
    ours = details(sample.films[550].body).keys()
    for body in recorded_details(recorded):
        # The collector of the bulk bodies added the certification.
        assert body.keys() - ours - APPENDABLE <= {"certification"}


def test_a_recorded_body_is_answered_as_it_was(recorded: Path) -> None:
    newest = read(recorded / "details" / NEWEST)
    assert details(newest) == newest


def test_list_items_have_the_newest_keys_and_recorded_types(
    recorded: Path, sample: Catalogue
) -> None:
    newest = read(recorded / "lists" / "movie_popular__tmdblib_2.json")["results"][0]
    known = kinds_by_key(
        [
            item
            for body in recorded_lists(recorded, "popular", "discover")
            for item in body["results"]
        ]
    )
    for film in sample.films.values():
        item = list_item(film.body)
        assert item.keys() == newest.keys()
        assert {
            key: kind(value) for key, value in item.items() if kind(value) not in known[key]
        } == {}
        assert all(type(genre) is int for genre in item["genre_ids"])


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/3/movie/popular", "movie_popular__tmdblib_2"),
        ("/3/movie/top_rated", "movie_top_rated__tmdblib_2"),
        ("/3/movie/now_playing", "movie_now_playing__tmdblib_2"),
        ("/3/movie/upcoming", "movie_upcoming__tmdblib_3"),
        ("/3/discover/movie", "discover_movie__tmdblib_2"),
        ("/3/trending/movie/week", "trending_movie_week__tmdblib"),
        ("/3/search/movie?query=the", "search_movie__tmdblib_2"),
        ("/3/movie/550/similar", "movie_47964_similar__tmdblib_2"),
        ("/3/movie/550/recommendations", "movie_47964_recommendations__tmdblib_2"),
    ],
)
async def test_lists(client: httpx.AsyncClient, recorded: Path, path: str, name: str) -> None:
    expected = read(recorded / "lists" / f"{name}.json")
    body = (await client.get(path)).json()
    assert {key: kind(value) for key, value in body.items()} == {
        key: kind(value) for key, value in expected.items()
    }
    if "dates" in expected:
        assert body["dates"].keys() == expected["dates"].keys()
    # Nothing is known here about what is similar.
    assert bool(body["results"]) == (name not in EMPTY_HERE)
    for item in body["results"]:
        assert item.keys() == expected["results"][0].keys()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/3/movie/550/credits", "credits/movie_47964_credits__tmdblib"),
        ("/3/movie/550/keywords", "other/movie_47964_keywords__tmdblib"),
        ("/3/movie/550/release_dates", "other/movie_47964_release_dates__tmdblib"),
        ("/3/movie/550/reviews", "other/movie_47964_reviews__tmdblib"),
        ("/3/movie/550/translations", "other/movie_47964_translations__tmdblib"),
        ("/3/movie/550/changes", "other/movie_1701490_changes__tmdblib"),
        ("/3/movie/changes", "other/movie_changes__tmdblib"),
    ],
)
async def test_parts(client: httpx.AsyncClient, recorded: Path, path: str, name: str) -> None:
    expected = read(recorded / f"{name}.json")
    body = (await client.get(path)).json()
    assert {key: kind(value) for key, value in body.items()} == {
        key: kind(value) for key, value in expected.items()
    }


async def test_change_items_of_changed_and_removed_films(
    client: httpx.AsyncClient, recorded: Path
) -> None:
    items = read(recorded / "other" / "movie_changes__tmdblib_2.json")["results"]
    plan: dict[str, Any] = {"overrides": {"550": {}}, "removed_ids": [603]}
    assert (await client.post("/_control/faults", json=plan)).status_code == 200
    changed, removed = (await client.get("/3/movie/changes")).json()["results"]
    recorded_kinds = [{key: kind(value) for key, value in item.items()} for item in items]
    for ours in (changed, removed):
        assert {key: kind(value) for key, value in ours.items()} in recorded_kinds


async def test_appended_parts(client: httpx.AsyncClient, recorded: Path) -> None:
    full = read(recorded / "details" / "movie_76__py-themoviedb.json")
    names = sorted(APPENDABLE & full.keys())
    assert len(names) == 14
    answer = await client.get("/3/movie/550", params={"append_to_response": ",".join(names)})
    body = answer.json()
    # That recording holds an empty object for translations; the recorded route says more.
    full["translations"] = {"translations": []}
    # The social ids are not known here; TMDB says null then, as other recordings show.
    assert full["external_ids"].keys() == body["external_ids"].keys()
    for name in set(names) - {"external_ids"}:
        assert {key: kind(value) for key, value in body[name].items()} == {
            key: kind(value) for key, value in full[name].items()
        }, name


@pytest.mark.parametrize("name", ["genres/movie_list__tmdblib", "other/configuration__tmdblib"])
async def test_tables(client: httpx.AsyncClient, recorded: Path, name: str) -> None:
    path = {"genres/movie_list__tmdblib": "/3/genre/movie/list"}.get(name, "/3/configuration")
    assert (await client.get(path)).json() == read(recorded / f"{name}.json")


@pytest.mark.parametrize(
    ("path", "key", "plan", "status", "name"),
    [
        ("/3/movie/550", "wrong", {}, 401, "http401_status7__rb-themoviedb_b"),
        ("/3/movie/999999999", "good", {}, 404, "http404_status34__tmdblib"),
        ("/3/movie/popular?page=501", "good", {}, 400, "http400_status22__swift-tmdb"),
        (
            "/3/movie/changes?start_date=2026-01-01&end_date=2026-01-16",
            "good",
            {},
            422,
            "http422_status20__swift-tmdb",
        ),
        ("/3/movie/550", "good", {"next": [{"outcome": 429}]}, 429, "http429_status25__quoted"),
    ],
)
async def test_errors(
    client: httpx.AsyncClient,
    recorded: Path,
    path: str,
    key: str,
    plan: dict[str, Any],
    status: int,
    name: str,
) -> None:
    await client.post("/_control/faults", json=plan)
    answer = await client.get(path, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == status
    # Older recordings lack `success`, which all newer ones have.
    assert answer.json() == {"success": False, **read(recorded / "errors" / f"{name}.json")}


async def test_content_type(client: httpx.AsyncClient, recorded: Path) -> None:
    headers = read(recorded / "other" / "recorded_response_headers__tmdblib.json")
    for path, name in (
        ("/3/movie/popular", "GET_3_movie_popular"),
        ("/3/movie/999999999", "GET_3_movie_999999999_de"),
    ):
        answer = await client.get(path)
        assert answer.headers["content-type"] == headers[name]["Headers"]["Content-Type"]
