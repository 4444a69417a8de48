"""Films like a film, and films for a user."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from moviemetric_contracts import parse_movie_id
from pydantic_core import to_json
from starlette.responses import Response

from gateway.analysis_shapes import Recommendations as RecommendationsShape
from gateway.analysis_shapes import SimilarFilms
from gateway.api.answers import respond
from gateway.api.commands import path_movie_id
from gateway.api.parameters import (
    DiversityParameter,
    GenreParameter,
    LanguageParameter,
    LimitParameter,
    MinVotesParameter,
    MovieIdParameter,
    Words,
    YearParameter,
    cache_key,
    given,
)
from gateway.bodies import MOVIE_KEY_PATTERN, invalid
from gateway.films import with_external_score
from gateway.policies import Policies, principal_of
from gateway.readers import ServiceAwayError, ServiceReader, service_away
from gateway.reads import CATALOGUE, COMPUTED, CachedReads, Loaded, Read, movie_tag
from gateway.settings import Settings
from gateway.shapes import FILM_RESPONSES, LIST_RESPONSES

MAX_LIKES: Final = 50
# Nobody looks at more of them, and a deep page costs as many films as lie before it.
MAX_RECOMMENDED: Final = 1000
_KEY: Final = "(" + MOVIE_KEY_PATTERN.replace("^", "").replace("$", "") + ")"
LikeParameter = Annotated[
    Words | None,
    Query(
        max_length=10_000,
        description=f"films picked as a taste, up to {MAX_LIKES}, separated by commas",
        examples=["tmdb-603,tmdb-27205"],
        # for the reader: `_likes` checks it
        json_schema_extra={"pattern": f"^{_KEY}(,{_KEY}){{0,{MAX_LIKES - 1}}}$"},
    ),
]
# So many are kept of each film.
_MAX_SIMILAR: Final = 50


class Recommendations:
    """The handlers."""

    def __init__(
        self, settings: Settings, reads: CachedReads, compute: ServiceReader, policies: Policies
    ) -> None:
        self._settings = settings
        self._reads = reads
        self._compute = compute
        self._policies = policies

    def add_to(self, router: APIRouter) -> None:
        """Register the routes."""
        common: dict[str, Any] = {
            "methods": ["GET"],
            "tags": ["recommendations"],
            "response_model": None,
        }
        open_to_all = [Depends(self._policies.reads)]
        router.add_api_route(
            "/movies/{movie_id}/recommendations",
            self.similar,
            summary="Films like this one, and why",
            responses={200: {"model": SimilarFilms}, **FILM_RESPONSES},
            dependencies=open_to_all,
            **common,
        )
        router.add_api_route(
            "/recommendations",
            self.by_likes,
            summary="Films for somebody who likes these",
            responses={200: {"model": RecommendationsShape}, **LIST_RESPONSES},
            dependencies=open_to_all,
            **common,
        )
        router.add_api_route(
            "/users/me/recommendations",
            self.mine,
            summary="Films for the user who asks",
            responses={200: {"model": RecommendationsShape}, **LIST_RESPONSES},
            dependencies=[Depends(self._policies.account)],
            **common,
        )

    async def similar(
        self,
        movie_id: MovieIdParameter,
        genre: GenreParameter = None,
        year: YearParameter = None,
        language: LanguageParameter = None,
        min_votes: MinVotesParameter = None,
        diversity: DiversityParameter = None,
        limit: Annotated[int, Query(ge=1, le=_MAX_SIMILAR)] = 10,
    ) -> Response:
        """From what users watched together where enough is known of the film, from what it is about
        where not (`basis`)."""
        key = path_movie_id(movie_id)
        asked = given(
            genre=genre,
            year=year,
            language=language,
            min_votes=min_votes,
            diversity=diversity,
            limit=limit,
        )
        read = Read(
            name="similar",
            key=cache_key(f"similar/{key}", asked),
            tags=(COMPUTED, CATALOGUE, movie_tag(key)),
            ttl=self._settings.recommendations_ttl,
            load=lambda: self._load(f"/similar/{key}", asked),
        )
        return respond(await self._reads.answer(read))

    async def by_likes(
        self,
        like: LikeParameter = None,
        genre: GenreParameter = None,
        year: YearParameter = None,
        language: LanguageParameter = None,
        min_votes: MinVotesParameter = None,
        diversity: DiversityParameter = None,
        limit: LimitParameter = 20,
        offset: Annotated[int, Query(ge=0, le=MAX_RECOMMENDED)] = 0,
    ) -> Response:
        """Without `like`: good films that many watch."""
        asked = given(
            like=_likes(like),
            genre=genre,
            year=year,
            language=language,
            min_votes=min_votes,
            diversity=diversity,
            limit=limit,
            offset=offset,
        )
        read = Read(
            name="recommendations",
            key=cache_key("recommendations", asked),
            tags=(COMPUTED, CATALOGUE),
            ttl=self._settings.recommendations_ttl,
            load=lambda: self._load("/recommendations", asked),
        )
        return respond(await self._reads.answer(read))

    async def mine(
        self,
        request: Request,
        like: LikeParameter = None,
        genre: GenreParameter = None,
        year: YearParameter = None,
        language: LanguageParameter = None,
        min_votes: MinVotesParameter = None,
        diversity: DiversityParameter = None,
        include_seen: Annotated[
            bool, Query(description="films too that were viewed, but not rated")
        ] = False,
        limit: LimitParameter = 20,
        offset: Annotated[int, Query(ge=0, le=MAX_RECOMMENDED)] = 0,
    ) -> Response:
        """From the user's ratings and views, the newest counting most; what they have rated is left
        out. Never cached: a rating shows at once."""
        asked = given(
            user_id=principal_of(request).id,
            like=_likes(like),
            genre=genre,
            year=year,
            language=language,
            min_votes=min_votes,
            diversity=diversity,
            include_seen="true" if include_seen else None,
            limit=limit,
            offset=offset,
        )
        try:
            loaded = await self._load("/recommendations", asked)
        except ServiceAwayError as error:
            raise service_away(error) from error
        return Response(
            loaded.body, media_type="application/json", headers={"Cache-Control": "no-store"}
        )

    async def _load(self, path: str, asked: dict[str, Any]) -> Loaded:
        answer = await self._compute.fetch_object(path, asked)
        for film in answer["items"]:
            with_external_score(film)
        return Loaded(to_json(answer))


def _likes(like: str | None) -> str | None:
    """The keys of the films, as services take them.

    Raises:
        ProblemError: 422, one of them is no film's id, or there are too many.
    """
    if like is None:
        return None
    parts = [part.strip() for part in like.split(",") if part.strip()]
    if not 1 <= len(parts) <= MAX_LIKES:
        raise invalid([("like", f"must name 1 to {MAX_LIKES} films, separated by commas")])
    try:
        return ",".join(dict.fromkeys(parse_movie_id(part) for part in parts))
    except ValueError as error:
        raise invalid([("like", str(error))]) from None
