"""What a fetch found out about a film, and what the catalogue says of one. Values, no I/O."""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from moviemetric_contracts import Movie

from ingest_service.tmdb_client import TmdbDocument


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


def newest_of_each(findings: "list[Finding]") -> "list[Finding]":
    """One finding for each film, the one fetched last, in the order of the keys."""
    newest: dict[str, Finding] = {}
    for finding in findings:
        known = newest.get(finding.movie_id)
        if known is None or known.fetched_at < finding.fetched_at:
            newest[finding.movie_id] = finding
    return [newest[movie_id] for movie_id in sorted(newest)]
