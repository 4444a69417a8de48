"""Search: passed to search-indexer, cached for a moment."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic_core import to_json
from starlette.responses import Response

from gateway.api.answers import respond
from gateway.api.parameters import (
    GenreParameter,
    LanguageParameter,
    LimitParameter,
    OffsetParameter,
    Words,
    YearParameter,
    cache_key,
    given,
)
from gateway.films import with_external_score
from gateway.policies import Policies
from gateway.readers import ServiceReader
from gateway.reads import LISTS, CachedReads, Loaded, Read
from gateway.search_signals import SearchSignals
from gateway.settings import Settings
from gateway.shapes import LIST_RESPONSES, SearchAnswer


class Search:
    """The handler."""

    def __init__(
        self,
        settings: Settings,
        reads: CachedReads,
        search: ServiceReader,
        policies: Policies,
        signals: SearchSignals,
    ) -> None:
        self._settings = settings
        self._policies = policies
        self._reads = reads
        self._search = search
        self._signals = signals

    def add_to(self, router: APIRouter) -> None:
        """Register the route."""
        router.add_api_route(
            "/search",
            self.get,
            methods=["GET"],
            tags=["search"],
            summary="Find films by their words",
            dependencies=[Depends(self._policies.reads)],
            responses={200: {"model": SearchAnswer}, **LIST_RESPONSES},
            response_model=None,
        )

    async def get(
        self,
        q: Annotated[Words, Query(max_length=200, examples=["incepton"])],
        min_rating: Annotated[float | None, Query(ge=0, le=10, allow_inf_nan=False)] = None,
        min_votes: Annotated[int | None, Query(ge=0, le=1_000_000_000)] = None,
        year: YearParameter = None,
        genre: GenreParameter = None,
        language: LanguageParameter = None,
        limit: LimitParameter = 20,
        offset: OffsetParameter = 0,
    ) -> Response:
        """Tolerates typing errors; `facets` counts all hits by genre, decade and language."""
        asked = given(
            q=q,
            min_rating=min_rating,
            min_votes=min_votes,
            year=year,
            genre=genre,
            language=language,
            limit=limit,
            offset=offset,
        )
        read = Read(
            name="search",
            key=cache_key("search", asked),
            tags=(LISTS,),
            ttl=self._settings.search_ttl,
            load=lambda: self._load(asked),
        )
        response = respond(await self._reads.answer(read))
        return self._signals.performed(response, q, offset=offset)

    async def _load(self, asked: dict[str, Any]) -> Loaded:
        answer = await self._search.fetch_object("/search", asked)
        for film in answer["hits"]:
            with_external_score(film)
        return Loaded(to_json(answer))
