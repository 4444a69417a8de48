"""A closed-loop HTTP load generator that is much cheaper than what it measures.

Each connection sends a prepared request, waits for the whole answer and sends the next one.
"""

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import uvloop


@dataclass
class Result:
    """What one run gave; times in seconds."""

    seconds: float = 0.0
    times: list[float] = field(default_factory=list[float])
    statuses: dict[int, int] = field(default_factory=dict[int, int])

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return len(self.times) / self.seconds

    def percentile(self, percent: float) -> float:
        """The time within which that share of the answers came."""
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


class _Connection(asyncio.Protocol):
    """Sends the next request when the answer is there, and not before `interval` seconds."""

    def __init__(
        self, requests: Iterator[bytes], result: Result, until: float, interval: float = 0.0
    ) -> None:
        self._requests = requests
        self._result = result
        self._until = until
        self._interval = interval
        self._due = time.perf_counter() + interval * random.random()
        self._received = b""
        self._sent_at = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def _send(self) -> None:
        if self._transport.is_closing():
            return
        self._sent_at = time.perf_counter()
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        _, found, rest = head.lower().partition(b"content-length:")
        if not found or len(body) < int(rest.split(b"\r\n", 1)[0]):
            return
        now = time.perf_counter()
        status = int(head[9:12])
        self._result.times.append(now - self._sent_at)
        self._result.statuses[status] = self._result.statuses.get(status, 0) + 1
        self._received = b""
        if now >= self._until:
            self._transport.close()
            return
        self._due += self._interval
        if self._due > now:
            asyncio.get_running_loop().call_later(self._due - now, self._send)
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if not self.done.done():
            self.done.set_result(None)


async def run(
    url: str,
    requests: Iterator[bytes],
    *,
    connections: int,
    seconds: float,
    per_second: float | None = None,
) -> Result:
    """As fast as the answers come, or at most `per_second` requests a second."""
    interval = connections / per_second if per_second else 0.0
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    host, port = parts.hostname, parts.port
    result = Result()
    started = time.perf_counter()
    loop = asyncio.get_running_loop()
    opened = [
        (
            await loop.create_connection(
                lambda: _Connection(requests, result, started + seconds, interval),
                host,
                port,
            )
        )[1]
        for _ in range(connections)
    ]
    await asyncio.wait_for(asyncio.gather(*(item.done for item in opened)), seconds + 30)
    result.seconds = time.perf_counter() - started
    return result


def measure(
    url: str, requests: Iterator[bytes], *, connections: int = 64, seconds: float = 8.0
) -> Result:
    """Send requests over keep-alive connections for so many seconds."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run(url, requests, connections=connections, seconds=seconds))


def get(path: str) -> bytes:
    """A prepared GET."""
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()


def post_json(path: str, body: bytes) -> bytes:
    """A prepared POST."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
