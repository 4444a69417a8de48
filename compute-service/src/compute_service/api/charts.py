"""The charts: live, of a past day, and who is rising in them."""

from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel
from service_kit import Database, ProblemError

from compute_service import charts, repository
from compute_service.api.common import (
    DayParameter,
    Limit,
    ListedFilm,
    Offset,
    Score,
    chart_filter,
    movie_id_of,
    refuse,
    unknown_film,
)
from compute_service.artifacts import reading, trending_daily
from compute_service.artifacts.repository import as_of_one_moment, find_run
from compute_service.chart_totals import ChartTotals
from compute_service.charts import ChartFilter, ChartPage
from compute_service.rising import rising
from compute_service.trend import TrendFormula, Window

# What rises is watched now, hence high in the day's chart: behind so many films there is none in
# practice, and a look at all of a million films would take seconds.
RISING_CANDIDATES: Final = 5000

Wanted = Annotated[ChartFilter, Depends(chart_filter)]


class ChartFilm(ListedFilm):
    """A film in the chart; `rank` counts from 1 among the films that the filters let through.

    The best has rank 1 in ascending order, too, where it comes last.
    """

    rank: int


class Chart(BaseModel):
    """A page of the chart; `total` films pass the filters."""

    items: list[ChartFilm]
    total: int
    limit: int
    offset: int
    window: Window
    as_of: datetime


class PlacedFilm(ListedFilm):
    """A film in a past day's chart, with its score at the end of that day.

    `rank` is that in the whole chart, whatever the filters; `movement` how many places it won
    since the day before, None if it was not in that day's chart. `days_on_chart` counts the days in
    the chart until that one, `peak_rank` is the best rank on them.
    """

    rank: int
    movement: int | None
    days_on_chart: int
    peak_rank: int


class DayChart(BaseModel):
    """A page of the chart of a day, computed at `as_of`; `total` of its films pass the filters."""

    items: list[PlacedFilm]
    total: int
    limit: int
    offset: int
    window: Window
    date: date
    as_of: datetime


class RisingFilm(ListedFilm):
    """A film whose `activity` of the last day is far above the `expected` one, by its last week.

    `rise` is how far, in standard deviations; the two others are in views.
    """

    rank: int
    rise: float
    activity: float
    expected: float


class RisingFilms(BaseModel):
    """A page of the films that rise, most first."""

    items: list[RisingFilm]
    total: int
    limit: int
    offset: int
    as_of: datetime


class HistoryDay(BaseModel):
    """Where a film stood in the chart of a day."""

    date: date
    rank: int
    score: Score
    movement: int | None
    days_on_chart: int
    peak_rank: int


class ChartHistory(BaseModel):
    """The newest days on which a film was in the chart, out of `total` in the time asked for."""

    movie_id: str
    window: Window
    items: list[HistoryDay]
    total: int
    limit: int
    as_of: datetime


