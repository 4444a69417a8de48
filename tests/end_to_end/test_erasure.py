"""Somebody leaves: nothing that is theirs is left anywhere, and nothing of theirs comes back."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
import redis
from harness import LiveStack, User, eventually
from harness.clients import cloud_event
from harness.live_stack import PASSWORD
from psycopg import sql

FILMS = (23048, 23082, 23168)
UNKNOWN = 900000123
NAME = "zoe-who-leaves-us"
REVIEW = "Unmistakably-mine: the ending of the ending."
SCHEMAS = ["catalog", "rating", "compute", "search", "public"]
SERVICES = ("rating-service", "compute-service")


@dataclass(frozen=True)
class Left:
    """Who has left, what they held, and what was published for them while they were there."""

    user_id: str
    access_token: str
    refresh_token: str
    api_key: str
    published: list[tuple[str, str, dict[str, Any]]]
    event_id: str
    before: Mapping[str, Any]


def found(stack: LiveStack, needle: str) -> list[str]:
    """Tables and keys that hold the text anywhere, also as bytes."""
    places: list[str] = []
    tables = stack.rows(
        "SELECT table_schema AS schema, table_name AS name FROM information_schema.tables"
        " WHERE table_schema = ANY(%(schemas)s) AND table_type = 'BASE TABLE'",
        schemas=SCHEMAS,
    )
    assert {table["schema"] for table in tables} >= {"catalog", "rating", "compute", "search"}
    for table in tables:
        query = sql.SQL(
            "SELECT count(*) AS n FROM {} AS t WHERE strpos(lower(t::text), {}) > 0"
            " OR strpos(t::text, {}) > 0"
        ).format(
            sql.Identifier(table["schema"], table["name"]),
            sql.Literal(needle.lower()),
            sql.Literal(needle.encode().hex()),
        )
        [row] = stack.rows(query.as_string())
        if row["n"]:
            places.append(f"{table['schema']}.{table['name']}: {row['n']} rows")
    return places + in_redis(stack, needle)


def in_redis(stack: LiveStack, needle: str) -> list[str]:
    """Keys that hold the text, in their name or value."""
    wanted = needle.lower().encode()
    readers = {
        b"string": ("GET", ()),
        b"hash": ("HGETALL", ()),
        b"set": ("SMEMBERS", ()),
        b"zset": ("ZRANGE", (0, -1)),
        b"list": ("LRANGE", (0, -1)),
        b"stream": ("XRANGE", ("-", "+")),
    }
    with redis.Redis.from_url(stack.redis_url) as untyped:  # pyright: ignore[reportUnknownMemberType] -- untyped
        client = cast("Any", untyped)
        places: list[str] = []
        for key in cast("list[bytes]", list(client.scan_iter(count=1000))):
            kind: bytes = client.type(key)
            if kind == b"none":
                continue  # expired meanwhile
            command, arguments = readers[kind]
            value = repr(client.execute_command(command, key, *arguments)).lower().encode()
            if wanted in key.lower() or wanted in value:
                places.append(f"redis: {key!r}")
        return places


def recount(stack: LiveStack) -> dict[str, Any]:
    """Histograms from the rows, and those that are kept."""
    counted: dict[str, list[int]] = {}
    for row in stack.rows("SELECT movie_id, half_steps FROM rating.ratings WHERE half_steps > 0"):
        counted.setdefault(row["movie_id"], [0] * 20)[row["half_steps"] - 1] += 1
    kept = {
        row["movie_id"]: row["histogram"]
        for row in stack.rows("SELECT movie_id, histogram FROM rating.aggregates")
    }
    assert {film: row for film, row in kept.items() if any(row)} == counted
    trends = {
        row["movie_id"]: (row["ratings_count"], float(row["ratings_sum"]))
        for row in stack.rows(
            "SELECT movie_id, ratings_count, ratings_sum FROM compute.trends"
            " WHERE movie_id = ANY(%(films)s)",
            films=[f"tmdb-{film}" for film in FILMS],
        )
    }
    for film, (count, total) in trends.items():
        histogram = counted.get(film, [0] * 20)
        assert count == sum(histogram), film
        assert total == pytest.approx(sum(n * step / 2 for step, n in enumerate(histogram, 1)))
    return counted


def views(stack: LiveStack) -> dict[str, int]:
    rows = stack.rows(
        "SELECT movie_id, views FROM compute.trends WHERE movie_id = ANY(%(films)s)",
        films=[f"tmdb-{film}" for film in FILMS],
    )
    return {row["movie_id"]: row["views"] for row in rows}


def sign_in(stack: LiveStack, **form: str) -> Any:
    return stack.anonymous.http.post("/auth/token", data=form)


@pytest.fixture(scope="module")
def left(stack: LiveStack) -> Left:
    """Somebody with ratings, a review, views, two sessions and an API key, who has left."""
    stack.api.send_all(
        cloud_event("movie.register.v1", f"erasure-{film}", {"tmdb_id": film}) for film in FILMS
    )
    for film in FILMS:
        eventually(f"{film}", lambda film=film: stack.anonymous.get(f"/movies/{film}/ratings"))
    stays = stack.sign_up("stan-who-stays")
    zoe = stack.sign_up(NAME)
    with stack.tap() as tap:
        for film, score in zip(FILMS, (9.0, 1.5, 6.0), strict=True):
            stays.rate(f"{film}", 5.0)
            zoe.rate(f"{film}", score, REVIEW)
        zoe.rate(f"{FILMS[0]}", 10.0, REVIEW)
        zoe.rate(f"{UNKNOWN}", 8.0, REVIEW)
        zoe.http.delete(f"/movies/{FILMS[2]}/rating", params={"wait": 5}).raise_for_status()
        for _ in range(3):
            body = {"tmdb_id": FILMS[0], "session_id": f"{NAME}-on-the-phone"}
            zoe.http.post("/movies/view", json=body).raise_for_status()
        stack.drain()
        own = zoe.user_id
        published = [
            (message.exchange, message.routing_key, message.body)
            for message in tap.taken()
            if message.body.get("data", {}).get("user_id") == own
            and message.routing_key in {"movie.rate.v1", "movie.unrate.v1", "movie.viewed.v1"}
        ]
    session = sign_in(stack, grant_type="password", username=NAME, password=PASSWORD).json()
    sign_in(stack, grant_type="password", username=NAME, password=PASSWORD)
    # An administrator makes an API key and leaves audit records.
    role = f"/admin/users/{NAME}/role"
    stack.api.http.put(role, json={"role": "admin"}).raise_for_status()
    promoted = stack.user(NAME)
    made = promoted.http.post("/admin/api-keys", json={"name": "hers", "scopes": ["events"]})
    assert made.status_code == 201, made.text
    # Answers that hold what is to go are in the cache.
    for path in (
        *(f"/movies/{film}/{what}" for film in FILMS for what in ("ratings", "reviews")),
        *(f"/users/{NAME}", f"/users/{NAME.upper()}"),
    ):
        stack.anonymous.get(path)
    stack.drain()
    assert found(stack, own), "nothing was there to be erased"
    assert found(stack, NAME)
    assert found(stack, REVIEW)
    before = {"views": views(stack), "ratings": recount(stack)}

    wrong = zoe.http.request("DELETE", "/users/me", json={"password": f"{PASSWORD}!"})
    assert wrong.status_code == 403
    answer = zoe.http.request("DELETE", "/users/me", json={"password": PASSWORD})
    assert answer.status_code == 202, answer.text
    return Left(
        user_id=own,
        access_token=zoe.token,
        refresh_token=session["refresh_token"],
        api_key=made.json()["key"],
        published=published,
        event_id=answer.json()["event_id"],
        before=before,
    )


def test_every_service_says_that_it_has_erased(stack: LiveStack, left: Left) -> None:
    def done() -> bool:
        status = stack.anonymous.get(f"/events/{left.event_id}", wait=5)
        return {item["service"] for item in status["services"]} >= set(SERVICES)

    eventually("all services to have processed the erasure", done)
    stack.drain()
    assert stack.parked() == {}


def test_no_table_and_no_cache_holds_anything_of_theirs(stack: LiveStack, left: Left) -> None:
    stack.drain()
    for needle in (left.user_id, NAME, REVIEW, left.refresh_token, left.access_token):
        eventually(
            f"no place to hold {needle[:12]}…: {found(stack, needle)}",
            lambda needle=needle: not found(stack, needle),
            seconds=10,
        )


def test_averages_and_trends_equal_a_recount_without_them(stack: LiveStack, left: Left) -> None:
    stack.drain()
    counted = recount(stack)
    alone = [0] * 20
    alone[9] = 1
    for film in FILMS:
        assert counted[f"tmdb-{film}"] == alone
        shown = stack.anonymous.get(f"/movies/{film}/ratings")
        assert (shown["count"], shown["mean"]) == (1, 5.0)
        assert stack.anonymous.get(f"/movies/{film}/reviews")["items"] == []
    assert f"tmdb-{UNKNOWN}" not in counted
    assert left.before["ratings"][f"tmdb-{UNKNOWN}"]
    # Nobody's views go on counting.
    assert views(stack) == left.before["views"]
    [row] = stack.rows(
        "SELECT count(*) AS n, count(user_id) AS users, count(session_id) AS sessions"
        " FROM compute.activity WHERE movie_id = %(film)s AND kind = 'view'",
        film=f"tmdb-{FILMS[0]}",
    )
    assert (row["n"], row["users"], row["sessions"]) == (3, 0, 0)


def test_old_events_of_theirs_change_nothing(stack: LiveStack, left: Left) -> None:
    stack.drain()
    assert {key for _, key, _ in left.published} == {
        "movie.rate.v1",
        "movie.unrate.v1",
        "movie.viewed.v1",
    }
    before = {"views": views(stack), "ratings": recount(stack)}
    later = datetime.now(UTC) + timedelta(seconds=1)
    for exchange, key, body in left.published:
        again = {**body, "id": str(uuid.uuid4())}
        newer = {**again, "id": str(uuid.uuid4()), "time": later.isoformat()}
        for event in (body, again, newer):
            assert stack.management.publish(exchange, key, json.dumps(event))
    stack.drain()
    assert {"views": views(stack), "ratings": recount(stack)} == before
    for needle in (left.user_id, REVIEW):
        assert found(stack, needle) == []
    assert stack.parked() == {}


def test_an_access_token_that_is_still_good_has_no_effect(stack: LiveStack, left: Left) -> None:
    headers = {"authorization": f"Bearer {left.access_token}"}
    for path in ("/users/me", "/users/me/export", f"/movies/{FILMS[0]}/rating"):
        answer = stack.anonymous.http.get(path, headers=headers)
        assert answer.status_code in {401, 404}, (path, answer.text)
    ratings = stack.anonymous.http.get("/users/me/ratings", headers=headers)
    assert ratings.status_code == 401 or ratings.json()["items"] == []
    rated = stack.anonymous.http.put(
        f"/movies/{FILMS[0]}/rating", json={"score": 10, "review": REVIEW}, headers=headers
    )
    assert rated.status_code in {202, 401}
    viewed = stack.anonymous.http.post("/movies/view", json={"tmdb_id": FILMS[0]}, headers=headers)
    assert viewed.status_code in {202, 401}
    before = views(stack)
    stack.drain()
    assert views(stack) == before
    recount(stack)
    assert stack.anonymous.get(f"/movies/{FILMS[0]}/ratings")["count"] == 1
    for needle in (left.user_id, REVIEW):
        eventually(
            f"no place to hold {needle[:12]}…: {found(stack, needle)}",
            lambda needle=needle: not found(stack, needle),
            seconds=10,
        )


def test_nobody_can_sign_in_as_them(stack: LiveStack, left: Left) -> None:
    refused = sign_in(stack, grant_type="password", username=NAME, password=PASSWORD)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    dead = sign_in(stack, grant_type="refresh_token", refresh_token=left.refresh_token)
    assert (dead.status_code, dead.json()["error"]) == (400, "invalid_grant")
    assert stack.anonymous.http.get(f"/users/{NAME}").status_code == 404


def test_a_key_that_they_made_is_nobodys(stack: LiveStack, left: Left) -> None:
    keys = {item["key_id"]: item for item in stack.api.get("/admin/api-keys", limit=100)["items"]}
    assert left.api_key.split("_")[1] in keys
    [row] = stack.rows(
        "SELECT count(*) AS n FROM rating.audit WHERE actor = %(id)s", id=left.user_id
    )
    assert row["n"] == 0


def test_somebody_else_may_have_the_name(stack: LiveStack, left: Left) -> None:
    other: User = stack.sign_up(NAME)
    assert other.user_id != left.user_id
    account = other.get("/users/me")
    assert (account["role"], account["ratings"]["count"]) == ("user", 0)
    assert other.get("/users/me/ratings")["items"] == []
    assert other.rate(f"{FILMS[1]}", 2.0)["processed"] is True
    assert stack.anonymous.get(f"/movies/{FILMS[1]}/ratings")["count"] == 2


def test_the_logs_hold_no_secret(stack: LiveStack) -> None:
    assert REVIEW in stack.secrets.values
    assert stack.leaks() == {}
