"""All SQL of jobs. The table is made by `service_kit.migrations.create_job_table`."""

# ruff: noqa: S608 -- the statements are made of constants; values are bound

import json
from collections.abc import Mapping
from typing import Any, Final

from moviemetric_contracts import Event
from moviemetric_contracts.messages import JobState
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service_kit.jobs.model import Job, JobCancelled, JobLost
from service_kit.outcomes import RetryLater
from service_kit.session_locks import lock_keys
from service_kit.store import UnitOfWork

MAX_ERROR: Final = 1000

_COLUMNS: Final = """
    job_id, kind, state, request, checkpoint, result, done, total, rejected, error, attempt,
    attempt_started_at, attempt_started_done, created_at, started_at, finished_at, updated_at,
    clock_timestamp() AS as_of
"""
_ALL_COLUMNS: Final = f"""{_COLUMNS},
    idle_claims, cancel_requested, correlation_id, causation_id, traceparent
"""
LOCK_SPACE: Final = "jobs"
_LOCK_KEYS: Final = lock_keys(f"'{LOCK_SPACE}'", "job_id")

_ENQUEUE = text(f"""
    INSERT INTO jobs (job_id, kind, request, correlation_id, causation_id, traceparent)
    VALUES (:job_id, :kind, CAST(:request AS jsonb), :correlation_id, :causation_id, :traceparent)
    ON CONFLICT DO NOTHING
    RETURNING {_COLUMNS}
""")
_CANCEL = text(f"""
    UPDATE jobs SET
        cancel_requested = true,
        state = CASE WHEN state = 'queued' THEN 'cancelled' ELSE state END,
        finished_at = CASE WHEN state = 'queued' THEN clock_timestamp() END,
        updated_at = clock_timestamp()
    WHERE job_id = :job_id AND state IN ('queued', 'running') AND NOT cancel_requested
    RETURNING {_COLUMNS}
""")
_STATE = text("SELECT state FROM jobs WHERE job_id = :job_id")
_LOAD = text(f"SELECT {_COLUMNS} FROM jobs WHERE job_id = :job_id")
_FILTER: Final = """
    (CAST(:kind AS text) IS NULL OR kind = :kind)
    AND (CAST(:state AS text) IS NULL OR state = :state)
"""
_COUNT = text(f"SELECT count(*) FROM jobs WHERE {_FILTER}")
_LIST = text(f"""
    SELECT {_COLUMNS} FROM jobs WHERE {_FILTER}
    ORDER BY created_at DESC, job_id DESC LIMIT :limit OFFSET :offset
""")
_UNOWNED = text(f"""
    SELECT job_id
    FROM jobs CROSS JOIN LATERAL (SELECT {_LOCK_KEYS}) AS lock (class, object)
    WHERE state IN ('queued', 'running')
      AND kind = ANY(CAST(:kinds AS text[]))
      AND job_id <> ALL(CAST(:except AS text[]))
      AND NOT EXISTS (
          SELECT FROM pg_locks
          WHERE locktype = 'advisory' AND objsubid = 2
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND classid = CAST(lock.class AS oid) AND objid = CAST(lock.object AS oid)
      )
    ORDER BY created_at, job_id LIMIT :limit
""")
_LOCK_ROW = text(f"""
    SELECT {_ALL_COLUMNS} FROM jobs
    WHERE job_id = :job_id AND state IN ('queued', 'running')
    FOR UPDATE
""")
_CLAIM = text(f"""
    UPDATE jobs SET
        state = 'running', attempt = attempt + 1, error = NULL,
        idle_claims = idle_claims + :counted,
        attempt_started_at = clock_timestamp(), attempt_started_done = done,
        started_at = coalesce(started_at, clock_timestamp()), updated_at = clock_timestamp()
    WHERE job_id = :job_id
    RETURNING {_ALL_COLUMNS}
""")
_HAND_BACK = text("""
    UPDATE jobs SET idle_claims = greatest(idle_claims - 1, 0)
    WHERE job_id = :job_id AND attempt = :attempt AND state = 'running'
""")
_OWNED = text(f"""
    SELECT {_ALL_COLUMNS} FROM jobs
    WHERE job_id = :job_id AND attempt = :attempt AND state = 'running'
""")
# A step makes headway when it counts further or moves the checkpoint.
_ADVANCE = text(f"""
    UPDATE jobs SET
        idle_claims = CASE
            WHEN CAST(:done AS bigint) > done THEN 0
            WHEN CAST(:checkpoint AS jsonb) <> checkpoint THEN 0
            ELSE idle_claims
        END,
        done = coalesce(CAST(:done AS bigint), done),
        total = coalesce(CAST(:total AS bigint), total),
        rejected = coalesce(CAST(:rejected AS bigint), rejected),
        checkpoint = coalesce(CAST(:checkpoint AS jsonb), checkpoint),
        result = coalesce(CAST(:result AS jsonb), result),
        error = :note,
        updated_at = clock_timestamp()
    WHERE job_id = :job_id AND attempt = :attempt AND state = 'running' AND NOT cancel_requested
    RETURNING {_COLUMNS}
""")
_NOTE = text(f"""
    UPDATE jobs SET
        error = :note, failures = failures + :failures, updated_at = clock_timestamp()
    WHERE job_id = :job_id AND attempt = :attempt AND state = 'running'
    RETURNING {_COLUMNS}, failures
""")
_FINISH = text(f"""
    UPDATE jobs SET
        state = :state, error = :error,
        finished_at = clock_timestamp(), updated_at = clock_timestamp()
    WHERE job_id = :job_id AND attempt = :attempt AND state IN ('queued', 'running')
    RETURNING {_COLUMNS}
""")


