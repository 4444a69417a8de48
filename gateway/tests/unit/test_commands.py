"""What a good request becomes, through the whole application with a recording publisher."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from moviemetric_contracts import MovieViewed, RefreshMovie, RegisterMovie
from service_kit import PublishError, Unroutable

BATCH = "application/cloudevents-batch+json"
ONE = "application/cloudevents+json"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PREFIXES = ["/api/v1", "/api", ""]


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_register(api: httpx.AsyncClient, publisher: Any, prefix: str) -> None:
    response = await api.post(f"{prefix}/movies/register", json={"tmdb_id": 27205})
    assert response.status_code == 202
    [event] = publisher.events
    assert response.json() == {
        "event_id": event.id,
        "movie_id": "tmdb-27205",
        "status_url": "/api/v1/movies/tmdb-27205",
    }
    assert event.type == "movie.register.v1"
    assert event.source == "gateway"
    assert event.data == RegisterMovie(tmdb_id=27205)


@pytest.mark.parametrize(
    ("body", "movie_id"),
    [
        ({"tmdb_id": 27205}, "tmdb-27205"),
        ({"movie_id": "tmdb-27205"}, "tmdb-27205"),
        ({"movie_id": "27205"}, "tmdb-27205"),
        ({"movie_id": 27205}, "tmdb-27205"),
        ({"movie_id": "imdb-tt1375666"}, "imdb-tt1375666"),
        ({"movie_id": "title-heat-1995"}, "title-heat-1995"),
        ({"tmdb_id": None, "movie_id": "tmdb-5", "user_id": None}, "tmdb-5"),
    ],
)
async def test_view(
    api: httpx.AsyncClient, publisher: Any, body: dict[str, Any], movie_id: str
) -> None:
    before = datetime.now(UTC)
    response = await api.post("/api/v1/movies/view", json=body)
    assert response.status_code == 202
    assert response.json()["movie_id"] == movie_id
    [event] = publisher.events
    assert isinstance(event.data, MovieViewed)
    assert event.data.movie_id == movie_id
    assert before <= event.data.viewed_at <= datetime.now(UTC)


async def test_a_view_with_everything(api: httpx.AsyncClient, publisher: Any) -> None:
    response = await api.post(
        "/movies/view",
        json={
            "tmdb_id": 5,
            "user_id": "u \u00e9\U0001f3ac",
            "session_id": "s",
            "viewed_at": "2025-01-31T21:15:00.5+01:00",
        },
        headers={"X-Correlation-Id": "c-1", "traceparent": PARENT},
    )
    assert response.headers["X-Correlation-Id"] == "c-1"
    [event] = publisher.events
    assert json.loads(event.to_bytes())["data"] == {
        "movie_id": "tmdb-5",
        "viewed_at": "2025-01-31T20:15:00.500000Z",
        "user_id": "u \u00e9\U0001f3ac",
        "session_id": "s",
    }
    assert event.correlationid == "c-1"
    assert event.traceparent == PARENT
    assert event.subject == "tmdb-5"


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    "path", ["/movies/27205/refresh", "/movies/trigger_external_update/tmdb-27205"]
)
async def test_refresh(api: httpx.AsyncClient, publisher: Any, prefix: str, path: str) -> None:
    response = await api.post(prefix + path)
    assert response.status_code == 202
    assert response.json()["status_url"] == "/api/v1/movies/tmdb-27205"
    assert publisher.events[0].data == RefreshMovie(tmdb_id=27205)


async def test_a_repeated_request_is_the_same_event(api: httpx.AsyncClient, publisher: Any) -> None:
    headers = {"Idempotency-Key": "k"}
    for path in ("/api/v1/movies/register", "/movies/register"):
        await api.post(path, json={"tmdb_id": 1}, headers=headers)
    await api.post("/movies/view", json={"tmdb_id": 1}, headers=headers)
    await api.post("/movies/1/refresh", headers=headers)
    await api.post("/movies/trigger_external_update/1", headers=headers)
    await api.post("/movies/2/refresh", headers=headers)
    ids = [event.id for event in publisher.events]
    assert ids[0] == ids[1]
    assert ids[3] == ids[4]
    assert len(set(ids)) == 4


@pytest.mark.parametrize(
    "error", [PublishError("no confirm"), Unroutable("moviemetric.events", "movie.viewed.v1")]
)
async def test_not_confirmed_is_503(
    api: httpx.AsyncClient, publisher: Any, error: PublishError
) -> None:
    publisher.error = error
    response = await api.post("/movies/view", json={"tmdb_id": 1})
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert int(response.headers["Retry-After"]) >= 1


def event(event_id: str, **changes: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": "/test",
        "type": "movie.viewed.v1",
        "data": {"movie_id": "tmdb-1", "viewed_at": "2024-01-01T00:00:00Z"},
        **changes,
    }


async def test_a_batch_keeps_ids_and_order_and_takes_duplicates(
    producer_api: httpx.AsyncClient, publisher: Any
) -> None:
    batch = [
        event("a", correlationid="own", colour="ignored"),
        event("b", type="movie.register.v1", data={"tmdb_id": 5}),
        event("a"),
        event("c", type="movie.refresh.v1", data={"tmdb_id": 5}, time="2024-01-01T00:00:00Z"),
    ]
    response = await producer_api.post(
        "/api/v1/events",
        content=json.dumps(batch),
        headers={"content-type": f"{BATCH}; charset=utf-8", "X-Correlation-Id": "given"},
    )
    assert response.status_code == 202
    assert response.json() == {
        "accepted": 4,
        "rejected": 0,
        "results": [
            {"index": index, "id": event_id, "status": "accepted"}
            for index, event_id in enumerate("abac")
        ],
    }
    assert [(e.id, e.type, e.source) for e in publisher.events] == [
        ("a", "movie.viewed.v1", "/test"),
        ("b", "movie.register.v1", "/test"),
        ("a", "movie.viewed.v1", "/test"),
        ("c", "movie.refresh.v1", "/test"),
    ]
    assert [e.correlationid for e in publisher.events] == ["own", "given", "given", "given"]


async def test_a_single_event(producer_api: httpx.AsyncClient, publisher: Any) -> None:
    response = await producer_api.post(
        "/events", content=json.dumps(event("one")), headers={"content-type": ONE}
    )
    assert response.status_code == 202
    assert [e.id for e in publisher.events] == ["one"]


async def test_what_is_not_confirmed_is_named_to_be_sent_again(
    producer_api: httpx.AsyncClient, publisher: Any
) -> None:
    publisher.error, publisher.refused_ids = PublishError("lost"), {"b", "d"}
    batch = [event("a"), event("b"), {"id": "c"}, event("d")]
    response = await producer_api.post(
        "/events", content=json.dumps(batch), headers={"content-type": BATCH}
    )
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    problem = response.json()
    assert [(r["id"], r["status"]) for r in problem["results"]] == [
        ("a", "accepted"),
        ("b", "failed"),
        ("c", "rejected"),
        ("d", "failed"),
    ]
    assert "2 of 4" in problem["detail"]


async def test_the_documented_routes_are_complete(api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()
    assert set(document["paths"]) == {
        "/health",
        "/ready",
        "/metrics",
        "/api/v1/ping",
        "/api/v1/events",
        "/api/v1/movies",
        "/api/v1/movies/register",
        "/api/v1/movies/view",
        "/api/v1/movies/trending",
        "/api/v1/movies/rising",
        "/api/v1/movies/{movie_id}/chart-history",
        "/api/v1/movies/{movie_id}/recommendations",
        "/api/v1/recommendations",
        "/api/v1/users/me/recommendations",
        "/api/v1/analytics/top-genres",
        "/api/v1/analytics/ratings-by-decade",
        "/api/v1/admin/compute/{artifact}",
        "/api/v1/admin/schedules",
        "/api/v1/movies/{movie_id}",
        "/api/v1/movies/{movie_id}/refresh",
        "/api/v1/movies/{movie_id}/trend",
        "/api/v1/events/{event_id}",
        "/api/v1/movies/{movie_id}/rating",
        "/api/v1/movies/{movie_id}/ratings",
        "/api/v1/movies/{movie_id}/reviews",
        "/api/v1/ratings",
        "/api/v1/users",
        "/api/v1/users/me",
        "/api/v1/users/me/password",
        "/api/v1/users/me/ratings",
        "/api/v1/users/me/export",
        "/api/v1/users/{name}",
        "/api/v1/auth/token",
        "/api/v1/auth/revoke",
        "/api/v1/.well-known/jwks.json",
        "/api/v1/admin/users",
        "/api/v1/admin/users/{name}",
        "/api/v1/admin/users/{name}/role",
        "/api/v1/admin/api-keys",
        "/api/v1/admin/api-keys/{key_id}",
        "/api/v1/admin/audit",
        "/api/v1/search",
        "/api/v1/search/opened",
        "/api/v1/admin/search/build-index",
        "/api/v1/admin/search/drift",
        "/api/v1/admin/search/repair",
        "/api/v1/analytics/top-searches",
        "/api/v1/search/suggest",
        "/api/v1/stream",
        "/api/v1/upload",
        "/api/v1/admin/ingest/run",
        "/api/v1/admin/jobs",
        "/api/v1/admin/jobs/{job_id}",
        "/api/v1/admin/jobs/{job_id}/rejects",
        "/api/v1/admin/jobs/{job_id}/cancel",
        "/api/v1/admin/jobs/{job_id}/retry",
    }
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert named <= set(document["components"]["schemas"])
    view = document["paths"]["/api/v1/movies/view"]["post"]
    assert view["requestBody"]["content"]["application/json"]["example"]
    refusals = {"400", "401", "403", "429", "503"}
    assert set(view["responses"]) == {"202", "413", "422", *refusals}
    assert view["security"] == [{}, {"OAuth2": []}, {"ApiKey": []}]
    upload = document["paths"]["/api/v1/upload"]["post"]
    form = upload["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["file"]
    assert set(form["properties"]) == {"file", "format", "dry_run"}
    assert set(upload["responses"]) == {"202", "408", "413", "422", *refusals}
    assert upload["security"] == [{"OAuth2": []}, {"ApiKey": []}]
    assert {p["name"] for p in upload["parameters"]} >= {"format", "dry_run", "Idempotency-Key"}
    ingest = document["paths"]["/api/v1/admin/ingest/run"]["post"]
    assert ingest["requestBody"]["required"] is False
    rejects = document["paths"]["/api/v1/admin/jobs/{job_id}/rejects"]["get"]
    assert set(rejects["responses"]["200"]["content"]) == {"application/json", "text/csv"}
    stream = document["paths"]["/api/v1/stream"]["get"]
    assert "text/event-stream" in stream["responses"]["200"]["content"]


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_operations_answer_under_every_prefix(api: httpx.AsyncClient, prefix: str) -> None:
    assert (await api.get(f"{prefix}/ping")).json() == {"ping": "pong"}
    health = (await api.get(f"{prefix}/health")).json()
    assert health["status"] == "down"
    assert set(health["dependencies"]) == {
        "rabbitmq",
        "redis",
        "ingest-service",
        "rating-service",
        "compute-service",
        "search-indexer",
    }
    assert (await api.get(f"{prefix}/ready")).status_code == 503


async def test_a_route_is_one_series_whatever_its_prefix(api: httpx.AsyncClient) -> None:
    def count(text: str) -> float:
        wanted = (
            'gateway_requests_total{method="POST",route="/api/v1/movies/{movie_id}/refresh",'
            'status="202"} '
        )
        lines = [line for line in text.splitlines() if line.startswith(wanted)]
        return float(lines[0].removeprefix(wanted)) if lines else 0.0

    before = count((await api.get("/metrics")).text)
    for prefix in PREFIXES:
        await api.post(f"{prefix}/movies/7/refresh")
    text = (await api.get("/api/v1/metrics")).text
    assert count(text) == before + 3
    assert 'gateway_events_published_total{outcome="confirmed",type="movie.refresh.v1"}' in text


async def test_a_read_without_service_and_copy_is_503(api: httpx.AsyncClient) -> None:
    for path in ("/movies", "/movies/5", "/movies/5/trend", "/movies/trending", "/search?q=x"):
        response = await api.get(path)
        assert response.status_code == 503, path
        assert response.headers["content-type"] == "application/problem+json"
        assert int(response.headers["Retry-After"]) >= 1
