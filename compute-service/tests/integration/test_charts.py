"""Reading charts: by rank or by filter is the same; counts are remembered; who is rising."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any

import httpx
import pytest
from compute_service import charts
from compute_service.chart_totals import (
    AT_THE_BOTTOM_SECONDS,
    FRESH_SECONDS,
    KEPT_SECONDS,
    ChartTotals,
)
from compute_service.charts import EVERYTHING, ChartFilter
from compute_service.trend import Window
from moviemetric_contracts import Event
from service_kit import Database, Outcome
from sqlalchemy import text

Deliver = Callable[[Sequence[Event[Any]]], Awaitable[list[Outcome]]]

# Films n = 1 to 1500 with falling popularity: the rare ones are the last, the odd ones spread.
_FILMS = """
    INSERT INTO movies (movie_id, revision, removed, title, original_language, release_date, genres,
        genre_keys, vote_count, popularity, fetched_at)
    SELECT 'tmdb-' || n, 1, false, 'Film ' || n, CASE WHEN n % 2 = 0 THEN 'en' ELSE 'JA' END,
        make_date(CASE WHEN n > 1480 THEN 1920 ELSE 2000 END, 1, 1),
        ARRAY[CASE WHEN n % 50 = 0 THEN 'Noir' ELSE 'Drama' END],
        ARRAY[CASE WHEN n % 50 = 0 THEN 'noir' ELSE 'drama' END], n, 2000 - n, now()
    FROM generate_series(1, 1500) AS n
"""
_TRENDS = """
    INSERT INTO trends (movie_id, log_quality, log_prior_day, log_prior_week, rank_key_day,
        rank_key_week)
    SELECT movie_id, 2, 0, 0, popularity, popularity FROM movies
