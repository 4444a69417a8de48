"""Every route answers under `/api/v1`, under `/api` and without a prefix.

Each is registered once; a request under another prefix is moved to where its route is. So the other
prefixes are not in the OpenAPI page, and a route is one series in the metrics.
"""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

API_PREFIX: Final = "/api/v1"
# What the runtime and the framework serve at the root.
AT_ROOT: Final = frozenset(
    {"/", "/health", "/ready", "/metrics", "/docs", "/docs/oauth2-redirect", "/openapi.json"}
)


def canonical_path(path: str) -> str:
    """Where the route of `path` is registered: `/movies` and `/api/movies` → `/api/v1/movies`."""
    rest = path
    for prefix in (API_PREFIX, "/api"):
        if path.startswith(prefix + "/"):
            rest = path[len(prefix) :]
            break
    return rest if rest in AT_ROOT else API_PREFIX + rest


class PrefixMiddleware:
    """Rewrites the path of each HTTP request to its canonical one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path: str = scope["path"]
            if not path.startswith(API_PREFIX + "/movies"):
                path = scope["path"] = canonical_path(path)
                scope["raw_path"] = path.encode()
        await self._app(scope, receive, send)
