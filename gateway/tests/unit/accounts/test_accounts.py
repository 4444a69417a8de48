"""Accounts: what is passed on to rating-service, and what is refused before it is asked."""

import json
from collections.abc import AsyncGenerator, Callable
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest

Bearer = Callable[..., dict[str, str]]
PASSWORD = "a long and uncommon one"
FORM = {"content-type": "application/x-www-form-urlencoded"}
LOGIN = {"grant_type": "password", "username": "ada", "password": PASSWORD}


def problem(status: int, title: str = "Refused", **more: Any) -> dict[str, Any]:
    return {"type": "about:blank", "title": title, "status": status, **more}


@pytest.mark.parametrize("prefix", ["/api/v1", "/api", ""])
async def test_signing_up(client: httpx.AsyncClient, desks: Any, reply: Any, prefix: str) -> None:
    made = {"name": "ada", "created_at": "2025-01-31T20:15:00Z"}
    desks.rating.replies["POST /users"] = reply(made, 201)
    answer = await client.post(f"{prefix}/users", json={"name": "ada", "password": PASSWORD})
    assert (answer.status_code, answer.json()) == (201, made)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"
    [asked] = desks.rating.asked
    assert json.loads(asked.body) == {"name": "ada", "password": PASSWORD}
    assert asked.header("content-type") == ["application/json"]
    assert answer.headers["RateLimit-Limit"] == "20"


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"", 400, ""),
        (b"name=ada", 400, ""),
        (b"[]", 422, "(body)"),
        (b'{"name": "ada"}', 422, "password"),
        (b'{"name": "ada", "password": 5}', 422, "password"),
        (b'{"name": null, "password": "x"}', 422, "name"),
        (b'{"name": "ada", "password": "x", "role": "admin"}', 422, "role"),
        (b'{"name": "a\\u0000", "password": "x"}', 422, "name"),
        (b'{"name": "ada", "password": "\\u0000"}', 422, "password"),
        (b'{"name": "ada", "password": "\\ud800"}', 422, "password"),
        (b'{"name": "ada", "name": "bob", "password": "x"}', 422, "name"),
        (b'{"name": "' + b"a" * 301 + b'", "password": "x"}', 422, "name"),
        (b'{"name": "ada", "password": "' + b"a" * 1001 + b'"}', 422, "password"),
    ],
)
async def test_a_bad_sign_up_is_not_passed_on(
    client: httpx.AsyncClient, desks: Any, body: bytes, status: int, field: str
) -> None:
    answer = await client.post("/users", content=body)
    assert answer.status_code == status
    assert answer.headers["cache-control"] == "no-store"
    if field:
        assert answer.json()["errors"][0]["field"] == field
    assert desks.rating.asked == []


async def test_refusals_are_passed_on_as_they_are(
    client: httpx.AsyncClient, desks: Any, reply: Any
) -> None:
    said = problem(409, "Name taken", errors=[{"field": "name", "message": "is taken"}])
    desks.rating.replies["POST /users"] = reply(said, 409, headers=[("Set-Cookie", "a=b")])
    answer = await client.post("/users", json={"name": "ada", "password": PASSWORD})
    assert (answer.status_code, answer.json()) == (409, said)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "set-cookie" not in answer.headers


async def test_signing_in(client: httpx.AsyncClient, desks: Any, reply: Any) -> None:
    tokens = {"access_token": "a", "token_type": "bearer", "expires_in": 600}
    desks.rating.replies["POST /auth/token"] = reply(tokens, headers=[("Cache-Control", "x")])
    answer = await client.post("/auth/token", data={**LOGIN, "scope": "", "client_id": ""})
    assert (answer.status_code, answer.json()) == (200, tokens)
    assert answer.headers.get_list("cache-control") == ["no-store"]
    [asked] = desks.rating.asked
    assert asked.header("content-type") == [FORM["content-type"]]
    assert dict(parse_qsl(asked.body.decode(), keep_blank_values=True)) == {
        **LOGIN,
        "scope": "",
        "client_id": "",
    }


