"""The read API: `GET /search` and `GET /search/suggest`."""

from datetime import UTC, date, datetime
from typing import Annotated, Self

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import Response

from search_indexer.engine import GenreMode, Order, SearchEngine, SearchRequest, Sort
from search_indexer.folding import storable


class Hit(BaseModel):
    """A film in the results."""

    model_config = ConfigDict(from_attributes=True)

    movie_id: str
    tmdb_id: int | None
    imdb_id: str | None
    title: str
    original_title: str | None
    original_language: str | None
    release_date: date | None
    genres: list[str]
    vote_average: float | None
    vote_count: int
    popularity: float
    poster_path: str | None
    final_trend_score: float | None
    views: int
    local_ratings: int
    local_mean: float | None


class MarkedHit(Hit):
    """A film with the texts in which the words were found."""

    highlights: dict[str, str | list[str]]


class FacetCounts(BaseModel):
    """How many of all hits fall to each genre, decade (by its first year) and language."""

    model_config = ConfigDict(from_attributes=True)

    genre: dict[str, int]
    decade: dict[str, int]
    language: dict[str, int]


class Answered(BaseModel):
    """Which engine answered, and when; `degraded` and why only where it is not the usual one."""

    engine: str
    degraded: bool
    note: str | None
    as_of: datetime

    def as_response(self) -> Response:
        """The JSON."""
        usual = set[str]() if self.degraded else {"degraded", "note"}
        return Response(self.model_dump_json(exclude=usual), media_type="application/json")


class SearchPage(Answered):
    """One page of hits, best first; `total` and `facets` are about all pages."""

    query: str
    hits: list[MarkedHit] | list[Hit]
    total: int
    limit: int
    offset: int
    facets: FacetCounts


class SearchQuery(BaseModel):
    """The query parameters; unknown ones are ignored."""

    q: Annotated[str, Field(max_length=200)] = ""
    min_rating: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] | None = None
    min_votes: Annotated[int, Field(ge=0, le=2**53)] | None = None
    year: Annotated[int, Field(ge=1, le=9999)] | None = None
    year_from: Annotated[int, Field(ge=1, le=9999)] | None = None
    year_to: Annotated[int, Field(ge=1, le=9999)] | None = None
    decade: Annotated[int, Field(ge=0, le=9990, multiple_of=10)] | None = None
    genre: Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=20)] = []
    genre_mode: GenreMode = "all"
    language: Annotated[str, Field(max_length=20)] | None = None
    sort: Sort = "relevance"
    order: Order = "desc"
    highlight: bool = False
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    offset: Annotated[int, Field(ge=0, le=100_000)] = 0

    @model_validator(mode="after")
    def _one_way_to_name_years(self) -> Self:
        if self.year is not None and (self.year_from is not None or self.year_to is not None):
            msg = "year and year_from or year_to exclude each other"
            raise ValueError(msg)
        return self

    def to_request(self) -> SearchRequest:
        """As the engine takes it."""
        return SearchRequest(
            q=storable(self.q),
            genres=tuple(self.genre),
            genre_mode=self.genre_mode,
            year_from=self.year if self.year is not None else self.year_from,
            year_to=self.year if self.year is not None else self.year_to,
            decade=self.decade,
            language=self.language,
            min_rating=self.min_rating,
            min_votes=self.min_votes,
            sort=self.sort,
            order=self.order,
            highlight=self.highlight,
            limit=self.limit,
            offset=self.offset,
        )


class FilmSuggestion(BaseModel):
    """A film by its title."""

    model_config = ConfigDict(from_attributes=True)

    movie_id: str
    title: str
    year: int | None


class SuggestionList(Answered):
    """What may be meant by an unfinished text, likeliest first."""

    query: str
    films: list[FilmSuggestion]
    people: list[str]


def create_router(engine: SearchEngine) -> APIRouter:
    """The routes, answered by an engine."""
    router = APIRouter()

    @router.get("/search", response_model=None)
    async def search(query: Annotated[SearchQuery, Query()]) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Films by title, people, keywords and plot; without `q`, all films by trend."""
        request = query.to_request()
        result = await engine.search(request)
        page = SearchPage(
            query=request.q,
            hits=[MarkedHit.model_validate(hit) for hit in result.hits]
            if request.highlight
            else [Hit.model_validate(hit) for hit in result.hits],
            total=result.total,
            limit=query.limit,
            offset=query.offset,
            facets=FacetCounts.model_validate(result.facets),
            engine=result.engine,
            degraded=result.degraded,
            note=result.note,
            as_of=datetime.now(UTC),
        )
        return page.as_response()

    @router.get("/search/suggest", response_model=None)
    async def suggest(  # pyright: ignore[reportUnusedFunction]
        q: Annotated[str, Query(max_length=200)],
        limit: Annotated[int, Query(ge=1, le=20)] = 8,
    ) -> Response:
        """Films by the beginning of a title or of words in it, and people."""
        result = await engine.suggest(storable(q), limit)
        suggestions = SuggestionList(
            query=storable(q),
            films=[FilmSuggestion.model_validate(film) for film in result.films],
            people=list(result.people),
            engine=result.engine,
            degraded=result.degraded,
            note=result.note,
            as_of=datetime.now(UTC),
        )
        return suggestions.as_response()

    return router
