"""Fills the catalogue from TMDB in bulk: the run of a `catalog.ingest.v1` job.

    lists    every page that the command names is read; each film goes into the job's queue once.
             Films that were fetched recently leave it again, unless the command forces them.
    films    those in the queue are fetched, as many at once as the client lets through. About once
             a second a step stores what was found, takes those films out of the queue and reads on
             in it. Fetching goes on meanwhile.

After a kill the next runner goes on with the queue as it stands: a film that was not stored yet is
fetched again, at most `window` of them.

A film that TMDB does not deliver goes to the back of the queue and is tried again after growing
delays; in the end it is counted as failed, with the reason, and the run goes on. When several fail
in a row, TMDB is asked for something else: if that fails too, TMDB is away, and the job waits
(`Outage`) without an attempt being counted against any film.

Of a range of changes TMDB tells only the day. Where successive runs ask for what changed, their
ranges have to overlap by more than `fresh_for`, so that a film that changed just after it was
fetched is not passed over for good.
"""

import asyncio
import copy
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, Protocol, TypeVar

from moviemetric_contracts import IngestCatalog
from service_kit import Conflict, Outage, UnitOfWork
from service_kit.jobs import JobFailed, RunningJob
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest_service import ingest_queue
from ingest_service.ingest_queue import Queued
from ingest_service.tmdb_client import (
    ApiKeyError,
    TmdbAnswerError,
    TmdbClient,
    TmdbCoolDownError,
    TmdbDocument,
    TmdbError,
    TmdbNotFound,
    TmdbUnavailableError,
    TmdbUnreachableError,
)
from ingest_service.tmdb_lists import (
    FilmList,
    ListPageError,
    Page,
    Reading,
    Unread,
    read_list,
    read_page,
    wanted_lists,
)
from ingest_service.tmdb_movie import MovieDocumentError

_log = logging.getLogger(__name__)

Found = TypeVar("Found")
_T = TypeVar("_T")

_WHOLE_TMDB: Final = (ApiKeyError, TmdbCoolDownError, TmdbUnreachableError)
_SUSPICIOUS_FAILURES: Final = 10
_SAVE_EVERY: Final = 1.0
_TICK: Final = 0.2
_CONFLICTS: Final = 5
_PROBE: Final = "/movie/latest"
_PROBE_HOLDS: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What storing some findings did to the catalogue, in films."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What a run gave up: a film, or a page of a list (`tmdb_id` is None), and why."""

    item: str
    tmdb_id: int | None
    reason: str


class Catalogue(Protocol[Found]):
    """What a run needs of the catalogue. Nothing here commits."""

    def finding_of(self, answer: TmdbDocument | TmdbNotFound) -> Found:
        """What an answer says of the film; raises `MovieDocumentError`."""
        ...

    async def store_findings(self, work: UnitOfWork, findings: Sequence[Found]) -> Stored:
        """Keep what was found, and tell what changed by it."""
        ...

    async def fresh_ids(
        self, connection: AsyncConnection, tmdb_ids: Collection[int], since: datetime
    ) -> set[int]:
        """Those of the films that were fetched from TMDB after `since`."""
        ...

    async def known_ids(self, connection: AsyncConnection, tmdb_ids: Collection[int]) -> set[int]:
        """Those of the films that the catalogue has."""
        ...

    async def reject(self, work: UnitOfWork, job_id: str, failures: Sequence[Failure]) -> None:
        """Keep what was given up, for people to see."""
        ...


@dataclass(kw_only=True)
class Progress:
    """How far a run is: its checkpoint, and but for `listed` its result.

    Attributes:
        listed: the queue holds all films, so only they are left to do.
        lists: the lists that were read, with the number of pages.
        found: distinct films.
        fresh: of these, the ones that were fetched recently and are not fetched again.
        failed: films and pages that were given up.
        requests: that were sent to TMDB.
        dealt_with: films that were stored or given up.
    """

    listed: bool = False
    lists: dict[str, int] = field(default_factory=dict[str, int])
    found: int = 0
    fresh: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    failed: int = 0
    requests: int = 0
    dealt_with: int = 0

    def result(self) -> dict[str, Any]:
        """The counts, for people."""
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in {"listed", "dealt_with"}
        }


