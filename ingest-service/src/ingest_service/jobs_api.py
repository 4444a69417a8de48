"""What was wrong with an import, as JSON and as a file to mend."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import StreamingResponse
from service_kit import Database
from service_kit.http import ProblemError
from service_kit.jobs import Job, load_job

from ingest_service.records import Rejection
from ingest_service.rejects import as_csv, read_rejects, reject_page

JobIdParameter = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


def router(database: Database) -> APIRouter:
    """The routes, reading from `database`."""
    routes = APIRouter(tags=["jobs"])

    async def known_job(job_id: str) -> Job:
        async with database.reading() as connection:
            job = await load_job(connection, job_id)
        if job is None:
            raise ProblemError(404, "Unknown job", f"there is no job {job_id!r} here")
        return job

    @routes.get("/jobs/{job_id}/rejects", summary="Rejected rows, in the order of the file")
    async def rejects(
        job_id: JobIdParameter,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        offset: Annotated[int, Query(ge=0, le=100_000)] = 0,
    ) -> dict[str, Any]:
        await known_job(job_id)
        async with database.reading() as connection:
            page = await reject_page(connection, job_id, limit=limit, offset=offset)
        return {
            "items": [
                {
                    "line": rejection.line,
                    "column": rejection.column,
                    "reason": rejection.reason,
                    "text": list(rejection.text),
                }
                for rejection in page.items
            ],
            "total": page.total,
            "limit": limit,
            "offset": offset,
            "as_of": datetime.now(UTC),
        }

    @routes.get("/jobs/{job_id}/rejects.csv", summary="Rejected rows, to mend and upload again")
    async def rejects_file(job_id: JobIdParameter) -> StreamingResponse:
        job = await known_job(job_id)
        header = job.checkpoint.get("header", [])

        async def read(after: int, limit: int) -> Sequence[Rejection]:
            async with database.reading() as connection:
                return await read_rejects(connection, job_id, limit=limit, after=after)

        return StreamingResponse(as_csv(read, header), media_type="text/csv; charset=utf-8")

    # FastAPI refers to them; nothing else does.
    _ = (rejects, rejects_file)
    return routes
