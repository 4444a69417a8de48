"""Asks the TMDB API, version 3, and never harder than it allows.

All requests share one pace, one bound on how many are in flight, and one cool-down:

    429      while nearly all else is answered concerns the one request: it alone waits as long as
             `Retry-After` says. As soon as more than a fifth of the answers of the last two
             seconds are 429, or the wait is a long one, it concerns the address: nothing is sent
             until then.
    503      with `Retry-After`: nothing is sent until then.
    others   a 5xx, a timeout and a broken connection are tried again after growing delays, a few
             times. An attempt is given up early, as soon as it takes much longer than answers do at
             present, because one that hangs holds up a run; each further one has more patience.

When the key is refused, nothing more is asked for a minute: asking on would only get the address
banned. TMDB allows an address about 40 requests a second on 20 connections.

The key is put into a request below httpx's client. What httpx logs, and the request that its
exceptions carry, is the address without it.
"""

import asyncio
import json
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final, NoReturn, cast

import httpx
from prometheus_client import Counter

from ingest_service.rate_limit import Grant, PausedError, RateLimiter, RefusalShare
from ingest_service.retry import growing_delay, retry_after_seconds

_log = logging.getLogger(__name__)
_requests = Counter("moviemetric_tmdb_requests", "Requests by what came of them", ["outcome"])

_APPENDED: Final = "credits,keywords,external_ids,release_dates"
_KEY_REFUSED_PAUSE: Final = 60.0
_LONGEST_COOL_DOWN: Final = 30.0  # a longer one is handed to the caller instead of waited for
_USUAL_COOL_DOWN: Final = 1.0
_LONGEST_OF_ONE: Final = 3.0  # a 429 that asks for more than this is about the address
_BULK_SHARE: Final = 0.8
_MUCH_LONGER: Final = 8.0
_RECENT_ANSWERS: Final = 10
_BEARER_LENGTH: Final = 64  # a v3 key has 32 characters, a v4 token (a JWT) well above 100


class TmdbError(Exception):
    """Base of what can go wrong; the message is for people and never holds the key."""


class ApiKeyError(TmdbError):
    """No key, or one that TMDB refuses: no film can be fetched until somebody sets another."""

    def __init__(self, problem: str) -> None:
        self.retry_after = _KEY_REFUSED_PAUSE
        super().__init__(f"{problem}; set TMDB_API_KEY to a valid key and restart")


class TmdbCoolDownError(TmdbError):
    """TMDB wants not to be asked at all for `retry_after` seconds."""

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(f"TMDB asks to wait {retry_after:.0f} s")


class TmdbUnavailableError(TmdbError):
    """Several attempts in a row failed; `reason` is the last one's."""

    def __init__(self, path: str, reason: str, attempts: int) -> None:
        self.reason = reason
        self.attempts = attempts
        super().__init__(f"TMDB did not answer {path}: {reason} (attempt {attempts})")


class TmdbUnreachableError(TmdbUnavailableError):
    """There is no way to TMDB at all, whichever film is asked for."""

    retry_after = 10.0


class TmdbAnswerError(TmdbError):
    """An answer that is none: too large, not JSON, or a status that this request cannot have."""

    def __init__(self, path: str, problem: str) -> None:
        self.problem = problem
        super().__init__(f"TMDB's answer to {path} is unusable: {problem}")


@dataclass(frozen=True, kw_only=True)
class TmdbDocument:
    """The body of one film as it was received (`text`) and parsed (`body`).

    `fetched_at` is when the request was sent: what the body says is at least as new.
    """

    tmdb_id: int
    text: str
    body: object
    etag: str | None
    fetched_at: datetime


@dataclass(frozen=True, kw_only=True)
class TmdbNotFound:
    """TMDB said that it has no such film."""

    tmdb_id: int
    fetched_at: datetime


@dataclass(frozen=True, kw_only=True)
class _Answer:
    status: int
    headers: httpx.Headers
    content: bytes
    sent_at: datetime
    sent_at_clock: float


