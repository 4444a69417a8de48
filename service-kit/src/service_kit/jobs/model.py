"""A job as its row has it, and the exceptions by which runs and steps end it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from moviemetric_contracts import JobChanged
from moviemetric_contracts.messages import JobState


class JobCancelled(Exception):  # noqa: N818 -- what happened to the job, not an error
    """Raised out of a step: somebody asked for the job to end. The step has no effect."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"job {job_id} was cancelled")


class JobLost(Exception):  # noqa: N818 -- what happened to the job, not an error
    """Raised out of a step: a later attempt owns the job. The step has no effect."""

    def __init__(self, job_id: str, attempt: int) -> None:
        self.job_id = job_id
        self.attempt = attempt
        super().__init__(f"attempt {attempt} of job {job_id} no longer owns it")


class JobFailed(Exception):  # noqa: N818 -- an instruction to the runner
    """Raised by a run: the job can never succeed; `reason` is what a person will read."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job at the moment `as_of`.

    `done`, `total` and `rejected` count in whatever the kind of job counts in; `total` is None
    while it is not known. `checkpoint` is for the run alone; `result` is for people. `error` is why
    it failed, or what a running job waits for. `attempt` counts the claims.
    """

    job_id: str
    kind: str
    state: JobState
    request: dict[str, Any]
    checkpoint: dict[str, Any]
    result: dict[str, Any]
    done: int
    total: int | None
    rejected: int
    error: str | None
    attempt: int
    attempt_started_at: datetime | None
    attempt_started_done: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime
    as_of: datetime

    @property
    def rate(self) -> float | None:
        """Done per second since this attempt began; None unless running and measurable."""
        if self.state != "running" or self.attempt_started_at is None:
            return None
        elapsed = (self.updated_at - self.attempt_started_at).total_seconds()
        done = self.done - self.attempt_started_done
        return done / elapsed if done > 0 and elapsed > 0 else None

    @property
    def estimated_end(self) -> datetime | None:
        """When it will be done at the present rate; None unless running and measurable."""
        if self.rate is None or self.total is None:
            return None
        seconds = max(self.total - self.done, 0) / self.rate
        try:
            return self.as_of + timedelta(seconds=seconds)
        except OverflowError:
            return None

    def changed(self) -> JobChanged:
        """The fact that tells others where the job stands."""
        return JobChanged(
            job_id=self.job_id,
            kind=self.kind,
            state=self.state,
            done=self.done,
            total=self.total,
            rejected=self.rejected,
            error=self.error,
        )
