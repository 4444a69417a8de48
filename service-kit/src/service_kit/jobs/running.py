"""What a run works with: the job as it was claimed, and steps that commit whole or not at all."""

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from moviemetric_contracts import Event

from service_kit.jobs import repository
from service_kit.jobs.model import Job
from service_kit.store import Store, UnitOfWork

EMIT_INTERVAL: Final = 0.5


class Step:
    """One transaction of a run: change `work.connection`, emit, and say how far that goes."""

    def __init__(self, work: UnitOfWork) -> None:
        self.work = work
        self.done: int | None = None
        self.total: int | None = None
        self.rejected: int | None = None
        self.checkpoint: Mapping[str, Any] | None = None
        self.result: Mapping[str, Any] | None = None
        self.note: str | None = None

    def advance(
        self,
        *,
        done: int | None = None,
        total: int | None = None,
        rejected: int | None = None,
        checkpoint: Mapping[str, Any] | None = None,
        result: Mapping[str, Any] | None = None,
        note: str | None = None,
    ) -> None:
        """Where the job stands once this step is committed; what is not given stays as it is.

        Args:
            done, total, rejected: in all, not since the last step.
            checkpoint: takes the place of the last one.
            result: takes the place of the last one.
            note: what a person should know meanwhile, shown as the job's `error` until the next
                step.
        """
        self.done = self.done if done is None else done
        self.total = self.total if total is None else total
        self.rejected = self.rejected if rejected is None else rejected
        self.checkpoint = self.checkpoint if checkpoint is None else checkpoint
        self.result = self.result if result is None else result
        self.note = self.note if note is None else note


class RunningJob:
    """One attempt at a job.

    Attributes:
        job: as it was when the run was called; it does not follow the steps.
        cause: stands for the command that asked for the job; give it to what the run emits.
        progressed: whether a step was committed.
    """

    def __init__(self, store: Store, source: str, job: Job, cause: Event[Any] | None) -> None:
        self.job = job
        self.cause = cause
        self.progressed = False
        self._store = store
        self._source = source
        # The claim has just been announced.
        self._emitted_at = time.monotonic()

    @asynccontextmanager
    async def step(self) -> AsyncGenerator[Step]:
        """One transaction, committed at the end of the block while this attempt owns the job.

        Do slow work, such as fetching and parsing, before the block: the transaction is open
        within it. The job's row is locked only at its end.

        Raises:
            JobCancelled, JobLost: let them through; nothing of the step took effect.
            Outage, Conflict: as `Database.transaction`; let them through, and the run is called
                again with the last committed checkpoint.
        """
        job_id, attempt = self.job.job_id, self.job.attempt
        due = time.monotonic() - self._emitted_at >= EMIT_INTERVAL
        async with self._store.begin(self._source) as work:
            await repository.owned(work.connection, job_id, attempt)
            step = Step(work)
            yield step
            job = await repository.advance(
                work.connection,
                job_id,
                attempt,
                done=step.done,
                total=step.total,
                rejected=step.rejected,
                checkpoint=step.checkpoint,
                result=step.result,
                note=step.note,
            )
            if due:
                work.emit(job.changed(), cause=self.cause)
        self.progressed = True
        if due:
            self._emitted_at = time.monotonic()

    async def check(self) -> None:
        """For long work between two steps: returns while it is worth going on with.

        Raises:
            JobCancelled, JobLost: as `step`.
            Outage: whether it is, cannot be known now.
        """
        async with self._store.begin(self._source) as work:
            await repository.owned(work.connection, self.job.job_id, self.job.attempt)
