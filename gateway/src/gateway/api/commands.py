"""Commands and single views: read, check, publish, 202.

The bodies are read here rather than by the framework: the checks are stricter than its own, and
`POST /movies/view` is the route that has to be fast.
"""

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from moviemetric_contracts import (
    Message,
    MovieViewed,
    RefreshMovie,
    RegisterMovie,
    movie_id_from_tmdb,
    parse_movie_id,
    tmdb_id_of,
)
from service_kit.http import ProblemError
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from gateway.bodies import RegisterBody, ViewBody, invalid, parse_body
from gateway.identity import RequestIdentity
from gateway.openapi import command_docs
from gateway.prefixes import API_PREFIX
from gateway.sending import CommandSender
from gateway.shapes import COMMAND_RESPONSES, Accepted


class PlainRoute(Route):
    """A route without the framework's dependency machinery, which costs more than the handler.

    It stands before the documented route of the same path and takes its requests.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As its base; also says which route it is, for the metrics."""
        match, child = super().matches(scope)
        child["route"] = self
        return match, child


class Commands:
    """The handlers."""

    def __init__(self, sender: CommandSender) -> None:
        self._sender = sender

    def add_to(self, router: APIRouter) -> None:
        """Register the routes."""
        common: dict[str, Any] = {
            "methods": ["POST"],
            "status_code": 202,
            "tags": ["commands"],
            "responses": {202: {"model": Accepted}, **COMMAND_RESPONSES},
            "response_model": None,
        }
        router.routes.insert(
            0, PlainRoute(f"{API_PREFIX}/movies/view", self.view, methods=["POST"])
        )
        router.add_api_route(
            "/movies/view",
            self.view,
            summary="Somebody viewed a film",
            openapi_extra=command_docs(ViewBody, {"tmdb_id": 27205, "user_id": "u-1"}),
            **common,
        )
        router.add_api_route(
            "/movies/register",
            self.register,
            summary="Take a film into the catalogue: it is fetched, scored and indexed",
            openapi_extra=command_docs(RegisterBody, {"tmdb_id": 27205}),
            **common,
        )
        router.add_api_route(
            "/movies/{movie_id}/refresh",
            self.refresh,
            summary="Fetch a film from its source again",
            openapi_extra=command_docs(None, None),
            **common,
        )
        router.add_api_route(
            "/movies/trigger_external_update/{movie_id}",
            self.refresh,
            include_in_schema=False,
            **common,
        )

    async def view(self, request: Request) -> Response:
        """The film need not be known yet: its views are kept and counted when it is."""
        identity = RequestIdentity.from_headers(request.scope["headers"])
        body = parse_body(ViewBody, await read_body(request))
        now = datetime.now(UTC)
        viewed = MovieViewed.model_construct(
            movie_id=body.key,
            viewed_at=body.viewed_at or now,
            user_id=body.user_id,
            session_id=body.session_id,
        )
        asked = body.model_dump_json() if identity.idempotency_key else ""
        return await self._publish(identity, "/movies/view", viewed, body.key, now, asked)

    async def register(self, request: Request) -> Response:
        """A film that its source does not know is removed again, and its detail says so."""
        identity = RequestIdentity.from_headers(request.scope["headers"])
        body = parse_body(RegisterBody, await read_body(request))
        command = RegisterMovie(tmdb_id=body.tmdb_id)
        key = movie_id_from_tmdb(body.tmdb_id)
        now = datetime.now(UTC)
        asked = body.model_dump_json()
        return await self._publish(identity, "/movies/register", command, key, now, asked)

    async def refresh(self, request: Request, movie_id: str) -> Response:
        """Only films that TMDB numbers can be fetched again."""
        identity = RequestIdentity.from_headers(request.scope["headers"])
        key = path_movie_id(movie_id)
        tmdb_id = tmdb_id_of(key)
        if tmdb_id is None:
            message = f"{key} has no TMDB number, and only films from TMDB can be fetched again"
            raise invalid([("movie_id", message)])
        command = RefreshMovie(tmdb_id=tmdb_id)
        route = f"/movies/{key}/refresh"
        return await self._publish(identity, route, command, key, datetime.now(UTC), "")

    async def _publish(
        self,
        identity: RequestIdentity,
        route: str,
        data: Message,
        movie_id: str,
        now: datetime,
        asked: str,
    ) -> Response:
        event_id = await self._sender.event_id(identity, route, asked)
        await self._sender.send(identity, event_id, data, now)
        # Nothing in it needs escaping: a UUID, and a key that has passed its pattern.
        return Response(
            f'{{"event_id":"{event_id}","movie_id":"{movie_id}",'
            f'"status_url":"/api/v1/movies/{movie_id}"}}',
            status_code=202,
            media_type="application/json",
            headers={"X-Correlation-Id": identity.correlation_id or event_id},
        )


def path_movie_id(text: str) -> str:
    """The canonical key for a `{movie_id}` in a path.

    Raises:
        ProblemError: 422, it is no movie id.
    """
    try:
        return parse_movie_id(text)
    except ValueError as error:
        raise invalid([("movie_id", str(error).encode(errors="replace").decode())]) from None


async def read_body(request: Request) -> bytes:
    """The whole body, within the limit that the middleware keeps.

    Raises:
        ProblemError: 413; 400 when the client went away in the middle.
    """
    try:
        return await request.body()
    except ClientDisconnect:
        raise ProblemError(400, "Incomplete body", "The connection ended within it.") from None
