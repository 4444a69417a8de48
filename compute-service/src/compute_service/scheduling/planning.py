"""When a schedule is due. Pure: the clock is an argument. All times are in UTC.

A schedule's progress is one moment, `done_until`: of fire times up to it nothing is left to do. So

- of several fire times that were missed, the newest one alone is made up;
- a schedule begins at the moment at which it is first seen, and so does a changed expression: it
  was not in force before. What the old one missed is still made up, unless it is off now;
- a clock that goes back makes nothing due again. One that was far ahead, and comes back, must not
  keep a schedule waiting until then.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from cronsim import CronSim, CronSimError

# Progress that lies further ahead than clocks differ was made by a wrong one.
_DISBELIEVED: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)
_ANY_DAY: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression in five fields, or in six with seconds as the first; in UTC."""

    expression: str

    @classmethod
    def parse(cls, expression: str) -> Self:
        """Read an expression; blanks between its fields do not matter.

        Raises:
            ValueError: it is none, or never fires.
        """
        cron = cls(" ".join(expression.split()))
        try:
            fires = cron.following(_ANY_DAY) is not None
        except CronSimError as error:
            msg = f"{expression!r} is no cron expression: {error}"
            raise ValueError(msg) from None
        if not fires:
            msg = f"{expression!r} never comes true"
            raise ValueError(msg)
        return cron

    def newest(self, until: datetime) -> datetime | None:
        """The last fire time that is not after `until`; None if there was none for 50 years."""
        return next(CronSim(self.expression, _whole(until) + _SECOND, reverse=True), None)

    def following(self, moment: datetime) -> datetime | None:
        """The first fire time after `moment`; None if there is none for 50 years."""
        return next(CronSim(self.expression, _whole(moment)), None)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a schedule is, and the expression that was in force so far; None while off."""

    cron: Cron | None
    done_until: datetime


@dataclass(frozen=True, slots=True)
class Move:
    """A schedule's next progress; `due` is the fire time whose command is to be published."""

    progress: Progress
    due: datetime | None = None


def plan(cron: Cron | None, known: Progress | None, now: datetime) -> Move | None:
    """What is to be done about a schedule now; None for nothing.

    Args:
        cron: the expression that is in force from now on; None if the schedule is off.
    """
    begun = Progress(cron, now)
    if known is None:
        return Move(begun)
    changed = known.cron != cron
    if cron is None:
        return Move(begun) if changed else None
    if known.done_until - now > _DISBELIEVED:
        return Move(begun)
    due = _missed(known, now)
    if changed:
        return Move(begun, due)
    return None if due is None else Move(Progress(cron, due), due)


def next_due(progress: Progress, now: datetime) -> datetime | None:
    """The fire time of the next command: one that was missed, or else the first that is to come.

    None while the schedule is off.
    """
    if progress.cron is None:
        return None
    return _missed(progress, now) or progress.cron.following(max(now, progress.done_until))


def _missed(progress: Progress, now: datetime) -> datetime | None:
    newest = None if progress.cron is None else progress.cron.newest(now)
    return newest if newest is not None and newest > progress.done_until else None


def _whole(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)
