"""Every command and fact, and the registry from a type to its class.

Commands are named in the imperative, facts in the past tense. A class is one version of one type;
a change that old consumers cannot read is a new class with the next version.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Final, Literal, TypeVar

from pydantic import Field

from moviemetric_contracts.exchanges import Exchange
from moviemetric_contracts.fields import (
    ActorId,
    CalendarDate,
    Count,
    Data,
    JobId,
    Moment,
    MovieId,
    Name,
    Review,
    Revision,
    Score,
    SearchId,
    SearchText,
    ShortText,
    Text,
    TmdbId,
)
from moviemetric_contracts.movie import Movie


class Message(Data):
    """A payload that has a type of its own. `TYPE` and `EXCHANGE` are set by the registry."""

    TYPE: ClassVar[str] = ""
    EXCHANGE: ClassVar[Exchange] = Exchange.EVENTS

    def subject(self) -> str | None:
        """What the event is about: the film's key where there is one."""
        key: object = getattr(self, "movie_id", None)
        return key if isinstance(key, str) else None


M = TypeVar("M", bound=Message)
_registry: dict[str, type[Message]] = {}
REGISTRY: Final[Mapping[str, type[Message]]] = MappingProxyType(_registry)


def _register(exchange: Exchange, event_type: str) -> Callable[[type[M]], type[M]]:
    def register(cls: type[M]) -> type[M]:
        cls.TYPE = event_type
        cls.EXCHANGE = exchange
        _registry[event_type] = cls
        return cls

    return register


def _command(event_type: str) -> Callable[[type[M]], type[M]]:
    return _register(Exchange.COMMANDS, event_type)


def _fact(event_type: str) -> Callable[[type[M]], type[M]]:
    return _register(Exchange.EVENTS, event_type)


@_command("movie.register.v1")
class RegisterMovie(Message):
    """Take a film into the catalogue."""

    tmdb_id: TmdbId

    def subject(self) -> str:
        """The key the film will have."""
        return f"tmdb-{self.tmdb_id}"


@_command("movie.refresh.v1")
class RefreshMovie(Message):
    """Fetch a film from its source again."""

    tmdb_id: TmdbId

    def subject(self) -> str:
        """The film's key."""
        return f"tmdb-{self.tmdb_id}"


@_command("movie.rate.v1")
class RateMovie(Message):
    """Record a user's rating of a film; of two the one with the later event time counts."""

    movie_id: MovieId
    user_id: ActorId
    score: Score
    review: Review | None = None


@_command("movie.unrate.v1")
class UnrateMovie(Message):
    """Take a user's rating of a film back; one with a later event time stays."""

    movie_id: MovieId
    user_id: ActorId


class ListPages(Data):
    """How many pages of each of TMDB's lists to read; 20 films a page."""

    popular: Annotated[int, Field(ge=0, le=500)] = 30
    top_rated: Annotated[int, Field(ge=0, le=500)] = 30
    now_playing: Annotated[int, Field(ge=0, le=500)] = 10
    upcoming: Annotated[int, Field(ge=0, le=500)] = 10
    trending_week: Annotated[int, Field(ge=0, le=500)] = 5
    discover_popularity: Annotated[int, Field(ge=0, le=500)] = 10
    discover_vote_average: Annotated[int, Field(ge=0, le=500)] = 10


@_command("catalog.ingest.v1")
class IngestCatalog(Message):
    """Read films in bulk from a source: lists, explicit ids, or what changed since a day."""

    job_id: JobId
    source: Literal["tmdb"] = "tmdb"
    lists: ListPages | None = None
    tmdb_ids: tuple[TmdbId, ...] = ()
    changed_since: CalendarDate | None = None
    force: Annotated[bool, Field(description="fetch films too that were fetched recently")] = False


@_command("catalog.import.v1")
class ImportCatalog(Message):
    """Import an uploaded file; `uri` says where it is kept.

    `format` is a format's name, or `auto` to recognise it from the header. With `dry_run` the job
    only says what the import would do.
    """

    job_id: JobId
    format: Name = "auto"
    uri: Annotated[Text, Field(min_length=1, max_length=2000)]
    filename: ShortText | None = None
    dry_run: bool = False


@_command("job.cancel.v1")
class CancelJob(Message):
    """Stop a job where it is; what it has committed stays."""

    job_id: JobId

    def subject(self) -> str:
        """The job's id."""
        return self.job_id


@_command("job.retry.v1")
class RetryJob(Message):
    """Try the rejected rows of a finished import again, as a job of its own."""

    job_id: JobId
    retry_of: JobId

    def subject(self) -> str:
        """The new job's id."""
        return self.job_id


@_command("compute.run.v1")
class RunCompute(Message):
    """Compute an artifact ahead, for today or for an earlier day."""

    job_id: JobId
    artifact: Literal["trending", "genre-stats", "ratings-by-decade", "recommendations", "all"]
    as_of: CalendarDate | None = None


