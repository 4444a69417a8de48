"""Every route and everybody, under every prefix: who is let in; the others leave no trace."""

import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi.routing import APIRoute
from gateway.bootstrap import bootstrap
from gateway.policies import policy_of
from gateway.prefixes import AT_ROOT
from gateway.settings import Settings
from service_kit import PublishError
from starlette.routing import Route

PREFIXES = ["/api/v1", "/api", ""]

# What each route needs. A route that is missing here, or in the code, is a route left open.
NEEDED = {
    ("GET", "/ping"): "open",
    ("POST", "/movies/view"): "views",
    ("POST", "/movies/register"): "commands",
    ("POST", "/movies/{movie_id}/refresh"): "commands",
    ("POST", "/movies/trigger_external_update/{movie_id}"): "commands",
    ("POST", "/events"): "events",
    ("GET", "/events/{event_id}"): "reads",
    ("GET", "/movies"): "reads",
    ("GET", "/movies/trending"): "reads",
    ("GET", "/movies/rising"): "reads",
    ("GET", "/movies/{movie_id}"): "reads",
    ("GET", "/movies/{movie_id}/chart-history"): "reads",
    ("GET", "/movies/{movie_id}/recommendations"): "reads",
    ("GET", "/recommendations"): "reads",
    ("GET", "/analytics/top-genres"): "reads",
    ("GET", "/analytics/ratings-by-decade"): "reads",
    ("GET", "/movies/{movie_id}/trend"): "reads",
    ("GET", "/movies/{movie_id}/ratings"): "reads",
    ("GET", "/movies/{movie_id}/reviews"): "reads",
    ("GET", "/movies/{movie_id}/rating"): "account",
    ("PUT", "/movies/{movie_id}/rating"): "ratings",
    ("DELETE", "/movies/{movie_id}/rating"): "ratings",
    ("POST", "/ratings"): "ratings",
    ("GET", "/search"): "reads",
    ("GET", "/search/suggest"): "reads",
    ("POST", "/search/opened"): "views",
    ("GET", "/analytics/top-searches"): "admin",
    ("GET", "/admin/search/drift"): "admin",
    ("POST", "/admin/search/build-index"): "admin",
    ("POST", "/admin/search/repair"): "admin",
    ("GET", "/stream"): "live",
    ("POST", "/users"): "signups",
    ("POST", "/auth/token"): "logins",
    ("POST", "/auth/revoke"): "logins",
    ("GET", "/.well-known/jwks.json"): "reads",
    ("GET", "/users/{name}"): "reads",
    ("GET", "/users/me"): "account",
    ("DELETE", "/users/me"): "account",
    ("PUT", "/users/me/password"): "account",
    ("GET", "/users/me/ratings"): "account",
    ("GET", "/users/me/export"): "account",
    ("GET", "/users/me/recommendations"): "account",
    ("GET", "/admin/users"): "human admin",
    ("PUT", "/admin/users/{name}/role"): "human admin",
    ("DELETE", "/admin/users/{name}"): "human admin",
    ("GET", "/admin/api-keys"): "human admin",
    ("POST", "/admin/api-keys"): "human admin",
    ("DELETE", "/admin/api-keys/{key_id}"): "human admin",
    ("GET", "/admin/audit"): "human admin",
    ("POST", "/upload"): "admin",
    ("POST", "/admin/ingest/run"): "admin",
    ("POST", "/admin/compute/{artifact}"): "admin",
    ("GET", "/admin/schedules"): "admin",
    ("GET", "/admin/jobs"): "admin",
    ("GET", "/admin/jobs/{job_id}"): "admin",
    ("GET", "/admin/jobs/{job_id}/rejects"): "admin",
    ("POST", "/admin/jobs/{job_id}/cancel"): "admin",
    ("POST", "/admin/jobs/{job_id}/retry"): "admin",
}

GOOD = ("nobody", "user", "admin", "key", "key events", "key views", "key movies", "key admin")
# 0 is let in.
REFUSED: dict[str, dict[str, int]] = {
    "open": {},
    "reads": {},
    "signups": {},
    "logins": {},
    "views": {"key": 403, "key events": 403, "key movies": 403},
    "commands": {"key": 403, "key events": 403, "key views": 403},
    "events": {"nobody": 401, "user": 403, "key": 403, "key views": 403, "key movies": 403},
    "ratings": {"nobody": 401, **dict.fromkeys(GOOD[3:], 403)},
    "account": {"nobody": 401, **dict.fromkeys(GOOD[3:], 403)},
    "admin": {"nobody": 401, "user": 403, **dict.fromkeys(GOOD[3:7], 403)},
    "human admin": {"nobody": 401, "user": 403, **dict.fromkeys(GOOD[3:], 403)},
}
# Where credentials are not looked at, bad ones do no harm.
UNSEEN = {"open", "reads", "signups", "logins"}
# A stream does not end by itself.
ENDLESS = "/stream"
SAMPLES = {
    "movie_id": "tmdb-5",
    "job_id": "import-" + "0" * 32,
    "event_id": "0b6b5f0e-6a0f-5d7e-9f39-6f0f6f1c9f4e",
    "name": "somebody",
    "key_id": "0123456789ab",
    "artifact": "trending",
}


