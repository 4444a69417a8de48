"""Accounts, sessions, limits and API keys, through the gateway."""

from typing import Any

import httpx
import pytest
from harness import LiveStack, User, eventually
from harness.clients import BATCH_JSON, Api, cloud_event
from harness.live_stack import PASSWORD
from moviemetric_contracts import UserErased

NEW_PASSWORD = "another uncommon password of the tests"


def sign_in(api: Api, name: str, password: str = PASSWORD) -> httpx.Response:
    form = {"grant_type": "password", "username": name, "password": password}
    return api.http.post("/auth/token", data=form)


def refresh(api: Api, token: str) -> httpx.Response:
    return api.http.post(
        "/auth/token", data={"grant_type": "refresh_token", "refresh_token": token}
    )


def me(api: Api, token: str) -> httpx.Response:
    return api.http.get("/users/me", headers={"authorization": f"Bearer {token}"})


def test_a_user_signs_up_signs_in_and_is_seen(stack: LiveStack) -> None:
    ann = stack.sign_up("Ann.Über_4")
    tokens = sign_in(stack.anonymous, "ann.über_4")
    assert tokens.status_code == 200
    assert tokens.headers["cache-control"] == "no-store"
    assert tokens.json()["token_type"].lower() == "bearer"
    assert tokens.json()["expires_in"] == 3600
    account = ann.get("/users/me")
    assert (account["name"], account["role"]) == ("Ann.Über_4", "user")
    assert account["ratings"] == {"count": 0, "mean": None}
    ann.rate("8358", 7.5)
    profile = eventually(
        "the profile to have the rating",
        lambda: (
            found
            if (found := stack.anonymous.get("/users/Ann.Über_4"))
            and found["ratings"]["count"] == 1
            else None
        ),
        seconds=10,
    )
    assert profile["ratings"]["mean"] == 7.5
    assert profile["ratings"]["histogram"]["7.5"] == 1
    assert "user-" not in str(profile)
    assert stack.anonymous.http.get("/users/nobody-of-this-name").status_code == 404


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("collide-Ada", "COLLIDE-ADA"),
        ("collide-\uff42\uff4f\uff42", "collide-bob"),
        ("collide-straße", "collide-STRASSE"),
        ("collide-\u00c5", "collide-A\u030a"),
        ("collide-\ufb01n", "collide-fin"),
    ],
)
def test_names_that_collide_after_normalisation_are_taken(
    stack: LiveStack, first: str, second: str
) -> None:
    stack.sign_up(first)
    answer = stack.anonymous.http.post("/users", json={"name": second, "password": PASSWORD})
    assert answer.status_code == 409, answer.text
    assert sign_in(stack.anonymous, second).status_code == 200


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("me", PASSWORD),
        ("ab", PASSWORD),
        ("x" * 31, PASSWORD),
        ("with space", PASSWORD),
        ("slash/ed", PASSWORD),
        ("zero\u200bwidth", PASSWORD),
        ("", PASSWORD),
        ("short-password", "k3!vQz9&x"),
        ("long-password", "kvQz9x" * 22),
        ("common-password", "password1234"),
        ("common-password-2", "Iloveyou123"),
        ("own-name-as-password", "own-name-as-password"),
        ("repeated-character", "aaaaaaaaaaaaaa"),
    ],
)
def test_wrong_names_and_passwords_are_refused_in_words(
    stack: LiveStack, name: str, password: str
) -> None:
    with stack.tap() as tap:
        answer = stack.anonymous.http.post("/users", json={"name": name, "password": password})
        assert tap.taken() == []
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    field = "password" if "password" in name or "repeated" in name else "name"
    assert {error["field"] for error in answer.json()["errors"]} == {field}
    assert password not in answer.text or password == name


def test_a_refresh_token_is_good_once_and_its_reuse_ends_the_session(stack: LiveStack) -> None:
    stack.sign_up("rita-who-refreshes")
    first = sign_in(stack.anonymous, "rita-who-refreshes").json()
    elsewhere = sign_in(stack.anonymous, "rita-who-refreshes").json()
    second = refresh(stack.anonymous, first["refresh_token"])
    assert second.status_code == 200
    assert second.headers["cache-control"] == "no-store"
    third = refresh(stack.anonymous, second.json()["refresh_token"])
    assert third.status_code == 200
    tokens = [first, second.json(), third.json()]
    assert len({item["refresh_token"] for item in tokens}) == 3
    assert all(me(stack.anonymous, item["access_token"]).status_code == 200 for item in tokens)

    stolen = refresh(stack.anonymous, first["refresh_token"])
    assert (stolen.status_code, stolen.json()["error"]) == (400, "invalid_grant")
    for item in tokens:
        assert refresh(stack.anonymous, item["refresh_token"]).status_code == 400
    # The user's other session is no part of it.
    assert refresh(stack.anonymous, elsewhere["refresh_token"]).status_code == 200


