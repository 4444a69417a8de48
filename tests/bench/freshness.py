"""From 202 to visible in trending, while views come in at a steady rate."""

import asyncio
import itertools
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import uvloop
from harness import LiveStack
from load import Result, get, post_json, run

CHART = "/api/v1/movies/trending?limit=100"
CONNECTIONS = 25
# How much the probed film leads, so that it stays in the chart while the others are viewed.
LEAD = 50


@dataclass
class Freshness:
    """Seconds from each 202 to the first chart that shows the view, and the traffic meanwhile."""

    seconds: list[float]
    background: Result


class Client:
    """One keep-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, url: str) -> "Client":
        """Open it."""
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port))

    async def request(self, message: bytes) -> tuple[int, bytes]:
        """The status and the body of the answer."""
        self._writer.write(message)
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 10)
        _, _, rest = head.lower().partition(b"content-length:")
        body = await self._reader.readexactly(int(rest.split(b"\r\n", 1)[0]))
        return int(head[9:12]), body

    async def chart(self) -> list[dict[str, Any]]:
        """The films in trending."""
        status, body = await self.request(get(CHART))
        assert status == 200, body
        return json.loads(body)["items"]

    async def view(self, movie_id: str) -> None:
        """Send a view and wait for its 202."""
        status, body = await self.request(_view(movie_id))
        assert status == 202, body

    async def views_of(self, movie_id: str) -> int:
        """As the chart shows them."""
        return next(film["views"] for film in await self.chart() if film["movie_id"] == movie_id)


def _view(movie_id: str) -> bytes:
    return post_json("/api/v1/movies/view", json.dumps({"movie_id": movie_id}).encode())


async def _probe(client: Client, movie_id: str) -> float:
    before = await client.views_of(movie_id)
    await client.view(movie_id)
    accepted = time.perf_counter()
    while await client.views_of(movie_id) <= before:
        assert time.perf_counter() - accepted < 10, "not visible after 10 s"
        await asyncio.sleep(0.005)
    return time.perf_counter() - accepted


async def _measure(url: str, rate: int, seconds: float) -> Freshness:
    client = await Client.connect(url)
    probed, *others = [film["movie_id"] for film in await client.chart()]
    for _ in range(LEAD):
        await client.view(probed)
    requests = itertools.cycle([_view(movie_id) for movie_id in others])
    background = asyncio.create_task(
        run(url, requests, connections=CONNECTIONS, seconds=seconds, per_second=rate)
    )
    await asyncio.sleep(1)
    times: list[float] = []
    until = time.perf_counter() + seconds - 2
    while time.perf_counter() < until:
        times.append(await _probe(client, probed))
    return Freshness(times, await background)


def freshness(stack: LiveStack, *, rate: int = 500, seconds: float = 20) -> Freshness:
    """Measure for so many seconds."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(stack.urls["gateway"], rate, seconds))