async def test_a_refused_sign_in_keeps_its_words(
    client: httpx.AsyncClient, desks: Any, reply: Any
) -> None:
    said = problem(400, error="invalid_grant", error_description="Wrong name or password.")
    desks.rating.replies["POST /auth/token"] = reply(said, 400)
    answer = await client.post("/auth/token", data=LOGIN)
    assert (answer.status_code, answer.json()) == (400, said)


@pytest.mark.parametrize("path", ["/auth/token", "/auth/revoke"])
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (json.dumps(LOGIN).encode(), "application/json"),
        (b"grant_type=password", ""),
        (b"grant_type=password&username=a&username=b&password=c", FORM["content-type"]),
        (b"grant_type=password&username=a%00&password=c", FORM["content-type"]),
        (b"grant_type=password&username=%ff&password=c", FORM["content-type"]),
        (b"username=\xff", FORM["content-type"]),
        (b"&".join(b"f%d=1" % number for number in range(21)), FORM["content-type"]),
        (b"password=" + b"x" * 8192, FORM["content-type"]),
    ],
    ids=["json", "no type", "twice", "NUL", "not utf-8", "raw", "many fields", "large"],
)
async def test_a_form_that_cannot_be_read_is_not_passed_on(
    client: httpx.AsyncClient, desks: Any, path: str, content: bytes, kind: str
) -> None:
    answer = await client.post(path, content=content, headers={"content-type": kind})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    said = answer.json()
    assert said["error"] == "invalid_request"
    assert said["error_description"] == said["detail"]
    assert desks.rating.asked == []


async def test_a_form_says_to_the_service_what_it_said_here(
    client: httpx.AsyncClient, desks: Any, reply: Any
) -> None:
    """Some readers of forms take a semicolon for a separator."""
    desks.rating.replies["POST /auth/token"] = reply({})
    await client.post(
        "/auth/token",
        content=b"grant_type=password;x=1&username=a;username=admin&password=p%26+q",
        headers=FORM,
    )
    [asked] = desks.rating.asked
    assert asked.body == (
        b"grant_type=password%3Bx%3D1&username=a%3Busername%3Dadmin&password=p%26+q"
    )


@pytest.fixture
async def strict(api_with: Callable[..., Any], desks: Any) -> AsyncGenerator[httpx.AsyncClient]:
    """Three attempts for an account from an address, five from an address."""
    async with api_with(
        rating_url=desks.rating.url,
        limit_logins_per_account_and_address="3/minute",
        limit_logins_per_address="5/minute",
        limit_commands_per_address="7/minute",
        limit_signups_per_address="2/minute",
    ) as client:
        yield client


async def test_attempts_are_limited_whatever_the_spelling_of_the_name(
    strict: httpx.AsyncClient, desks: Any, reply: Any
) -> None:
    desks.rating.replies["POST /auth/token"] = reply(problem(400, error="invalid_grant"), 400)
    spellings = ["Strau\u00df", "STRAUSS", "\uff33trauss", "strauss"]
    statuses = [
        (await strict.post("/auth/token", data={**LOGIN, "username": name})).status_code
        for name in spellings
    ]
    assert statuses == [400, 400, 400, 429]
    assert len(desks.rating.asked) == 3
    others = [
        await strict.post("/auth/token", data={**LOGIN, "username": f"u{number}"})
        for number in range(3)
    ]
    assert [answer.status_code for answer in others] == [400, 400, 429]
    assert int(others[-1].headers["Retry-After"]) >= 1
    assert others[-1].headers["cache-control"] == "no-store"
    assert len(desks.rating.asked) == 5


async def test_refreshing_counts_by_itself(
    strict: httpx.AsyncClient, desks: Any, reply: Any
) -> None:
    desks.rating.replies["POST /auth/token"] = reply({})
    desks.rating.replies["POST /auth/revoke"] = reply({})
    refresh = {"grant_type": "refresh_token", "refresh_token": "r", "username": "ada"}
    for _ in range(6):
        assert (await strict.post("/auth/token", data=refresh)).status_code == 200
    assert (await strict.post("/auth/revoke", data={"token": "r"})).status_code == 200
    assert (await strict.post("/auth/revoke", data={"token": "r"})).status_code == 429
    assert (await strict.post("/auth/token", data=refresh)).status_code == 429
    assert (await strict.post("/auth/token", data=LOGIN)).status_code == 200


