"""All SQL of the schedules."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from compute_service.scheduling.planning import Cron, Progress

_COLUMNS: Final = "name, cron, done_until, last_due, published_at, event_id, job_id"
_READ: Final = text(f"SELECT {_COLUMNS} FROM schedules")  # noqa: S608 -- made of constants
# A leader that stands still within its transaction must not hold up its successor for a minute.
_HURRY: Final = text("SELECT set_config('idle_in_transaction_session_timeout', '3000', true)")
_BEGIN: Final = text("""
    INSERT INTO schedules (name, cron, done_until) VALUES (:name, :cron, :done_until)
    ON CONFLICT DO NOTHING
""")
# In the order of the names, so that two leaders cannot deadlock.
_LOCK: Final = text(f"""
    SELECT {_COLUMNS} FROM schedules WHERE name = ANY(CAST(:names AS text[]))
    ORDER BY name FOR UPDATE
""")  # noqa: S608 -- made of constants
_MOVE: Final = text("""
    UPDATE schedules SET cron = :cron, done_until = :done_until WHERE name = :name
""")
_RECORD: Final = text("""
    UPDATE schedules
    SET last_due = :due, published_at = clock_timestamp(), event_id = :event_id, job_id = :job_id
    WHERE name = :name
""")


@dataclass(frozen=True, slots=True)
class Publication:
    """The command that a schedule led to last; `due` is when it should have been published."""

    due: datetime
    published_at: datetime
    event_id: str
    job_id: str


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored of a schedule."""

    progress: Progress
    last: Publication | None


async def read_all(connection: AsyncConnection) -> dict[str, Stored]:
    """Every schedule that a leader has ever seen, by name."""
    return {row.name: _stored(row) for row in await connection.execute(_READ)}


async def lock_known(connection: AsyncConnection, names: Collection[str]) -> dict[str, Stored]:
    """Those of the schedules that are stored, locked until the end of the transaction."""
    await connection.execute(_HURRY)
    rows = await connection.execute(_LOCK, {"names": sorted(names)})
    return {row.name: _stored(row) for row in rows}


async def begin_unless_known(connection: AsyncConnection, name: str, progress: Progress) -> None:
    """Store a schedule that is not stored; changes nothing if another leader was first."""
    await connection.execute(_BEGIN, _progress(name, progress))


async def move_locked(connection: AsyncConnection, name: str, progress: Progress) -> None:
    """Move a locked schedule on."""
    await connection.execute(_MOVE, _progress(name, progress))


async def record_publication(
    connection: AsyncConnection, name: str, *, due: datetime, event_id: str, job_id: str
) -> None:
    """Note the command that goes out with this transaction."""
    await connection.execute(
        _RECORD, {"name": name, "due": due, "event_id": event_id, "job_id": job_id}
    )


def _progress(name: str, progress: Progress) -> dict[str, Any]:
    cron = None if progress.cron is None else progress.cron.expression
    return {"name": name, "cron": cron, "done_until": progress.done_until}


def _stored(row: Row[Any]) -> Stored:
    cron = None if row.cron is None else Cron(row.cron)
    last = None
    if row.last_due is not None:
        last = Publication(row.last_due, row.published_at, row.event_id, row.job_id)
    return Stored(Progress(cron, row.done_until), last)
