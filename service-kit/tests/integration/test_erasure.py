"""Erased users: known again, and never written behind an erasure's back."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from service_kit import Database
from service_kit.erasure import erased_among, remember_erased
from service_kit.migrations import create_erasure_table
from sqlalchemy import Connection, text


def make_tables(connection: Connection) -> None:
    create_erasure_table(Operations(MigrationContext.configure(connection)))
    connection.execute(text("CREATE TABLE things (user_id text NOT NULL)"))


@pytest.fixture
async def database(postgres_database: str) -> AsyncGenerator[Database]:
    database = Database(postgres_database, schema="test", pool_size=10)
    async with database.transaction() as connection:
        await connection.execute(text("CREATE SCHEMA test"))
        await connection.run_sync(make_tables)
    yield database
    await database.dispose()


async def test_an_erased_user_is_known_again_but_not_kept(database: Database) -> None:
    async with database.transaction() as connection:
        await remember_erased(connection, ["u-1", "u-2"])
        await remember_erased(connection, ["u-1"])
    async with database.reading() as connection:
        assert await erased_among(connection, ["u-1", "u-3"]) == {"u-1"}
        assert await erased_among(connection, []) == set()
        rows = await connection.execute(text("SELECT erased_users::text FROM erased_users"))
        kept = rows.scalars().all()
    assert len(kept) == 2
    assert not any("u-1" in row or b"u-1".hex() in row for row in kept)


async def test_nothing_is_written_behind_an_erasure(database: Database) -> None:
    async def write() -> None:
        async with database.transaction() as connection:
            if not await erased_among(connection, ["u-1"]):
                await asyncio.sleep(0.02)
                await connection.execute(text("INSERT INTO things VALUES ('u-1')"))

    async def erase() -> None:
        async with database.transaction() as connection:
            await remember_erased(connection, ["u-1"])
            await connection.execute(text("DELETE FROM things WHERE user_id = 'u-1'"))

    writing = [asyncio.create_task(write()) for _ in range(6)]
    await asyncio.sleep(0.01)
    await asyncio.gather(erase(), *writing, *(write() for _ in range(6)))
    async with database.reading() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM things")) == 0
