"""`ratings-by-decade`: how many films each decade has, and how they rate.

A decade is named by its first year. Films without a release date are in none. The mean is that of
the source's averages over films with votes, each film counting once: a film without votes has no
average, which is no 0. The catalogue has no history, so a past day's figures are today's.
"""

from typing import Final

from service_kit import Database
from sqlalchemy.ext.asyncio import AsyncConnection

from compute_service.artifacts import repository
from compute_service.artifacts.artifact import Day, Write

NAME: Final = "ratings-by-decade"


class RatingsByDecade:
    """Figures of every decade."""

    name = NAME

    def __init__(self, database: Database) -> None:
        self._database = database

    async def prepare(self, day: Day) -> Write:
        """Count the films."""
        async with self._database.reading() as connection:
            stats = await repository.compute_decades(connection)

        async def write(connection: AsyncConnection) -> int:
            await repository.replace_decades(connection, day.date, stats)
            return len(stats)

        return write
