"""A bulk run asked for over HTTP, with the stand-in as TMDB."""

from typing import Any

import httpx
import pytest
from harness import LiveStack, MakeStack


@pytest.fixture(scope="module")
def stack(make_stack: MakeStack) -> LiveStack:
    return make_stack()


def run(stack: LiveStack, **command: Any) -> dict[str, Any]:
    answer = stack.api.http.post("/admin/ingest/run", json=command)
    assert answer.status_code == 202, answer.text
    assert answer.json()["status_url"].endswith(answer.json()["job_id"])
    return stack.api.ended(answer.json()["job_id"])


def requests(stack: LiveStack) -> int:
    log = httpx.get(f"{stack.urls['tmdb-standin']}/_control/requests", trust_env=False).json()
    return log["total"]


def test_the_second_run_asks_for_lists_only_and_updates_nothing(stack: LiveStack) -> None:
    lists = {"popular": 3, "top_rated": 2, "trending_week": 1}
    first = run(stack, lists=lists)
    assert (first["state"], first["kind"], first["rejected"]) == ("succeeded", "ingest", 0)
    found = first["result"]["found"]
    assert 60 <= found <= 120  # 20 films a page, some on several lists
    assert first["result"]["new"] == found == first["done"] == first["total"]
    stack.drain()
    assert stack.api.get("/movies", limit=1)["total"] == found
    assert requests(stack) == found + 6

    state = "SELECT movie_id, revision, updated_at, fetched_at FROM catalog.movies ORDER BY 1"
    before = stack.rows(state)
    again = run(stack, lists=lists)
    assert (again["result"]["fresh"], again["result"]["new"]) == (found, 0)
    assert requests(stack) == found + 6 + 6
    assert stack.rows(state) == before


def test_a_run_of_explicit_films(stack: LiveStack) -> None:
    job = run(stack, tmdb_ids=[27205, 603, 2_000_000_001], force=True)
    assert (job["state"], job["result"]["found"]) == ("succeeded", 3)
    assert job["result"]["removed"] == 1
    assert stack.api.get("/movies/27205")["title"] == "Inception"
    assert stack.api.get("/movies/2000000001") is None
