"""What Meilisearch is asked, and what its answers mean: settings, filters, searches, suggestions.

A search asks for a numbered page, because only then is Meilisearch's total exact; a window that is
no page is cut out of the smallest page that holds it.

Filters are a list of conditions, every one made by `condition`, and never text that came from
outside: a string is quoted there, genres are compared by their folded form, languages are codes. Of
the query, quotes and hyphens are left out: to Meilisearch they would be operators.
"""

import asyncio
import html
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, cast

from meilisearch_python_sdk import AsyncIndex
from meilisearch_python_sdk.models.search import SearchResults
from meilisearch_python_sdk.models.settings import (
    Faceting,
    MeilisearchSettings,
    MinWordSizeForTypos,
    Pagination,
    TypoTolerance,
)

from search_indexer.engine import (
    Facets,
    Highlights,
    SearchHit,
    SearchRequest,
    SearchResult,
    SuggestedFilm,
    Suggestions,
)
from search_indexer.folding import ARTICLES, fold, is_word_character, storable
from search_indexer.highlighting import FIELDS, SNIPPET_WORDS
from search_indexer.suggesting import matching_people

NAME: Final = "meilisearch"

_SHOWN: Final = [
    "movie_id",
    "tmdb_id",
    "imdb_id",
    "title",
    "original_title",
    "original_language",
    "release_date",
    "genres",
    "vote_average",
    "vote_count",
    "popularity",
    "poster_path",
    "final_trend_score",
    "views",
    "local_ratings",
    "local_mean",
]
_TITLES: Final = ["title", "bare_title", "original_title"]
# How many films with a person's name are looked at for suggesting people.
_FILMS_OF_PEOPLE: Final = 60
SETTINGS: Final = MeilisearchSettings(
    # `bare_title` lets a query without the article be the exact title.
    searchable_attributes=[*_TITLES, "people", "keywords", "overview"],
    filterable_attributes=[
        "genres",
        "genre_keys",
        "year",
        "decade",
        "original_language",
        "vote_average",
        "vote_count",
    ],
    sortable_attributes=["release_date", "vote_average", "rank_key", "popularity"],
    displayed_attributes=[*_SHOWN, "year", "people", "keywords", "overview", "revision"],
    # Who asks for an order wants it before all else; the rest decides among equals.
    ranking_rules=[
        "sort",
        "words",
        "typo",
        "attributeRank",
        "exactness",
        "proximity",
        "wordPosition",
        "rank_key:desc",
        "popularity:desc",
    ],
    stop_words=sorted(ARTICLES),
    typo_tolerance=TypoTolerance(
        enabled=True,
        disable_on_numbers=True,
        min_word_size_for_typos=MinWordSizeForTypos(one_typo=4, two_typos=8),
    ),
    faceting=Faceting(max_values_per_facet=1000, sort_facet_values_by={"*": "count"}),
    pagination=Pagination(max_total_hits=1_000_000),
)
_SORTED_BY: Final = {"date": "release_date", "rating": "vote_average", "trend": "rank_key"}

# Around a match, in place of tags: texts are escaped first. No text has this in it by chance.
_BEGIN: Final = "\ue000\ue001\ue000"
_END: Final = "\ue001\ue000\ue001"
# A match of a word's beginning marks the whole word.
_REST_OF_WORD: Final = re.compile(rf"{_END}([^\W_]+)")
_OPERATORS: Final = re.compile(r"[\"\-]")

Operator = Literal["=", ">=", "<="]


async def find(index: AsyncIndex, request: SearchRequest) -> SearchResult:
    """The films that fit, best first; equally good ones by trend."""
    if request.is_unanswerable:
        return SearchResult(engine=NAME)
    page, size, skip = page_window(request.offset, request.limit)
    marking: dict[str, Any] = {}
    if request.highlight and request.words:
        marking = {
            "attributes_to_highlight": list(FIELDS),
            "attributes_to_crop": ["overview"],
            "crop_length": SNIPPET_WORDS,
            "highlight_pre_tag": _BEGIN,
            "highlight_post_tag": _END,
        }
    answer = await index.search(  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] -- hits are of any type
        query_of(request.q),
        page=page,
        hits_per_page=size,
        filter=filter_of(request),
        sort=sort_of(request),
        facets=["genres", "decade", "original_language"],
        attributes_to_retrieve=[*_SHOWN, *FIELDS] if marking else _SHOWN,
        matching_strategy="all",
        **marking,
    )
    found = cast("SearchResults[dict[str, Any]]", answer)
    facets: Mapping[str, Mapping[str, int]] = found.facet_distribution or {}
    return SearchResult(
        hits=[
            SearchHit.from_json(fields, _highlights(fields) if request.highlight else None)
            for fields in found.hits[skip : skip + request.limit]
        ],
        total=found.total_hits or 0,
        facets=Facets(
            genre=facets.get("genres", {}),
            decade=facets.get("decade", {}),
            language=facets.get("original_language", {}),
        ),
        engine=NAME,
    )