def test_signing_out_ends_the_session(stack: LiveStack) -> None:
    stack.sign_up("sam-who-signs-out")
    tokens = sign_in(stack.anonymous, "sam-who-signs-out").json()
    for _ in range(2):
        answer = stack.anonymous.http.post("/auth/revoke", data={"token": tokens["refresh_token"]})
        assert answer.status_code == 200
    assert refresh(stack.anonymous, tokens["refresh_token"]).status_code == 400
    unknown = stack.anonymous.http.post("/auth/revoke", data={"token": "never given out"})
    assert unknown.status_code == 200


def test_a_new_password_signs_out_everywhere(stack: LiveStack) -> None:
    paula = stack.sign_up("paula-with-two")
    tokens = [sign_in(stack.anonymous, paula.name).json() for _ in range(2)]
    body = {"current_password": NEW_PASSWORD, "new_password": NEW_PASSWORD}
    refused = paula.http.put("/users/me/password", json=body)
    assert refused.status_code == 403
    weak = {"current_password": PASSWORD, "new_password": "password1234"}
    assert paula.http.put("/users/me/password", json=weak).status_code == 422
    changed = paula.http.put(
        "/users/me/password", json={"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    )
    assert changed.status_code == 204
    for item in tokens:
        assert refresh(stack.anonymous, item["refresh_token"]).status_code == 400
    assert sign_in(stack.anonymous, paula.name).status_code == 400
    assert sign_in(stack.anonymous, paula.name, NEW_PASSWORD).status_code == 200


def test_a_wrong_name_and_a_wrong_password_have_the_same_answer(stack: LiveStack) -> None:
    stack.sign_up("known-to-all")
    known = sign_in(stack.anonymous, "known-to-all", NEW_PASSWORD)
    unknown = sign_in(stack.anonymous, "known-to-none", NEW_PASSWORD)
    assert known.status_code == unknown.status_code == 400
    assert known.json() == unknown.json()
    assert known.json()["error"] == "invalid_grant"
    alike = ("content-type", "cache-control", "content-length")
    assert [known.headers[name] for name in alike] == [unknown.headers[name] for name in alike]


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"grant_type": "password", "username": "ann"}, "invalid_request"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "x"}, "invalid_grant"),
    ],
)
def test_forms_that_are_no_sign_in(stack: LiveStack, form: dict[str, str], error: str) -> None:
    answer = stack.anonymous.http.post("/auth/token", data=form)
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert answer.headers["content-type"] == "application/problem+json"


def test_sign_ins_are_limited_for_an_account_and_address(stack: LiveStack) -> None:
    lena = stack.sign_up("lena-the-limited")
    limits = {"LIMIT_LOGINS_PER_ACCOUNT_AND_ADDRESS": "3/minute"}
    with stack.another_gateway("limited-gateway", env=limits) as url:
        limited = Api(url, secrets=stack.secrets)
        for name in (lena.name, "lena-of-no-account"):
            left = [sign_in(limited, name, NEW_PASSWORD) for _ in range(3)]
            assert [answer.status_code for answer in left] == [400, 400, 400]
            assert [answer.headers["ratelimit-remaining"] for answer in left] == ["2", "1", "0"]
            assert {answer.headers["ratelimit-limit"] for answer in left} == {"3"}
            # The right password does not help any more, and another spelling is the same account.
            for spelling in (name, name.upper()):
                refused = sign_in(limited, spelling)
                assert refused.status_code == 429
                assert refused.headers["content-type"] == "application/problem+json"
                assert 1 <= int(refused.headers["retry-after"]) <= 120
                assert refused.headers["ratelimit-remaining"] == "0"
                assert int(refused.headers["ratelimit-reset"]) >= 1
        # Another account from the same address is another matter, and so is what needs no password.
        assert sign_in(limited, "somebody-else", NEW_PASSWORD).status_code == 400
        assert limited.get("/movies") is not None
        limited.close()