async def test_sign_ups_are_limited(strict: httpx.AsyncClient, desks: Any, reply: Any) -> None:
    desks.rating.replies["POST /users"] = reply({}, 201)
    statuses = [
        (await strict.post("/users", json={"name": f"ada{number}", "password": PASSWORD}))
        for number in range(3)
    ]
    assert [answer.status_code for answer in statuses] == [201, 201, 429]
    assert len(desks.rating.asked) == 2


@pytest.mark.parametrize("path", ["/users/me", "/users/me/password"])
async def test_a_stolen_session_does_not_find_out_the_password(
    strict: httpx.AsyncClient, desks: Any, reply: Any, bearer: Bearer, path: str
) -> None:
    method = "PUT" if path.endswith("password") else "DELETE"
    desks.rating.replies[f"{method} {path}"] = reply(problem(403), 403)
    body = {"current_password": "x", "new_password": PASSWORD}
    sent = body if method == "PUT" else {"password": "x"}
    answers = [await strict.request(method, path, json=sent, headers=bearer()) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [403, 403, 403, 429]


OWN = [
    ("GET", "/users/me", None, 200),
    ("DELETE", "/users/me", {"password": PASSWORD}, 202),
    ("PUT", "/users/me/password", {"current_password": "x", "new_password": PASSWORD}, 204),
    ("GET", "/users/me/ratings", None, 200),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), OWN)
async def test_ones_own_account(
    client: httpx.AsyncClient,
    desks: Any,
    reply: Any,
    bearer: Bearer,
    method: str,
    path: str,
    body: dict[str, Any] | None,
    status: int,
) -> None:
    said = {"name": "ada", "event_id": "e"}
    desks.rating.replies[f"{method} {path}"] = reply(said, status)
    token = bearer("user-9")
    headers = {**token, "X-Correlation-Id": "c-1", "Cookie": "a=b", "X-Forwarded-For": "1.2.3.4"}
    answer = await client.request(method, f"/api/v1{path}", json=body, headers=headers)
    assert answer.status_code == status
    assert answer.content == (b"" if status == 204 else json.dumps(said).encode())
    assert answer.headers.get_list("cache-control") == ["no-store"]
    [asked] = desks.rating.asked_for(path)
    assert asked.header("authorization") == [token["Authorization"]]
    assert asked.header("x-correlation-id") == ["c-1"]
    assert asked.header("cookie") == asked.header("x-forwarded-for") == []
    assert (json.loads(asked.body) if asked.body else None) == body


@pytest.mark.parametrize(
    ("method", "path"), [*((method, path) for method, path, *_ in OWN), ("GET", "/users/me/export")]
)
async def test_nobody_has_no_account(
    client: httpx.AsyncClient, desks: Any, bearer: Bearer, method: str, path: str
) -> None:
    nobody = await client.request(method, path, content=b"no json")
    assert nobody.status_code == 401
    assert nobody.headers["www-authenticate"] == "Bearer"
    wrong = await client.request(method, path, headers={"Authorization": "Bearer x.y.z"})
    assert wrong.status_code == 401
    assert 'error="invalid_token"' in wrong.headers["www-authenticate"]
    twice = [("Authorization", bearer()["Authorization"])] * 2
    assert (await client.request(method, path, headers=twice)).status_code == 400
    assert {answer.headers["cache-control"] for answer in (nobody, wrong)} == {"no-store"}
    assert desks.rating.asked_for(path) == []


async def test_what_the_service_says_of_credentials_arrives_whole(
    client: httpx.AsyncClient, desks: Any, reply: Any, bearer: Bearer
) -> None:
    challenges = [("WWW-Authenticate", "Bearer"), ("WWW-Authenticate", 'Bearer error="x"')]
    desks.rating.replies["GET /users/me"] = reply(problem(401), 401, headers=challenges)
    answer = await client.get("/users/me", headers=bearer())
    assert answer.status_code == 401
    assert answer.headers.get_list("www-authenticate") == ["Bearer", 'Bearer error="x"']


