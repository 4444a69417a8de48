"""The SQL that reads the live charts: films in the order of their rank keys.

Which films there are is in `movies`, their order is in `trends`, so a filtered page can be had in
two ways, and each is a disaster where the other one is good:

- *By rank*: walk the index of the rank keys from the top and keep what passes, until the page is
  full. A page of n films takes about n · N / T steps when T of the N films in the chart pass, and
  all N if few do, or if they are all at the bottom, as very old films are.
- *By filter*: find the T films, sort them. For the most common genre that is a third of a million.

A film to sort costs as much as many steps, C, since the index itself says what most films fail by
(see `facets`). Both ways cost the same where T = sqrt(n · N / C), and sqrt(n · N · C) steps are the
most that the better one ever costs. The walk ends not far behind that: if the page is not full by
then, the films that pass are most likely few, or at the bottom, and are sorted. Which way is better
to begin with is known from the last time (see `chart_totals`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    Subquery,
    func,
    select,
    text,
    true,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from compute_service.facets import OTHER, genre_signature
from compute_service.models import movies, trends
from compute_service.repository import genre_key
from compute_service.rising import Pace, share_of_week
from compute_service.trend import TrendFormula, Window, forward_seconds

# Films that pass are seldom spread evenly: a walk of more than the expected length fills most
# pages.
_SLACK: Final = 1.5
_LEAST_WALK: Final = 500
# A film to sort in steps of a walk, as measured: it is found in both tables in no order. Up to 40
# where nothing changes; among recent changes each step has to see whether the film is still there.
_SORTED_COST: Final = 10.0
# If a walk has ended in vain so many more films are sorted without one: they are at the bottom.
_RATHER_SORTED: Final = 3.0
# Estimates of what passes a filter are often wrong by orders of magnitude, and the page is small:
# looking films up one by one is never far from the best that can be done.
_LOOK_UP: Final = text("""
    SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)
""")


@dataclass(frozen=True, slots=True)
class ChartFilter:
    """Which films of a chart are wanted; None: all. `min_votes` are the source's."""

    genre: str | None = None
    year: int | None = None
    language: str | None = None
    min_votes: int | None = None

    def normalised(self) -> "ChartFilter":
        """The same for all filters that let the same films through by definition."""
        return ChartFilter(
            None if self.genre is None else genre_key(self.genre),
            self.year,
            None if self.language is None else self.language.lower(),
            self.min_votes or None,
        )

    def conditions(self) -> list[ColumnElement[bool]]:
        """What a row of `movies` has to fulfil; empty where every film passes."""
        conditions: list[ColumnElement[bool]] = []
        if self.genre is not None:
            conditions.append(movies.c.genre_keys.contains([genre_key(self.genre)]))
        if self.year is not None:
            conditions.append(movies.c.release_year == self.year)
        if self.language is not None:
            conditions.append(func.lower(movies.c.original_language) == self.language.lower())
        if self.min_votes:
            conditions.append(movies.c.vote_count >= self.min_votes)
        return conditions

    def facet_conditions(self, facets: FromClause) -> list[ColumnElement[bool]]:
        """What rows of `trends` fulfil when the films pass, and few others do."""
        conditions: list[ColumnElement[bool]] = []
        if self.genre is not None:
            signature = genre_signature(genre_key(self.genre))
            conditions.append(facets.c.facet_genres.bitwise_and(signature) == signature)
        if self.year is not None:
            conditions.append(facets.c.facet_year == self.year)
        if self.language is not None:
            conditions.append(facets.c.facet_language.in_([self.language.lower(), OTHER]))
        if self.min_votes:
            conditions.append(facets.c.facet_votes >= self.min_votes)
        return conditions


EVERYTHING: Final = ChartFilter()
_FACETS: Final = (
    trends.c.facet_genres,
    trends.c.facet_year,
    trends.c.facet_language,
    trends.c.facet_votes,
)


@dataclass(frozen=True, slots=True)
class Listed:
    """A film as lists show it: what the catalogue says, and what was counted here."""

    movie_id: str
    tmdb_id: int | None
    imdb_id: str | None
    title: str
    original_title: str | None
    original_language: str | None
    release_date: date | None
    genres: list[str]
    vote_average: float | None
    vote_count: int
    popularity: float
    poster_path: str | None
    views: int
    ratings: int