"""

_FACETS = import_module("compute_service.migrations.versions.0007_facets").FILL


@pytest.fixture
async def _many_films(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(text(_FILMS))
        await connection.execute(text(_TRENDS))
        await connection.execute(text(_FACETS))
    async with database.transaction() as connection:
        await connection.execute(text("ANALYZE movies"))
        # without the rows as they were before they had facets
        await connection.execute(text("REINDEX TABLE trends"))


def passes(n: int, wanted: ChartFilter) -> bool:
    return (
        (wanted.genre is None or (wanted.genre.lower() == "noir") == (n % 50 == 0))
        and (wanted.year is None or (wanted.year == 1920) == (n > 1480))
        and (wanted.language is None or (wanted.language.lower() == "en") == (n % 2 == 0))
        and n >= (wanted.min_votes or 0)
    )


@pytest.mark.usefixtures("_many_films")
async def test_by_rank_and_by_filter_give_the_same_page(database: Database) -> None:
    filters = [
        EVERYTHING,
        ChartFilter(genre="NOIR"),
        ChartFilter(year=1920),  # all of them behind the end of the walk
        ChartFilter(language="ja"),
        ChartFilter(genre="drama", year=1920, language="EN", min_votes=1490),
    ]
    for wanted in filters:
        films = [f"tmdb-{n}" for n in range(1, 1501) if passes(n, wanted)]
        for ascending, order in ((False, films), (True, films[::-1])):
            for limit, offset in ((4, 0), (4, 5), (100, 0), (4, 3000)):
                pages: list[list[str]] = []
                # nothing known; few pass, so by filter; many pass, so by rank
                for ranked, passing in ((None, None), (1500, 1), (1500, 1500), (10, None)):
                    async with database.reading() as connection:
                        page = await charts.read_chart(
                            connection,
                            Window.DAY,
                            wanted,
                            ascending=ascending,
                            limit=limit,
                            offset=offset,
                            ranked=ranked,
                            passing=passing,
                        )
                    assert page.total in (None, len(films))
                    pages.append([entry.movie_id for entry in page.entries])
                assert pages == [order[offset : offset + limit]] * 4
        async with database.reading() as connection:
            assert await charts.count_chart(connection, wanted) == len(films)


@pytest.mark.usefixtures("_many_films")
async def test_a_rare_filter_does_not_walk_through_the_chart(database: Database) -> None:
    """Nor does one of which nothing is known, but for a part: the server counts the steps."""
    walked = text("SELECT pg_stat_get_xact_tuples_returned(CAST('trends_rank_day' AS regclass))")
    for passing, at_the_bottom, least, most in (
        (1, False, 0, 0),
        (None, False, 1, 500),
        (40, False, 1, 500),
        (40, True, 0, 0),
        (400, True, 1, 500),  # too many to sort without a try
    ):
        async with database.transaction() as connection:
            # of earlier transactions as well, if they were not yet reported
            before = (await connection.execute(walked)).scalar_one()
            page = await charts.read_chart(
                connection,
                Window.DAY,
                ChartFilter(year=1920),
                limit=4,
                offset=0,
                ranked=1500,
                passing=passing,
                at_the_bottom=at_the_bottom,
            )
            steps = (await connection.execute(walked)).scalar_one() - before
        assert (len(page.entries), page.total, page.in_vain) == (4, 20, steps > 0)
        assert least <= steps <= most


@pytest.mark.usefixtures("_many_films")
async def test_a_last_page_says_nothing_about_where_films_are(database: Database) -> None:
    """It cannot be full, however evenly the films are spread."""
    noir = ChartFilter(genre="noir")
    found: list[tuple[int, bool]] = []
    for offset in (28, 26):
        async with database.reading() as connection:
            page = await charts.read_chart(
                connection, Window.DAY, noir, limit=4, offset=offset, ranked=1500, passing=1500
            )
        assert page.total in (None, 30)
        found.append((len(page.entries), page.in_vain))
    assert found == [(2, False), (4, True)], "the walk ends before the 30th"


async def test_films_at_the_bottom_are_found_again_in_either_order(
    deliver_all: Deliver, make: Any, api: httpx.AsyncClient
) -> None:
    await deliver_all(
        [
            *(make.upserted(f"tmdb-{n}", popularity=900.0) for n in range(1, 600)),
            *(make.upserted(f"tmdb-{n}", popularity=0.1, release_date="1920-01-01")
              for n in range(600, 625)),
        ]
    )  # fmt: skip
    for order, expected in (("desc", 25), ("asc", 25), ("desc", 25)):
        answer = await api.get("/trending", params={"year": 1920, "limit": 5, "order": order})
        assert (answer.json()["total"], len(answer.json()["items"])) == (expected, 5)


async def test_a_slow_count_is_remembered_and_made_again_behind_the_scenes(
    database: Database, deliver_all: Deliver, make: Any
) -> None:
    now = 0.0
    totals = ChartTotals(database, cheap=0.0, clock=lambda: now)
    wanted = ChartFilter(genre="Drama")
    await deliver_all([make.upserted("tmdb-1")])
    assert totals.known(wanted) is None
    assert await totals.total(wanted) == 1
    assert totals.known(ChartFilter(genre="DRAMA")) == 1
    await deliver_all([make.upserted("tmdb-2")])
    now = FRESH_SECONDS
    assert await totals.total(wanted) == 1

    now = FRESH_SECONDS + 1
    assert await totals.total(wanted) == 1
    async with asyncio.timeout(30):
        while True:
            if totals.known(wanted) == 2:
                break
            await asyncio.sleep(0.01)
    assert await totals.total(wanted) == 2

    await deliver_all([make.upserted("tmdb-3")])
    now += KEPT_SECONDS + 1
    assert await asyncio.gather(*(totals.total(wanted) for _ in range(5))) == [3] * 5
    await totals.close()


async def test_that_films_are_at_the_bottom_is_remembered_for_a_while(database: Database) -> None:
    now = 0.0
    totals = ChartTotals(database, clock=lambda: now)
    totals.learn(ChartFilter(year=1920), 7)
    assert not totals.at_the_bottom(ChartFilter(year=1920))
    totals.learn_at_the_bottom(ChartFilter(year=1920, min_votes=0))
    totals.learn(ChartFilter(year=1920), 8)
    assert totals.at_the_bottom(ChartFilter(year=1920))
    assert not totals.at_the_bottom(ChartFilter(year=1921))
    now = AT_THE_BOTTOM_SECONDS
    assert not totals.at_the_bottom(ChartFilter(year=1920))


async def test_a_count_that_takes_no_time_is_always_made(
    database: Database, deliver_all: Deliver, make: Any
) -> None:
    totals = ChartTotals(database, cheap=60.0)
    for n in (1, 2, 3):
        await deliver_all([make.upserted(f"tmdb-{n}")])
        assert await totals.total(EVERYTHING) == n


async def test_rising(deliver_all: Deliver, make: Any, api: httpx.AsyncClient) -> None:
    def steady(key: str, *, per_day: int, days: int) -> list[Event[Any]]:
        step = 24.0 / per_day
        return [make.viewed(key, ago=timedelta(hours=step * n)) for n in range(per_day * days)]

    await deliver_all(
        [
            # much watched, and always was
            make.upserted("tmdb-1", popularity=300.0, genres=("Drama",), release_date="2001-01-01"),
            *steady("tmdb-1", per_day=40, days=30),
            # watched out of nowhere, half of it under another key
            make.upserted("tmdb-2", genres=("War",), aliases=("imdb-tt0000002",)),
            *(make.viewed("tmdb-2") for _ in range(10)),
            *(make.viewed("imdb-tt0000002") for _ in range(10)),
            # somewhat more than usual
            make.upserted("tmdb-3", genres=("War",)),
            *steady("tmdb-3", per_day=2, days=30),
            *(make.viewed("tmdb-3") for _ in range(10)),
            # popular at its source, of which nothing follows here
            make.upserted("tmdb-4", popularity=900.0),
            make.viewed("tmdb-4"),
        ]
    )
    answer = (await api.get("/rising")).json()
    assert answer.keys() == {"items", "total", "limit", "offset", "as_of"}
    first, second = answer["items"]
    assert first.keys() == {
        "movie_id", "tmdb_id", "imdb_id", "title", "original_title", "original_language",
        "release_date", "genres", "vote_average", "vote_count", "popularity", "poster_path",
        "rank", "views", "ratings", "final_trend_score", "rise", "activity", "expected",
    }  # fmt: skip
    assert (first["rank"], first["movie_id"], first["views"]) == (1, "tmdb-2", 20)
    assert first["activity"] == pytest.approx(20, rel=0.01)
    assert first["expected"] == pytest.approx(20 / 7, rel=0.01)
    # (20 - 20/7) / sqrt((6/7)² / (2 · 8/7) · (20/7 + 1))
    assert first["rise"] == pytest.approx(15.396, rel=0.01)
    assert (second["rank"], second["movie_id"]) == (2, "tmdb-3")
    assert 2 < second["rise"] < first["rise"]
    trending = (await api.get("/trending")).json()["items"]
    scores = {film["movie_id"]: film["final_trend_score"] for film in trending}
    assert trending[0]["movie_id"] == "tmdb-1"
    assert first["final_trend_score"] == pytest.approx(scores["tmdb-2"], rel=1e-4)

    page = (await api.get("/rising", params={"limit": 1, "offset": 1})).json()
    assert (page["total"], [film["rank"] for film in page["items"]]) == (2, [2])
    assert (await api.get("/rising", params={"genre": "war"})).json()["total"] == 2
    assert (await api.get("/rising", params={"year": 2001})).json()["items"] == []


async def test_a_past_days_chart_and_a_films_history(
    deliver_all: Deliver, make: Any, compute: Any, api: httpx.AsyncClient
) -> None:
    today = make.now.date()
    days = [today - timedelta(days=n) for n in (2, 1, 0)]
    await deliver_all(
        [
            make.upserted("tmdb-1", tmdb_id=1, popularity=40.0, genres=("Drama",)),
            make.upserted("tmdb-2", tmdb_id=2, popularity=90.0, genres=("War",)),
            make.upserted("tmdb-3", tmdb_id=3, popularity=20.0, genres=("Drama",)),
            *(make.viewed("tmdb-3", ago=timedelta(seconds=1)) for _ in range(50)),
            make.viewed("tmdb-9"),
        ]
    )
    for day in days:
        assert (await compute("trending", day)).state == "succeeded"
    answer = (await api.get("/trending", params={"as_of": str(today), "genre": "drama"})).json()
    assert answer.keys() == {"items", "total", "limit", "offset", "window", "date", "as_of"}
    assert (answer["date"], answer["total"], answer["window"]) == (str(today), 2, "day")
    assert datetime.fromisoformat(answer["as_of"]) > make.now
    first, second = answer["items"]
    assert first.keys() >= {"movie_id", "title", "poster_path", "final_trend_score", "views"}
    names = ("movie_id", "rank", "movement", "days_on_chart", "peak_rank")
    assert [first[name] for name in names] == ["tmdb-3", 1, 2, 3, 1]
    assert [second[name] for name in names] == ["tmdb-1", 3, -1, 3, 2]
    live = (await api.get("/trending")).json()["items"][0]
    assert first["final_trend_score"] == pytest.approx(live["final_trend_score"], rel=1e-3)
    week = {"as_of": str(days[0]), "window": "week", "order": "asc", "limit": 2, "offset": 1}
    answer = (await api.get("/trending", params=week)).json()
    assert [(film["rank"], film["movie_id"]) for film in answer["items"]] == [
        (2, "tmdb-1"),
        (1, "tmdb-2"),
    ]

    behind = {"as_of": str(today), "genre": "drama", "offset": 7}
    answer = (await api.get("/trending", params=behind)).json()
    assert (answer["items"], answer["total"]) == ([], 2)

    history = (await api.get("/trends/3/history", params={"limit": 2})).json()
    assert history.keys() == {"movie_id", "window", "items", "total", "limit", "as_of"}
    assert history["items"][0].keys() == {
        "date", "rank", "score", "movement", "days_on_chart", "peak_rank",
    }  # fmt: skip
    assert (history["movie_id"], history["total"]) == ("tmdb-3", 3)
    assert [(day["date"], day["rank"], day["movement"]) for day in history["items"]] == [
        (str(days[2]), 1, 2),
        (str(days[1]), 3, 0),
    ]
    between = {"from": str(days[0]), "to": str(days[1]), "window": "week"}
    history = (await api.get("/trends/3/history", params=between)).json()
    assert [day["date"] for day in history["items"]] == [str(days[1]), str(days[0])]
    never = (await api.get("/trends/tmdb-9/history")).json()
    assert (never["items"], never["total"]) == ([], 0)
    assert (await api.get("/trends/tmdb-10/history")).status_code == 404


async def test_what_was_not_computed_says_how_to(api: httpx.AsyncClient) -> None:
    for path, told in (
        ("/trending?as_of=2026-01-02", "POST /admin/compute/trending with as_of 2026-01-02"),
        ("/analytics/top-genres", "POST /admin/compute/genre-stats"),
        ("/analytics/top-genres?date=2026-01-02", "genre-stats with as_of 2026-01-02"),
        ("/analytics/ratings-by-decade", "POST /admin/compute/ratings-by-decade"),
    ):
        answer = await api.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert told in answer.json()["detail"]


async def test_bad_input_names_the_field(api: httpx.AsyncClient) -> None:
    for path, field in (
        ("/trending?as_of=yesterday", "as_of"),
        ("/trending?as_of=2026-02-30", "as_of"),
        ("/trending?as_of=0", "as_of"),
        ("/trending?as_of=2026-01-02T00:00:00", "as_of"),
        ("/trending?as_of=", "as_of"),
        ("/analytics/top-genres?date=20260102", "date"),
        ("/analytics/top-genres?limit=101", "limit"),
        ("/analytics/ratings-by-decade?date=2026-1-2", "date"),
        ("/rising?limit=0", "limit"),
        ("/rising?year=0", "year"),
        ("/trends/tmdb-1/history?from=1", "from"),
        ("/trends/tmdb-1/history?to=2026-13-01", "to"),
        ("/trends/tmdb-1/history?from=2026-01-03&to=2026-01-02", "from"),
        ("/trends/tmdb-1/history?limit=367", "limit"),
        ("/trends/tmdb-1/history?window=year", "window"),
        ("/trends/nonsense/history", "movie_id"),
    ):
        answer = await api.get(path)
        assert answer.status_code == 422, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert [problem["field"] for problem in answer.json()["errors"]] == [field]
