"""The jobs of this service: rebuilding and repairing. One runs at a time, whatever the replicas.

A command is written down by `take_job_commands`, and `SearchJobs.run` is what the runner calls.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

from moviemetric_contracts import CancelJob, Event, RebuildSearch, RepairSearch
from service_kit import Database, Outage, Park, RunningJob, UnitOfWork
from service_kit.jobs import enqueue, request_cancel
from service_kit.store import PostgresStore

from search_indexer import repository, upkeep_repository
from search_indexer.drift import Drift, DriftPage, compare_index, compare_tables
from search_indexer.index_sync import IndexWriter
from search_indexer.lease import Lease
from search_indexer.rebuild import POSTGRES, Rebuild
from search_indexer.repository import derivation

KIND: Final = "search"
REBUILD: Final = "rebuild"
REPAIR: Final = "repair"

_WAIT_FOR_LEASE: Final = 20.0


async def take_job_commands(events: Sequence[Event[Any]], work: UnitOfWork) -> None:
    """Jobs are written down for the runner, or asked to stop."""
    for event in events:
        match event.data:
            case RebuildSearch(job_id=job_id):
                await _enqueue(work, job_id, REBUILD, event)
            case RepairSearch(job_id=job_id):
                await _enqueue(work, job_id, REPAIR, event)
            case CancelJob(job_id=job_id):
                # Other services have jobs too, and get the command as well.
                if job_id.partition("-")[0] == KIND:
                    await request_cancel(work, job_id, cause=event)
            case _:
                msg = f"{event.type} is no command about a job"
                raise Park(msg)


async def _enqueue(work: UnitOfWork, job_id: str, task: str, cause: Event[Any] | None) -> None:
    await enqueue(work, job_id=job_id, kind=KIND, request={"task": task}, cause=cause)


class SearchJobs:
    """Runs them.

    Args:
        writer: of the external index; None while PostgreSQL is all there is.
        source: of what is emitted, the service's name.
    """

    def __init__(self, database: Database, writer: IndexWriter | None, *, source: str) -> None:
        self._database = database
        self._writer = writer
        self._source = source
        self._turn = Lease(database, "jobs")
        self._rebuild = Rebuild(database, writer, self._turn)
        self._rules_looked_at = False

    async def run(self, running: RunningJob) -> None:
        """One attempt at a job."""
        async with self._turn.held(wait=1.0) as my_turn:
            if not my_turn:
                raise Outage("search index", "another job is at work on it", retry_after=2.0)
            if running.job.request.get("task") == REPAIR:
                await self._repair(running)
            else:
                await self._rebuild.run(running)

    async def tidy(self) -> None:
        """Takes away what an ended job has left."""
        await self._rebuild.tidy()

    async def follow_rules(self) -> None:
        """Has everything rebuilt that was derived by other rules than this program's.

        Once in a process, so that during a rolling update the old replicas do not undo what the new
        ones did. The job's id says which rules, so all replicas ask for the same one.
        """
        if self._rules_looked_at:
            return
        async with self._database.reading() as connection:
            others = await upkeep_repository.has_other_rules(connection)
        if others:
            async with PostgresStore(self._database).begin(self._source) as work:
                await _enqueue(work, f"{KIND}-{derivation():032x}", REBUILD, None)
        self._rules_looked_at = True

    async def _repair(self, running: RunningJob) -> None:
        async with self._database.reading() as connection:
            films = await upkeep_repository.count_films(connection)
        engines = 1 if self._writer is None else 2
        drifts = {POSTGRES: Drift()}
        await self._repair_pages(
            running, drifts, POSTGRES, compare_tables(self._database), films * engines
        )
        if self._writer is not None:
            drifts[self._writer.engine] = Drift()
            pages = compare_index(self._database, self._writer.index)
            await self._repair_pages(running, drifts, self._writer.engine, pages, films * engines)
            await self._send(self._writer)

    async def _repair_pages(
        self,
        running: RunningJob,
        drifts: dict[str, Drift],
        engine: str,
        pages: AsyncGenerator[DriftPage],
        total: int,
    ) -> None:
        async for page in pages:
            drifts[engine].add(page)
            self._turn.check()
            async with running.step() as step:
                if page.faulty and engine == POSTGRES:
                    await upkeep_repository.derive_again(step.work.connection, page.faulty)
                elif page.faulty:
                    await repository.mark(step.work.connection, page.faulty)
                if page.miscounted:
                    await upkeep_repository.count_again(step.work.connection)
                done = sum(drift.checked for drift in drifts.values())
                step.advance(
                    done=done,
                    total=max(total, done),
                    result={name: drift.shown_counts for name, drift in drifts.items()},
                )

    async def _send(self, writer: IndexWriter) -> None:
        async with writer.writing(wait=_WAIT_FOR_LEASE) as may_write:
            if not may_write:
                raise Outage(writer.engine, "another process is writing to the index")
            await writer.send_all()
