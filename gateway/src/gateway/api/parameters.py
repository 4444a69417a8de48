"""Query parameters that several routes share, with the names that older clients use as well."""

from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode

from fastapi import Path, Query
from pydantic import AfterValidator, BeforeValidator

from gateway.bodies import MOVIE_KEY_PATTERN, invalid, iso_date
from gateway.jobs import JOB_ID_PATTERN

MAX_LIMIT: Final = 100
MAX_OFFSET: Final = 100_000
DEFAULT_LIMIT: Final = 20

Window = Literal["day", "week"]


def _no_nul(text: str) -> str:
    if "\x00" in text:
        msg = "must not contain the NUL character"
        raise ValueError(msg)
    return text


Words = Annotated[str, AfterValidator(_no_nul)]

LimitParameter = Annotated[int, Query(ge=1, le=MAX_LIMIT)]
OffsetParameter = Annotated[int, Query(ge=0, le=MAX_OFFSET)]
YearParameter = Annotated[int | None, Query(ge=1, le=9999, description="of release")]
GenreParameter = Annotated[Words | None, Query(min_length=1, max_length=100)]
LanguageParameter = Annotated[
    str | None,
    Query(
        pattern=r"^[A-Za-z-]{2,20}$",
        description="of the original, as in ISO 639-1",
        examples=["en"],
    ),
]
# What stands in `json_schema_extra` is for the reader: the handlers check it themselves.
MovieIdParameter = Annotated[
    str,
    Path(
        description="a key such as tmdb-27205 or imdb-tt1375666, or a TMDB number",
        examples=["tmdb-27205"],
        json_schema_extra={"pattern": MOVIE_KEY_PATTERN, "maxLength": 200},
    ),
]
JobIdParameter = Annotated[
    str,
    Path(
        examples=["import-0b6b5f0e6a0f5d7e9f396f0f6f1c9f4e"],
        json_schema_extra={"pattern": JOB_ID_PATTERN},
    ),
]
DateParameter = Annotated[
    Annotated[date, BeforeValidator(iso_date)] | None,
    Query(description="a day (UTC) such as 2025-01-31", examples=["2025-01-31"]),
]
MinVotesParameter = Annotated[
    int | None, Query(ge=0, le=1_000_000_000, description="of the source")
]
DiversityParameter = Annotated[
    float | None,
    Query(
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="0: the best ones, however alike; 1: as unlike each other as can be",
    ),
]
WindowParameter = Annotated[Window, Query(description="half-life of a day or of a week")]


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list."""

    limit: int
    offset: int


async def page(
    limit: Annotated[int | None, Query(ge=1, le=MAX_LIMIT, description="20 if absent")] = None,
    offset: Annotated[int | None, Query(ge=0, le=MAX_OFFSET, description="0 if absent")] = None,
    number: Annotated[
        int | None, Query(alias="page", ge=1, le=MAX_OFFSET, description="instead of offset")
    ] = None,
    page_size: Annotated[
        int | None, Query(ge=1, le=MAX_LIMIT, description="instead of limit")
    ] = None,
) -> Page:
    """`limit` and `offset`, or `page` (from 1) and `page_size`."""
    size = one_of("limit", limit, "page_size", page_size) or DEFAULT_LIMIT
    if number is None:
        return Page(size, offset or 0)
    start = one_of("page", (number - 1) * size, "offset", offset)
    if start is not None and start > MAX_OFFSET:
        raise invalid([("page", f"lies beyond the first {MAX_OFFSET} entries")])
    return Page(size, start or 0)


def one_of(name: str, value: Any, other_name: str, other: Any) -> Any:
    """The one that is given of two names for the same thing.

    Raises:
        ProblemError: 422, both are given and differ.
    """
    if value is not None and other is not None and value != other:
        raise invalid([(other_name, f"contradicts {name}; give only one of them")])
    return other if value is None else value


def given(**parameters: Any) -> dict[str, Any]:
    """Those that are not None."""
    return {name: value for name, value in parameters.items() if value is not None}


def cache_key(route: str, parameters: dict[str, Any]) -> str:
    """The same for the same question however it was written."""
    return f"{route}?{urlencode(sorted(parameters.items()))}"
