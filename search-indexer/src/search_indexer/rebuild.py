"""The job that fills new indexes from what was told, and swaps them in.

In PostgreSQL the second set of tables is filled in pages, indexed, brought up to what changed
meanwhile, and swapped in by one short transaction that holds writers up for that long; searches
wait for moments at most. With Meilisearch, a second index is filled, under the writer's lease,
which sends every change to both until they are swapped.

Each page is a committed step, so a job goes on where it was after any death; unless it goes on in
a program that derives otherwise, or in tables of another layout: then it begins again. One that is
cancelled leaves the old indexes as they are and takes the unfinished one away; where it cannot,
because its process has died, `tidy` does.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal

from moviemetric_contracts import SearchRebuilt
from service_kit import Conflict, Database, JobCancelled, Outage, RunningJob, UnitOfWork
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from search_indexer import repository, upkeep_repository
from search_indexer.index_sync import IndexWriter
from search_indexer.lease import Lease
from search_indexer.repository import PendingChange
from search_indexer.upkeep_repository import Film, NextTables

log = logging.getLogger(__name__)

PAGE: Final = 1000
POSTGRES: Final = "postgres"
# Few enough to be written while writers wait.
_CAUGHT_UP: Final = 100
_MOST_ROUNDS: Final = 50
_WAIT_FOR_LEASE: Final = 20.0
_SWAP_TRIES: Final = 20
_SWAP_PAUSE: Final = 0.2

_UNFINISHED: Final = text("""
SELECT EXISTS (SELECT FROM jobs WHERE kind = 'search' AND state IN ('queued', 'running'))
""")

Phase = Literal["new", "fill", "index", "catch up", "swap", "clear up"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """The checkpoint: which engines are done, and where the one in hand is.

    `done` counts the films of all engines; `after` is the last key that was filled in; `identity`
    is that of the second index in an external engine; `began` when the engine's turn began;
    `made_by` names the rules and the layout that the engine's second index has.
    """

    finished: Sequence[str] = ()
    phase: Phase = "new"
    after: str = ""
    done: int = 0
    total: int = 0
    identity: str = ""
    began: str = ""
    made_by: str = ""

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any]) -> "_State":
        """What is kept of it; what a newer program kept beside it is left out."""
        known = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in checkpoint.items() if name in known})

    def at(self, phase: Phase) -> "_State":
        """The same in another phase."""
        return replace(self, phase=phase)

    def next_engine(self, engine: str, total: int) -> "_State":
        return _State(finished=[*self.finished, engine], done=total, total=self.total)


class Rebuild:
    """Rebuilds the index in PostgreSQL, and then the external one, if there is any.

    Args:
        writer: of the external index.
        turn: held while a job runs.
    """

    def __init__(self, database: Database, writer: IndexWriter | None, turn: Lease) -> None:
        self._database = database
        self._turn = turn
        self._writer = writer
        self._tables = NextTables(database.schema)

    async def run(self, running: RunningJob) -> None:
        """Goes on from the job's checkpoint."""
        state = _State.of(running.job.checkpoint)
        try:
            if POSTGRES not in state.finished:
                state = await self._rebuild_tables(running, state)
            if self._writer is not None and self._writer.engine not in state.finished:
                await self._rebuild_index(running, state, self._writer)
        except JobCancelled:
            await self._clear_up()
            raise

    async def tidy(self) -> None:
        """Takes away what a rebuild left that ended while nobody was there to do it."""
        async with self._database.transaction() as connection:
            if await self._tables.left_over(connection):
                unfinished = (await connection.execute(_UNFINISHED)).scalar_one()
                if not unfinished:
                    await self._tables.drop(connection)

    @property
    def _engines(self) -> int:
        return 1 if self._writer is None else 2

    # --- PostgreSQL -----------------------------------------------------------------------------

    async def _rebuild_tables(self, running: RunningJob, state: _State) -> _State:
        while state.phase != "clear up":
            state = await self._begin_tables(running, state)
            state = await self._fill_tables(running, state)
            if state.phase == "swap":
                state = await self._swap_tables(running, state)
        async with running.step() as step:
            await self._tables.drop(step.work.connection)
            state = state.next_engine(POSTGRES, state.done)
            step.advance(checkpoint=asdict(state))
        return state

    async def _begin_tables(self, running: RunningJob, state: _State) -> _State:
        """The second set, if there is none that is of use."""
        async with self._database.reading() as connection:
            exist = await self._tables.exist(connection)
            films = await upkeep_repository.count_films(connection)
            made_by = await self._tables.made_by(connection)
        if state.phase != "new" and exist and state.made_by == made_by:
            return state
        async with running.step() as step:
            await self._tables.create(step.work.connection)
            begun = _State(phase="fill", total=films * self._engines, began=_now(), made_by=made_by)
            step.advance(done=0, total=begun.total, checkpoint=asdict(begun))
        return begun

    async def _fill_tables(self, running: RunningJob, state: _State) -> _State:
        while state.phase == "fill":
            state = await self._copy_page(running, state)
        if state.phase == "index":
            async with running.step() as step:
                await self._tables.build_indexes(step.work.connection)
                state = state.at("catch up")
                step.advance(checkpoint=asdict(state))
        rounds = 0
        while state.phase == "catch up":
            rounds += 1
            async with running.step() as step:
                copied = await self._catch_up(step.work.connection)
                if copied <= _CAUGHT_UP or rounds >= _MOST_ROUNDS:
                    state = state.at("swap")
                step.advance(checkpoint=asdict(state))
        return state

    async def _copy_page(self, running: RunningJob, state: _State) -> _State:
        self._turn.check()
        async with running.step() as step:
            connection = step.work.connection
            films = await upkeep_repository.films_after(connection, state.after, PAGE)
            async with self._tables.first(connection):
                await upkeep_repository.store_films(connection, films)
            state = _after_page(state, films, "index")
            step.advance(done=state.done, total=state.total, checkpoint=asdict(state))
        return state

    async def _catch_up(self, connection: AsyncConnection) -> int:
        behind = await self._tables.behind(connection, PAGE)
        if behind:
            films = await upkeep_repository.films_named(connection, sorted(behind))
            async with self._tables.first(connection):
                await upkeep_repository.store_films(connection, films)
        return len(behind)

    async def _swap_tables(self, running: RunningJob, state: _State) -> _State:
        # Somebody who searches at length is in the way: writers need not wait for them as well.
        for _ in range(_SWAP_TRIES):
            try:
                return await self._swap_once(running, state)
            except Conflict:
                await asyncio.sleep(_SWAP_PAUSE)
        return await self._swap_once(running, state)

    async def _swap_once(self, running: RunningJob, state: _State) -> _State:
        self._turn.check()
        async with running.step() as step:
            connection = step.work.connection
            await self._tables.stop_writers(connection)
            if await self._tables.made_by(connection) != state.made_by:
                # A migration came in between, which does not know of the second set.
                state = state.at("new")
                step.advance(checkpoint=asdict(state))
                return state
            while await self._catch_up(connection):
                pass
            await self._tables.swap(connection)
            shown = await upkeep_repository.count_shown(connection)
            self._tell(running, step.work, POSTGRES, shown, state)
            state = state.at("clear up")
            step.advance(done=state.done, checkpoint=asdict(state))
        return state

    # --- an external index ----------------------------------------------------------------------

    async def _rebuild_index(self, running: RunningJob, state: _State, writer: IndexWriter) -> None:
        async with writer.writing(wait=_WAIT_FOR_LEASE) as may_write:
            if not may_write:
                raise Outage(writer.engine, "another process is writing to the index")
            await writer.adopt_index()
            state = await self._begin(running, state, writer)
            while state.phase == "fill":
                state = await self._fill_page(running, state, writer)
            if state.phase == "swap":
                state = await self._swap_index(running, state, writer)
            await writer.index.successor().drop()
        async with running.step() as step:
            state = state.next_engine(writer.engine, state.done)
            step.advance(done=state.done, checkpoint=asdict(state))

    async def _begin(self, running: RunningJob, state: _State, writer: IndexWriter) -> _State:
        if state.phase == "clear up":
            return state
        successor = writer.index.successor()
        async with self._database.reading() as connection:
            made_by = await self._tables.made_by(connection)
        swapped = state.phase == "swap" and await writer.index.identity() == state.identity
        # A new engine's turn has made nothing yet, so its `made_by` is empty.
        usable = state.made_by == made_by and await successor.identity() == state.identity
        if not swapped and not usable:
            writer.check()
            await successor.drop()
            identity = await successor.ensure_ready()
            before = state.done if state.phase == "new" else state.total // self._engines
            async with running.step() as step:
                films = await upkeep_repository.count_films(step.work.connection)
                state = _State(
                    finished=state.finished,
                    phase="fill",
                    done=before,
                    total=before + films,
                    identity=identity,
                    began=_now(),
                    made_by=made_by,
                )
                step.advance(done=before, total=state.total, checkpoint=asdict(state))
        await writer.begin_rebuild(running.job.job_id)
        return state

    async def _fill_page(self, running: RunningJob, state: _State, writer: IndexWriter) -> _State:
        # What changes meanwhile does not wait for the end of the job.
        await writer.send_pending()
        async with self._database.reading() as connection:
            films = await upkeep_repository.films_after(connection, state.after, PAGE)
        await writer.fill(
            writer.index.successor(),
            [_as_change(film) for film in films if film.document is not None],
        )
        async with running.step() as step:
            state = _after_page(state, films, "swap")
            step.advance(done=state.done, total=state.total, checkpoint=asdict(state))
        return state

    async def _swap_index(self, running: RunningJob, state: _State, writer: IndexWriter) -> _State:
        rounds = 0
        while await writer.send_pending() >= PAGE and rounds < _MOST_ROUNDS:
            rounds += 1
        async with running.step() as step:
            await repository.expect_next(
                step.work.connection, engine=writer.engine, identity=state.identity
            )
            step.advance(checkpoint=asdict(state))
        writer.check()
        await writer.index.swap_in_successor(state.identity)
        documents = await writer.index.count()
        async with running.step() as step:
            connection = step.work.connection
            await repository.adopt_index(connection, engine=writer.engine, identity=state.identity)
            await repository.set_rebuilt_by(connection, engine=writer.engine, job_id=None)
            await repository.mark_filled(connection, writer.engine)
            self._tell(running, step.work, writer.engine, documents, state)
            state = state.at("clear up")
            step.advance(done=state.done, checkpoint=asdict(state))
        writer.rebuild_ended()
        return state

    # --- both -----------------------------------------------------------------------------------

    def _tell(
        self,
        running: RunningJob,
        work: UnitOfWork,
        engine: str,
        documents: int,
        state: _State,
    ) -> None:
        began = datetime.fromisoformat(state.began)
        work.emit(
            SearchRebuilt(
                index=engine,
                documents=documents,
                duration_seconds=max(0.0, (datetime.now(UTC) - began).total_seconds()),
                job_id=running.job.job_id,
            ),
            cause=running.cause,
        )

    async def _clear_up(self) -> None:
        try:
            async with self._database.transaction() as connection:
                await self._tables.drop(connection)
            if self._writer is not None:
                async with self._writer.writing(wait=_WAIT_FOR_LEASE) as may_write:
                    if may_write:
                        await self._writer.adopt_index()
                        await self._writer.drop_successor()
        except (Outage, Conflict) as obstacle:
            log.warning(
                "an unfinished index will be deleted later", extra={"reason": str(obstacle)}
            )


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _after_page(state: _State, films: Sequence[Film], following: Phase) -> _State:
    done = state.done + len(films)
    return replace(
        state,
        after=films[-1].movie_id if films else state.after,
        done=done,
        total=max(state.total, done),
        phase=state.phase if len(films) == PAGE else following,
    )


def _as_change(film: Film) -> PendingChange:
    return PendingChange(
        movie_id=film.movie_id,
        version=0,
        whole_document=True,
        document=film.document,
        figures=film.figures,
    )
