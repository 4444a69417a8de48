"""The SQL that reads what was computed ahead.

Each read is one transaction as of one moment, so that what it says of an artifact and the rows of
the artifact are of the same run.
"""

from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from sqlalchemy import ColumnElement, Subquery, func, select, text
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from compute_service.artifacts.repository import DecadeStats, GenreStats
from compute_service.charts import LISTED, ChartFilter, Listed
from compute_service.models import genre_stats_daily, movie_trending_daily, movies, trends
from compute_service.models import ratings_by_decade as decades
from compute_service.trend import Window

# Of two keys of a film that were both in a chart, the better rank is the film's.
_HISTORY: Final = text("""
    WITH names AS (
        SELECT CAST(:film AS text) AS movie_id
        UNION
        SELECT movie_id FROM trends WHERE film = :film
    ), history AS (
        SELECT DISTINCT ON (date) date, rank, score, movement, days_on_chart, peak_rank
        FROM names JOIN movie_trending_daily USING (movie_id)
        WHERE chart_window = :chart_window AND date BETWEEN :first AND :last
        ORDER BY date DESC, rank
    )
    SELECT *, count(*) OVER () AS total FROM history ORDER BY date DESC LIMIT :limit
""")


@dataclass(frozen=True, slots=True)
class ChartDay:
    """Where a film stood in a day's chart; `movement` is None if it was not in the day before's."""

    date: date
    rank: int
    score: float
    movement: int | None
    days_on_chart: int
    peak_rank: int


@dataclass(frozen=True, slots=True)
class ChartPlace(Listed):
    """A film in a day's chart, as the catalogue has it now."""

    rank: int
    score: float
    movement: int | None
    days_on_chart: int
    peak_rank: int


async def read_day(
    connection: AsyncConnection,
    window: Window,
    day: date,
    wanted: ChartFilter,
    *,
    ascending: bool,
    limit: int,
    offset: int,
) -> tuple[list[ChartPlace], int]:
    """A page of a day's chart, and how many of its films pass.

    A film that has left the catalogue is left out; one that has become another key's is shown as
    that, once.
    """
    chart, key = movie_trending_daily, trends.alias("key")
    film = func.coalesce(key.c.film, chart.c.movie_id)
    places = (
        select(
            film.label("movie_id"),
            chart.c.rank,
            chart.c.score,
            chart.c.movement,
            chart.c.days_on_chart,
            chart.c.peak_rank,
        )
        .join_from(chart, key, key.c.movie_id == chart.c.movie_id)
        .where(chart.c.chart_window == window.value, chart.c.date == day)
        .ext(distinct_on(film))
        .order_by(film, chart.c.rank)
        .subquery()
    )
    passing = (
        select(*places.c, func.count().over().label("total"))
        .join_from(places, movies, movies.c.movie_id == places.c.movie_id)
        .where(~movies.c.removed, *wanted.conditions())
    )
    page = passing.order_by(_by(places, ascending)).limit(limit).offset(offset).subquery()
    columns: list[ColumnElement[Any]] = [*LISTED, *page.c[1:]]
    found = (
        select(*columns)
        .join_from(page, movies, movies.c.movie_id == page.c.movie_id)
        .join(trends, trends.c.movie_id == page.c.movie_id)
        .order_by(_by(page, ascending))
    )
    rows = (await connection.execute(found)).all()
    if rows or offset == 0:
        total = rows[0].total if rows else 0
    else:
        counted = select(func.count()).select_from(passing.subquery())
        total = (await connection.execute(counted)).scalar_one()
    return [ChartPlace(*fields) for *fields, _ in rows], total


def _by(places: Subquery, ascending: bool) -> ColumnElement[int]:
    return places.c.rank.desc() if ascending else places.c.rank.asc()


async def read_history(
    connection: AsyncConnection,
    film: str,
    window: Window,
    *,
    first: date,
    last: date,
    limit: int,
) -> tuple[list[ChartDay], int]:
    """The newest `limit` days on which a film was in the chart, newest first; and how many."""
    parameters = {
        "film": film,
        "chart_window": window.value,
        "first": first,
        "last": last,
        "limit": limit,
    }
    rows = (await connection.execute(_HISTORY, parameters)).all()
    return [ChartDay(*columns) for *columns, _ in rows], rows[0].total if rows else 0


async def read_genres(
    connection: AsyncConnection, day: date, *, limit: int, offset: int
) -> tuple[list[GenreStats], int]:
    """A page of a day's genres, those with most films first; and how many there are."""
    table = genre_stats_daily
    of_day = table.c.date == day
    columns = [table.c[name] for name in GenreStats.__dataclass_fields__]
    page = (
        select(*columns)
        .where(of_day)
        .order_by(table.c.volume.desc(), table.c.genre.collate("C"))
        .limit(limit)
        .offset(offset)
    )
    total = select(func.count()).select_from(table).where(of_day)
    stats = [GenreStats(*row) for row in await connection.execute(page)]
    return stats, (await connection.execute(total)).scalar_one()


async def read_decades(connection: AsyncConnection, day: date) -> list[DecadeStats]:
    """All decades as of a day, oldest first."""
    columns = [decades.c[name] for name in DecadeStats.__dataclass_fields__]
    found = select(*columns).where(decades.c.date == day).order_by(decades.c.decade)
    return [DecadeStats(*row) for row in await connection.execute(found)]
