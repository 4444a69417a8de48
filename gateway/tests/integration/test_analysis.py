"""Charts of days, analytics and recommendations, read from a service on a real socket."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest
from moviemetric_contracts import ArtifactComputed, Event
from service_kit import Publisher, RabbitBroker

Run = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]

AS_OF = "2025-01-31T20:15:00Z"
DAY = "2025-01-31"
FILM: dict[str, Any] = {
    "movie_id": "tmdb-603",
    "tmdb_id": 603,
    "title": "The Matrix",
    "release_date": "1999-03-31",
    "genres": ["Action"],
    "vote_average": 8.2,
    "vote_count": 25000,
    "popularity": 80.0,
    "views": 4,
    "final_trend_score": 51.0,
}
GENRE = {"genre": "Action", "volume": 3, "views": 1, "avg_rating": 7.5, "rated_films": 2}
PAGE = {"total": 1, "limit": 20, "offset": 0, "as_of": AS_OF}
REASON = {"kind": "because", "movie_id": "tmdb-27205", "title": "Inception", "share": 1.0}
PICKED = {"items": [{**FILM, "score": 1.0, "reasons": [REASON]}], "model": None, **PAGE}
TOMORROW = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()


@pytest.fixture(autouse=True)
def _answers(upstreams: Any) -> None:
    place = {"rank": 1, "movement": None, "days_on_chart": 1, "peak_rank": 1}
    upstreams.compute.answers = {
        "/trending": {"items": [{**FILM, **place}], "window": "day", "date": DAY, **PAGE},
        "/rising": {"items": [{**FILM, "rank": 1, "rise": 3.5}], **PAGE},
        "/trends/tmdb-603/history": {"movie_id": "tmdb-603", "window": "week", "items": [], **PAGE},
        "/analytics/top-genres": {"date": DAY, "items": [GENRE], **PAGE},
        "/analytics/ratings-by-decade": {"date": DAY, "items": [], "total": 0, "as_of": AS_OF},
        "/similar/tmdb-603": {"movie_id": "tmdb-603", "basis": "model", **PICKED},
        "/recommendations": PICKED,
        "/schedules": {"items": [], "as_of": AS_OF},
    }


@pytest.mark.parametrize(
    ("path", "upstream", "asked"),
    [
        (
            f"/movies/trending?as_of={DAY}&window=week&genre=Drama&min_votes=5",
            "/trending",
            {
                "as_of": DAY,
                "window": "week",
                "genre": "Drama",
                "min_votes": "5",
                "limit": "20",
                "offset": "0",
            },
        ),
        (
            "/movies/rising?language=fr&limit=3",
            "/rising",
            {"language": "fr", "limit": "3", "offset": "0"},
        ),
        (
            f"/movies/603/chart-history?window=week&from=2025-01-01&to={DAY}&limit=7",
            "/trends/tmdb-603/history",
            {"window": "week", "from": "2025-01-01", "to": DAY, "limit": "7"},
        ),
        (
            f"/analytics/top-genres?target_date={DAY}&limit=5",
            "/analytics/top-genres",
            {"date": DAY, "limit": "5", "offset": "0"},
        ),
        ("/analytics/ratings-by-decade", "/analytics/ratings-by-decade", {}),
        (
            "/movies/603/recommendations?diversity=0.5&year=1999",
            "/similar/tmdb-603",
            {"diversity": "0.5", "year": "1999", "limit": "10"},
        ),
        (
            "/recommendations?like=603,%20tmdb-27205,603&offset=5",
            "/recommendations",
            {"like": "tmdb-603,tmdb-27205", "limit": "20", "offset": "5"},
        ),
    ],
)
async def test_questions_are_passed_on_and_answers_are_kept_for_a_while(
    run_gateway: Run,
    rabbit_vhost: str,
    redis_database: str,
    upstreams: Any,
    path: str,
    upstream: str,
    asked: dict[str, str],
    eventually: Any,
) -> None:
    async with run_gateway(
        amqp_url=rabbit_vhost, redis_url=redis_database, rising_ttl=30
    ) as client:
        first = await client.get(f"/api/v1{path}")

        async def is_kept() -> bool:
            again = await client.get(path)
            return again.headers["X-Cache"] == "hit" and again.json() == first.json()

        await eventually(is_kept)
    assert first.status_code == 200, first.text
    request = httpx.URL(upstreams.compute.requests[0])
    assert (request.path, dict(request.params)) == (upstream, asked)
    films = [item for item in first.json()["items"] if "movie_id" in item]
    assert all(film["external_score"] == 8.2 for film in films)


async def test_a_new_artifact_drops_what_was_kept_of_the_old_one(
    run_gateway: Run, rabbit_vhost: str, redis_database: str, upstreams: Any, eventually: Any
) -> None:
    async with run_gateway(
        ready=True, amqp_url=rabbit_vhost, redis_url=redis_database, analytics_ttl=600
    ) as client:
        await client.get("/analytics/top-genres")
        upstreams.compute.answers["/analytics/top-genres"]["items"] = []
        assert (await client.get("/analytics/top-genres")).json()["items"] == [GENRE]
        broker = RabbitBroker(rabbit_vhost, name="test")
        computed = ArtifactComputed(
            artifact="genre-stats", as_of=date(2025, 1, 31), rows=0, duration_seconds=1
        )
        await Publisher(broker).publish(Event.of(computed, source="test", time=datetime.now(UTC)))
        await broker.close()

        async def renewed() -> bool:
            return (await client.get("/analytics/top-genres")).json()["items"] == []

        await eventually(renewed)


async def test_a_user_is_asked_for_by_the_token_and_nothing_is_kept(
    run_gateway: Run, rabbit_vhost: str, redis_database: str, upstreams: Any, signer: Any
) -> None:
    async with run_gateway(
        amqp_url=rabbit_vhost,
        redis_url=redis_database,
        headers=signer.bearer("user-ann", "user"),
    ) as client:
        path = "/users/me/recommendations?user_id=user-bob&include_seen=true&like=603"
        answers = [await client.get(path) for _ in range(2)]
        upstreams.compute.status = 500
        away = await client.get(path)
    assert [answer.status_code for answer in answers] == [200, 200]
    assert {answer.headers["Cache-Control"] for answer in answers} == {"no-store"}
    assert answers[0].json()["items"][0]["reasons"] == [REASON]
    assert len(upstreams.compute.requests) == 3
    assert dict(httpx.URL(upstreams.compute.requests[0]).params) == {
        "user_id": "user-ann",
        "like": "tmdb-603",
        "include_seen": "true",
        "limit": "20",
        "offset": "0",
    }
    assert away.status_code == 503
    assert int(away.headers["Retry-After"]) >= 1


async def test_schedules_are_read_live(
    run_gateway: Run, rabbit_vhost: str, redis_database: str, signer: Any
) -> None:
    async with run_gateway(
        amqp_url=rabbit_vhost,
        redis_url=redis_database,
        headers=signer.bearer("user-admin", "admin"),
        ready=True,
    ) as client:
        answer = await client.get("/api/v1/admin/schedules")
    assert answer.json() == {"items": [], "as_of": AS_OF}
    assert answer.headers["Cache-Control"] == "no-store"
