"""Real servers: PostgreSQL with the migrated schema, the TMDB stand-in, a scripted one."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from ingest_service.tmdb_client import TmdbClient
from service_kit import Database
from service_kit.migrations import upgrade

CATALOGUE = Path(__file__).resolve().parents[3] / "deploy" / "sample-catalogue" / "movies.jsonl"


@pytest.fixture
async def database(postgres_database: str) -> AsyncGenerator[Database]:
    """The schema `catalog`, migrated and empty."""
    await asyncio.to_thread(upgrade, postgres_database, package="ingest_service", schema="catalog")
    opened = Database(postgres_database, schema="catalog")
    yield opened
    await opened.dispose()


@dataclass
class Standin:
    """The TMDB stand-in as a process of its own."""

    url: str

    @property
    def base_url(self) -> str:
        return f"{self.url}/3"

    def follow(self, **plan: Any) -> None:
        httpx.post(f"{self.url}/_control/faults", json=plan).raise_for_status()

    def requests(self) -> dict[str, Any]:
        return httpx.get(f"{self.url}/_control/requests").raise_for_status().json()

    def reset(self) -> None:
        httpx.delete(f"{self.url}/_control/faults").raise_for_status()
        httpx.delete(f"{self.url}/_control/requests").raise_for_status()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def standin_process() -> Generator[Standin]:
    port = _free_port()
    environment = os.environ | {
        "TMDB_STANDIN_HOST": "127.0.0.1",
        "TMDB_STANDIN_PORT": str(port),
        "TMDB_STANDIN_CATALOGUE": str(CATALOGUE),
    }
    process = subprocess.Popen([sys.executable, "-m", "tmdb_standin"], env=environment)
    standin = Standin(f"http://127.0.0.1:{port}")
    try:
        deadline = time.monotonic() + 30
        while True:
            assert process.poll() is None, "the stand-in ended at once"
            with suppress(httpx.TransportError):
                httpx.get(f"{standin.url}/health").raise_for_status()
                break
            assert time.monotonic() < deadline, "the stand-in did not start within 30 s"
            time.sleep(0.05)
        yield standin
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def standin(standin_process: Standin) -> Generator[Standin]:
    """The stand-in without faults and with an empty record of requests."""
    standin_process.reset()
    yield standin_process
    standin_process.reset()


MakeClient = Callable[..., TmdbClient]


@pytest.fixture
async def make_client() -> AsyncGenerator[MakeClient]:
    """Makes clients that are closed at the end; quick to retry."""
    clients: list[TmdbClient] = []

    def make(base_url: str, api_key: str | None = "a-v3-key", **options: Any) -> TmdbClient:
        options.setdefault("retry_delay", 0.01)
        client = TmdbClient(base_url, api_key, **options)
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.aclose()


@dataclass
class Scripted:
    """An HTTP server that answers each connection with the next bytes of a script.

    The last entry is repeated. `requests` holds what it was asked, head only.
    """

    base_url: str
    script: list[bytes]
    requests: list[str] = field(default_factory=list[str])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head.decode())
            writer.write(self.script.pop(0) if len(self.script) > 1 else self.script[0])
            await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


ServeScript = Callable[..., Awaitable[Scripted]]


@pytest.fixture
async def serve_script() -> AsyncGenerator[ServeScript]:
    """Starts servers that answer what the test writes out."""
    servers: list[asyncio.Server] = []

    async def serve(*script: bytes) -> Scripted:
        scripted = Scripted("", list(script))
        server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
        servers.append(server)
        scripted.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/3"
        return scripted

    yield serve
    for server in servers:
        server.close()
        await server.wait_closed()
