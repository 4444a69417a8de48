"""Erasure and export: what is held of a user, and what is left."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from moviemetric_contracts import AdminActed, Event, RateMovie, UserErased

NOW = datetime.now(UTC)


def acted(actor: str, action: str = "POST /admin/users", *, hour: int = 1) -> Event[AdminActed]:
    data = AdminActed(
        actor=actor,
        action=action,
        acted_at=datetime(2025, 1, 1, hour, tzinfo=UTC),
        address="192.0.2.7",
    )
    return Event.of(data, source="/gateway", time=NOW)


def rated(user_id: str, movie_id: str = "tmdb-1", score: float = 8.0) -> Event[RateMovie]:
    data = RateMovie(movie_id=movie_id, user_id=user_id, score=score, review="Twice.")
    return Event.of(data, source="/gateway", time=NOW)


@pytest.fixture
async def ada(client: Any, store: Any) -> tuple[str, str]:
    """(token, user id) of an administrator who has rated, made a key, and done something."""
    token = await client.new_user("ada")
    user_id = await store.user_id("ada")
    await store.execute("UPDATE users SET role = 'admin' WHERE name = 'ada'")
    body = {"name": "loader", "scopes": ["events"]}
    await client.request("POST", "/admin/api-keys", token=token, json=body)
    await store.deliver([acted(user_id), acted("key:0123456789ab", hour=2)])
    await store.deliver([rated(user_id), rated(user_id, "tmdb-2", 6.0), rated("somebody")])
    await store.execute("DELETE FROM outbox")
    return token, user_id


async def test_the_export_has_everything(client: Any, ada: tuple[str, str]) -> None:
    token, user_id = ada
    answer = await client.get("/users/me/export", token)
    assert answer.headers["cache-control"] == "no-store"
    export = answer.json()
    assert export.keys() == {"account", "sessions", "ratings", "api_keys", "audit", "as_of"}
    assert export["account"].keys() == {
        "user_id", "name", "role", "created_at", "password_changed_at",
    }  # fmt: skip
    assert (export["account"]["user_id"], export["account"]["name"]) == (user_id, "ada")
    [session] = export["sessions"]
    assert session.keys() == {"created_at", "last_used_at", "expires_at"}
    assert [key["name"] for key in export["api_keys"]] == ["loader"]
    assert export["audit"] == [
        {
            "action": "POST /admin/users",
            "acted_at": "2025-01-01T01:00:00Z",
            "address": "192.0.2.7",
        }
    ]
    ratings = {rating["movie_id"]: rating for rating in export["ratings"]}
    assert ratings.keys() == {"tmdb-1", "tmdb-2"}
    assert (ratings["tmdb-1"]["score"], ratings["tmdb-1"]["review"]) == (8.0, "Twice.")
    own = (await client.get("/users/me", token)).json()
    assert own["ratings"] == {"count": 2, "mean": 7.0}


async def test_the_public_profile_names_no_id(client: Any, ada: tuple[str, str]) -> None:
    answer = await client.get("/users/ADA")
    assert answer.status_code == 200
    profile = answer.json()
    assert profile.keys() == {"name", "created_at", "ratings"}
    assert (profile["name"], profile["ratings"]["count"], profile["ratings"]["mean"]) == (
        "ada",
        2,
        7.0,
    )
    histogram = profile["ratings"]["histogram"]
    assert {score: count for score, count in histogram.items() if count} == {"6.0": 1, "8.0": 1}
    assert len(histogram) == 20
    assert ada[1] not in answer.text
    for name in ("eve", "x", "a b c", "%00%00%00", "%ff%fe%fd", "x" * 400):
        assert (await client.get(f"/users/{name}")).status_code == 404


async def test_who_leaves_is_forgotten(client: Any, store: Any, ada: tuple[str, str]) -> None:
    token, user_id = ada
    tokens = await client.sign_in("ada")
    wrong = await client.request(
        "DELETE", "/users/me", token=token, json={"password": "not the password"}
    )
    assert (wrong.status_code, wrong.json()["title"]) == (403, "Wrong password")
    assert await store.facts() == []

    answer = await client.request(
        "DELETE", "/users/me", token=token, json={"password": "twelve brass cogs"}
    )
    assert answer.status_code == 202
    event_id = answer.json()["event_id"]
    assert answer.json() == {"event_id": event_id, "status_url": f"/api/v1/events/{event_id}"}
    facts = await store.facts()
    [erased] = [fact for fact in facts if isinstance(fact.data, UserErased)]
    assert (erased.id, erased.data.user_id) == (event_id, user_id)

    for path in ("/users/me", "/users/me/export"):
        refused = await client.get(path, token)
        assert refused.status_code == 401
        assert 'error="invalid_token"' in refused.headers["www-authenticate"]
    assert (await client.get("/users/ada")).status_code == 404
    assert (await client.refresh(tokens["refresh_token"])).status_code == 400
    signed_in = await client.grant(
        grant_type="password", username="ada", password="twelve brass cogs"
    )
    assert signed_in.status_code == 400
    assert await mentions(store, user_id) == ["outbox"]
    assert await mentions(store, "192.0.2.7") == ["audit"]  # the other's
    assert await store.rows("SELECT actor, address FROM audit ORDER BY acted_at") == [
        ("erased", None),
        ("key:0123456789ab", "192.0.2.7"),
    ]
    assert await store.rows("SELECT created_by, revoked_at FROM api_keys") == [("erased", None)]
    assert await store.rows("SELECT user_id FROM ratings") == [("somebody",)]

    # What comes of theirs afterwards has no effect; nor has the event itself.
    await store.deliver([rated(user_id, "tmdb-3")])
    await store.deliver([acted(user_id, "DELETE /late", hour=3)])
    before = len(await store.facts())
    await store.deliver([erased])
    assert await mentions(store, user_id) == ["outbox"]
    assert len(await store.facts()) == before
    assert ("erased", None) in await store.rows("SELECT actor, address FROM audit")

    # The name is free; who takes it now is somebody else.
    await client.new_user("ada")
    assert await store.user_id("ada") != user_id
    assert (await client.get("/users/me", token)).status_code == 401


async def mentions(store: Any, text: str) -> list[str]:
    """The tables that hold it."""
    tables = await store.rows(
        "SELECT table_name FROM information_schema.tables"
        " WHERE table_schema = 'rating' ORDER BY table_name"
    )
    return [
        table
        for (table,) in tables
        if await store.rows(
            f"SELECT 1 FROM {table} AS row WHERE strpos(row::text, :text) > 0",  # noqa: S608
            text=text,
        )
    ]


async def test_an_administrator_erases_somebody(client: Any, store: Any) -> None:
    token = await client.new_user("Bob")
    user_id = await store.user_id("Bob")
    admin = await client.admin()
    answer = await client.request("DELETE", "/admin/users/bob", token=admin)
    assert answer.status_code == 202
    [fact] = await store.facts()
    assert (fact.id, fact.data) == (answer.json()["event_id"], UserErased(user_id=user_id))
    assert (await client.get("/users/me", token)).status_code == 401
    again = await client.request("DELETE", "/admin/users/bob", token=admin)
    assert again.status_code == 404


async def test_users_without_an_account_are_forgotten_too(store: Any) -> None:
    await store.deliver([rated("movielens-7"), rated("movielens-8")])
    erasures = [
        Event.of(UserErased(user_id=user_id), source="/test", time=NOW)
        for user_id in ("movielens-7", "movielens-9", "movielens-7")
    ]
    await store.deliver(erasures)
    await store.deliver([rated("movielens-7", "tmdb-5")])
    assert await store.rows("SELECT user_id FROM ratings") == [("movielens-8",)]
    assert await store.rows("SELECT count(*) FROM erased_users") == [(2,)]


async def test_an_erasure_and_ratings_at_the_same_time(client: Any, store: Any) -> None:
    token = await client.new_user("ada")
    user_id = await store.user_id("ada")
    ratings = [rated(user_id, f"tmdb-{number}") for number in range(1, 41)]
    leaving = client.request(
        "DELETE", "/users/me", token=token, json={"password": "twelve brass cogs"}
    )
    answer, *_ = await asyncio.gather(
        leaving, *(store.deliver(ratings[start : start + 5]) for start in range(0, 40, 5))
    )
    assert answer.status_code == 202
    assert await store.rows("SELECT * FROM ratings") == []


async def test_the_audit_is_listed_newest_first(
    client: Any, store: Any, ada: tuple[str, str]
) -> None:
    _, user_id = ada
    again = acted(user_id, "PUT /admin/users/{name}/role", hour=5)
    await store.deliver([again, acted("erased-elsewhere", hour=4)])
    await store.deliver([again])
    admin = await client.admin()
    page = (await client.get("/admin/audit?limit=3", admin)).json()
    assert (page["total"], page["limit"], page["offset"]) == (4, 3, 0)
    assert [(item["actor"], item["acted_at"][11:13]) for item in page["items"]] == [
        ("ada", "05"),
        ("erased-elsewhere", "04"),
        ("key:0123456789ab", "02"),
    ]
    assert page["items"][0] == {
        "actor": "ada",
        "action": "PUT /admin/users/{name}/role",
        "acted_at": "2025-01-01T05:00:00Z",
        "address": "192.0.2.7",
    }
    for actor, hours in {
        "ADA": ["05", "01"],
        "key:0123456789ab": ["02"],
        "nobody": [],
        "\x00": [],
        "ada\x00": [],
    }.items():
        page = (await client.get("/admin/audit", admin, params={"actor": actor})).json()
        assert [item["acted_at"][11:13] for item in page["items"]] == hours
        assert page["total"] == len(hours)
