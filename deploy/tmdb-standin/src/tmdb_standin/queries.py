"""What list requests ask for, read from the query string as TMDB reads it."""

from collections.abc import Callable, Iterable, Mapping
from datetime import date, timedelta
from typing import Final

from tmdb_standin.catalogue import SORT_ORDERS, Film
from tmdb_standin.shapes import (
    INVALID_DATE_RANGE,
    INVALID_PAGE,
    INVALID_PARAMETERS,
    LAST_PAGE,
    MAX_APPENDED,
    TOO_MANY_APPENDED,
    Body,
)

Params = Mapping[str, str]
Test = Callable[[Film], bool]

_MAX_RANGE: Final = timedelta(days=14)


class TmdbError(Exception):
    """A request that TMDB answers with an error: the HTTP status and TMDB's body."""

    def __init__(self, status: int, body: Body) -> None:
        super().__init__(body["status_message"])
        self.status = status
        self.body = body


def not_adult(film: Film) -> bool:
    return not film.adult


def page_number(params: Params) -> int:
    text = params.get("page", "1")
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0
    if not 1 <= number <= LAST_PAGE:
        raise TmdbError(400, INVALID_PAGE)
    return number


def appended(params: Params) -> list[str]:
    names = [name for name in params.get("append_to_response", "").split(",") if name]
    if len(names) > MAX_APPENDED:
        raise TmdbError(400, TOO_MANY_APPENDED)
    return names


def changes_range(params: Params, today: date) -> tuple[date, date]:
    """First and last day asked for; the default is yesterday and today."""
    end = _day(params, "end_date") or today
    start = _day(params, "start_date") or end - timedelta(days=1)
    if not timedelta(0) <= end - start <= _MAX_RANGE:
        raise TmdbError(422, INVALID_DATE_RANGE)
    return start, end


def sort_order(params: Params) -> str:
    asked = params.get("sort_by", "popularity.desc")
    if asked not in SORT_ORDERS:
        raise TmdbError(422, INVALID_PARAMETERS)
    return asked


def discover_tests(params: Params) -> list[Test]:
    """The filters of `/3/discover/movie`; a film is in the list if it passes all.

    TMDB passes over values that it cannot read. Here they are an error, so that a client's
    mistake shows.
    """
    tests: list[Test] = [*_bounds(params), *_dates(params), *_genres(params)]
    if not _flag(params, "include_adult"):
        tests.append(not_adult)
    if not _flag(params, "include_video"):
        tests.append(lambda film: not film.video)
    if languages := params.get("with_original_language"):
        wanted = frozenset(languages.split("|"))
        tests.append(lambda film: film.original_language in wanted)
    return tests


def search_tests(params: Params) -> list[Test]:
    tests = _years(params)
    if not _flag(params, "include_adult"):
        tests.append(not_adult)
    return tests


def _bounds(params: Params) -> Iterable[Test]:
    values: dict[str, Callable[[Film], float]] = {
        "vote_count": lambda film: film.vote_count,
        "vote_average": lambda film: film.vote_average,
        "with_runtime": lambda film: film.runtime,
    }
    for field, value in values.items():
        if (low := _number(params, f"{field}.gte")) is not None:
            yield lambda film, value=value, low=low: value(film) >= low
        if (high := _number(params, f"{field}.lte")) is not None:
            yield lambda film, value=value, high=high: value(film) <= high


def _dates(params: Params) -> Iterable[Test]:
    yield from _years(params)
    for field in ("primary_release_date", "release_date"):
        if first := _day(params, f"{field}.gte"):
            yield lambda film, day=str(first): film.release_date >= day
        if last := _day(params, f"{field}.lte"):
            yield lambda film, day=str(last): "" < film.release_date <= day


def _years(params: Params) -> list[Test]:
    years = {params[name] for name in ("primary_release_year", "year") if params.get(name)}
    if not all(year.isascii() and year.isdecimal() and len(year) == 4 for year in years):
        raise TmdbError(422, INVALID_PARAMETERS)
    return [lambda film, year=year: film.release_date.startswith(f"{year}-") for year in years]


def _genres(params: Params) -> Iterable[Test]:
    for name, wanted in (("with_genres", True), ("without_genres", False)):
        text = params.get(name)
        if not text:
            continue
        quantify = any if "|" in text else all
        try:
            ids = [int(part) for part in text.replace("|", ",").split(",")]
        except ValueError as problem:
            raise TmdbError(422, INVALID_PARAMETERS) from problem
        if wanted:
            yield lambda film, ids=ids, quantify=quantify: quantify(
                genre in film.genre_ids for genre in ids
            )
        else:
            yield lambda film, ids=ids: not any(genre in film.genre_ids for genre in ids)


def _flag(params: Params, name: str) -> bool:
    return params.get(name, "false").lower() == "true"


def _number(params: Params, name: str) -> float | None:
    text = params.get(name)
    if not text:
        return None
    try:
        return float(text)
    except ValueError as problem:
        raise TmdbError(422, INVALID_PARAMETERS) from problem


def _day(params: Params, name: str) -> date | None:
    text = params.get(name)
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as problem:
        raise TmdbError(422, INVALID_PARAMETERS) from problem
