"""Units of work, inbox and outbox: PostgreSQL and the store in memory behave the same."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

import pytest
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from moviemetric_contracts import MovieViewed
from service_kit import Database, PostgresStore
from service_kit.migrations import create_messaging_tables
from service_kit.testing import InMemoryStore
from sqlalchemy import Connection, text

VIEW = MovieViewed(movie_id="tmdb-603", viewed_at=datetime(2026, 3, 1, tzinfo=UTC))

AnyStore = InMemoryStore | PostgresStore


def make_tables(connection: Connection) -> None:
    create_messaging_tables(Operations(MigrationContext.configure(connection)))


@pytest.fixture(params=["memory", "postgresql"])
async def store(request: pytest.FixtureRequest) -> AsyncGenerator[AnyStore]:
    if request.param == "memory":
        yield InMemoryStore()
        return
    database = Database(request.getfixturevalue("postgres_database"), schema="test")
    async with database.transaction() as connection:
        await connection.execute(text("CREATE SCHEMA test"))
        await connection.run_sync(make_tables)
    yield PostgresStore(database)
    await database.dispose()


class InterruptedWorkError(Exception):
    """What makes a unit of work fail."""


async def test_an_event_is_new_once_for_each_consumer(store: AnyStore) -> None:
    async with store.begin("test") as work:
        assert await work.claim_unseen("a", ["1", "2", "2"]) == {"1", "2"}
    async with store.begin("test") as work:
        assert await work.claim_unseen("a", ["2", "3"]) == {"3"}
        assert await work.claim_unseen("b", ["2"]) == {"2"}
        assert await work.already_seen("a", ["1", "3", "4"]) == {"1", "3"}


async def begin_and_fail(store: AnyStore) -> None:
    async with store.begin("test") as work:
        await work.claim_unseen("a", ["1"])
        work.emit(VIEW)
        raise InterruptedWorkError


async def publish_and_fail(store: AnyStore) -> None:
    async with store.unpublished(10) as batch:
        await batch.delete_published([row.id for row in batch.rows])
        raise InterruptedWorkError


async def test_what_fails_leaves_no_trace(store: AnyStore) -> None:
    with pytest.raises(InterruptedWorkError):
        await begin_and_fail(store)
    assert await store.outbox_size() == 0
    async with store.begin("test") as work:
        assert await work.claim_unseen("a", ["1"]) == {"1"}


async def test_two_claims_at_the_same_time_have_one_winner(store: AnyStore) -> None:
    async def claim(ids: list[str]) -> set[str]:
        async with store.begin("test") as work:
            won = await work.claim_unseen("a", ids)
            await asyncio.sleep(0.02)
            return won

    ids = [str(n) for n in range(200)]
    first, second = await asyncio.gather(claim(ids), claim(ids[::-1]))
    assert sorted(first | second) == sorted(ids)
    assert not first & second


async def test_follow_on_events_come_out_in_order_and_once_deleted_never_again(
    store: AnyStore,
) -> None:
    async with store.begin("test") as work:
        for _ in range(5):
            work.emit(VIEW)
        ids = [event.id for event in work.emitted]
    async with store.unpublished(3) as batch:
        assert [row.message.routing_key for row in batch.rows] == ["movie.viewed.v1"] * 3
        assert [ids[n].encode() in row.message.body for n, row in enumerate(batch.rows)] == [
            True
        ] * 3
        await batch.delete_published([row.id for row in batch.rows[:2]])
    async with store.unpublished(10) as batch:
        assert [ids[n + 2].encode() in row.message.body for n, row in enumerate(batch.rows)] == [
            True
        ] * 3


async def test_rows_stay_when_publishing_fails(store: AnyStore) -> None:
    async with store.begin("test") as work:
        work.emit(VIEW)
    with pytest.raises(InterruptedWorkError):
        await publish_and_fail(store)
    assert await store.outbox_size() == 1
