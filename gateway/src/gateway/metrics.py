"""The gateway's Prometheus metrics, and the middleware that counts requests.

Requests are labelled with the route's template, which is the same for all prefixes that the route
answers under; unknown paths are one series together.
"""

import time
from typing import Final

from prometheus_client import Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUESTS: Final = Counter(
    "gateway_requests_total", "Requests by route and status.", ["method", "route", "status"]
)
LATENCY: Final = Histogram(
    "gateway_request_seconds",
    "Seconds from the request's head to the end of the answer.",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
CACHE_READS: Final = Counter(
    "gateway_cache_reads_total", "Reads by where the answer came from.", ["route", "source"]
)
PUBLISHED: Final = Counter(
    "gateway_events_published_total",
    "Events by type and what the broker said.",
    ["type", "outcome"],
)
REFUSED: Final = Counter(
    "gateway_requests_refused_total", "Requests that access control refused.", ["status"]
)
LIMITED: Final = Counter(
    "gateway_requests_limited_total", "Requests beyond a limit of use.", ["limit"]
)
SIGNALS_DROPPED: Final = Counter(
    "gateway_search_signals_dropped_total", "Searches that were not told of, the broker being slow."
)
STREAMS: Final = Gauge("gateway_streams", "Live streams that are open.")
UPLOADS: Final = Counter("gateway_uploads_total", "Uploads by status.", ["status"])
UPLOADED_BYTES: Final = Counter("gateway_uploaded_bytes_total", "Bytes of files that were stored.")

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_UNKNOWN: Final = "(unknown)"


def route_label(scope: Scope) -> str:
    """The template of the route that took the request."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else _UNKNOWN


class MetricsMiddleware:
    """Counts and times every HTTP request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        started = time.perf_counter()

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, observed)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
            requests, latency = self._of(method, route_label(scope), status)
            requests.inc()
            latency.observe(time.perf_counter() - started)

    def _of(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        # Looking up labels costs more than counting.
        key = (method, route, status)
        series = self._series.get(key)
        if series is None:
            series = (REQUESTS.labels(method, route, str(status)), LATENCY.labels(route))
            self._series[key] = series
        return series
