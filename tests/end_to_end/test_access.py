"""Every route of the gateway, asked by everybody: who is let in, and who is not leaves no trace.

`ROUTES` is the table. A route that the gateway documents and the table does not name fails a test,
so that no route is ever added without a word about who may use it.
"""

import base64
import hmac
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from harness import LiveStack, User
from harness.clients import BATCH_JSON, claims_of, cloud_event

Need = Literal["nothing", "views", "movies", "events", "user", "admin", "person"]
"""Who is let in: everybody, who may send what is named, users, administrators and keys for them,
administrators in person."""

OUTSIDE = ("nobody", "user", "other user", "admin")
# The two kinds of key that matter for a route: one that opens it, if any does, and one for others.
KEYS = ("key with the scope", "key without the scope")
FORGED = (
    "expired",
    "not yet signed",
    "algorithm none",
    "signed with another key",
    "HS256 with the public key as secret",
    "HS256 with the raw public key as secret",
    "without expiry",
    "kid of nobody's key",
    "kid of a file",
    "key within the header",
    "claims changed",
    "for another audience",
    "by another issuer",
    "another type",
    "refresh token",
    "key that was never made",
    "key of another form",
    "no key at all",
    "no token at all",
    "another scheme",
)

IN, NOT_SIGNED_IN, REFUSED = "in", 401, 403
# What credentials prove nothing never get anywhere, except where none are looked at.
ANSWERS: Mapping[Need, Mapping[str, str | int]] = {
    "nothing": dict.fromkeys((*OUTSIDE, *KEYS), IN),
    "views": {**dict.fromkeys(OUTSIDE, IN), KEYS[0]: IN, KEYS[1]: REFUSED},
    "movies": {**dict.fromkeys(OUTSIDE, IN), KEYS[0]: IN, KEYS[1]: REFUSED},
    "events": {
        "nobody": NOT_SIGNED_IN,
        "user": REFUSED,
        "other user": REFUSED,
        "admin": IN,
        KEYS[0]: IN,
        KEYS[1]: REFUSED,
    },
    "user": {
        "nobody": NOT_SIGNED_IN,
        "user": IN,
        "other user": IN,
        "admin": IN,
        KEYS[0]: REFUSED,
        KEYS[1]: REFUSED,
    },
    "admin": {
        "nobody": NOT_SIGNED_IN,
        "user": REFUSED,
        "other user": REFUSED,
        "admin": IN,
        KEYS[0]: IN,
        KEYS[1]: REFUSED,
    },
    "person": {
        "nobody": NOT_SIGNED_IN,
        "user": REFUSED,
        "other user": REFUSED,
        "admin": IN,
        KEYS[0]: REFUSED,
        KEYS[1]: REFUSED,
    },
}
SCOPE_OF: Mapping[Need, str] = {"views": "views", "movies": "movies", "events": "events"}


@dataclass(frozen=True)
class Route:
    """A route, a request for it, and the answer to who is let in.

    Requests for what would do damage are such that nothing is done: for something that is not
    there, or with a body that is none.
    """

    need: Need
    path: str
    answer: int
    request: Mapping[str, Any] = field(default_factory=dict[str, Any])


