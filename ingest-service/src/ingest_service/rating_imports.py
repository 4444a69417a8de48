"""Imports of ratings: each row becomes a command to rating-service, with the time that it bears.

A chunk is published before the step that commits it. An import that is killed in between publishes
it again, and so does another import of the same file: the ids are the same, so that nothing more
comes of it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final

from service_kit import Outgoing
from service_kit.jobs import RunningJob, Step

from ingest_service.formats import RatingFormat, StarRating
from ingest_service.formats.ratings import FILM, TIME
from ingest_service.import_rows import (
    Chunk,
    ChunkReader,
    RowSource,
    add_unusable,
)
from ingest_service.import_runs import ImportRun
from ingest_service.rating_commands import RatingCommands, RatingEnvelope
from ingest_service.reading import JsonRow, Row
from ingest_service.records import Rejection

SENT: Final = "sent"
SORTED_TOGETHER: Final = 100_000

# Of a clock that is ahead of this one; the same that rating-service allows.
_AHEAD: Final = 300
_LOOK_EVERY: Final = 0.05
# Commands are published in parts, so that the ratings of people do not wait behind a whole chunk.
_AT_A_TIME: Final = 2_000
_TELL_EVERY: Final = 2.0

FilmRating = tuple[str, StarRating]
"""A rating with the key of its film."""


@dataclass(slots=True)
class RatingChunk(Chunk):
    """Rows that are ratings."""

    ratings: list[FilmRating] = field(default_factory=list[FilmRating])

    def by_film(self) -> list[FilmRating]:
        """The ratings, a film's side by side.

        The files have a user's side by side. rating-service tells of a film once for all of its
        ratings in a batch, so that this order saves most of what follows from an import.
        """
        return sorted(self.ratings, key=itemgetter(0))


class RatingReader(ChunkReader[RatingChunk]):
    """Reads ratings, which are short: many at a time, so that films come together.

    Args:
        items: the films by the numbers that the file names them by; None: these are MovieLens ids.
        rows: how many at a time.
    """

    def __init__(
        self,
        source: RowSource,
        file_format: RatingFormat,
        *,
        skip: int,
        items: Mapping[int, str] | None,
        rows: int,
    ) -> None:
        super().__init__(source, skip=skip)
        self.rows_a_chunk = rows
        self._format = file_format
        self._items = items

    def new_chunk(self) -> RatingChunk:
        return RatingChunk()

    def taker(self, chunk: RatingChunk) -> Callable[[Row | JsonRow], int]:
        read, refuse = self._format.read, self._format.refuse
        items, latest = self._items, time.time() + _AHEAD

        def take(row: Row | JsonRow) -> int:
            found = read(row)
            if not isinstance(found, StarRating):
                return add_unusable(chunk, found)
            if found.rated_at > latest:
                reason = f"expected a time that has been, got {found.rated_at}, which is to come"
                return add_unusable(chunk, refuse(row, TIME, reason))
            if items is None:
                movie_id = f"movielens-{found.film}"
            elif found.film in items:
                movie_id = items[found.film]
            else:
                return add_unusable(chunk, refuse(row, FILM, self._unknown(found.film)))
            chunk.ratings.append((movie_id, found))
            return 0  # its texts are short: rows bound them

        return take

    def _unknown(self, item: int) -> str:
        if not self._items:
            return "which film this is, only u.item says: import u.item first"
        return f"u.item, as it was imported, names no film {item}"


class RatingImport(ImportRun[RatingChunk]):
    """One attempt at one file of ratings; in a dry run nothing is published."""

    def __init__(
        self,
        running: RunningJob,
        source: RowSource,
        file_format: RatingFormat,
        *,
        size: int | None,
        items: Mapping[int, str] | None,
        commands: RatingCommands,
        sorted_together: int = SORTED_TOGETHER,
    ) -> None:
        super().__init__(running, file_format, effects=(SENT,), size=size)
        self._source = source
        self._format = file_format
        self._items = items
        self._commands = commands
        self._sorted_together = sorted_together
        self._message_of = RatingEnvelope(running.cause).message_of
        self._tell_at = time.monotonic() + _TELL_EVERY

    def open_reader(self, skip: int) -> RatingReader:
        return RatingReader(
            self._source,
            self._format,
            skip=skip,
            items=self._items,
            rows=self._sorted_together,
        )

    async def take(self, chunk: RatingChunk) -> None:
        ratings = [] if self._dry_run else chunk.by_film()
        for start in range(0, len(ratings), _AT_A_TIME):
            await self._wait_for_rating_service()
            part = ratings[start : start + _AT_A_TIME]
            await self._commands.publish(await asyncio.to_thread(self._messages, part))
            sent = start + len(part)
            await self._tell(f"{sent:,} of the next {len(ratings):,} ratings are published")
        await super().take(chunk)

    def _messages(self, ratings: Sequence[FilmRating]) -> list[Outgoing]:
        return [self._message_of(rating, movie_id) for movie_id, rating in ratings]

    async def apply(self, chunk: RatingChunk, step: Step) -> tuple[Counter[str], list[Rejection]]:
        del step
        return Counter({SENT: len(chunk.ratings)}), []

    async def _wait_for_rating_service(self) -> None:
        """Until it has caught up, however long that takes."""
        while waiting := await self._commands.waiting():
            await self._tell(f"waiting: rating-service has {waiting:,} ratings to take")
            await asyncio.sleep(_LOOK_EVERY)

    async def _tell(self, note: str) -> None:
        """How it stands, every other second; a step also notices a cancellation.

        `done` stays as it is: only what is never done again is headway, and an import that dies
        without any must not be tried for ever.
        """
        if time.monotonic() >= self._tell_at:
            async with self._running.step() as step:
                step.advance(note=note)
            self._tell_at = time.monotonic() + _TELL_EVERY
