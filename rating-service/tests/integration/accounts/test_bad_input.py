"""What is not valid: clear answers, nothing stored, nothing told to others, nothing secret said."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

FORM = "application/x-www-form-urlencoded"
GOOD_FORM = "grant_type=password&username=root&password=nine+copper+kettles"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"name": "ad", "password": "twelve brass cogs"}, ["name"]),
        ({"name": "me", "password": "twelve brass cogs"}, ["name"]),
        ({"name": "a b c", "password": "twelve brass cogs"}, ["name"]),
        ({"name": "ad\x00a", "password": "twelve brass cogs"}, ["name"]),
        ({"name": "ad\ud800a", "password": "twelve brass cogs"}, ["name"]),
        ({"name": 1815, "password": "twelve brass cogs"}, ["name"]),
        ({"name": None, "password": "twelve brass cogs"}, ["name"]),
        ({"name": "ada", "password": "too short"}, ["password"]),
        ({"name": "ada", "password": "passw0rd\x00passw0rd"}, ["password"]),
        ({"name": "ada", "password": "passw0rd\ud800passw0rd"}, ["password"]),
        ({"name": "ada", "password": "manchester"}, ["password"]),
        ({"name": "manchester1", "password": "Manchester1"}, ["password"]),
        ({"name": "ada", "password": ["twelve brass cogs"]}, ["password"]),
        ({"name": "ada"}, ["password"]),
        ({"name": "ada", "password": "twelve brass cogs", "role": "admin"}, ["role"]),
        ({}, ["name", "password"]),
        ([], ["body"]),
        ("ada", ["body"]),
        (None, ["body"]),
    ],
)
async def test_who_cannot_sign_up(client: Any, store: Any, body: Any, fields: list[str]) -> None:
    client.note(body)
    answer = await client.request(
        "POST",
        "/users",
        content=json.dumps(body),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 422, answer.text
    assert [problem["field"] for problem in answer.json()["errors"]] == fields
    assert await store.rows("SELECT name FROM users") == [("root",)]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"name": "ada", "password": ' + b"[" * 30_000,
        b'{"name": "ada", "password": ' + b"9" * 30_000 + b"}",
        b'{"name": "ada", "password": NaN}',
        b"name=ada&password=twelve+brass+cogs",
    ],
)
@pytest.mark.parametrize("content_type", ["application/json", FORM, "text/plain", None])
async def test_what_is_no_json(
    client: Any, store: Any, raw: bytes, content_type: str | None
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    answer = await client.request("POST", "/users", content=raw, headers=headers)
    assert answer.status_code in (400, 422), answer.text
    assert len(answer.content) < 2_000
    assert await store.rows("SELECT name FROM users") == [("root",)]


@pytest.mark.parametrize(
    ("raw", "error", "named"),
    [
        (b"", "invalid_request", "grant_type"),
        (b"grant_type=", "invalid_request", "grant_type"),
        (b"grant_type=password", "invalid_request", "username"),
        (b"grant_type=password&username=root", "invalid_request", "password"),
        (b"grant_type=password&username=root&password=", "invalid_request", "password"),
        (b"grant_type=refresh_token", "invalid_request", "refresh_token"),
        (b"grant_type=client_credentials", "unsupported_grant_type", "grant_type"),
        (b"grant_type=PASSWORD", "unsupported_grant_type", "grant_type"),
        (GOOD_FORM.encode() + b"&username=ada", "invalid_request", "more than once"),
        (GOOD_FORM.encode() + b"&password=", "invalid_request", "more than once"),
        (GOOD_FORM.encode() + b"&scope=a%00b", "invalid_request", "NUL"),
        (b"grant_type=password&username=%ff&password=x", "invalid_request", "UTF-8"),
        (b"grant_type=password&username=\xff&password=x", "invalid_request", "UTF-8"),
        (b"&".join(b"a%d=1" % number for number in range(30)), "invalid_request", "parameters"),
    ],
)
async def test_forms_that_ask_for_nothing(
    client: Any, store: Any, raw: bytes, error: str, named: str
) -> None:
    answer = await client.request(
        "POST", "/auth/token", content=raw, headers={"content-type": FORM}
    )
    assert answer.status_code == 400
    assert answer.headers["cache-control"] == "no-store"
    problem = answer.json()
    assert problem["error"] == error
    assert named in problem["error_description"]
    assert await store.rows("SELECT * FROM sessions") == []


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data", None])
async def test_a_form_says_that_it_is_one(client: Any, content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    for path in ("/auth/token", "/auth/revoke"):
        answer = await client.request("POST", path, content=GOOD_FORM.encode(), headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_what_a_form_does_not_know_is_ignored(client: Any) -> None:
    form = f"{GOOD_FORM}&scope=&client_id=swagger&client_secret="
    answer = await client.request(
        "POST",
        "/auth/token",
        content=form.encode(),
        headers={"content-type": f"{FORM}; charset=utf-8"},
    )
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/users"),
        ("POST", "/auth/token"),
        ("POST", "/auth/revoke"),
        ("DELETE", "/users/me"),
    ],
)
async def test_large_bodies_are_refused(client: Any, method: str, path: str) -> None:
    token = await client.admin()
    body = b"x" * 65_537
    answer = await client.request(method, path, content=body, token=token)
    assert (answer.status_code, answer.json()["title"]) == (413, "Body too large")

    async def pieces() -> Any:
        for _ in range(65):
            yield b"x" * 1024

    assert (await client.request(method, path, content=pieces())).status_code == 413
    largest = await client.request(method, path, content=body[:-1], token=token)
    assert largest.status_code in (400, 422)


async def test_tokens_that_prove_nothing(client: Any, store: Any, service: Any) -> None:
    good = await client.new_user("ada")
    assert (await client.get("/users/me", good)).status_code == 200
    [published] = (await client.get("/.well-known/jwks.json")).json()["keys"]
    header, payload, signature = good.split(".")
    claims = jwt.decode(good, options={"verify_signature": False})
    now = datetime.now(UTC)
    key = Ed25519PrivateKey.generate()

    def signed(changes: dict[str, Any], **headers: Any) -> str:
        body = {**claims, **changes}
        body = {name: value for name, value in body.items() if value is not None}
        return jwt.encode(
            body,
            key,
            algorithm="EdDSA",
            headers={"typ": "at+jwt", "kid": published["kid"], **headers},
        )

    forged = [
        "x",
        "a.b.c",
        f"{header}.{payload}.",
        f"{header}.{payload}.{signature[:-4]}AAAA",
        signed({}),
        signed({}, kid="elsewhere"),
        signed({}, kid="../../etc/passwd"),
        signed({"role": "admin"}),
        jwt.encode(
            claims, "", algorithm="none", headers={"typ": "at+jwt", "kid": published["kid"]}
        ),
        jwt.encode(
            claims,
            published["x"] + "padding to thirty-two bytes and more",
            algorithm="HS256",
            headers={"typ": "at+jwt", "kid": published["kid"]},
        ),
        "A" * 10_000,
    ]
    real = await real_key(service)
    for changes, typ in (
        ({"exp": None}, "at+jwt"),
        ({"exp": now - timedelta(seconds=1)}, "at+jwt"),
        ({"aud": "elsewhere"}, "at+jwt"),
        ({"iss": "elsewhere"}, "at+jwt"),
        ({"role": "owner"}, "at+jwt"),
        ({"sub": None}, "at+jwt"),
        ({}, "JWT"),
    ):
        body = {name: value for name, value in {**claims, **changes}.items() if value is not None}
        forged.append(
            jwt.encode(body, real, algorithm="EdDSA", headers={"typ": typ, "kid": published["kid"]})
        )
    for token in forged:
        answer = await client.get("/users/me", token)
        assert answer.status_code == 401, token
        assert answer.headers["www-authenticate"].startswith('Bearer error="invalid_token"')
    somebody = jwt.encode(
        {**claims, "sub": "user-" + "0" * 32},
        real,
        algorithm="EdDSA",
        headers={"typ": "at+jwt", "kid": published["kid"]},
    )
    assert (await client.get("/users/me", somebody)).status_code == 401

    for headers in (
        {"Authorization": good},
        {"Authorization": f"Basic {good}"},
        {"Authorization": "Bearer"},
    ):
        answer = await client.get("/users/me", headers=headers)
        assert answer.status_code == 401
    twice = await client.http.get(
        "/users/me",
        headers=[("Authorization", f"Bearer {good}"), ("Authorization", f"Bearer {good}")],
    )
    assert twice.status_code == 401
    assert (await client.get("/users/me")).headers["www-authenticate"] == "Bearer"
    assert (await client.get("/users/me", headers={"Authorization": f"bearer  {good}"})).is_success
    assert await store.facts() == []


async def real_key(service: Any) -> Any:
    [path] = service.settings.token_keys_folder.glob("*.pem")
    return load_pem_private_key(path.read_bytes(), password=None)


@pytest.mark.parametrize(
    "path",
    [
        "/admin/users?limit=0",
        "/admin/users?limit=101",
        "/admin/users?offset=-1",
        "/admin/users?offset=100001",
        "/admin/users?q=" + "x" * 101,
        "/admin/api-keys?limit=x",
        "/admin/audit?actor=" + "x" * 201,
    ],
)
async def test_bad_parameters_are_named(client: Any, path: str) -> None:
    answer = await client.get(path, await client.admin())
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == path.partition("?")[2].partition("=")[0]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"key_id": "0123456789ab"},
        {"key_id": "0123456789AB", "digest": "00" * 32},
        {"key_id": "0123456789ab\n", "digest": "00" * 32},
        {"key_id": "0123456789ab", "digest": "00" * 31},
        {"key_id": "0123456789ab", "digest": "zz" * 32},
        {"key_id": "0123456789ab", "digest": "00" * 32, "scopes": []},
    ],
)
async def test_a_key_is_presented_in_its_form(client: Any, body: Any) -> None:
    answer = await client.request("POST", "/internal/api-keys/verify", json=body)
    assert answer.status_code == 422


async def test_a_key_id_that_is_never_made_is_unknown(client: Any) -> None:
    body = {"key_id": "zzzzzzzzzzzz", "digest": "00" * 32}
    answer = await client.request("POST", "/internal/api-keys/verify", json=body)
    assert answer.status_code == 404
    admin = await client.admin()
    answer = await client.request("DELETE", "/admin/api-keys/zzzzzzzzzzzz", token=admin)
    assert answer.status_code == 404


async def test_key_ids_in_paths_have_their_form(client: Any) -> None:
    admin = await client.admin()
    for key_id in ("x", "0123456789AB", "%00", "0123456789abc"):
        answer = await client.request("DELETE", f"/admin/api-keys/{key_id}", token=admin)
        assert answer.status_code == 422


async def test_the_api_describes_itself(client: Any) -> None:
    document = (await client.get("/openapi.json")).json()
    operations = {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    for method, path in [
        ("POST", "/users"),
        ("POST", "/auth/token"),
        ("DELETE", "/users/me"),
        ("PUT", "/users/me/password"),
        ("POST", "/admin/api-keys"),
    ]:
        operation = operations[method, path]
        assert operation["requestBody"]["content"]
        assert operation["responses"].keys() >= {"413", "503"}
    for (_, path), operation in operations.items():
        if path.startswith(("/admin", "/users/me")):
            assert "401" in operation["responses"], path
        if path.startswith("/admin"):
            assert "403" in operation["responses"], path
