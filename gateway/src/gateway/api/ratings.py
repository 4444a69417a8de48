"""Ratings: given, taken back, and what all users think of a film.

Who rates is whoever the access token says. A rating is a command like every other; with `wait` the
answer comes after its effect, and what was kept of the film's ratings is dropped before.
"""

from datetime import UTC, datetime
from typing import Any, Final

from fastapi import APIRouter, Depends, Request
from moviemetric_contracts import RateMovie, UnrateMovie, key_rank
from pydantic_core import to_json
from service_kit.http import ProblemError
from starlette.responses import Response

from gateway.account_shapes import (
    OWN_RATING_RESPONSES,
    RATE_RESPONSES,
    UNRATE_RESPONSES,
    OwnRating,
    RatingAccepted,
    ReviewList,
)
from gateway.account_shapes import FilmRatings as FilmRatingsShape
from gateway.api.answers import respond
from gateway.api.commands import path_movie_id, read_body
from gateway.api.event_status import WaitParameter, event_status_url
from gateway.api.parameters import (
    LimitParameter,
    MovieIdParameter,
    OffsetParameter,
    cache_key,
)
from gateway.api.passing import NoStoreRoute, pass_on
from gateway.bodies import RateBody, RatingBody, parse_body
from gateway.cache import Cache
from gateway.identity import RequestIdentity
from gateway.inboxes import Inboxes
from gateway.openapi import command_docs
from gateway.policies import Policies, principal_of
from gateway.readers import ServiceAwayError, ServiceReader
from gateway.reads import USERS, CachedReads, Loaded, Read, movie_tag
from gateway.sending import CommandSender
from gateway.shapes import FILM_RESPONSES

RATING_SERVICE: Final = "rating-service"
# Events name a film's own key, so what is read under another one is soon asked for again.
_ALIAS_TTL: Final = 1.0
_EXAMPLE: Final[dict[str, Any]] = {"score": 8.5, "review": "Twice."}


class RatingCommands:
    """The handlers for one's own ratings."""

    def __init__(
        self,
        sender: CommandSender,
        inboxes: Inboxes,
        rating: ServiceReader,
        cache: Cache,
        policies: Policies,
    ) -> None:
        self._sender = sender
        self._inboxes = inboxes
        self._rating = rating
        self._cache = cache
        self._policies = policies

    def add_to(self, router: APIRouter) -> None:
        """Register the routes."""
        common: dict[str, Any] = {
            "tags": ["ratings"],
            "response_model": None,
            "route_class_override": NoStoreRoute,
        }
        command: dict[str, Any] = {
            **common,
            "status_code": 202,
            "dependencies": [Depends(self._policies.ratings)],
        }
        router.add_api_route(
            "/movies/{movie_id}/rating",
            self.put,
            methods=["PUT"],
            summary="Rate a film",
            responses={202: {"model": RatingAccepted}, **RATE_RESPONSES},
            openapi_extra=command_docs(RatingBody, _EXAMPLE),
            **command,
        )
        router.add_api_route(
            "/ratings",
            self.post,
            methods=["POST"],
            summary="Rate a film that the body names",
            responses={202: {"model": RatingAccepted}, **RATE_RESPONSES},
            openapi_extra=command_docs(RateBody, {"tmdb_id": 27205, **_EXAMPLE}),
            **command,
        )
        router.add_api_route(
            "/movies/{movie_id}/rating",
            self.delete,
            methods=["DELETE"],
            summary="Take a rating back",
            responses={202: {"model": RatingAccepted}, **UNRATE_RESPONSES},
            openapi_extra=command_docs(None, None),
            **command,
        )
        router.add_api_route(
            "/movies/{movie_id}/rating",
            self.get,
            methods=["GET"],
            summary="One's own rating of a film",
            responses={200: {"model": OwnRating}, **OWN_RATING_RESPONSES},
            dependencies=[Depends(self._policies.account)],
            **common,
        )

    async def put(
        self, request: Request, movie_id: MovieIdParameter, wait: WaitParameter = 0.0
    ) -> Response:
        """The newest rating counts. The film need not be known yet: its ratings are kept, and
        counted when it is."""
        key = path_movie_id(movie_id)
        body = parse_body(RatingBody, await read_body(request))
        return await self._rate(request, f"PUT /movies/{key}/rating", key, body, wait)

    async def post(self, request: Request, wait: WaitParameter = 0.0) -> Response:
        """As `PUT /movies/{movie_id}/rating`."""
        body = parse_body(RateBody, await read_body(request))
        return await self._rate(request, "POST /ratings", body.key, body, wait)

    async def delete(
        self, request: Request, movie_id: MovieIdParameter, wait: WaitParameter = 0.0
    ) -> Response:
        """Without a rating there is nothing to take back, and this does nothing."""
        key = path_movie_id(movie_id)
        command = UnrateMovie(movie_id=key, user_id=principal_of(request).id)
        return await self._publish(request, f"DELETE /movies/{key}/rating", command, "", wait)

    async def get(self, request: Request, movie_id: MovieIdParameter) -> Response:
        """As it is now, with nothing in between."""
        return await pass_on(request, self._rating, f"/movies/{path_movie_id(movie_id)}/rating")

    async def _rate(
        self, request: Request, route: str, key: str, body: RatingBody, wait: float
    ) -> Response:
        command = RateMovie(
            movie_id=key,
            user_id=principal_of(request).id,
            score=body.score,
            review=body.review,
        )
        return await self._publish(request, route, command, body.model_dump_json(), wait)

    async def _publish(
        self,
        request: Request,
        route: str,
        command: RateMovie | UnrateMovie,
        asked: str,
        wait: float,
    ) -> Response:
        identity = RequestIdentity.from_headers(request.scope["headers"])
        # Two users may happen to use the same Idempotency-Key.
        of_user = f"{route} {command.user_id}"
        event_id = await self._sender.event_id(identity, of_user, asked)
        await self._sender.send(identity, event_id, command, datetime.now(UTC))
        processed = wait > 0 and await self._processed(event_id, command.movie_id, wait)
        accepted = {
            "event_id": event_id,
            "movie_id": command.movie_id,
            "status_url": event_status_url(event_id),
            "processed": processed,
        }
        return Response(
            to_json(accepted),
            status_code=202,
            media_type="application/json",
            headers={"X-Correlation-Id": identity.correlation_id or event_id},
        )

    async def _processed(self, event_id: str, movie_id: str, wait: float) -> bool:
        try:
            effects = await self._inboxes.effects(RATING_SERVICE, event_id, wait)
        except ServiceAwayError:
            return False
        if effects:
            keys = {movie_id, await self._own_key(movie_id)}
            await self._cache.drop([movie_tag(key) for key in keys])
        return bool(effects)

    async def _own_key(self, key: str) -> str:
        if key_rank(key) == 0:
            return key
        try:
            film = await self._rating.fetch_object(f"/movies/{key}/ratings")
        except (ServiceAwayError, ProblemError):
            return key
        return str(film.get("movie_id", key))