def part(fields: object) -> str:
    raw = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def hs256(signer: Any, secret: bytes) -> str:
    """A token signed with what everybody knows, by hand, because the library refuses to."""
    head = {"alg": "HS256", "typ": "at+jwt", "kid": signer.kid}
    signed = f"{part(head)}.{part(signer.claims('user-1', 'admin', 600))}"
    return f"{signed}.{part(hmac.digest(secret, signed.encode(), 'sha256'))}"


def pem_of(signer: Any) -> bytes:
    return signer.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def none_token(signer: Any, alg: str = "none") -> str:
    head = {"alg": alg, "typ": "at+jwt", "kid": signer.kid}
    return f"{part(head)}.{part(signer.claims('user-1', 'admin', 600))}."


def forged(signer: Any, **headers: Any) -> str:
    """Signed with another key, which the header brings along or points to."""
    other = type(signer)()
    return other.token("user-1", "admin", headers={"kid": signer.kid, **headers})


def tampered(signer: Any) -> str:
    head, _, signature = signer.token("user-1", "user").split(".")
    return f"{head}.{part(signer.claims('user-1', 'admin', 600))}.{signature}"


def with_kid(kid: str) -> Callable[[Any], str]:
    return lambda signer: signer.token("user-1", "admin", headers={"kid": kid})


BAD: dict[str, Callable[[Any], str]] = {
    "expired": lambda signer: signer.token("user-1", "admin", seconds=-5),
    "without exp": lambda signer: signer.token("user-1", "admin", without=["exp"]),
    "without sub": lambda signer: signer.token("user-1", "admin", without=["sub"]),
    "without role": lambda signer: signer.token("user-1", "admin", without=["role"]),
    "exp as text": lambda signer: signer.token("user-1", "admin", exp="tomorrow"),
    "alg none": none_token,
    "alg None": lambda signer: none_token(signer, "None"),
    "another key": lambda signer: type(signer)().token("user-1", "admin"),
    "another key with this kid": forged,
    "a key of its own in jwk": lambda signer: forged(signer, jwk=type(signer)().jwk),
    "a key elsewhere in jku": lambda signer: forged(signer, jku="http://127.0.0.1:9/jwks.json"),
    "HS256 with the PEM": lambda signer: hs256(signer, pem_of(signer)),
    "HS256 with the bytes": lambda signer: hs256(
        signer, signer.private.public_key().public_bytes_raw()
    ),
    "HS256 with the JWK's x": lambda signer: hs256(signer, signer.jwk["x"].encode()),
    "kid a path": with_kid("../../../../dev/null"),
    "kid a URL": with_kid("http://127.0.0.1:9/jwks.json"),
    "kid SQL": with_kid("' UNION SELECT 'x"),
    "kid unknown": with_kid("0" * 43),
    "kid absent": lambda signer: jwt.encode(
        signer.claims("user-1", "admin", 600), signer.private, "EdDSA", headers={"typ": "at+jwt"}
    ),
    "wrong iss": lambda signer: signer.token("user-1", "admin", iss="https://elsewhere"),
    "wrong aud": lambda signer: signer.token("user-1", "admin", aud="another"),
    "wrong typ": lambda signer: signer.token("user-1", "admin", headers={"typ": "JWT"}),
    "unknown role": lambda signer: signer.token("user-1", "root"),
    "not yet": lambda signer: signer.token("user-1", "admin", nbf=4_000_000_000),
    "tampered": tampered,
    "a refresh token": lambda _: "k3x9" * 10 + "abc",
    "no token": lambda _: "a.b.c",
    "too long": lambda signer: signer.token("user-1", "admin", jti="x" * 5000),
}
BAD_HEADERS = {
    "Basic": {"Authorization": "Basic dXNlcjpwYXNzd29yZA=="},
    "no scheme": {"Authorization": "x"},
    "empty Bearer": {"Authorization": "Bearer "},
    "key unknown": {"X-API-Key": "mm_0123456789ab_" + "x" * 43},
    "key malformed": {"X-API-Key": "mm_0123456789ab"},
    "key empty": {"X-API-Key": ""},
    "key as a token": {"Authorization": "Bearer mm_0123456789ab_" + "x" * 43},
}


