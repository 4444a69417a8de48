"""The jobs of kind `compute`: one artifact of a day, or all of them, one committed step each.

The first step remembers the day of which the job is, so that a job that is gone on with after a
death, and after midnight, computes the same one; of the present day each artifact has what happened
until it was computed, which its result names. Each further step writes one artifact and says so, in
one transaction: whatever ends the job, the artifacts behind it are the new ones and those before it
the old ones. A job that is cancelled stops in the middle of an artifact, too.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final

from moviemetric_contracts import ArtifactComputed
from service_kit import Conflict, JobFailed, Outage, RunningJob

from compute_service.artifacts import repository
from compute_service.artifacts.artifact import Artifact, Day, Write
from compute_service.artifacts.repository import ArtifactRun

KIND: Final = "compute"
ALL: Final = "all"
# Seconds between two looks whether a job has been cancelled.
_LOOK_EVERY: Final = 1.0


@dataclass(frozen=True)
class _Progress:
    """Where a job stands: the day it is of, and what each artifact gave that is done."""

    day: date
    results: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])

    def checkpoint(self) -> dict[str, Any]:
        return {"day": self.day.isoformat(), "results": self.results}

    def result(self) -> dict[str, Any]:
        return {"as_of": self.day.isoformat(), "artifacts": self.results}

    @classmethod
    def of(cls, checkpoint: dict[str, Any]) -> "_Progress | None":
        if not checkpoint:
            return None
        return cls(date.fromisoformat(checkpoint["day"]), dict(checkpoint["results"]))


class ComputeRuns:
    """Runs the jobs.

    Args:
        artifacts: what there is to compute, in the order in which `all` does.
    """

    def __init__(self, artifacts: Sequence[Artifact]) -> None:
        self._artifacts = {artifact.name: artifact for artifact in artifacts}

    async def run(self, running: RunningJob) -> None:
        """Compute what is not done yet.

        Raises:
            JobFailed: no such artifact, or a day that has not begun.
        """
        request = running.job.request
        wanted = self._wanted(request["artifact"])
        progress = _Progress.of(running.job.checkpoint)
        if progress is None:
            async with running.step() as step:
                progress = _Progress(_named_day(request, step.work.now))
                step.advance(
                    done=0,
                    total=len(wanted),
                    checkpoint=progress.checkpoint(),
                    result=progress.result(),
                )
        for artifact in wanted:
            if artifact.name not in progress.results:
                progress = await _compute(artifact, progress, running)

    def _wanted(self, name: str) -> list[Artifact]:
        if name == ALL:
            return list(self._artifacts.values())
        if name not in self._artifacts:
            known = ", ".join(self._artifacts)
            msg = f"artifact: {name!r} is not computed here; what is: {known}"
            raise JobFailed(msg)
        return [self._artifacts[name]]


async def _compute(artifact: Artifact, progress: _Progress, running: RunningJob) -> _Progress:
    day = Day.of(progress.day, datetime.now(UTC))
    started = time.perf_counter()
    write = await _prepare(artifact, day, running)
    async with running.step() as step:
        rows = await write(step.work.connection)
        seconds = round(time.perf_counter() - started, 3)
        run = ArtifactRun(
            artifact=artifact.name,
            as_of=day.date,
            computed_at=step.work.now,
            rows=rows,
            seconds=seconds,
            job_id=running.job.job_id,
        )
        await repository.record_run(step.work.connection, run)
        computed = ArtifactComputed(
            artifact=run.artifact,
            as_of=run.as_of,
            rows=run.rows,
            duration_seconds=run.seconds,
            job_id=run.job_id,
        )
        step.work.emit(computed, cause=running.cause)
        done = {"rows": rows, "seconds": seconds, "until": day.until.isoformat()}
        further = _Progress(progress.day, progress.results | {artifact.name: done})
        step.advance(
            done=len(further.results),
            checkpoint=further.checkpoint(),
            result=further.result(),
        )
    return further


async def _prepare(artifact: Artifact, day: Day, running: RunningJob) -> Write:
    preparing = asyncio.ensure_future(artifact.prepare(day))
    try:
        while not (await asyncio.wait({preparing}, timeout=_LOOK_EVERY))[0]:
            with suppress(Outage, Conflict):  # the step that writes it will see
                await running.check()
        return await preparing
    finally:
        preparing.cancel()
        await asyncio.gather(preparing, return_exceptions=True)


def _named_day(request: dict[str, Any], now: datetime) -> date:
    as_of = request.get("as_of")
    named = now.astimezone(UTC).date() if as_of is None else date.fromisoformat(as_of)
    try:
        return Day.of(named, now).date
    except ValueError as error:
        raise JobFailed(str(error)) from None
