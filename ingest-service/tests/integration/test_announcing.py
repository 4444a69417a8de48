"""Films that changed in bulk are told of, as they are when their turn comes."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ingest_service.announcing import FILMS_A_ROW, Announcer, announce_later, waiting
from ingest_service.ledger import keys_of
from ingest_service.records import Source, SourceRecord
from ingest_service.repository import open_ledger, save
from ingest_service.storing import fact_of
from moviemetric_contracts import Event, MovieRemoved, MovieUpserted, decode
from service_kit import Broker, Database, PublishError, RabbitBroker
from service_kit.testing import InMemoryBroker
from service_kit.topology import bindings_for, work_queue

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
QUEUE = "watcher.movies"


async def change(
    database: Database, *records: SourceRecord, at: datetime = NOON, now: datetime | None = None
) -> list[str]:
    """As an import does it; answers which films are announced."""
    async with database.transaction() as connection:
        ledger = await open_ledger(connection, keys_of(records))
        for record in records:
            ledger.apply(record, at)
        changed = [film.movie_id for film in await save(connection, ledger, at)]
        await announce_later(connection, changed, now or datetime.now(UTC))
    return changed


def films(*numbers: int, title: str = "T", **fields: Any) -> list[SourceRecord]:
    return [
        SourceRecord(Source.TABLE, f"tmdb-{n}", (), {"title": f"{title} {n}", **fields})
        for n in numbers
    ]


async def count(database: Database) -> int:
    async with database.reading() as connection:
        return await waiting(connection)


def announcer(
    database: Database,
    broker: Broker,
    *,
    is_busy: Callable[[], bool] = lambda: False,
    watched: Sequence[str] = (QUEUE,),
    most_behind: int = 20_000,
) -> Announcer:
    return Announcer(database, broker, is_busy=is_busy, watched=watched, most_behind=most_behind)


@pytest.fixture
async def broker() -> InMemoryBroker:
    broker = InMemoryBroker()
    await broker.declare(work_queue(QUEUE, bindings_for((MovieUpserted, MovieRemoved))))
    return broker


def received(broker: InMemoryBroker) -> list[Event[Any]]:
    return [decode(message.body) for message in broker.messages(QUEUE)]


async def test_the_event_is_what_the_contract_says(
    database: Database, broker: InMemoryBroker
) -> None:
    record = SourceRecord(
        Source.TABLE,
        "tmdb-949",
        ("imdb-tt0113277",),
        {
            "title": "Heat \u2014 \U0001f3ac",
            "release_date": "1995-12-15",
            "genres": ["Crime"],
            "cast": [{"name": "Al Pacino", "order": 0}],
            "vote_average": 8,
            "vote_count": 3,
            "popularity": 5,
            "budget": 60_000_000,
        },
    )
    async with database.transaction() as connection:
        ledger = await open_ledger(connection, keys_of([record]))
        ledger.apply(record, NOON)
        [changed] = await save(connection, ledger, NOON)
        await announce_later(connection, ["tmdb-949"], NOON)
    await announcer(database, broker).publish_waiting()
    [event] = received(broker)
    # What is written out by hand is what the contract's classes make of the same change.
    assert event.data == fact_of(changed)
    assert isinstance(event.data, MovieUpserted)
    movie = event.data.movie
    assert (movie.movie_id, movie.tmdb_id, movie.imdb_id) == ("tmdb-949", 949, "tt0113277")
    assert (movie.aliases, movie.fetched_at) == (("imdb-tt0113277",), NOON)
    assert (event.subject, event.source) == ("tmdb-949", "/ingest-service")
    assert event.time is not None
    assert abs(datetime.now(UTC) - event.time) < timedelta(minutes=1)
    [message] = broker.messages(QUEUE)
    assert (message.exchange, message.routing_key) == ("moviemetric.events", "movie.upserted.v1")
    assert await count(database) == 0


async def test_many_films_are_told_once_each_in_their_order(
    database: Database, broker: InMemoryBroker
) -> None:
    number = FILMS_A_ROW * 12 + 7
    changed = await change(database, *films(*range(1, number + 1)))
    assert len(changed) == number
    assert await count(database) == number
    tellers = [announcer(database, broker) for _ in range(3)]
    await asyncio.gather(*(teller.publish_waiting() for teller in tellers))
    assert sorted(str(event.subject) for event in received(broker)) == sorted(changed)
    assert await count(database) == 0


async def test_a_film_is_told_of_as_it_is_then_and_always_with_the_same_id(
    database: Database, broker: InMemoryBroker
) -> None:
    await change(database, *films(1, 2))
    await change(database, *films(1, title="New"), at=NOON + timedelta(minutes=1))
    await announcer(database, broker).publish_waiting()
    events = [event for event in received(broker) if event.subject == "tmdb-1"]
    assert [event.data.revision for event in events] == [2, 2]
    assert {event.data.movie.title for event in events} == {"New 1"}
    assert len({event.id for event in events}) == 1, "who has seen the first ignores the second"
    [other] = [event for event in received(broker) if event.subject == "tmdb-2"]
    await change(database, *films(1, title="Newest"), at=NOON + timedelta(minutes=2))
    await announcer(database, broker).publish_waiting()
    newest = received(broker)[-1]
    assert (newest.data.revision, newest.data.movie.title) == (3, "Newest 1")
    assert len({events[0].id, other.id, newest.id}) == 3


async def test_of_films_that_are_gone_by_then(database: Database, broker: InMemoryBroker) -> None:
    later = NOON + timedelta(minutes=1)
    nameless = SourceRecord(Source.TABLE, "tmdb-2", (), {"runtime": 5})
    at_imdb = SourceRecord(Source.IMDB_BASICS, "imdb-tt0000003", (), {"title": "Moved"})
    await change(database, *films(1, 2), at_imdb)
    async with database.transaction() as connection:
        ledger = await open_ledger(connection, ["tmdb-1"])
        ledger.remove("tmdb-1", "TMDB does not know it", later)
        await save(connection, ledger, later)
    for record in (
        nameless,
        SourceRecord(Source.MOVIELENS_LINKS, "tmdb-3", ("imdb-tt0000003",), {}),
    ):
        async with database.transaction() as connection:
            ledger = await open_ledger(connection, keys_of([record]))
            ledger.apply(record, later)
            await save(connection, ledger, later)
    await announcer(database, broker).publish_waiting()
    # The third has another key by now; the event of its move was in the transaction that moved it.
    assert sorted((event.data for event in received(broker)), key=lambda fact: fact.movie_id) == [
        MovieRemoved(movie_id="tmdb-1", reason="TMDB does not know it", revision=2),
        MovieRemoved(movie_id="tmdb-2", reason="no source names it", revision=2),
    ]


async def test_consumers_that_are_behind_hold_it_back(
    database: Database, broker: InMemoryBroker
) -> None:
    number = FILMS_A_ROW * 30
    await change(database, *films(*range(1, number + 1)))
    teller = announcer(database, broker, most_behind=1_000)
    await teller.publish_waiting()
    # It looks after every ten rows.
    assert await broker.depth(QUEUE) == FILMS_A_ROW * 10
    await teller.publish_waiting()
    assert await broker.depth(QUEUE) == FILMS_A_ROW * 10
    assert await count(database) == FILMS_A_ROW * 20
    async with broker.consume(QUEUE, prefetch=number) as stream:
        deliveries = await stream.take(number, 0.01)
        await stream.acknowledge_through(deliveries[-1])
        assert await broker.depth(QUEUE) == 0
        await announcer(database, broker, most_behind=number).publish_waiting()
        assert await count(database) == 0


async def test_a_queue_that_nobody_declared_holds_nothing_back(
    database: Database, broker: InMemoryBroker
) -> None:
    await change(database, *films(1))
    await announcer(database, broker, watched=("nobody.there",)).publish_waiting()
    assert len(received(broker)) == 1


async def test_an_import_goes_first_but_not_for_ever(
    database: Database, broker: InMemoryBroker
) -> None:
    busy = True
    teller = announcer(database, broker, is_busy=lambda: busy)
    await change(database, *films(1), now=datetime.now(UTC) - timedelta(seconds=121))
    await change(database, *films(2))
    await teller.publish_waiting()
    assert [event.subject for event in received(broker)] == ["tmdb-1"], "it has waited long"
    busy = False
    await teller.publish_waiting()
    assert [event.subject for event in received(broker)] == ["tmdb-1", "tmdb-2"]


async def test_nothing_is_lost_while_the_broker_is_away(
    database: Database, broker: InMemoryBroker
) -> None:
    await change(database, *films(*range(1, FILMS_A_ROW + 2)))
    broker.refuse_publishing = True
    with pytest.raises(PublishError):
        await announcer(database, broker).publish_waiting()
    assert await count(database) == FILMS_A_ROW + 1
    broker.refuse_publishing = False
    await announcer(database, broker).publish_waiting()
    assert len(received(broker)) == FILMS_A_ROW + 1


async def test_nothing_to_announce(database: Database, broker: InMemoryBroker) -> None:
    async with database.transaction() as connection:
        await announce_later(connection, [], NOON)
        assert await waiting(connection) == 0
    await announcer(database, broker).publish_waiting()
    assert received(broker) == []


async def test_a_change_that_is_rolled_back_is_not_announced(
    database: Database, broker: InMemoryBroker
) -> None:
    with suppress(ZeroDivisionError):
        async with database.transaction() as connection:
            await announce_later(connection, ["tmdb-1"], NOON)
            assert await waiting(connection) == 1
            raise ZeroDivisionError
    await announcer(database, broker).publish_waiting()
    assert (received(broker), await count(database)) == ([], 0)


async def test_a_real_broker_takes_them(database: Database, rabbit_vhost: str) -> None:
    broker = RabbitBroker(rabbit_vhost, name="test")
    try:
        await broker.declare(work_queue(QUEUE, bindings_for((MovieUpserted, MovieRemoved))))
        await change(database, *films(*range(1, 301)))
        await announcer(database, broker).publish_waiting()
        async with broker.consume(QUEUE, prefetch=300) as stream:
            subjects: set[str] = set()
            async with asyncio.timeout(20):
                while len(subjects) < 300:
                    for delivery in await stream.take(300, 0.1):
                        event: Event[Any] = decode(delivery.body)
                        assert event.data.revision == 1
                        subjects.add(str(event.subject))
                        await stream.acknowledge_through(delivery)
        assert subjects == {f"tmdb-{number}" for number in range(1, 301)}
        assert await count(database) == 0
    finally:
        await broker.close()
