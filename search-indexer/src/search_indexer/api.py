"""The read API: `GET /search`."""

from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from search_indexer.engine import SearchEngine, SearchRequest


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


class FacetCounts(BaseModel):
    """How many of all hits fall to each genre, decade (by its first year) and language."""

    model_config = ConfigDict(from_attributes=True)

    genre: dict[str, int]
    decade: dict[str, int]
    language: dict[str, int]


class SearchPage(BaseModel):
    """One page of hits, best first; `total` and `facets` are about all pages."""

    query: str
    hits: list[Hit]
    total: int
    limit: int
    offset: int
    facets: FacetCounts
    as_of: datetime


class SearchQuery(BaseModel):
    """The query parameters; unknown ones are ignored."""

    q: Annotated[str, Field(max_length=200)] = ""
    min_rating: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] | None = None
    min_votes: Annotated[int, Field(ge=0, le=2**53)] | None = None
    year: Annotated[int, Field(ge=1, le=9999)] | None = None
    genre: Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=20)] = []
    language: Annotated[str, Field(max_length=20)] | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    offset: Annotated[int, Field(ge=0, le=100_000)] = 0

    def to_request(self) -> SearchRequest:
        """As the engine takes it; a NUL, which no text can hold, is left out."""
        return SearchRequest(
            q=self.q.replace("\x00", ""),
            genres=tuple(self.genre),
            year=self.year,
            language=self.language.replace("\x00", "") if self.language else None,
            min_rating=self.min_rating,
            min_votes=self.min_votes,
            limit=self.limit,
            offset=self.offset,
        )


def create_router(engine: SearchEngine) -> APIRouter:
    """The routes, answered by an engine."""
    router = APIRouter()

    @router.get("/search")
    async def search(query: Annotated[SearchQuery, Query()]) -> SearchPage:  # pyright: ignore[reportUnusedFunction]
        """Films by title, people, keywords and plot; without `q`, all films by trend."""
        request = query.to_request()
        result = await engine.search(request)
        return SearchPage(
            query=request.q,
            hits=[Hit.model_validate(hit) for hit in result.hits],
            total=result.total,
            limit=query.limit,
            offset=query.offset,
            facets=FacetCounts.model_validate(result.facets),
            as_of=datetime.now(UTC),
        )

    return router
