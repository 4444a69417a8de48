"""The gateway's application in this process, and servers around it."""

import asyncio
import functools
import hashlib
import inspect
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import uuid4

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from gateway.bootstrap import bootstrap
from gateway.settings import Settings
from local_stack.ports import free_port
from moviemetric_contracts import AdminActed, Event
from service_kit import PublishError
from service_kit.tokens import ALGORITHM, AUDIENCE, ISSUER, TOKEN_TYPE

NOWHERE = "127.0.0.1:9"
Run = Callable[..., Any]


def _base64url(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


class SigningKey:
    """A private key, as rating-service has it, and tokens signed with it."""

    def __init__(self) -> None:
        self.private = Ed25519PrivateKey.generate()
        members = {
            "crv": "Ed25519",
            "kty": "OKP",
            "x": _base64url(self.private.public_key().public_bytes_raw()),
        }
        thumbprint = hashlib.sha256(json.dumps(members, separators=(",", ":")).encode())
        self.kid = _base64url(thumbprint.digest())
        self.jwk = {**members, "kid": self.kid, "use": "sig", "alg": ALGORITHM}

    def claims(self, user_id: str, role: str, seconds: float) -> dict[str, Any]:
        now = int(time.time())
        return {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user_id,
            "role": role,
            "iat": now,
            "exp": now + seconds,
            "jti": uuid4().hex,
        }

    def token(
        self,
        user_id: str = "user-1",
        role: str = "user",
        *,
        seconds: float = 600,
        without: Sequence[str] = (),
        headers: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """An access token; `without` these claims, with these `claims` and header members."""
        said = {**self.claims(user_id, role, seconds), **claims}
        said = {name: value for name, value in said.items() if name not in without}
        head = {"typ": TOKEN_TYPE, "kid": self.kid, **(headers or {})}
        return jwt.encode(said, self.private, ALGORITHM, headers=head)

    def bearer(self, user_id: str = "user-1", role: str = "user", **how: Any) -> dict[str, str]:
        """The header with such a token."""
        return {"Authorization": f"Bearer {self.token(user_id, role, **how)}"}


@pytest.fixture(scope="session")
def signer() -> SigningKey:
    """The key that rating-service signs with: `signer.bearer("user-1", "admin")` is a header."""
    return SigningKey()


@dataclass
class RecordingPublisher:
    """Stands at the port to the broker: keeps what is published, or refuses it.

    With an `error` it refuses the events with `refused_ids`, or all if that is None.
    """

    published: list[Event[Any]] = field(default_factory=list[Event[Any]])
    error: PublishError | None = None
    refused_ids: set[str] | None = None

    @property
    def events(self) -> list[Event[Any]]:
        """What was published, without the audit of it."""
        return [event for event in self.published if not isinstance(event.data, AdminActed)]

    @property
    def audits(self) -> list[AdminActed]:
        """What operators are recorded to have asked for."""
        return [event.data for event in self.published if isinstance(event.data, AdminActed)]

    def refuse(self, event: Event[Any]) -> PublishError | None:
        refused = self.refused_ids is None or event.id in self.refused_ids
        return self.error if refused else None

    async def publish(self, event: Event[Any]) -> None:
        error = self.refuse(event)
        if error is not None:
            raise error
        self.published.append(event)

    async def publish_many(self, events: Sequence[Event[Any]]) -> list[PublishError | None]:
        errors = [self.refuse(event) for event in events]
        self.published += [e for e, error in zip(events, errors, strict=True) if error is None]
        return errors


@pytest.fixture
def publisher() -> RecordingPublisher:
    return RecordingPublisher()


@asynccontextmanager
async def api_with(
    publisher: RecordingPublisher,
    *,
    headers: Mapping[str, str] | None = None,
    peer: str = "127.0.0.1",
    **settings: Any,
) -> AsyncGenerator[httpx.AsyncClient]:
    """The public API with the recording publisher; of all around it only rating-service is there.

    `headers` are sent with each request, which comes from the address `peer`.
    """
    nowhere: dict[str, Any] = {
        "amqp_url": f"amqp://{NOWHERE}/",
        "redis_url": f"redis://{NOWHERE}/0",
        "ingest_url": f"http://{NOWHERE}",
        "rating_url": f"http://{NOWHERE}",
        "compute_url": f"http://{NOWHERE}",
        "search_url": f"http://{NOWHERE}",
    }
    service = bootstrap(Settings(**{**nowhere, **settings}), publisher)
    transport = httpx.ASGITransport(app=service.app, client=(peer, 50_000))
    try:
        async with httpx.AsyncClient(
            transport=transport, base_url="http://gateway", headers=headers
        ) as client:
            yield client
    finally:
        await service.close()


@pytest.fixture(name="api_with")
def api_with_fixture(publisher: RecordingPublisher, rating: "RatingService") -> Run:
    """`async with api_with(setting=…) as client`: the API as `api` has it, set otherwise."""
    return functools.partial(api_with, publisher, rating_url=rating.url)


@pytest.fixture
async def api(api_with: Run) -> AsyncGenerator[httpx.AsyncClient]:
    """The public API for nobody, with the recording publisher; Redis is not there, nor is a service
    besides rating-service's keys."""
    async with api_with() as client:
        yield client


@pytest.fixture
async def admin_api(api_with: Run, signer: SigningKey) -> AsyncGenerator[httpx.AsyncClient]:
    """As `api`, for a user with the role admin."""
    async with api_with(headers=signer.bearer("user-admin", "admin")) as client:
        yield client


@pytest.fixture
async def producer_api(api_with: Run, rating: "RatingService") -> AsyncGenerator[httpx.AsyncClient]:
    """As `api`, for an API key with the scopes of producers."""
    key = rating.new_key("events", "views", "movies")
    async with api_with(headers={"X-API-Key": key}) as client:
        yield client


@dataclass(frozen=True)
class Reply:
    """What an upstream answers after `delay` seconds; `body` is written as JSON unless it is bytes.

    Errors are problems, and 204 has no body, unless `headers` say otherwise.
    """

    status: int = 200
    body: Any = None
    headers: Sequence[tuple[str, str]] = ()
    delay: float = 0.0

    def content(self) -> bytes:
        if self.status == 204:
            return b""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(frozen=True)
class Received:
    """A request that reached an upstream; names of headers in lower case."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def header(self, name: str) -> list[str]:
        """The values of a header."""
        return [value for known, value in self.headers if known == name.lower()]


@dataclass
class Upstream:
    """A service's read API on a real socket: answers what it is told, and can be away.

    `answers` maps a path, or a method and a path (`POST /users`), to a JSON body, to a `Reply`, to
    a function from `Received` to `Reply`, or to an asynchronous generator function of the pieces of
    a CSV; all else is 404. One that raises ConnectionError breaks the connection. `delay` in
    seconds.
    """

    answers: dict[str, Any] = field(default_factory=dict[str, Any])
    status: int = 200
    delay: float = 0.0
    port: int = field(default_factory=free_port)
    requests: list[str] = field(default_factory=list[str])
    received: list[Received] = field(default_factory=list[Received])
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
                request = await _read(head.decode("latin-1"), reader)
                self.requests.append(request.target)
                self.received.append(request)
                await asyncio.sleep(self.delay)
                answer = self.answer(request)
                if isinstance(answer, Reply):
                    await _send(writer, answer)
                else:
                    await _send_pieces(writer, answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def answer(self, request: Received) -> Reply | AsyncGenerator[bytes]:
        """What to say to `request`."""
        for key in (f"{request.method} {request.path}", request.path):
            if key in self.answers:
                answer = self.answers[key]
                if isinstance(answer, Reply):
                    return answer
                if inspect.isasyncgenfunction(answer):
                    return cast("AsyncGenerator[bytes]", answer())
                if callable(answer):
                    return cast("Reply", answer(request))
                return Reply(self.status, answer)
        found = request.path == "/health"
        return Reply(self.status if found else 404, {"title": "" if found else "Not found"})


async def _read(head: str, reader: asyncio.StreamReader) -> Received:
    first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = [
        (name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)
    ]
    body = await reader.readexactly(int(dict(headers).get("content-length", "0")))
    return Received(method, target, headers, body)


async def _send(writer: asyncio.StreamWriter, reply: Reply) -> None:
    await asyncio.sleep(reply.delay)
    body = reply.content()
    headers: dict[str, str] = {}
    if reply.status != 204:
        kind = "json" if reply.status < 400 else "problem+json"
        headers = {"Content-Type": f"application/{kind}", "Content-Length": str(len(body))}
    given = [f"{name}: {value}" for name, value in reply.headers]
    named = {name.lower() for name, _ in reply.headers}
    lines = [f"{name}: {value}" for name, value in headers.items() if name.lower() not in named]
    head = "\r\n".join([f"HTTP/1.1 {reply.status} Whatever", *lines, *given])
    writer.write(head.encode() + b"\r\n\r\n" + body)
    await writer.drain()


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
class RatingService(Upstream):
    """rating-service as far as it tells of keys: it publishes `public_keys`, and knows API keys."""

    public_keys: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    api_keys: dict[str, tuple[str, tuple[str, ...]]] = field(
        default_factory=dict[str, tuple[str, tuple[str, ...]]]
    )

    def new_key(self, *scopes: str) -> str:
        """An API key with these scopes."""
        key_id, secret = uuid4().hex[:12], f"{uuid4().hex}-{uuid4().hex[:9]}_"
        self.api_keys[key_id] = (hashlib.sha256(secret.encode()).hexdigest(), scopes)
        return f"mm_{key_id}_{secret}"

    def revoke(self, key: str) -> None:
        del self.api_keys[key.split("_")[1]]

    def answer(self, request: Received) -> Reply | AsyncGenerator[bytes]:
        match request.method, request.path:
            case "GET", "/.well-known/jwks.json":
                return Reply(self.status, {"keys": self.public_keys})
            case "POST", "/internal/api-keys/verify":
                asked = json.loads(request.body)
                digest, scopes = self.api_keys.get(asked["key_id"], ("", ()))
                if digest != asked["digest"]:
                    return Reply(404, {"title": "Unknown key"})
                known = {"key_id": asked["key_id"], "name": "test", "scopes": scopes}
                return Reply(self.status, known)
            case _:
                return super().answer(request)


@pytest.fixture
async def rating(signer: SigningKey) -> AsyncGenerator[RatingService]:
    """rating-service, which publishes the signer's key."""
    service = RatingService(public_keys=[signer.jwk])
    await service.start()
    yield service
    await service.stop()


@dataclass
class Upstreams:
    """The services that the gateway reads from."""

    rating: RatingService
    ingest: Upstream = field(default_factory=Upstream)
    compute: Upstream = field(default_factory=Upstream)
    search: Upstream = field(default_factory=Upstream)

    def all(self) -> list[Upstream]:
        return [self.ingest, self.compute, self.search, self.rating]


@pytest.fixture
async def upstreams(rating: RatingService) -> AsyncGenerator[Upstreams]:
    """Four services with nothing to tell yet, keys excepted."""
    services = Upstreams(rating)
    for service in services.all():
        if service is not rating:
            await service.start()
    yield services
    for service in services.all():
        await service.stop()


@pytest.fixture
async def run_gateway(upstreams: Upstreams) -> Run:
    """`async with run_gateway(amqp_url=…, redis_url=…) as client`: the whole process, on a port.

    With `ready=True` its queues are declared when the block begins; `headers` are sent with each
    request.
    """

    @asynccontextmanager
    async def run(
        *, ready: bool = False, headers: Mapping[str, str] | None = None, **settings: Any
    ) -> AsyncGenerator[httpx.AsyncClient]:
        port = free_port()
        # Longer than a busy machine takes; who tries a slow service sets it.
        settings = {"read_timeout": 10.0, **settings}
        service = bootstrap(
            Settings(
                http_port=port,
                ingest_url=upstreams.ingest.url,
                rating_url=upstreams.rating.url,
                compute_url=upstreams.compute.url,
                search_url=upstreams.search.url,
                **settings,
            )
        )
        running = asyncio.create_task(service.run())
        try:
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30, headers=headers
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