def readable(message: str) -> str:
    """A message cut to length, without what no text column can hold."""
    text = message.replace("\x00", "\\x00").encode(errors="backslashreplace").decode()
    return text if len(text) <= MAX_ERROR else f"{text[:MAX_ERROR]}…"


def to_job(row: RowMapping) -> Job:
    """The job of a row with `_COLUMNS`."""
    return Job(**{name: row[name] for name in Job.__dataclass_fields__})


def cause_of(row: RowMapping) -> Event[Any] | None:
    """What stands for the command in the follow-on events of the job."""
    if row["causation_id"] is None:
        return None
    return Event[Any].model_construct(
        id=row["causation_id"],
        correlationid=row["correlation_id"],
        traceparent=row["traceparent"],
    )


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value)


async def enqueue(
    work: UnitOfWork,
    *,
    job_id: str,
    kind: str,
    request: Mapping[str, Any],
    cause: Event[Any] | None,
) -> None:
    """Write a job down for a runner to take; nothing happens when the id is known already.

    Args:
        request: what to do, as JSON.
        cause: the command that asked for it.
    """
    rows = await work.connection.execute(
        _ENQUEUE,
        {
            "job_id": job_id,
            "kind": kind,
            "request": _json(request),
            "correlation_id": (cause.correlationid or cause.id) if cause else None,
            "causation_id": cause.id if cause else None,
            "traceparent": cause.traceparent if cause else None,
        },
    )
    row = rows.mappings().one_or_none()
    if row is not None:
        work.emit(to_job(row).changed(), cause=cause)


async def request_cancel(work: UnitOfWork, job_id: str, *, cause: Event[Any] | None) -> bool:
    """End a queued job at once, a running one at its next step.

    Answers whether that changed anything: not so for a job that has finished or was asked before.

    Raises:
        RetryLater: no such job; its own command may still be on the way.
    """
    rows = await work.connection.execute(_CANCEL, {"job_id": job_id})
    row = rows.mappings().one_or_none()
    if row is None:
        known = await work.connection.execute(_STATE, {"job_id": job_id})
        if known.one_or_none() is None:
            reason = f"no job {job_id} is known here yet"
            raise RetryLater(reason)
        return False
    job = to_job(row)
    if job.state == "cancelled":
        work.emit(job.changed(), cause=cause)
    return True


async def load_job(connection: AsyncConnection, job_id: str) -> Job | None:
    """The job with this id."""
    rows = await connection.execute(_LOAD, {"job_id": job_id})
    row = rows.mappings().one_or_none()
    return None if row is None else to_job(row)


