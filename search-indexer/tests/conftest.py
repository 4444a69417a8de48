"""Films, events, databases and search engines for the tests of this package."""

import os
import socket
import subprocess
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import pytest
from moviemetric_contracts import (
    CastMember,
    CrewMember,
    Event,
    Message,
    Movie,
    MovieRemoved,
    MovieUpserted,
    TrendBreakdown,
    TrendEntry,
    TrendUpdated,
)
from search_indexer.engine import SearchEngine
from search_indexer.index_sync import IndexSync
from search_indexer.meilisearch_engine import MeilisearchEngine
from search_indexer.postgres_engine import PostgresEngine
from search_indexer.subscriptions import SUBSCRIPTIONS
from service_kit import Ack, Database
from service_kit.migrations import upgrade
from service_kit.testing import deliver

M = TypeVar("M", bound=Message)
NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class MeilisearchServer:
    """Where a Meilisearch server listens, and its key."""

    url: str
    key: str

    def engine(self, index: str) -> MeilisearchEngine:
        """An engine for one index."""
        return MeilisearchEngine(url=self.url, key=self.key, index=index)


class Make:
    """Makes films and events."""

    @staticmethod
    def movie(
        tmdb_id: int,
        title: str,
        *,
        released: str | None = None,
        cast: Sequence[str] = (),
        directors: Sequence[str] = (),
        original_title: str | None = None,
        language: str | None = "en",
        overview: str | None = None,
        genres: Sequence[str] = (),
        keywords: Sequence[str] = (),
        vote_average: float | None = None,
        vote_count: int = 0,
        popularity: float = 1.0,
        aliases: Sequence[str] = (),
    ) -> Movie:
        """A film with the fields that search looks at."""
        return Movie(
            movie_id=f"tmdb-{tmdb_id}",
            tmdb_id=tmdb_id,
            title=title,
            original_title=original_title,
            original_language=language,
            overview=overview,
            release_date=date.fromisoformat(released) if released else None,
            genres=tuple(genres),
            keywords=tuple(keywords),
            cast=tuple(CastMember(name=name, order=n) for n, name in enumerate(cast)),
            crew=tuple(CrewMember(name=name, job="Director") for name in directors),
            vote_average=vote_average,
            vote_count=vote_count,
            popularity=popularity,
            aliases=tuple(aliases),
            fetched_at=NOW,
        )

    @staticmethod
    def event(data: M) -> Event[M]:
        """An event that carries `data`."""
        return Event.of(data, source="test", time=NOW)

    @classmethod
    def upserted(cls, movie: Movie, revision: int = 1) -> Event[MovieUpserted]:
        """The film as it is at a revision."""
        return cls.event(MovieUpserted(movie=movie, revision=revision))

    @classmethod
    def removed(cls, movie_id: str, revision: int) -> Event[MovieRemoved]:
        """The film is gone."""
        return cls.event(MovieRemoved(movie_id=movie_id, reason="gone", revision=revision))

    @classmethod
    def trend(cls, revision: int, **entries: tuple[float, float, int]) -> Event[TrendUpdated]:
        """`tmdb_5=(score, rank_key, views)`: the trends of some films."""
        return cls.event(
            TrendUpdated(
                as_of=NOW,
                revision=revision,
                entries=tuple(
                    TrendEntry(
                        movie_id=name.replace("_", "-"),
                        score=score,
                        rank_key=rank_key,
                        views=views,
                        breakdown=TrendBreakdown(activity=1.0, quality=5.0),
                    )
                    for name, (score, rank_key, views) in entries.items()
                ),
            )
        )


@pytest.fixture(scope="session")
def make() -> type[Make]:
    """Makes films and events."""
    return Make


@pytest.fixture(scope="session")
def meilisearch_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Generator[MeilisearchServer]:
    """A Meilisearch server: MEILISEARCH_TEST_URL, or one started from MEILISEARCH_BINARY."""
    if url := os.environ.get("MEILISEARCH_TEST_URL"):
        yield MeilisearchServer(url, os.environ.get("MEILISEARCH_TEST_KEY", ""))
        return
    binary = os.environ.get("MEILISEARCH_BINARY")
    if not binary:
        pytest.skip("needs Meilisearch: set MEILISEARCH_BINARY to the program, or _TEST_URL")
    folder = tmp_path_factory.mktemp("meilisearch")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = MeilisearchServer(f"http://127.0.0.1:{port}", uuid4().hex)
    command = [binary, "--http-addr", f"127.0.0.1:{port}", "--db-path", str(folder / "data")]
    command += ["--no-analytics", "--env", "development", "--master-key", server.key]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    try:
        _wait_for(server.url, process, log)
        yield server
    finally:
        process.kill()
        process.wait(10)


def _wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(f"{url}/health", timeout=1).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"Meilisearch did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture
def database_url(postgres_database: str) -> str:
    """A database with the service's schema."""
    upgrade(postgres_database, package="search_indexer", schema="search")
    return postgres_database


@pytest.fixture
async def database(database_url: str) -> AsyncGenerator[Database]:
    """The service's database."""
    database = Database(database_url, schema="search")
    yield database
    await database.dispose()


@dataclass(frozen=True)
class World:
    """A database, and an engine that searches what it says."""

    database: Database
    engine: SearchEngine

    async def settle(self) -> None:
        """Everything that the database says can be searched."""
        if isinstance(self.engine, MeilisearchEngine):
            await IndexSync(self.database, self.engine, engine="Meilisearch").run()

    async def deliver(self, *events: Event[Any]) -> None:
        """Hands events to the subscriptions that take them, and makes their effect searchable."""
        for subscription in SUBSCRIPTIONS:
            taken = [event for event in events if isinstance(event.data, subscription.accepts)]
            if taken:
                outcomes = await deliver(subscription, self.database, taken)
                assert all(isinstance(outcome, Ack) for outcome in outcomes), outcomes
        await self.settle()


def _engine(backend: str, database: Database, request: pytest.FixtureRequest) -> SearchEngine:
    if backend == "postgres":
        return PostgresEngine(database)
    server: MeilisearchServer = request.getfixturevalue("meilisearch_server")
    return server.engine(f"test-{uuid4().hex}")


@pytest.fixture(params=["postgres", "meilisearch"])
async def world(database: Database, request: pytest.FixtureRequest) -> AsyncGenerator[World]:
    """An empty database with each engine in turn."""
    engine = _engine(request.param, database, request)
    yield World(database, engine)
    await engine.close()