@_command("search.rebuild.v1")
class RebuildSearch(Message):
    """Fill a new search index and swap it in."""

    job_id: JobId


@_command("search.repair.v1")
class RepairSearch(Message):
    """Compare the search index with the films and mend what differs, and nothing else."""

    job_id: JobId


@_fact("movie.viewed.v1")
class MovieViewed(Message):
    """Somebody watched or looked at a film."""

    movie_id: MovieId
    viewed_at: Moment
    user_id: ActorId | None = None
    session_id: ActorId | None = None


@_fact("movie.upserted.v1")
class MovieUpserted(Message):
    """A film is new or has changed; carries all of it."""

    movie: Movie
    revision: Revision

    def subject(self) -> str:
        """The film's key."""
        return self.movie.movie_id


@_fact("movie.removed.v1")
class MovieRemoved(Message):
    """A film has left the catalogue, for instance because its source no longer has it."""

    movie_id: MovieId
    reason: ShortText
    revision: Revision


class Rating(Data):
    """One user's rating of one film."""

    score: Score
    rated_at: Moment


@_fact("movie.rated.v1")
class MovieRated(Message):
    """A user rated a film; `previous` is the rating that this one replaces."""

    movie_id: MovieId
    user_id: ActorId
    rating: Rating
    previous: Rating | None = None


@_fact("movie.unrated.v1")
class MovieUnrated(Message):
    """A user took a rating back; `previous` is what it was."""

    movie_id: MovieId
    user_id: ActorId
    previous: Rating
    unrated_at: Moment


@_fact("rating.aggregated.v1")
class RatingAggregated(Message):
    """The sum of a film's local ratings.

    `histogram[i]` counts the ratings with score (i + 1) / 2, so it has 20 entries.
    """

    movie_id: MovieId
    count: Count
    # Absent in JSON where there are no ratings, as every None is.
    mean: Annotated[float, Field(ge=0.5, le=10)] | None = None
    histogram: Annotated[tuple[Count, ...], Field(min_length=20, max_length=20)]
    revision: Revision


@_fact("user.erased.v1")
class UserErased(Message):
    """A user asked to be forgotten; whoever holds anything of theirs drops it.

    What comes of theirs afterwards, such as an old event that is replayed, has no effect.
    """

    user_id: ActorId


@_fact("admin.acted.v1")
class AdminActed(Message):
    """An administrator, or a program with an administrator's key, asked for something to be done.

    `actor` is a user's id, or `key:` and an API key's id; `action` is a method and a route.
    """

    actor: ActorId
    action: Name
    acted_at: Moment
    address: Name | None = None


class TrendBreakdown(Data):
    """The two components of a trend score at the moment it was computed.

    `activity` is the decayed sum of impulses (unitless, at least 0), `quality` is on 0 to 10.
    """

    activity: Annotated[float, Field(ge=0)]
    quality: Annotated[float, Field(ge=0, le=10)]


class TrendEntry(Data):
    """One film's trend after a change.

    `score` is on 0 to 100 as of the event's `as_of`. `rank_key` does not depend on the time of
    reading: of two films the one with the higher key ranks first, whenever each was computed.
    """

    movie_id: MovieId
    score: Annotated[float, Field(ge=0, le=100)]
    rank_key: float
    views: Count
    breakdown: TrendBreakdown


@_fact("trend.updated.v1")
class TrendUpdated(Message):
    """Films whose trend changed since the last such event; many views of a film are one entry."""

    as_of: Moment
    revision: Revision
    entries: Annotated[tuple[TrendEntry, ...], Field(min_length=1, max_length=5000)]


@_fact("artifact.computed.v1")
class ArtifactComputed(Message):
    """An artifact computed ahead is there to be read."""

    artifact: Name
    as_of: CalendarDate
    rows: Count
    duration_seconds: Annotated[float, Field(ge=0)]
    job_id: JobId | None = None


@_fact("search.rebuilt.v1")
class SearchRebuilt(Message):
    """A new search index has taken over."""

    index: Name
    documents: Count
    duration_seconds: Annotated[float, Field(ge=0)]
    job_id: JobId | None = None


@_fact("search.performed.v1")
class SearchPerformed(Message):
    """Somebody searched and was shown the first page; who it was is not told.

    `search_id` connects it with what is opened from there; `total` counts all hits.
    """

    search_id: SearchId
    query: SearchText
    total: Count
    engine: Name | None = None
    searched_at: Moment


@_fact("search.opened.v1")
class SearchOpened(Message):
    """Somebody opened a film from the results of a search."""

    movie_id: MovieId
    query: SearchText
    opened_at: Moment
    search_id: SearchId | None = None


JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]


@_fact("job.changed.v1")
class JobChanged(Message):
    """A job moved on; `total` is None while it is not known."""

    job_id: JobId
    kind: Name
    state: JobState
    done: Count = 0
    total: Count | None = None
    rejected: Count = 0
    error: Text | None = None

    def subject(self) -> str:
        """The job's id."""
        return self.job_id
