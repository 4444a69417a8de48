"""Jobs as the API shows them: which service owns a kind, and the names of older clients. Pure.

A job's id is `<kind>-<32 hex digits>`. The gateway makes it from the id of the event that asks for
the job, so the same request with the same Idempotency-Key is the same job.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, cast

Job = dict[str, Any]
Kind = Literal["import", "ingest", "compute", "search"]
State = Literal["queued", "running", "succeeded", "failed", "cancelled"]

OWNERS: Final[Mapping[str, str]] = {
    "import": "ingest-service",
    "ingest": "ingest-service",
    "compute": "compute-service",
    "search": "search-indexer",
}
ENDED: Final = frozenset({"succeeded", "failed", "cancelled"})

JOB_ID_PATTERN: Final = "^([a-z]{1,20})-[0-9a-f]{32}$"
_ID: Final = re.compile(JOB_ID_PATTERN)
# The words of Celery, which the predecessor's clients know.
_STATUS: Final[Mapping[str, str]] = {
    "queued": "PENDING",
    "running": "STARTED",
    "succeeded": "SUCCESS",
    "failed": "FAILURE",
    "cancelled": "REVOKED",
}


def job_id_of(kind: Kind, event_id: str) -> str:
    """The id of the job that the event with this UUID asks for."""
    return f"{kind}-{event_id.replace('-', '')}"


def kind_of(job_id: str) -> str | None:
    """The kind in a job's id, None for what is no job's id."""
    match = _ID.fullmatch(job_id)
    return match[1] if match else None


def status_url(job_id: str) -> str:
    """Where the job can be followed."""
    return f"/api/v1/admin/jobs/{job_id}"


def with_task_fields(job: Job) -> Job:
    """The job, with `task_id` and `status` beside its own fields.

    Where its file is kept is nobody's business.
    """
    request = cast("dict[str, Any]", job.get("request") or {})
    return {
        **job,
        "request": {name: value for name, value in request.items() if name != "uri"},
        "task_id": job.get("job_id"),
        "status": _STATUS.get(str(job.get("state")), str(job.get("state")).upper()),
    }


def accepted_job(job_id: str, kind: str, created_at: str) -> Job:
    """A job that its service has not taken yet; `created_at` in UTC as in RFC 3339."""
    return {
        "job_id": job_id,
        "kind": kind,
        "state": "queued",
        "done": 0,
        "total": None,
        "rejected": 0,
        "error": None,
        "created_at": created_at,
        "started_at": None,
        "finished_at": None,
        "rate": None,
        "estimated_end": None,
        "request": {},
        "result": {},
    }
