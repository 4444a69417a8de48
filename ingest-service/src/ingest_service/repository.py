"""All SQL that changes films, on a connection whose transaction the caller commits.

    ledger = await open_ledger(connection, keys)        -- locks the films and keys
    … ledger.apply(record, at) …
    changes = await save(connection, ledger, now)

Replicas that work on the same films wait for each other. Two that create the same film, or claim
the same key, at the same time conflict, and the runtime repeats the later one.
"""

from collections.abc import Collection, Iterable, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

import orjson
from service_kit.database import copy_block, unique_as_conflict
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest_service.catalogue import RawDocument
from ingest_service.film_rows import COLUMNS, line_of, line_of_new
from ingest_service.ledger import Film, Ledger, slot_number
from ingest_service.merging import Kept, slot
from ingest_service.records import SourceRecord

NAMELESS: Final = "no source names it"
"""Why a film is not there whose sources have no title for it any more."""

_LOCK_KEYS: Final = text("""
    SELECT key, movie_id FROM film_keys WHERE key = ANY(CAST(:keys AS text[]))
    ORDER BY key FOR UPDATE
""")
_LOCK_KEYS_OF_FILMS: Final = text("""
    SELECT key, movie_id FROM film_keys WHERE movie_id = ANY(CAST(:movie_ids AS text[]))
    ORDER BY key FOR UPDATE
""")
_LOCK_FILMS: Final = text("""
    SELECT movie_id, revision, updated_at, fetched_at, removed_at, removed_reason, aliases, records
    FROM movies WHERE movie_id = ANY(string_to_array(:movie_ids, ' '))
    ORDER BY movie_id FOR UPDATE
""")
_UNCHANGED: Final = text("""
    SELECT slot FROM import_unchanged
    WHERE job_id = :job_id AND slot = ANY(CAST(:slots AS bigint[]))
""")
_ADD_UNCHANGED: Final = text("""
    INSERT INTO import_unchanged (job_id, slot)
    SELECT :job_id, slot FROM unnest(CAST(:slots AS bigint[])) AS new (slot)
    ON CONFLICT DO NOTHING
""")
_FORGET_UNCHANGED: Final = text("DELETE FROM import_unchanged WHERE job_id = :job_id")
_DELETE_FILMS: Final = text("DELETE FROM movies WHERE movie_id = ANY(CAST(:movie_ids AS text[]))")
_ADD_KEYS: Final = text("""
    INSERT INTO film_keys (key, movie_id)
    SELECT key, movie_id FROM unnest(CAST(:keys AS text[]), CAST(:movie_ids AS text[]))
         AS new (key, movie_id)
    ORDER BY key
""")
_MOVE_KEYS: Final = text("""
    UPDATE film_keys SET movie_id = new.movie_id
    FROM unnest(CAST(:keys AS text[]), CAST(:movie_ids AS text[])) AS new (key, movie_id)
    WHERE film_keys.key = new.key
""")

_STAGE: Final = text(f"""
    CREATE TEMPORARY TABLE IF NOT EXISTS staged_movies ON COMMIT DELETE ROWS
    AS SELECT {", ".join(COLUMNS)} FROM movies WITH NO DATA
""")  # noqa: S608 -- the names stand above
_UPDATE_FROM_STAGE: Final = text(f"""
    UPDATE movies SET {", ".join(f"{name} = staged.{name}" for name in COLUMNS[1:])}
    FROM staged_movies AS staged WHERE movies.movie_id = staged.movie_id
""")  # noqa: S608 -- the names stand above

_EMPTY_STAGE: Final = text("DELETE FROM staged_movies")

# Only for films of which something newer was just stored: their rows are locked by then.
_KEEP_SOURCE_DOCUMENTS: Final = text("""
    INSERT INTO source_documents AS kept (source, source_id, body, sha256, etag, fetched_at)
    SELECT source, source_id, body, sha256, etag, fetched_at
    FROM unnest(CAST(:sources AS text[]), CAST(:source_ids AS text[]), CAST(:bodies AS text[]),
                CAST(:sha256s AS text[]), CAST(:etags AS text[]),
                CAST(:fetched_ats AS timestamptz[]))
         AS sent (source, source_id, body, sha256, etag, fetched_at)
    ORDER BY source, source_id
    ON CONFLICT (source, source_id) DO UPDATE SET
        body = CASE WHEN kept.sha256 = excluded.sha256 THEN kept.body ELSE excluded.body END,
        sha256 = excluded.sha256, etag = excluded.etag, fetched_at = excluded.fetched_at
""")


@dataclass(frozen=True, slots=True)
class Change:
    """A film that others see differently now.

    Attributes:
        removed_reason: why it has left the catalogue; None for one that is present.
    """

    film: Film
    revision: int
    removed_reason: str | None = None

    @property
    def movie_id(self) -> str:
        """The film's key."""
        return self.film.movie_id


