"""Ratings become commands of the user whose token it is; film ratings are read from the service."""

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from moviemetric_contracts import RateMovie, UnrateMovie
from service_kit import PublishError

Bearer = Callable[..., dict[str, str]]
FILM = "/api/v1/movies/27205/rating"
EFFECT = {"queue": "rating-service.ratings", "processed_at": "2025-01-31T20:15:00Z"}


@pytest.mark.parametrize("prefix", ["/api/v1", "/api", ""])
async def test_a_rating_is_the_command_of_the_tokens_user(
    client: httpx.AsyncClient, publisher: Any, bearer: Bearer, prefix: str
) -> None:
    before = datetime.now(UTC)
    answer = await client.put(
        f"{prefix}/movies/27205/rating",
        json={"score": 8.5, "review": "Twice. \U0001f3ac"},
        headers={**bearer("user-7"), "X-Correlation-Id": "c-1"},
    )
    assert answer.status_code == 202
    [event] = publisher.events
    assert answer.json() == {
        "event_id": event.id,
        "movie_id": "tmdb-27205",
        "status_url": f"/api/v1/events/{event.id}",
        "processed": False,
    }
    assert event.type == "movie.rate.v1"
    assert event.data == RateMovie(
        movie_id="tmdb-27205", user_id="user-7", score=8.5, review="Twice. \U0001f3ac"
    )
    assert event.correlationid == "c-1"
    assert before <= event.time <= datetime.now(UTC)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["X-Correlation-Id"] == "c-1"


@pytest.mark.parametrize(
    ("body", "movie_id", "review"),
    [
        ({"tmdb_id": 5, "score": 10}, "tmdb-5", None),
        ({"movie_id": "imdb-tt1375666", "score": 0.5, "review": ""}, "imdb-tt1375666", None),
        ({"movie_id": 5, "score": 7, "review": " \n\t"}, "tmdb-5", None),
        ({"movie_id": "title-heat-1995", "score": 7, "review": None}, "title-heat-1995", None),
        ({"tmdb_id": 5, "score": 7.0, "review": "x" * 10_000}, "tmdb-5", "x" * 10_000),
    ],
)
async def test_a_rating_of_a_film_in_the_body(
    client: httpx.AsyncClient,
    publisher: Any,
    bearer: Bearer,
    body: dict[str, Any],
    movie_id: str,
    review: str | None,
) -> None:
    answer = await client.post("/ratings", json=body, headers=bearer("user-7"))
    assert answer.status_code == 202
    [event] = publisher.events
    assert answer.json()["movie_id"] == movie_id
    assert event.data == RateMovie(
        movie_id=movie_id, user_id="user-7", score=body["score"], review=review
    )


async def test_a_rating_is_taken_back(
    client: httpx.AsyncClient, publisher: Any, bearer: Bearer
) -> None:
    answer = await client.delete("/movies/imdb-tt1375666/rating", headers=bearer("user-7"))
    assert answer.status_code == 202
    [event] = publisher.events
    assert event.type == "movie.unrate.v1"
    assert event.data == UnrateMovie(movie_id="imdb-tt1375666", user_id="user-7")
    assert answer.json() == {
        "event_id": event.id,
        "movie_id": "imdb-tt1375666",
        "status_url": f"/api/v1/events/{event.id}",
        "processed": False,
    }


BAD: list[tuple[str, bytes, int, str]] = [
    ("empty", b"", 400, ""),
    ("not json", b"score=8", 400, ""),
    ("array", b"[]", 422, "(body)"),
    ("no score", b"{}", 422, "score"),
    ("score null", b'{"score": null}', 422, "score"),
    ("score as text", b'{"score": "8"}', 422, "score"),
    ("score true", b'{"score": true}', 422, "score"),
    ("score list", b'{"score": [8]}', 422, "score"),
    ("score 0", b'{"score": 0}', 422, "score"),
    ("score 10.5", b'{"score": 10.5}', 422, "score"),
    ("score 7.3", b'{"score": 7.3}', 422, "score"),
    ("score 7.75", b'{"score": 7.75}', 422, "score"),
    ("score negative", b'{"score": -5}', 422, "score"),
    ("score NaN", b'{"score": NaN}', 422, "score"),
    ("score 1e999", b'{"score": 1e999}', 422, "score"),
    ("score of 5000 digits", b'{"score": ' + b"9" * 5000 + b"}", 422, "score"),
    ("score twice", b'{"score": 1, "score": 2}', 422, "score"),
    ("another user", b'{"score": 8, "user_id": "user-2"}', 422, "user_id"),
    ("a time", b'{"score": 8, "rated_at": "2020-01-01T00:00:00Z"}', 422, "rated_at"),
    ("review as number", b'{"score": 8, "review": 5}', 422, "review"),
    ("review list", b'{"score": 8, "review": ["a"]}', 422, "review"),
    ("review long", b'{"score": 8, "review": "' + b"x" * 10_001 + b'"}', 422, "review"),
    ("review NUL", b'{"score": 8, "review": "a\\u0000"}', 422, "review"),
    ("review half a pair", b'{"score": 8, "review": "\\ud800"}', 422, "review"),
]


