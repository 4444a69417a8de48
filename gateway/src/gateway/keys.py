"""What rating-service says of keys, kept for a while: its public ones, and the API keys it made.

Public keys (a JWK set) are kept for as long as the process lives and fetched anew every five
minutes while they are used, without anybody waiting for it. A token that names another key makes
that happen at once, but not more often than every five seconds whatever tokens name.

Of an API key only the SHA-256 of its secret is sent. A good one is believed for five seconds, so
that one which is revoked is refused that soon; a bad one is asked about again after one.
"""

import asyncio
import hashlib
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import httpx
from pydantic_core import from_json
from service_kit.http import ProblemError
from service_kit.tokens import (
    AccessToken,
    PublicKeys,
    UnknownKeyError,
    public_keys,
    read_access_token,
)

from gateway.breaker import Breaker
from gateway.readers import tls_context

log = logging.getLogger(__name__)

KEYS_LIFE: Final = 300.0
KEYS_PAUSE: Final = 5.0
BELIEVED: Final = 5.0
REFUSED: Final = 1.0
_MAX_KEPT: Final = 10_000
_AWAY_PAUSE: Final = 1.0
_RETRY_AFTER: Final = "2"
# Few, because most of what is asked is kept: a flood of invented keys waits here, not there.
_CONNECTIONS: Final = httpx.Limits(max_connections=16, max_keepalive_connections=4)
_API_KEY: Final = re.compile(r"mm_([a-z0-9]{12})_([A-Za-z0-9_-]{43})", re.ASCII)

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key that rating-service knows, and what it is good for."""

    key_id: str
    scopes: frozenset[str]


class TokenKeys:
    """Believes access tokens by the public keys at `<url>/.well-known/jwks.json`."""

    def __init__(self, client: httpx.AsyncClient, clock: Clock = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._keys: PublicKeys = {}
        self._tried = float("-inf")
        self._flight: asyncio.Task[None] | None = None

    async def believe(self, token: str) -> AccessToken:
        """What a token says; asks nobody when its key is known.

        Raises:
            InvalidTokenError: the token proves nothing.
            ProblemError: 503, no key is known and rating-service does not answer.
        """
        if self._keys and self._clock() - self._tried > KEYS_LIFE:
            self._fetch()
        try:
            return read_access_token(token, self._keys)
        except UnknownKeyError:
            if self._flight is None and self._clock() - self._tried > KEYS_PAUSE:
                self._fetch()
        if self._flight is not None:
            # Shielded: a client that goes away must not take the others' answer with it.
            await asyncio.shield(self._flight)
        if not self._keys:
            raise not_checkable()
        return read_access_token(token, self._keys)

    async def close(self) -> None:
        """Stop fetching."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.gather(self._flight, return_exceptions=True)

    def _fetch(self) -> None:
        if self._flight is None:
            self._tried = self._clock()
            self._flight = asyncio.create_task(self._load(), name="public keys")
            self._flight.add_done_callback(self._landed)

    def _landed(self, _flight: "asyncio.Task[None]") -> None:
        self._flight = None

    async def _load(self) -> None:
        try:
            response = await self._client.get("/.well-known/jwks.json")
            response.raise_for_status()
            keys = public_keys(cast("object", from_json(response.content)))
        except (httpx.HTTPError, ValueError) as error:
            log.warning("cannot fetch the public keys", extra={"error": repr(error)})
            keys = {}
        if keys:
            self._keys = keys
        elif not self._keys:
            # Nobody with a token can be let in before there are some.
            self._tried += _AWAY_PAUSE - KEYS_PAUSE


class ApiKeys:
    """Believes API keys that `<url>/internal/api-keys/verify` knows."""

    def __init__(self, client: httpx.AsyncClient, clock: Clock = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._breaker = Breaker(_AWAY_PAUSE, clock=clock)
        self._kept: OrderedDict[tuple[str, str], tuple[float, ApiKey | None]] = OrderedDict()
        self._flights: dict[tuple[str, str], asyncio.Task[ApiKey | None]] = {}

    async def believe(self, text: str) -> ApiKey | None:
        """The key that `text` is, None if it is none.

        Raises:
            ProblemError: 503, rating-service cannot be asked.
        """
        match = _API_KEY.fullmatch(text)
        if match is None:
            return None
        known = (match[1], hashlib.sha256(match[2].encode()).hexdigest())
        if (kept := self._kept.get(known)) is not None and self._clock() < kept[0]:
            return kept[1]
        flight = self._flights.get(known)
        if flight is None:
            flight = asyncio.create_task(self._ask(*known), name="API key")
            self._flights[known] = flight
            flight.add_done_callback(lambda done: self._landed(known, done))
        return await asyncio.shield(flight)

    async def close(self) -> None:
        """Stop asking."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _landed(self, known: tuple[str, str], flight: "asyncio.Task[ApiKey | None]") -> None:
        del self._flights[known]
        if not flight.cancelled():
            flight.exception()  # nobody may be left to take it

    async def _ask(self, key_id: str, digest: str) -> ApiKey | None:
        if not self._breaker.allows():
            raise not_checkable()
        # A key that is revoked while it is asked about counts from before that.
        asked_at = self._clock()
        try:
            response = await self._client.post(
                "/internal/api-keys/verify", json={"key_id": key_id, "digest": digest}
            )
            found = _found(response)
        except (httpx.HTTPError, ValueError) as error:
            # Too few connections says nothing about the service.
            if not isinstance(error, httpx.PoolTimeout) and self._breaker.failed():
                log.warning("cannot verify API keys", extra={"error": repr(error)})
            raise not_checkable() from error
        self._breaker.succeeded()
        self._kept[key_id, digest] = (asked_at + (BELIEVED if found else REFUSED), found)
        self._kept.move_to_end((key_id, digest))
        if len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)
        return found


def key_client(rating_url: str, *, timeout: float) -> httpx.AsyncClient:
    """A client for both; `timeout` in seconds for an answer."""
    return httpx.AsyncClient(
        base_url=rating_url,
        timeout=httpx.Timeout(timeout, connect=min(0.5, timeout)),
        limits=_CONNECTIONS,
        verify=tls_context(),
        trust_env=False,
    )


def not_checkable() -> ProblemError:
    """The 503 for credentials that nobody can judge at the moment."""
    return ProblemError(
        503,
        "Credentials cannot be checked",
        "rating-service, which knows them, does not answer; try again shortly.",
        headers={"Retry-After": _RETRY_AFTER},
    )


def _found(response: httpx.Response) -> ApiKey | None:
    if response.status_code == 404:
        return None
    response.raise_for_status()
    fields = cast("object", from_json(response.content))
    if not isinstance(fields, dict):
        msg = "expected an object"
        raise ValueError(msg)
    said = cast("dict[str, Any]", fields)
    scopes: object = said.get("scopes")
    if not isinstance(scopes, list):
        msg = "expected a list of scopes"
        raise ValueError(msg)
    return ApiKey(str(said.get("key_id")), frozenset(map(str, cast("list[object]", scopes))))
