"""The whole service with a real broker: what is published is counted, served and announced,
and what is asked for is computed."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
from compute_service.bootstrap import PACKAGE, SCHEMA, bootstrap
from compute_service.settings import Settings
from moviemetric_contracts import ArtifactComputed, Event, RunCompute, TrendUpdated
from service_kit import Outgoing, Service, Subscription
from service_kit.consumer import Consumer
from service_kit.migrations import upgrade
from service_kit.processor import BatchProcessor
from service_kit.store import StatelessStore


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def service(postgres_database: str, rabbit_vhost: str) -> AsyncGenerator[Service]:
    """Runs until the end of the test, then shuts down as on SIGTERM."""
    await asyncio.to_thread(upgrade, postgres_database, package=PACKAGE, schema=SCHEMA)
    service = bootstrap(
        Settings(
            amqp_url=rabbit_vhost,
            database_url=postgres_database,
            http_port=free_port(),
            trend_announce_seconds=0.2,
        )
    )
    await service.declare()
    running = asyncio.create_task(service.run())
    yield service
    service.request_stop()
    await asyncio.wait_for(running, 20)


async def test_views_become_ranks_and_announcements(service: Service, make: Any) -> None:
    announced: list[TrendUpdated] = []
    computed: list[ArtifactComputed] = []

    async def note(events: Any, _work: Any) -> None:
        for event in events:
            if isinstance(event.data, ArtifactComputed):
                computed.append(event.data)
            else:
                announced.append(event.data)

    listening = Subscription[Event[Any]](
        queue="test.listening", accepts=(TrendUpdated, ArtifactComputed), handle=note
    )
    await service.broker.declare(listening.queues())
    listener = Consumer(
        listening, service.broker, BatchProcessor(listening, StatelessStore(), source="test")
    )
    listens = asyncio.create_task(listener.run())

    events = [make.upserted("tmdb-1", popularity=1.0), make.upserted("tmdb-2", popularity=100.0)]
    events += [make.viewed("tmdb-1") for _ in range(30)]
    for event in [*events, *events[-10:]]:  # the last ten are delivered twice
        body = event.to_bytes()
        await service.broker.publish(Outgoing(event.data.EXCHANGE, event.type, body))

    url = f"http://127.0.0.1:{service.settings.http_port}"
    async with httpx.AsyncClient(base_url=url, timeout=20) as client, asyncio.timeout(30):
        while True:
            page = (await client.get("/trending")).json()
            chart = [(film["movie_id"], film["views"]) for film in page["items"]]
            last = {entry.movie_id: entry.views for new in announced for entry in new.entries}
            if chart == [("tmdb-1", 30), ("tmdb-2", 0)] and last == dict(chart):
                break
            await asyncio.sleep(0.05)
        assert (await client.get("/ready")).status_code == 200

        run = make.of(RunCompute(job_id="compute-1", artifact="all"))
        await service.broker.publish(Outgoing(run.data.EXCHANGE, run.type, run.to_bytes()))
        while True:
            job = (await client.get("/jobs/compute-1")).json()
            if job.get("state") == "succeeded" and len(computed) == 4:
                break
            await asyncio.sleep(0.05)
        assert (job["done"], job["total"]) == (4, 4)
        assert {item.job_id for item in computed} == {"compute-1"}
        day = str(computed[0].as_of)
        chart = (await client.get("/trending", params={"as_of": day})).json()
        assert [film["movie_id"] for film in chart["items"]] == ["tmdb-1", "tmdb-2"]
    await listener.stop()
    await asyncio.wait_for(listens, 10)