class BulkRun(Generic[Found]):
    """The run of the jobs of kind `ingest`, for a `JobRunner`.

    Args:
        fresh_for: a film fetched less than this ago is not fetched again.
        window: films that are being fetched or wait to be stored.
        chunk: films that are stored in one step, about.
        retry_delays: seconds before a film that failed is tried again; as many as there are tries.
        away_pause: seconds before TMDB is asked again when it answers nothing at all.
    """

    def __init__(
        self,
        client: TmdbClient,
        catalogue: Catalogue[Found],
        *,
        fresh_for: timedelta,
        window: int = 120,
        chunk: int = 50,
        retry_delays: Sequence[float] = (1.0, 10.0, 60.0),
        away_pause: float = 30.0,
    ) -> None:
        self.client = client
        self.catalogue = catalogue
        self.fresh_for = fresh_for
        self.window = window
        self.chunk = chunk
        self.retry_delays = tuple(retry_delays)
        self.away_pause = away_pause

    async def run(self, running: RunningJob) -> None:
        """Bring the job from its last checkpoint to its end.

        Raises:
            JobFailed: there is no key for TMDB.
            Outage: TMDB refuses the key, wants a rest or is away.
        """
        if not self.client.has_key:
            msg = "there is no TMDB API key; set TMDB_API_KEY, restart, and run it again"
            raise JobFailed(msg)
        try:
            await _Attempt(self, running).run()
        except _WHOLE_TMDB as error:
            raise Outage("TMDB", str(error), retry_after=error.retry_after) from None


@dataclass(frozen=True, kw_only=True)
class _Outcome(Generic[Found]):
    """What came of one film: what was found, or the reason why nothing was."""

    film: Queued
    found: Found | None = None
    reason: str = ""