async def complete(index: AsyncIndex, prefix: str, limit: int) -> Suggestions:
    """Titles and people that begin so, likeliest first."""
    text = query_of(prefix)
    if not fold(text):
        return Suggestions(engine=NAME)
    films, casts = await asyncio.gather(
        _hits(index, text, on=_TITLES, show=["movie_id", "title", "year"], limit=limit),
        _hits(index, text, on=["people"], show=["people"], limit=_FILMS_OF_PEOPLE),
    )
    return Suggestions(
        films=[
            SuggestedFilm(movie_id=film["movie_id"], title=film["title"], year=film["year"])
            for film in films
        ],
        people=matching_people(prefix, [film["people"] for film in casts], limit),
        engine=NAME,
    )


async def _hits(
    index: AsyncIndex, text: str, *, on: list[str], show: list[str], limit: int
) -> list[dict[str, Any]]:
    answer = await index.search(  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] -- hits are of any type
        text,
        limit=limit,
        attributes_to_search_on=on,
        attributes_to_retrieve=show,
        matching_strategy="all",
    )
    return cast("SearchResults[dict[str, Any]]", answer).hits


def query_of(text: str) -> str:
    """Words without what Meilisearch takes for operators: phrases in quotes, words with a minus.

    It ends with a word, which so may be unfinished. An article behind which anything stands would
    be left out, and if it was all that was asked for, everything found.
    """
    query = _OPERATORS.sub(" ", storable(text)).lstrip()
    end = len(query)
    while end and not is_word_character(query[end - 1]):
        end -= 1
    return query[:end]


def condition(attribute: str, operator: Operator, value: str | float) -> str:
    """One condition of a filter. A string value is quoted so that it cannot end its quotes."""
    if isinstance(value, str):
        # Only a quote needs an escape, and a backslash is one only before it; so a backslash is
        # doubled too, or one at the end would take the closing quote with it.
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'{attribute} {operator} "{escaped}"'
    return f"{attribute} {operator} {value!r}"


def filter_of(request: SearchRequest) -> list[str | list[str]]:
    """The conditions a hit must all meet; of a list within it, one."""
    genres = [condition("genre_keys", "=", fold(genre)) for genre in request.genres]
    conditions: list[str | list[str]] = []
    if genres and request.genre_mode == "any":
        conditions.append(genres)
    else:
        conditions.extend(genres)
    if request.year_from is not None:
        conditions.append(condition("year", ">=", request.year_from))
    if request.year_to is not None:
        conditions.append(condition("year", "<=", request.year_to))
    if request.decade is not None:
        conditions.append(condition("decade", "=", request.decade))
    if request.language is not None:
        conditions.append(condition("original_language", "=", request.language))
    if request.min_rating is not None:
        conditions.append(condition("vote_average", ">=", request.min_rating))
    if request.min_votes is not None:
        conditions.append(condition("vote_count", ">=", request.min_votes))
    return conditions


def sort_of(request: SearchRequest) -> list[str] | None:
    """What comes before relevance, if anything; equals by trend."""
    attribute = _SORTED_BY.get(request.sort)
    if attribute is None:
        return None
    by_trend = ["rank_key:desc", "popularity:desc"]
    if request.sort == "trend":
        return [f"rank_key:{request.order}", f"popularity:{request.order}"]
    return [f"{attribute}:{request.order}", *by_trend]


def page_window(offset: int, limit: int) -> tuple[int, int, int]:
    """The smallest page that holds a window: (page number from 1, page size, items to skip)."""
    size = limit
    while offset % size + limit > size:
        size += 1
    return offset // size + 1, size, offset % size


def _highlights(fields: Mapping[str, Any]) -> Highlights:
    formatted: Mapping[str, Any] = fields.get("_formatted") or {}
    found: dict[str, str | list[str]] = {}
    for name in FIELDS:
        text: object = formatted.get(name)
        if isinstance(text, str) and _BEGIN in text:
            found[name] = _as_html(text)
        elif isinstance(text, list):
            items = cast("Sequence[str]", text)
            if matching := [_as_html(item) for item in items if _BEGIN in item]:
                found[name] = matching
    return found


def _as_html(text: str) -> str:
    whole = _REST_OF_WORD.sub(rf"\g<1>{_END}", text)
    return html.escape(whole).replace(_BEGIN, "<mark>").replace(_END, "</mark>")