def routes() -> list[tuple[str, str]]:
    app = bootstrap(Settings(amqp_url="amqp://127.0.0.1:9/")).app
    return [
        (method, route.path_format.removeprefix("/api/v1"))
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    ]


def requests() -> list[tuple[str, str, str]]:
    """(policy, method, path) of every route under every prefix."""
    return [
        (NEEDED[method, path], method, prefix + path.format(**SAMPLES))
        for method, path in sorted(set(routes()))
        for prefix in PREFIXES
    ]


def credentials(kind: str, signer: Any, rating: Any) -> dict[str, str]:
    if kind == "nobody":
        return {}
    if kind in ("user", "admin"):
        return signer.bearer(f"user-{kind}", kind)
    return {"X-API-Key": rating.new_key(*kind.split()[1:])}


def check_refusal(response: httpx.Response, status: int, error: str | None) -> None:
    where = f"{response.request.method} {response.request.url}"
    assert response.status_code == status, f"{where}: {response.text}"
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"]
    challenge = response.headers["www-authenticate"]
    assert challenge.startswith("Bearer")
    assert ("error=" not in challenge) if error is None else (f'error="{error}"' in challenge)


def test_every_route_says_what_it_needs() -> None:
    app = bootstrap(Settings(amqp_url="amqp://127.0.0.1:9/")).app
    declared: dict[tuple[str, str], str] = {}
    for route in app.routes:
        if not isinstance(route, Route | APIRoute) or route.path in AT_ROOT:
            continue
        policy = policy_of(route)
        assert policy is not None, f"{route.path} has no policy"
        template = route.path_format.removeprefix("/api/v1")
        for method in route.methods or ():
            declared.setdefault((method, template), policy.name)
            assert declared[method, template] == policy.name
    assert declared == NEEDED


@pytest.mark.parametrize("kind", GOOD)
async def test_who_is_let_in(
    api: httpx.AsyncClient, publisher: Any, signer: Any, rating: Any, kind: str
) -> None:
    headers = credentials(kind, signer, rating)
    for policy, method, path in requests():
        if path.endswith(ENDLESS):
            continue
        response = await api.request(method, path, headers=headers, content=b"{}")
        status = REFUSED[policy].get(kind)
        if status is None:
            assert response.status_code not in (401, 403, 429), f"{method} {path}"
            publisher.published.clear()
        else:
            check_refusal(response, status, "insufficient_scope" if status == 403 else None)
            assert publisher.published == [], f"{method} {path}"


@pytest.mark.parametrize("how", BAD)
async def test_a_bad_token_opens_nothing(
    api: httpx.AsyncClient, publisher: Any, signer: Any, how: str
) -> None:
    await check_bad(api, publisher, {"Authorization": f"Bearer {BAD[how](signer)}"})


@pytest.mark.parametrize("how", BAD_HEADERS)
async def test_other_bad_credentials_open_nothing(
    api: httpx.AsyncClient, publisher: Any, how: str
) -> None:
    await check_bad(api, publisher, BAD_HEADERS[how])


