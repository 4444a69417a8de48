"""The service on a real, empty PostgreSQL; events go in as the consumer would bring them."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from compute_service.announcer import TrendAnnouncer
from compute_service.api import read_api
from compute_service.artifacts import (
    KIND,
    Artifact,
    ComputeRuns,
    GenreStatsDaily,
    RatingsByDecade,
    TrendingDaily,
)
from compute_service.bootstrap import NAME, PACKAGE, SCHEMA
from compute_service.handlers import TrendHandlers
from compute_service.subscriptions import subscriptions
from compute_service.trend import TrendFormula
from fastapi import FastAPI
from moviemetric_contracts import (
    Event,
    Movie,
    MovieRated,
    MovieRemoved,
    MovieUpserted,
    MovieViewed,
    Rating,
    RatingAggregated,
    RunCompute,
    TrendUpdated,
)
from service_kit import Ack, Database, Job, JobRunner, Outcome, install_problem_handlers
from service_kit.jobs import load_job
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


@dataclass(frozen=True)
class Computing:
    """Asks for jobs and runs them, as the service does."""

    database: Database
    formula: TrendFormula
    deliver_all: "Deliver"

    def artifacts(self, *, size: int = 1000) -> list[Artifact]:
        """What the service computes."""
        return [
            TrendingDaily(self.database, self.formula, size=size),
            GenreStatsDaily(self.database),
            RatingsByDecade(self.database),
        ]

    def runner(self, artifacts: Sequence[Artifact] | None = None) -> JobRunner:
        """Runs what was asked for."""
        runs = ComputeRuns(self.artifacts() if artifacts is None else artifacts)
        return JobRunner(self.database, source=NAME, runs={KIND: runs.run})

    async def ask(self, artifact: str, as_of: object = None) -> str:
        """A job that waits; answers its id."""
        job_id = f"compute-{uuid.uuid4().hex[:12]}"
        command = RunCompute.model_validate(
            {"job_id": job_id, "artifact": artifact, "as_of": as_of}
        )
        await self.deliver_all([Event.of(command, source="/test", time=datetime.now(UTC))])
        return job_id

    async def job(self, job_id: str) -> Job:
        """Where a job stands."""
        async with self.database.reading() as connection:
            job = await load_job(connection, job_id)
        assert job is not None
        return job

    async def __call__(
        self, artifact: str, as_of: object = None, *, artifacts: Sequence[Artifact] | None = None
    ) -> Job:
        """A job from its command to its end."""
        job_id = await self.ask(artifact, as_of)
        await self.runner(artifacts).run_pending()
        return await self.job(job_id)


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


@pytest.fixture
def compute(database: Database, formula: TrendFormula, deliver_all: Deliver) -> Computing:
    """Runs jobs of kind `compute`."""
    return Computing(database, formula, deliver_all)


@pytest.fixture
async def api(database: Database, formula: TrendFormula) -> AsyncGenerator[httpx.AsyncClient]:
    """Speaks to the service's routes."""
    app = FastAPI()
    install_problem_handlers(app)
    app.include_router(read_api(database, formula))
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://compute") as client:
        yield client
