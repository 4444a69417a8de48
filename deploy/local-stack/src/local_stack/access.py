"""Signing in at a gateway, for what an administrator or an API key alone may do.

Name and password are exchanged for an access token, and exchanged again shortly before it expires,
so that a program may run for as long as it likes. Neither is ever part of a command line. For the
stack of this checkout the token is kept in a private file meanwhile: sign-ins are limited, and a
script may well call `make import` or `make token` more often.
"""

import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from local_stack.accounts import private_file
from local_stack.problems import problem_of
from local_stack.settings import CHECKOUT, Settings, find_home

_PREFIX: Final = "/api/v1"
_EARLY_SECONDS: Final = 30.0
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost"})


class SignInError(Exception):
    """The gateway cannot be used as an administrator; the message says why and what to do."""


class RefusedError(SignInError):
    """Name or password is wrong."""


class SignedIn(httpx.Auth):
    """Requests in the name of an account, for clients that do not use asyncio."""

    def __init__(
        self,
        gateway_url: str,
        name: str,
        password: str,
        *,
        source: str,
        keep_in: Path | None = None,
    ) -> None:
        """Nothing is sent yet; `source` says where the password is written, for error messages."""
        self._url = f"{gateway_url.rstrip('/')}{_PREFIX}/auth/token"
        self._name = name
        self._password = password
        self._source = source
        self._keep_in = keep_in
        self._token = ""
        self._until = 0.0
        self._remember()

    def sync_auth_flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign in when there is no token that is still good, and once more when it is refused."""
        if time.time() >= self._until:
            self._take((yield self._sign_in()))
        request.headers["authorization"] = f"Bearer {self._token}"
        answer = yield request
        if answer.status_code == 401:
            self._take((yield self._sign_in()))
            request.headers["authorization"] = f"Bearer {self._token}"
            yield request

    def _sign_in(self) -> httpx.Request:
        form = {"grant_type": "password", "username": self._name, "password": self._password}
        return httpx.Request("POST", self._url, data=form)

    def _take(self, answer: httpx.Response) -> None:
        answer.read()
        if answer.status_code == 400:
            raise RefusedError(
                f"the gateway does not know {self._name} with the password in {self._source}. "
                "If it was changed, write the new one there."
            )
        if answer.status_code != 200:
            raise SignInError(f"{self._name} could not sign in: {problem_of(answer)}")
        tokens = answer.json()
        self._token = str(tokens["access_token"])
        self._until = time.time() + float(tokens["expires_in"]) - _EARLY_SECONDS
        if self._keep_in is not None:
            private_file(self._keep_in, f"{self._until:.0f} {self._name} {self._token}", None)

    def _remember(self) -> None:
        try:
            kept = "" if self._keep_in is None else self._keep_in.read_text()
        except OSError:
            return
        match kept.split():
            case [until, self._name, token]:
                self._until, self._token = float(until), token
            case _:
                pass

    def header(self, client: httpx.Client) -> str:
        """What the Authorization header of a request holds; signs in when that is needed.

        Raises SignInError and httpx.HTTPError.
        """
        if time.time() >= self._until:
            self._take(client.send(self._sign_in(), auth=None))
        return f"Bearer {self._token}"


class ApiKey(httpx.Auth):
    """Requests with an API key."""

    def __init__(self, key: str) -> None:
        """Nothing is checked yet."""
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send it along."""
        request.headers["x-api-key"] = self._key
        yield request


def auth_for(gateway_url: str, environ: Mapping[str, str]) -> httpx.Auth:
    """The way into a gateway: `MOVIEMETRIC_API_KEY`, or `ADMIN_NAME` and `ADMIN_PASSWORD` in the
    environment, or for this checkout's own stack what its `env` file remembers.

    Raises SignInError when there is none.
    """
    if key := environ.get("MOVIEMETRIC_API_KEY"):
        return ApiKey(key)
    if password := environ.get("ADMIN_PASSWORD"):
        name = environ.get("ADMIN_NAME") or "admin"
        return SignedIn(gateway_url, name, password, source="ADMIN_PASSWORD")
    home = find_home(CHECKOUT, environ)
    if home.env_file.exists():
        settings = Settings.load(home, environ)
        # Nobody else is told this stack's password.
        if _same(gateway_url, settings.http("GATEWAY")):
            return SignedIn(
                gateway_url,
                settings.admin_name,
                settings.admin_password,
                source=f"{home.env_file} (ADMIN_PASSWORD)",
                keep_in=home.admin_token,
            )
    raise SignInError(
        f"nothing to sign in with at {gateway_url}, which is not the stack of this checkout. Set "
        "MOVIEMETRIC_API_KEY, or ADMIN_NAME and ADMIN_PASSWORD."
    )


def _same(first: str, second: str) -> bool:
    try:
        one, other = urlsplit(first), urlsplit(second)
        return one.port == other.port and {one.hostname, other.hostname} <= _LOOPBACK
    except ValueError:
        return False
