"""Query parameters that several routes share, with the names that older clients use as well."""

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode

from fastapi import Query
from pydantic import AfterValidator

from gateway.bodies import invalid

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
