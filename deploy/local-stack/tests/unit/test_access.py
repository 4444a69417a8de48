"""Signing in, at an HTTP server that gives out tokens which are good for one second or for long."""

import json
from collections.abc import Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qsl

import httpx
import pytest
from local_stack.access import ApiKey, RefusedError, SignedIn, SignInError, auth_for
from local_stack.settings import Home, Settings

PASSWORD = "correct horse battery"


@dataclass
class Gateway:
    """What it was asked, and how it answers."""

    url: str = ""
    expires_in: int = 600
    sign_ins: int = 0
    status: int = 200
    revoked: set[str] = field(default_factory=set[str])
    seen: list[tuple[str, str | None]] = field(default_factory=list[tuple[str, str | None]])


@pytest.fixture
def gateway() -> Generator[Gateway]:
    state = Gateway()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            if self.path != "/api/v1/auth/token":
                self._private(body)
                return
            state.sign_ins += 1
            form = dict(parse_qsl(body))
            if state.status != 200:
                self._answer(state.status, {"detail": "Too many tries."}, {"retry-after": "7"})
            elif form == {"grant_type": "password", "username": "ann", "password": PASSWORD}:
                token = f"token-{state.sign_ins}"
                self._answer(200, {"access_token": token, "expires_in": state.expires_in})
            else:
                self._answer(400, {"error": "invalid_grant"})

        def _private(self, body: str) -> None:
            given = self.headers["authorization"]
            state.seen.append((body, given or self.headers["x-api-key"]))
            known = given is None or given.removeprefix("Bearer ") not in state.revoked
            self._answer(200 if known else 401, {})

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

        def _answer(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


def signed_in(gateway: Gateway, password: str = PASSWORD) -> httpx.Client:
    auth = SignedIn(gateway.url, "ann", password, source="the file")
    return httpx.Client(base_url=gateway.url, auth=auth, trust_env=False)


def test_one_token_serves_many_requests(gateway: Gateway) -> None:
    with signed_in(gateway) as client:
        for _ in range(3):
            assert client.post("/jobs", content=b"x").status_code == 200
    assert gateway.sign_ins == 1
    assert gateway.seen == [("x", "Bearer token-1")] * 3


def test_a_token_that_is_about_to_expire_is_replaced(gateway: Gateway) -> None:
    gateway.expires_in = 10
    with signed_in(gateway) as client:
        client.post("/jobs")
        client.post("/jobs")
    assert [token for _, token in gateway.seen] == ["Bearer token-1", "Bearer token-2"]


def test_a_token_that_is_refused_is_replaced_once_and_the_file_sent_again(
    gateway: Gateway, tmp_path: Path
) -> None:
    file = tmp_path / "films.csv"
    file.write_text("title\nHeat\n")
    gateway.revoked = {"token-1"}
    with signed_in(gateway) as client:
        with file.open("rb") as content:
            assert client.post("/upload", files={"file": content}).status_code == 200
        gateway.revoked = {"token-2", "token-3"}
        assert client.post("/jobs").status_code == 401
    (first, _), (second, token) = gateway.seen[:2]
    assert "Heat" in first
    assert first == second
    assert token == "Bearer token-2"
    assert gateway.sign_ins == 3


def test_a_wrong_password_is_named_by_its_place(gateway: Gateway) -> None:
    with signed_in(gateway, "wrong") as client, pytest.raises(RefusedError) as caught:
        client.post("/jobs")
    assert "does not know ann with the password in the file" in str(caught.value)
    assert gateway.seen == []


def test_a_limit_says_when_to_try_again(gateway: Gateway) -> None:
    gateway.status = 429
    with (
        signed_in(gateway) as client,
        pytest.raises(SignInError, match=r"ann could not sign in: (?s:.*)Try again in 7 s"),
    ):
        client.post("/jobs")


def test_the_header_is_for_other_programs(gateway: Gateway) -> None:
    auth = SignedIn(gateway.url, "ann", PASSWORD, source="the file")
    with httpx.Client(trust_env=False) as client:
        assert auth.header(client) == "Bearer token-1"


def test_a_token_is_kept_for_the_next_command_and_for_nobody_else(
    gateway: Gateway, tmp_path: Path
) -> None:
    kept = tmp_path / "admin-token"
    with httpx.Client(trust_env=False) as client:
        for _ in range(2):
            auth = SignedIn(gateway.url, "ann", PASSWORD, source="the file", keep_in=kept)
            assert auth.header(client) == "Bearer token-1"
    assert kept.stat().st_mode & 0o777 == 0o600
    other = SignedIn(gateway.url, "bob", PASSWORD, source="the file", keep_in=kept)
    with httpx.Client(trust_env=False) as client, pytest.raises(RefusedError):
        other.header(client)

    gateway.revoked = {"token-1"}  # by a reset, for instance
    auth = SignedIn(gateway.url, "ann", PASSWORD, source="the file", keep_in=kept)
    answer = httpx.post(f"{gateway.url}/jobs", auth=auth, trust_env=False)
    assert answer.status_code == 200
    assert kept.read_text().endswith(" ann token-3")


def test_an_api_key_comes_first(gateway: Gateway) -> None:
    environ = {"MOVIEMETRIC_API_KEY": "mm_key", "ADMIN_PASSWORD": PASSWORD}
    auth = auth_for(gateway.url, environ)
    assert isinstance(auth, ApiKey)
    httpx.post(f"{gateway.url}/jobs", auth=auth, trust_env=False)
    assert gateway.seen == [("", "mm_key")]


def test_the_environment_names_an_administrator(gateway: Gateway) -> None:
    auth = auth_for(gateway.url, {"ADMIN_NAME": "ann", "ADMIN_PASSWORD": PASSWORD})
    httpx.post(f"{gateway.url}/jobs", auth=auth, trust_env=False)
    assert gateway.seen == [("", "Bearer token-1")]


def test_the_stacks_own_password_goes_nowhere_else(tmp_path: Path) -> None:
    environ = {"MOVIEMETRIC_HOME": str(tmp_path)}
    with pytest.raises(SignInError, match="nothing to sign in with"):
        auth_for("http://127.0.0.1:8000", environ)
    settings = Settings.load(Home(tmp_path), {})
    settings.save(Home(tmp_path))
    own = settings.http("GATEWAY")
    assert isinstance(auth_for(own, environ), SignedIn)
    assert isinstance(auth_for(own.replace("127.0.0.1", "localhost"), environ), SignedIn)
    for elsewhere in (own.replace("127.0.0.1", "films.example"), f"{own}1", "http://localhost"):
        with pytest.raises(SignInError, match="nothing to sign in with"):
            auth_for(elsewhere, environ)
