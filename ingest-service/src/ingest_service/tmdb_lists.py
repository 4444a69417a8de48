"""Which films a run asks TMDB for: the pages of its lists, and of what changed.

A list has 20 films a page and `/movie/changes` 100; both say how many pages there are, and refuse a
page above 500. A film may stand on several pages, and while a list is read it may move from one to
another: who needs each film once has to sort that out.

`/movie/changes` answers for at most 14 days at once. TMDB began its record of changes on 2012-10-05
and does not promise to keep it, so a catalogue that was not brought up to date for longer than
those 14 days is better filled from the lists, or with `force`.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final, cast

from moviemetric_contracts import IngestCatalog, ListPages

LAST_PAGE: Final = 500
_MAX_TMDB_ID: Final = 2**31 - 1
_CHANGES_RANGE: Final = timedelta(days=13)  # both its ends count
_FIRST_CHANGES: Final = date(2012, 10, 5)
_DAY: Final = timedelta(days=1)
# Without this the best rated films of all are those with one vote.
_ENOUGH_VOTES: Final = {"vote_count.gte": "50"}


class ListPageError(ValueError):
    """A body that is no page of a list."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"no page of a list: {problem}")


@dataclass(frozen=True, kw_only=True)
class FilmList:
    """A list of TMDB and how many of its pages to read, as far as it has them.

    `known_only`: of its films, only those that the catalogue has are wanted. `days` is set for a
    range of changes, which can be parted.
    """

    name: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict[str, str])
    pages: int = LAST_PAGE
    known_only: bool = False
    days: tuple[date, date] | None = None


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page: the films in its order, and how many pages the list says it has."""

    tmdb_ids: tuple[int, ...]
    total_pages: int


@dataclass(frozen=True, kw_only=True)
class Unread:
    """A page that could not be read, and why."""

    page: str
    reason: str


@dataclass(kw_only=True)
class Reading:
    """What a list held: its films in order, each once, and how many of its pages were read."""

    tmdb_ids: dict[int, None] = field(default_factory=dict[int, None])
    pages: int = 0
    unread: list[Unread] = field(default_factory=list[Unread])

    def add(self, other: "Reading") -> None:
        """Put another reading behind this one."""
        self.tmdb_ids.update(other.tmdb_ids)
        self.pages += other.pages
        self.unread.extend(other.unread)


_LISTS: Final = (
    FilmList(name="popular", path="/movie/popular"),
    FilmList(name="top_rated", path="/movie/top_rated"),
    FilmList(name="now_playing", path="/movie/now_playing"),
    FilmList(name="upcoming", path="/movie/upcoming"),
    FilmList(name="trending_week", path="/trending/movie/week"),
    FilmList(
        name="discover_popularity",
        path="/discover/movie",
        params={"sort_by": "popularity.desc", **_ENOUGH_VOTES},
    ),
    FilmList(
        name="discover_vote_average",
        path="/discover/movie",
        params={"sort_by": "vote_average.desc", **_ENOUGH_VOTES},
    ),
)


def wanted_lists(command: IngestCatalog, *, today: date) -> list[FilmList]:
    """The lists that a command names; the usual ones if it names nothing at all.

    Args:
        today: the last day whose changes are asked for (UTC).
    """
    pages = command.lists
    if pages is None and not command.tmdb_ids and command.changed_since is None:
        pages = ListPages()
    wanted: list[FilmList] = []
    if pages is not None:
        number_of = cast("dict[str, int]", pages.model_dump())
        wanted += [_with_pages(known, number_of[known.name]) for known in _LISTS]
    if command.changed_since is not None:
        first = max(command.changed_since, _FIRST_CHANGES)
        wanted += [_changes(*days) for days in _ranges(first, today)]
    return [film_list for film_list in wanted if film_list.pages > 0]


def _with_pages(film_list: FilmList, pages: int) -> FilmList:
    return FilmList(
        name=film_list.name,
        path=film_list.path,
        params=film_list.params,
        pages=min(pages, LAST_PAGE),
    )


def _ranges(first: date, last: date) -> Iterator[tuple[date, date]]:
    while first <= last:
        end = min(first + _CHANGES_RANGE, last)
        yield first, end
        first = end + _DAY


def _changes(first: date, last: date) -> FilmList:
    return FilmList(
        name=f"changes {first} to {last}",
        path="/movie/changes",
        params={"start_date": str(first), "end_date": str(last)},
        known_only=True,
        days=(first, last),
    )


def read_page(body: object) -> Page:
    """The films of one page. An entry without a usable id is passed over.

    Raises:
        ListPageError: the body is no page of a list.
    """
    if not isinstance(body, dict):
        msg = f"a JSON object was expected, not {type(body).__name__}"
        raise ListPageError(msg)
    page = cast("dict[str, object]", body)
    results, total_pages = page.get("results"), page.get("total_pages")
    if not isinstance(results, list):
        msg = f"results: a list was expected, not {type(results).__name__}"
        raise ListPageError(msg)
    if isinstance(total_pages, bool) or not isinstance(total_pages, int) or total_pages < 0:
        msg = f"total_pages: a number was expected, not {str(total_pages)[:80]!r}"
        raise ListPageError(msg)
    ids = (
        cast("dict[str, object]", item).get("id") if isinstance(item, dict) else None
        for item in cast("list[object]", results)
    )
    return Page(
        tmdb_ids=tuple(
            tmdb_id
            for tmdb_id in ids
            if isinstance(tmdb_id, int)
            and not isinstance(tmdb_id, bool)
            and 1 <= tmdb_id <= _MAX_TMDB_ID
        ),
        total_pages=total_pages,
    )


FetchPage = Callable[[FilmList, int], Coroutine[Any, Any, Page | Unread]]


async def read_list(film_list: FilmList, fetch_page: FetchPage) -> Reading:
    """All wanted pages of a list: the first to know how many there are, then the others at once.

    A range of changes with more pages than TMDB gives out is read in two halves. Of a single day
    that has too many, the rest is told as unread.

    Args:
        fetch_page: one page by its number; how many run at once is its business.
    """
    first = await fetch_page(film_list, 1)
    if isinstance(first, Unread):
        return Reading(unread=[first])
    too_long = film_list.days is not None and first.total_pages > LAST_PAGE
    if too_long and (halves := _halves(film_list)) is not None:
        reading = Reading(pages=1)
        for half in halves:
            reading.add(await read_list(half, fetch_page))
        return reading
    last = min(film_list.pages, first.total_pages, LAST_PAGE)
    others = [asyncio.create_task(fetch_page(film_list, number)) for number in range(2, last + 1)]
    try:
        pages = [first, *await asyncio.gather(*others)]
    finally:
        for other in others:
            other.cancel()
    reading = Reading()
    for page in pages:
        if isinstance(page, Unread):
            reading.unread.append(page)
        else:
            reading.tmdb_ids.update(dict.fromkeys(page.tmdb_ids))
            reading.pages += 1
    if too_long:
        reason = f"TMDB gives out {LAST_PAGE} of its {first.total_pages} pages"
        reading.unread.append(Unread(page=film_list.name, reason=reason))
    return reading


def _halves(film_list: FilmList) -> tuple[FilmList, FilmList] | None:
    if film_list.days is None or film_list.days[0] == film_list.days[1]:
        return None
    first, last = film_list.days
    middle = first + (last - first) // 2
    return _changes(first, middle), _changes(middle + _DAY, last)
