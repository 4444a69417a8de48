"""`trending`: the charts of a day, each film with its rank, its score and how it got there.

A chart is computed from the events that are stored, as it was when its day ended. The source's
popularity and votes, the local ratings and which keys are a film's have no history: they are taken
as they are known now, the popularity as if it had been fetched at the day's end if that was before.
So for the present day the chart equals the live one, and a past day's can be computed at any time.
"""

from typing import Final

from service_kit import Database
from sqlalchemy.ext.asyncio import AsyncConnection

from compute_service.artifacts import repository
from compute_service.artifacts.artifact import Day, Write
from compute_service.artifacts.repository import Place
from compute_service.trend import TrendFormula, Window

NAME: Final = "trending"


class TrendingDaily:
    """Both charts of a day, cut off after `size` films."""

    name = NAME

    def __init__(self, database: Database, formula: TrendFormula, *, size: int) -> None:
        self._database = database
        self._formula = formula
        self._size = size

    async def prepare(self, day: Day) -> Write:
        """Rank all films as of the end of that day."""
        async with self._database.reading() as connection:
            charts = await repository.compute_chart(
                connection, self._formula, day.until, size=self._size
            )
        places = [
            Place(window, movie_id, rank, self._formula.score(window, rank_key, day.until))
            for window in Window
            for rank, (movie_id, rank_key) in enumerate(charts[window], start=1)
        ]

        async def write(connection: AsyncConnection) -> int:
            await repository.replace_chart(connection, day.date, places)
            return len(places)

        return write
