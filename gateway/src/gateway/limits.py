"""The limit on request bodies, kept while they arrive whatever Content-Length says."""

from typing import Final

from service_kit.http import ProblemError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY: Final = 256 * 1024
MAX_BATCH: Final = 1024 * 1024
# Routes that read their body piece by piece and keep a limit of their own, by canonical path.
STREAMED: Final = frozenset({("POST", "/api/v1/upload")})


class BodyLimitMiddleware:
    """Refuses bodies above the limit of their route with 413.

    The problem is raised from `receive`, inside the application, where problems become answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        if (scope["method"], path) in STREAMED:
            await self._app(scope, receive, send)
            return
        limit = MAX_BATCH if path.rstrip("/").endswith("/events") else MAX_BODY
        announced = content_length(scope)
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            if announced > limit:
                raise _too_large(limit)
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise _too_large(limit)
            return message

        await self._app(scope, limited, send)


def content_length(scope: Scope) -> int:
    """How many bytes the body is announced to have, 0 if that is not said."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:20])
    return 0


def _too_large(limit: int) -> ProblemError:
    return ProblemError(
        413,
        "Body too large",
        f"The body may have {limit // 1024} KiB at most.",
        errors=[{"field": "(body)", "message": f"larger than {limit} bytes"}],
        headers={"Connection": "close"},
    )