@pytest.mark.parametrize("route", ["put", "post"])
@pytest.mark.parametrize(
    ("body", "status", "field"), [case[1:] for case in BAD], ids=[case[0] for case in BAD]
)
async def test_a_bad_rating_is_refused_and_nothing_published(
    client: httpx.AsyncClient,
    publisher: Any,
    bearer: Bearer,
    route: str,
    body: bytes,
    status: int,
    field: str,
) -> None:
    if route == "put":
        answer = await client.put(FILM, content=body, headers=bearer())
    else:
        content = body.replace(b"{", b'{"tmdb_id": 5, ', 1) if body[:2] == b'{"' else body
        answer = await client.post("/ratings", content=content, headers=bearer())
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    if field and body != b"{}":
        assert answer.json()["errors"][0]["field"] == field
    assert publisher.events == []


@pytest.mark.parametrize(
    "body",
    [
        {"score": 8},
        {"score": 8, "tmdb_id": 5, "movie_id": "tmdb-5"},
        {"score": 8, "movie_id": "inception"},
        {"score": 8, "tmdb_id": "5"},
    ],
)
async def test_a_rating_of_no_film_is_refused(
    client: httpx.AsyncClient, publisher: Any, bearer: Bearer, body: dict[str, Any]
) -> None:
    assert (await client.post("/ratings", json=body, headers=bearer())).status_code == 422
    assert publisher.events == []


@pytest.mark.parametrize("wait", ["-1", "5.1", "nan", "inf", "soon", ""])
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_wait_is_bounded(
    client: httpx.AsyncClient, publisher: Any, bearer: Bearer, method: str, wait: str
) -> None:
    answer = await client.request(
        method, f"{FILM}?wait={wait}", json={"score": 8}, headers=bearer()
    )
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "wait"
    assert publisher.events == []


async def test_who_is_nobody_rates_nothing(client: httpx.AsyncClient, publisher: Any) -> None:
    answers = [
        await client.put(FILM, json={"score": 8}),
        await client.put("/movies/no-film/rating", content=b"no json"),
        await client.delete(FILM),
        await client.post("/ratings", json={"tmdb_id": 5, "score": 8}),
        await client.get(FILM),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}
    assert {answer.headers["cache-control"] for answer in answers} == {"no-store"}
    assert publisher.events == []


async def test_an_idempotency_key_is_its_users_own(
    client: httpx.AsyncClient, publisher: Any, bearer: Bearer
) -> None:
    for user in ("user-1", "user-1", "user-2"):
        headers = {**bearer(user), "Idempotency-Key": "k"}
        assert (await client.put(FILM, json={"score": 8}, headers=headers)).status_code == 202
    await client.delete(FILM, headers={**bearer("user-1"), "Idempotency-Key": "k"})
    ids = [event.id for event in publisher.events]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


async def test_a_rating_that_is_not_confirmed_is_503(
    client: httpx.AsyncClient, publisher: Any, bearer: Bearer
) -> None:
    publisher.error = PublishError("no confirm")
    answer = await client.put(f"{FILM}?wait=1", json={"score": 8}, headers=bearer())
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1


async def test_with_wait_the_answer_comes_after_the_effect(
    client: httpx.AsyncClient, desks: Any, bearer: Bearer, publisher: Any, reply: Any
) -> None:
    asked: list[str] = []

    def inbox(request: Any) -> Any:
        asked.append(request.target)
        return reply({"items": [EFFECT], "as_of": "2025-01-31T20:15:00Z"}, delay=0.2)

    key = {"Idempotency-Key": "known", **bearer()}
    first = (await client.put(FILM, json={"score": 8}, headers=key)).json()
    desks.rating.replies[f"GET /inbox/{first['event_id']}"] = inbox
    started = time.perf_counter()
    answer = await client.put(f"{FILM}?wait=5", json={"score": 8}, headers=key)
    assert time.perf_counter() - started >= 0.2
    assert answer.status_code == 202
    assert answer.json() == {**first, "processed": True}
    assert asked == [f"/inbox/{first['event_id']}?wait=5.0"]
    assert len(publisher.events) == 2


