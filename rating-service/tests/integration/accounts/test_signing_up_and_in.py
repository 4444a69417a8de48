"""Signing up, in and out; staying signed in."""

import asyncio
import base64
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from rating_service import accounts_repository
from rating_service.accounts import RefreshToken, Tokens
from rating_service.passwords import Passwords

NOT_GOOD = "The refresh token is not good, or not any more; sign in again."


async def test_a_user_signs_up_and_in(client: Any) -> None:
    answer = await client.sign_up("Ada")
    assert answer.status_code == 201
    assert answer.json().keys() == {"name", "created_at"}
    assert answer.json()["name"] == "Ada"

    answer = await client.grant(grant_type="password", username="aDA", password="twelve brass cogs")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    tokens = answer.json()
    assert tokens.keys() == {
        "access_token", "token_type", "expires_in", "refresh_token", "refresh_expires_in",
    }  # fmt: skip
    assert (tokens["token_type"], tokens["expires_in"]) == ("bearer", 600)
    assert tokens["refresh_expires_in"] == 30 * 24 * 3600

    profile = await client.get("/users/me", tokens["access_token"])
    assert profile.headers["cache-control"] == "no-store"
    assert profile.json().keys() == {"name", "role", "created_at", "ratings"}
    assert (profile.json()["name"], profile.json()["role"]) == ("Ada", "user")
    assert profile.json()["ratings"] == {"count": 0, "mean": None}


async def test_the_access_token_says_who_for_how_long(client: Any, store: Any) -> None:
    token = await client.new_user("ada")
    [published] = (await client.get("/.well-known/jwks.json")).json()["keys"]
    assert published.keys() == {"kty", "crv", "x", "kid", "use", "alg"}
    header = jwt.get_unverified_header(token)
    assert header == {"alg": "EdDSA", "typ": "at+jwt", "kid": published["kid"]}
    claims = jwt.decode(
        token, jwt.PyJWK(published).key, algorithms=["EdDSA"], audience="moviemetric"
    )
    assert claims.keys() == {"iss", "aud", "sub", "role", "iat", "exp", "jti"}
    assert claims["iss"] == "moviemetric/rating-service"
    assert claims["sub"] == await store.user_id("ada")
    assert claims["sub"].startswith("user-")
    assert claims["role"] == "user"
    assert claims["exp"] - claims["iat"] == 600
    assert abs(claims["iat"] - datetime.now(UTC).timestamp()) < 10
    admin = jwt.decode(await client.admin(), options={"verify_signature": False})
    assert admin["role"] == "admin"
    assert admin["jti"] != claims["jti"]


async def test_names_that_collide_are_taken(client: Any, store: Any) -> None:
    assert (await client.sign_up("strauß")).status_code == 201
    for name in ("strauß", "STRAUSS", "ｓtrauss", "Strau\u1e9e"):  # noqa: RUF001 -- on purpose
        answer = await client.sign_up(name)
        assert answer.status_code == 409
        assert answer.json()["title"] == "Name taken"
        assert [problem["field"] for problem in answer.json()["errors"]] == ["name"]
    assert await store.rows("SELECT count(*) FROM users") == [(2,)]


async def test_of_many_who_want_a_name_one_gets_it(client: Any, store: Any) -> None:
    names = ["ada", "Ada", "aDa", "adA", "ADA"]
    answers = await asyncio.gather(*(client.sign_up(name) for name in names))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
    assert await store.rows("SELECT name_key FROM users WHERE name_key = 'ada'") == [("ada",)]


async def test_known_and_unknown_names_are_answered_the_same(client: Any) -> None:
    await client.new_user("ada")
    attempts = [
        {"username": "ada", "password": "not the password"},
        {"username": "nobody", "password": "not the password"},
        {"username": "no name at all!", "password": "not the password"},
        {"username": "x" * 5000, "password": "y" * 5000},
        {"username": "ada", "password": "twelve brass cogs "},
    ]
    answers = [await client.grant(grant_type="password", **attempt) for attempt in attempts]
    assert {answer.status_code for answer in answers} == {400}
    [body] = {answer.text for answer in answers}
    first, *others = [
        {name: value for name, value in answer.headers.items() if name != "date"}
        for answer in answers
    ]
    assert all(other == first for other in others)
    assert answers[0].json() == {
        "type": "about:blank",
        "title": "Not signed in",
        "status": 400,
        "detail": "The name or the password is wrong.",
        "error": "invalid_grant",
        "error_description": "The name or the password is wrong.",
    }
    assert "ada" not in body


