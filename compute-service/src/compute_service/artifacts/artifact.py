"""What an artifact is, and the day that one is computed for.

An artifact is made in two parts. `prepare` does what is slow, outside of any transaction, and may
be called again after a failure. What it returns then writes the artifact within the step of the
job, so that readers see the whole old one or the whole new one, and a job that fails leaves the old
one as it was.
"""

import datetime as dt
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

Write = Callable[[AsyncConnection], Awaitable[int]]
"""Replaces the artifact on the caller's transaction; answers how many rows it has."""


@dataclass(frozen=True, slots=True)
class Day:
    """The day (UTC) of an artifact.

    Attributes:
        date: names it.
        until: what happened before this moment counts: the end of the day, or now on the present
            day.
    """

    date: dt.date
    until: dt.datetime

    @classmethod
    def of(cls, day: dt.date, now: dt.datetime) -> "Day":
        """A day that has begun.

        Raises:
            ValueError: it lies in the future.
        """
        if day > now.astimezone(dt.UTC).date():
            msg = f"as_of: {day} lies in the future"
            raise ValueError(msg)
        end = dt.datetime.combine(day, dt.time(tzinfo=dt.UTC)) + dt.timedelta(days=1)
        return cls(day, min(end, now))


class Artifact(Protocol):
    """One kind of artifact."""

    @property
    def name(self) -> str:
        """As `compute.run` names it."""
        ...

    async def prepare(self, day: Day) -> Write:
        """Compute what the artifact of that day is.

        Raises:
            JobFailed: it can never be computed; says why.
        """
        ...
