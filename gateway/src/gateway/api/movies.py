"""Films: the list, one film, a score explained.

A film's own fields come from ingest-service, views and scores from compute-service.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query
from moviemetric_contracts import key_rank
from pydantic_core import to_json
from service_kit.http import ProblemError
from starlette.responses import Response

from gateway.api.answers import respond
from gateway.api.commands import path_movie_id
from gateway.api.parameters import (
    GenreParameter,
    LanguageParameter,
    MinVotesParameter,
    MovieIdParameter,
    Page,
    WindowParameter,
    YearParameter,
    cache_key,
    given,
    one_of,
    page,
)
from gateway.films import (
    TREND_AWAY,
    movie_ids,
    trends_by_movie,
    with_external_score,
    with_trend,
)
from gateway.policies import Policies
from gateway.readers import ServiceAwayError, ServiceReader
from gateway.reads import LISTS, CachedReads, Loaded, Read, movie_tag
from gateway.settings import Settings
from gateway.shapes import FILM_RESPONSES, LIST_RESPONSES, FilmDetail, FilmList, Trend

Sort = Literal["popularity", "release_date", "vote_average", "title", "trend"]
Order = Literal["asc", "desc"]

_ALIAS_TTL: Final = 1.0
SORT_DESCRIPTION: Final = "`popularity` if absent; `trend` is as in `/movies/trending`"


class Movies:
    """The handlers."""

    def __init__(
        self,
        settings: Settings,
        reads: CachedReads,
        ingest: ServiceReader,
        compute: ServiceReader,
        policies: Policies,
    ) -> None:
        self._settings = settings
        self._policies = policies
        self._reads = reads
        self._ingest = ingest
        self._compute = compute

    def add_to(self, router: APIRouter) -> None:
        """Register the routes, after those with a fixed path below `/movies/`."""
        common: dict[str, Any] = {
            "methods": ["GET"],
            "tags": ["movies"],
            "response_model": None,
            "dependencies": [Depends(self._policies.reads)],
        }
        router.add_api_route(
            "/movies",
            self.movies,
            summary="Films, by popularity unless asked otherwise",
            responses={200: {"model": FilmList}, **LIST_RESPONSES},
            **common,
        )
        router.add_api_route(
            "/movies/{movie_id}/trend",
            self.trend,
            summary="A film's trend score, explained",
            responses={200: {"model": Trend}, **FILM_RESPONSES},
            **common,
        )
        router.add_api_route(
            "/movies/{movie_id}",
            self.movie,
            summary="All that is known of a film",
            responses={200: {"model": FilmDetail}, **FILM_RESPONSES},
            **common,
        )

    async def movies(
        self,
        part: Annotated[Page, Depends(page)],
        year: YearParameter = None,
        release_year: YearParameter = None,
        language: LanguageParameter = None,
        genre: GenreParameter = None,
        min_votes: MinVotesParameter = None,
        sort: Annotated[Sort | None, Query(description=SORT_DESCRIPTION)] = None,
        sort_by: Annotated[Sort | None, Query(description="as `sort`")] = None,
        order: Annotated[Order | None, Query(description="`desc` if absent")] = None,
        sort_order: Annotated[Order | None, Query(description="as `order`")] = None,
    ) -> Response:
        """Without trend scores, and with a note, while compute-service is away."""
        by: Sort = one_of("sort", sort, "sort_by", sort_by) or "popularity"
        direction: Order = one_of("order", order, "sort_order", sort_order) or "desc"
        asked = given(
            limit=part.limit,
            offset=part.offset,
            year=one_of("year", year, "release_year", release_year),
            language=language,
            genre=genre,
        )
        asked |= given(min_votes=min_votes, order=direction)
        if by == "trend":
            read = Read(
                name="movies",
                key=cache_key("movies-by-trend", asked),
                tags=(LISTS,),
                ttl=self._settings.trending_ttl,
                load=lambda: self._load_chart(asked),
            )
        else:
            asked["sort"] = by
            read = Read(
                name="movies",
                key=cache_key("movies", asked),
                tags=(LISTS,),
                ttl=self._settings.movies_ttl,
                # A page of a million films takes its time while an import is writing more of them.
                grace=self._settings.movies_ttl,
                load=lambda: self._load_films(asked),
            )
        return respond(await self._reads.answer(read))

    async def movie(self, movie_id: MovieIdParameter) -> Response:
        """`movie_id` is a key such as tmdb-27205 or imdb-tt1375666, or a TMDB number."""
        key = path_movie_id(movie_id)
        read = Read(
            name="movie",
            key=f"movie/{key}",
            tags=(movie_tag(key),),
            ttl=self._settings.movie_ttl,
            load=lambda: self._load_film(key),
        )
        return respond(await self._reads.answer(read))

    async def trend(self, movie_id: MovieIdParameter, window: WindowParameter = "day") -> Response:
        """Each component with its inputs, weights and half-life, and the formula's version."""
        key = path_movie_id(movie_id)
        read = Read(
            name="trend",
            key=f"trend/{key}?window={window}",
            tags=(movie_tag(key),),
            ttl=self._settings.trend_ttl,
            load=lambda: self._load_trend(key, window),
        )
        return respond(await self._reads.answer(read))

    async def _load_chart(self, asked: dict[str, Any]) -> Loaded:
        chart = await self._compute.fetch_object("/trending", asked)
        for film in chart["items"]:
            with_external_score(film)
        return Loaded(to_json(chart))

    async def _load_films(self, asked: dict[str, Any]) -> Loaded:
        films = await self._ingest.fetch_object("/movies", asked)
        items = films["items"]
        if not items:
            return Loaded(to_json(films))
        try:
            answer = await self._compute.fetch_object("/trends", {"ids": movie_ids(items)})
        except ServiceAwayError:
            films["items"] = [with_trend(film, None, known=False) for film in items]
            films["note"] = TREND_AWAY
            return Loaded(to_json(films), keep=False)
        trends = trends_by_movie(answer)
        films["items"] = [with_trend(film, trends.get(film["movie_id"])) for film in items]
        return Loaded(to_json(films))

    async def _load_film(self, key: str) -> Loaded:
        as_of = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        film = {"as_of": as_of, **await self._ingest.fetch_object(f"/movies/{key}")}
        own_key = film.get("movie_id", key)
        # What happens to a film is known by its own key, so no event drops this answer.
        ttl = None if own_key == key else _ALIAS_TTL
        try:
            answer = await self._compute.fetch_object("/trends", {"ids": own_key})
        except ServiceAwayError:
            film = {**with_trend(film, None, known=False), "note": TREND_AWAY}
            return Loaded(to_json(film), keep=False)
        return Loaded(to_json(with_trend(film, trends_by_movie(answer).get(own_key))), ttl=ttl)

    async def _load_trend(self, key: str, window: str) -> Loaded:
        asked = {"window": window}
        try:
            return Loaded(await self._compute.fetch(f"/trends/{key}", asked))
        except ProblemError as error:
            if error.status != 404:
                raise
            own_key = await self._own_key(key)
            if own_key == key:
                raise ProblemError(404, "Not found", f"Nothing is known of {key}.") from error
        return Loaded(await self._compute.fetch(f"/trends/{own_key}", asked), ttl=_ALIAS_TTL)

    async def _own_key(self, key: str) -> str:
        """The key of the film that `key` names, `key` itself if none is known by it."""
        if key_rank(key) == 0:
            return key
        try:
            return str((await self._ingest.fetch_object(f"/movies/{key}")).get("movie_id", key))
        except ServiceAwayError:
            return key
        except ProblemError as error:
            if error.status != 404:
                raise
            return key
