"""Ratings to read: a user's own, and those of a film.

A film can be named by any of its keys and answers under its own. What anybody may read is there
while the film is in the catalogue; users see their own ratings of other films too.
"""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from moviemetric_contracts import parse_movie_id
from moviemetric_contracts.fields import Name
from pydantic import BaseModel, Field
from service_kit import Database, ProblemError
from service_kit.tokens import AccessToken
from sqlalchemy.ext.asyncio import AsyncConnection

from rating_service.api.dependencies import INVALID, UNAUTHORIZED, problems
from rating_service.ratings import reads
from rating_service.ratings.projection import by_score
from rating_service.ratings.quality import QualityFormula
from rating_service.ratings.reads import FilmRatings, Sort, Wanted

Limit = Annotated[int, Query(ge=1, le=100)]
Offset = Annotated[int, Query(ge=0, le=100_000)]
ScoreBound = Annotated[float | None, Query(ge=0.5, le=10, multiple_of=0.5)]
MovieKey = Annotated[str, Path(description="any key of the film, or its number at TMDB")]
Score = Annotated[float, Field(ge=0.5, le=10)]
Histogram = Annotated[dict[str, int], Field(description='ratings by score, "0.5" to "10.0"')]

_PRIVATE = {"Cache-Control": "no-store"}
_NO_FILM = problems(s404="The film is not in the catalogue.")
_NOT_RATED = problems(s404="You have not rated this film.")


class RatedFilm(BaseModel):
    """One of a user's own ratings; of a film that is not in the catalogue only the key is known."""

    movie_id: str
    tmdb_id: int | None
    title: str | None
    release_date: date | None
    genres: list[str]
    poster_path: str | None
    score: Score
    review: str | None
    rated_at: datetime
    in_catalogue: bool


class RatedFilms(BaseModel):
    """A page of a user's own ratings; `total` pass the filters."""

    items: list[RatedFilm]
    total: int
    limit: int
    offset: int
    as_of: datetime


class OwnRating(BaseModel):
    """A user's own rating of a film."""

    movie_id: str
    score: Score
    review: str | None
    rated_at: datetime


class SourceVotes(BaseModel):
    """What the film's source says of it, on 0 to 10."""

    vote_average: float | None
    vote_count: int


class RatingsOfFilm(BaseModel):
    """All local ratings of a film, beside its source's; the means are on 0.5 to 10 and 0 to 10."""

    movie_id: str
    count: int
    mean: float | None
    bayesian_mean: float | None
    histogram: Histogram
    source: SourceVotes
    as_of: datetime


class Review(BaseModel):
    """A rating with its review; `user` is null for somebody without an account."""

    user: str | None
    score: Score
    review: str
    rated_at: datetime


class Reviews(BaseModel):
    """A page of a film's reviews, newest first."""

    items: list[Review]
    total: int
    limit: int
    offset: int
    as_of: datetime


