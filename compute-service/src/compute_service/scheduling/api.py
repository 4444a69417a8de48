"""`GET /schedules`: what is published by the clock, when it was last, and when it will be next."""

from collections.abc import Sequence
from datetime import UTC, datetime

from fastapi import APIRouter
from moviemetric_contracts import RunCompute
from pydantic import BaseModel
from service_kit import Database
from service_kit.leadership import find_leader

from compute_service.scheduling import repository
from compute_service.scheduling.planning import Progress, next_due
from compute_service.scheduling.repository import Stored
from compute_service.scheduling.scheduler import LEADERSHIP
from compute_service.scheduling.table import Schedule


class ScheduleState(BaseModel):
    """A schedule as its leader has it, or as this process is set up while none has seen it.

    `cron` is None while it is off. `last_due` is the fire time of the command published last.
    `next_due` lies in the past while a missed one waits for a leader.
    """

    name: str
    cron: str | None
    command: str
    artifact: str | None
    last_due: datetime | None
    last_published_at: datetime | None
    last_job_id: str | None
    next_due: datetime | None


class LeaderState(BaseModel):
    """Whether anybody leads, and which process: `<host>:<pid>`."""

    held: bool
    process: str | None


class ScheduleList(BaseModel):
    """All schedules, in the order of the clock."""

    items: list[ScheduleState]
    leader: LeaderState
    as_of: datetime


def schedules_api(database: Database, schedules: Sequence[Schedule]) -> APIRouter:
    """The route of every process of the service."""
    router = APIRouter()

    @router.get("/schedules")
    async def read_schedules() -> ScheduleList:
        now = datetime.now(UTC)
        async with database.reading() as connection:
            stored = await repository.read_all(connection)
            leader = await find_leader(connection, LEADERSHIP)
        return ScheduleList(
            items=[_state(schedule, stored.get(schedule.name), now) for schedule in schedules],
            leader=LeaderState(held=leader is not None, process=leader),
            as_of=now,
        )

    _ = read_schedules
    return router


def _state(schedule: Schedule, stored: Stored | None, now: datetime) -> ScheduleState:
    progress = Progress(schedule.cron, now) if stored is None else stored.progress
    last = None if stored is None else stored.last
    command = schedule.command(now)
    return ScheduleState(
        name=schedule.name,
        cron=None if progress.cron is None else progress.cron.expression,
        command=command.TYPE,
        artifact=command.artifact if isinstance(command, RunCompute) else None,
        last_due=None if last is None else last.due,
        last_published_at=None if last is None else last.published_at,
        last_job_id=None if last is None else last.job_id,
        next_due=next_due(progress, now),
    )
