"""The routes of recommendations."""

from dataclasses import asdict, fields
from datetime import UTC, date, datetime
from typing import Annotated, Final, Literal, NoReturn

from fastapi import APIRouter, Query
from moviemetric_contracts import ActorId, parse_movie_id
from moviemetric_contracts.fields import Name
from pydantic import BaseModel, Field
from service_kit import Database, ProblemError

from compute_service.recommendation.reader import (
    MAX_OFFSET,
    MAX_PAGE,
    MAX_SIMILAR,
    Reason,
    RecommendationReader,
    Suggestion,
)
from compute_service.recommendation.repository import CatalogueFilm, Figures, FilmFilter
from compute_service.trend import TrendFormula, Window

MAX_LIKES: Final = 50
MAX_VOTES: Final = 2**53 - 1

Genre = Annotated[Name | None, Query()]
Year = Annotated[int | None, Query(ge=1, le=9999)]
Language = Annotated[Name | None, Query(max_length=20)]
MinVotes = Annotated[int | None, Query(ge=0, le=MAX_VOTES)]
Diversity = Annotated[
    float,
    Query(ge=0, le=1, allow_inf_nan=False, description="0: by score alone; 1: as unlike as can be"),
]


class WhyGenres(BaseModel):
    """Genres, keywords or people that both films have."""

    kind: Literal["genres", "keywords", "people"]
    values: list[str]


class WhyAudience(BaseModel):
    """That people watch both films gave this share of the score."""

    kind: Literal["audience"] = "audience"
    share: float


class WhyFilm(BaseModel):
    """A film of the user's that gave this share of what speaks for the recommended one."""

    kind: Literal["because"] = "because"
    movie_id: str
    title: str
    share: float


Why = Annotated[WhyGenres | WhyAudience | WhyFilm, Field(discriminator="kind")]


class SuggestedFilm(BaseModel):
    """A film of a list; `score` is relative to the best one of the list."""

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
    final_trend_score: Annotated[float, Field(ge=0, le=100)]
    score: Annotated[float, Field(ge=0, le=1)]
    reasons: list[Why]


_SHOWN: Final = set(SuggestedFilm.model_fields) & {field.name for field in fields(CatalogueFilm)}


class ModelFigures(BaseModel):
    """The model behind an answer: of which day it is, and what it was fitted from."""

    as_of: date
    computed_at: datetime
    films: int
    users: int
    interactions: int


class SimilarFilmsPage(BaseModel):
    """Films like one. `basis` is `content` where no model knows the film; `model` is None before
    the first one was computed."""

    movie_id: str
    items: list[SuggestedFilm]
    total: int
    limit: int
    basis: Literal["model", "content"]
    model: ModelFigures | None
    as_of: datetime


class BasedOn(BaseModel):
    """How many films there were to go by; all 0: these are films that many found good."""

    ratings: int
    views: int
    likes: int


class SuggestedFilmsPage(BaseModel):
    """Films for a user. `total` is None where it was not counted."""

    items: list[SuggestedFilm]
    total: int | None
    limit: int
    offset: int
    based_on: BasedOn
    unknown_likes: list[str]
    model: ModelFigures | None
    as_of: datetime


def recommendations_api(
    database: Database, formula: TrendFormula, *, view_weight: float
) -> APIRouter:
    """The routes."""
    router = APIRouter()
    reader = RecommendationReader(database, view_weight=view_weight)

    def shown(suggestion: Suggestion, now: datetime) -> SuggestedFilm:
        film = suggestion.film
        return SuggestedFilm(
            **{name: getattr(film, name) for name in _SHOWN},
            final_trend_score=formula.score(Window.DAY, film.rank_key, now),
            score=round(suggestion.score, 4),
            reasons=[_why(reason) for reason in suggestion.reasons],
        )

    @router.get("/similar/{movie_id}")
    async def similar(
        movie_id: str,
        limit: Annotated[int, Query(ge=1, le=MAX_SIMILAR)] = 10,
        diversity: Diversity = 0.0,
        genre: Genre = None,
        year: Year = None,
        language: Language = None,
        min_votes: MinVotes = None,
    ) -> SimilarFilmsPage:
        key = _key(movie_id, field="movie_id")
        now = datetime.now(UTC)
        wanted = FilmFilter(genre=genre, year=year, language=language, min_votes=min_votes)
        found = await reader.similar(key, wanted, limit=limit, diversity=diversity)
        if found is None:
            raise ProblemError(404, "Unknown film", f"{key} is not in the catalogue")
        return SimilarFilmsPage(
            movie_id=found.movie_id,
            items=[shown(item, now) for item in found.items],
            total=found.total,
            limit=limit,
            basis=found.basis,
            model=_figures(found.model),
            as_of=now,
        )

    @router.get("/recommendations")
    async def recommendations(
        user_id: Annotated[ActorId | None, Query()] = None,
        like: Annotated[
            str | None,
            Query(description="keys of films, separated by commas; the last counts most"),
        ] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 20,
        offset: Annotated[int, Query(ge=0, le=MAX_OFFSET)] = 0,
        diversity: Diversity = 0.0,
        genre: Genre = None,
        year: Year = None,
        language: Language = None,
        min_votes: MinVotes = None,
        include_seen: bool = False,
    ) -> SuggestedFilmsPage:
        likes = [] if like is None else _keys(like)
        now = datetime.now(UTC)
        found = await reader.for_user(
            user_id,
            likes,
            FilmFilter(genre=genre, year=year, language=language, min_votes=min_votes),
            limit=limit,
            offset=offset,
            diversity=diversity,
            include_seen=include_seen,
        )
        return SuggestedFilmsPage(
            items=[shown(item, now) for item in found.items],
            total=found.total,
            limit=limit,
            offset=offset,
            based_on=BasedOn(
                ratings=len(found.taste.rated),
                views=len(found.taste.viewed),
                likes=len(found.taste.likes),
            ),
            unknown_likes=list(found.unknown_likes),
            model=_figures(found.model),
            as_of=now,
        )

    return router


def _why(reason: Reason) -> WhyGenres | WhyAudience | WhyFilm:
    match reason:
        case Reason(kind="because", movie_id=str(movie_id), title=str(title), share=float(share)):
            return WhyFilm(movie_id=movie_id, title=title, share=share)
        case Reason(kind="audience", share=float(share)):
            return WhyAudience(share=share)
        case Reason(kind="genres" | "keywords" | "people" as kind, values=values):
            return WhyGenres(kind=kind, values=list(values))
        case _:
            msg = f"no such reason: {reason.kind}"
            raise ValueError(msg)


def _figures(figures: Figures | None) -> ModelFigures | None:
    return None if figures is None else ModelFigures(**asdict(figures))


def _keys(text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not 1 <= len(parts) <= MAX_LIKES:
        _refuse("like", f"expected 1 to {MAX_LIKES} keys separated by commas, got {len(parts)}")
    return [_key(part, field="like") for part in parts]


def _key(text: str, *, field: str) -> str:
    try:
        return parse_movie_id(text)
    except ValueError as error:
        _refuse(field, str(error))


def _refuse(field: str, message: str) -> NoReturn:
    raise ProblemError(
        422, "Invalid request", f"{field}: {message}", errors=[{"field": field, "message": message}]
    )