class FilmRatings:
    """The handlers for what all users think of a film.

    Args:
        ttl: seconds that an answer counts as fresh; events drop it earlier.
    """

    def __init__(
        self, reads: CachedReads, rating: ServiceReader, policies: Policies, *, ttl: float
    ) -> None:
        self._reads = reads
        self._rating = rating
        self._policies = policies
        self._ttl = ttl

    def add_to(self, router: APIRouter) -> None:
        """Register the routes."""
        common: dict[str, Any] = {
            "methods": ["GET"],
            "tags": ["ratings"],
            "response_model": None,
            "dependencies": [Depends(self._policies.reads)],
        }
        router.add_api_route(
            "/movies/{movie_id}/ratings",
            self.ratings,
            summary="What all users think of a film, in numbers",
            responses={200: {"model": FilmRatingsShape}, **FILM_RESPONSES},
            **common,
        )
        router.add_api_route(
            "/movies/{movie_id}/reviews",
            self.reviews,
            summary="What users wrote about a film, newest first",
            responses={200: {"model": ReviewList}, **FILM_RESPONSES},
            **common,
        )

    async def ratings(self, movie_id: MovieIdParameter) -> Response:
        """Count, mean and histogram of the ratings given here, beside the source's own average."""
        key = path_movie_id(movie_id)
        read = Read(
            name="ratings",
            key=f"ratings/{key}",
            tags=(movie_tag(key),),
            ttl=self._ttl,
            load=lambda: self._load_ratings(key),
        )
        return respond(await self._reads.answer(read))

    async def reviews(
        self, movie_id: MovieIdParameter, limit: LimitParameter = 20, offset: OffsetParameter = 0
    ) -> Response:
        """Of users without an account the name is null."""
        key = path_movie_id(movie_id)
        asked = {"limit": limit, "offset": offset}
        read = Read(
            name="reviews",
            key=cache_key(f"reviews/{key}", asked),
            tags=(movie_tag(key), USERS),
            ttl=self._ttl if key_rank(key) == 0 else min(self._ttl, _ALIAS_TTL),
            load=lambda: self._load_reviews(key, asked),
            personal=True,
        )
        return respond(await self._reads.answer(read))

    async def _load_ratings(self, key: str) -> Loaded:
        ratings = await self._rating.fetch_object(f"/movies/{key}/ratings")
        own = ratings.get("movie_id") == key
        return Loaded(to_json(ratings), ttl=None if own else _ALIAS_TTL)

    async def _load_reviews(self, key: str, asked: dict[str, Any]) -> Loaded:
        return Loaded(await self._rating.fetch(f"/movies/{key}/reviews", asked))
