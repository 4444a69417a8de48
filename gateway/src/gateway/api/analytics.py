"""Figures about the whole catalogue, computed ahead day by day."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from gateway.analysis_shapes import ANALYTICS_RESPONSES, RatingsByDecade, TopGenres
from gateway.api.answers import respond
from gateway.api.parameters import (
    DateParameter,
    LimitParameter,
    OffsetParameter,
    cache_key,
    given,
    one_of,
)
from gateway.policies import Policies
from gateway.readers import ServiceReader
from gateway.reads import COMPUTED, CachedReads, Loaded, Read
from gateway.settings import Settings

TargetDate = Annotated[DateParameter, Query(description="as `date`")]


class Analytics:
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
            "tags": ["analytics"],
            "response_model": None,
            "dependencies": [Depends(self._policies.reads)],
        }
        router.add_api_route(
            "/analytics/top-genres",
            self.top_genres,
            summary="Genres by how many films they have",
            responses={200: {"model": TopGenres}, **ANALYTICS_RESPONSES},
            **common,
        )
        router.add_api_route(
            "/analytics/ratings-by-decade",
            self.ratings_by_decade,
            summary="Mean ratings by decade of release",
            responses={200: {"model": RatingsByDecade}, **ANALYTICS_RESPONSES},
            **common,
        )

    async def top_genres(
        self,
        date: DateParameter = None,
        target_date: TargetDate = None,
        limit: LimitParameter = 20,
        offset: OffsetParameter = 0,
    ) -> Response:
        """Of the newest day that was computed, unless `date` names another one."""
        day = one_of("date", date, "target_date", target_date)
        return await self._answer(
            "top-genres",
            given(date=day.isoformat() if day else None, limit=limit, offset=offset),
        )

    async def ratings_by_decade(
        self, date: DateParameter = None, target_date: TargetDate = None
    ) -> Response:
        """Of the newest day that was computed, unless `date` names another one."""
        day = one_of("date", date, "target_date", target_date)
        return await self._answer("ratings-by-decade", given(date=day.isoformat() if day else None))

    async def _answer(self, name: str, asked: dict[str, Any]) -> Response:
        async def load() -> Loaded:
            return Loaded(await self._compute.fetch(f"/analytics/{name}", asked))

        read = Read(
            name=name,
            key=cache_key(name, asked),
            tags=(COMPUTED,),
            ttl=self._settings.analytics_ttl,
            load=load,
        )
        return respond(await self._reads.answer(read))
