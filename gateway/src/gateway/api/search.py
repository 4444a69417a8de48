"""Search: passed to search-indexer, cached for a moment."""

import re
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator
from pydantic_core import to_json
from starlette.responses import Response

from gateway.api.answers import respond
from gateway.api.parameters import (
    LanguageParameter,
    LimitParameter,
    OffsetParameter,
    Words,
    cache_key,
    given,
)
from gateway.bodies import invalid
from gateway.films import with_external_score
from gateway.policies import Policies
from gateway.readers import ServiceReader
from gateway.reads import LISTS, CachedReads, Loaded, Read
from gateway.search_signals import SearchSignals
from gateway.settings import Settings
from gateway.shapes import LIST_RESPONSES, SearchAnswer, SuggestAnswer

Sort = Literal["relevance", "date", "rating", "trend"]
Order = Literal["asc", "desc"]
GenreMode = Literal["any", "all"]

MAX_GENRES: Final = 20
MAX_GENRE: Final = 100
_YEAR: Final = "[1-9][0-9]{0,3}"
_YEARS: Final = re.compile(f"({_YEAR})|({_YEAR})-({_YEAR})?|-({_YEAR})")

YearsParameter = Annotated[
    str | None,
    Query(
        pattern=f"^({_YEAR}|{_YEAR}-({_YEAR})?|-{_YEAR})$",
        description="of release: `1999`, `1990-1999`, `1990-` or `-1999`",
        examples=["1990-1999"],
    ),
]


def _genres(values: list[str]) -> list[str]:
    """The genres of a parameter that is repeated, or has several in it."""
    genres = [name for value in values for part in value.split(",") if (name := part.strip())]
    if not 0 < len(genres) <= MAX_GENRES or max(map(len, genres)) > MAX_GENRE:
        msg = f"must name 1 to {MAX_GENRES} genres of at most {MAX_GENRE} characters"
        raise ValueError(msg)
    if any("\x00" in name for name in genres):
        msg = "must not contain the NUL character"
        raise ValueError(msg)
    return genres


GenresParameter = Annotated[
    Annotated[list[str], AfterValidator(_genres)] | None,
    Query(
        max_length=MAX_GENRES,
        description="repeated, or separated by commas; without case and accents",
        examples=[["Drama", "Comedy"]],
    ),
]


class Search:
    """The handlers."""

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
        """Register the routes."""
        common: dict[str, Any] = {
            "methods": ["GET"],
            "tags": ["search"],
            "dependencies": [Depends(self._policies.reads)],
            "response_model": None,
        }
        router.add_api_route(
            "/search",
            self.get,
            summary="Find films by their words",
            responses={200: {"model": SearchAnswer}, **LIST_RESPONSES},
            **common,
        )
        router.add_api_route(
            "/search/suggest",
            self.suggest,
            summary="Titles and people, for what is being typed",
            responses={200: {"model": SuggestAnswer}, **LIST_RESPONSES},
            **common,
        )

    async def get(
        self,
        q: Annotated[
            Words,
            Query(max_length=200, description="nothing: all films", examples=["incepton"]),
        ],
        year: YearsParameter = None,
        decade: Annotated[
            int | None, Query(ge=0, le=9990, multiple_of=10, description="its first year")
        ] = None,
        genre: GenresParameter = None,
        genre_mode: Annotated[
            GenreMode, Query(description="whether a film has all of the genres, or any of them")
        ] = "all",
        language: LanguageParameter = None,
        min_rating: Annotated[float | None, Query(ge=0, le=10, allow_inf_nan=False)] = None,
        min_votes: Annotated[int | None, Query(ge=0, le=1_000_000_000)] = None,
        sort: Annotated[
            Sort, Query(description="`relevance`, and among equally good ones the trend")
        ] = "relevance",
        order: Annotated[Order, Query(description="of date, rating or trend")] = "desc",
        highlight: Annotated[bool, Query(description="whether hits say what was found")] = False,
        limit: LimitParameter = 20,
        offset: OffsetParameter = 0,
    ) -> Response:
        """Tolerates typing errors; `facets` counts all hits by genre, decade and language."""
        if sort == "relevance" and order == "asc":
            raise invalid([("order", "needs sort to be date, rating or trend")])
        asked = given(
            q=q,
            **years_of(year),
            decade=decade,
            genre=genre,
            genre_mode=genre_mode if genre else None,
            language=language,
            min_rating=min_rating,
            min_votes=min_votes,
            sort=sort,
            order=order,
            highlight=highlight or None,
            limit=limit,
            offset=offset,
        )
        response = await self._read("search", "/search", asked)
        return self._signals.performed(response, q, offset=offset)

    async def suggest(
        self,
        q: Annotated[Words, Query(max_length=200, examples=["incep"])],
        limit: Annotated[int, Query(ge=1, le=20, description="of films, and of people")] = 8,
    ) -> Response:
        """Films whose title begins so come first, then those with a word that does."""
        return await self._read("suggest", "/search/suggest", given(q=q, limit=limit))

    async def _read(self, name: str, path: str, asked: dict[str, Any]) -> Response:
        read = Read(
            name=name,
            key=cache_key(name, asked),
            tags=(LISTS,),
            ttl=self._settings.search_ttl,
            load=lambda: self._load(path, asked),
        )
        return respond(await self._reads.answer(read))

    async def _load(self, path: str, asked: dict[str, Any]) -> Loaded:
        answer = await self._search.fetch_object(path, asked)
        for film in answer.get("hits", ()):
            with_external_score(film)
        # An answer of the engine that stands in must not outlive the outage.
        return Loaded(to_json(answer), keep=not answer.get("degraded", False))


def years_of(years: str | None) -> dict[str, int]:
    """`year_from` and `year_to` of a year or a range of years.

    Raises:
        ProblemError: 422, the range ends before it begins.
    """
    found = _YEARS.fullmatch(years) if years is not None else None
    if found is None:
        return {}
    single, first, last, last_alone = found.groups()
    first, last = single or first, single or last or last_alone
    if first and last and int(first) > int(last):
        raise invalid([("year", "ends before it begins")])
    named = {"year_from": first, "year_to": last}
    return {name: int(text) for name, text in named.items() if text}
