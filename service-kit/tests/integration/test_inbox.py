"""Which queues an event has had its effect on, asked over HTTP."""

import asyncio
from collections.abc import AsyncGenerator

import httpx
import pytest
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from fastapi import FastAPI
from service_kit import Database, install_problem_handlers
from service_kit.inbox import InboxWatch, inbox_router
from service_kit.migrations import create_messaging_tables
from sqlalchemy import Connection, text

_CLAIM = text("INSERT INTO inbox (consumer, event_id) VALUES (:queue, :event_id)")


def make_tables(connection: Connection) -> None:
    create_messaging_tables(Operations(MigrationContext.configure(connection)))


@pytest.fixture
async def database(postgres_database: str) -> AsyncGenerator[Database]:
    database = Database(postgres_database, schema="test")
    async with database.transaction() as connection:
        await connection.execute(text("CREATE SCHEMA test"))
        await connection.run_sync(make_tables)
    yield database
    await database.dispose()


@pytest.fixture
async def client(database: Database) -> AsyncGenerator[httpx.AsyncClient]:
    app = FastAPI()
    install_problem_handlers(app)
    app.include_router(inbox_router(InboxWatch(database, ["s.first", "s.second"])))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def claim(database: Database, queue: str, event_id: str) -> None:
    async with database.transaction() as connection:
        await connection.execute(_CLAIM, {"queue": queue, "event_id": event_id})


async def queues(client: httpx.AsyncClient, event_id: str, wait: float = 0) -> list[str]:
    answer = await client.get(f"/inbox/{event_id}", params={"wait": wait})
    assert answer.status_code == 200, answer.text
    return [item["queue"] for item in answer.json()["items"]]


async def test_it_names_the_queues_of_this_service(
    database: Database, client: httpx.AsyncClient
) -> None:
    await claim(database, "s.first", "e-1")
    await claim(database, "s.second", "e-1")
    await claim(database, "old.queue", "e-1")
    assert await queues(client, "e-1") == ["s.first", "s.second"]
    assert await queues(client, "e-2") == []


async def test_an_id_may_hold_what_a_path_does(
    database: Database, client: httpx.AsyncClient
) -> None:
    await claim(database, "s.first", "player-7/1844 67?x=1")
    assert await queues(client, "player-7%2F1844%2067%3Fx=1") == ["s.first"]


async def test_those_who_wait_are_told_as_soon_as_it_happens(
    database: Database, client: httpx.AsyncClient
) -> None:
    waiting = [asyncio.create_task(queues(client, f"e-{n % 5}", wait=5)) for n in range(50)]
    never = asyncio.create_task(queues(client, "never", wait=0.3))
    await asyncio.sleep(0.1)
    assert not any(task.done() for task in waiting)
    for number in range(5):
        await claim(database, "s.first", f"e-{number}")
    # At the end of their time they would be told of nothing.
    assert await asyncio.gather(*waiting) == [["s.first"]] * 50
    assert await never == []


async def test_a_wait_begins_anew_after_the_last_one_ended(
    database: Database, client: httpx.AsyncClient
) -> None:
    for event_id in ("e-1", "e-2"):
        task = asyncio.create_task(queues(client, event_id, wait=5))
        await asyncio.sleep(0.05)
        await claim(database, "s.first", event_id)
        assert await task == ["s.first"]
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("wait", ["-1", "6", "soon", "nan"])
async def test_waits_are_bounded(client: httpx.AsyncClient, wait: str) -> None:
    assert (await client.get("/inbox/e-1", params={"wait": wait})).status_code == 422
