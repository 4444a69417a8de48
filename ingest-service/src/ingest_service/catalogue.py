"""What a fetch found out about a film. Values, no I/O."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from moviemetric_contracts import Movie

from ingest_service.records import Source, SourceRecord
from ingest_service.tmdb_client import TmdbDocument

# What follows from the keys and the time is no part of a record.
_DERIVED: Final = {"movie_id", "tmdb_id", "aliases", "fetched_at"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One look at the source: the film as it is there, or the reason why it is not.

    Exactly one of `movie` and `removed_reason` is set; `raw` comes with a movie.
    """

    movie_id: str
    fetched_at: datetime
    movie: Movie | None = None
    raw: "RawDocument | None" = None
    removed_reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class RawDocument:
    """A document as its source sent it."""

    source: str
    source_id: str
    body: str
    etag: str | None
    fetched_at: datetime

    @classmethod
    def from_tmdb(cls, document: TmdbDocument) -> "RawDocument":
        """What TMDB sent for a film."""
        return cls(
            source="tmdb",
            source_id=str(document.tmdb_id),
            body=document.text,
            etag=document.etag,
            fetched_at=document.fetched_at,
        )

    @property
    def sha256(self) -> str:
        """Of the body in UTF-8, in hexadecimal."""
        return sha256(self.body.encode()).hexdigest()


def newest_of_each(findings: Iterable[Finding]) -> list[Finding]:
    """One finding for each film, the one fetched last, in the order of the keys."""
    newest: dict[str, Finding] = {}
    for finding in findings:
        known = newest.get(finding.movie_id)
        if known is None or known.fetched_at < finding.fetched_at:
            newest[finding.movie_id] = finding
    return [newest[movie_id] for movie_id in sorted(newest)]


def record_of(movie: Movie) -> SourceRecord:
    """The film that TMDB's API gave, as a record."""
    fields: dict[str, Any] = movie.model_dump(mode="json", exclude=_DERIVED, exclude_defaults=True)
    if "vote_count" not in fields:
        # An average of no votes says nothing.
        fields.pop("vote_average", None)
    return SourceRecord(
        source=Source.TMDB,
        key=movie.movie_id,
        links=(f"imdb-{movie.imdb_id}",) if movie.imdb_id else (),
        fields=fields,
    )
