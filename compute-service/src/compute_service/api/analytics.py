"""Figures of genres and decades, as they were computed ahead."""

from dataclasses import asdict
from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel
from service_kit import Database, ProblemError
from sqlalchemy.ext.asyncio import AsyncConnection

from compute_service.api.common import DayParameter, Offset
from compute_service.artifacts import genre_stats, ratings_by_decade, reading
from compute_service.artifacts.repository import ArtifactRun, as_of_one_moment, find_run


class Figures(BaseModel):
    """How films rate.

    `avg_rating` is the mean of the source's averages of `rated_films` films, those that have votes;
    `local_avg` that of all `local_ratings`. None where there is nothing to average.
    """

    avg_rating: float | None
    rated_films: int
    local_ratings: int
    local_avg: float | None


class GenreFigures(Figures):
    """The films that have a genre: how many, and how often they were viewed on the day."""

    genre: str
    volume: int
    views: int


class TopGenres(BaseModel):
    """A page of the genres as of a day, those with most films first."""

    date: date
    items: list[GenreFigures]
    total: int
    limit: int
    offset: int
    as_of: datetime


class DecadeFigures(Figures):
    """The films that were released in the ten years from `decade` on."""

    decade: int
    movie_count: int


class RatingsByDecade(BaseModel):
    """All decades as of a day, oldest first."""

    date: date
    items: list[DecadeFigures]
    total: int
    as_of: datetime


def analytics_routes(database: Database) -> APIRouter:
    """`GET /analytics/top-genres` and `GET /analytics/ratings-by-decade`."""
    router = APIRouter()

    @router.get("/analytics/top-genres")
    async def top_genres(
        day: Annotated[DayParameter | None, Query(alias="date")] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        offset: Offset = 0,
    ) -> TopGenres:
        async with database.reading() as connection:
            run = await _run_of(connection, genre_stats.NAME, day)
            stats, total = await reading.read_genres(
                connection, run.as_of, limit=limit, offset=offset
            )
        return TopGenres(
            date=run.as_of,
            items=[GenreFigures(**asdict(row)) for row in stats],
            total=total,
            limit=limit,
            offset=offset,
            as_of=run.computed_at,
        )

    @router.get("/analytics/ratings-by-decade")
    async def by_decade(
        day: Annotated[DayParameter | None, Query(alias="date")] = None,
    ) -> RatingsByDecade:
        async with database.reading() as connection:
            run = await _run_of(connection, ratings_by_decade.NAME, day)
            stats = await reading.read_decades(connection, run.as_of)
        return RatingsByDecade(
            date=run.as_of,
            items=[DecadeFigures(**asdict(row)) for row in stats],
            total=len(stats),
            as_of=run.computed_at,
        )

    return router


async def _run_of(connection: AsyncConnection, artifact: str, day: date | None) -> ArtifactRun:
    await as_of_one_moment(connection)
    run = await find_run(connection, artifact, day)
    if run is None:
        when, how = ("", "") if day is None else (f" for {day}", f" with as_of {day}")
        detail = f"nothing was computed{when} yet; POST /admin/compute/{artifact}{how} does so"
        raise ProblemError(404, "Not computed", detail)
    return run
