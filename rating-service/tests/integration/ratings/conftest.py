"""The ratings on a real, empty PostgreSQL; events go in as the consumer would bring them.

After every test each aggregate is held against a recount of the ratings.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import pytest
from moviemetric_contracts import (
    Event,
    Movie,
    MovieRemoved,
    MovieUpserted,
    RateMovie,
    UnrateMovie,
)
from rating_service.bootstrap import NAME, SCHEMA
from rating_service.ratings.handlers import RatingHandlers
from service_kit import Ack, Database
from service_kit.migrations import upgrade
from service_kit.testing import deliver, outbox_events
from sqlalchemy import text

MOVIES = """
    SELECT movie_id, revision, present, film, tmdb_id, title, release_date, genres, genre_keys,
        vote_average, vote_count, poster_path FROM movies ORDER BY movie_id
"""
RATINGS = "SELECT * FROM ratings ORDER BY user_id, movie_id"
AGGREGATES = "SELECT movie_id, histogram FROM aggregates WHERE 0 < ANY (histogram) ORDER BY 1"
RECOUNT = """
    SELECT movie_id, array_agg(ratings ORDER BY step) AS histogram FROM (
        SELECT movie_id, step, count(*) FILTER (WHERE half_steps = step) AS ratings
        FROM ratings CROSS JOIN generate_series(1, 20) AS step
        WHERE movie_id IN (SELECT movie_id FROM ratings WHERE half_steps IS NOT NULL)
        GROUP BY movie_id, step) AS counted
    GROUP BY movie_id ORDER BY movie_id
"""
STRANDED = """
    SELECT * FROM ratings JOIN movies USING (movie_id) WHERE film IS NOT NULL
"""

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Store:
    """What is stored, and how it gets there."""

    database: Database
    handlers: RatingHandlers

    async def deliver(self, events: Sequence[Event[Any]]) -> None:
        """In this order, neighbours on the same queue as one batch; all must succeed."""
        by_ratings, by_catalogue = self.handlers.subscriptions()
        for is_command, neighbours in groupby(
            events, key=lambda event: isinstance(event.data, by_ratings.accepts)
        ):
            subscription = by_ratings if is_command else by_catalogue
            batch = list(neighbours)
            assert len(batch) <= subscription.batch_size
            assert await deliver(subscription, self.database, batch) == [Ack()] * len(batch)

    async def deliver_in_pieces(self, events: Sequence[Event[Any]], chance: random.Random) -> None:
        """In batches of any size."""
        rest = list(events)
        while rest:
            size = chance.choice((1, 1, 2, 5, 20))
            await self.deliver(rest[:size])
            rest = rest[size:]

    async def facts(self) -> list[Any]:
        """What was told to others since the last time, in order."""
        told = [event.data for event in await outbox_events(self.database)]
        await self.execute("DELETE FROM outbox")
        return told

    async def rows(self, statement: str) -> Rows:
        """The rows of a query."""
        async with self.database.reading() as connection:
            return [tuple(row) for row in await connection.execute(text(statement))]

    async def execute(self, statement: str) -> None:
        """Change something behind the service's back."""
        async with self.database.transaction() as connection:
            await connection.execute(text(statement))

    async def forget_everything(self) -> None:
        """As new."""
        await self.execute("TRUNCATE inbox, outbox, movies, ratings, aggregates, erased_users")

    async def content(self) -> dict[str, Rows]:
        """Everything, but for the number of changes that led to it."""
        return {
            "movies": await self.rows(MOVIES),
            "ratings": await self.rows(RATINGS),
            "aggregates": await self.rows(AGGREGATES),
        }

    async def scores(self) -> dict[tuple[str, str], float | None]:
        """By user and film; None where a rating was taken back."""
        rows = await self.rows("SELECT user_id, movie_id, half_steps FROM ratings")
        return {(user, film): None if steps is None else steps / 2 for user, film, steps in rows}

    async def check(self) -> None:
        """Every aggregate equals a recount, and nothing is kept under another key of a film."""
        assert await self.rows(AGGREGATES) == await self.rows(RECOUNT)
        assert await self.rows(STRANDED) == []

    async def somebody_waits_for_a_lock(self) -> None:
        """Return once another transaction cannot go on."""
        waiting = (
            "SELECT 1 FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        async with asyncio.timeout(30):
            while True:
                if await self.rows(waiting):
                    return
                await asyncio.sleep(0.01)


@dataclass(frozen=True)
class EventFactory:
    """Makes events with the parts a test does not care about filled in; `at` is in minutes."""

    epoch: datetime = datetime(2024, 5, 1, 12, tzinfo=UTC)

    def at(self, minutes: float) -> datetime:
        return self.epoch + timedelta(minutes=minutes)

    def of(self, data: Any, at: float = 0, event_id: str | None = None) -> Event[Any]:
        return Event.of(data, source="/test", time=self.at(at), id=event_id)

    def rate(
        self,
        user_id: str,
        movie_id: str,
        score: float,
        at: float = 0,
        *,
        review: str | None = None,
        event_id: str | None = None,
    ) -> Event[Any]:
        data = RateMovie(movie_id=movie_id, user_id=user_id, score=score, review=review)
        return self.of(data, at, event_id)

    def unrate(
        self, user_id: str, movie_id: str, at: float, event_id: str | None = None
    ) -> Event[Any]:
        return self.of(UnrateMovie(movie_id=movie_id, user_id=user_id), at, event_id)

    def upserted(self, movie_id: str, revision: int = 1, **fields: Any) -> Event[Any]:
        defaults: dict[str, Any] = {
            "title": f"Film {movie_id}",
            "genres": ("Drama",),
            "vote_average": 7.0,
            "vote_count": 100,
            "fetched_at": self.epoch,
        }
        movie = Movie(movie_id=movie_id, **(defaults | fields))
        return self.of(MovieUpserted(movie=movie, revision=revision))

    def removed(self, movie_id: str, revision: int) -> Event[Any]:
        return self.of(MovieRemoved(movie_id=movie_id, reason="gone", revision=revision))


@pytest.fixture
def make() -> EventFactory:
    """Events of a day in the past."""
    return EventFactory()


@pytest.fixture
async def database(postgres_database: str) -> AsyncGenerator[Database]:
    """The migrated schema."""
    await asyncio.to_thread(upgrade, postgres_database, package="rating_service", schema=SCHEMA)
    database = Database(postgres_database, schema=SCHEMA, application_name=NAME)
    yield database
    await database.dispose()


@pytest.fixture
async def store(database: Database) -> AsyncGenerator[Store]:
    """The ratings; afterwards all sums are right."""
    store = Store(database, RatingHandlers())
    yield store
    await store.check()


Replica = Callable[[Sequence[Event[Any]], int], Awaitable[None]]


@pytest.fixture
def replicas(store: Store) -> tuple[Replica, Replica]:
    """Consumers of the ratings and of the catalogue; any number may run at the same time."""

    def consumer(subscription: Any) -> Replica:
        async def consume(events: Sequence[Event[Any]], size: int) -> None:
            for start in range(0, len(events), size):
                batch = events[start : start + size]
                outcomes = await deliver(subscription, store.database, batch)
                assert outcomes == [Ack()] * len(batch)

        return consume

    by_ratings, by_catalogue = store.handlers.subscriptions()
    return consumer(by_ratings), consumer(by_catalogue)
