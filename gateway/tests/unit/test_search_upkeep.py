"""The search index in the hands of operators, and searches told of, through the application."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from gateway.jobs import job_id_of
from moviemetric_contracts import RebuildSearch, RepairSearch, SearchOpened, SearchPerformed
from service_kit import PublishError

FACETS: dict[str, Any] = {"genre": {}, "decade": {}, "language": {}}
PAGE: dict[str, Any] = {
    "query": "heat",
    "hits": [],
    "total": 3,
    "limit": 20,
    "offset": 0,
    "facets": FACETS,
    "engine": "meilisearch",
    "degraded": False,
    "note": None,
    "as_of": "2025-01-31T20:15:00Z",
}
DRIFT: dict[str, Any] = {
    "indexes": {
        "postgres": {
            "checked": 2,
            "drift": 1,
            "missing": {"count": 1, "sample": ["tmdb-1"]},
            "surplus": {"count": 0, "sample": []},
            "outdated": {"count": 0, "sample": []},
            "miscounted_groups": 0,
        }
    },
    "drift": 1,
    "duration_seconds": 0.01,
    "as_of": "2025-01-31T20:15:00Z",
}


@pytest.mark.parametrize(
    ("route", "command"), [("build-index", RebuildSearch), ("repair", RepairSearch)]
)
async def test_upkeep_is_asked_for_as_a_job(
    admin_api: httpx.AsyncClient, publisher: Any, route: str, command: Any
) -> None:
    answer = await admin_api.post(f"/api/v1/admin/search/{route}")
    assert answer.status_code == 202, answer.text
    [event] = publisher.events
    job_id = job_id_of("search", event.id)
    assert answer.json() == {
        "event_id": event.id,
        "job_id": job_id,
        "status_url": f"/api/v1/admin/jobs/{job_id}",
    }
    assert event.data == command(job_id=job_id)
    assert len(publisher.audits) == 1


async def test_the_same_key_rebuilds_once(admin_api: httpx.AsyncClient, publisher: Any) -> None:
    headers = {"Idempotency-Key": "nightly"}
    answers = [await admin_api.post("/admin/search/build-index", headers=headers) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert len({event.id for event in publisher.events}) == 1


async def test_drift_is_passed_on(api_with: Any, signer: Any, upstreams: Any) -> None:
    """However long it takes: it has the patience that no other answer has."""
    upstreams.search.answers["/drift"] = DRIFT
    upstreams.search.delay = 0.4
    headers = signer.bearer("user-admin", "admin")
    async with api_with(
        headers=headers, search_url=upstreams.search.url, read_timeout=0.2
    ) as client:
        answer = await client.get("/api/v1/admin/search/drift")
    assert (answer.status_code, answer.json()) == (200, DRIFT)
    assert answer.headers["cache-control"] == "no-store"


async def test_top_searches_are_passed_on(api_with: Any, signer: Any, upstreams: Any) -> None:
    page: dict[str, Any] = {
        "items": [],
        "total": 0,
        "limit": 5,
        "offset": 0,
        "as_of": "2025-01-31T20:15:00Z",
    }
    upstreams.search.answers["/top-searches"] = page
    headers = signer.bearer("user-admin", "admin")
    async with api_with(headers=headers, search_url=upstreams.search.url) as client:
        answer = await client.get(
            "/analytics/top-searches?date_from=2025-01-01&date_to=2025-01-31&no_results=true&limit=5"
        )
        refused = await client.get("/analytics/top-searches?days=0")
    assert (answer.status_code, answer.json()) == (200, page)
    [target] = upstreams.search.requests
    assert dict(httpx.URL(target).params) == {
        "date_from": "2025-01-01",
        "date_to": "2025-01-31",
        "no_results": "true",
        "limit": "5",
        "offset": "0",
    }
    assert refused.json()["errors"][0]["field"] == "days"


async def test_nobody_reads_what_others_searched_for(api: httpx.AsyncClient) -> None:
    for path in ("/analytics/top-searches", "/admin/search/drift"):
        assert (await api.get(path)).status_code == 401
    for path in ("/admin/search/build-index", "/admin/search/repair"):
        assert (await api.post(path)).status_code == 401


async def _told(publisher: Any, count: int) -> list[Any]:
    async with asyncio.timeout(30):
        while len(publisher.events) < count:  # noqa: ASYNC110 -- a background task sets no event
            await asyncio.sleep(0.005)
    return publisher.events


async def test_first_pages_are_told_of(api_with: Any, publisher: Any, upstreams: Any) -> None:
    upstreams.search.answers["/search"] = PAGE
    before = datetime.now(UTC)
    async with api_with(search_signals=True, search_url=upstreams.search.url) as client:
        first = await client.get("/search?q=Heat!&year=1995")
        second = await client.get("/search?q=Heat!&year=1995&offset=20")
        [event] = await _told(publisher, 1)
    assert (first.status_code, second.status_code) == (200, 200)
    searched = event.data.searched_at
    assert before <= searched <= datetime.now(UTC)
    assert event.data == SearchPerformed(
        search_id=first.headers["x-search-id"],
        query="Heat!",
        total=3,
        engine="meilisearch",
        searched_at=searched,
    )
    assert "x-search-id" not in second.headers


async def test_a_broker_that_is_away_costs_no_answer(
    api_with: Any, publisher: Any, upstreams: Any
) -> None:
    upstreams.search.answers["/search"] = PAGE
    publisher.error = PublishError("away")
    async with api_with(search_signals=True, search_url=upstreams.search.url) as client:
        assert (await client.get("/search?q=heat")).json()["total"] == 3
    assert publisher.events == []


async def test_nothing_is_told_unless_it_was_wanted(
    api_with: Any, publisher: Any, upstreams: Any
) -> None:
    upstreams.search.answers["/search"] = PAGE
    async with api_with(search_url=upstreams.search.url) as client:
        assert "x-search-id" not in (await client.get("/search?q=heat")).headers
        opened = await client.post("/search/opened", json={"tmdb_id": 949, "query": "heat"})
    assert opened.status_code == 404
    assert publisher.events == []


async def test_what_is_opened_is_told(api_with: Any, publisher: Any) -> None:
    async with api_with(search_signals=True) as client:
        answer = await client.post(
            "/api/v1/search/opened",
            json={
                "tmdb_id": 949,
                "query": "heat",
                "search_id": "abc",
                "opened_at": "2025-01-31T20:15:00Z",
            },
        )
    assert answer.status_code == 202, answer.text
    [event] = publisher.events
    assert event.data == SearchOpened(
        movie_id="tmdb-949",
        query="heat",
        search_id="abc",
        opened_at=datetime(2025, 1, 31, 20, 15, tzinfo=UTC),
    )
    assert answer.json() == {
        "event_id": event.id,
        "movie_id": "tmdb-949",
        "status_url": f"/api/v1/events/{event.id}",
    }


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"query": "heat"}, "(body)"),
        ({"tmdb_id": 949}, "query"),
        ({"tmdb_id": 949, "query": ""}, "query"),
        ({"tmdb_id": 949, "query": "x" * 201}, "query"),
        ({"tmdb_id": 949, "query": "a\x00b"}, "query"),
        ({"tmdb_id": 949, "query": "heat", "search_id": "no id"}, "search_id"),
        ({"tmdb_id": 949, "query": "heat", "user_id": "u-1"}, "user_id"),
        ({"tmdb_id": 949, "query": "heat", "opened_at": "yesterday"}, "opened_at"),
        ({"tmdb_id": 949, "query": "heat", "opened_at": "2999-01-01T00:00:00Z"}, "opened_at"),
    ],
)
async def test_what_cannot_be_opened(
    api_with: Any, publisher: Any, body: dict[str, Any], field: str
) -> None:
    async with api_with(search_signals=True) as client:
        answer = await client.post("/search/opened", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field
    assert publisher.events == []
