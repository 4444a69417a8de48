"""From 202 to visible in trending, while views come in at a steady rate."""

import asyncio
import random
import time
from dataclasses import dataclass

import httpx
from harness import LiveStack

CHART = 100


@dataclass
class Freshness:
    """Seconds from the 202 to the first chart that shows the view; and what was sent meanwhile."""

    seconds: list[float]
    sent_per_second: float


async def _background(
    client: httpx.AsyncClient, films: list[str], rate: int, until: float
) -> float:
    """Views at `rate` a second, whatever the answers take; answers the rate that was reached."""
    draw = random.Random(5)
    started = time.perf_counter()
    pending: set[asyncio.Task[None]] = set()
    sent = 0

    async def send(movie_id: str) -> None:
        answer = await client.post("/movies/view", json={"movie_id": movie_id})
        assert answer.status_code == 202, answer.text

    while (now := time.perf_counter()) < until:
        due = int((now - started) * rate)
        for _ in range(due - sent):
            task = asyncio.create_task(send(draw.choice(films)))
            pending.add(task)
            task.add_done_callback(pending.discard)
        sent = max(sent, due)
        await asyncio.sleep(0.005)
    await asyncio.gather(*pending)
    return sent / (time.perf_counter() - started)


async def _probe(client: httpx.AsyncClient, movie_id: str) -> float:
    async def views() -> int | None:
        chart = (await client.get("/movies/trending", params={"limit": CHART})).json()
        for item in chart["items"]:
            if item["movie_id"] == movie_id:
                return item["views"]
        return None

    before = await views()
    assert before is not None, f"{movie_id} is not in the chart"
    answer = await client.post("/movies/view", json={"movie_id": movie_id})
    assert answer.status_code == 202
    accepted = time.perf_counter()
    while True:
        now_visible = await views()
        if now_visible is not None and now_visible > before:
            return time.perf_counter() - accepted
        assert time.perf_counter() - accepted < 10, "not visible after 10 s"
        await asyncio.sleep(0.005)


async def _measure(url: str, rate: int, seconds: float) -> Freshness:
    limits = httpx.Limits(max_connections=64)
    async with httpx.AsyncClient(
        base_url=f"{url}/api/v1", limits=limits, timeout=10, trust_env=False
    ) as client:
        chart = (await client.get("/movies/trending", params={"limit": CHART})).json()["items"]
        probed, others = chart[0]["movie_id"], [item["movie_id"] for item in chart[1:]]
        until = time.perf_counter() + seconds
        background = asyncio.create_task(_background(client, others, rate, until))
        times: list[float] = []
        await asyncio.sleep(1)
        # The probed film must stay in the chart while the others are viewed.
        for _ in range(30):
            await client.post("/movies/view", json={"movie_id": probed})
        await asyncio.sleep(0.5)
        while time.perf_counter() < until - 0.5:
            times.append(await _probe(client, probed))
        return Freshness(times, await background)


def freshness(stack: LiveStack, *, rate: int = 500, seconds: float = 20) -> Freshness:
    """Measure for so many seconds."""
    return asyncio.run(_measure(stack.urls["gateway"], rate, seconds))
