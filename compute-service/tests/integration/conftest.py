"""The service on a real, empty PostgreSQL; events go in as the consumer would bring them."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from compute_service.announcer import TrendAnnouncer
from compute_service.bootstrap import NAME, PACKAGE, SCHEMA
from compute_service.handlers import TrendHandlers
from compute_service.subscriptions import subscriptions
from compute_service.trend import TrendFormula
from moviemetric_contracts import (
    Event,
    Movie,
    MovieRated,
    MovieRemoved,
    MovieUpserted,
    MovieViewed,
    Rating,
    RatingAggregated,
    TrendUpdated,
)
from service_kit import Ack, Database, Outcome
from service_kit.migrations import upgrade
from service_kit.testing import deliver, outbox_events
from sqlalchemy import text


@dataclass(frozen=True)
class EventFactory:
    """Makes events with the parts a test does not care about filled in."""

    now: datetime

    def of(self, data: Any) -> Event[Any]:
        return Event.of(data, source="/test", time=self.now)

    def viewed(
        self, movie_id: str, *, ago: timedelta = timedelta(0), user_id: str | None = None
    ) -> Event[Any]:
        return self.of(MovieViewed(movie_id=movie_id, viewed_at=self.now - ago, user_id=user_id))

    def upserted(self, movie_id: str, revision: int = 1, **fields: Any) -> Event[Any]:
        defaults: dict[str, Any] = {
            "title": f"Film {movie_id}",
            "genres": ("Drama",),
            "original_language": "en",
            "vote_average": 7.0,
            "vote_count": 100,
            "popularity": 20.0,
            "fetched_at": self.now,
        }
        movie = Movie(movie_id=movie_id, **(defaults | fields))
        return self.of(MovieUpserted(movie=movie, revision=revision))

    def removed(self, movie_id: str, revision: int) -> Event[Any]:
        return self.of(MovieRemoved(movie_id=movie_id, reason="gone", revision=revision))

    def rated(self, movie_id: str, score: float = 8.0) -> Event[Any]:
        rating = Rating(score=score, rated_at=self.now)
        return self.of(MovieRated(movie_id=movie_id, user_id="ada", rating=rating))

    def aggregated(self, movie_id: str, scores: Sequence[float], revision: int) -> Event[Any]:
        histogram = tuple(scores.count((step + 1) / 2) for step in range(20))
        return self.of(
            RatingAggregated(
                movie_id=movie_id,
                count=len(scores),
                mean=sum(scores) / len(scores) if scores else None,
                histogram=histogram,
                revision=revision,
            )
        )


Deliver = Callable[[Sequence[Event[Any]]], Awaitable[list[Outcome]]]
Sweep = Callable[[], Awaitable[list[TrendUpdated]]]


@pytest.fixture
def make() -> EventFactory:
    """Events as of now."""
    return EventFactory(datetime.now(UTC))


@pytest.fixture
def formula() -> TrendFormula:
    """The formula the service under test uses."""
    return TrendFormula()


@pytest.fixture
async def database(postgres_database: str) -> AsyncGenerator[Database]:
    """The migrated schema."""
    await asyncio.to_thread(upgrade, postgres_database, package=PACKAGE, schema=SCHEMA)
    database = Database(postgres_database, schema=SCHEMA, application_name=NAME)
    yield database
    await database.dispose()


@pytest.fixture
def deliver_all(database: Database, formula: TrendFormula) -> Deliver:
    """Each event through the subscription that accepts it; all must succeed."""
    table = subscriptions(TrendHandlers(formula))

    async def send(events: Sequence[Event[Any]]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for subscription in table:
            accepted = [event for event in events if isinstance(event.data, subscription.accepts)]
            size = subscription.batch_size
            for start in range(0, len(accepted), size):
                outcomes += await deliver(subscription, database, accepted[start : start + size])
        assert outcomes == [Ack()] * len(events)
        return outcomes

    return send


@pytest.fixture
def sweep(database: Database, formula: TrendFormula) -> Sweep:
    """One sweep of the announcer; answers what it announced and empties the outbox."""
    announcer = TrendAnnouncer(database, formula, source=NAME, page=10)

    async def run() -> list[TrendUpdated]:
        await announcer.sweep()
        announced = [event.data for event in await outbox_events(database)]
        async with database.transaction() as connection:
            await connection.execute(text("DELETE FROM outbox"))
        return announced

    return run
