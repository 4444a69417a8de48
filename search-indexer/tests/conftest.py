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
    RatingAggregated,
    TrendBreakdown,
    TrendEntry,
    TrendUpdated,
)
from search_indexer.documents import Document, Figures, Stamp
from search_indexer.engine import ChangeRefusedError, SearchEngine
from search_indexer.index_sync import IndexSync, IndexWriter
from search_indexer.meilisearch_engine import MeilisearchEngine
from search_indexer.meilisearch_index import MeilisearchIndex
from search_indexer.postgres_engine import PostgresEngine
from search_indexer.subscriptions import SUBSCRIPTIONS
from service_kit import Ack, Database, Outage
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
        """Searches one index."""
        return MeilisearchEngine(url=self.url, key=self.key, index=index)

    def index(self, index: str) -> MeilisearchIndex:
        """Keeps one index."""
        return MeilisearchIndex(url=self.url, key=self.key, index=index)


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

    @classmethod
    def rated(cls, movie_id: str, revision: int, *scores: float) -> Event[RatingAggregated]:
        """All ratings of a film as they are at a revision."""
        histogram = [0] * 20
        for score in scores:
            histogram[int(score * 2) - 1] += 1
        return cls.event(
            RatingAggregated(
                movie_id=movie_id,
                count=len(scores),
                mean=sum(scores) / len(scores) if scores else None,
                histogram=tuple(histogram),
                revision=revision,
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
    # So much is filled with zeros for each batch of tasks; the default is most of a machine's.
    command += ["--max-indexing-memory", "256MiB"]
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
    writer: IndexWriter | None = None

    async def settle(self) -> None:
        """Everything that the database says can be searched."""
        if self.writer is not None:
            await IndexSync(self.database, self.writer).run()

    async def deliver(self, *events: Event[Any]) -> None:
        """Hands events to the subscriptions that take them, and makes their effect searchable."""
        for subscription in SUBSCRIPTIONS:
            taken = [event for event in events if isinstance(event.data, subscription.accepts)]
            if taken:
                outcomes = await deliver(subscription, self.database, taken)
                assert all(isinstance(outcome, Ack) for outcome in outcomes), outcomes
        await self.settle()


class RecordingIndex:
    """An external index in memory that can be away, refuse films, and call back while writing."""

    def __init__(self, identity: str = "first") -> None:
        self.created = identity
        self.documents: dict[str, tuple[Document, Figures]] = {}
        self.away = False
        self.refused: set[str] = set()
        self.meanwhile: Any = None
        self.next: RecordingIndex | None = None
        self.made = 0

    async def ensure_ready(self) -> str:
        self._check()
        if not self.created:
            self.made += 1
            self.created = f"next {self.made}"
        return self.created

    async def identity(self) -> str | None:
        self._check()
        return self.created or None

    async def index(self, documents: Sequence[tuple[Document, Figures]]) -> None:
        self._check(*(document.movie_id for document, _ in documents))
        self.documents.update({document.movie_id: (document, f) for document, f in documents})
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()

    async def remove(self, movie_ids: Sequence[str]) -> None:
        self._check(*movie_ids)
        for movie_id in movie_ids:
            self.documents.pop(movie_id, None)

    async def update_figures(self, figures: Sequence[tuple[str, Figures]]) -> None:
        self._check(*(movie_id for movie_id, _ in figures))
        for movie_id, new in figures:
            if movie_id in self.documents:
                document, old = self.documents[movie_id]
                merged = Figures(trend=new.trend or old.trend, ratings=new.ratings or old.ratings)
                self.documents[movie_id] = document, merged

    async def apply(
        self,
        *,
        removed: Sequence[str],
        documents: Sequence[tuple[Document, Figures]],
        figures: Sequence[tuple[str, Figures]],
    ) -> None:
        await self.remove(removed)
        await self.index(documents)
        await self.update_figures(figures)

    async def count(self) -> int:
        self._check()
        return len(self.documents)

    async def stamps(self, movie_ids: Sequence[str]) -> dict[str, Stamp]:
        self._check()
        held = {key: self.documents[key] for key in movie_ids if key in self.documents}
        return {
            key: Stamp(
                revision=document.revision,
                trend_revision=figures.trend.revision if figures.trend else 0,
                ratings_revision=figures.ratings.revision if figures.ratings else 0,
            )
            for key, (document, figures) in held.items()
        }

    async def page_of_ids(self, offset: int, limit: int) -> list[str]:
        self._check()
        return list(self.documents)[offset : offset + limit]

    async def drop(self) -> None:
        self._check()
        self.documents, self.created = {}, ""

    def successor(self) -> "RecordingIndex":
        self.next = self.next or RecordingIndex("")
        return self.next

    async def swap_in_successor(self, identity: str) -> None:
        self._check()
        other = self.successor()
        if self.created == identity:
            return
        assert other.created == identity
        self.documents, other.documents = other.documents, self.documents
        self.created, other.created = other.created, self.created

    async def health(self) -> None:
        self._check()

    async def close(self) -> None: ...

    def _check(self, *movie_ids: str) -> None:
        if self.away:
            raise Outage("index", "away")
        if refused := self.refused.intersection(movie_ids):
            raise ChangeRefusedError("index", f"bad: {sorted(refused)}")

    @property
    def titles(self) -> dict[str, str]:
        return {key: document.title for key, (document, _) in self.documents.items()}


@pytest.fixture(scope="session")
def recording_index() -> type[RecordingIndex]:
    """Makes external indexes in memory."""
    return RecordingIndex


@pytest.fixture(params=["postgres", "meilisearch"])
async def world(database: Database, request: pytest.FixtureRequest) -> AsyncGenerator[World]:
    """An empty database with each engine in turn."""
    if request.param == "postgres":
        yield World(database, PostgresEngine(database))
        return
    server: MeilisearchServer = request.getfixturevalue("meilisearch_server")
    uid = f"test-{uuid4().hex}"
    engine, index = server.engine(uid), server.index(uid)
    yield World(database, engine, IndexWriter(database, index, engine="meilisearch"))
    await engine.close()
    await index.close()