async def open_ledger(
    connection: AsyncConnection,
    keys: Collection[str],
    *,
    job_id: str | None = None,
    unchanged: Set[int] = frozenset(),
    retried: Collection[str] = (),
) -> Ledger:
    """The films that `keys` stand for, locked until the transaction ends.

    Args:
        job_id, unchanged, retried: see `Ledger`.
    """
    stands_for: dict[str, str] = {}
    # A `title-` key is never linked to anything, so it always stands for itself.
    linkable = sorted(key for key in keys if not key.startswith("title-"))
    if linkable:
        for row in await connection.execute(_LOCK_KEYS, {"keys": linkable}):
            stands_for[row.key] = row.movie_id
        films = sorted({stands_for.get(key, key) for key in linkable})
        for row in await connection.execute(_LOCK_KEYS_OF_FILMS, {"movie_ids": films}):
            stands_for[row.key] = row.movie_id
    # No key holds a blank; joined ones are bound much faster than an array of thousands.
    wanted = " ".join({*keys, *stands_for.values()})
    rows = await connection.execute(_LOCK_FILMS, {"movie_ids": wanted})
    return Ledger(
        [
            Film(
                row.movie_id,
                records=decode_records(row.records),
                aliases=set(row.aliases),
                revision=row.revision,
                updated_at=row.updated_at,
                fetched_at=row.fetched_at,
                removed_at=row.removed_at,
                removed_reason=row.removed_reason,
                stored=True,
            )
            for row in rows
        ],
        stands_for,
        job_id=job_id,
        unchanged=unchanged,
        retried=retried,
    )


async def found_unchanged(
    connection: AsyncConnection, job_id: str, records: Iterable[SourceRecord]
) -> set[int]:
    """Which of these records earlier steps of the import have found to be as they were."""
    slots = [slot_number(slot(record.source, record.key)) for record in records]
    rows = await connection.execute(_UNCHANGED, {"job_id": job_id, "slots": slots})
    return set(rows.scalars())


async def remember_unchanged(
    connection: AsyncConnection, job_id: str, slots: Collection[int]
) -> None:
    """Part of the step that found them so: films that are not written do not tell it."""
    if slots:
        await connection.execute(_ADD_UNCHANGED, {"job_id": job_id, "slots": sorted(slots)})


async def forget_unchanged(connection: AsyncConnection, job_id: str) -> None:
    """The import has ended."""
    await connection.execute(_FORGET_UNCHANGED, {"job_id": job_id})


async def save(
    connection: AsyncConnection,
    ledger: Ledger,
    now: datetime,
) -> list[Change]:
    """Write what has changed in the ledger; what others have to be told.

    The revision of a film grows by one exactly when others see a change. The films in
    `ledger.fresh` are all new to them and not among the changes.

    Raises:
        Conflict: another transaction created one of the films or claimed one of the keys.
    """
    changes: list[Change] = []
    # Only an import has fresh films.
    job_id = ledger.job_id or ""
    new = [line_of_new(record, at, job_id, now) for _, (record, at) in sorted(ledger.fresh.items())]
    altered: list[str] = []
    for film in sorted(ledger.films.values(), key=lambda film: film.movie_id):
        if not film.touched:
            continue
        is_news = film.is_news()
        if is_news or not film.stored:
            film.revision += 1
            film.updated_at = now
        if is_news:
            reason = None if film.present else film.removed_reason or NAMELESS
            changes.append(Change(film, film.revision, reason))
        (altered if film.stored else new).append(line_of(film))
    changes.extend(
        Change(gone.film, gone.film.revision + 1, f"is {gone.into} now")
        for gone in ledger.gone
        if gone.film.before is not None
    )
    await _write_keys(connection, ledger)
    if ledger.gone:
        ids = [gone.film.movie_id for gone in ledger.gone]
        await connection.execute(_DELETE_FILMS, {"movie_ids": ids})
    if new:
        await copy_block(connection, "movies", columns=COLUMNS, block="".join(new).encode())
    if altered:
        await connection.execute(_STAGE)
        await copy_block(
            connection, "staged_movies", columns=COLUMNS, block="".join(altered).encode()
        )
        await connection.execute(_UPDATE_FROM_STAGE)
        await connection.execute(_EMPTY_STAGE)
    return changes


async def add_unseen(connection: AsyncConnection, block: bytes) -> None:
    """Write films of which nothing is known yet, all as lines of COPY (see `film_rows`).

    Raises:
        Conflict: one of them is known.
    """
    await copy_block(connection, "movies", columns=COLUMNS, block=block)


async def keep_source_documents(
    connection: AsyncConnection, documents: Sequence[RawDocument]
) -> None:
    """Keep bodies as they were received; for each film the newest."""
    if not documents:
        return
    await connection.execute(
        _KEEP_SOURCE_DOCUMENTS,
        {
            "sources": [document.source for document in documents],
            "source_ids": [document.source_id for document in documents],
            "bodies": [document.body for document in documents],
            "sha256s": [document.sha256 for document in documents],
            "etags": [document.etag for document in documents],
            "fetched_ats": [document.fetched_at for document in documents],
        },
    )


def decode_records(text: str) -> dict[str, Kept]:
    """The column `records`, read."""
    return {
        name: Kept(
            at=datetime.fromisoformat(kept["at"]),
            fields=kept["fields"],
            job_id=kept.get("job"),
            repeated=kept.get("repeated", False),
        )
        for name, kept in cast("dict[str, dict[str, Any]]", orjson.loads(text)).items()
    }


async def _write_keys(connection: AsyncConnection, ledger: Ledger) -> None:
    if not ledger.changed_keys:
        return
    for statement, keys in (
        (_ADD_KEYS, sorted(ledger.changed_keys.keys() - ledger.stored_keys)),
        (_MOVE_KEYS, sorted(ledger.changed_keys.keys() & ledger.stored_keys)),
    ):
        if keys:
            films = [ledger.changed_keys[key] for key in keys]
            with unique_as_conflict():
                await connection.execute(statement, {"keys": keys, "movie_ids": films})
