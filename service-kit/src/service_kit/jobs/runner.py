"""Claims jobs, one owner each, and brings them to an end."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from moviemetric_contracts import Event
from moviemetric_contracts.messages import JobState

from service_kit.database import Conflict, Database
from service_kit.jobs import repository
from service_kit.jobs.model import Job, JobCancelled, JobFailed, JobLost
from service_kit.jobs.running import RunningJob
from service_kit.outcomes import Outage, Park
from service_kit.session_locks import LockName, LockSession, lock_session
from service_kit.store import PostgresStore, UnitOfWork

log = logging.getLogger(__name__)

Run = Callable[[RunningJob], Awaitable[None]]

MAX_FAILURES: Final = 3
# A job that takes its process down with it, say by its memory, would do so for ever.
MAX_IDLE_CLAIMS: Final = 5
MAX_DELAY: Final = 30.0
_FIRST_DELAY: Final = 0.5
_SILENT_CONFLICTS: Final = 5
_POLL: Final = 0.2
_HAND_BACK_TIMEOUT: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Claim:
    job: Job
    cause: Event[Any] | None


@dataclass(frozen=True, slots=True)
class _End:
    state: JobState
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _Wait:
    """Stand still for a while, then run again; `note` is shown, None for what passes at once."""

    delay: float
    note: str | None = None


class JobRunner:
    """Runs the jobs of some kinds; as many runners as there are replicas may compete.

    `run_pending` is meant for a `Periodic`. A run is called with the job as last committed and ends
    it: by returning (succeeded), by `JobFailed` or `Park` (failed), by letting `JobCancelled` out
    of a step through (cancelled). After an `Outage` it waits, as long as need be, and is called
    again; after any other error it is called again too, at most three times in all.

    Args:
        source: the service's name, the source of what is emitted.
        runs: what to do for each kind.
        concurrency: how many jobs this runner has in hand at once. Each holds one of the
            database's connections beside those that its steps use.
    """

    def __init__(
        self, database: Database, *, source: str, runs: Mapping[str, Run], concurrency: int = 1
    ) -> None:
        self._database = database
        self._store = PostgresStore(database)
        self._source = source
        self._runs = dict(runs)
        self._concurrency = concurrency
        self._uncounted: set[str] = set()

    async def run_pending(self) -> None:
        """Claim and run whatever is pending, and return when nothing is left.

        When cancelled, the steps in hand are rolled back and the jobs are free for the next runner.

        Raises:
            Outage: the database is away and no job is in hand.
        """
        tasks: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                try:
                    await self._take_more(tasks)
                except (Outage, Conflict):
                    if not tasks:
                        raise
                if not tasks:
                    return
                full = len(tasks) >= self._concurrency
                done, _ = await asyncio.wait(
                    tasks.values(),
                    timeout=None if full else _POLL,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for job_id in [job_id for job_id, task in tasks.items() if task in done]:
                    self._settle(job_id, tasks)
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    def _settle(self, job_id: str, tasks: dict[str, asyncio.Task[None]]) -> None:
        error = tasks.pop(job_id).exception()
        if error is None:
            return
        if not tasks:
            raise error
        log.warning("a job waits for its turn", extra={"job_id": job_id, "reason": str(error)})

    async def _take_more(self, tasks: dict[str, asyncio.Task[None]]) -> None:
        room = self._concurrency - len(tasks)
        if room <= 0:
            return
        async with self._database.transaction() as connection:
            job_ids = await repository.unowned(
                connection, kinds=sorted(self._runs), but_not=list(tasks), limit=room
            )
        for job_id in job_ids:
            tasks[job_id] = asyncio.create_task(self._take(job_id), name=job_id)

    async def _take(self, job_id: str) -> None:
        lock = LockName(repository.LOCK_SPACE, job_id)
        async with lock_session(self._database, lock) as session:
            if not await session.try_lock():
                return
            claim = await self._claim(job_id)
            if claim is None:
                return
            try:
                await self._bring_to_an_end(claim, session)
            except asyncio.CancelledError:
                await self._hand_back(claim)
                raise
            except JobLost as lost:
                log.warning("a job was lost", extra={"job_id": job_id, "reason": str(lost)})

    async def _claim(self, job_id: str) -> _Claim | None:
        async with self._store.begin(self._source) as work:
            row = await repository.lock_unfinished(work.connection, job_id)
            if row is None:
                return None
            found = repository.to_job(row)
            cause = repository.cause_of(row)
            if row["cancel_requested"]:
                await self._close(work, found, cause, _End("cancelled"))
                return None
            if row["idle_claims"] >= MAX_IDLE_CLAIMS:
                await self._close(
                    work,
                    found,
                    cause,
                    _End(
                        "failed",
                        f"started {MAX_IDLE_CLAIMS} times, and each time its process ended before "
                        "it got any further",
                    ),
                )
                return None
            counted = job_id not in self._uncounted
            job = repository.to_job(
                await repository.claim(work.connection, job_id, counted=counted)
            )
            work.emit(job.changed(), cause=cause)
        self._uncounted.discard(job_id)
        log.info("job started", extra=_extra(job, cause))
        return _Claim(job, cause)

    async def _bring_to_an_end(self, claim: _Claim, session: LockSession) -> None:
        tries = 0
        while True:
            running = RunningJob(self._store, self._source, claim.job, claim.cause)
            outcome = await self._run(running, tries)
            if isinstance(outcome, _End):
                try:
                    await self._finish(claim, outcome)
                except (Outage, Conflict) as obstacle:
                    outcome = _wait_for(obstacle, tries)
                else:
                    return
            tries = 1 if running.progressed else tries + 1
            await self._wait(claim, outcome)
            if not await session.is_alive():
                # With its connection the lock is gone: whoever comes first claims the job again.
                await self._hand_back(claim)
                return

    async def _run(self, running: RunningJob, tries: int) -> _End | _Wait:
        job = running.job
        try:
            async with self._database.transaction() as connection:
                row = await repository.owned(connection, job.job_id, job.attempt)
            running.job = repository.to_job(row)
            await self._runs[job.kind](running)
        except JobLost:
            raise
        except JobCancelled:
            return _End("cancelled")
        except (JobFailed, Park) as error:
            return _End("failed", error.reason)
        except (Outage, Conflict) as obstacle:
            return _wait_for(obstacle, 0 if running.progressed else tries)
        except Exception as error:
            log.exception("a job's run failed", extra=_extra(job, running.cause))
            return await self._count_failure(job, error)
        return _End("succeeded")

    async def _count_failure(self, job: Job, error: Exception) -> _End | _Wait:
        reason = f"{type(error).__name__}: {error}"
        try:
            async with self._database.transaction() as connection:
                _, failures = await repository.note(
                    connection, job.job_id, job.attempt, reason, failures=1
                )
        except (Outage, Conflict) as obstacle:
            return _wait_for(obstacle, 0)
        if failures >= MAX_FAILURES:
            return _End("failed", reason)
        return _Wait(_growing(failures), f"will be tried again after {reason}")

    async def _finish(self, claim: _Claim, end: _End) -> None:
        async with self._store.begin(self._source) as work:
            await self._close(work, claim.job, claim.cause, end)

    async def _close(self, work: UnitOfWork, job: Job, cause: Event[Any] | None, end: _End) -> None:
        finished = await repository.finish(
            work.connection, job.job_id, job.attempt, end.state, end.error
        )
        work.emit(finished.changed(), cause=cause)
        log.info("job finished", extra={**_extra(finished, cause), "reason": finished.error})

    async def _wait(self, claim: _Claim, wait: _Wait) -> None:
        """Sleep, but not through a cancellation."""
        job = claim.job
        with suppress(Outage, Conflict):
            if wait.note is not None:
                async with self._store.begin(self._source) as work:
                    noted, _ = await repository.note(
                        work.connection, job.job_id, job.attempt, wait.note
                    )
                    work.emit(noted.changed(), cause=claim.cause)
        loop = asyncio.get_running_loop()
        until = loop.time() + wait.delay
        while (left := until - loop.time()) > 0:
            await asyncio.sleep(min(left, 1.0))
            try:
                async with self._database.transaction() as connection:
                    await repository.owned(connection, job.job_id, job.attempt)
            except JobCancelled:
                return
            except (Outage, Conflict):
                continue

    async def _hand_back(self, claim: _Claim) -> None:
        job = claim.job
        try:
            async with (
                asyncio.timeout(_HAND_BACK_TIMEOUT),
                self._database.transaction() as connection,
            ):
                await repository.hand_back(connection, job.job_id, job.attempt)
        except (Outage, Conflict, TimeoutError):
            self._uncounted.add(job.job_id)


def _growing(tries: int) -> float:
    """Seconds: 0.5, 1, 2, … with jitter, never more than half a minute."""
    return min(MAX_DELAY, _FIRST_DELAY * 2.0 ** min(tries, 16)) * random.uniform(0.8, 1.2)  # noqa: S311 -- jitter


def _wait_for(obstacle: Outage | Conflict, tries: int) -> _Wait:
    if isinstance(obstacle, Outage):
        return _Wait(obstacle.retry_after or _growing(tries), f"waiting: {obstacle}")
    if tries < _SILENT_CONFLICTS:
        return _Wait(random.uniform(0.01, 0.05) * 2**tries)  # noqa: S311 -- jitter
    return _Wait(_growing(tries), "waiting: other transactions are in the way")


def _extra(job: Job, cause: Event[Any] | None) -> dict[str, Any]:
    return {
        "job_id": job.job_id,
        "kind": job.kind,
        "state": job.state,
        "attempt": job.attempt,
        "correlation_id": cause.correlationid if cause else None,
    }
