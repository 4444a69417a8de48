"""The read API: lists of films and one film, as the gateway asks for them."""

from datetime import UTC, date, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from moviemetric_contracts import Movie, parse_movie_id, tmdb_id_of
from pydantic import BaseModel, StringConstraints
from service_kit import Database
from service_kit.http import ProblemError

from ingest_service import listing
from ingest_service.listing import Filters, Sort

_MAX_PAGE = 100


class Film(BaseModel):
    """A film in a list."""

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


class FilmList(BaseModel):
    """One page; `total` counts all films that pass the filters, as of `as_of`."""

    items: list[Film]
    total: int
    limit: int
    offset: int
    as_of: datetime


class MovieDetail(Movie):
    """The whole film, and how new it is: `updated_at` is when its content last changed."""

    revision: int
    updated_at: datetime


_Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


def router(database: Database) -> APIRouter:
    """The routes, reading from `database`."""
    routes = APIRouter(tags=["films"])

    @routes.get("/movies", summary="Films of the catalogue")
    async def list_movies(
        limit: Annotated[int | None, Query(ge=1, le=_MAX_PAGE)] = None,
        offset: Annotated[int, Query(ge=0, le=100_000)] = 0,
        year: Annotated[int | None, Query(ge=1, le=9999)] = None,
        language: Annotated[_Word | None, Query()] = None,
        genre: Annotated[_Word | None, Query()] = None,
        min_votes: Annotated[int | None, Query(ge=0, le=2_147_483_647)] = None,
        sort: Annotated[Sort, Query()] = "popularity",
        order: Annotated[Literal["asc", "desc"], Query()] = "desc",
        ids: Annotated[str | None, Query(max_length=20_000)] = None,
    ) -> FilmList:
        movie_ids = None if ids is None else _keys(ids)
        # Who names the films wants all of them.
        page_size = limit or (20 if movie_ids is None else _MAX_PAGE)
        filters = Filters(
            year=year,
            language=language.lower() if language else None,
            genre=_storable(genre),
            min_votes=min_votes,
            movie_ids=movie_ids,
        )
        async with database.reading() as connection:
            page = await listing.list_page(
                connection,
                filters,
                sort=sort,
                descending=order == "desc",
                limit=page_size,
                offset=offset,
            )
        return FilmList(
            items=[
                Film.model_validate({**item, "tmdb_id": tmdb_id_of(item["movie_id"])})
                for item in page.items
            ],
            total=page.total,
            limit=page_size,
            offset=offset,
            as_of=datetime.now(UTC),
        )

    @routes.get("/movies/{movie_id}", summary="One film")
    async def get_movie(movie_id: Annotated[str, Path(max_length=200)]) -> MovieDetail:
        key = _key("movie_id", movie_id)
        async with database.reading() as connection:
            known = await listing.find(connection, key)
        if known is None or (known.removed_reason is None and known.content is None):
            raise ProblemError(404, "Unknown film", f"{key} is not in the catalogue")
        if known.removed_reason is not None:
            raise ProblemError(
                404,
                "Removed film",
                f"{key} was removed from the catalogue: {known.removed_reason}",
            )
        return MovieDetail.model_validate(
            {
                **(known.content or {}),
                "fetched_at": known.known_since,
                "revision": known.revision,
                "updated_at": known.updated_at,
            }
        )

    # FastAPI refers to them; nothing else does.
    _ = (list_movies, get_movie)
    return routes


def _key(field: str, text: str) -> str:
    try:
        return parse_movie_id(text)
    except ValueError as error:
        problem = str(error)
    raise ProblemError(
        422, "Invalid request", problem, errors=[{"field": field, "message": problem}]
    )


def _keys(ids: str) -> list[str]:
    keys = [_key("ids", part) for text in ids.split(",") if (part := text.strip())]
    if len(keys) > _MAX_PAGE:
        problem = f"at most {_MAX_PAGE} films at once, got {len(keys)}"
        raise ProblemError(
            422, "Invalid request", problem, errors=[{"field": "ids", "message": problem}]
        )
    return keys


def _storable(text: str | None) -> str | None:
    # PostgreSQL refuses U+0000 in a parameter; no genre holds one.
    return text.replace("\x00", "") if text is not None else None
