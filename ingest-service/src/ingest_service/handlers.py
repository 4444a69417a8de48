"""What the ingest-service does with each command.

`Intake.fetch` asks TMDB before the transaction; `store` keeps a batch of what it found in one. Two
fetches of a film may be stored in any order, by any replica: the later fetch wins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from moviemetric_contracts import (
    CancelJob,
    Event,
    ImportCatalog,
    IngestCatalog,
    RefreshMovie,
    RegisterMovie,
    RetryJob,
    movie_id_from_tmdb,
)
from service_kit import Database, Outage, Park, RetryLater, UnitOfWork
from service_kit.jobs import enqueue, request_cancel

from ingest_service import listing
from ingest_service.catalogue import Finding
from ingest_service.storing import finding_of, store_findings
from ingest_service.tmdb_client import (
    ApiKeyError,
    TmdbAnswerError,
    TmdbClient,
    TmdbCoolDownError,
    TmdbUnavailableError,
    TmdbUnreachableError,
)
from ingest_service.tmdb_movie import MovieDocumentError


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
            return Fetched(event=event, finding=finding_of(answer))
        except (ApiKeyError, TmdbCoolDownError, TmdbUnreachableError) as error:
            raise Outage("TMDB", str(error), retry_after=error.retry_after) from None
        except (TmdbUnavailableError, TmdbAnswerError, MovieDocumentError) as error:
            raise RetryLater(str(error)) from None

    async def _is_fresh(self, movie_id: str) -> bool:
        async with self._database.reading() as connection:
            since = datetime.now(UTC) - self._fresh_for
            return bool(await listing.fetched_since(connection, [movie_id], since))


async def store(batch: Sequence[Fetched], work: UnitOfWork) -> None:
    """Keep what was fetched; whatever changed by it is told to everybody."""
    cause = {item.finding.movie_id: item.event for item in batch if item.finding is not None}
    findings = [item.finding for item in batch if item.finding is not None]
    if findings:
        await store_findings(work, findings, cause_of=cause.get)


KINDS: Final = ("import", "ingest")


async def take_job_commands(events: Sequence[Event[Any]], work: UnitOfWork) -> None:
    """Jobs are written down for the runner, or asked to stop."""
    for event in events:
        match event.data:
            case IngestCatalog() | ImportCatalog() as command:
                kind = "ingest" if isinstance(command, IngestCatalog) else "import"
                request = command.model_dump(mode="json", exclude={"job_id"}, exclude_none=True)
                await enqueue(work, job_id=command.job_id, kind=kind, request=request, cause=event)
            case RetryJob(job_id=job_id, retry_of=retry_of):
                await enqueue(
                    work, job_id=job_id, kind="import", request={"retry_of": retry_of}, cause=event
                )
            case CancelJob(job_id=job_id):
                # Other services have jobs too, and get the command as well.
                if job_id.partition("-")[0] in KINDS:
                    await request_cancel(work, job_id, cause=event)
            case _:
                msg = f"{event.type} is no command about a job"
                raise Park(msg)
