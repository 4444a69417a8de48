"""The read API: charts, scores and their explanation, and what is kept of a user. Scores are
computed for the moment of reading."""

import re
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final, Literal, NoReturn

from fastapi import APIRouter, Path, Query
from moviemetric_contracts import ActorId, parse_movie_id
from moviemetric_contracts.fields import Name
from pydantic import BaseModel, Field
from service_kit import Database, ProblemError

from compute_service import repository
from compute_service.projection import TrendState
from compute_service.repository import ActivityPlace, ChartFilter
from compute_service.trend import Components, FormulaDescription, Kind, TrendFormula, Window

MAX_IDS = 500
MAX_VOTES = 2**53 - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PLACE: Final = re.compile(r"(-?[0-9]{1,18})\.([0-9]{1,9})\.([0-9]{1,4})")
_NO_PAGE: Final = "expected what `next` of the page before says"

Limit = Annotated[int, Query(ge=1, le=100)]
Offset = Annotated[int, Query(ge=0, le=100_000)]
Score = Annotated[float, Field(ge=0, le=100)]


class ChartFilm(BaseModel):
    """A film in the chart; `rank` counts from 1 among the films that the filters let through.

    The best has rank 1 in ascending order, too, where it comes last.
    """

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
    rank: int
    views: int
    ratings: int
    final_trend_score: Score


class Chart(BaseModel):
    """A page of the chart; `total` films pass the filters."""

    items: list[ChartFilm]
    total: int
    limit: int
    offset: int
    window: Window
    as_of: datetime


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


class ActivityItem(BaseModel):
    """Something that a user did: looked at a film, or rated it."""

    movie_id: str
    kind: Kind
    occurred_at: datetime
    session_id: str | None


class ActivityPage(BaseModel):
    """What a user did, oldest first; `next` is the `after` of the next page, None at the end."""

    items: list[ActivityItem]
    next: str | None


def read_api(database: Database, formula: TrendFormula) -> APIRouter:
    """The routes of this service."""
    router = APIRouter()

    @router.get("/trending")
    async def trending(
        window: Window = Window.DAY,
        genre: Annotated[Name | None, Query()] = None,
        year: Annotated[int | None, Query(ge=1, le=9999)] = None,
        language: Annotated[Name | None, Query(max_length=20)] = None,
        min_votes: Annotated[int | None, Query(ge=0, le=MAX_VOTES)] = None,
        order: Literal["desc", "asc"] = "desc",
        limit: Limit = 20,
        offset: Offset = 0,
    ) -> Chart:
        now = datetime.now(UTC)
        wanted = ChartFilter(genre=genre, year=year, language=language, min_votes=min_votes)
        ascending = order == "asc"
        async with database.reading() as connection:
            entries, total = await repository.read_chart(
                connection, window, wanted, ascending=ascending, limit=limit, offset=offset
            )
        items = [
            ChartFilm(
                **asdict(entry),
                rank=total - position if ascending else position + 1,
                final_trend_score=formula.score(window, entry.rank_key, now),
            )
            for position, entry in enumerate(entries, start=offset)
        ]
        return Chart(items=items, total=total, limit=limit, offset=offset, window=window, as_of=now)

    @router.get("/trends")
    async def trends(
        ids: Annotated[str, Query(description="keys of films, separated by commas")],
    ) -> TrendSummaries:
        wanted = list(dict.fromkeys(_movie_ids(ids)))
        now = datetime.now(UTC)
        async with database.reading() as connection:
            films = await repository.films_of(connection, wanted)
            states = await repository.read_trends(connection, list(set(films.values())))
        known = [
            (key, state)
            for key in wanted
            if (state := states.get(films[key])) is not None and _is_known(state)
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
        key = _movie_id(movie_id, field="movie_id")
        now = datetime.now(UTC)
        async with database.reading() as connection:
            own_key = (await repository.films_of(connection, [key]))[key]
            state = (await repository.read_trends(connection, [own_key])).get(own_key)
            film = (await repository.films_in_catalogue(connection, [own_key])).get(own_key)
        if state is None or not _is_known(state):
            detail = f"nothing is known of {key}: it was neither registered nor viewed nor rated"
            raise ProblemError(404, "Unknown film", detail)
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

    # Producers choose the ids of their users, and may have put slashes into them.
    @router.get("/users/{user_id:path}/activity")
    async def activity(
        user_id: Annotated[ActorId, Path()],
        limit: Annotated[int, Query(ge=1, le=5000)] = 1000,
        after: Annotated[str | None, Query(description="`next` of the page before")] = None,
    ) -> ActivityPage:
        """Everything that this service holds of a user."""
        place = None if after is None else _place(after)
        async with database.reading() as connection:
            found = await repository.activity_of(connection, user_id, after=place, limit=limit + 1)
        items = [
            ActivityItem(
                movie_id=done.movie_id,
                kind=done.kind,
                occurred_at=done.at.occurred_at,
                session_id=done.session_id,
            )
            for done in found[:limit]
        ]
        more = len(found) > limit
        return ActivityPage(items=items, next=_next(found[limit - 1].at) if more else None)

    return router


def _next(place: ActivityPlace) -> str:
    microseconds = (place.occurred_at - _EPOCH) // timedelta(microseconds=1)
    return f"{microseconds}.{place.place[1:-1].replace(',', '.')}"


def _place(after: str) -> ActivityPlace:
    found = _PLACE.fullmatch(after)
    if found is None:
        _refuse("after", _NO_PAGE)
    try:
        moment = _EPOCH + timedelta(microseconds=int(found[1]))
    except OverflowError:
        _refuse("after", _NO_PAGE)
    return ActivityPlace(moment, f"({found[2]},{found[3]})")


def _is_known(state: TrendState) -> bool:
    """A film that was removed before anything happened leaves an empty state behind."""
    return (
        state.in_catalogue
        or state.all_views > 0
        or state.all_ratings.count > 0
        or state.day.log_events is not None
    )


def _movie_ids(text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not 1 <= len(parts) <= MAX_IDS:
        _refuse("ids", f"expected 1 to {MAX_IDS} keys separated by commas, got {len(parts)}")
    return [_movie_id(part, field="ids") for part in parts]


def _movie_id(text: str, *, field: Literal["ids", "movie_id"]) -> str:
    try:
        return parse_movie_id(text)
    except ValueError as error:
        _refuse(field, str(error))


def _refuse(field: str, message: str) -> NoReturn:
    raise ProblemError(
        422, "Invalid request", f"{field}: {message}", errors=[{"field": field, "message": message}]
    )
