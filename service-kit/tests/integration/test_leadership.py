"""Locks of sessions, and who leads, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest
from service_kit import Conflict, Database, Outage
from service_kit.leadership import find_leader, lead, this_process
from service_kit.session_locks import LockName, lock_session
from sqlalchemy import text

PATIENCE = 20.0
LOCK = LockName("things", "one")
# The session that holds an advisory lock ends, as when its machine vanishes.
END_HOLDER = """
    SELECT pg_terminate_backend(pid) FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid()
"""


@pytest.fixture
async def databases(postgres_database: str) -> AsyncGenerator[tuple[Database, Database]]:
    """The connections of two processes to the same schema."""
    pair = (Database(postgres_database, schema="test"), Database(postgres_database, schema="test"))
    await execute(pair[0], "CREATE SCHEMA test")
    yield pair
    for database in pair:
        await database.dispose()


async def execute(database: Database, statement: str) -> None:
    async with database.transaction() as connection:
        await connection.execute(text(statement))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():  # noqa: ASYNC110 -- it is the database that is watched
            await asyncio.sleep(0.02)


async def test_one_session_at_a_time_has_a_lock(databases: tuple[Database, Database]) -> None:
    one, other = databases
    async with lock_session(other, LOCK) as waiting:
        async with lock_session(one, LOCK) as holding:
            assert await holding.try_lock()
            assert not await waiting.try_lock()
            async with lock_session(other, LockName("things", "another")) as elsewhere:
                assert await elsewhere.try_lock()
        # The server ends a session when it has seen the connection close.
        await until(waiting.try_lock)


async def test_a_lock_is_one_of_its_schema(
    databases: tuple[Database, Database], postgres_database: str
) -> None:
    await execute(databases[0], "CREATE SCHEMA another")
    neighbour = Database(postgres_database, schema="another")
    async with lock_session(databases[0], LOCK) as one, lock_session(neighbour, LOCK) as other:
        assert await one.try_lock()
        assert await other.try_lock()
    await neighbour.dispose()


async def test_a_session_that_ended_never_comes_back(
    databases: tuple[Database, Database],
) -> None:
    one, other = databases
    async with lock_session(one, LOCK) as holding, lock_session(other, LOCK) as successor:
        assert await holding.try_lock()
        assert await holding.is_alive()
        await execute(other, f"{END_HOLDER} AND objsubid = 2")
        await until(successor.try_lock)
        assert not await holding.is_alive()
        # Not even when the connection could be opened anew.
        assert not await holding.is_alive()
        with pytest.raises(Outage):
            await holding.try_lock()
        assert await successor.is_alive()


async def test_a_holder_that_stands_still_loses_its_lock(
    databases: tuple[Database, Database],
) -> None:
    one, other = databases
    async with (
        lock_session(one, LOCK, idle_seconds=0.5) as frozen,
        lock_session(other, LOCK, idle_seconds=6) as standby,
    ):
        assert await frozen.try_lock()
        # Who keeps asking keeps its session for longer than it may be silent, which is long enough
        # for a busy machine.
        await until(standby.try_lock)
        for _ in range(14):
            await asyncio.sleep(0.5)
            assert await standby.is_alive()
        assert not await frozen.is_alive()


async def leader(database: Database) -> str | None:
    async with database.reading() as connection:
        return await find_leader(connection, "clock")


async def test_leading_is_handed_over(databases: tuple[Database, Database]) -> None:
    did: list[str] = []

    def work(name: str) -> Callable[[], Awaitable[None]]:
        async def note() -> None:
            did.append(name)
            if len(did) == 1:
                reason = "another transaction was in the way"
                raise Conflict(reason)

        return note

    def start(index: int, name: str) -> asyncio.Task[None]:
        return asyncio.create_task(lead(databases[index], "clock", work(name), every=0.05))

    async def works(name: str, times: int = 3) -> bool:
        return did[-times:] == [name] * times

    assert await leader(databases[0]) is None
    first = start(0, "first")
    await until(lambda: works("first"))  # a conflict does not end it
    assert await leader(databases[1]) == this_process()

    second = start(1, "second")
    await execute(databases[1], END_HOLDER)
    await asyncio.wait_for(first, PATIENCE)  # it has noticed
    await until(lambda: works("second"))
    assert set(did[: did.index("second")]) == {"first"}
    assert set(did[did.index("second") :]) == {"second"}

    # A shutdown hands over at once.
    first = start(0, "third")
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    await until(lambda: works("third"))
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)

    async def nobody() -> bool:
        return await leader(databases[0]) is None

    await until(nobody)
