"""How many films a chart has under each filter, without counting a million of them each time, and
where they are.

A count that takes no time is made whenever it is asked for, so small catalogues have exact totals.
A slow one is remembered: for some seconds it is answered as it is, after that it is still answered,
and made again in the background. Only who is the first to ask waits, or the first in a day.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from service_kit import Database

from compute_service import charts
from compute_service.charts import ChartFilter

log = logging.getLogger(__name__)
T = TypeVar("T")

FRESH_SECONDS: Final = 10.0
KEPT_SECONDS: Final = 86_400.0
AT_THE_BOTTOM_SECONDS: Final = 600.0
CHEAP_SECONDS: Final = 0.005
MOST_FILTERS: Final = 1000
# Counting a large chart keeps a processor busy that others need.
_AT_ONCE: Final = 2


@dataclass(frozen=True, slots=True)
class _Counted:
    total: int
    at: float
    cost: float


class ChartTotals:
    """Totals of the charts as this process knows them.

    Args:
        cheap: counts that took less, in seconds, are not remembered but made again.
        clock: seconds, for ages.
    """

    def __init__(
        self,
        database: Database,
        *,
        cheap: float = CHEAP_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._cheap = cheap
        self._clock = clock
        self._counted: OrderedDict[ChartFilter, _Counted] = OrderedDict()
        self._at_the_bottom: OrderedDict[ChartFilter, float] = OrderedDict()
        self._counting: dict[ChartFilter, asyncio.Task[int]] = {}
        self._room = asyncio.Semaphore(_AT_ONCE)

    def known(self, wanted: ChartFilter) -> int | None:
        """The last count, however old; None: never counted, or long forgotten."""
        counted = self._counted.get(wanted.normalised())
        return None if counted is None else counted.total

    def at_the_bottom(self, wanted: ChartFilter) -> bool:
        """Whether somebody has lately walked down a chart to find these films, in vain."""
        found_at = self._at_the_bottom.get(wanted.normalised())
        return found_at is not None and self._clock() - found_at < AT_THE_BOTTOM_SECONDS

    def learn_at_the_bottom(self, wanted: ChartFilter) -> None:
        """Somebody has just done so."""
        _put(self._at_the_bottom, wanted.normalised(), self._clock())

    def learn(self, wanted: ChartFilter, total: int) -> None:
        """Somebody has just counted."""
        self._keep(wanted.normalised(), _Counted(total, self._clock(), 0.0))

    async def total(self, wanted: ChartFilter) -> int:
        """Exact as of a moment ago, or as of the last count if counting takes long."""
        wanted = wanted.normalised()
        counted = self._counted.get(wanted)
        age = 0.0 if counted is None else self._clock() - counted.at
        if counted is None or counted.cost < self._cheap or age > KEPT_SECONDS:
            return await asyncio.shield(self._count(wanted))
        if age > FRESH_SECONDS:
            self._count(wanted)
        return counted.total

    async def close(self) -> None:
        """Give up what is being counted."""
        tasks = list(self._counting.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _count(self, wanted: ChartFilter) -> asyncio.Task[int]:
        """One count at a time for each filter, whoever waits for it."""
        task = self._counting.get(wanted)
        if task is None:
            task = self._counting[wanted] = asyncio.create_task(self._count_now(wanted))
            task.add_done_callback(lambda done: self._settle(wanted, done))
        return task

    async def _count_now(self, wanted: ChartFilter) -> int:
        async with self._room, self._database.reading() as connection:
            started = time.perf_counter()
            total = await charts.count_chart(connection, wanted)
            cost = time.perf_counter() - started
        self._keep(wanted, _Counted(total, self._clock(), cost))
        return total

    def _settle(self, wanted: ChartFilter, done: asyncio.Task[int]) -> None:
        del self._counting[wanted]
        if not done.cancelled() and (error := done.exception()) is not None:
            log.warning("a chart could not be counted", extra={"reason": repr(error)})

    def _keep(self, wanted: ChartFilter, counted: _Counted) -> None:
        _put(self._counted, wanted, counted)


def _put(known: OrderedDict[ChartFilter, T], wanted: ChartFilter, value: T) -> None:
    known[wanted] = value
    known.move_to_end(wanted)
    while len(known) > MOST_FILTERS:
        known.popitem(last=False)
