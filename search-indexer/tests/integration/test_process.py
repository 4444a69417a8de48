"""The service as a process of its own, killed in the middle of a rebuild."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
from local_stack.ports import free_port
from moviemetric_contracts import MovieUpserted, RebuildSearch
from search_indexer.subscriptions import SUBSCRIPTIONS
from service_kit import Ack, Database, Publisher, RabbitBroker
from service_kit.testing import deliver
from sqlalchemy import text

FILMS = 3000


class Process:
    """`python -m search_indexer` with settings of its own; started and killed at will."""

    def __init__(self, **settings: str) -> None:
        self.port = free_port()
        self._environ = {
            **{key: value for key, value in os.environ.items() if key.isupper()},
            "HTTP_PORT": str(self.port),
            "LOG_LEVEL": "WARNING",
            **settings,
        }
        self._process: asyncio.subprocess.Process | None = None
        self.client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}", timeout=5, trust_env=False
        )

    async def migrate(self) -> None:
        migration = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "search_indexer", "migrate", env=self._environ
        )
        assert await migration.wait() == 0

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "search_indexer", env=self._environ
        )

    async def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            await self._process.wait()
            self._process = None

    async def get(self, path: str) -> dict[str, Any]:
        try:
            answer = await self.client.get(path)
        except httpx.TransportError:
            return {}
        return answer.json() if answer.status_code == 200 else {}


async def _until(what: str, holds: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not await holds():  # noqa: ASYNC110 -- other processes set no event
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"waited {seconds} s for {what}")


@asynccontextmanager
async def _running(process: Process) -> AsyncGenerator[Process]:
    try:
        yield process
    finally:
        await process.end()
        await process.client.aclose()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("backend", ["postgres", "meilisearch"])
async def test_a_rebuild_goes_on_after_kill_9(
    backend: str,
    database: Database,
    postgres_database: str,
    rabbit_vhost: str,
    make: Any,
    request: pytest.FixtureRequest,
) -> None:
    """Where it was; what was published while the process was dead is in the new index."""
    settings = {
        "DATABASE_URL": postgres_database,
        "AMQP_URL": rabbit_vhost,
        "SEARCH_BACKEND": backend,
    }
    if backend == "meilisearch":
        server = request.getfixturevalue("meilisearch_server")
        settings |= {
            "MEILISEARCH_URL": server.url,
            "MEILISEARCH_KEY": server.key,
            "MEILISEARCH_INDEX": f"test-{uuid4().hex}",
        }
    for start in range(1, FILMS, 1000):
        films = [make.movie(number, f"Film {number}") for number in range(start, start + 1000)]
        events = [make.upserted(film) for film in films]
        assert all(o == Ack() for o in await deliver(SUBSCRIPTIONS[0], database, events))
    broker = RabbitBroker(rabbit_vhost, name="test")
    publisher = Publisher(broker)
    job_id = f"search-{uuid4().hex}"

    async with _running(Process(**settings)) as process:
        await process.migrate()
        await process.start()

        async def filled() -> bool:
            answer = await process.get("/search?q=film&limit=1")
            return answer.get("total") == FILMS and not answer.get("degraded")

        await _until("the index", filled, 120)
        await publisher.publish(make.event(RebuildSearch(job_id=job_id)))
        share = FILMS if backend == "meilisearch" else 0

        async def halfway() -> bool:
            async with database.reading() as connection:
                rows = await connection.execute(
                    text("SELECT done, total FROM jobs WHERE job_id = :id"), {"id": job_id}
                )
                row = rows.one_or_none()
            return row is not None and share < row.done < (row.total or 0)

        await _until("half of the job", halfway)
        await process.end(signal.SIGKILL)
        changed = make.upserted(make.movie(7, "Changed meanwhile"), 2)
        assert isinstance(changed.data, MovieUpserted)
        await publisher.publish(changed)
        await process.start()

        async def ended() -> bool:
            return (await process.get(f"/jobs/{job_id}")).get("state") == "succeeded"

        await _until("the end of the job", ended, 120)

        async def found() -> bool:
            hits = (await process.get("/search?q=changed%20meanwhile")).get("hits", [])
            return [hit["movie_id"] for hit in hits] == ["tmdb-7"]

        await _until("the changed film", found)
        job = await process.get(f"/jobs/{job_id}")
        assert job["done"] == job["total"]
        assert (await process.get("/drift"))["drift"] == 0
        assert (await process.get("/search?q=film&limit=1"))["total"] == FILMS - 1
    async with database.reading() as connection:
        schemas = await connection.execute(
            text("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'search%'")
        )
        assert schemas.scalars().all() == ["search"]
    await broker.close()
