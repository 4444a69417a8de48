"""Commands through the subscription on a real PostgreSQL, with the stand-in as TMDB."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from ingest_service.catalogue import Finding, RawDocument
from ingest_service.handlers import Fetched, Intake, store
from ingest_service.listing import KnownMovie, find
from ingest_service.repository import decode_records
from ingest_service.storing import store_findings
from ingest_service.subscriptions import subscriptions
from moviemetric_contracts import (
    CancelJob,
    Event,
    ImportCatalog,
    IngestCatalog,
    JobChanged,
    Message,
    Movie,
    MovieRemoved,
    MovieUpserted,
    RefreshMovie,
    RegisterMovie,
    RetryJob,
)
from service_kit import Ack, Conflict, Database, Outage, Outcome, Retry, Subscription, unit_of_work
from service_kit.jobs import list_jobs
from service_kit.testing import deliver, outbox_events
from sqlalchemy import text

INCEPTION = 27205
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def event(data: Message) -> Event[Any]:
    return Event.of(data, source="/test", time=NOON)


def register(tmdb_id: int = INCEPTION) -> Event[Any]:
    return event(RegisterMovie(tmdb_id=tmdb_id))


def refresh(tmdb_id: int = INCEPTION) -> Event[Any]:
    return event(RefreshMovie(tmdb_id=tmdb_id))


def films_table_of(rows: Sequence[Any]) -> list[tuple[str, int, bool]]:
    return [(row.movie_id, row.revision, row.removed_at is not None) for row in rows]


async def films(database: Database) -> list[Any]:
    async with database.reading() as connection:
        return list(await connection.execute(text("SELECT * FROM movies ORDER BY movie_id")))


async def keys(database: Database) -> dict[str, str]:
    async with database.reading() as connection:
        rows = await connection.execute(text("SELECT key, movie_id FROM film_keys"))
        return {row.key: row.movie_id for row in rows}


async def listing_of(database: Database, key: str) -> KnownMovie:
    async with database.reading() as connection:
        known = await find(connection, key)
    assert known is not None
    return known


async def scalars(database: Database, statement: str) -> list[Any]:
    async with database.reading() as connection:
        return list((await connection.execute(text(statement))).scalars())


@pytest.fixture
def subscribe(database: Database, make_client: Any) -> Any:
    def make(
        base_url: str, *, fresh_for: timedelta = timedelta(hours=1), **options: Any
    ) -> Subscription[Any]:
        intake = Intake(make_client(base_url, **options), database, fresh_for=fresh_for)
        [found] = [one for one in subscriptions(intake) if one.queue == "ingest-service.register"]
        return found

    return make


async def test_a_registration_stores_and_tells(
    database: Database, standin: Any, subscribe: Any
) -> None:
    command = register()
    assert await deliver(subscribe(standin.base_url), database, [command]) == [Ack()]

    [row] = await films(database)
    assert (row.movie_id, row.revision, row.title, row.imdb_id) == (
        "tmdb-27205",
        1,
        "Inception",
        "tt1375666",
    )
    [fact] = await outbox_events(database)
    assert isinstance(fact.data, MovieUpserted)
    assert (fact.data.revision, fact.causationid, fact.subject) == (1, command.id, "tmdb-27205")
    told = fact.data.movie
    assert row.release_date == told.release_date
    assert told.aliases == ("imdb-tt1375666",)
    known = await listing_of(database, "tmdb-27205")
    assert known.content is not None
    assert told == Movie.model_validate({**known.content, "fetched_at": known.known_since})
    [kept] = decode_records(row.records).values()
    assert told.fetched_at == kept.at == row.fetched_at
    assert row.fetched_at <= row.updated_at
    columns = {
        name: getattr(row, name)
        for name in (
            "imdb_id",
            "title",
            "original_title",
            "original_language",
            "release_date",
            "vote_average",
            "vote_count",
            "popularity",
            "poster_path",
        )
    }
    assert columns == {name: getattr(told, name) for name in columns}
    assert await scalars(database, "SELECT body::jsonb->>'title' FROM source_documents") == [
        "Inception"
    ]
    assert row.genres == list(told.genres) != []
    assert row.genre_keys == [name.lower() for name in told.genres]
    assert row.aliases == ["imdb-tt1375666"]
    assert await keys(database) == {"imdb-tt1375666": "tmdb-27205"}


async def test_the_same_event_five_times_is_once(
    database: Database, standin: Any, subscribe: Any
) -> None:
    subscription, command = subscribe(standin.base_url), register()
    assert await deliver(subscription, database, [command, command, command]) == [Ack()] * 3
    for _ in range(2):
        assert await deliver(subscription, database, [command]) == [Ack()]
    assert films_table_of(await films(database)) == [("tmdb-27205", 1, False)]
    assert len(await outbox_events(database)) == 1
    # The three of the first batch are prepared before the inbox can know; the others are not.
    assert standin.requests()["total"] == 3


async def test_a_fresh_film_is_fetched_again_by_refresh_but_not_by_register(
    database: Database, standin: Any, subscribe: Any
) -> None:
    subscription = subscribe(standin.base_url)
    await deliver(subscription, database, [register()])
    assert await deliver(subscription, database, [register(), register()]) == [Ack()] * 2
    assert standin.requests()["total"] == 1
    await deliver(subscription, database, [refresh()])
    assert standin.requests()["total"] == 2
    stale = subscribe(standin.base_url, fresh_for=timedelta(0))
    await deliver(stale, database, [register()])
    assert standin.requests()["total"] == 3
    assert len(await outbox_events(database)) == 1


async def test_a_refresh_raises_the_revision_only_when_the_content_changed(
    database: Database, standin: Any, subscribe: Any
) -> None:
    subscription = subscribe(standin.base_url)
    await deliver(subscription, database, [register()])
    [first] = await films(database)
    await deliver(subscription, database, [refresh()])
    [same] = await films(database)
    assert (same.revision, same.updated_at) == (1, first.updated_at)
    assert same.fetched_at > first.fetched_at

    standin.follow(overrides={INCEPTION: {"popularity": 123.5}})
    await deliver(subscription, database, [refresh()])
    standin.follow(
        overrides={
            INCEPTION: {
                "popularity": 123.5,
                "genres": [{"id": 18, "name": "Drama"}],
                "imdb_id": None,
            }
        }
    )
    await deliver(subscription, database, [refresh()])
    [last] = await films(database)
    assert (last.revision, last.popularity, last.genres) == (3, 123.5, ["Drama"])
    facts = [fact.data for fact in await outbox_events(database)]
    assert [fact.revision for fact in facts if isinstance(fact, MovieUpserted)] == [1, 2, 3]
    assert last.genre_keys == ["drama"]
    # What TMDB no longer says is gone; what it once linked stays linked.
    content = (await listing_of(database, "imdb-tt1375666")).content
    assert content is not None
    assert (content["movie_id"], content["imdb_id"]) == ("tmdb-27205", "tt1375666")


async def test_not_found_removes_and_a_later_registration_brings_back(
    database: Database, standin: Any, subscribe: Any
) -> None:
    subscription = subscribe(standin.base_url)
    await deliver(subscription, database, [register()])
    standin.follow(removed_ids=[INCEPTION])
    await deliver(subscription, database, [refresh()])
    await deliver(subscription, database, [refresh()])
    [gone] = await films(database)
    assert (gone.revision, gone.removed_reason) == (2, "TMDB does not know it")
    standin.reset()
    # A removed film is not fresh, however short ago it was asked for.
    await deliver(subscription, database, [register()])
    [back] = await films(database)
    assert (back.revision, back.removed_at, back.removed_reason) == (3, None, None)
    facts = [fact.data for fact in await outbox_events(database)]
    assert [(type(fact), getattr(fact, "revision", 0)) for fact in facts] == [
        (MovieUpserted, 1),
        (MovieRemoved, 2),
        (MovieUpserted, 3),
    ]


async def test_a_film_that_never_was_is_removed_too(
    database: Database, standin: Any, subscribe: Any
) -> None:
    subscription = subscribe(standin.base_url)
    unknown = 2_000_000_000
    await deliver(subscription, database, [register(unknown), register()])
    await deliver(subscription, database, [register(unknown)])
    rows = films_table_of(await films(database))
    assert rows == [("tmdb-2000000000", 1, True), ("tmdb-27205", 1, False)]
    facts = [fact.data for fact in await outbox_events(database)]
    assert facts[0] == MovieRemoved(
        movie_id="tmdb-2000000000", reason="TMDB does not know it", revision=1
    )
    assert [type(fact) for fact in facts] == [MovieRemoved, MovieUpserted]


async def test_a_foreign_404_removes_nothing(
    database: Database, standin: Any, subscribe: Any
) -> None:
    await deliver(subscribe(standin.base_url), database, [register()])
    [outcome] = await deliver(subscribe(f"{standin.url}/wrong"), database, [refresh()])
    assert isinstance(outcome, Retry)
    assert "is TMDB_BASE_URL right?" in outcome.reason
    assert films_table_of(await films(database)) == [("tmdb-27205", 1, False)]


@pytest.mark.parametrize("key", ["wrong", None])
async def test_a_refused_or_missing_key_pauses_the_intake(
    database: Database, standin: Any, subscribe: Any, key: str | None
) -> None:
    subscription = subscribe(standin.base_url, api_key=key)
    with pytest.raises(Outage, match="API key") as caught:
        await deliver(subscription, database, [register(), refresh(155)])
    assert (caught.value.dependency, caught.value.retry_after) == ("TMDB", 60)
    assert await films(database) == []
    assert await scalars(database, "SELECT event_id FROM inbox") == []


async def test_no_way_to_tmdb_pauses_the_intake(database: Database, subscribe: Any) -> None:
    subscription = subscribe("http://127.0.0.1:1/3", max_attempts=1)
    with pytest.raises(Outage, match="ConnectError") as caught:
        await deliver(subscription, database, [register()])
    assert caught.value.dependency == "TMDB"
    assert await scalars(database, "SELECT event_id FROM inbox") == []


async def test_a_long_rest_pauses_the_intake(
    database: Database, serve_script: Any, subscribe: Any
) -> None:
    server = await serve_script(
        b"HTTP/1.1 429 X\r\nContent-Length: 2\r\nRetry-After: 120\r\nConnection: close\r\n\r\n{}"
    )
    with pytest.raises(Outage, match="TMDB asks to wait 120 s") as caught:
        await deliver(subscribe(server.base_url), database, [register()])
    assert caught.value.retry_after == pytest.approx(120, abs=1)


async def test_one_film_that_fails_does_not_hold_up_its_batch(
    database: Database, standin: Any, subscribe: Any
) -> None:
    standin.follow(fail_ids={155: "500"})
    [good, failed] = await deliver(
        subscribe(standin.base_url), database, [register(), register(155)]
    )
    assert good == Ack()
    assert isinstance(failed, Retry)
    assert "status 500" in failed.reason
    assert films_table_of(await films(database)) == [("tmdb-27205", 1, False)]


async def test_another_films_document_is_refused(
    database: Database, serve_script: Any, subscribe: Any
) -> None:
    body = b'{"id": 6, "title": "Another"}'
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    server = await serve_script(head.encode() + body)
    [outcome] = await deliver(subscribe(server.base_url), database, [register(5)])
    assert isinstance(outcome, Retry)
    assert "film 5: id: expected 5, got 6" in outcome.reason


async def test_characters_that_postgresql_refuses_do_not_reach_it(
    database: Database, serve_script: Any, subscribe: Any
) -> None:
    body = b'{"id": 5, "title": "Four\\u0000 Rooms \\ud83d", "genres": [{"name": "Dra\\u0000ma"}]}'
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    server = await serve_script(head.encode() + body)
    assert await deliver(subscribe(server.base_url), database, [register(5)]) == [Ack()]
    [row] = await films(database)
    assert (row.title, row.genres) == ("Four Rooms", ["Drama"])
    assert await scalars(database, "SELECT body FROM source_documents") == [body.decode()]


def found(minute: float, title: str | None, number: int = 5, **fields: Any) -> Finding:
    """What a fetch at that minute found; no title: nothing."""
    fetched_at = NOON + timedelta(minutes=minute)
    movie_id = f"tmdb-{number}"
    if title is None:
        return Finding(movie_id=movie_id, fetched_at=fetched_at, removed_reason="gone")
    return Finding(
        movie_id=movie_id,
        fetched_at=fetched_at,
        movie=Movie(
            movie_id=movie_id, tmdb_id=number, title=title, fetched_at=fetched_at, **fields
        ),
        raw=RawDocument(
            source="tmdb",
            source_id=str(number),
            body=f'{{"title": "{title}"}}',
            etag=None,
            fetched_at=fetched_at,
        ),
    )


async def keep(database: Database, *findings: Finding) -> list[Outcome]:
    """Stores a batch of findings as the consumer would, but for the fetching."""

    async def prepare(command: Event[Any]) -> Fetched:
        position: int = command.data.tmdb_id - 1
        return Fetched(event=command, finding=findings[position])

    subscription = Subscription(
        queue="ingest-service.register", accepts=(RefreshMovie,), prepare=prepare, handle=store
    )
    commands = [refresh(position + 1) for position in range(len(findings))]
    return await deliver(subscription, database, commands)


@pytest.mark.parametrize("in_one_batch", [True, False])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2)])
async def test_the_newest_fetch_wins_in_any_order(
    database: Database, order: tuple[int, ...], in_one_batch: bool
) -> None:
    findings = [
        found(0, "Old", genres=("Drama",)),
        found(1, None),
        found(2, "New", genres=("Crime", "drama"), imdb_id="tt0113101"),
    ]
    if in_one_batch:
        await keep(database, *(findings[position] for position in order))
    else:
        for position in order:
            await keep(database, findings[position])
    [row] = await films(database)
    assert (row.title, row.removed_at, row.fetched_at) == (
        "New",
        None,
        NOON + timedelta(minutes=2),
    )
    assert row.genre_keys == ["crime", "drama"]
    assert await keys(database) == {"imdb-tt0113101": "tmdb-5"}
    assert await scalars(database, "SELECT body FROM source_documents") == ['{"title": "New"}']
    revisions = [fact.data.model_dump()["revision"] for fact in await outbox_events(database)]
    assert revisions == list(range(1, row.revision + 1))


async def test_replicas_that_store_the_same_films_lose_no_revision_and_do_not_deadlock(
    database: Database,
) -> None:
    numbers = list(range(1, 31))

    async def replica(index: int) -> None:
        for step in range(8):
            order = numbers if (index + step) % 2 else numbers[::-1]
            batch = [
                found(
                    step * 4 + index,
                    None if (number + step + index) % 5 == 0 else f"{index}-{step}",
                    number,
                    genres=(f"Genre {(number + step) % 7}", f"genre {(number * index) % 7}"),
                    imdb_id=f"tt{1_000_000 + (number + step) % 9}",
                )
                for number in order
            ]
            for _ in range(50):
                with suppress(Conflict):
                    async with unit_of_work(database, source="test") as work:
                        await store_findings(work, batch)
                    break
            else:
                pytest.fail("conflicts without end")

    await asyncio.gather(*(replica(index) for index in range(4)))
    kept: dict[str, list[int]] = {}
    for fact in await outbox_events(database):
        kept.setdefault(str(fact.subject), []).append(fact.data.model_dump()["revision"])
    rows = await films(database)
    assert len(rows) == 30
    for row in rows:
        # In the outbox in their order, too.
        assert kept[row.movie_id] == list(range(1, row.revision + 1))
        assert row.fetched_at == NOON + timedelta(minutes=31)
        [slot] = decode_records(row.records)
        assert slot == f"tmdb/{row.movie_id}"
    claimed = await keys(database)
    assert claimed.keys() == {f"imdb-tt{number}" for number in range(1_000_000, 1_000_009)}
    assert {row.movie_id: row.aliases for row in rows} == {
        row.movie_id: sorted(key for key, own in claimed.items() if own == row.movie_id)
        for row in rows
    }


async def test_a_burst_of_registrations_of_new_films(
    database: Database, standin: Any, subscribe: Any
) -> None:
    catalogue = [INCEPTION, 155, 157336, 550, 680, 13, 278, 238, 424, 129]
    batch = [register(number) for number in catalogue for _ in range(2)]
    outcomes = await deliver(subscribe(standin.base_url, requests_per_second=1000), database, batch)
    assert outcomes == [Ack()] * 20
    rows = films_table_of(await films(database))
    assert rows == sorted((f"tmdb-{number}", 1, False) for number in catalogue)
    facts = await outbox_events(database)
    assert len(facts) == 10
    assert all(a.subject < b.subject for a, b in pairwise(facts) if a.subject and b.subject)


def _job(number: int, kind: str = "import") -> str:
    return f"{kind}-{number:032x}"


@pytest.fixture
def job_queue(database: Database, make_client: Any) -> Subscription[Any]:
    intake = Intake(make_client("http://127.0.0.1:1/3"), database, fresh_for=timedelta(0))
    [found] = [one for one in subscriptions(intake) if one.queue == "ingest-service.jobs"]
    return found


async def test_commands_about_jobs_become_jobs(
    database: Database, job_queue: Subscription[Any]
) -> None:
    commands = [
        event(data)
        for data in (
            ImportCatalog(job_id=_job(1), uri="file:///a", filename="a.csv", dry_run=True),
            IngestCatalog(job_id=_job(2, "ingest"), tmdb_ids=(5, 6), force=True),
            RetryJob(job_id=_job(3), retry_of=_job(1)),
            CancelJob(job_id=_job(1)),
            # Of another service, and of nobody: neither is waited for.
            CancelJob(job_id=_job(4, "compute")),
        )
    ]
    assert await deliver(job_queue, database, commands) == [Ack()] * 5
    # The broker may bring them again.
    assert await deliver(job_queue, database, commands[:3]) == [Ack()] * 3
    async with database.reading() as connection:
        jobs, total = await list_jobs(connection, kind=None, state=None, limit=10, offset=0)
    assert total == 3
    about = {job.job_id: (job.kind, job.state) for job in jobs}
    assert about == {
        _job(1): ("import", "cancelled"),
        _job(2, "ingest"): ("ingest", "queued"),
        _job(3): ("import", "queued"),
    }
    requests = {job.job_id: job.request for job in jobs}
    assert requests[_job(1)] == {
        "format": "auto",
        "uri": "file:///a",
        "filename": "a.csv",
        "dry_run": True,
    }
    assert requests[_job(2, "ingest")] == {
        "source": "tmdb",
        "tmdb_ids": [5, 6],
        "force": True,
    }
    assert requests[_job(3)] == {"retry_of": _job(1)}
    facts = [fact.data for fact in await outbox_events(database)]
    assert {type(fact) for fact in facts} == {JobChanged}
    assert sorted((fact.job_id, fact.state) for fact in facts) == sorted(
        [
            (_job(1), "queued"),
            (_job(2, "ingest"), "queued"),
            (_job(3), "queued"),
            (_job(1), "cancelled"),
        ]
    )


async def test_a_cancellation_that_overtakes_its_job_is_repeated(
    database: Database, job_queue: Subscription[Any]
) -> None:
    [outcome] = await deliver(job_queue, database, [event(CancelJob(job_id=_job(9)))])
    assert isinstance(outcome, Retry)