LISTED: Final[tuple[ColumnElement[Any], ...]] = (
    movies.c.movie_id,
    movies.c.tmdb_id,
    movies.c.imdb_id,
    movies.c.title,
    movies.c.original_title,
    movies.c.original_language,
    movies.c.release_date,
    movies.c.genres,
    movies.c.vote_average,
    movies.c.vote_count,
    movies.c.popularity,
    movies.c.poster_path,
    (trends.c.views + trends.c.alias_views).label("views"),
    (trends.c.ratings_count + trends.c.alias_ratings_count).label("ratings"),
)
"""The columns of a `Listed`, in its order."""


@dataclass(frozen=True, slots=True)
class ChartEntry(Listed):
    """A film in a chart."""

    rank_key: float


@dataclass(frozen=True, slots=True)
class ChartPage:
    """A page of a chart.

    Attributes:
        total: how many films the whole of it has, where that came along.
        in_vain: whether the films that pass were looked for by rank, and were not to be found,
            before they were sorted.
    """

    entries: list[ChartEntry]
    total: int | None
    in_vain: bool = False


async def read_chart(
    connection: AsyncConnection,
    window: Window,
    wanted: ChartFilter,
    *,
    ascending: bool = False,
    limit: int,
    offset: int,
    ranked: int | None = None,
    passing: int | None = None,
    at_the_bottom: bool = False,
) -> ChartPage:
    """A page of the chart, best first, ties by key.

    `ascending` turns the whole order round, ties included, so that the index serves both.

    Args:
        ranked: about how many films are in the chart; None: not known.
        passing: about how many of them pass the filter; None: not known.
        at_the_bottom: whether they were lately looked for by rank in vain.
    """
    order = _Order(window, ascending)
    if wanted.normalised() == EVERYTHING:
        return await _walk(connection, order, wanted, limit=limit, offset=offset, steps=None)
    if ranked is None or ranked > _LEAST_WALK:
        balance = math.sqrt((offset + limit) * (ranked or 1_000_000) / _SORTED_COST)
        few = balance * (_RATHER_SORTED if at_the_bottom else 1)
        if passing is None or passing >= few:
            steps = max(_LEAST_WALK, int(_SLACK * _SORTED_COST * balance))
            page = await _walk(connection, order, wanted, limit=limit, offset=offset, steps=steps)
            if len(page.entries) == limit:
                return page
            page = await _sorted(connection, order, wanted, limit=limit, offset=offset)
            # Behind the last full page nothing else was to be expected.
            return replace(page, in_vain=offset + limit <= (page.total or 0))
    return await _sorted(connection, order, wanted, limit=limit, offset=offset)


async def count_chart(connection: AsyncConnection, wanted: ChartFilter) -> int:
    """How many films are in the chart and pass; the same for every window."""
    total = select(func.count()).select_from(trends).where(trends.c.rank_key_day.is_not(None))
    if conditions := wanted.conditions():
        total = total.join(movies, trends.c.movie_id == movies.c.movie_id).where(*conditions)
    return int((await connection.execute(total)).scalar_one())


async def read_rising(
    connection: AsyncConnection,
    formula: TrendFormula,
    wanted: ChartFilter,
    at: datetime,
    *,
    candidates: int,
    least: float,
) -> list[Pace]:
    """Of the first films in the day's chart those that pass and may be rising.

    They have been watched at least so much, and more than their week lets one expect.
    """
    day = _sum_at(formula, Window.DAY, at, trends.c.log_activity_day) + _sum_at(
        formula, Window.DAY, at, trends.c.alias_log_activity_day
    )
    week = _sum_at(formula, Window.WEEK, at, trends.c.log_activity_week) + _sum_at(
        formula, Window.WEEK, at, trends.c.alias_log_activity_week
    )
    top = _ranked(
        _Order(Window.DAY, ascending=False),
        trends.c.movie_id,
        day.label("day"),
        week.label("week"),
    )
    paces = top.limit(candidates).subquery()
    found = select(paces.c.movie_id, paces.c.day, paces.c.week).where(
        paces.c.day >= least, paces.c.day > share_of_week(formula) * paces.c.week
    )
    if conditions := wanted.conditions():
        await connection.execute(_LOOK_UP)
        found = found.join(movies, movies.c.movie_id == paces.c.movie_id).where(*conditions)
    return [Pace(*row) for row in await connection.execute(found)]


