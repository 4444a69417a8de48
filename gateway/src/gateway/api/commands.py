"""Commands and single views: read, check, publish, 202.

The bodies are read here rather than by the framework: the checks are stricter than its own, and
`POST /movies/view` is the route that has to be fast.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
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

from gateway.access import ACCOUNT_PREFIX, Principal, forbidden
from gateway.bodies import RegisterBody, ViewBody, invalid, parse_body
from gateway.identity import RequestIdentity
from gateway.openapi import command_docs
from gateway.policies import Policies, Policy, visitor_of
from gateway.prefixes import API_PREFIX
from gateway.sending import CommandSender
from gateway.shapes import COMMAND_RESPONSES, Accepted


class PlainRoute(Route):
    """A route without the framework's dependency machinery, which costs more than the handler.

    It stands before the documented route of the same path and takes its requests, after the same
    policy.
    """

    def __init__(
        self,
        path: str,
        handler: Callable[[Request], Awaitable[Response]],
        policy: Policy,
        methods: Sequence[str],
    ) -> None:
        async def endpoint(request: Request) -> Response:
            await policy(request)
            return await handler(request)

        super().__init__(path, endpoint, methods=methods)
        self.policy = policy

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As its base; also says which route it is, for the metrics."""
        match, child = super().matches(scope)
        child["route"] = self
        return match, child


class Commands:
    """The handlers."""

    def __init__(self, sender: CommandSender, policies: Policies) -> None:
        self._sender = sender
        self._policies = policies

    def add_to(self, router: APIRouter) -> None:
        """Register the routes."""
        common: dict[str, Any] = {
            "methods": ["POST"],
            "status_code": 202,
            "tags": ["commands"],
            "responses": {202: {"model": Accepted}, **COMMAND_RESPONSES},
            "response_model": None,
        }
        views, commands = self._policies.views, self._policies.commands
        router.routes.insert(
            0, PlainRoute(f"{API_PREFIX}/movies/view", self.view, views, methods=["POST"])
        )
        router.add_api_route(
            "/movies/view",
            self.view,
            summary="Somebody viewed a film",
            dependencies=[Depends(views)],
            openapi_extra=command_docs(ViewBody, {"tmdb_id": 27205, "user_id": "u-1"}),
            **common,
        )
        router.add_api_route(
            "/movies/register",
            self.register,
            summary="Take a film into the catalogue: it is fetched, scored and indexed",
            dependencies=[Depends(commands)],
            openapi_extra=command_docs(RegisterBody, {"tmdb_id": 27205}),
            **common,
        )
        router.add_api_route(
            "/movies/{movie_id}/refresh",
            self.refresh,
            summary="Fetch a film from its source again",
            dependencies=[Depends(commands)],
            openapi_extra=command_docs(None, None),
            **common,
        )
        router.add_api_route(
            "/movies/trigger_external_update/{movie_id}",
            self.refresh,
            include_in_schema=False,
            dependencies=[Depends(commands)],
            **common,
        )

    async def view(self, request: Request) -> Response:
        """The film need not be known yet: its views are kept and counted when it is. With an access
        token the view is its user's; only an API key may speak for users who have an account."""
        identity = RequestIdentity.from_headers(request.scope["headers"])
        body = parse_body(ViewBody, await read_body(request))
        visitor = visitor_of(request)
        user_id = viewer(body.user_id, visitor)
        now = datetime.now(UTC)
        viewed = MovieViewed.model_construct(
            movie_id=body.key,
            viewed_at=body.viewed_at or now,
            user_id=user_id,
            session_id=body.session_id,
        )
        asked = body.model_dump_json() if identity.idempotency_key else ""
        # An Idempotency-Key is its client's own, as far as the client is known.
        route = "/movies/view" if visitor is None else f"/movies/view {visitor.actor}"
        return await self._publish(identity, route, viewed, body.key, now, asked)

    async def register(self, request: Request) -> Response:
        """A film that its source does not know is removed again, and its detail says so."""
        identity = RequestIdentity.from_headers(request.scope["headers"])
        body = parse_body(RegisterBody, await read_body(request))
        command = RegisterMovie(tmdb_id=body.tmdb_id)
        key = movie_id_from_tmdb(body.tmdb_id)
        now = datetime.now(UTC)
        asked = body.model_dump_json()
        return await self._publish(identity, "/movies/register", command, key, now, asked)

    async def refresh(
        self,
        request: Request,
        movie_id: Annotated[
            str,
            Path(
                description="tmdb-27205 or 27205",
                examples=["tmdb-27205"],
                json_schema_extra={"pattern": "^(tmdb-)?[1-9][0-9]{0,9}$"},
            ),
        ],
    ) -> Response:
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


def viewer(named: str | None, visitor: Principal | None) -> str | None:
    """Whose view it is, when the body has `named` somebody and `visitor` sends it.

    Raises:
        ProblemError: 403, somebody else's.
    """
    if visitor is not None and visitor.kind == "user":
        if named is not None and named != visitor.id:
            raise forbidden("user_id: must be absent or your own; the access token says who views.")
        return visitor.id
    if named is not None and visitor is None and named.startswith(ACCOUNT_PREFIX):
        raise forbidden(f"user_id: ids that begin '{ACCOUNT_PREFIX}' are accounts; sign in.")
    return named


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
