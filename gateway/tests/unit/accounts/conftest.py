"""The API beside services that write down what they are asked, and take their time to answer."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from local_stack.ports import free_port


@dataclass(frozen=True)
class Asked:
    """A request as it arrived, its target undecoded."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


@dataclass
class Reply:
    """An answer: JSON unless `body` is bytes."""

    body: Any = None
    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    delay: float = 0.0


@dataclass
class Desk:
    """A service on a real socket that answers from a table: `"POST /users"` → Reply.

    A reply may be a function of the request. What is not in the table is 404.
    """

    replies: dict[str, Reply | Callable[[Asked], Reply]] = field(
        default_factory=dict[str, Reply | Callable[[Asked], Reply]]
    )
    asked: list[Asked] = field(default_factory=list[Asked])
    port: int = field(default_factory=free_port)
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set[asyncio.StreamWriter])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def asked_for(self, path: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.target.partition("?")[0] == path]

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in self._writers:
                writer.close()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                asked = await _read(reader)
                self.asked.append(asked)
                reply = self.replies.get(f"{asked.method} {asked.target.partition('?')[0]}")
                if reply is None:
                    reply = Reply({"title": "Not found", "detail": "no such route"}, 404)
                elif not isinstance(reply, Reply):
                    reply = reply(asked)
                await asyncio.sleep(reply.delay)
                writer.write(_bytes(reply))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, target, _ = head[0].split(" ")
    pairs = [line.split(":", 1) for line in head[1:] if line]
    headers = [(name.lower(), value.strip()) for name, value in pairs]
    length = int(dict(headers).get("content-length", "0"))
    return Asked(method, target, headers, await reader.readexactly(length))


def _bytes(reply: Reply) -> bytes:
    body: bytes = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
    if reply.status == 204:
        body = b""
    kind = "application/json" if reply.status < 400 else "application/problem+json"
    headers = [("Content-Type", kind), ("Content-Length", str(len(body))), *reply.headers]
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {reply.status} Whatever\r\n{lines}\r\n".encode() + body


@dataclass
class Desks:
    """The services that the gateway asks about users."""

    rating: Desk = field(default_factory=Desk)
    compute: Desk = field(default_factory=Desk)
    ingest: Desk = field(default_factory=Desk)
    search: Desk = field(default_factory=Desk)

    def all(self) -> dict[str, Desk]:
        return {
            "rating-service": self.rating,
            "compute-service": self.compute,
            "ingest-service": self.ingest,
            "search-indexer": self.search,
        }


@pytest.fixture
async def desks(signer: Any) -> AsyncGenerator[Desks]:
    """Four services that write down what they are asked; rating-service has its public keys."""
    desks = Desks()
    desks.rating.replies["GET /.well-known/jwks.json"] = Reply({"keys": [signer.jwk]})
    for desk in desks.all().values():
        await desk.start()
    yield desks
    for desk in desks.all().values():
        await desk.stop()


@pytest.fixture
async def client(api_with: Callable[..., Any], desks: Desks) -> AsyncGenerator[httpx.AsyncClient]:
    """The public API beside those services; without Redis."""
    async with api_with(
        rating_url=desks.rating.url,
        compute_url=desks.compute.url,
        ingest_url=desks.ingest.url,
        search_url=desks.search.url,
    ) as client:
        yield client


@pytest.fixture
def bearer(signer: Any) -> Callable[..., dict[str, str]]:
    """`bearer("user-1", role="admin")`: the header of a good access token."""
    return signer.bearer


@pytest.fixture
def reply() -> type[Reply]:
    """`reply(body, status, headers=[…])`: what a service answers."""
    return Reply