def test_ratings_are_limited_for_a_user(stack: LiveStack) -> None:
    ron, una = stack.sign_up("ron-the-restless"), stack.sign_up("una-the-unhurried")
    with stack.another_gateway("limited-gateway", env={"LIMIT_RATINGS_PER_USER": "2/hour"}) as url:
        headers = {"authorization": f"Bearer {ron.token}"}
        limited = httpx.Client(base_url=f"{url}/api/v1", headers=headers, trust_env=False)
        with stack.tap() as tap, limited:
            answers = [limited.put("/movies/8358/rating", json={"score": 5}) for _ in range(3)]
            published = [item for item in tap.taken() if item.routing_key == "movie.rate.v1"]
        assert [answer.status_code for answer in answers] == [202, 202, 429]
        assert int(answers[2].headers["retry-after"]) >= 1
        assert len(published) == 2
        other = httpx.put(
            f"{url}/api/v1/movies/8358/rating",
            json={"score": 5},
            headers={"authorization": f"Bearer {una.token}"},
            trust_env=False,
        )
        assert other.status_code == 202


def send(stack: LiveStack, key: str, event_id: str) -> httpx.Response:
    event = cloud_event("movie.register.v1", event_id, {"tmdb_id": 27205})
    return stack.anonymous.http.post(
        "/events", json=[event], headers={"x-api-key": key, "content-type": BATCH_JSON}
    )


def test_an_api_key_opens_what_its_scopes_say_until_it_is_revoked(stack: LiveStack) -> None:
    events, views = stack.api_key("events"), stack.api_key("views")
    assert events.startswith("mm_")
    assert send(stack, events, "key-1").status_code == 202
    assert send(stack, views, "key-2").status_code == 403
    admin_route = stack.anonymous.http.get("/admin/jobs", headers={"x-api-key": events})
    assert admin_route.status_code == 403
    listed = stack.api.get("/admin/api-keys")["items"]
    by_id = {item["key_id"]: item for item in listed}
    key_id = events.split("_")[1]
    assert by_id[key_id]["scopes"] == ["events"]
    assert events.split("_", 2)[2] not in str(listed)
    assert (
        stack.rows(
            "SELECT 1 FROM rating.api_keys AS k WHERE k::text LIKE %(secret)s",
            secret=f"%{events.split('_', 2)[2]}%",
        )
        == []
    )

    for _ in range(2):
        answer = stack.api.http.delete(f"/admin/api-keys/{key_id}")
        assert answer.status_code in {204, 404}
    eventually(
        "the gateway to have forgotten the key",
        lambda: send(stack, events, "key-3").status_code == 401,
        seconds=8,
    )
    wrong = f"{views[:-2]}{'aa' if views[-2:] != 'aa' else 'bb'}"
    refused = stack.anonymous.http.post(
        "/movies/view", json={"tmdb_id": 27205}, headers={"x-api-key": wrong}
    )
    assert refused.status_code == 401


def test_what_administrators_do_is_recorded(stack: LiveStack) -> None:
    rosa = stack.sign_up("rosa-who-rises")
    path = f"/admin/users/{rosa.name}/role"
    assert stack.api.http.put(path, json={"role": "admin"}).json()["role"] == "admin"
    promoted = stack.user(rosa.name)
    assert promoted.get("/admin/audit", limit=5) is not None
    records: list[dict[str, Any]] = eventually(
        "the record of it",
        lambda: (
            items
            if (items := stack.api.get("/admin/audit", actor=stack.api.user_id)["items"])
            and "role" in items[0]["action"]
            else None
        ),
    )
    assert records[0]["address"] == "127.0.0.1"
    assert stack.api.http.put(path, json={"role": "user"}).status_code == 200


def test_the_export_holds_everything(stack: LiveStack) -> None:
    ezra = stack.sign_up("ezra-the-exporter")
    ezra.rate("8358", 3.5, "A review to be exported.")
    assert ezra.http.post("/movies/view", json={"tmdb_id": 8358}).status_code == 202
    stack.drain()
    export = ezra.get("/users/me/export")
    assert export["account"]["name"] == ezra.name
    [rating] = export["ratings"]
    assert (rating["score"], rating["review"]) == (3.5, "A review to be exported.")
    assert len(export["sessions"]) >= 1
    assert {item["movie_id"] for item in export["activity"]} == {"tmdb-8358"}
    assert "argon2" not in str(export)
    assert ezra.token not in str(export)


def test_the_only_administrator_stays(stack: LiveStack) -> None:
    administrators = stack.rows("SELECT count(*) AS n FROM rating.users WHERE role = 'admin'")
    assert administrators == [{"n": 1}]
    with stack.tap() as tap:
        assert (
            stack.api.http.put(
                f"/admin/users/{stack.api.name}/role", json={"role": "user"}
            ).status_code
            == 409
        )
        leaving = stack.api.http.request("DELETE", "/users/me", json={"password": PASSWORD})
        assert leaving.status_code == 409
        types = {item.body["type"] for item in tap.taken()}
    assert UserErased.TYPE not in types


def test_the_logs_hold_no_secret(stack: LiveStack) -> None:
    assert isinstance(stack.api, User)
    assert stack.leaks() == {}
