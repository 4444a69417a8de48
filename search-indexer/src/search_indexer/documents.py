"""What a search document is, and what a batch of events says about documents and their figures.

Pure. Of several statements about one film the one with the highest revision holds, whatever the
order they arrive in; so a batch can be reduced before it is written, and a repeated event changes
nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Final

from moviemetric_contracts import (
    Movie,
    MovieRemoved,
    MovieUpserted,
    RatingAggregated,
    TrendUpdated,
)

MAX_CAST: Final = 30
MAX_KEYWORDS: Final = 100
MAX_OVERVIEW: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A film as it can be found and shown. `people` are the cast by billing, then the directors."""

    movie_id: str
    revision: int
    tmdb_id: int | None
    imdb_id: str | None
    title: str
    original_title: str | None
    original_language: str | None
    overview: str | None
    people: tuple[str, ...]
    keywords: tuple[str, ...]
    genres: tuple[str, ...]
    release_date: date | None
    vote_average: float | None
    vote_count: int
    popularity: float
    poster_path: str | None

    @property
    def year(self) -> int | None:
        """The year of release."""
        return self.release_date.year if self.release_date else None

    @property
    def decade(self) -> int | None:
        """The first year of the decade of release: 1994 → 1990."""
        return self.release_date.year // 10 * 10 if self.release_date else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """The film is gone; kept as a tombstone, so that an older document does not bring it back."""

    movie_id: str
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """A film's trend: `score` on 0 to 100, `rank_key` comparable between films at any time."""

    movie_id: str
    revision: int
    score: float
    rank_key: float
    views: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratings:
    """What this system's own users think of a film: how many, and their mean; None without any."""

    movie_id: str
    revision: int
    count: int
    mean: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What changes about a film without its document; None while nothing is known."""

    trend: Trend | None = None
    ratings: Ratings | None = None


NO_FIGURES: Final = Figures()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """Which state of a film an index holds; revisions of figures that are not known are 0."""

    revision: int
    trend_revision: int = 0
    ratings_revision: int = 0


CatalogueChange = Document | Removal


def document_of(movie: Movie, revision: int) -> Document:
    """The document of a film at a revision."""
    cast = sorted(movie.cast, key=lambda member: member.order)[:MAX_CAST]
    directors = [member.name for member in movie.crew if member.job == "Director"]
    return Document(
        movie_id=movie.movie_id,
        revision=revision,
        tmdb_id=movie.tmdb_id,
        imdb_id=movie.imdb_id,
        title=movie.title,
        original_title=movie.original_title,
        original_language=movie.original_language,
        overview=movie.overview[:MAX_OVERVIEW] if movie.overview else None,
        people=tuple(dict.fromkeys([*(member.name for member in cast), *directors])),
        keywords=movie.keywords[:MAX_KEYWORDS],
        genres=tuple(dict.fromkeys(movie.genres)),
        release_date=movie.release_date,
        vote_average=movie.vote_average,
        vote_count=movie.vote_count,
        popularity=movie.popularity,
        poster_path=movie.poster_path,
    )


def catalogue_changes(
    messages: Iterable[MovieUpserted | MovieRemoved],
) -> list[CatalogueChange]:
    """The newest statement about each film in a batch, by movie_id."""
    newest: dict[str, MovieUpserted | MovieRemoved] = {}
    for message in messages:
        key = message.movie.movie_id if isinstance(message, MovieUpserted) else message.movie_id
        if key not in newest or newest[key].revision < message.revision:
            newest[key] = message
    return [
        document_of(message.movie, message.revision)
        if isinstance(message, MovieUpserted)
        else Removal(movie_id=message.movie_id, revision=message.revision)
        for _, message in sorted(newest.items())
    ]


def trend_changes(messages: Iterable[TrendUpdated]) -> list[Trend]:
    """The newest trend of each film in a batch, by movie_id."""
    newest: dict[str, Trend] = {}
    for message in messages:
        for entry in message.entries:
            known = newest.get(entry.movie_id)
            if known is None or known.revision < message.revision:
                newest[entry.movie_id] = Trend(
                    movie_id=entry.movie_id,
                    revision=message.revision,
                    score=entry.score,
                    rank_key=entry.rank_key,
                    views=entry.views,
                )
    return [newest[key] for key in sorted(newest)]


def rating_changes(messages: Iterable[RatingAggregated]) -> list[Ratings]:
    """The newest ratings of each film in a batch, by movie_id."""
    newest: dict[str, RatingAggregated] = {}
    for message in messages:
        known = newest.get(message.movie_id)
        if known is None or known.revision < message.revision:
            newest[message.movie_id] = message
    return [
        Ratings(
            movie_id=movie_id,
            revision=message.revision,
            count=message.count,
            mean=message.mean if message.count else None,
        )
        for movie_id, message in sorted(newest.items())
    ]