async def test_a_service_that_is_busy_says_when_to_come_back(
    client: httpx.AsyncClient, desks: Any, reply: Any
) -> None:
    busy = problem(503, "Busy")
    desks.rating.replies["POST /auth/token"] = reply(busy, 503, headers=[("Retry-After", "7")])
    answer = await client.post("/auth/token", data=LOGIN)
    assert (answer.status_code, answer.json()) == (503, busy)
    assert answer.headers["Retry-After"] == "7"


@pytest.mark.parametrize("status", [500, 502, 307, 103])
async def test_a_broken_answer_is_503(
    client: httpx.AsyncClient, desks: Any, reply: Any, bearer: Bearer, status: int
) -> None:
    location = [("Location", "http://127.0.0.1:9/internal/api-keys/verify")]
    desks.rating.replies["GET /users/me"] = reply({"secret": 1}, status, headers=location)
    answer = await client.get("/users/me", headers=bearer())
    assert answer.status_code == 503
    assert "secret" not in answer.text
    assert int(answer.headers["Retry-After"]) >= 1


async def test_a_sign_up_whose_answer_is_lost_is_not_sent_again(
    client: httpx.AsyncClient, desks: Any, reply: Any
) -> None:
    desks.rating.replies["GET /users/ada"] = reply({"name": "ada"})
    await client.get("/users/ada")

    def lost(_asked: Any) -> Any:
        raise ConnectionResetError

    desks.rating.replies["POST /users"] = lost
    answer = await client.post("/users", json={"name": "ada", "password": PASSWORD})
    assert answer.status_code == 503
    assert len(desks.rating.asked_for("/users")) == 1


async def test_ones_own_ratings_are_asked_for_by_these_parameters(
    client: httpx.AsyncClient, desks: Any, reply: Any, bearer: Bearer
) -> None:
    desks.rating.replies["GET /users/me/ratings"] = reply({"items": []})
    query = (
        "min_score=1.5&max_score=9&genre=Science%20Fiction&year=1999&q=a%26b&sort=title&order=asc"
        "&limit=5&offset=10&unknown=1"
    )
    assert (await client.get(f"/users/me/ratings?{query}", headers=bearer())).status_code == 200
    asked = httpx.URL(desks.rating.asked[-1].target).params
    assert dict(asked) == {
        "min_score": "1.5",
        "max_score": "9.0",
        "genre": "Science Fiction",
        "year": "1999",
        "q": "a&b",
        "sort": "title",
        "order": "asc",
        "limit": "5",
        "offset": "10",
    }
    before = len(desks.rating.asked)
    for bad in (
        *("min_score=0", "min_score=7.3", "min_score=nan", "max_score=11"),
        *("sort=user", "order=up", "q=%00", "q="),
    ):
        answer = await client.get(f"/users/me/ratings?{bad}", headers=bearer())
        assert answer.status_code == 422, bad
        assert answer.headers["cache-control"] == "no-store"
    assert len(desks.rating.asked) == before


async def test_a_public_profile(client: httpx.AsyncClient, desks: Any, reply: Any) -> None:
    profile = {"name": "ada", "ratings": {"count": 0}}
    desks.rating.replies["GET /users/ada"] = reply(profile)
    assert (await client.get("/api/v1/users/ada")).json() == profile
    missing = await client.get("/users/bob")
    assert missing.status_code == 404
    assert missing.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("%2e%2e", "/users/%2E%2E"),
        ("%2e", "/users/%2E"),
        ("..%5cinternal", "/users/..%5Cinternal"),
        ("ada%3Fq=1", "/users/ada%3Fq%3D1"),
        ("ada%23x", "/users/ada%23x"),
        ("%252e%252e%252finternal", "/users/%252e%252e%252finternal"),
        ("Ad%C3%A9", "/users/Ad%C3%A9"),
        ("a%20b", "/users/a%20b"),
        ("a;b", "/users/a%3Bb"),
    ],
)
async def test_a_name_stays_one_part_of_the_path(
    client: httpx.AsyncClient, desks: Any, written: str, asked: str
) -> None:
    url = httpx.URL("http://gateway").copy_with(raw_path=f"/api/v1/users/{written}".encode())
    assert (await client.get(url)).status_code == 404
    assert [request.target for request in desks.rating.asked] == [asked]


