"""What the routes share: parameters, the film in a list, and how bad input is refused."""

import re
from datetime import date
from typing import Annotated, Final, Literal, NoReturn

from fastapi import Query
from moviemetric_contracts import parse_movie_id
from moviemetric_contracts.fields import Name
from pydantic import BaseModel, BeforeValidator, Field
from service_kit import ProblemError

from compute_service.charts import ChartFilter

MAX_IDS: Final = 500
MAX_VOTES: Final = 2**53 - 1
_ISO_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

Limit = Annotated[int, Query(ge=1, le=100)]
Offset = Annotated[int, Query(ge=0, le=100_000)]
Score = Annotated[float, Field(ge=0, le=100)]


def _iso_date(value: object) -> object:
    # A plain number would be taken for seconds since 1970.
    if isinstance(value, str) and not _ISO_DATE.fullmatch(value):
        msg = "expected a day as YYYY-MM-DD"
        raise ValueError(msg)
    return value


DayParameter = Annotated[
    date, BeforeValidator(_iso_date), Query(description="a day (UTC) as YYYY-MM-DD")
]


class ListedFilm(BaseModel):
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
    views: int
    ratings: int
    final_trend_score: Score


def chart_filter(
    genre: Annotated[Name | None, Query()] = None,
    year: Annotated[int | None, Query(ge=1, le=9999)] = None,
    language: Annotated[Name | None, Query(max_length=20)] = None,
    min_votes: Annotated[int | None, Query(ge=0, le=MAX_VOTES)] = None,
) -> ChartFilter:
    """A dependency: the films that a request wants."""
    return ChartFilter(genre=genre, year=year, language=language, min_votes=min_votes)


def movie_ids(text: str) -> list[str]:
    """The keys in a list separated by commas, or a 422."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not 1 <= len(parts) <= MAX_IDS:
        refuse("ids", f"expected 1 to {MAX_IDS} keys separated by commas, got {len(parts)}")
    return [movie_id_of(part, field="ids") for part in parts]


def movie_id_of(text: str, *, field: Literal["ids", "movie_id"]) -> str:
    """The key that a caller wrote, or a 422."""
    try:
        return parse_movie_id(text)
    except ValueError as error:
        refuse(field, str(error))


def unknown_film(key: str) -> ProblemError:
    """The 404 for a key that nothing is known of."""
    detail = f"nothing is known of {key}: it was neither registered nor viewed nor rated"
    return ProblemError(404, "Unknown film", detail)


def refuse(field: str, message: str) -> NoReturn:
    """A 422 that names the field."""
    raise ProblemError(
        422, "Invalid request", f"{field}: {message}", errors=[{"field": field, "message": message}]
    )