async def list_jobs(
    connection: AsyncConnection,
    *,
    kind: str | None = None,
    state: JobState | None = None,
    limit: int = 20,
    offset: int = 0,
) -> tuple[list[Job], int]:
    """Jobs, newest first, and how many there are in all."""
    chosen = {"kind": kind, "state": state}
    total = (await connection.execute(_COUNT, chosen)).scalar_one()
    rows = await connection.execute(_LIST, {**chosen, "limit": limit, "offset": offset})
    return [to_job(row) for row in rows.mappings()], total


async def unowned(
    connection: AsyncConnection, *, kinds: list[str], but_not: list[str], limit: int
) -> list[str]:
    """Ids of jobs that wait for a runner, oldest first: queued, or left behind by theirs."""
    rows = await connection.execute(_UNOWNED, {"kinds": kinds, "except": but_not, "limit": limit})
    return list(rows.scalars())


async def lock_unfinished(connection: AsyncConnection, job_id: str) -> RowMapping | None:
    """The row, locked, of a job that is queued or running."""
    rows = await connection.execute(_LOCK_ROW, {"job_id": job_id})
    return rows.mappings().one_or_none()


async def claim(connection: AsyncConnection, job_id: str, *, counted: bool) -> RowMapping:
    """Begin the next attempt of a job whose lock is held."""
    rows = await connection.execute(_CLAIM, {"job_id": job_id, "counted": int(counted)})
    return rows.mappings().one()


async def hand_back(connection: AsyncConnection, job_id: str, attempt: int) -> None:
    """An attempt that ended in order does not count against the job."""
    await connection.execute(_HAND_BACK, {"job_id": job_id, "attempt": attempt})


async def owned(connection: AsyncConnection, job_id: str, attempt: int) -> RowMapping:
    """The row, provided that the attempt may go on.

    Raises:
        JobLost: a later attempt owns the job, or it is finished.
        JobCancelled: somebody asked for its end.
    """
    rows = await connection.execute(_OWNED, {"job_id": job_id, "attempt": attempt})
    row = rows.mappings().one_or_none()
    if row is None:
        raise JobLost(job_id, attempt)
    if row["cancel_requested"]:
        raise JobCancelled(job_id)
    return row


async def advance(
    connection: AsyncConnection,
    job_id: str,
    attempt: int,
    *,
    done: int | None,
    total: int | None,
    rejected: int | None,
    checkpoint: Mapping[str, Any] | None,
    result: Mapping[str, Any] | None,
    note: str | None,
) -> Job:
    """Write down what a step has done (None: as before); raises as `owned`."""
    rows = await connection.execute(
        _ADVANCE,
        {
            "job_id": job_id,
            "attempt": attempt,
            "done": done,
            "total": total,
            "rejected": rejected,
            "checkpoint": _json(checkpoint),
            "result": _json(result),
            "note": None if note is None else readable(note),
        },
    )
    row = rows.mappings().one_or_none()
    if row is None:
        await owned(connection, job_id, attempt)
        raise JobLost(job_id, attempt)
    return to_job(row)


async def note(
    connection: AsyncConnection, job_id: str, attempt: int, note: str, *, failures: int = 0
) -> tuple[Job, int]:
    """Show why a running job stands still; answers how often it has failed so far as well."""
    rows = await connection.execute(
        _NOTE,
        {"job_id": job_id, "attempt": attempt, "note": readable(note), "failures": failures},
    )
    row = rows.mappings().one_or_none()
    if row is None:
        raise JobLost(job_id, attempt)
    return to_job(row), row["failures"]


async def finish(
    connection: AsyncConnection, job_id: str, attempt: int, state: JobState, error: str | None
) -> Job:
    """Close a job; raises `JobLost`."""
    rows = await connection.execute(
        _FINISH,
        {
            "job_id": job_id,
            "attempt": attempt,
            "state": state,
            "error": None if error is None else readable(error),
        },
    )
    row = rows.mappings().one_or_none()
    if row is None:
        raise JobLost(job_id, attempt)
    return to_job(row)