@pytest.mark.parametrize(
    "written",
    [
        "%2e%2e%2finternal%2fapi-keys%2fverify",
        "../internal/api-keys/verify",
        "..%2f..%2finternal",
        "ada/../../internal",
        "a%00b",
        "a%0ab",
        "%7f",
        "x" * 301,
    ],
)
async def test_other_routes_of_the_service_are_out_of_reach(
    client: httpx.AsyncClient, desks: Any, written: str
) -> None:
    url = httpx.URL("http://gateway").copy_with(raw_path=f"/api/v1/users/{written}".encode())
    assert (await client.get(url)).status_code == 404
    assert desks.rating.asked == []


async def test_internal_routes_are_nobodys(
    client: httpx.AsyncClient, desks: Any, bearer: Bearer
) -> None:
    for path in ("/internal/api-keys/verify", "/inbox/e", "/users/user-1/activity"):
        for method in ("GET", "POST"):
            answer = await client.request(method, path, headers=bearer(role="admin"))
            assert answer.status_code in (404, 405), path
    assert [desk.asked for desk in desks.all().values()] == [[], [], [], []]


@pytest.mark.parametrize("prefix", ["", "/api", "/api/v1"])
async def test_public_keys(client: httpx.AsyncClient, prefix: str) -> None:
    answer = await client.get(f"{prefix}/.well-known/jwks.json")
    assert answer.status_code == 200
    [key] = answer.json()["keys"]
    assert key["crv"] == "Ed25519"
    assert "d" not in key


def activity(first: int, last: int) -> list[dict[str, Any]]:
    return [
        {"movie_id": f"tmdb-{n}", "kind": "view", "occurred_at": "x", "session_id": None}
        for n in range(first, last + 1)
    ]


async def test_an_export_has_what_every_service_holds(
    client: httpx.AsyncClient, desks: Any, reply: Any, bearer: Bearer
) -> None:
    held = {"account": {"name": "ada"}, "sessions": [], "ratings": [{"movie_id": "tmdb-1"}]}
    pages: dict[str | None, dict[str, Any]] = {
        None: {"items": activity(1, 3), "next": "p2"},
        "p2": {"items": activity(4, 5), "next": "p3"},
        "p3": {"items": [], "next": None},
    }

    def page(asked: Any) -> Any:
        return reply(pages[httpx.URL(asked.target).params.get("after")])

    desks.rating.replies["GET /users/me/export"] = reply(held)
    desks.compute.replies["GET /users/user-9/activity"] = page
    answer = await client.get("/users/me/export", headers=bearer("user-9"))
    assert answer.status_code == 200
    assert answer.json() == {**held, "activity": activity(1, 5)}
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"
    assert len(desks.compute.asked) == 3

    desks.compute.replies["GET /users/user-9/activity"] = reply({"items": [], "next": None})
    again = await client.get("/users/me/export", headers=bearer("user-9"))
    assert again.json() == {**held, "activity": []}


async def test_an_export_is_whole_or_refused(
    client: httpx.AsyncClient, desks: Any, reply: Any, bearer: Bearer
) -> None:
    desks.rating.replies["GET /users/me/export"] = reply({"account": {}})
    await desks.compute.stop()
    answer = await client.get("/users/me/export", headers=bearer("user-9"))
    assert answer.status_code == 503
    assert "compute-service" in answer.json()["detail"]
    gone = problem(401, "Gone")
    desks.rating.replies["GET /users/me/export"] = reply(gone, 401)
    answer = await client.get("/users/me/export", headers=bearer("user-9"))
    assert (answer.status_code, answer.json()) == (401, gone)
