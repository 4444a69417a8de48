"""Charts: what is trending now or was on an earlier day, what is rising, where a film stood."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic_core import to_json
from starlette.responses import Response

from gateway.analysis_shapes import CHART_RESPONSES, Chart, ChartHistory, RisingChart
from gateway.api.answers import respond
from gateway.api.commands import path_movie_id
from gateway.api.parameters import (
    DateParameter,
    GenreParameter,
    LanguageParameter,
    LimitParameter,
    MinVotesParameter,
    MovieIdParameter,
    OffsetParameter,
    WindowParameter,
    YearParameter,
    cache_key,
    given,
)
from gateway.films import with_external_score
from gateway.policies import Policies
from gateway.readers import ServiceReader
from gateway.reads import CATALOGUE, COMPUTED, LISTS, CachedReads, Loaded, Read, movie_tag
from gateway.settings import Settings
from gateway.shapes import FILM_RESPONSES, LIST_RESPONSES


class Charts:
    """The handlers."""

    def __init__(
        self, settings: Settings, reads: CachedReads, compute: ServiceReader, policies: Policies
    ) -> None:
        self._settings = settings
        self._reads = reads
        self._compute = compute
        self._policies = policies

    def add_to(self, router: APIRouter) -> None:
        """Register the routes, before those with a film's id in their path."""
        common: dict[str, Any] = {
            "methods": ["GET"],
            "tags": ["movies"],
            "response_model": None,
            "dependencies": [Depends(self._policies.reads)],
        }
        router.add_api_route(
            "/movies/trending",
            self.trending,
            summary="The chart, of now or of an earlier day",
            responses={200: {"model": Chart}, **CHART_RESPONSES},
            **common,
        )
        router.add_api_route(
            "/movies/rising",
            self.rising,
            summary="Films with more activity than they usually have",
            responses={200: {"model": RisingChart}, **LIST_RESPONSES},
            **common,
        )
        router.add_api_route(
            "/movies/{movie_id}/chart-history",
            self.history,
            summary="A film's places in the daily charts",
            responses={200: {"model": ChartHistory}, **FILM_RESPONSES},
            **common,
        )

    async def trending(
        self,
        window: WindowParameter = "day",
        genre: GenreParameter = None,
        year: YearParameter = None,
        language: LanguageParameter = None,
        min_votes: MinVotesParameter = None,
        as_of: DateParameter = None,
        limit: LimitParameter = 20,
        offset: OffsetParameter = 0,
    ) -> Response:
        """Changes with every view, and is never older than a moment. With `as_of`: as it was stored
        for that day, with `movement` against the day before."""
        asked = given(
            window=window,
            genre=genre,
            year=year,
            language=language,
            min_votes=min_votes,
            as_of=None if as_of is None else as_of.isoformat(),
            limit=limit,
            offset=offset,
        )
        read = Read(
            name="trending",
            key=cache_key("trending", asked),
            tags=(LISTS,) if as_of is None else (COMPUTED, CATALOGUE),
            ttl=self._settings.trending_ttl if as_of is None else self._settings.analytics_ttl,
            load=lambda: self._load_films("/trending", asked),
        )
        return respond(await self._reads.answer(read))

    async def rising(
        self,
        genre: GenreParameter = None,
        year: YearParameter = None,
        language: LanguageParameter = None,
        min_votes: MinVotesParameter = None,
        limit: LimitParameter = 20,
        offset: OffsetParameter = 0,
    ) -> Response:
        """By how far the activity of the last day exceeds what the film's week leads to expect."""
        asked = given(
            genre=genre,
            year=year,
            language=language,
            min_votes=min_votes,
            limit=limit,
            offset=offset,
        )
        read = Read(
            name="rising",
            key=cache_key("rising", asked),
            tags=(CATALOGUE,),
            ttl=self._settings.rising_ttl,
            load=lambda: self._load_films("/rising", asked),
        )
        return respond(await self._reads.answer(read))

    async def history(
        self,
        movie_id: MovieIdParameter,
        window: WindowParameter = "day",
        date_from: Annotated[DateParameter, Query(alias="from")] = None,
        date_to: Annotated[DateParameter, Query(alias="to")] = None,
        limit: Annotated[int, Query(ge=1, le=366, description="days")] = 30,
    ) -> Response:
        """Newest first; days on which the film was in no chart are left out."""
        key = path_movie_id(movie_id)
        asked = given(window=window, limit=limit)
        asked |= {
            name: day.isoformat()
            for name, day in (("from", date_from), ("to", date_to))
            if day is not None
        }
        read = Read(
            name="chart-history",
            key=cache_key(f"chart-history/{key}", asked),
            tags=(COMPUTED, movie_tag(key)),
            ttl=self._settings.analytics_ttl,
            load=lambda: self._load_history(key, asked),
        )
        return respond(await self._reads.answer(read))

    async def _load_films(self, path: str, asked: dict[str, Any]) -> Loaded:
        chart = await self._compute.fetch_object(path, asked)
        for film in chart["items"]:
            with_external_score(film)
        return Loaded(to_json(chart))

    async def _load_history(self, key: str, asked: dict[str, Any]) -> Loaded:
        return Loaded(await self._compute.fetch(f"/trends/{key}/history", asked))
