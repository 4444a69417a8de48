"""The port between this service and a search engine.

Two adapters stand behind it and pass one test suite: PostgreSQL, whose index is this service's own
tables, and Meilisearch, which is also an `ExternalIndex` that has to be told of every change.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, Literal, Protocol, runtime_checkable

from search_indexer.documents import Document, Trend
from search_indexer.folding import query_words

_LANGUAGE: Final = re.compile(r"[A-Za-z0-9_-]{1,20}")

Sort = Literal["relevance", "date", "rating", "trend"]
Order = Literal["asc", "desc"]
GenreMode = Literal["any", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """What is looked for. An empty `q` lists every film that passes the filters, by trend.

    Every filter narrows. Genres and the language are compared without case, genres without accents
    as well. What a film does not have (a date, a rating) passes no filter on it.

    Attributes:
        genres: a film has all of them, or any of them, as `genre_mode` says.
        year_from, year_to: of release, both included.
        decade: its first year.
        sort: `relevance` is best first, equally good ones by trend; what has no date or rating
            comes last in either order, and equals come by trend.
        order: of anything but relevance.
        highlight: whether hits say where the words were found.
    """

    q: str = ""
    genres: tuple[str, ...] = ()
    genre_mode: GenreMode = "all"
    year_from: int | None = None
    year_to: int | None = None
    decade: int | None = None
    language: str | None = None
    min_rating: float | None = None
    min_votes: int | None = None
    sort: Sort = "relevance"
    order: Order = "desc"
    highlight: bool = False
    limit: int = 20
    offset: int = 0

    @property
    def words(self) -> list[str]:
        """The words that every hit must have, folded."""
        return query_words(self.q)

    @property
    def is_unanswerable(self) -> bool:
        """Something was asked that no film can have: `???` for words, or no code for a language."""
        if self.language is not None and not _LANGUAGE.fullmatch(self.language):
            return True
        return bool(self.q.strip()) and not self.words


Highlights = Mapping[str, str | Sequence[str]]
"""Texts in which something was found, by field, as HTML: `<mark>` around what was found, everything
else escaped. Of people and keywords those that match, of the overview a part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchHit:
    """A film as lists show it. Trend fields are None and 0 while no trend is known."""

    movie_id: str
    tmdb_id: int | None
    imdb_id: str | None
    title: str
    original_title: str | None
    original_language: str | None
    release_date: date | None
    genres: Sequence[str]
    vote_average: float | None
    vote_count: int
    popularity: float
    poster_path: str | None
    final_trend_score: float | None
    views: int
    highlights: Highlights | None = None

    @classmethod
    def from_json(
        cls, fields: Mapping[str, Any], highlights: Highlights | None = None
    ) -> "SearchHit":
        """A hit from fields of the same names, as an engine keeps them in JSON."""
        released = fields["release_date"]
        return cls(
            movie_id=fields["movie_id"],
            tmdb_id=fields["tmdb_id"],
            imdb_id=fields["imdb_id"],
            title=fields["title"],
            original_title=fields["original_title"],
            original_language=fields["original_language"],
            release_date=date.fromisoformat(released) if released else None,
            genres=fields["genres"],
            vote_average=fields["vote_average"],
            vote_count=fields["vote_count"],
            popularity=fields["popularity"],
            poster_path=fields["poster_path"],
            final_trend_score=fields.get("final_trend_score"),
            views=fields.get("views") or 0,
            highlights=highlights,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Facets:
    """How many of all hits fall to each value; decades are named by their first year."""

    genre: Mapping[str, int] = field(default_factory=dict[str, int])
    decade: Mapping[str, int] = field(default_factory=dict[str, int])
    language: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """One page of hits, best first; `total` and `facets` are about all pages and exact.

    Attributes:
        engine: which one answered.
        degraded: it is not the one that was set up, which is away.
        note: what that means, for a person to read.
    """

    hits: Sequence[SearchHit] = ()
    total: int = 0
    facets: Facets = field(default_factory=Facets)
    engine: str = ""
    degraded: bool = False
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SuggestedFilm:
    """A film whose title may be what is being typed."""

    movie_id: str
    title: str
    year: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestions:
    """What may be meant by an unfinished text, likeliest first; `engine` … as of `SearchResult`."""

    films: Sequence[SuggestedFilm] = ()
    people: Sequence[str] = ()
    engine: str = ""
    degraded: bool = False
    note: str | None = None


class ChangeRefusedError(Exception):
    """The engine will never take one of the changes it was given as they are."""

    def __init__(self, engine: str, reason: str) -> None:
        self.engine = engine
        self.reason = reason
        super().__init__(f"{engine} refused a change: {reason}")


class SearchEngine(Protocol):
    """Answers searches. Every method raises `Outage` while it cannot."""

    async def search(self, request: SearchRequest) -> SearchResult:
        """The films that fit, best first; equally good ones by trend."""
        ...

    async def suggest(self, prefix: str, limit: int) -> Suggestions:
        """Up to `limit` films by title, and as many people of films, for what is being typed."""
        ...

    async def health(self) -> None:
        """Returns when the engine answers."""
        ...

    async def close(self) -> None:
        """Lets go of connections."""
        ...


@runtime_checkable
class ExternalIndex(SearchEngine, Protocol):
    """An engine with a store of its own. A method returns once the change can be searched.

    Each method may be repeated with the same arguments. `index`, `remove` and `update_trends` raise
    `ChangeRefusedError` when the engine says that the request itself is wrong.
    """

    async def ensure_ready(self) -> str:
        """Creates and configures the index where needed.

        Returns an identity of the index that changes when it was created anew, and so is empty.
        """
        ...

    async def index(self, documents: Sequence[tuple[Document, Trend | None]]) -> None:
        """Adds documents, or replaces them whole."""
        ...

    async def remove(self, movie_ids: Sequence[str]) -> None:
        """Takes documents out; unknown ones are no error."""
        ...

    async def update_trends(self, trends: Sequence[Trend]) -> None:
        """Changes the trend of documents that are there; others are left out, not created."""
        ...
