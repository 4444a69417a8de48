"""The services' APIs over HTTP, with bounded waits and bounded connections."""

import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final, cast
from urllib.parse import quote

import httpx
from pydantic_core import from_json
from service_kit.http import ProblemError

from gateway.breaker import Breaker

log = logging.getLogger(__name__)

Params = Mapping[str, str | int | float]
Headers = Sequence[tuple[bytes, bytes]]
RETRY_AFTER: Final = "2"
_MAX_CONNECTIONS: Final = 64
# Less than the services keep an idle connection, so that no request meets one that is closing.
_KEEP_ALIVE: Final = 3.0
_PAUSE: Final = 1.0
# The services hash passwords in turn.
_SEND_SECONDS: Final = 10.0
# Between two pieces of an answer that is passed on as it arrives.
_STREAM_TIMEOUT: Final = httpx.Timeout(30.0, connect=0.5, pool=0.5)
_PASSED_ON: Final = frozenset({400, 404, 410, 422})


@cache
def tls_context() -> ssl.SSLContext:
    """The one for all clients: reading the certificates for each takes longer than the start."""
    return ssl.create_default_context()


class ServiceAwayError(Exception):
    """A service did not answer, or not with what it should."""

    def __init__(self, service: str, reason: str) -> None:
        self.service = service
        self.reason = reason
        super().__init__(f"{service} is not available: {reason}")


def service_away(error: ServiceAwayError) -> ProblemError:
    """The 503 where no earlier answer can serve."""
    return ProblemError(
        503,
        "Service not available",
        f"{error.service} does not answer; try again shortly.",
        headers={"Retry-After": RETRY_AFTER},
    )


def path_part(text: str) -> str:
    """One part of a path, which `text` cannot leave: `a/../b` → `a%2F..%2Fb`."""
    # Only these two mean something within a path although nothing in them is quoted.
    return text.replace(".", "%2E") if text in (".", "..") else quote(text, safe="")


class ServiceReader:
    """Requests to one service.

    Args:
        name: as people know it, for messages.
        base_url: `http://host:port`.
        timeout: seconds for an answer; connecting may take half a second of it.
        max_connections: at the same time.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        timeout: float = 2.0,
        max_connections: int = _MAX_CONNECTIONS,
    ) -> None:
        self.name = name
        self._timeout = timeout
        self._breaker = Breaker(_PAUSE)
        self._client = httpx.AsyncClient(
            base_url=base_url,
            timeout=self._within(timeout),
            limits=httpx.Limits(
                max_connections=max_connections,
                max_keepalive_connections=max_connections // 2,
                keepalive_expiry=_KEEP_ALIVE,
            ),
            verify=tls_context(),
            trust_env=False,
        )

    async def fetch(self, path: str, params: Params | None = None, *, wait: float = 0.0) -> bytes:
        """The body of a 200 answer, for which the service may take `wait` seconds more than usual.

        Raises:
            ServiceAwayError: no answer in time, a broken one, or a 5xx.
            ProblemError: the service refused the request (400, 404, 410, 422), passed on.
        """
        response = await self._guarded(lambda: self._get(path, params, wait))
        self._check(response)
        return response.content

    async def fetch_object(
        self, path: str, params: Params | None = None, *, wait: float = 0.0
    ) -> dict[str, Any]:
        """As `fetch`, parsed.

        Raises:
            ServiceAwayError: also when the answer is no JSON object.
            ProblemError: as `fetch`.
        """
        return parse_object(self.name, await self.fetch(path, params, wait=wait))

    async def send(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        headers: Headers = (),
        content: bytes = b"",
    ) -> httpx.Response:
        """The service's answer whatever it says: a success, a refusal (4xx), or a 503 that says
        when to come back. Its parts that come from outside must have passed `path_part`.

        It is sent once: what is not answered may or may not have had its effect.

        Raises:
            ServiceAwayError: no answer in time, a broken one, or another 5xx.
        """
        request = self._client.build_request(
            method,
            path,
            params=params,
            headers=list(headers),
            content=content or None,
            timeout=self._within(max(_SEND_SECONDS, self._timeout)),
        )
        response = await self._guarded(lambda: self._client.send(request))
        busy = response.status_code == 503 and "retry-after" in response.headers
        if not (response.is_success or response.is_client_error or busy):
            raise ServiceAwayError(self.name, f"it answered {response.status_code}")
        return response

    async def open(self, path: str) -> httpx.Response:
        """A 200 answer whose body is still to be read; the caller closes it.

        Raises:
            ServiceAwayError: as `fetch`. While the body is read, httpx.HTTPError.
            ProblemError: as `fetch`.
        """
        request = self._client.build_request("GET", path, timeout=_STREAM_TIMEOUT)
        response = await self._guarded(lambda: self._client.send(request, stream=True))
        if response.status_code != 200:
            try:
                await response.aread()
            except httpx.HTTPError as error:
                raise ServiceAwayError(self.name, type(error).__name__) from error
            finally:
                await response.aclose()
            self._check(response)
        return response

    async def ping(self) -> None:
        """Raises ServiceAwayError unless the service says that it is well."""
        try:
            response = await self._client.get("/health")
        except httpx.HTTPError as error:
            raise ServiceAwayError(self.name, type(error).__name__) from error
        if response.status_code != 200:
            raise ServiceAwayError(self.name, f"its /health answered {response.status_code}")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _guarded(self, call: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
        if not self._breaker.allows():
            raise ServiceAwayError(self.name, "it did not answer a moment ago")
        try:
            response = await call()
        except httpx.PoolTimeout as error:
            # All connections are in use, which says nothing about the service.
            raise ServiceAwayError(self.name, "too many requests wait for it") from error
        except httpx.HTTPError as error:
            if self._breaker.failed():
                log.warning("a service is away", extra={"service": self.name, "error": repr(error)})
            raise ServiceAwayError(self.name, type(error).__name__) from error
        self._breaker.succeeded()
        return response

    def _check(self, response: httpx.Response) -> None:
        if response.status_code in _PASSED_ON:
            raise _problem(response)
        if response.status_code != 200:
            raise ServiceAwayError(self.name, f"it answered {response.status_code}")

    async def _get(self, path: str, params: Params | None, wait: float) -> httpx.Response:
        timeout = self._within(self._timeout + wait)
        try:
            return await self._client.get(path, params=params, timeout=timeout)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            # A kept connection that the service closed meanwhile, as after its restart.
            return await self._client.get(path, params=params, timeout=timeout)

    @staticmethod
    def _within(seconds: float) -> httpx.Timeout:
        return httpx.Timeout(seconds, connect=min(0.5, seconds), pool=min(0.5, seconds))


def parse_object(service: str, body: bytes) -> dict[str, Any]:
    """The JSON object in a service's answer.

    Raises:
        ServiceAwayError: it is none.
    """
    try:
        fields: object = from_json(body)
    except ValueError as error:
        raise ServiceAwayError(service, f"its answer is not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise ServiceAwayError(service, "its answer is no JSON object")
    return cast("dict[str, Any]", fields)


def _problem(response: httpx.Response) -> ProblemError:
    try:
        fields: object = from_json(response.content)
    except ValueError:
        fields = None
    said = cast("dict[str, Any]", fields) if isinstance(fields, dict) else {}
    return ProblemError(
        response.status_code,
        str(said.get("title") or response.reason_phrase),
        str(said.get("detail") or ""),
        errors=said.get("errors"),
    )
