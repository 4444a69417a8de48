"""Keeps what TMDB said of films, and tells others what has changed by it."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, Final

from moviemetric_contracts import (
    Event,
    Message,
    Movie,
    MovieRemoved,
    MovieUpserted,
    movie_id_from_tmdb,
    tmdb_id_of,
)
from service_kit import UnitOfWork
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest_service import listing
from ingest_service.bulk_run import Failure, Stored
from ingest_service.catalogue import Finding, RawDocument, newest_of_each, record_of
from ingest_service.ledger import Effect, keys_of
from ingest_service.merging import known_since
from ingest_service.records import Rejection
from ingest_service.rejects import add_rejects
from ingest_service.repository import Change, keep_source_documents, open_ledger, save
from ingest_service.tmdb_client import TmdbDocument, TmdbNotFound
from ingest_service.tmdb_movie import movie_from_tmdb

UNKNOWN_TO_TMDB: Final = "TMDB does not know it"


def fact_of(change: Change) -> Message:
    """The event that tells of a change."""
    film = change.film
    if change.removed_reason is not None:
        return MovieRemoved(
            movie_id=film.movie_id, reason=change.removed_reason, revision=change.revision
        )
    movie = Movie.model_validate({**film.content(), "fetched_at": known_since(film.records)})
    return MovieUpserted(movie=movie, revision=change.revision)


def finding_of(answer: TmdbDocument | TmdbNotFound) -> Finding:
    """What TMDB's answer says of the film. Raises MovieDocumentError for what is no film."""
    movie_id = movie_id_from_tmdb(answer.tmdb_id)
    if isinstance(answer, TmdbNotFound):
        return Finding(
            movie_id=movie_id, fetched_at=answer.fetched_at, removed_reason=UNKNOWN_TO_TMDB
        )
    return Finding(
        movie_id=movie_id,
        fetched_at=answer.fetched_at,
        movie=movie_from_tmdb(answer.body, tmdb_id=answer.tmdb_id, fetched_at=answer.fetched_at),
        raw=RawDocument.from_tmdb(answer),
    )


async def store_findings(
    work: UnitOfWork,
    findings: Sequence[Finding],
    *,
    cause_of: Callable[[str], Event[Any] | None] = lambda _: None,
) -> Stored:
    """Store what TMDB said; a finding that is older than what is known changes nothing.

    Args:
        cause_of: for a film's key the event that led to it being asked for.
    """
    newest = newest_of_each(findings)
    records = {f.movie_id: record_of(f.movie) for f in newest if f.movie is not None}
    keys = keys_of(records.values()) | {finding.movie_id for finding in newest}
    ledger = await open_ledger(work.connection, keys)
    effects: list[Effect] = []
    removed = 0
    raw: list[RawDocument] = []
    for finding in newest:
        if not ledger.fetched(finding.movie_id, finding.fetched_at):
            effects.append(Effect.UNCHANGED)
        elif finding.removed_reason is not None:
            ledger.remove(finding.movie_id, finding.removed_reason, finding.fetched_at)
            removed += 1
        else:
            effects.append(ledger.apply(records[finding.movie_id], finding.fetched_at))
            if finding.raw is not None:
                raw.append(finding.raw)
    changes = await save(work.connection, ledger, work.now)
    await keep_source_documents(work.connection, raw)
    for change in changes:
        work.emit(fact_of(change), cause=cause_of(change.movie_id))
    return Stored(
        new=effects.count(Effect.NEW),
        changed=effects.count(Effect.CHANGED),
        unchanged=len(effects) - effects.count(Effect.NEW) - effects.count(Effect.CHANGED),
        removed=removed,
    )


class TmdbCatalogue:
    """The catalogue as a bulk run sees it."""

    def finding_of(self, answer: TmdbDocument | TmdbNotFound) -> Finding:
        return finding_of(answer)

    async def store_findings(self, work: UnitOfWork, findings: Sequence[Finding]) -> Stored:
        return await store_findings(work, findings)

    async def fresh_ids(
        self, connection: AsyncConnection, tmdb_ids: Collection[int], since: datetime
    ) -> set[int]:
        keys = [movie_id_from_tmdb(tmdb_id) for tmdb_id in tmdb_ids]
        return _tmdb_ids(await listing.fetched_since(connection, keys, since))

    async def known_ids(self, connection: AsyncConnection, tmdb_ids: Collection[int]) -> set[int]:
        keys = [movie_id_from_tmdb(tmdb_id) for tmdb_id in tmdb_ids]
        return _tmdb_ids(await listing.stored_films(connection, keys))

    async def reject(self, work: UnitOfWork, job_id: str, failures: Sequence[Failure]) -> None:
        rejections = [
            Rejection(line, None, failure.reason, (failure.item,))
            for line, failure in enumerate(failures)
        ]
        await add_rejects(work.connection, job_id, rejections)


def _tmdb_ids(keys: Collection[str]) -> set[int]:
    return {number for key in keys if (number := tmdb_id_of(key)) is not None}
