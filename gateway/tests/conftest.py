"""The gateway's application in this process, and servers around it."""

import asyncio
import functools
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
import pytest
from gateway.bootstrap import bootstrap
from gateway.settings import Settings
from local_stack.ports import free_port
from moviemetric_contracts import Event
from service_kit import PublishError

NOWHERE = "127.0.0.1:9"
Run = Callable[..., Any]


@dataclass
class RecordingPublisher:
    """Stands at the port to the broker: keeps what is published, or refuses it.

    With an `error` it refuses the events with `refused_ids`, or all if that is None.
    """

    events: list[Event[Any]] = field(default_factory=list[Event[Any]])
    error: PublishError | None = None
    refused_ids: set[str] | None = None

    def refuse(self, event: Event[Any]) -> PublishError | None:
        refused = self.refused_ids is None or event.id in self.refused_ids
        return self.error if refused else None

    async def publish(self, event: Event[Any]) -> None:
        error = self.refuse(event)
        if error is not None:
            raise error
        self.events.append(event)

    async def publish_many(self, events: Sequence[Event[Any]]) -> list[PublishError | None]:
        errors = [self.refuse(event) for event in events]
        self.events += [e for e, error in zip(events, errors, strict=True) if error is None]
        return errors


@pytest.fixture
def publisher() -> RecordingPublisher:
    return RecordingPublisher()


def api_with(
    publisher: RecordingPublisher, **settings: Any
) -> AbstractAsyncContextManager[httpx.AsyncClient]:
    """The public API with the recording publisher; neither Redis nor a service is there."""
    nowhere: dict[str, Any] = {
        "amqp_url": f"amqp://{NOWHERE}/",
        "redis_url": f"redis://{NOWHERE}/0",
        "ingest_url": f"http://{NOWHERE}",
        "rating_url": f"http://{NOWHERE}",
        "compute_url": f"http://{NOWHERE}",
        "search_url": f"http://{NOWHERE}",
    }
    app = bootstrap(Settings(**{**nowhere, **settings}), publisher).app
    transport = httpx.ASGITransport(app=app)
    return httpx.AsyncClient(transport=transport, base_url="http://gateway")


@pytest.fixture(name="api_with")
def api_with_fixture(publisher: RecordingPublisher) -> Run:
    """`async with api_with(setting=…) as client`: the API as `api` has it, set otherwise."""
    return functools.partial(api_with, publisher)


@pytest.fixture
async def api(publisher: RecordingPublisher) -> AsyncGenerator[httpx.AsyncClient]:
    """The public API with the recording publisher; neither Redis nor a service is there."""
    async with api_with(publisher) as client:
        yield client


@dataclass
class Upstream:
    """A service's read API on a real socket: answers what it is told, and can be away.

    `answers` maps a path to its JSON body, or to an asynchronous generator function of the pieces
    of a CSV; any other path is 404. A generator that raises ConnectionError breaks the connection.
    `delay` in seconds.
    """

    answers: dict[str, Any] = field(default_factory=dict[str, Any])
    status: int = 200
    delay: float = 0.0
    port: int = field(default_factory=free_port)
    requests: list[str] = field(default_factory=list[str])
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set[asyncio.StreamWriter])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

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
            while head := await reader.readuntil(b"\r\n\r\n"):
                target = head.split(b" ", 2)[1].decode()
                self.requests.append(target)
                await asyncio.sleep(self.delay)
                path = target.partition("?")[0]
                if callable(pieces := self.answers.get(path)):
                    await _send_pieces(writer, cast("AsyncGenerator[bytes]", pieces()))
                    continue
                found = path in self.answers or path == "/health"
                status = self.status if found else 404
                body = json.dumps(self.answers.get(path, {"title": "Not found"})).encode()
                writer.write(
                    f"HTTP/1.1 {status} Whatever\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


async def _send_pieces(writer: asyncio.StreamWriter, pieces: AsyncGenerator[bytes]) -> None:
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/csv; charset=utf-8\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    async with aclosing(pieces):
        async for piece in pieces:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()


@dataclass
class Upstreams:
    """The services that the gateway reads from."""

    ingest: Upstream = field(default_factory=Upstream)
    compute: Upstream = field(default_factory=Upstream)
    search: Upstream = field(default_factory=Upstream)
    rating: Upstream = field(default_factory=Upstream)

    def all(self) -> list[Upstream]:
        return [self.ingest, self.compute, self.search, self.rating]


@pytest.fixture
async def upstreams() -> AsyncGenerator[Upstreams]:
    """Four services with nothing to tell yet."""
    services = Upstreams()
    for service in services.all():
        await service.start()
    yield services
    for service in services.all():
        await service.stop()


@pytest.fixture
async def run_gateway(upstreams: Upstreams) -> Run:
    """`async with run_gateway(amqp_url=…, redis_url=…) as client`: the whole process, on a port.

    With `ready=True` its queues are declared when the block begins.
    """

    @asynccontextmanager
    async def run(*, ready: bool = False, **settings: Any) -> AsyncGenerator[httpx.AsyncClient]:
        port = free_port()
        service = bootstrap(
            Settings(
                http_port=port,
                ingest_url=upstreams.ingest.url,
                rating_url=upstreams.rating.url,
                compute_url=upstreams.compute.url,
                search_url=upstreams.search.url,
                read_timeout=0.5,
                **settings,
            )
        )
        running = asyncio.create_task(service.run())
        try:
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10
            ) as client:
                path = "/ready" if ready else "/ping"
                await eventually(lambda: _answers(client, path), 20)
                yield client
        finally:
            service.request_stop()
            await asyncio.wait_for(running, 20)

    return run


async def _answers(client: httpx.AsyncClient, path: str) -> bool:
    try:
        return (await client.get(path)).status_code == 200
    except httpx.TransportError:
        return False


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    """Wait until `condition` holds; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 -- other processes set no event
            await asyncio.sleep(0.02)


@pytest.fixture(name="eventually")
def eventually_fixture() -> Callable[..., Awaitable[None]]:
    """`await eventually(async_condition)`."""
    return eventually