JOB = "import-0f6f1c1e6a3c4b589a3e5f2f6f1b2c3d"
NO_BODY: Mapping[str, Any] = {"content": b"{", "headers": {"content-type": "application/json"}}
VIEW: Mapping[str, Any] = {"json": {"movie_id": "tmdb-900000077"}}
ROUTES: Mapping[tuple[str, str], Route] = {
    ("GET", "/ping"): Route("nothing", "/ping", 200),
    ("GET", "/movies"): Route("nothing", "/movies?limit=1", 200),
    ("GET", "/movies/trending"): Route("nothing", "/movies/trending?limit=1", 200),
    ("GET", "/movies/rising"): Route("nothing", "/movies/rising?limit=1", 200),
    ("GET", "/movies/{movie_id}"): Route("nothing", "/movies/900000077", 404),
    ("GET", "/movies/{movie_id}/chart-history"): Route(
        "nothing", "/movies/900000078/chart-history", 404
    ),
    ("GET", "/movies/{movie_id}/recommendations"): Route(
        "nothing", "/movies/900000078/recommendations", 404
    ),
    ("GET", "/recommendations"): Route("nothing", "/recommendations?limit=1", 200),
    ("GET", "/analytics/top-genres"): Route(
        "nothing", "/analytics/top-genres?date=1950-01-01", 404
    ),
    ("GET", "/analytics/ratings-by-decade"): Route(
        "nothing", "/analytics/ratings-by-decade?date=1950-01-01", 404
    ),
    ("GET", "/movies/{movie_id}/trend"): Route("nothing", "/movies/900000078/trend", 404),
    ("GET", "/movies/{movie_id}/ratings"): Route("nothing", "/movies/900000077/ratings", 404),
    ("GET", "/movies/{movie_id}/reviews"): Route("nothing", "/movies/900000077/reviews", 404),
    ("GET", "/search"): Route("nothing", "/search?q=heat", 200),
    ("GET", "/events/{event_id}"): Route("nothing", "/events/no-such-event", 200),
    ("GET", "/users/{name}"): Route("nothing", "/users/nobody.of.this.name", 404),
    ("GET", "/.well-known/jwks.json"): Route("nothing", "/.well-known/jwks.json", 200),
    ("POST", "/users"): Route("nothing", "/users", 422, {"json": {"name": "x", "password": "y"}}),
    ("POST", "/auth/token"): Route("nothing", "/auth/token", 400, {"data": {"grant_type": "none"}}),
    ("POST", "/auth/revoke"): Route("nothing", "/auth/revoke", 200, {"data": {"token": "unknown"}}),
    ("POST", "/movies/view"): Route("views", "/movies/view", 202, VIEW),
    ("POST", "/movies/register"): Route(
        "movies", "/movies/register", 202, {"json": {"tmdb_id": 2}}
    ),
    ("POST", "/movies/{movie_id}/refresh"): Route("movies", "/movies/2/refresh", 202),
    ("POST", "/events"): Route(
        "events",
        "/events",
        202,
        {
            "content": json.dumps(
                [cloud_event("movie.register.v1", "access-matrix", {"tmdb_id": 2})]
            ),
            "headers": {"content-type": BATCH_JSON},
        },
    ),
    ("PUT", "/movies/{movie_id}/rating"): Route(
        "user", "/movies/900000077/rating", 202, {"json": {"score": 5}}
    ),
    ("GET", "/movies/{movie_id}/rating"): Route("user", "/movies/900000079/rating", 404),
    ("DELETE", "/movies/{movie_id}/rating"): Route("user", "/movies/900000077/rating", 202),
    ("POST", "/ratings"): Route(
        "user", "/ratings", 202, {"json": {"movie_id": "tmdb-900000077", "score": 5}}
    ),
    ("GET", "/users/me"): Route("user", "/users/me", 200),
    ("GET", "/users/me/ratings"): Route("user", "/users/me/ratings", 200),
    ("GET", "/users/me/recommendations"): Route("user", "/users/me/recommendations", 200),
    ("GET", "/users/me/export"): Route("user", "/users/me/export", 200),
    ("DELETE", "/users/me"): Route("user", "/users/me", 400, NO_BODY),
    ("PUT", "/users/me/password"): Route("user", "/users/me/password", 400, NO_BODY),
    ("GET", "/stream"): Route("admin", "/stream?events=job", 200),
    ("POST", "/upload"): Route("admin", "/upload", 400, {"json": {}}),
    ("POST", "/admin/ingest/run"): Route("admin", "/admin/ingest/run", 400, NO_BODY),
    ("POST", "/admin/compute/{artifact}"): Route(
        "admin", "/admin/compute/trending", 422, {"json": {"as_of": "2999-01-01"}}
    ),
    ("GET", "/admin/schedules"): Route("admin", "/admin/schedules", 200),
    ("GET", "/admin/jobs"): Route("admin", "/admin/jobs", 200),
    ("GET", "/admin/jobs/{job_id}"): Route("admin", f"/admin/jobs/{JOB}", 404),
    ("GET", "/admin/jobs/{job_id}/rejects"): Route("admin", f"/admin/jobs/{JOB}/rejects", 404),
    ("POST", "/admin/jobs/{job_id}/cancel"): Route("admin", f"/admin/jobs/{JOB}/cancel", 404),
    ("POST", "/admin/jobs/{job_id}/retry"): Route("admin", f"/admin/jobs/{JOB}/retry", 404),
    ("GET", "/admin/users"): Route("person", "/admin/users", 200),
    ("PUT", "/admin/users/{name}/role"): Route(
        "person", "/admin/users/no.such.name/role", 404, {"json": {"role": "user"}}
    ),
    ("DELETE", "/admin/users/{name}"): Route("person", "/admin/users/no.such.name", 404),
    ("GET", "/admin/api-keys"): Route("person", "/admin/api-keys", 200),
    ("POST", "/admin/api-keys"): Route("person", "/admin/api-keys", 400, NO_BODY),
    ("DELETE", "/admin/api-keys/{key_id}"): Route("person", "/admin/api-keys/abcdef012345", 404),
    ("GET", "/admin/audit"): Route("person", "/admin/audit", 200),
}