class Ratings:
    """The routes that read ratings.

    Args:
        authenticated: a FastAPI dependency that answers whose request it is, or 401.
        quality: how the Bayesian mean is computed.
    """

    def __init__(
        self,
        database: Database,
        *,
        authenticated: Callable[..., Awaitable[AccessToken]],
        quality: QualityFormula,
    ) -> None:
        self._database = database
        self._authenticated = authenticated
        self._quality = quality

    def router(self) -> APIRouter:
        """`/users/me/ratings` and `/movies/{movie_id}/{rating,ratings,reviews}`."""
        router = APIRouter(tags=["ratings"])
        self._add_own(router)
        self._add_of_films(router)
        return router

    def _add_own(self, router: APIRouter) -> None:
        database, authenticated = self._database, self._authenticated

        @router.get(
            "/users/me/ratings", summary="Your ratings", responses={**UNAUTHORIZED, **INVALID}
        )
        async def own_ratings(
            user: Annotated[AccessToken, Depends(authenticated)],
            response: Response,
            min_score: ScoreBound = None,
            max_score: ScoreBound = None,
            genre: Annotated[Name | None, Query()] = None,
            year: Annotated[int | None, Query(ge=1, le=9999)] = None,
            q: Annotated[Name | None, Query(description="a part of the title")] = None,
            sort: Sort = "rated_at",
            order: Literal["desc", "asc"] = "desc",
            limit: Limit = 20,
            offset: Offset = 0,
        ) -> RatedFilms:
            wanted = Wanted(
                min_half_steps=_half_steps(min_score),
                max_half_steps=_half_steps(max_score),
                genre=genre,
                year=year,
                title_part=q,
            )
            now = datetime.now(UTC)
            async with database.reading() as connection:
                found, total = await reads.ratings_listed(
                    connection,
                    user.user_id,
                    wanted,
                    sort=sort,
                    descending=order == "desc",
                    limit=limit,
                    offset=offset,
                )
            response.headers.update(_PRIVATE)
            items = [RatedFilm(**asdict(rating)) for rating in found]
            return RatedFilms(items=items, total=total, limit=limit, offset=offset, as_of=now)

        @router.get(
            "/movies/{movie_id}/rating",
            summary="Your rating of a film",
            responses={**UNAUTHORIZED, **_NOT_RATED, **INVALID},
        )
        async def own_rating(
            user: Annotated[AccessToken, Depends(authenticated)],
            response: Response,
            movie_id: MovieKey,
        ) -> OwnRating:
            key = _parsed(movie_id)
            async with database.reading() as connection:
                rating = await reads.rating_of(connection, user.user_id, key)
            if rating is None:
                raise ProblemError(404, "Not rated", f"you have not rated {key}", headers=_PRIVATE)
            response.headers.update(_PRIVATE)
            return OwnRating(**asdict(rating))

        # FastAPI refers to them; nothing else does.
        _ = own_ratings, own_rating

    def _add_of_films(self, router: APIRouter) -> None:
        database, quality = self._database, self._quality

        @router.get(
            "/movies/{movie_id}/ratings",
            summary="A film's ratings",
            responses={**_NO_FILM, **INVALID},
        )
        async def ratings_of_film(movie_id: MovieKey) -> RatingsOfFilm:
            now = datetime.now(UTC)
            async with database.reading() as connection:
                film = await _film(connection, movie_id)
            return RatingsOfFilm(
                movie_id=film.movie_id,
                count=film.count,
                mean=film.total / film.count if film.count else None,
                bayesian_mean=quality.mean(
                    count=film.count,
                    total=film.total,
                    vote_average=film.vote_average,
                    vote_count=film.vote_count,
                ),
                histogram=by_score(film.histogram),
                source=SourceVotes(vote_average=film.vote_average, vote_count=film.vote_count),
                as_of=now,
            )

        @router.get(
            "/movies/{movie_id}/reviews",
            summary="A film's reviews, newest first",
            responses={**_NO_FILM, **INVALID},
        )
        async def reviews_of_film(
            movie_id: MovieKey, limit: Limit = 20, offset: Offset = 0
        ) -> Reviews:
            now = datetime.now(UTC)
            async with database.reading() as connection:
                film = await _film(connection, movie_id)
                found, total = await reads.reviews_of_film(
                    connection, film.movie_id, limit=limit, offset=offset
                )
            items = [Review(**asdict(review)) for review in found]
            return Reviews(items=items, total=total, limit=limit, offset=offset, as_of=now)

        # FastAPI refers to them; nothing else does.
        _ = ratings_of_film, reviews_of_film


async def _film(connection: AsyncConnection, movie_id: str) -> FilmRatings:
    key = _parsed(movie_id)
    film = await reads.ratings_of_film(connection, key)
    if film is None:
        raise ProblemError(404, "Unknown film", f"{key} is not in the catalogue")
    return film


def _parsed(movie_id: str) -> str:
    try:
        return parse_movie_id(movie_id)
    except ValueError as error:
        message = str(error)
        raise ProblemError(
            422,
            "Invalid request",
            f"movie_id: {message}",
            errors=[{"field": "movie_id", "message": message}],
        ) from None


def _half_steps(score: float | None) -> int | None:
    return None if score is None else round(score * 2)