async def test_a_hash_is_computed_for_unknown_names_too(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []
    verify = Passwords.verify

    async def noting(self: Passwords, password: str, hashed: str | None) -> bool:
        asked.append(hashed)
        return await verify(self, password, hashed)

    monkeypatch.setattr(Passwords, "verify", noting)
    for name in ("root", "nobody", "no name at all!"):
        await client.grant(grant_type="password", username=name, password="not the password")
    assert [hashed is None for hashed in asked] == [False, True, True]


async def test_a_refresh_token_is_good_once(client: Any, store: Any) -> None:
    await client.sign_up("ada")
    first = await client.sign_in("ada")
    answer = await client.refresh(first["refresh_token"])
    assert answer.status_code == 200
    second = answer.json()
    assert second["refresh_token"] != first["refresh_token"]
    assert second["access_token"] != first["access_token"]
    assert (await client.get("/users/me", second["access_token"])).status_code == 200

    other = await client.sign_in("ada")
    reused = await client.refresh(first["refresh_token"])
    assert (reused.status_code, reused.json()["error"]) == (400, "invalid_grant")
    assert reused.json()["error_description"] == NOT_GOOD
    # Whoever holds the newest one is signed out, too; the other session goes on.
    assert (await client.refresh(second["refresh_token"])).status_code == 400
    assert (await client.refresh(other["refresh_token"])).status_code == 200
    assert await store.rows("SELECT count(*) FROM sessions") == [(1,)]


@pytest.mark.parametrize("uses", [2, 3, 8])
async def test_of_simultaneous_uses_one_succeeds_and_the_session_ends(
    client: Any, store: Any, uses: int
) -> None:
    await client.sign_up("ada")
    tokens = await client.sign_in("ada")
    answers = await asyncio.gather(*(client.refresh(tokens["refresh_token"]) for _ in range(uses)))
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * (uses - 1)
    [winner] = [answer for answer in answers if answer.status_code == 200]
    assert (await client.refresh(winner.json()["refresh_token"])).status_code == 400
    assert await store.rows("SELECT * FROM sessions") == []


async def test_only_digests_of_refresh_tokens_are_stored(client: Any, store: Any) -> None:
    await client.sign_up("ada")
    token = (await client.sign_in("ada"))["refresh_token"]
    [(selector, digest)] = await store.rows("SELECT selector, token_digest FROM sessions")
    raw = base64.urlsafe_b64decode(token)
    assert raw[:16] == selector
    assert raw[16:] not in digest
    assert len(raw[16:]) == 32


@pytest.mark.parametrize("token", ["x", "A" * 64, "A" * 63 + "=", "ž" * 64, "A" * 65, "A" * 60_000])
async def test_what_is_no_refresh_token_is_not_good(client: Any, token: str) -> None:
    answer = await client.refresh(token)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_an_expired_refresh_token_is_not_good(client: Any, store: Any) -> None:
    await client.sign_up("ada")
    tokens = await client.sign_in("ada")
    await store.execute(
        "UPDATE sessions SET last_used_at = now() - interval '31 days',"
        " expires_at = now() - interval '1 second'"
    )
    assert (await client.refresh(tokens["refresh_token"])).status_code == 400


async def test_expired_sessions_are_forgotten(client: Any, store: Any, service: Any) -> None:
    await client.sign_up("ada")
    for _ in range(3):
        await client.sign_in("ada")
    await store.execute(
        "UPDATE sessions SET last_used_at = now() - interval '31 days',"
        " expires_at = now() - interval '1 second'"
    )
    kept = await client.sign_in("ada")
    [forget] = [job.run for job in service._periodics]  # pyright: ignore[reportPrivateUsage]
    await forget()
    assert await store.rows("SELECT count(*) FROM sessions") == [(1,)]
    assert (await client.refresh(kept["refresh_token"])).status_code == 200


async def test_signing_out_ends_the_session_and_tells_nothing(client: Any) -> None:
    await client.sign_up("ada")
    gone, kept = await client.sign_in("ada"), await client.sign_in("ada")
    for token in (gone["refresh_token"], gone["refresh_token"], "no token", "A" * 64):
        answer = await client.request("POST", "/auth/revoke", data={"token": token})
        assert (answer.status_code, answer.json()) == (200, {})
        assert answer.headers["cache-control"] == "no-store"
    assert (await client.refresh(gone["refresh_token"])).status_code == 400
    assert (await client.refresh(kept["refresh_token"])).status_code == 200


async def test_a_user_has_fifty_sessions_at_most(client: Any, store: Any) -> None:
    await client.sign_up("ada")
    oldest = await client.sign_in("ada")
    second = await client.sign_in("ada")
    await asyncio.gather(*(client.sign_in("ada") for _ in range(48)))
    oldest = (await client.refresh(oldest["refresh_token"])).json()
    await asyncio.gather(*(client.sign_in("ada") for _ in range(10)))
    assert await store.rows("SELECT count(*) FROM sessions") == [(50,)]
    assert (await client.refresh(oldest["refresh_token"])).status_code == 200
    assert (await client.refresh(second["refresh_token"])).status_code == 400


async def test_a_new_password_signs_out_everywhere(client: Any, store: Any) -> None:
    await client.sign_up("ada")
    one, other = await client.sign_in("ada"), await client.sign_in("ada")
    body = {"current_password": "twelve brass cogs", "new_password": "thirteen tin soldiers"}
    answer = await client.request("PUT", "/users/me/password", token=one["access_token"], json=body)
    assert (answer.status_code, answer.content) == (204, b"")
    for tokens in (one, other):
        assert (await client.refresh(tokens["refresh_token"])).status_code == 400
    old = await client.grant(grant_type="password", username="ada", password="twelve brass cogs")
    assert old.status_code == 400
    await client.sign_in("ada", "thirteen tin soldiers")
    [(created, changed)] = await store.rows(
        "SELECT created_at, password_changed_at FROM users WHERE name = 'ada'"
    )
    assert created < changed


async def test_changing_needs_the_password_and_a_good_new_one(client: Any) -> None:
    token = await client.new_user("ada")
    for current, new, status, field in [
        ("not the password", "thirteen tin soldiers", 403, None),
        ("twelve brass cogs", "short one", 422, "new_password"),
        ("twelve brass cogs", "qwertyuiop", 422, "new_password"),
        ("twelve brass cogs", "ada ada ada", 422, "new_password"),
        ("twelve\x00brass cogs", "thirteen tin soldiers", 422, "current_password"),
    ]:
        body = {"current_password": current, "new_password": new}
        answer = await client.request("PUT", "/users/me/password", token=token, json=body)
        assert answer.status_code == status
        fields = [problem["field"] for problem in answer.json().get("errors", [])]
        assert fields == ([field] if field else [])
    await client.sign_in("ada")


async def test_nobody_is_let_in_with_a_password_that_changes_meanwhile(
    client: Any, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await client.new_user("ada")
    lock = accounts_repository.lock_with_password
    body = {"current_password": "twelve brass cogs", "new_password": "thirteen tin soldiers"}

    async def late(*arguments: Any) -> Any:
        # The password is verified; before the session starts, another one is set.
        changed = await client.request("PUT", "/users/me/password", token=token, json=body)
        assert changed.status_code == 204
        return await lock(*arguments)

    monkeypatch.setattr(accounts_repository, "lock_with_password", late)
    answer = await client.grant(grant_type="password", username="ada", password="twelve brass cogs")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert await store.rows("SELECT * FROM sessions") == []


async def test_hashes_with_old_parameters_are_renewed_at_sign_in(client: Any, store: Any) -> None:
    await client.sign_up("ada")
    old = Passwords(memory_kib=16, time_cost=2, parallelism=1, threads=1, queue=1)
    await store.execute(
        "UPDATE users SET password_hash = :hash WHERE name = 'ada'",
        hash=await old.hash("twelve brass cogs"),
    )
    await old.close()
    for _ in range(2):
        await client.sign_in("ada")
    [(hashed,)] = await store.rows("SELECT password_hash FROM users WHERE name = 'ada'")
    assert hashed.startswith("$argon2id$v=19$m=8,t=1,p=1$")


def test_tokens_do_not_show_in_representations() -> None:
    token = RefreshToken.new()
    tokens = Tokens(
        access_token="an access token",
        expires_in=1,
        refresh_token=str(token),
        refresh_expires_in=1,
    )
    assert str(token) not in repr(tokens) + repr(token)
    assert "an access token" not in repr(tokens)
    assert RefreshToken.parse(str(token)) == token
