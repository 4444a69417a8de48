"""`genre-stats`: how many films each genre has, how much they were viewed on a day, how they rate.

Views are those of the day, by UTC. The catalogue has no history: films, votes and local ratings are
taken as they are known now. Spellings that differ in case only are one genre, shown as most films
have it.
"""

from typing import Final

from service_kit import Database
from sqlalchemy.ext.asyncio import AsyncConnection

from compute_service.artifacts import repository
from compute_service.artifacts.artifact import Day, Write

NAME: Final = "genre-stats"


class GenreStatsDaily:
    """Figures of every genre."""

    name = NAME

    def __init__(self, database: Database) -> None:
        self._database = database

    async def prepare(self, day: Day) -> Write:
        """Count that day's views, and the films."""
        async with self._database.reading() as connection:
            stats = await repository.compute_genres(connection, day)

        async def write(connection: AsyncConnection) -> int:
            await repository.replace_genres(connection, day.date, stats)
            return len(stats)

        return write
