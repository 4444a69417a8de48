"""Which pages a run asks for, and what it reads from them."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from ingest_service.tmdb_lists import (
    FilmList,
    ListPageError,
    Page,
    Unread,
    read_list,
    read_page,
    wanted_lists,
)
from moviemetric_contracts import IngestCatalog, ListPages

TODAY = date(2026, 3, 20)
JOB = "ingest-0123456789abcdef0123456789abcdef"


def wanted(**fields: Any) -> list[FilmList]:
    return wanted_lists(IngestCatalog(job_id=JOB, **fields), today=TODAY)


def test_a_command_that_names_nothing_asks_for_the_usual_lists() -> None:
    assert [(one.name, one.path, one.pages) for one in wanted()] == [
        ("popular", "/movie/popular", 30),
        ("top_rated", "/movie/top_rated", 30),
        ("now_playing", "/movie/now_playing", 10),
        ("upcoming", "/movie/upcoming", 10),
        ("trending_week", "/trending/movie/week", 5),
        ("discover_popularity", "/discover/movie", 10),
        ("discover_vote_average", "/discover/movie", 10),
    ]
    assert [dict(one.params) for one in wanted()[-2:]] == [
        {"sort_by": "popularity.desc", "vote_count.gte": "50"},
        {"sort_by": "vote_average.desc", "vote_count.gte": "50"},
    ]


def test_a_command_that_names_something_asks_for_that_alone() -> None:
    assert wanted(tmdb_ids=(603,)) == []
    only_popular = ListPages(
        popular=2,
        top_rated=0,
        now_playing=0,
        upcoming=0,
        trending_week=0,
        discover_popularity=0,
        discover_vote_average=0,
    )
    assert [(one.name, one.pages) for one in wanted(lists=only_popular)] == [("popular", 2)]
    assert not any(one.known_only for one in wanted(lists=only_popular))


@pytest.mark.parametrize(
    ("since", "ranges"),
    [
        (date(2026, 3, 20), [("2026-03-20", "2026-03-20")]),
        (date(2026, 3, 7), [("2026-03-07", "2026-03-20")]),  # 14 days, both ends counted
        (date(2026, 3, 6), [("2026-03-06", "2026-03-19"), ("2026-03-20", "2026-03-20")]),
        (date(2026, 3, 21), []),
    ],
)
def test_changes_are_asked_for_in_ranges_of_at_most_14_days(
    since: date, ranges: list[tuple[str, str]]
) -> None:
    lists = wanted(changed_since=since)
    assert [(one.params["start_date"], one.params["end_date"]) for one in lists] == ranges
    assert all(one.path == "/movie/changes" and one.known_only for one in lists)
    assert len({one.name for one in lists}) == len(lists)


def test_changes_from_before_there_was_a_record_begin_with_it() -> None:
    assert wanted(changed_since=date(1990, 1, 1))[0].params["start_date"] == "2012-10-05"


@pytest.mark.parametrize("kind", ["lists", "other"])
def test_every_recorded_page_is_read(shared_data: Path, kind: str) -> None:
    pattern = "*changes__*" if kind == "other" else "*"
    read = 0
    for path in sorted((shared_data / "tmdb_api" / kind).glob(f"movie_{pattern}.json")):
        body: Any = json.loads(path.read_text())
        if "total_pages" not in body:
            continue
        page = read_page(body)
        assert list(page.tmdb_ids) == [item["id"] for item in body["results"]], path.name
        assert page.total_pages == body["total_pages"]
        read += 1
    assert read >= {"lists": 20, "other": 2}[kind]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (None, "JSON object was expected, not NoneType"),
        ([], "JSON object"),
        ({}, "results: a list was expected"),
        ({"results": {}, "total_pages": 1}, "results: a list was expected, not dict"),
        ({"results": []}, "total_pages: a number was expected, not 'None'"),
        ({"results": [], "total_pages": True}, "total_pages"),
        ({"results": [], "total_pages": -1}, "total_pages"),
    ],
)
def test_a_body_that_is_no_page_is_refused(body: object, problem: str) -> None:
    with pytest.raises(ListPageError, match=problem):
        read_page(body)


def test_entries_without_a_usable_id_are_passed_over() -> None:
    results = [{"id": 7}, {"id": None}, {}, {"id": "8"}, {"id": True}, 5, {"id": 0}, {"id": 2**31}]
    assert read_page({"results": results, "total_pages": 1}).tmdb_ids == (7,)


class Tmdb:
    """Lists whose page n has the films 10n and 10n+1 and, on every page, film 5."""

    def __init__(self, total_pages: dict[str, int], broken: set[tuple[str, int]] | None = None):
        self.total_pages = total_pages
        self.broken = broken or set()
        self.asked: list[tuple[str, int]] = []

    async def fetch(self, film_list: FilmList, number: int) -> Page | Unread:
        self.asked.append((film_list.name, number))
        if (film_list.name, number) in self.broken:
            return Unread(page=f"{film_list.name}, page {number}", reason="broken")
        return Page(
            tmdb_ids=(10 * number, 5, 10 * number + 1),
            total_pages=self.total_pages[film_list.name],
        )


async def test_a_list_is_read_as_far_as_it_goes_and_each_film_once() -> None:
    tmdb = Tmdb({"popular": 3})
    reading = await read_list(FilmList(name="popular", path="/p", pages=30), tmdb.fetch)
    assert list(reading.tmdb_ids) == [10, 5, 11, 20, 21, 30, 31]
    assert reading.pages == 3
    assert tmdb.asked == [("popular", 1), ("popular", 2), ("popular", 3)]


async def test_a_list_is_read_as_far_as_asked_for_and_never_beyond_page_500() -> None:
    tmdb = Tmdb({"popular": 40_000})
    assert (await read_list(FilmList(name="popular", path="/p", pages=2), tmdb.fetch)).pages == 2
    reading = await read_list(FilmList(name="popular", path="/p"), tmdb.fetch)
    assert reading.pages == 500
    assert max(number for _, number in tmdb.asked) == 500
    assert reading.unread == []


async def test_a_page_that_cannot_be_read_is_told_and_the_others_are_kept() -> None:
    tmdb = Tmdb({"popular": 3}, broken={("popular", 2)})
    reading = await read_list(FilmList(name="popular", path="/p"), tmdb.fetch)
    assert list(reading.tmdb_ids) == [10, 5, 11, 30, 31]
    assert reading.unread == [Unread(page="popular, page 2", reason="broken")]
    tmdb = Tmdb({"popular": 3}, broken={("popular", 1)})
    reading = await read_list(FilmList(name="popular", path="/p"), tmdb.fetch)
    assert (reading.pages, len(reading.unread), len(tmdb.asked)) == (0, 1, 1)


async def test_a_range_with_too_many_changes_is_read_in_halves() -> None:
    (changes,) = wanted(changed_since=date(2026, 3, 18))
    tmdb = Tmdb(
        {
            "changes 2026-03-18 to 2026-03-20": 900,
            "changes 2026-03-18 to 2026-03-19": 600,
            "changes 2026-03-18 to 2026-03-18": 501,
            "changes 2026-03-19 to 2026-03-19": 2,
            "changes 2026-03-20 to 2026-03-20": 1,
        }
    )
    reading = await read_list(changes, tmdb.fetch)
    assert reading.pages == 1 + 1 + 500 + 2 + 1
    assert [unread.page for unread in reading.unread] == ["changes 2026-03-18 to 2026-03-18"]
    assert "500 of its 501 pages" in reading.unread[0].reason
