"""The normalised film, as `movie.upserted.v1` carries it to every service that keeps a copy."""

from typing import Annotated

from pydantic import Field

from moviemetric_contracts.fields import (
    MAX_COUNT,
    CalendarDate,
    Count,
    Data,
    ImdbId,
    Moment,
    MovieId,
    Name,
    ShortText,
    Text,
    TmdbId,
)


class CastMember(Data):
    """One actor's part; `order` is the billing position, 0 first."""

    name: Name
    character: ShortText = ""
    order: Count = 0
    tmdb_person_id: int | None = None


class CrewMember(Data):
    """One person's job behind the camera, such as `Director`."""

    name: Name
    job: ShortText = ""
    department: ShortText = ""
    tmdb_person_id: int | None = None


class Movie(Data):
    """A film after normalisation: what is unknown is None, never 0 or an empty string.

    Units: `runtime` in minutes, `budget` and `revenue` in US dollars, `vote_average` on 0 to 10,
    `popularity` as the source defines it (TMDB: unbounded, mostly 0 to 1000).
    """

    movie_id: MovieId
    tmdb_id: TmdbId | None = None
    imdb_id: ImdbId | None = None
    title: Annotated[ShortText, Field(min_length=1)]
    original_title: ShortText | None = None
    original_language: Annotated[str, Field(max_length=20)] | None = None
    overview: Text | None = None
    tagline: Text | None = None
    status: ShortText | None = None
    release_date: CalendarDate | None = None
    runtime: Annotated[int, Field(gt=0, le=MAX_COUNT)] | None = None
    budget: Annotated[int, Field(gt=0, le=MAX_COUNT)] | None = None
    revenue: Annotated[int, Field(gt=0, le=MAX_COUNT)] | None = None
    genres: tuple[Name, ...] = ()
    keywords: tuple[Name, ...] = ()
    cast: tuple[CastMember, ...] = ()
    crew: tuple[CrewMember, ...] = ()
    spoken_languages: tuple[Name, ...] = ()
    production_countries: tuple[Name, ...] = ()
    production_companies: tuple[Name, ...] = ()
    collection: ShortText | None = None
    homepage: Text | None = None
    poster_path: ShortText | None = None
    backdrop_path: ShortText | None = None
    adult: bool = False
    vote_average: Annotated[float, Field(ge=0, le=10)] | None = None
    vote_count: Count = 0
    popularity: Annotated[float, Field(ge=0)] = 0.0
    aliases: Annotated[
        tuple[MovieId, ...],
        Field(
            description="other keys that name this film; what is known under them belongs to it",
            max_length=100,
        ),
    ] = ()
    fetched_at: Moment
