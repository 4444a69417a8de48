"""Passing a request on to the service that answers it, with the credentials that it came with.

The service judges them for itself. What is passed on is named here, in both directions; nothing of
it is kept anywhere.
"""

from collections.abc import Mapping
from typing import Final

from fastapi import Request
from fastapi.routing import APIRoute
from service_kit.http import ProblemError
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from gateway.account_bodies import JSON
from gateway.readers import ServiceAwayError, ServiceReader, service_away

_MAX_NAME: Final = 300
_ASKED: Final = frozenset({b"authorization", b"x-correlation-id", b"x-request-id", b"traceparent"})
_TOLD: Final = frozenset(
    {b"content-type", b"retry-after", b"www-authenticate", b"x-correlation-id"}
)


class NoStoreRoute(APIRoute):
    """A route whose answers, refusals included, nobody may keep."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As its base."""

        async def not_to_keep(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Cache-Control"] = "no-store"
            await send(message)

        await super().handle(scope, receive, not_to_keep)


async def pass_on(
    request: Request,
    service: ServiceReader,
    path: str,
    *,
    params: Mapping[str, str | int | float] | None = None,
    content: bytes | str = b"",
    content_type: str = JSON,
) -> Response:
    """The answer of `service` to the request's method on `path`.

    Raises:
        ProblemError: 503, the service is away.
    """
    headers = [(name, value) for name, value in request.headers.raw if name in _ASKED]
    body = content.encode() if isinstance(content, str) else content
    if body:
        headers.append((b"content-type", content_type.encode()))
    try:
        answer = await service.send(
            request.method, path, params=params, headers=headers, content=body
        )
    except ServiceAwayError as error:
        raise service_away(error) from error
    told = _TOLD if answer.content else _TOLD - {b"content-type"}
    response = Response(answer.content, status_code=answer.status_code)
    response.raw_headers += [
        (name.lower(), value) for name, value in answer.headers.raw if name.lower() in told
    ]
    return response


def user_name(text: str) -> str:
    """A name in a path, if there could be a user with it.

    Raises:
        ProblemError: 404.
    """
    if len(text) > _MAX_NAME or not text.isprintable():
        raise ProblemError(404, "Not found", "There is no such user.")
    return text