def chart_routes(
    database: Database, formula: TrendFormula, totals: ChartTotals, *, least_activity: float
) -> APIRouter:
    """`GET /trending`, `GET /rising`, `GET /trends/{movie_id}/history`."""
    router = APIRouter()

    @router.get("/trending")
    async def trending(
        wanted: Wanted,
        window: Window = Window.DAY,
        order: Literal["desc", "asc"] = "desc",
        as_of: DayParameter | None = None,
        limit: Limit = 20,
        offset: Offset = 0,
    ) -> Chart | DayChart:
        ascending = order == "asc"
        if as_of is not None:
            return await chart_of(
                as_of, window, wanted, ascending=ascending, limit=limit, offset=offset
            )
        now = datetime.now(UTC)
        async with database.reading() as connection:
            page = await charts.read_chart(
                connection,
                window,
                wanted,
                ascending=ascending,
                limit=limit,
                offset=offset,
                ranked=totals.known(charts.EVERYTHING),
                passing=totals.known(wanted),
                at_the_bottom=not ascending and totals.at_the_bottom(wanted),
            )
        if page.in_vain and not ascending:
            totals.learn_at_the_bottom(wanted)
        total = await total_of(page, wanted, limit=limit, offset=offset)
        items = [
            ChartFilm(
                **asdict(entry),
                rank=total - position if ascending else position + 1,
                final_trend_score=formula.score(window, entry.rank_key, now),
            )
            for position, entry in enumerate(page.entries, start=offset)
        ]
        return Chart(items=items, total=total, limit=limit, offset=offset, window=window, as_of=now)

    async def total_of(page: ChartPage, wanted: ChartFilter, *, limit: int, offset: int) -> int:
        seen = offset + len(page.entries)
        if page.total is not None:
            totals.learn(wanted, page.total)
            return page.total
        if len(page.entries) < limit and (page.entries or offset == 0):
            return seen
        return max(await totals.total(wanted), seen if page.entries else 0)

    async def chart_of(
        day: date,
        window: Window,
        wanted: ChartFilter,
        *,
        ascending: bool,
        limit: int,
        offset: int,
    ) -> DayChart:
        async with database.reading() as connection:
            await as_of_one_moment(connection)
            run = await find_run(connection, trending_daily.NAME, day)
            if run is None:
                detail = (
                    f"the chart of {day} was not computed; "
                    f"POST /admin/compute/trending with as_of {day} does so"
                )
                raise ProblemError(404, "No chart of that day", detail)
            places, total = await reading.read_day(
                connection, window, day, wanted, ascending=ascending, limit=limit, offset=offset
            )
        items: list[PlacedFilm] = []
        for place in places:
            fields = asdict(place)
            score = fields.pop("score")
            items.append(PlacedFilm(**fields, final_trend_score=score))
        return DayChart(
            items=items,
            total=total,
            limit=limit,
            offset=offset,
            window=window,
            date=day,
            as_of=run.computed_at,
        )

    @router.get("/rising")
    async def rising_films(
        wanted: Wanted,
        limit: Limit = 20,
        offset: Offset = 0,
    ) -> RisingFilms:
        now = datetime.now(UTC)
        async with database.reading() as connection:
            paces = await charts.read_rising(
                connection,
                formula,
                wanted,
                now,
                candidates=RISING_CANDIDATES,
                least=least_activity,
            )
            found = rising(formula, paces, least_activity=least_activity)
            page = found[offset : offset + limit]
            films = await charts.read_listed(connection, [film.movie_id for film in page])
        items = [
            RisingFilm(
                **asdict(films[film.movie_id]),
                rank=rank,
                rise=film.rise,
                activity=film.activity,
                expected=film.expected,
                final_trend_score=formula.score(Window.DAY, films[film.movie_id].rank_key, now),
            )
            for rank, film in enumerate(page, start=offset + 1)
            if film.movie_id in films
        ]
        return RisingFilms(items=items, total=len(found), limit=limit, offset=offset, as_of=now)

    @router.get("/trends/{movie_id}/history")
    async def history(
        movie_id: str,
        window: Window = Window.DAY,
        first: Annotated[DayParameter | None, Query(alias="from")] = None,
        last: Annotated[DayParameter | None, Query(alias="to")] = None,
        limit: Annotated[int, Query(ge=1, le=366)] = 30,
    ) -> ChartHistory:
        key = movie_id_of(movie_id, field="movie_id")
        if first is not None and last is not None and first > last:
            refuse("from", f"{first} is after `to`, {last}")
        async with database.reading() as connection:
            await as_of_one_moment(connection)
            film = (await repository.films_of(connection, [key]))[key]
            state = (await repository.read_trends(connection, [film])).get(film)
            if state is None or not state.is_known:
                raise unknown_film(key)
            run = await find_run(connection, trending_daily.NAME, None)
            days, total = await reading.read_history(
                connection,
                film,
                window,
                first=first or date.min,
                last=last or date.max,
                limit=limit,
            )
        return ChartHistory(
            movie_id=film,
            window=window,
            items=[HistoryDay(**asdict(day)) for day in days],
            total=total,
            limit=limit,
            as_of=datetime.now(UTC) if run is None else run.computed_at,
        )

    return router
