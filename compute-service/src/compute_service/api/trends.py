"""Scores of films and their explanation, computed for the moment of reading."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel
from service_kit import Database

from compute_service import repository
from compute_service.api.common import Score, movie_id_of, movie_ids, unknown_film
from compute_service.trend import Components, FormulaDescription, TrendFormula, Window


class TrendSummary(BaseModel):
    """A film's score in the window `day`; None while the film is not in the catalogue.

    `asked` is the key that was asked for: `movie_id` itself, or another key of the film.
    """

    asked: str
    movie_id: str
    views: int
    ratings: int
    final_trend_score: Score | None
    in_catalogue: bool


class TrendSummaries(BaseModel):
    """Scores of those films asked for that anything is known of, in the order asked."""

    items: list[TrendSummary]
    as_of: datetime


class TrendExplanation(BaseModel):
    """A score taken apart."""

    movie_id: str
    views: int
    ratings: int
    final_trend_score: Score | None
    window: Window
    in_catalogue: bool
    components: Components
    formula: FormulaDescription
    as_of: datetime


def trend_routes(database: Database, formula: TrendFormula) -> APIRouter:
    """`GET /trends` and `GET /trends/{movie_id}`."""
    router = APIRouter()

    @router.get("/trends")
    async def trends(
        ids: Annotated[str, Query(description="keys of films, separated by commas")],
    ) -> TrendSummaries:
        wanted = list(dict.fromkeys(movie_ids(ids)))
        now = datetime.now(UTC)
        async with database.reading() as connection:
            films = await repository.films_of(connection, wanted)
            states = await repository.read_trends(connection, list(set(films.values())))
        known = [
            (key, state)
            for key in wanted
            if (state := states.get(films[key])) is not None and state.is_known
        ]
        items = [
            TrendSummary(
                asked=key,
                movie_id=state.movie_id,
                views=state.all_views,
                ratings=state.all_ratings.count,
                final_trend_score=(
                    formula.score(Window.DAY, state.day.rank_key, now)
                    if state.in_catalogue
                    else None
                ),
                in_catalogue=state.in_catalogue,
            )
            for key, state in known
        ]
        return TrendSummaries(items=items, as_of=now)

    @router.get("/trends/{movie_id}")
    async def trend(movie_id: str, window: Window = Window.DAY) -> TrendExplanation:
        key = movie_id_of(movie_id, field="movie_id")
        now = datetime.now(UTC)
        async with database.reading() as connection:
            own_key = (await repository.films_of(connection, [key]))[key]
            state = (await repository.read_trends(connection, [own_key])).get(own_key)
            film = (await repository.films_in_catalogue(connection, [own_key])).get(own_key)
        if state is None or not state.is_known:
            raise unknown_film(key)
        explanation = formula.explain(
            window,
            film=film,
            log_activity=state.of(window).log_events,
            views=state.all_views,
            ratings=state.all_ratings,
            at=now,
        )
        return TrendExplanation(
            movie_id=own_key,
            views=state.all_views,
            ratings=state.all_ratings.count,
            final_trend_score=explanation.score,
            window=window,
            in_catalogue=film is not None,
            components=explanation.components,
            formula=explanation.formula,
            as_of=now,
        )

    return router
