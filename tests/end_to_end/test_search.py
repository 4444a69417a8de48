"""Search through the gateway: what is asked for arrives, and hostile text is only text."""

import json
from urllib.parse import quote

import pytest
from harness import LiveStack, eventually
from harness.live_stack import ROOT

HOSTILE: list[str] = json.loads((ROOT / "search-indexer/tests/hostile.json").read_text())
FILMS = (155, 550, 603, 27205)


@pytest.fixture(scope="module")
def searchable(stack: LiveStack) -> LiveStack:
    """The stack, with films that can be found."""
    for number in FILMS:
        stack.api.http.post("/movies/register", json={"tmdb_id": number}).raise_for_status()

    def found() -> bool:
        titles = ("the dark knight", "fight club", "the matrix", "inception")
        return all(stack.api.get("/search", q=title)["total"] for title in titles)

    eventually("the films to be found", found, seconds=30)
    return stack


def test_filters_orders_and_marks(searchable: LiveStack) -> None:
    page = searchable.api.get("/search", q="the matrx", year="1990-1999", highlight=True)
    assert page["engine"] in {"postgres", "meilisearch"}
    assert "degraded" not in page
    hit = page["hits"][0]
    assert (hit["tmdb_id"], hit["release_date"][:4]) == (603, "1999")
    assert hit["highlights"]["title"] == "The <mark>Matrix</mark>"
    later = searchable.api.get("/search", q="matrix", year="2000-", limit=100)["hits"]
    assert all(hit["release_date"] >= "2000" for hit in later)
    asked = {"q": "", "genre": "action,science fiction", "sort": "date", "limit": 100}
    both = searchable.api.get("/search", **asked)["hits"]
    dates = [hit["release_date"] for hit in both]
    assert dates == sorted(dates, reverse=True)
    assert all({"Action", "Science Fiction"} <= set(hit["genres"]) for hit in both)
    assert {603, 27205} <= {hit["tmdb_id"] for hit in both}
    some = searchable.api.get("/search", **asked, genre_mode="any")
    assert some["total"] > len(both)


def test_suggestions(searchable: LiveStack) -> None:
    found = searchable.api.get("/search/suggest", q="incep")
    assert {"movie_id": "tmdb-27205", "title": "Inception", "year": 2010} in found["films"]


@pytest.mark.parametrize("name", ["q", "genre", "language", "year", "sort"])
def test_hostile_text_is_answered_and_finds_nothing_more(searchable: LiveStack, name: str) -> None:
    everything = searchable.api.get("/search", q="", limit=1)["total"]
    for text in HOSTILE:
        value = quote(text.encode(errors="surrogatepass"), safe="")
        other = "" if name == "q" else "&q="
        answer = searchable.anonymous.http.get(f"/search?{name}={value}{other}&limit=1")
        assert answer.status_code in {200, 422}, (name, text, answer.text)
        if answer.status_code == 422:
            assert answer.json()["errors"][0]["field"] == name, text
        elif text.strip() and name != "sort":
            assert answer.json()["total"] < everything, (name, text)
