"""The films that bulk runs still have to fetch: all SQL of the table `ingest_queue`.

A film stands in a job's queue once, and leaves it in the transaction that stores it. `position` is
the order; a film that failed goes to the back with one more of `attempts`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_ADD: Final = text("""
    INSERT INTO ingest_queue (job_id, tmdb_id, position)
    SELECT CAST(:job_id AS text), tmdb_id, number + (
        SELECT coalesce(max(position), 0) FROM ingest_queue WHERE job_id = :job_id)
    FROM unnest(CAST(:tmdb_ids AS integer[])) WITH ORDINALITY AS wanted (tmdb_id, number)
    ORDER BY number
    ON CONFLICT (job_id, tmdb_id) DO NOTHING
""")
_ALL: Final = text("SELECT tmdb_id FROM ingest_queue WHERE job_id = :job_id ORDER BY position")
_NEXT: Final = text("""
    SELECT tmdb_id, position, attempts FROM ingest_queue
    WHERE job_id = :job_id AND position > :position ORDER BY position LIMIT :limit
""")
_DROP: Final = text("""
    DELETE FROM ingest_queue
    WHERE job_id = :job_id AND tmdb_id = ANY(CAST(:tmdb_ids AS integer[]))
""")
_POSTPONE: Final = text("""
    UPDATE ingest_queue AS queue SET
        attempts = queue.attempts + 1,
        position = failed.number + (
            SELECT greatest(max(position), :behind) FROM ingest_queue WHERE job_id = :job_id)
    FROM unnest(CAST(:tmdb_ids AS integer[])) WITH ORDINALITY AS failed (tmdb_id, number)
    WHERE queue.job_id = :job_id AND queue.tmdb_id = failed.tmdb_id
""")
# A job that was cancelled or failed has no step any more in which to clear up.
_DROP_ENDED: Final = text("""
    DELETE FROM ingest_queue AS queue USING jobs
    WHERE jobs.job_id = queue.job_id AND jobs.state IN ('succeeded', 'failed', 'cancelled')
""")


@dataclass(frozen=True, slots=True)
class Queued:
    """A film to fetch; `attempts` is how often that has failed."""

    tmdb_id: int
    position: int
    attempts: int


async def add(connection: AsyncConnection, job_id: str, tmdb_ids: Sequence[int]) -> None:
    """Put films at the back; those that stand in the queue already stay where they are."""
    await connection.execute(_ADD, {"job_id": job_id, "tmdb_ids": list(tmdb_ids)})


async def all_films(connection: AsyncConnection, job_id: str) -> list[int]:
    """Every film of the queue, in order."""
    return list((await connection.execute(_ALL, {"job_id": job_id})).scalars())


async def films_after(
    connection: AsyncConnection, job_id: str, position: int, *, limit: int
) -> list[Queued]:
    """The next films behind a position."""
    rows = await connection.execute(_NEXT, {"job_id": job_id, "position": position, "limit": limit})
    return [Queued(row.tmdb_id, row.position, row.attempts) for row in rows]


async def drop(connection: AsyncConnection, job_id: str, tmdb_ids: Collection[int]) -> None:
    """These are dealt with."""
    if tmdb_ids:
        await connection.execute(_DROP, {"job_id": job_id, "tmdb_ids": list(tmdb_ids)})


async def postpone(
    connection: AsyncConnection, job_id: str, tmdb_ids: Collection[int], *, behind: int
) -> None:
    """These failed: to the back, with one more attempt counted.

    Args:
        behind: a position that they must come after, though the films there may be gone.
    """
    if tmdb_ids:
        await connection.execute(
            _POSTPONE, {"job_id": job_id, "tmdb_ids": list(tmdb_ids), "behind": behind}
        )


async def drop_queues_of_ended_jobs(connection: AsyncConnection) -> None:
    """What cancelled and failed jobs have left behind."""
    await connection.execute(_DROP_ENDED)