def _sum_at(
    formula: TrendFormula, window: Window, at: datetime, log_sum: ColumnElement[Any]
) -> ColumnElement[float]:
    """What a stored sum is worth at a time; a sum of nothing is 0."""
    exponent = log_sum - forward_seconds(at) / formula.half_life(window)
    in_range = func.least(func.greatest(exponent, -1000.0), 1000.0)
    return func.coalesce(func.power(2.0, in_range), 0.0)


async def read_listed(connection: AsyncConnection, movie_ids: list[str]) -> dict[str, ChartEntry]:
    """Those of the films that are in the chart, with their rank keys of the day."""
    found = (
        select(*LISTED, trends.c.rank_key_day)
        .join_from(trends, movies, trends.c.movie_id == movies.c.movie_id)
        .where(trends.c.movie_id.in_(movie_ids), trends.c.rank_key_day.is_not(None))
    )
    return {row.movie_id: ChartEntry(*row) for row in await connection.execute(found)}


@dataclass(frozen=True, slots=True)
class _Order:
    window: Window
    ascending: bool

    @property
    def rank_key(self) -> ColumnElement[float]:
        return trends.c.rank_key_day if self.window is Window.DAY else trends.c.rank_key_week

    def by(self, rank_key: ColumnElement[float], movie_id: ColumnElement[str]) -> tuple[Any, ...]:
        if self.ascending:
            return (rank_key.asc(), movie_id.desc())
        return (rank_key.desc(), movie_id.asc())


def _ranked(order: _Order, *columns: ColumnElement[Any]) -> Select[Any]:
    return (
        select(*columns)
        .where(order.rank_key.is_not(None))
        .order_by(*order.by(order.rank_key, trends.c.movie_id))
    )


async def _walk(
    connection: AsyncConnection,
    order: _Order,
    wanted: ChartFilter,
    *,
    limit: int,
    offset: int,
    steps: int | None,
) -> ChartPage:
    """By rank, through at most so many films."""
    conditions = wanted.conditions()
    ranked = (trends.c.movie_id, order.rank_key.label("rank_key"))
    walked = _ranked(order, *ranked)
    if conditions:
        await connection.execute(_LOOK_UP)
        top = _ranked(order, *ranked, *_FACETS).limit(steps).subquery()
        walked = (
            select(top.c.movie_id, top.c.rank_key)
            .join_from(top, _passing(top.c.movie_id, conditions), true())
            .where(*wanted.facet_conditions(top))
            .order_by(*order.by(top.c.rank_key, top.c.movie_id))
        )
    page = walked.limit(limit).offset(offset).subquery()
    rows = await connection.execute(_described(order, page))
    return ChartPage([ChartEntry(*row) for row in rows], None)


def _passing(movie_id: ColumnElement[str], conditions: Sequence[ColumnElement[bool]]) -> FromClause:
    """The film, if it passes. OFFSET 0: what is walked through stays the outer side of the join;
    the planner would rather begin with films of which it expects few, and walk for each of them."""
    film = select(movies.c.movie_id).where(movies.c.movie_id == movie_id, *conditions)
    return film.offset(0).lateral()


async def _sorted(
    connection: AsyncConnection, order: _Order, wanted: ChartFilter, *, limit: int, offset: int
) -> ChartPage:
    """By filter; counts what passes along the way."""
    await connection.execute(_LOOK_UP)
    passing = select(movies.c.movie_id).where(*wanted.conditions()).cte()
    passing = passing.prefix_with("MATERIALIZED", dialect="postgresql")
    page = (
        _ranked(
            order,
            trends.c.movie_id,
            order.rank_key.label("rank_key"),
            func.count().over().label("total"),
        )
        .join_from(passing, trends, trends.c.movie_id == passing.c.movie_id)
        .limit(limit)
        .offset(offset)
        .subquery()
    )
    rows = (await connection.execute(_described(order, page, page.c.total))).all()
    entries = [ChartEntry(*columns) for *columns, _ in rows]
    if not rows and offset > 0:
        return ChartPage(entries, None)
    return ChartPage(entries, rows[0].total if rows else 0)


def _described(order: _Order, page: Subquery, *more: ColumnElement[Any]) -> Select[Any]:
    columns: list[ColumnElement[Any]] = [*LISTED, page.c.rank_key, *more]
    return (
        select(*columns)
        .join_from(page, movies, movies.c.movie_id == page.c.movie_id)
        .join(trends, trends.c.movie_id == page.c.movie_id)
        .order_by(*order.by(page.c.rank_key, page.c.movie_id))
    )