async def test_a_wait_may_take_longer_than_a_read(
    api_with: Callable[..., Any], desks: Any, bearer: Bearer, reply: Any
) -> None:
    key = {"Idempotency-Key": "known", **bearer()}
    async with api_with(rating_url=desks.rating.url, read_timeout=0.5) as client:
        event_id = (await client.delete(FILM, headers=key)).json()["event_id"]
        desks.rating.replies[f"GET /inbox/{event_id}"] = reply({"items": [EFFECT]}, delay=0.8)
        answer = await client.delete(f"{FILM}?wait=5", headers=key)
    assert answer.status_code == 202
    assert answer.json()["processed"] is True


async def test_waiting_for_a_service_that_is_away_ends_at_once(
    client: httpx.AsyncClient, desks: Any, bearer: Bearer, publisher: Any
) -> None:
    await client.put(FILM, json={"score": 8}, headers=bearer())
    await desks.rating.stop()
    answer = await client.put(f"{FILM}?wait=5", json={"score": 9}, headers=bearer())
    assert (answer.status_code, answer.json()["processed"]) == (202, False)
    assert len(publisher.events) == 2


async def test_those_who_wait_do_not_keep_others_from_reading(
    client: httpx.AsyncClient, desks: Any, bearer: Bearer, reply: Any
) -> None:
    key = {"Idempotency-Key": "known", **bearer()}
    event_id = (await client.delete(FILM, headers=key)).json()["event_id"]
    desks.rating.replies[f"GET /inbox/{event_id}"] = reply({"items": []}, delay=5)
    desks.rating.replies["GET /users/me"] = reply({"name": "ada"})
    waiting = [asyncio.create_task(client.delete(f"{FILM}?wait=5", headers=key)) for _ in range(80)]
    deadline = time.monotonic() + 30
    while len(desks.rating.asked_for(f"/inbox/{event_id}")) < 80:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    assert (await client.get("/users/me", headers=bearer())).status_code == 200
    assert not any(task.done() for task in waiting)
    assert {(await task).status_code for task in waiting} == {202}


async def test_ones_own_rating_is_passed_on(
    client: httpx.AsyncClient, desks: Any, bearer: Bearer, reply: Any
) -> None:
    own = {"movie_id": "tmdb-27205", "score": 8.5, "review": None, "rated_at": "2025-01-31"}
    desks.rating.replies["GET /movies/tmdb-27205/rating"] = reply(own)
    token = bearer()
    answer = await client.get(FILM, headers=token)
    assert answer.status_code == 200
    assert answer.json() == own
    assert answer.headers["cache-control"] == "no-store"
    assert "x-cache" not in answer.headers
    [asked] = desks.rating.asked_for("/movies/tmdb-27205/rating")
    assert asked.header("authorization") == [token["Authorization"]]
    missing = await client.get("/movies/5/rating", headers=bearer())
    assert missing.status_code == 404
    assert missing.headers["content-type"] == "application/problem+json"
    assert (await client.get("/movies/nothing/rating", headers=bearer())).status_code == 422


async def test_film_ratings_and_reviews_are_the_services(
    client: httpx.AsyncClient, desks: Any, reply: Any
) -> None:
    ratings = {"movie_id": "tmdb-5", "count": 1, "mean": 8.0, "histogram": {"8.0": 1}}
    page = {"items": [{"user": None, "score": 8.0}], "total": 1, "limit": 7, "offset": 3}
    desks.rating.replies["GET /movies/tmdb-5/ratings"] = reply(ratings)
    desks.rating.replies["GET /movies/tmdb-5/reviews"] = reply(page)
    assert (await client.get("/movies/5/ratings")).json() == ratings
    answer = await client.get("/movies/5/reviews?limit=7&offset=3")
    assert answer.json() == page
    assert desks.rating.asked[-1].target == "/movies/tmdb-5/reviews?limit=7&offset=3"
    assert desks.rating.asked[-1].header("authorization") == []
    for path in ("/movies/6/ratings", "/movies/6/reviews"):
        assert (await client.get(path)).status_code == 404
    for query in ("limit=0", "limit=101", "offset=-1", "limit=x"):
        assert (await client.get(f"/movies/5/reviews?{query}")).status_code == 422
    assert (await client.get("/movies/x/ratings")).status_code == 422
    await desks.rating.stop()
    for path in ("/movies/5/ratings", "/movies/5/reviews"):
        assert (await client.get(path)).status_code == 503


async def test_a_rating_with_a_time_of_its_own_cannot_be_sent(
    client: httpx.AsyncClient, publisher: Any, bearer: Bearer
) -> None:
    """The newest rating counts, so nobody may say when theirs was."""
    ahead = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    body = json.dumps({"score": 8, "time": ahead})
    assert (await client.put(FILM, content=body, headers=bearer())).status_code == 422
    assert publisher.events == []
