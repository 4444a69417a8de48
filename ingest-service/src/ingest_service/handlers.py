"""What the ingest-service does with each command.

`Intake.fetch` asks TMDB before the transaction; `store` keeps a batch of what it found in one. Two
fetches of a film may be stored in any order, by any replica: the later fetch wins.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from moviemetric_contracts import (
    Event,
    MovieRemoved,
    MovieUpserted,
    RefreshMovie,
    RegisterMovie,
    movie_id_from_tmdb,
)
from service_kit import Database, Outage, Park, RetryLater, UnitOfWork

from ingest_service import repository
from ingest_service.catalogue import Finding, RawDocument, newest_of_each
from ingest_service.tmdb_client import (
    ApiKeyError,
    TmdbAnswerError,
    TmdbClient,
    TmdbCoolDownError,
    TmdbDocument,
    TmdbNotFound,
    TmdbUnavailableError,
    TmdbUnreachableError,
)
from ingest_service.tmdb_movie import MovieDocumentError, movie_from_tmdb

_log = logging.getLogger(__name__)

_UNKNOWN_TO_TMDB: Final = "TMDB does not know it"


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A command and what its fetch found; None: the film was fetched not long ago."""

    event: Event[Any]
    finding: Finding | None


class Intake:
    """Fetches the film that a command names.

    Args:
        fresh_for: a film fetched less than this ago is not fetched again to be registered.
    """

    def __init__(self, client: TmdbClient, database: Database, *, fresh_for: timedelta) -> None:
        self._client = client
        self._database = database
        self._fresh_for = fresh_for

    async def fetch(self, event: Event[Any]) -> Fetched:
        """Ask TMDB.

        Raises:
            Outage: no valid key, TMDB wants a rest or cannot be reached; the intake pauses.
            RetryLater: TMDB did not answer, or nothing that is the film.
        """
        match event.data:
            case RegisterMovie(tmdb_id=tmdb_id):
                if await self._is_fresh(movie_id_from_tmdb(tmdb_id)):
                    return Fetched(event=event, finding=None)
            case RefreshMovie(tmdb_id=tmdb_id):
                pass
            case _:
                msg = f"{event.type} names no film to fetch"
                raise Park(msg)
        try:
            answer = await self._client.fetch_movie(tmdb_id)
            return Fetched(event=event, finding=_finding(answer))
        except (ApiKeyError, TmdbCoolDownError, TmdbUnreachableError) as error:
            raise Outage("TMDB", str(error), retry_after=error.retry_after) from None
        except (TmdbUnavailableError, TmdbAnswerError, MovieDocumentError) as error:
            raise RetryLater(str(error)) from None

    async def _is_fresh(self, movie_id: str) -> bool:
        async with self._database.reading() as connection:
            since = datetime.now(UTC) - self._fresh_for
            return await repository.fetched_since(connection, movie_id, since)


def _finding(answer: TmdbDocument | TmdbNotFound) -> Finding:
    movie_id = movie_id_from_tmdb(answer.tmdb_id)
    if isinstance(answer, TmdbNotFound):
        return Finding(
            movie_id=movie_id, fetched_at=answer.fetched_at, removed_reason=_UNKNOWN_TO_TMDB
        )
    return Finding(
        movie_id=movie_id,
        fetched_at=answer.fetched_at,
        movie=movie_from_tmdb(answer.body, tmdb_id=answer.tmdb_id, fetched_at=answer.fetched_at),
        raw=RawDocument.from_tmdb(answer),
    )


async def store(batch: Sequence[Fetched], work: UnitOfWork) -> None:
    """Keep what was fetched; whatever changed by it is told to everybody."""
    cause = {id(item.finding): item.event for item in batch}
    findings = newest_of_each([item.finding for item in batch if item.finding is not None])
    if not findings:
        return
    for change in await repository.keep_newer(work.connection, findings):
        finding = change.finding
        if finding.movie is not None:
            fact = MovieUpserted(movie=finding.movie, revision=change.revision)
        else:
            fact = MovieRemoved(
                movie_id=finding.movie_id,
                reason=finding.removed_reason or _UNKNOWN_TO_TMDB,
                revision=change.revision,
            )
        work.emit(fact, cause=cause[id(finding)])
        _log.info(
            "film changed",
            extra={
                "movie_id": finding.movie_id,
                "revision": change.revision,
                "removed": finding.movie is None,
            },
        )