@dataclass(kw_only=True)
class BulkLane:
    """A bulk user's way to TMDB: it leaves some of the connections to everybody else.

    `requests` counts what was sent for it, repeated attempts included.
    """

    slots: asyncio.Semaphore = field(repr=False)
    requests: int = 0


class _Keyed(httpx.AsyncBaseTransport):
    """Adds the key to each request: a v4 token as a header, a v3 key in the query."""

    def __init__(self, key: str, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self._is_bearer = key.count(".") == 2 and len(key) > _BEARER_LENGTH
        self._key = key

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url, headers = request.url, request.headers.copy()
        if self._is_bearer:
            headers["Authorization"] = f"Bearer {self._key}"
        else:
            url = url.copy_merge_params({"api_key": self._key})
        keyed = httpx.Request(
            request.method,
            url,
            headers=headers,
            stream=request.stream,
            extensions=request.extensions,
        )
        return await self._inner.handle_async_request(keyed)

    async def aclose(self) -> None:
        await self._inner.aclose()


class TmdbClient:
    """One per process; several calls may run at once.

    Args:
        base_url: with the version, such as `https://api.themoviedb.org/3`.
        api_key: a v3 key or v4 token; None makes every call raise `ApiKeyError`.
        requests_per_second: what TMDB allows.
        max_concurrency: requests in flight.
        first_read_timeout: seconds without a byte after which the first attempt is given up, or
            eight times as long as answers take at present; doubles for each further one.
        read_timeout: the longest of these.
        total_timeout: seconds for one request, whatever its parts take.
        max_attempts: requests for one call before it raises `TmdbUnavailableError`.
        retry_delay: seconds before the second attempt, doubling from there.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        *,
        requests_per_second: float = 40,
        max_concurrency: int = 20,
        connect_timeout: float = 3,
        first_read_timeout: float = 1.5,
        read_timeout: float = 10,
        total_timeout: float = 15,
        max_attempts: int = 4,
        retry_delay: float = 0.25,
        max_body_bytes: int = 8 * 1024 * 1024,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._limiter = RateLimiter(
            requests_per_second, patience=_LONGEST_COOL_DOWN, clock=clock, sleep=sleep
        )
        self._refusals = RefusalShare(clock=clock)
        self._slots = asyncio.Semaphore(max_concurrency)
        self._bulk_slots = asyncio.Semaphore(max(1, math.floor(max_concurrency * _BULK_SHARE)))
        self._connect_timeout = connect_timeout
        self._first_read_timeout = first_read_timeout
        self._read_timeout = read_timeout
        self._usual_time = 0.0
        self._total_timeout = total_timeout
        self._max_attempts = max_attempts
        self._retry_delay = retry_delay
        self._max_body_bytes = max_body_bytes
        self._clock = clock
        self._sleep = sleep
        self._dice = dice
        self._key_problem = (
            None if api_key else "there is no TMDB API key, so no film can be fetched"
        )
        self._refused_until = float("-inf") if api_key else float("inf")
        limits = httpx.Limits(
            max_connections=max_concurrency, max_keepalive_connections=max_concurrency
        )
        self._http = httpx.AsyncClient(
            transport=_Keyed(api_key or "", httpx.AsyncHTTPTransport(limits=limits)),
            headers={"Accept": "application/json"},
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def check(self) -> None:
        """Raise what makes TMDB unusable as far as is known, without asking it.

        Raises:
            ApiKeyError, TmdbCoolDownError: the last answers said so, or there is no key.
        """
        if self._key_problem is not None:
            raise ApiKeyError(self._key_problem)
        if (left := self._limiter.paused_for()) > _LONGEST_COOL_DOWN:
            raise TmdbCoolDownError(left)

    @property
    def has_key(self) -> bool:
        """Whether there is a key at all."""
        return self._refused_until < float("inf")

    def bulk_lane(self) -> BulkLane:
        """For a run of many requests. All lanes together leave some connections to others."""
        return BulkLane(slots=self._bulk_slots)

    async def fetch_movie(
        self, tmdb_id: int, *, lane: BulkLane | None = None
    ) -> TmdbDocument | TmdbNotFound:
        """A film with its credits, keywords, external ids and release dates.

        Raises:
            ApiKeyError: there is no key, or TMDB refuses it.
            TmdbCoolDownError: TMDB wants a longer rest than is worth waiting for here.
            TmdbUnavailableError: every attempt failed.
            TmdbAnswerError: it answered something that is no document.
        """
        path = f"/movie/{tmdb_id}"
        answer = await self._get(path, {"append_to_response": _APPENDED}, lane)
        text, body = _parse(path, answer.content)
        if answer.status == HTTPStatus.NOT_FOUND:
            # A wrong TMDB_BASE_URL or a proxy answers 404 too. Only TMDB's own may remove a film.
            if not isinstance(_field(body, "status_code"), int):
                _raise_foreign(path, answer, "is a 404 page that is not TMDB's")
            return TmdbNotFound(tmdb_id=tmdb_id, fetched_at=answer.sent_at)
        return TmdbDocument(
            tmdb_id=tmdb_id,
            text=text,
            body=body,
            etag=answer.headers.get("etag"),
            fetched_at=answer.sent_at,
        )

    async def fetch_json(
        self, path: str, params: Mapping[str, str], *, lane: BulkLane | None = None
    ) -> object:
        """The parsed body of anything else, such as a page of a list.

        Raises:
            ApiKeyError, TmdbCoolDownError, TmdbUnavailableError, TmdbAnswerError: as for a film; a
                404 is a `TmdbAnswerError`.
        """
        answer = await self._get(path, params, lane)
        if answer.status == HTTPStatus.NOT_FOUND:
            _raise_foreign(path, answer, "has status 404")
        return _parse(path, answer.content)[1]

    async def _get(self, path: str, params: Mapping[str, str], lane: BulkLane | None) -> _Answer:
        """The answer with status 200 or 404; everything else is an exception."""
        attempt = 0
        while True:
            attempt += 1
            try:
                answer = await self._send(path, params, lane, self._patience(attempt))
            except (httpx.TransportError, httpx.DecodingError, TimeoutError) as error:
                _requests.labels("broken").inc()
                reason = f"{type(error).__name__}: {error}".rstrip(": ")
                connecting = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                gives_up_with = TmdbUnreachableError if connecting else TmdbUnavailableError
                await self._wait_or_give_up(path, reason, attempt, gives_up_with)
                continue
            _requests.labels(str(answer.status)).inc()
            if answer.status != HTTPStatus.TOO_MANY_REQUESTS:
                self._refusals.answered()
            if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
                self._refuse_key(answer)
            if answer.status in {HTTPStatus.OK, HTTPStatus.NOT_FOUND}:
                self._key_problem = None
                return answer
            asked_for = retry_after_seconds(
                answer.headers.get("retry-after"), now=datetime.now(UTC)
            )
            if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
                await self._after_refusal(path, answer, asked_for, attempt)
            elif answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                if asked_for is not None:
                    self._cool_down(asked_for)
                await self._wait_or_give_up(path, f"status {answer.status}", attempt)
            else:
                _raise_foreign(path, answer, f"has status {answer.status}")

    def _patience(self, attempt: int) -> float:
        """Seconds without a byte before the attempt is given up."""
        first = max(self._first_read_timeout, _MUCH_LONGER * self._usual_time)
        return min(first * math.pow(2.0, attempt - 1), self._read_timeout)

    async def _send(
        self, path: str, params: Mapping[str, str], lane: BulkLane | None, patience: float
    ) -> _Answer:
        async with AsyncExitStack() as held:
            # The slots come first: once the limiter has let a request go, nothing may delay it.
            if lane is not None:
                await held.enter_async_context(lane.slots)
            await held.enter_async_context(self._slots)
            self._raise_if_refused()
            try:
                grant = await self._limiter.acquire()
            except PausedError as pause:
                raise TmdbCoolDownError(pause.seconds) from None
            self._raise_if_refused()
            if lane is not None:
                lane.requests += 1
            return await self._exchange(path, params, patience, grant)

    async def _exchange(
        self, path: str, params: Mapping[str, str], patience: float, grant: Grant
    ) -> _Answer:
        """One request, at once."""
        sent_at, sent_at_clock = datetime.now(UTC), self._clock()
        content = bytearray()
        async with (
            asyncio.timeout(self._total_timeout),
            self._http.stream(
                "GET",
                self.base_url + path,
                params=params,
                timeout=httpx.Timeout(patience, connect=self._connect_timeout),
            ) as response,
        ):
            grant.answered()
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > self._max_body_bytes:
                    raise TmdbAnswerError(path, f"longer than {self._max_body_bytes} bytes")
        self._usual_time += (self._clock() - sent_at_clock - self._usual_time) / _RECENT_ANSWERS
        return _Answer(
            status=response.status_code,
            headers=response.headers,
            content=bytes(content),
            sent_at=sent_at,
            sent_at_clock=sent_at_clock,
        )

    async def _after_refusal(
        self, path: str, answer: _Answer, asked_for: float | None, attempt: int
    ) -> None:
        """Wait as a 429 asks to: alone, or everybody together."""
        is_crowd = self._refusals.refused(sent_at=answer.sent_at_clock)
        if is_crowd or (asked_for or 0.0) > _LONGEST_OF_ONE:
            self._cool_down(_USUAL_COOL_DOWN if asked_for is None else asked_for)
        if paused := self._limiter.paused_for():  # which the next attempt will wait for
            if attempt >= self._max_attempts:
                raise TmdbCoolDownError(max(paused, _USUAL_COOL_DOWN))
        elif asked_for and attempt < self._max_attempts:
            await self._sleep(asked_for)
        else:
            await self._wait_or_give_up(path, f"status {answer.status}", attempt)

    async def _wait_or_give_up(
        self,
        path: str,
        reason: str,
        attempt: int,
        gives_up_with: type[TmdbUnavailableError] = TmdbUnavailableError,
    ) -> None:
        if attempt >= self._max_attempts:
            raise gives_up_with(path, reason, attempt)
        delay = growing_delay(attempt, base=self._retry_delay, dice=self._dice())
        _log.warning("TMDB failed, trying again", extra={"path": path, "reason": reason})
        await self._sleep(delay)

    def _cool_down(self, seconds: float) -> None:
        _log.warning("TMDB asks to wait", extra={"seconds": seconds})
        self._limiter.pause(seconds)

    def _raise_if_refused(self) -> None:
        if self._key_problem is not None and self._clock() < self._refused_until:
            raise ApiKeyError(self._key_problem)

    def _refuse_key(self, answer: _Answer) -> NoReturn:
        message = _status_message(answer.content)
        self._key_problem = f"TMDB refuses the API key (status {answer.status}{message})"
        self._refused_until = self._clock() + _KEY_REFUSED_PAUSE
        _log.error("TMDB refuses the API key", extra={"status": answer.status})
        raise ApiKeyError(self._key_problem)


def _parse(path: str, content: bytes) -> tuple[str, object]:
    try:
        text = content.decode("utf-8")
        body: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        problem = f"{len(content)} bytes that are not JSON ({error})"
        raise TmdbAnswerError(path, problem) from None
    return text, body


def _field(body: object, name: str) -> object:
    return cast("dict[str, object]", body).get(name) if isinstance(body, dict) else None


def _status_message(content: bytes) -> str:
    try:
        message = _field(json.loads(content), "status_message")
    except (ValueError, RecursionError):
        return ""
    return f": {message[:200]}" if isinstance(message, str) else ""


def _raise_foreign(path: str, answer: _Answer, problem: str) -> NoReturn:
    message = _status_message(answer.content)
    raise TmdbAnswerError(path, f"it {problem}{message}; is TMDB_BASE_URL right?")