class _Attempt(Generic[Found]):
    def __init__(self, bulk: BulkRun[Found], running: RunningJob) -> None:
        self._bulk = bulk
        self._running = running
        self._job_id = running.job.job_id
        self._command = IngestCatalog.model_validate(
            {**running.job.request, "job_id": self._job_id}
        )
        self._progress = Progress(**running.job.checkpoint)
        self._lane = bulk.client.bulk_lane()
        self._requests_before = self._progress.requests
        self._probing = asyncio.Lock()
        self._answered_at = float("-inf")

        self._feed: deque[Queued] = deque()
        self._fed_to = 0
        self._not_before: dict[int, float] = {}
        self._outcomes: list[_Outcome[Found]] = []
        self._failing = 0

    async def run(self) -> None:
        if not self._progress.listed:
            await self._read_lists()
        await self._fetch_films()
        _log.info("bulk run ends", extra=self._extra())

    @asynccontextmanager
    async def _step(self) -> AsyncGenerator[tuple[UnitOfWork, Progress]]:
        """One step; the progress that the block changes counts once it is committed."""
        progress = copy.deepcopy(self._progress)
        async with self._running.step() as step:
            yield step.work, progress
            progress.requests = self._requests_before + self._lane.requests
            step.advance(
                done=progress.fresh + progress.dealt_with,
                total=progress.found if progress.listed else None,
                rejected=progress.failed,
                checkpoint=asdict(progress),
                result=progress.result(),
            )
        self._progress = progress

    # The lists

    async def _read_lists(self) -> None:
        lists = [
            film_list
            for film_list in wanted_lists(self._command, today=datetime.now(UTC).date())
            if film_list.name not in self._progress.lists
        ]
        async with self._step() as (work, _):
            await ingest_queue.drop_queues_of_ended_jobs(work.connection)
            await ingest_queue.add(work.connection, self._job_id, self._command.tmdb_ids)
        readings = [
            asyncio.create_task(read_list(film_list, self._fetch_page)) for film_list in lists
        ]
        try:
            for film_list, reading in zip(lists, readings, strict=True):
                await self._keep_list(film_list, await reading)
        finally:
            await _cancel(readings)
        async with self._step() as (work, progress):
            films = await ingest_queue.all_films(work.connection, self._job_id)
            fresh: set[int] = set()
            if not self._command.force:
                since = work.now - self._bulk.fresh_for
                fresh = await self._bulk.catalogue.fresh_ids(work.connection, films, since)
                await ingest_queue.drop(work.connection, self._job_id, fresh)
            progress.listed = True
            progress.found, progress.fresh = len(films), len(fresh)
        _log.info("lists are read", extra=self._extra())

    async def _keep_list(self, film_list: FilmList, reading: Reading) -> None:
        async with self._step() as (work, progress):
            films = list(reading.tmdb_ids)
            if film_list.known_only:
                known = await self._bulk.catalogue.known_ids(work.connection, films)
                films = [tmdb_id for tmdb_id in films if tmdb_id in known]
            await ingest_queue.add(work.connection, self._job_id, films)
            if reading.unread:
                failures = [
                    Failure(item=unread.page, tmdb_id=None, reason=unread.reason)
                    for unread in reading.unread
                ]
                await self._bulk.catalogue.reject(work, self._job_id, failures)
            progress.failed += len(reading.unread)
            progress.lists[film_list.name] = reading.pages

    async def _fetch_page(self, film_list: FilmList, number: int) -> Page | Unread:
        params = {**film_list.params, "page": str(number)}
        delays = iter(self._bulk.retry_delays)
        while True:
            try:
                body = await self._bulk.client.fetch_json(film_list.path, params, lane=self._lane)
                return read_page(body)
            except TmdbUnreachableError:
                raise
            except (TmdbUnavailableError, TmdbAnswerError, ListPageError) as error:
                await self._raise_if_away(str(error))
                delay = next(delays, None)
                if delay is None:
                    return Unread(page=f"{film_list.name}, page {number}", reason=str(error))
                await asyncio.sleep(delay)

    # The films

    async def _fetch_films(self) -> None:
        pending: set[asyncio.Task[_Outcome[Found]]] = set()
        saved_at = time.monotonic()
        await self._save()
        try:
            while self._feed or pending:
                self._start_fetches(pending)
                away = await self._collect(pending, saved_at + _SAVE_EVERY)
                if away is not None:
                    self._outcomes = [one for one in self._outcomes if one.found is not None]
                    await self._save()
                    raise away
                due = time.monotonic() - saved_at >= _SAVE_EVERY or not pending
                if self._outcomes and (due or len(self._outcomes) >= self._bulk.chunk):
                    await self._save()
                    saved_at = time.monotonic()
        finally:
            await _cancel(pending)

    def _start_fetches(self, pending: set[asyncio.Task[_Outcome[Found]]]) -> None:
        while self._feed and len(pending) + len(self._outcomes) < self._bulk.window:
            if self._not_before.get(self._feed[0].tmdb_id, 0.0) > time.monotonic():
                return
            pending.add(asyncio.create_task(self._fetch(self._feed.popleft())))

    async def _collect(
        self, pending: set[asyncio.Task[_Outcome[Found]]], save_at: float
    ) -> Exception | None:
        """Wait for something to do; answers what says that TMDB as a whole is away."""
        if not pending:  # what is left waits for its next attempt
            await asyncio.sleep(_TICK)
            return None
        at_most = max(0.0, save_at - time.monotonic()) if self._outcomes else _TICK
        done, _ = await asyncio.wait(pending, timeout=at_most, return_when=asyncio.FIRST_COMPLETED)
        pending.difference_update(done)
        away: Exception | None = None
        for task in done:
            try:
                outcome = task.result()
            except _WHOLE_TMDB as error:
                away = error
                continue
            self._outcomes.append(outcome)
            self._failing = self._failing + 1 if outcome.found is None else 0
        if away is None and self._failing >= _SUSPICIOUS_FAILURES:
            try:
                await self._raise_if_away(self._outcomes[-1].reason)
            except (Outage, *_WHOLE_TMDB) as error:
                away = error
            self._failing = 0
        return away

    async def _fetch(self, film: Queued) -> _Outcome[Found]:
        try:
            answer = await self._bulk.client.fetch_movie(film.tmdb_id, lane=self._lane)
            return _Outcome(film=film, found=self._bulk.catalogue.finding_of(answer))
        except TmdbUnreachableError:
            raise
        except (TmdbUnavailableError, TmdbAnswerError, MovieDocumentError) as error:
            return _Outcome(film=film, reason=str(error))

    async def _save(self) -> None:
        """Store the outcomes at hand and read on in the queue.

        Another transaction may have got in the way; what was fetched is not thrown away for that.
        """
        for _ in range(_CONFLICTS):
            try:
                return await self._save_once()
            except Conflict:
                await asyncio.sleep(0.05)
        return await self._save_once()

    async def _save_once(self) -> None:
        delays = self._bulk.retry_delays
        found = [one for one in self._outcomes if one.found is not None]
        failed = [one for one in self._outcomes if one.found is None]
        again = [one for one in failed if one.film.attempts < len(delays)]
        given_up = [one for one in failed if one.film.attempts >= len(delays)]
        async with self._step() as (work, progress):
            if found:
                findings = [one.found for one in found if one.found is not None]
                stored = await self._bulk.catalogue.store_findings(work, findings)
                progress.new += stored.new
                progress.changed += stored.changed
                progress.unchanged += stored.unchanged
                progress.removed += stored.removed
            if given_up:
                failures = [
                    Failure(
                        item=f"film {one.film.tmdb_id}",
                        tmdb_id=one.film.tmdb_id,
                        reason=one.reason,
                    )
                    for one in given_up
                ]
                await self._bulk.catalogue.reject(work, self._job_id, failures)
                progress.failed += len(given_up)
            progress.dealt_with += len(found) + len(given_up)
            await ingest_queue.postpone(
                work.connection, self._job_id, _ids(again), behind=self._fed_to
            )
            await ingest_queue.drop(work.connection, self._job_id, _ids([*found, *given_up]))
            more = await ingest_queue.films_after(
                work.connection,
                self._job_id,
                self._fed_to,
                limit=max(1, 2 * self._bulk.window - len(self._feed)),
            )
        now = time.monotonic()
        for one in again:
            self._not_before[one.film.tmdb_id] = now + delays[one.film.attempts]
        self._feed.extend(more)
        self._fed_to = max([self._fed_to, *(film.position for film in more)])
        self._outcomes = []

    async def _raise_if_away(self, reason: str) -> None:
        """Ask TMDB for something else after a failure; many at once ask together.

        Raises:
            Outage: that fails as well.
        """
        async with self._probing:
            if time.monotonic() - self._answered_at < _PROBE_HOLDS:
                return
            try:
                await self._bulk.client.fetch_json(_PROBE, {}, lane=self._lane)
            except _WHOLE_TMDB:
                raise
            except TmdbError:
                raise Outage("TMDB", reason, retry_after=self._bulk.away_pause) from None
            self._answered_at = time.monotonic()

    def _extra(self) -> dict[str, Any]:
        return {"job_id": self._job_id, **self._progress.result()}


def _ids(outcomes: Iterable[_Outcome[Any]]) -> list[int]:
    return [outcome.film.tmdb_id for outcome in outcomes]


async def _cancel(tasks: Collection[asyncio.Task[_T]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
