"""Connections that were lost are not given out, and reading is held to it."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from service_kit import Database, Outage
from service_kit import database as module
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

_PID = text("SELECT pg_backend_pid()")
_KILL = text("SELECT pg_terminate_backend(:pid, 5000)")


@pytest.fixture
async def database(postgres_database: str) -> AsyncGenerator[Database]:
    database = Database(postgres_database, schema="public", pool_size=2)
    yield database
    await database.dispose()


@pytest.fixture
async def other(postgres_database: str) -> AsyncGenerator[AsyncConnection]:
    """A connection that is not the database's."""
    engine = create_async_engine(module.async_url(postgres_database))
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


async def process_of(connection: AsyncConnection) -> tuple[int, Any]:
    """The server's process and the driver's connection to it."""
    raw = await connection.get_raw_connection()
    return int((await connection.execute(_PID)).scalar_one()), raw.driver_connection


async def server_process(database: Database) -> tuple[int, Any]:
    async with database.transaction() as connection:
        return await process_of(connection)


async def end(process: tuple[int, Any], other: AsyncConnection) -> None:
    """End a connection at the server, and wait until the driver has heard of it."""
    pid, driver = process
    assert (await other.execute(_KILL, {"pid": pid})).scalar_one()
    async with asyncio.timeout(30):
        while True:
            if driver.is_closed():
                break
            await asyncio.sleep(0.01)


async def test_a_connection_that_the_server_ended_is_not_given_out(
    database: Database, other: AsyncConnection
) -> None:
    """Whoever comes next notices nothing."""
    lost = await server_process(database)
    assert await server_process(database) == lost
    await end(lost, other)
    assert await server_process(database) != lost


async def test_all_connections_that_the_server_ended_are_replaced(
    database: Database, other: AsyncConnection
) -> None:
    """As when it was restarted."""
    async with database.transaction() as one, database.transaction() as two:
        lost = [await process_of(connection) for connection in (one, two)]
    for process in lost:
        await end(process, other)
    async with database.transaction() as one, database.transaction() as two:
        found = {(await process_of(connection))[0] for connection in (one, two)}
    assert len(found) == 2
    assert not found & {pid for pid, _ in lost}


@pytest.mark.parametrize(("trusted", "pings"), [(3600.0, 0), (0.0, 3)])
async def test_only_a_connection_that_lay_idle_is_tried(
    database: Database, monkeypatch: pytest.MonkeyPatch, trusted: float, pings: int
) -> None:
    """A new one is not, either."""
    tried: list[str] = []
    _, driver = await server_process(database)
    driver_class: Any = driver.__class__
    execute: Any = driver_class.execute

    def noted(self: Any, query: str, *, timeout: float | None = None) -> Any:
        tried.append(query)
        return execute(self, query, timeout=timeout)

    monkeypatch.setattr(driver_class, "execute", noted)
    monkeypatch.setattr(module, "TRUSTED_SECONDS", trusted)
    for _ in range(3):
        await server_process(database)
    assert tried.count(";") == pings


async def test_one_that_does_not_answer_is_replaced(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver cannot know that it is lost: nothing has told it."""
    monkeypatch.setattr(module, "PING_TIMEOUT", 0.2)
    monkeypatch.setattr(module, "TRUSTED_SECONDS", 0.0)
    first, _ = await server_process(database)
    os.kill(first, signal.SIGSTOP)
    try:
        assert (await server_process(database))[0] != first
    finally:
        os.kill(first, signal.SIGCONT)


async def test_connections_are_tried_after_all_were_closed_once(
    database: Database, other: AsyncConnection
) -> None:
    await server_process(database)
    await database.dispose()
    lost = await server_process(database)
    await end(lost, other)
    assert await server_process(database) != lost


async def test_reading_cannot_write_and_leaves_nothing_behind(database: Database) -> None:
    """The connection that was read on is written on next; and all in two statements."""
    async with database.transaction() as connection:
        await connection.execute(text("CREATE TABLE things (n int)"))
    statements: list[str] = []

    def note(*arguments: object) -> None:
        statements.append(str(arguments[2]))

    event.listen(database._engine.sync_engine, "before_cursor_execute", note)  # pyright: ignore[reportPrivateUsage]
    async with database.reading() as connection:
        assert (await connection.execute(text("SHOW transaction_read_only"))).scalar_one() == "on"
    assert statements == ["SHOW transaction_read_only"]
    with pytest.raises(Outage, match="read-only transaction"):
        async with database.reading() as connection:
            await connection.execute(text("INSERT INTO things VALUES (1)"))
    async with database.transaction() as connection:
        await connection.execute(text("INSERT INTO things VALUES (2)"))
    async with database.reading() as connection:
        assert (await connection.execute(text("SELECT n FROM things"))).scalars().all() == [2]
