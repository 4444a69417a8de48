"""Events per second through compute-service, beside doing less and doing it one by one."""

import asyncio
import os
import random
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import aio_pika
from harness import LiveStack
from moviemetric_contracts import Event, MovieViewed
from service_kit import Binding, RabbitBroker
from service_kit.store import to_outgoing
from service_kit.topology import dead_queue_name, work_queue

QUEUE = "compute-service.movie-viewed"
YARDSTICK = "bench.yardstick"
FILMS = 500


def views(count: int) -> list[Event[MovieViewed]]:
    """Views of 500 films with a Zipf distribution."""
    draw = random.Random(1)
    weights = [1 / rank for rank in range(1, FILMS + 1)]
    now = datetime.now(UTC)
    return [
        Event.of(
            MovieViewed(movie_id=f"tmdb-{800_000_000 + film}", viewed_at=now),
            source="/bench",
            time=now,
            id=str(uuid.uuid4()),
        )
        for film in draw.choices(range(FILMS), weights, k=count)
    ]


async def fill(amqp_url: str, count: int) -> None:
    """Publish views that nobody has seen yet."""
    broker = RabbitBroker(amqp_url, name="bench")
    messages = [to_outgoing(event) for event in views(count)]
    for start in range(0, count, 2000):
        errors = await broker.publish_many(messages[start : start + 2000])
        assert not any(errors), errors
    await broker.close()


async def fill_yardstick(amqp_url: str, count: int) -> None:
    """The same messages, into a queue of the same kind."""
    broker = RabbitBroker(amqp_url, name="bench")
    await broker.declare(work_queue(YARDSTICK, (Binding("moviemetric.events", "movie.viewed.*"),)))
    await broker.close()
    await purge(amqp_url, YARDSTICK)
    await fill(amqp_url, count)


async def purge(amqp_url: str, queue: str) -> None:
    """Empty a queue."""
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        await (await channel.get_queue(queue)).purge()


def yardstick(stack: LiveStack, kind: str, count: int) -> float:
    """The rate of a yardstick consumer, in a process of its own."""
    asyncio.run(fill_yardstick(stack.amqp_url, count))
    answer = subprocess.run(
        [sys.executable, Path(__file__).with_name("bare_consumer.py"), kind, YARDSTICK, str(count)],
        env={**os.environ, "AMQP_URL": stack.amqp_url, "DATABASE_URL": stack.database_url},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return float(answer.stdout)


def counted(stack: LiveStack) -> int:
    """Views in the trend table."""
    [row] = stack.rows("SELECT coalesce(sum(views), 0)::bigint AS n FROM compute.trends")
    return row["n"]


def compute_rate(stack: LiveStack, count: int) -> float:
    """compute-service empties a full queue; measured from its first commit to its last."""
    service = stack.processes["compute-service"]
    service.stop()
    before = counted(stack)
    asyncio.run(fill(stack.amqp_url, count))
    service.launch()
    first: tuple[float, int] | None = None
    deadline = time.monotonic() + 120
    while True:
        now, done = time.perf_counter(), counted(stack) - before
        if done and first is None:
            first = (now, done)
        if done >= count:
            break
        assert time.monotonic() < deadline, f"{done} of {count} after 120 s"
        time.sleep(0.02)
    assert first is not None
    assert done == count
    return (count - first[1]) / (now - first[0])


def remove_yardstick(stack: LiveStack) -> None:
    """The yardstick's queue must not fill up behind the other measurements."""
    asyncio.run(_remove(stack.amqp_url))


async def _remove(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        await channel.queue_delete(YARDSTICK)
        await channel.queue_delete(dead_queue_name(YARDSTICK))
