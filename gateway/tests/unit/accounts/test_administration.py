"""Users, keys and audit: for administrators in person, recorded before they are passed on."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from service_kit import PublishError

Bearer = Callable[..., dict[str, str]]
KEY = {"name": "player", "scopes": ["events", "views"]}

ROUTES: list[tuple[str, str, Any, int]] = [
    ("GET", "/admin/users", None, 200),
    ("PUT", "/admin/users/ada/role", {"role": "admin"}, 200),
    ("DELETE", "/admin/users/ada", None, 202),
    ("GET", "/admin/api-keys", None, 200),
    ("POST", "/admin/api-keys", KEY, 201),
    ("DELETE", "/admin/api-keys/abcdef012345", None, 204),
    ("GET", "/admin/audit", None, 200),
]


@pytest.mark.parametrize("prefix", ["/api/v1", "/api", ""])
@pytest.mark.parametrize(("method", "path", "body", "status"), ROUTES)
async def test_an_administrator_is_passed_on_and_recorded(
    client: httpx.AsyncClient,
    desks: Any,
    publisher: Any,
    reply: Any,
    bearer: Bearer,
    prefix: str,
    method: str,
    path: str,
    body: Any,
    status: int,
) -> None:
    said: dict[str, Any] = {"key": "mm_abcdef012345_secret", "items": []}
    desks.rating.replies[f"{method} {path}"] = reply(said, status)
    token = bearer("user-9", role="admin")
    answer = await client.request(method, prefix + path, json=body, headers=token)
    assert answer.status_code == status
    assert answer.content == (b"" if status == 204 else json.dumps(said).encode())
    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert ("content-type" in answer.headers) == (status != 204)
    [asked] = desks.rating.asked_for(path)
    assert asked.header("authorization") == [token["Authorization"]]
    assert (json.loads(asked.body) if asked.body else None) == body
    assert publisher.events == []
    if method == "GET":
        assert publisher.audits == []
    else:
        [audit] = publisher.audits
        assert audit.actor == "user-9"
        assert audit.action.startswith(f"{method} /api/v1/admin/")
        assert "ada" not in audit.action


@pytest.mark.parametrize(("method", "path", "body", "status"), ROUTES)
async def test_others_are_refused(
    client: httpx.AsyncClient,
    desks: Any,
    publisher: Any,
    bearer: Bearer,
    method: str,
    path: str,
    body: Any,
    status: int,
) -> None:
    del status
    nobody = await client.request(method, path, json=body)
    user = await client.request(method, path, json=body, headers=bearer())
    assert (nobody.status_code, user.status_code) == (401, 403)
    assert 'error="insufficient_scope"' in user.headers["www-authenticate"]
    assert {answer.headers["cache-control"] for answer in (nobody, user)} == {"no-store"}
    assert desks.rating.asked_for(path) == []
    assert publisher.published == []


async def test_what_cannot_be_recorded_is_not_done(
    client: httpx.AsyncClient, desks: Any, publisher: Any, bearer: Bearer
) -> None:
    publisher.error = PublishError("no confirm")
    answer = await client.delete("/admin/users/ada", headers=bearer(role="admin"))
    assert answer.status_code == 503
    assert desks.rating.asked_for("/admin/users/ada") == []


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/admin/users/ada/role", {"role": "root"}, "role"),
        ("/admin/users/ada/role", {}, "role"),
        ("/admin/users/ada/role", {"role": "user", "name": "bob"}, "name"),
        ("/admin/api-keys", {"name": "x", "scopes": []}, "scopes"),
        ("/admin/api-keys", {"name": "x", "scopes": ["everything"]}, "scopes.0"),
        ("/admin/api-keys", {"name": "", "scopes": ["views"]}, "name"),
        ("/admin/api-keys", {"name": "a\x00", "scopes": ["views"]}, "name"),
        ("/admin/api-keys", {**KEY, "expires_at": "2030-01-01"}, "expires_at"),
        ("/admin/api-keys", {**KEY, "expires_at": 1900000000}, "expires_at"),
        ("/admin/api-keys", {**KEY, "key": "mm_1"}, "key"),
    ],
)
async def test_bad_bodies_are_not_passed_on(
    client: httpx.AsyncClient, desks: Any, bearer: Bearer, path: str, body: Any, field: str
) -> None:
    method = "PUT" if path.endswith("role") else "POST"
    answer = await client.request(method, path, json=body, headers=bearer(role="admin"))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field
    assert desks.rating.asked_for(path) == []


async def test_a_key_that_ends(
    client: httpx.AsyncClient, desks: Any, reply: Any, bearer: Bearer
) -> None:
    desks.rating.replies["POST /admin/api-keys"] = reply({}, 201)
    body = {**KEY, "expires_at": "2030-01-01T01:00:00+01:00"}
    await client.post("/admin/api-keys", json=body, headers=bearer(role="admin"))
    [asked] = desks.rating.asked_for("/admin/api-keys")
    assert json.loads(asked.body) == {**KEY, "expires_at": "2030-01-01T00:00:00Z"}


async def test_lists_are_asked_for_by_these_parameters(
    client: httpx.AsyncClient, desks: Any, reply: Any, bearer: Bearer
) -> None:
    admin = bearer(role="admin")
    for path, query in (("/admin/users", "q=a%26b"), ("/admin/audit", "actor=key%3Aabc")):
        desks.rating.replies[f"GET {path}"] = reply({"items": []})
        await client.get(f"{path}?{query}&limit=5&offset=10&x=1", headers=admin)
        name, value = query.split("=")
        asked = dict(httpx.URL(desks.rating.asked[-1].target).params)
        assert asked == {name: httpx.QueryParams(query)[name], "limit": "5", "offset": "10"}
        assert value
        for bad in ("limit=0", "limit=101", "offset=-1", f"{name}=%00"):
            assert (await client.get(f"{path}?{bad}", headers=admin)).status_code == 422


@pytest.mark.parametrize(
    "key_id", ["%2e%2e", "a%2fb", "..%2fusers", "A" * 12, "a%20b", "a" * 13, "%C3%A9" * 12]
)
async def test_what_is_no_keys_id_is_404(
    client: httpx.AsyncClient, desks: Any, bearer: Bearer, key_id: str
) -> None:
    path = f"/api/v1/admin/api-keys/{key_id}"
    url = httpx.URL("http://gateway").copy_with(raw_path=path.encode())
    answer = await client.delete(url, headers=bearer(role="admin"))
    assert answer.status_code == 404
    assert [asked.target for asked in desks.rating.asked] in ([], ["/.well-known/jwks.json"])


@pytest.mark.parametrize(
    ("written", "asked"),
    [("%2e%2e", ["/admin/users/%2E%2E"]), ("a%3Fb", ["/admin/users/a%3Fb"]), ("a%2F..%2Fb", [])],
)
async def test_a_users_name_stays_one_part_of_the_path(
    client: httpx.AsyncClient, desks: Any, bearer: Bearer, written: str, asked: list[str]
) -> None:
    url = httpx.URL("http://gateway").copy_with(raw_path=f"/api/v1/admin/users/{written}".encode())
    assert (await client.delete(url, headers=bearer(role="admin"))).status_code == 404
    targets = [request.target for request in desks.rating.asked if "jwks" not in request.target]
    assert targets == asked
