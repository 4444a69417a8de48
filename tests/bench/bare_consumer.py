"""The yardsticks: a consumer that does nothing, and one that does one message per transaction.

    python bare_consumer.py bare QUEUE COUNT
    python bare_consumer.py single QUEUE COUNT

Each consumes COUNT messages and prints events per second, from the first delivery to the last ack.
"""

import asyncio
import json
import os
import sys
import time

import aio_pika
import pika
import psycopg
import uvloop
from aio_pika.abc import AbstractIncomingMessage

BATCH = 500


async def bare(queue_name: str, count: int) -> float:
    """aio-pika as its documentation shows it, acknowledging in batches."""
    connection = await aio_pika.connect(os.environ["AMQP_URL"])
    async with connection, connection.channel() as channel:
        await channel.set_qos(prefetch_count=3 * BATCH)
        queue = await channel.get_queue(queue_name)
        done = asyncio.Event()
        seen = 0
        started = 0.0

        async def on_message(message: AbstractIncomingMessage) -> None:
            nonlocal seen, started
            started = started or time.perf_counter()
            seen += 1
            if seen % BATCH == 0 or seen == count:
                await message.ack(multiple=True)
            if seen == count:
                done.set()

        await queue.consume(on_message)
        await asyncio.wait_for(done.wait(), 60)
        return count / (time.perf_counter() - started)


def single(queue_name: str, count: int) -> float:
    """pika and psycopg: claim, count, commit, ack, for each message."""
    seen = 0
    started = 0.0
    with (
        pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"])) as connection,
        psycopg.connect(os.environ["DATABASE_URL"]) as database,
    ):
        with database.transaction():
            database.execute("CREATE TABLE IF NOT EXISTS single_inbox (id text PRIMARY KEY)")
            database.execute(
                "CREATE TABLE IF NOT EXISTS single_views (movie_id text PRIMARY KEY, n bigint)"
            )
        channel = connection.channel()
        channel.basic_qos(prefetch_count=100)
        for method, _, body in channel.consume(queue_name):
            assert method is not None
            assert body is not None
            started = started or time.perf_counter()
            event = json.loads(body)
            with database.transaction():
                claimed = database.execute(
                    "INSERT INTO single_inbox VALUES (%s) ON CONFLICT DO NOTHING", (event["id"],)
                )
                if claimed.rowcount:
                    database.execute(
                        "INSERT INTO single_views VALUES (%s, 1) "
                        "ON CONFLICT (movie_id) DO UPDATE SET n = single_views.n + 1",
                        (event["data"]["movie_id"],),
                    )
            channel.basic_ack(method.delivery_tag)
            seen += 1
            if seen == count:
                break
        rate = count / (time.perf_counter() - started)
        channel.cancel()
        return rate


def main() -> None:
    """Consume and print the rate."""
    kind, queue_name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if kind == "bare":
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            rate = runner.run(bare(queue_name, count))
    else:
        rate = single(queue_name, count)
    sys.stdout.write(f"{rate}\n")


if __name__ == "__main__":
    main()