def _part(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Forger:
    """Makes tokens that must not be believed; some of them with the stack's own signing key."""

    def __init__(self, folder: Path, good: str) -> None:
        [file] = folder.glob("*.pem")
        key = serialization.load_pem_private_key(file.read_bytes(), None)
        assert isinstance(key, Ed25519PrivateKey)
        self.key = key
        self.kid = file.stem
        self.other = Ed25519PrivateKey.generate()
        self.good = good
        # Somebody whom a good token would make an administrator.
        self.claims = {**claims_of(good), "role": "admin", "exp": int(time.time()) + 3600}

    def signed(
        self,
        *,
        key: Any = None,
        claims: Mapping[str, Any] | None = None,
        without: str = "",
        **header: Any,
    ) -> str:
        payload = {name: value for name, value in self.claims.items() if name != without}
        return jwt.encode(
            {**payload, **(claims or {})},
            key or self.key,
            algorithm="EdDSA",
            headers={"typ": "at+jwt", "kid": self.kid, **header},
        )

    def hmac(self, secret: bytes) -> str:
        head = _part({"alg": "HS256", "typ": "at+jwt", "kid": self.kid})
        body = f"{head}.{_part(self.claims)}"
        return f"{body}.{_part(hmac.digest(secret, body.encode(), 'sha256'))}"

    def all(self, refresh_token: str) -> dict[str, str]:
        """By the names of `FORGED`."""
        public = self.key.public_key()
        pem = public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        now = int(time.time())
        none = _part({"alg": "none", "typ": "at+jwt", "kid": self.kid})
        head, _, signature = self.good.split(".")
        others = self.other.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )
        embedded = {"kty": "OKP", "crv": "Ed25519", "x": _part(others)}
        return {
            "expired": self.signed(claims={"exp": now - 5, "iat": now - 605}),
            "not yet signed": self.signed(claims={"iat": now + 3600, "exp": now + 7200}),
            "algorithm none": f"{none}.{_part(self.claims)}.",
            "signed with another key": self.signed(key=self.other),
            "HS256 with the public key as secret": self.hmac(pem),
            "HS256 with the raw public key as secret": self.hmac(raw),
            "without expiry": self.signed(without="exp"),
            "kid of nobody's key": self.signed(key=self.other, kid=uuid.uuid4().hex),
            "kid of a file": self.signed(key=self.other, kid="../../../../etc/passwd"),
            "key within the header": self.signed(
                key=self.other, kid="mine", jwk=embedded, jku="http://127.0.0.1:9/jwks.json"
            ),
            "claims changed": f"{head}.{_part(self.claims)}.{signature}",
            "for another audience": self.signed(claims={"aud": "elsewhere"}),
            "by another issuer": self.signed(claims={"iss": "elsewhere"}),
            "another type": self.signed(typ="JWT"),
            "refresh token": refresh_token,
        }


@dataclass(frozen=True)
class Cast:
    """Everybody who asks, by what they send along."""

    credentials: Mapping[str, Mapping[str, str]]
    keys: Mapping[str, str]

    def headers(self, caller: str, need: Need) -> Mapping[str, str]:
        """What this caller sends to a route that needs this."""
        if caller == KEYS[0]:
            return {"x-api-key": self.keys[SCOPE_OF.get(need, "admin")]}
        if caller == KEYS[1]:
            return {"x-api-key": self.keys["views" if need != "views" else "events"]}
        return self.credentials[caller]


@pytest.fixture(scope="module")
def cast(stack: LiveStack) -> Cast:
    user = stack.sign_up("mia-of-the-matrix")
    other = stack.sign_up("moe-of-the-matrix")
    tokens = stack.anonymous.http.post(
        "/auth/token",
        data={"grant_type": "password", "username": user.name, "password": user.password},
    ).json()
    forged = Forger(stack.token_keys, user.token).all(tokens["refresh_token"])
    bearers = {
        "user": user.token,
        "other user": other.token,
        "admin": stack.api.token,
        **forged,
    }
    return Cast(
        {
            "nobody": {},
            "key that was never made": {"x-api-key": f"mm_abcdef012345_{'x' * 43}"},
            "key of another form": {"x-api-key": f"mm_abcdefghij23_{'x' * 43}"},
            "no key at all": {"x-api-key": ""},
            "no token at all": {"authorization": "Bearer"},
            "another scheme": {"authorization": "Basic YWRtaW46YWRtaW4="},
            **{name: {"authorization": f"Bearer {token}"} for name, token in bearers.items()},
        },
        {scope: stack.api_key(scope) for scope in ("events", "views", "movies", "admin")},
    )