async def check_bad(api: httpx.AsyncClient, publisher: Any, headers: dict[str, str]) -> None:
    [secret] = [value.removeprefix("Bearer ") for value in headers.values()]
    # Every route, and the prefixes in turn.
    every = requests()
    turns = [every[3 * number + number % 3] for number in range(len(every) // 3)]
    for policy, method, path in turns:
        if policy in UNSEEN or path.endswith(ENDLESS):
            continue
        response = await api.request(method, path, headers=headers, content=b"{}")
        check_refusal(response, 401, "invalid_token")
        assert len(secret) < 8 or secret not in response.text + str(response.headers)
    for query in ("", "?events=job", "?job_id=import-" + "0" * 32):
        check_refusal(await api.get(f"/stream{query}", headers=headers), 401, "invalid_token")
    assert publisher.published == []


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    "query", ["?events=job", "?events=trend,job", f"?job_id=import-{'0' * 32}"]
)
async def test_jobs_in_a_stream_are_for_operators(
    api: httpx.AsyncClient, signer: Any, rating: Any, prefix: str, query: str
) -> None:
    check_refusal(await api.get(f"{prefix}/stream{query}"), 401, None)
    for kind in ("user", "key", "key events"):
        headers = credentials(kind, signer, rating)
        refused = await api.get(f"{prefix}/stream{query}", headers=headers)
        check_refusal(refused, 403, "insufficient_scope")


async def test_credentials_given_twice_are_400(
    api: httpx.AsyncClient, publisher: Any, signer: Any, rating: Any
) -> None:
    token, key = signer.bearer("user-1", "admin"), {"X-API-Key": rating.new_key("admin", "views")}
    for headers in ([*token.items(), *key.items()], [*token.items()] * 2, [*key.items()] * 2):
        for policy, method, path in requests():
            if policy in UNSEEN or path.endswith(ENDLESS):
                continue
            response = await api.request(method, path, headers=headers, content=b"{}")
            assert response.status_code == 400, f"{method} {path}"
            assert response.headers["content-type"] == "application/problem+json"
    assert publisher.published == []


async def test_nothing_is_let_in_by_another_spelling(
    api: httpx.AsyncClient, publisher: Any
) -> None:
    """Another method, a slash at the end or two of them, a dot, capitals, an encoded slash."""
    for policy, method, path in requests():
        if policy in UNSEEN or path.endswith(ENDLESS):
            continue
        for other in ("HEAD", "OPTIONS", "TRACE", "PATCH", "X"):
            response = await api.request(other, path, content=b'{"tmdb_id": 1}')
            assert response.status_code in (401, 404, 405), f"{other} {path}"
        spellings = [path + "/", "/" + path, path.replace("/", "//"), "/." + path, path.upper()]
        spellings += [path.replace("/admin/", "/x/../admin/"), path.replace("/admin/", "/admin%2F")]
        for spelling in spellings:
            if policy not in ("views", "commands"):
                response = await api.request(method, f"http://gateway{spelling}", content=b"{}")
                assert response.status_code in (307, 401, 404, 405), f"{method} {spelling}"
    assert publisher.published == []


async def test_closed_to_the_public(
    api_with: Any, publisher: Any, signer: Any, rating: Any
) -> None:
    async with api_with(views_open=False, commands_open=False, search_signals=True) as api:
        for policy, method, path in [r for r in requests() if r[0] in ("views", "commands")]:
            body = {"tmdb_id": 1} | ({"query": "heat"} if "/search/" in path else {})
            check_refusal(await api.request(method, path, json=body), 401, None)
            assert publisher.published == []
            scope = "views" if policy == "views" else "movies"
            for kind in ("user", "admin", f"key {scope}"):
                headers = credentials(kind, signer, rating)
                taken = await api.request(method, path, json=body, headers=headers)
                assert taken.status_code == 202, taken.text
            publisher.published.clear()
        document = (await api.get("/openapi.json")).json()
    view = document["paths"]["/api/v1/movies/view"]["post"]
    assert view["security"] == [{"OAuth2": []}, {"ApiKey": []}]


async def test_what_operators_do_is_audited_before_it_is_done(
    api_with: Any, publisher: Any, signer: Any, rating: Any
) -> None:
    key = rating.new_key("admin")
    job = f"import-{'0' * 32}"
    async with api_with(peer="192.0.2.7") as api:
        await api.post("/admin/ingest/run", headers=signer.bearer("user-boss", "admin"))
        await api.post(f"/api/admin/jobs/{job}/cancel", headers={"X-API-Key": key})
        await api.get("/admin/jobs", headers={"X-API-Key": key})
        await api.put(
            "/admin/users/somebody/role",
            json={"role": "admin"},
            headers=signer.bearer("user-boss", "admin"),
        )
    types = [event.type for event in publisher.published]
    assert types == [
        "admin.acted.v1",
        "catalog.ingest.v1",
        "admin.acted.v1",
        "job.cancel.v1",
        "admin.acted.v1",
    ]
    assert [(audit.actor, audit.action) for audit in publisher.audits] == [
        ("user-boss", "POST /api/v1/admin/ingest/run"),
        (f"key:{key.split('_')[1]}", f"POST /api/v1/admin/jobs/{job}/cancel"),
        ("user-boss", "PUT /api/v1/admin/users/{name}/role"),
    ]
    assert {audit.address for audit in publisher.audits} == {"192.0.2.7"}


async def test_what_cannot_be_audited_is_not_done(
    admin_api: httpx.AsyncClient, publisher: Any, rating: Any
) -> None:
    publisher.error = PublishError("no broker")
    answers = [
        await admin_api.post("/admin/ingest/run"),
        await admin_api.delete("/admin/users/somebody"),
        await admin_api.post("/upload", files={"file": ("f", b"title\nHeat\n")}),
    ]
    assert {answer.status_code for answer in answers} == {503}
    assert all("Retry-After" in answer.headers for answer in answers)
    assert publisher.published == []
    assert [r.path for r in rating.received] == ["/.well-known/jwks.json"]
