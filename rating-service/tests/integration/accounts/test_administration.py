"""Administrators: users, roles, API keys, and who made the first one."""

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rating_service import accounts_repository as repository
from rating_service.admins import (
    FirstAdminError,
    LastAdminError,
    ensure_admin,
    require_another_admin,
)
from rating_service.bootstrap import bootstrap
from rating_service.passwords import Passwords

# As the fixtures name it.
ADMIN = "root"
ADMIN_ROUTES = [
    ("GET", "/admin/users", None),
    ("PUT", "/admin/users/ada/role", {"role": "user"}),
    ("DELETE", "/admin/users/ada", None),
    ("GET", "/admin/api-keys", None),
    ("POST", "/admin/api-keys", {"name": "loader", "scopes": ["events"]}),
    ("DELETE", "/admin/api-keys/0123456789ab", None),
    ("GET", "/admin/audit", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ADMIN_ROUTES)
async def test_only_administrators_are_let_in(
    client: Any, method: str, path: str, body: Any
) -> None:
    nobody = await client.request(method, path, json=body)
    assert nobody.status_code == 401
    assert nobody.headers["www-authenticate"] == "Bearer"
    token = await client.new_user("ada")
    user = await client.request(method, path, json=body, token=token)
    assert user.status_code == 403
    assert user.headers["www-authenticate"].startswith('Bearer error="insufficient_scope"')


async def test_users_are_listed_by_name(client: Any) -> None:
    for name in ("Žofie", "ada", "Bob", "adam"):
        await client.sign_up(name)
    admin = await client.admin()
    page = (await client.get("/admin/users?limit=2&offset=1", admin)).json()
    assert page.keys() == {"items", "total", "limit", "offset", "as_of"}
    assert (page["total"], page["limit"], page["offset"]) == (5, 2, 1)
    assert [(user["name"], user["role"]) for user in page["items"]] == [
        ("adam", "user"),
        ("Bob", "user"),
    ]
    for part, names in {
        "ADA": ["ada", "adam"],
        "z\u030c": ["Žofie"],
        "%": [],
        "\x00": [],
        "roo": ["root"],
    }.items():
        found = (await client.get("/admin/users", admin, params={"q": part})).json()
        assert [user["name"] for user in found["items"]] == names


async def test_a_role_is_given_and_taken(client: Any) -> None:
    before = await client.new_user("Ada")
    admin = await client.admin()
    for role, status in (("admin", 200), ("user", 403)):
        answer = await client.request(
            "PUT", "/admin/users/ada/role", token=admin, json={"role": role}
        )
        assert (answer.status_code, answer.json()) == (200, {"name": "Ada", "role": role})
        # What counts is what the user is now, not what the token says.
        assert (await client.get("/admin/users", before)).status_code == status
        assert (await client.get("/users/me", before)).json()["role"] == role
    unknown = await client.request(
        "PUT", "/admin/users/eve/role", token=admin, json={"role": "user"}
    )
    assert unknown.status_code == 404


async def test_the_last_administrator_stays(client: Any, store: Any) -> None:
    admin = await client.admin()
    body = {"password": "nine copper kettles"}
    for method, path, sent in (
        ("PUT", f"/admin/users/{ADMIN}/role", {"role": "user"}),
        ("DELETE", "/admin/users/root", None),
        ("DELETE", "/users/me", body),
    ):
        answer = await client.request(method, path, token=admin, json=sent)
        assert (answer.status_code, answer.json()["title"]) == (409, "Last administrator")
    assert await store.facts() == []
    assert await store.rows("SELECT * FROM erased_users") == []
    await client.sign_up("ada")
    await client.request("PUT", "/admin/users/ada/role", token=admin, json={"role": "admin"})
    answer = await client.request("DELETE", "/users/me", token=admin, json=body)
    assert answer.status_code == 202
    assert (await client.get("/users/me", admin)).status_code == 401


@pytest.mark.parametrize("attempt", range(3))
async def test_two_administrators_cannot_put_each_other_out(
    client: Any, store: Any, attempt: int
) -> None:
    root = await client.admin()
    ada = await client.new_user("ada")
    await client.request("PUT", "/admin/users/ada/role", token=root, json={"role": "admin"})
    requests = [
        client.request("PUT", "/admin/users/ada/role", token=root, json={"role": "user"}),
        client.request("DELETE", "/admin/users/root", token=ada)
        if attempt
        else client.request("PUT", f"/admin/users/{ADMIN}/role", token=ada, json={"role": "user"}),
    ]
    answers = await asyncio.gather(*requests)
    statuses = [answer.status_code for answer in answers]
    assert sum(status < 300 for status in statuses) == 1, statuses
    assert {status for status in statuses if status >= 300} <= {401, 403, 409}
    assert await store.rows("SELECT count(*) FROM users WHERE role = 'admin'") == [(1,)]


async def test_who_waits_for_a_demotion_finds_itself_the_last(store: Any, client: Any) -> None:
    await client.sign_up("ada")
    await store.execute("UPDATE users SET role = 'admin'")
    root, ada = await store.user_id("root"), await store.user_id("ada")

    async def demote(user_id: str) -> None:
        async with store.database.transaction() as connection:
            await require_another_admin(connection, user_id, "demoted")
            await repository.set_role(connection, user_id, "user")

    async with store.database.transaction() as connection:
        await require_another_admin(connection, root, "demoted")
        await repository.set_role(connection, root, "user")
        second = asyncio.create_task(demote(ada))
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        async with asyncio.timeout(30):
            while await store.rows(waiting) == [(0,)]:  # noqa: ASYNC110 -- another process's state
                await asyncio.sleep(0.01)
    with pytest.raises(LastAdminError):
        await second


async def test_a_key_is_shown_once_and_known_by_its_digest(client: Any, store: Any) -> None:
    admin = await client.admin()
    body = {"name": "nightly loader", "scopes": ["views", "events", "views"]}
    answer = await client.request("POST", "/admin/api-keys", token=admin, json=body)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json()
    assert made.keys() == {"key_id", "key", "name", "scopes", "created_at", "expires_at"}
    prefix, key_id, secret = made["key"].split("_", 2)
    assert (prefix, key_id, len(key_id), len(secret)) == ("mm", made["key_id"], 12, 43)
    assert (made["scopes"], made["expires_at"]) == (["events", "views"], None)

    digest = hashlib.sha256(secret.encode()).hexdigest()
    known = await verify(client, key_id, digest)
    assert known.json() == {
        "key_id": key_id,
        "name": "nightly loader",
        "scopes": ["events", "views"],
    }
    wrong = hashlib.sha256(b"wrong").hexdigest()
    assert (await verify(client, key_id, wrong)).status_code == 404
    assert (await verify(client, "0123456789ab", digest)).status_code == 404
    assert (await verify(client, "0123456789ab", "00" * 32)).status_code == 404

    [stored] = await store.rows("SELECT secret_digest::text || api_keys::text FROM api_keys")
    assert secret not in stored[0]
    listed = (await client.get("/admin/api-keys", admin)).json()
    assert listed["total"] == 1
    assert listed["items"] == [
        {
            "key_id": key_id,
            "name": "nightly loader",
            "scopes": ["events", "views"],
            "created_by": "root",
            "created_at": made["created_at"],
            "expires_at": None,
            "revoked_at": None,
        }
    ]


async def verify(client: Any, key_id: str, digest: str) -> Any:
    body = {"key_id": key_id, "digest": digest}
    return await client.request("POST", "/internal/api-keys/verify", json=body)


async def test_a_revoked_or_expired_key_is_not_known(client: Any, store: Any) -> None:
    admin = await client.admin()
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    keys: list[tuple[str, str]] = []
    for name, expires_at in (("a", None), ("b", later)):
        body = {"name": name, "scopes": ["admin"], "expires_at": expires_at}
        made = (await client.request("POST", "/admin/api-keys", token=admin, json=body)).json()
        digest = hashlib.sha256(made["key"].split("_", 2)[2].encode()).hexdigest()
        assert (await verify(client, made["key_id"], digest)).status_code == 200
        keys.append((made["key_id"], digest))
    for _ in range(2):
        revoked = await client.request("DELETE", f"/admin/api-keys/{keys[0][0]}", token=admin)
        assert (revoked.status_code, revoked.content) == (204, b"")
    await store.execute(
        "UPDATE api_keys SET created_at = now() - interval '2 h', expires_at = now()"
        " WHERE expires_at IS NOT NULL"
    )
    for key_id, digest in keys:
        assert (await verify(client, key_id, digest)).status_code == 404
    unknown = await client.request("DELETE", "/admin/api-keys/0123456789ab", token=admin)
    assert unknown.status_code == 404
    listed = (await client.get("/admin/api-keys", admin)).json()["items"]
    assert {key["name"]: key["revoked_at"] is None for key in listed} == {"a": False, "b": True}


@pytest.mark.parametrize("end", ["demoted", "erased"])
async def test_who_is_no_administrator_any_more_has_no_key_of_one(client: Any, end: str) -> None:
    ada, admin = await client.new_user("Ada"), await client.admin()
    role = "/admin/users/ada/role"
    assert (await client.request("PUT", role, token=admin, json={"role": "admin"})).is_success
    keys: list[tuple[str, str]] = []
    for scope in ("admin", "events"):
        body = {"name": scope, "scopes": [scope]}
        made = (await client.request("POST", "/admin/api-keys", token=ada, json=body)).json()
        digest = hashlib.sha256(made["key"].split("_", 2)[2].encode()).hexdigest()
        keys.append((made["key_id"], digest))
    if end == "demoted":
        assert (await client.request("PUT", role, token=admin, json={"role": "user"})).is_success
    else:
        assert (await client.request("DELETE", "/admin/users/ada", token=admin)).is_success
    assert [(await verify(client, *key)).status_code for key in keys] == [404, 200]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "x" * 101),
        ("name", "a\x00b"),
        ("name", 5),
        ("scopes", []),
        ("scopes", ["everything"]),
        ("scopes", "events"),
        ("expires_at", "2020-01-01T00:00:00Z"),
        ("expires_at", "2999-01-01T00:00:00"),
        ("expires_at", 32_503_680_000),
        ("expires_at", "0001-01-01T00:00:00+14:00"),
        ("expires_at", "soon"),
        ("colour", "red"),
    ],
)
async def test_a_key_that_makes_no_sense_is_refused(client: Any, field: str, value: Any) -> None:
    admin = await client.admin()
    body = {"name": "loader", "scopes": ["events"], field: value}
    answer = await client.request("POST", "/admin/api-keys", token=admin, json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"].split(".")[0] == field
    assert (await client.get("/admin/api-keys", admin)).json()["total"] == 0


async def test_the_first_administrator_is_made_once(service: Any, store: Any, client: Any) -> None:
    await asyncio.gather(*(prepare() for prepare in service.on_migrate for _ in range(3)))
    assert await store.rows("SELECT name, role FROM users") == [("root", "admin")]
    # Their password is theirs from then on.
    admin = await client.admin()
    body = {"current_password": "nine copper kettles", "new_password": "ten silver spoons"}
    await client.request("PUT", "/users/me/password", token=admin, json=body)
    for prepare in service.on_migrate:
        await prepare()
    await client.sign_in("root", "ten silver spoons")


async def test_of_several_that_migrate_at_once_one_makes_the_administrator(store: Any) -> None:
    await store.execute("DELETE FROM users")
    passwords = Passwords(memory_kib=8, time_cost=1, parallelism=1, threads=4, queue=4)
    await asyncio.gather(
        *(
            ensure_admin(store.database, passwords, name="chief", password="ten silver spoons")
            for _ in range(4)
        )
    )
    assert await store.rows("SELECT name, role FROM users") == [("chief", "admin")]
    await passwords.close()


@pytest.mark.parametrize(
    ("name", "password", "reason"),
    [
        ("x", "ten silver spoons", "FIRST_ADMIN_NAME must have 3 to 30"),
        ("chief", "qwertyuiop", "FIRST_ADMIN_PASSWORD is one of the most common"),
        ("ADA", "ten silver spoons", "FIRST_ADMIN_NAME: ADA is a user already"),
    ],
)
async def test_settings_that_make_no_administrator(
    client: Any, store: Any, name: str, password: str, reason: str
) -> None:
    await client.sign_up("ada")
    await store.execute("DELETE FROM users WHERE role = 'admin'")
    passwords = Passwords(memory_kib=8, time_cost=1, parallelism=1, threads=1, queue=1)
    with pytest.raises(FirstAdminError, match=reason) as refusal:
        await ensure_admin(store.database, passwords, name=name, password=password)
    assert password not in str(refusal.value)
    assert await store.rows("SELECT name, role FROM users") == [("ada", "user")]
    await passwords.close()


async def test_migrate_ends_with_what_is_wrong_with_the_settings(service: Any, store: Any) -> None:
    await store.execute("DELETE FROM users")
    other = bootstrap(service.settings.model_copy(update={"first_admin_name": "x"}))
    make_key, make_admin = other.on_migrate
    await make_key()
    with pytest.raises(SystemExit) as end:
        await make_admin()
    await other.close()
    assert end.value.code == "rating-service: FIRST_ADMIN_NAME must have 3 to 30 characters"
