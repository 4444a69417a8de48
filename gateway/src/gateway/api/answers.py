"""From what was read to an HTTP response."""

from fastapi import Request
from service_kit.http import ProblemError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from gateway.reads import Answer


def respond(answer: Answer) -> Response:
    """The bytes as they are, and how fresh they are in the headers."""
    headers = {"X-Cache": answer.source}
    if answer.source != "miss":
        headers["Age"] = str(int(answer.age))
    if answer.source == "stale":
        headers["Warning"] = '110 - "Response is stale"'
    return Response(answer.body, media_type="application/json", headers=headers)


async def method_not_allowed(request: Request, error: Exception) -> Response:
    """The 405; names the methods of all routes of the path, the router those of the first alone."""
    assert isinstance(error, HTTPException)  # noqa: S101 -- registered for nothing else
    headers = dict(error.headers or {})
    matched = request.scope.get("route")
    if isinstance(matched, Route):
        routes = [route for route in request.app.routes if isinstance(route, Route)]
        same_path = [route for route in routes if route.path == matched.path]
        methods = {method for route in same_path for method in route.methods or ()}
        headers["Allow"] = ", ".join(sorted(methods))
    return ProblemError(405, str(error.detail), headers=headers).response()
