"""Publishes the commands whose time has come; the work of the leader."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from prometheus_client import Counter
from service_kit import Database, UnitOfWork, unit_of_work
from service_kit.leadership import lead

from compute_service.scheduling import repository
from compute_service.scheduling.planning import Move, plan
from compute_service.scheduling.repository import Stored
from compute_service.scheduling.table import Schedule

log = logging.getLogger(__name__)

LEADERSHIP: Final = "scheduler"
EVERY_SECONDS: Final = 1.0

_PUBLISHED = Counter("moviemetric_scheduled", "Commands published by the clock", ["schedule"])


@dataclass(frozen=True, slots=True)
class Published:
    """A command that has been published, or will be by the outbox."""

    name: str
    due: datetime
    event_id: str
    job_id: str


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Scheduler:
    """Leads, or stands by until it can.

    Args:
        source: the service's name.
        clock: tells the time, in UTC.
    """

    def __init__(
        self,
        database: Database,
        schedules: Sequence[Schedule],
        *,
        source: str,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._database = database
        self._schedules = {schedule.name: schedule for schedule in schedules}
        self._source = source
        self._clock = clock

    async def lead(self) -> None:
        """Publish what is due every second as long as this process leads; for a `Periodic`."""
        await lead(self._database, LEADERSHIP, self.publish_due, every=EVERY_SECONDS)

    async def publish_due(self) -> list[Published]:
        """Publish every command that is due now, once, whoever else tries the same."""
        now = self._clock()
        async with self._database.reading() as connection:
            seen = await repository.read_all(connection)
        if not self._moves(seen, now):
            return []
        async with unit_of_work(self._database, source=self._source) as work:
            stored = await repository.lock_known(work.connection, self._schedules)
            published = [
                entry
                for name, move in self._moves(stored, now).items()
                if (entry := await self._move(work, name, move, known=name in stored))
            ]
        for entry in published:
            _PUBLISHED.labels(entry.name).inc()
            log.info(
                "published a command by the clock",
                extra={
                    "schedule": entry.name,
                    "due": entry.due.isoformat(),
                    "event_id": entry.event_id,
                    "job_id": entry.job_id,
                },
            )
        return published

    def _moves(self, stored: Mapping[str, Stored], now: datetime) -> dict[str, Move]:
        moves = {
            name: plan(schedule.cron, stored[name].progress if name in stored else None, now)
            for name, schedule in self._schedules.items()
        }
        return {name: move for name, move in moves.items() if move is not None}

    async def _move(
        self, work: UnitOfWork, name: str, move: Move, *, known: bool
    ) -> Published | None:
        if not known:
            await repository.begin_unless_known(work.connection, name, move.progress)
            return None
        await repository.move_locked(work.connection, name, move.progress)
        if move.due is None:
            return None
        schedule, due = self._schedules[name], move.due
        published = Published(name, due, schedule.event_id(due), schedule.job_id(due))
        # Its time is when it was due: published twice, it is the same to the last byte.
        work.emit(schedule.command(due), id=published.event_id, time=due)
        await repository.record_publication(
            work.connection, name, due=due, event_id=published.event_id, job_id=published.job_id
        )
        return published
