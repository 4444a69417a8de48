"""The read API of jobs, internal to the system: the gateway asks it."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from moviemetric_contracts.messages import JobState

from service_kit.database import Database
from service_kit.http import ProblemError
from service_kit.jobs.model import Job
from service_kit.jobs.repository import list_jobs, load_job


def to_json(job: Job) -> dict[str, Any]:
    """What a client sees of a job."""
    return {
        "job_id": job.job_id,
        "kind": job.kind,
        "state": job.state,
        "done": job.done,
        "total": job.total,
        "rejected": job.rejected,
        "error": job.error,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "rate": None if job.rate is None else round(job.rate, 2),
        "estimated_end": job.estimated_end,
        "request": job.request,
        "result": job.result,
    }


def jobs_router(database: Database, *, kinds: Collection[str] = ()) -> APIRouter:
    """`GET /jobs`, newest first, and `GET /jobs/{job_id}`.

    Args:
        kinds: the kinds that this service has; asking for another is refused. Empty: no check.
    """
    router = APIRouter()

    @router.get("/jobs")
    async def get_jobs(
        kind: Annotated[str | None, Query(max_length=200)] = None,
        state: JobState | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 20,
        offset: Annotated[int, Query(ge=0, le=100_000)] = 0,
    ) -> dict[str, Any]:
        if kind is not None and kinds and kind not in kinds:
            message = f"expected one of: {', '.join(sorted(kinds))}"
            raise ProblemError(
                422,
                "Invalid request",
                f"kind: {message}",
                errors=[{"field": "kind", "message": message}],
            )
        async with database.reading() as connection:
            jobs, total = await list_jobs(
                connection, kind=kind, state=state, limit=limit, offset=offset
            )
        return {
            "items": [to_json(job) for job in jobs],
            "total": total,
            "limit": limit,
            "offset": offset,
            "as_of": datetime.now(UTC),
        }

    @router.get("/jobs/{job_id}")
    async def get_job(job_id: str) -> dict[str, Any]:
        job = None
        if "\x00" not in job_id:
            async with database.reading() as connection:
                job = await load_job(connection, job_id)
        if job is None:
            raise ProblemError(404, "Unknown job", f"there is no job {job_id[:64]!r} here")
        return to_json(job)

    return router