def documented(stack: LiveStack) -> dict[tuple[str, str], dict[str, Any]]:
    """The gateway's routes, as its OpenAPI document has them."""
    document = httpx.get(f"{stack.urls['gateway']}/openapi.json", trust_env=False).json()
    return {
        (method.upper(), path.removeprefix("/api/v1")): operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


def ask(stack: LiveStack, method: str, route: Route, headers: Mapping[str, str]) -> httpx.Response:
    request = dict(route.request)
    sent = {**request.pop("headers", {}), **headers}
    with stack.anonymous.http.stream(
        method, route.path, headers=sent, follow_redirects=False, **request
    ) as answer:
        # a stream never ends
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            answer.read()
    return answer


def expected(route: Route, caller: str) -> int:
    if caller in FORGED:
        verdict: str | int = IN if route.need == "nothing" else NOT_SIGNED_IN
    else:
        verdict = ANSWERS[route.need][caller]
    return route.answer if verdict == IN else int(verdict)


def test_the_table_names_every_route_and_no_other(stack: LiveStack) -> None:
    assert ROUTES.keys() == {
        route for route in documented(stack) if not route[1].startswith(("/health", "/ready"))
    } - {("GET", "/metrics")}


def test_the_document_says_what_each_route_needs(stack: LiveStack) -> None:
    for route, operation in documented(stack).items():
        if route not in ROUTES:
            continue
        need = ROUTES[route].need
        kinds = [set(item) for item in operation.get("security", [])]
        if need == "nothing":
            assert kinds in ([], [set()]), route
            continue
        open_too = need in {"views", "movies"} or route == ("GET", "/stream")
        assert (set() in kinds) is open_too, route
        assert {"OAuth2"} in kinds, route
        assert ({"ApiKey"} in kinds) is (need not in {"user", "person"}), route
        assert {"401", "403"} <= operation["responses"].keys(), route


@pytest.mark.parametrize("caller", [*OUTSIDE, *KEYS, *FORGED])
def test_who_is_refused_is_told_so_and_publishes_nothing(
    stack: LiveStack, cast: Cast, caller: str
) -> None:
    refused = {
        name: route for name, route in ROUTES.items() if expected(route, caller) in {401, 403}
    }
    wrong: list[str] = []
    stack.drain()
    with stack.tap() as tap:
        for (method, path), route in refused.items():
            answer = ask(stack, method, route, cast.headers(caller, route.need))
            if answer.status_code != expected(route, caller):
                wrong.append(f"{method} {path}: {answer.status_code}")
                continue
            if published := tap.taken():
                wrong.append(f"{method} {path}: published {published}")
            challenge = answer.headers.get("www-authenticate", "")
            error = {"nobody": None}.get(
                caller, "insufficient_scope" if answer.status_code == 403 else "invalid_token"
            )
            if challenge.partition(",")[0] != (f'Bearer error="{error}"' if error else "Bearer"):
                wrong.append(f"{method} {path}: {challenge}")
            if answer.headers["content-type"] != "application/problem+json":
                wrong.append(f"{method} {path}: {answer.headers['content-type']}")
    assert not wrong, "\n".join(wrong)
    assert len(refused) >= (0 if caller == "admin" else 8)


@pytest.mark.parametrize("caller", [*OUTSIDE, *KEYS, *FORGED])
def test_who_is_let_in_gets_the_answer(stack: LiveStack, cast: Cast, caller: str) -> None:
    wrong = [
        f"{method} {path}: {answer.status_code}, not {route.answer}: {answer.text[:300]}"
        for (method, path), route in ROUTES.items()
        if expected(route, caller) not in {401, 403}
        and (answer := ask(stack, method, route, cast.headers(caller, route.need))).status_code
        != route.answer
    ]
    assert not wrong, "\n".join(wrong)


def test_the_tap_sees_what_is_published(stack: LiveStack) -> None:
    with stack.tap() as tap:
        assert stack.anonymous.http.post("/movies/view", **VIEW).status_code == 202
        assert "movie.viewed.v1" in {item.routing_key for item in tap.taken()}


@pytest.mark.parametrize("prefix", ["", "/api", "/api/v1", "/api/v1/", "//api/v1"])
def test_no_other_way_of_writing_a_path_leads_in(stack: LiveStack, prefix: str) -> None:
    for path in ("/admin/jobs", "/admin/users", "/users/me", "/admin/audit/", "/ADMIN/jobs"):
        answer = httpx.get(
            f"{stack.urls['gateway']}{prefix}{path}", trust_env=False, follow_redirects=True
        )
        assert answer.status_code in {401, 404}, (prefix, path, answer.text)


def test_credentials_of_both_kinds_or_twice_are_ambiguous(stack: LiveStack, cast: Cast) -> None:
    bearer = cast.credentials["admin"]["authorization"]
    for headers in (
        [("authorization", bearer), ("x-api-key", cast.keys["admin"])],
        [("authorization", bearer), ("authorization", bearer)],
        [("x-api-key", cast.keys["admin"]), ("x-api-key", cast.keys["events"])],
    ):
        answer = stack.anonymous.http.get("/admin/jobs", headers=httpx.Headers(headers))
        assert answer.status_code == 400, headers


def test_rating_service_believes_no_forged_token_either(stack: LiveStack, cast: Cast) -> None:
    """It is asked directly, as whoever is inside the network could."""
    url = stack.urls["rating-service"]
    for path in ("/users/me", "/users/me/export", "/admin/users", "/admin/api-keys"):
        for caller in FORGED:
            headers = dict(cast.credentials[caller])
            answer = httpx.get(f"{url}{path}", headers=headers, trust_env=False)
            assert answer.status_code in {401, 403}, (path, caller, answer.text)
    user = dict(cast.credentials["user"])
    assert httpx.get(f"{url}/users/me", headers=user, trust_env=False).status_code == 200
    assert httpx.get(f"{url}/admin/users", headers=user, trust_env=False).status_code == 403


def test_the_user_of_a_rating_or_view_is_the_tokens(stack: LiveStack, cast: Cast) -> None:
    user = User(stack.urls["gateway"], "mia-of-the-matrix", stack.api.password, stack.secrets)
    other = claims_of(cast.credentials["other user"]["authorization"].split()[1])["sub"]
    me = cast.credentials["user"]
    refusals: list[tuple[str, Mapping[str, str], dict[str, Any], set[int]]] = [
        ("/ratings", me, {"tmdb_id": 900000077, "score": 5, "user_id": other}, {422}),
        ("/movies/view", me, {"tmdb_id": 900000077, "user_id": other}, {403}),
        ("/movies/view", me, {"tmdb_id": 900000077, "user_id": "somebody"}, {403}),
        ("/movies/view", {}, {"tmdb_id": 900000077, "user_id": other}, {401, 403}),
    ]
    with stack.tap() as tap:
        for path, headers, body, statuses in refusals:
            answer = stack.anonymous.http.post(path, headers=dict(headers), json=body)
            assert answer.status_code in statuses, (path, body, answer.text)
        assert tap.taken() == []
        viewed = stack.anonymous.http.post(
            "/movies/view", headers=dict(me), json={"tmdb_id": 900000077}
        )
        assert viewed.status_code == 202
        user.rate("900000077", 6.5, wait=0)
        messages = {item.routing_key: item.body["data"] for item in tap.taken()}
    assert messages["movie.viewed.v1"]["user_id"] == user.user_id
    assert messages["movie.rate.v1"]["user_id"] == user.user_id
    user.close()


def test_views_and_registrations_can_be_closed(stack: LiveStack, cast: Cast) -> None:
    closed = {"VIEWS_OPEN": "false", "COMMANDS_OPEN": "false"}
    requests = [
        ("/movies/view", {"tmdb_id": 900000077}, "views"),
        ("/movies/register", {"tmdb_id": 2}, "movies"),
        ("/movies/2/refresh", None, "movies"),
    ]
    with stack.another_gateway("closed-gateway", env=closed) as url:
        for path, body, scope in requests:
            for headers, status in (
                ({}, 401),
                (cast.credentials["expired"], 401),
                ({"x-api-key": cast.keys["events"]}, 403),
                ({"x-api-key": cast.keys[scope]}, 202),
                (cast.credentials["user"], 202),
            ):
                answer = httpx.post(
                    f"{url}/api/v1{path}", json=body, headers=dict(headers), trust_env=False
                )
                assert answer.status_code == status, (path, headers.keys(), answer.text)


def test_the_logs_hold_no_secret(stack: LiveStack) -> None:
    assert stack.leaks() == {}
