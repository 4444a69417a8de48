"""MovieLens ratings on a real PostgreSQL and a real RabbitMQ: what is published is read back."""

import asyncio
import csv
import gzip
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
from ingest_service.importing import Imports
from ingest_service.rating_commands import QUEUE, RatingCommands
from ingest_service.rejects import as_csv, read_rejects
from moviemetric_contracts import Event, ImportCatalog, RateMovie, RetryJob, decode
from service_kit import Database, Outgoing, RabbitBroker, unit_of_work
from service_kit.blobs import BlobStore
from service_kit.jobs import Job, JobRunner, enqueue, load_job, request_cancel
from service_kit.store import to_outgoing
from service_kit.topology import bindings_for, work_queue
from sqlalchemy import text

HEADER = b"userId,movieId,rating,timestamp\r\n"
U_ITEM_TAIL = b"|http://x/y" + b"|0" * 19 + b"\n"
U_ITEM = (
    b"242|Kolya (1996)|24-Jan-1997|" + U_ITEM_TAIL + b"302|Heat (1995)|01-Jan-1995|" + U_ITEM_TAIL
)

Rated = tuple[str, str, float, int]


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 1 << 20):
        yield content[start : start + (1 << 20)]


@pytest.fixture
async def broker(rabbit_vhost: str) -> AsyncGenerator[RabbitBroker]:
    opened = RabbitBroker(rabbit_vhost, name="test")
    yield opened
    await opened.close()


@pytest.fixture
async def queue(broker: RabbitBroker) -> str:
    """That of rating-service, which nobody empties."""
    await broker.declare(work_queue(QUEUE, bindings_for((RateMovie,))))
    return QUEUE


async def taken(broker: RabbitBroker, expected: int) -> list[Event[Any]]:
    """The next commands in the queue; there are no more than expected."""
    events: list[Event[Any]] = []
    async with asyncio.timeout(300), broker.consume(QUEUE, 5_000) as stream:
        while len(events) < expected:
            deliveries = await stream.take(5_000, 0.05)
            events += [decode(one.body, hint=one.routing_key) for one in deliveries]
            await stream.acknowledge_through(deliveries[-1])
    assert len(events) == expected
    assert await broker.depth(QUEUE) == 0
    return events


def rated(events: Iterable[Event[Any]]) -> list[Rated]:
    found: list[Rated] = []
    for event in events:
        assert isinstance(event.data, RateMovie)
        assert event.time is not None
        data = event.data
        found.append((data.user_id, data.movie_id, data.score, int(event.time.timestamp())))
    return found


@dataclass
class Importer:
    """Imports what it is given, as the service does."""

    database: Database
    blobs: BlobStore
    commands: RatingCommands
    numbers: Iterable[int] = field(default_factory=lambda: count(1))
    sorted_together: int = 100_000

    async def begin(self, content: bytes, **options: Any) -> str:
        job_id = self._next()
        blob = await self.blobs.put(job_id, pieces(content))
        await self._enqueue(job_id, ImportCatalog(job_id=job_id, uri=blob.uri, **options))
        return job_id

    async def run(self, content: bytes | Path, **options: Any) -> Job:
        if isinstance(content, Path):
            content = await asyncio.to_thread(content.read_bytes)
        return await self.ended(await self.begin(content, **options))

    async def retry(self, job: Job) -> Job:
        job_id = self._next()
        await self._enqueue(job_id, RetryJob(job_id=job_id, retry_of=job.job_id))
        return await self.ended(job_id)

    async def ended(self, job_id: str) -> Job:
        imports = Imports(
            self.database, self.blobs, self.commands, sorted_together=self.sorted_together
        )
        runner = JobRunner(self.database, source="test", runs={"import": imports.run})
        await runner.run_pending()
        return await self.job(job_id)

    async def job(self, job_id: str) -> Job:
        async with self.database.reading() as connection:
            job = await load_job(connection, job_id)
        assert job is not None
        return job

    async def rejects(self, job: Job) -> list[tuple[int, str | None, str]]:
        async with self.database.reading() as connection:
            found = await read_rejects(connection, job.job_id, limit=1000)
        return [(rejection.line, rejection.column, rejection.reason) for rejection in found]

    async def rejects_file(self, job: Job) -> bytes:
        async def read(after: int, limit: int) -> Any:
            async with self.database.reading() as connection:
                return await read_rejects(connection, job.job_id, limit=limit, after=after)

        return b"".join([line async for line in as_csv(read, job.checkpoint["header"])])

    def _next(self) -> str:
        return f"import-{next(iter(self.numbers)):032x}"

    async def _enqueue(self, job_id: str, command: ImportCatalog | RetryJob) -> None:
        request = command.model_dump(mode="json", exclude={"job_id"}, exclude_none=True)
        cause = Event.of(command, source="/test", time=datetime.now(UTC), id=f"asked-{job_id}")
        async with unit_of_work(self.database, source="test") as work:
            await enqueue(work, job_id=job_id, kind="import", request=request, cause=cause)


MakeImporter = Callable[..., Importer]


@pytest.fixture
def make_importer(database: Database, broker: RabbitBroker, tmp_path: Path) -> MakeImporter:
    blobs = BlobStore.from_url((tmp_path / "uploads").as_uri())
    numbers = count(1)

    def make(most_behind: int = 1_000_000) -> Importer:
        commands = RatingCommands(broker, most_behind=most_behind)
        return Importer(database, blobs, commands, numbers)

    return make


@pytest.fixture
def importer(make_importer: MakeImporter, queue: str) -> Importer:
    assert queue == QUEUE
    return make_importer()


async def test_each_row_is_a_command_with_the_time_that_it_bears(
    importer: Importer, broker: RabbitBroker, tmp_path: Path
) -> None:
    content = HEADER + b"1,31,2.5,1260759144\r\n2,1029,5,835355493\r\n2,1029,0.5,835355494\r\n"
    job = await importer.run(content)
    assert (job.state, job.done, job.total, job.rejected) == ("succeeded", 3, 3, 0)
    assert job.result == {
        "format": "movielens-ratings", "rows": 3, "sent": 3, "rejected": 0, "skipped": {},
    }  # fmt: skip
    events = await taken(broker, 3)
    # a film's ratings side by side
    assert rated(events) == [
        ("movielens-2", "movielens-1029", 10.0, 835_355_493),
        ("movielens-2", "movielens-1029", 1.0, 835_355_494),
        ("movielens-1", "movielens-31", 5.0, 1_260_759_144),
    ]
    assert {(event.source, event.causationid) for event in events} == {
        ("/ingest-service", f"asked-{job.job_id}")
    }
    assert len({event.id for event in events}) == 3
    assert list((tmp_path / "uploads").iterdir()) == []

    # the same file once more, in another shape: the same events
    again = await importer.run(
        gzip.compress(content.replace(b"\r\n", b"\n").replace(b"2.5", b"2.50"))
    )
    assert again.result == job.result
    assert [event.id for event in await taken(broker, 3)] == [event.id for event in events]


async def test_wrong_rows_are_rejected_alone(importer: Importer, broker: RabbitBroker) -> None:
    tomorrow = int(time.time()) + 86_400
    content = (
        HEADER
        + (
            f"1,31,2.5,1260759144\n1,31,5.5,1260759144\n0,31,5,1260759144\n1,x,5,1260759144\n"
            f"1,31,5,{tomorrow}\n1,31,5,\n1,31,5\n1,31,5,1260759144,1\n\n1,32,5,1260759144\n"
        ).encode()
    )
    job = await importer.run(content)
    assert (job.state, job.result["sent"], job.rejected) == ("succeeded", 2, 7)
    assert [movie_id for _, movie_id, _, _ in rated(await taken(broker, 2))] == [
        "movielens-31", "movielens-32",
    ]  # fmt: skip
    assert await importer.rejects(job) == [
        (3, "rating", "expected 0.5 to 5 stars in halves, got '5.5'"),
        (4, "userId", "expected a user's number such as 1, got '0'"),
        (5, "movieId", "expected a MovieLens id such as 1, got 'x'"),
        (6, "timestamp", f"expected a time that has been, got {tomorrow}, which is to come"),
        (7, "timestamp", "expected seconds since 1970 such as 964982703, the cell is empty"),
        (8, None, "has 3 cells, the header has 4"),
        (9, None, "has 5 cells, the header has 4"),
    ]
    mended = (await importer.rejects_file(job)).replace(b"5.5", b"4.5").splitlines()
    after = await importer.run(b"\n".join(mended[:2]))
    assert (after.result["sent"], after.rejected) == (1, 0)
    assert rated(await taken(broker, 1)) == [("movielens-1", "movielens-31", 9.0, 1_260_759_144)]


async def test_a_dry_run_publishes_nothing(importer: Importer, broker: RabbitBroker) -> None:
    job = await importer.run(HEADER + b"1,31,2.5,1260759144\n1,31,9,1260759144\n", dry_run=True)
    assert job.result == {
        "format": "movielens-ratings", "dry_run": True, "rows": 2, "sent": 1, "rejected": 1,
        "skipped": {},
    }  # fmt: skip
    assert await broker.depth(QUEUE) == 0


async def test_a_file_of_nothing_but_wrong_rows_ends_early(
    importer: Importer, broker: RabbitBroker
) -> None:
    job = await importer.run(HEADER + b"1,31,6,1260759144\n" * 30_000)
    assert (job.state, job.done < 30_000) == ("failed", True)
    assert "none of the first" in str(job.error)
    assert await broker.depth(QUEUE) == 0


async def test_a_file_that_is_cut_off_says_where(importer: Importer, broker: RabbitBroker) -> None:
    rows = b"".join(b"%d,31,4,1260759144\n" % user for user in range(1, 20_001))
    job = await importer.run(gzip.compress(HEADER + rows)[:-2_000])
    assert job.state == "failed"
    assert "rows before that place were read" in str(job.error)
    assert await broker.depth(QUEUE) == job.result["sent"] > 0


async def test_the_users_of_ml_1m_are_others(importer: Importer, broker: RabbitBroker) -> None:
    job = await importer.run(b"1::1193::5::978300760\n1::661::9::978302109\n2::x::3::978302109\n")
    assert (job.result["sent"], job.rejected) == (1, 2)
    assert rated(await taken(broker, 1)) == [
        ("movielens-1m-1", "movielens-1193", 10.0, 978_300_760)
    ]
    # Rejected rows come back as CSV, and are of the same set still.
    mended = (await importer.rejects_file(job)).replace(b",9,", b",3,").replace(b"x", b"661")
    assert (await importer.run(mended)).rejected == 0
    assert {user for user, *_ in rated(await taken(broker, 2))} == {
        "movielens-1m-1", "movielens-1m-2",
    }  # fmt: skip


async def test_the_films_of_ml_100k_are_those_of_its_u_item(
    importer: Importer, broker: RabbitBroker
) -> None:
    ratings = b"196\t242\t3\t881250949\n186\t302\t3\t891717742\n22\t377\t1\t878887116\n"
    early = await importer.run(ratings)
    assert (early.state, early.result["sent"], early.rejected) == ("succeeded", 0, 3)
    column, reason = "itemId (ml-100k)", "which film this is, only u.item says: import u.item first"
    assert await importer.rejects(early) == [(line, column, reason) for line in (1, 2, 3)]

    tried = await importer.run(U_ITEM, dry_run=True)
    assert tried.result["new"] == 2
    assert (await importer.retry(early)).result["sent"] == 0, "a dry run keeps nothing"

    films = await importer.run(U_ITEM)
    assert films.result["new"] == 2
    late = await importer.retry(early)
    assert (late.result["sent"], late.rejected) == (2, 1)
    assert await importer.rejects(late) == [
        (3, column, "u.item, as it was imported, names no film 377")
    ]
    events = await taken(broker, 2)
    assert rated(events) == [
        ("movielens-100k-186", "title-heat-1995", 6.0, 891_717_742),
        ("movielens-100k-196", "title-kolya-1996", 6.0, 881_250_949),
    ]
    async with importer.database.reading() as connection:
        known = await connection.execute(text("SELECT movie_id FROM movies ORDER BY 1"))
        assert list(known.scalars()) == ["title-heat-1995", "title-kolya-1996"]

    # imported again it changes nothing, and one that says otherwise is believed
    assert (await importer.run(U_ITEM)).result["unchanged"] == 2
    await importer.run(U_ITEM.replace(b"302|Heat (1995)", b"302|Casino (1995)"))
    await importer.run(ratings)
    assert [movie_id for _, movie_id, *_ in rated(await taken(broker, 2))] == [
        "title-casino-1995", "title-kolya-1996",
    ]  # fmt: skip


async def eventually(what: str, condition: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + 60
    while not await condition():
        assert time.monotonic() < deadline, f"not within a minute: {what}"
        await asyncio.sleep(0.05)


async def test_it_waits_for_rating_service_and_can_be_cancelled_meanwhile(
    make_importer: MakeImporter, queue: str, broker: RabbitBroker, tmp_path: Path
) -> None:
    importer = make_importer(most_behind=50)
    filler = to_outgoing(
        Event.of(
            RateMovie(movie_id="tmdb-1", user_id="u", score=1), source="/t", time=datetime.now(UTC)
        )
    )
    assert not any(await broker.publish_many([filler] * 60))
    assert await broker.depth(queue) == 60
    rows = b"".join(b"%d,31,4,1260759144\n" % user for user in range(1, 101))
    job_id = await importer.begin(HEADER + rows)
    running = asyncio.create_task(importer.ended(job_id))

    async def waits() -> bool:
        return "rating-service has 60 ratings to take" in str((await importer.job(job_id)).error)

    await eventually("the job says what it waits for", waits)
    assert await broker.depth(queue) == 60
    assert len(await taken(broker, 160)) == 160
    job = await asyncio.wait_for(running, 30)
    assert (job.state, job.error, job.result["sent"]) == ("succeeded", None, 100)

    assert not any(await broker.publish_many([filler] * 60))
    assert await broker.depth(queue) == 60
    job_id = await importer.begin(HEADER + rows)
    running = asyncio.create_task(importer.ended(job_id))

    async def runs() -> bool:
        return (await importer.job(job_id)).state == "running"

    await eventually("the job runs", runs)
    async with unit_of_work(importer.database, source="test") as work:
        await request_cancel(work, job_id, cause=None)
    assert (await asyncio.wait_for(running, 30)).state == "cancelled"
    assert await broker.depth(queue) == 60
    assert list((tmp_path / "uploads").iterdir()) == []


async def test_without_a_queue_it_waits_until_there_is_one(
    make_importer: MakeImporter, broker: RabbitBroker
) -> None:
    await broker.declare(())
    importer = make_importer()
    job_id = await importer.begin(HEADER + b"1,31,4,1260759144\n")
    running = asyncio.create_task(importer.ended(job_id))

    async def waits() -> bool:
        return "no queue takes messages" in str((await importer.job(job_id)).error)

    await eventually("the job says what it waits for", waits)
    await broker.declare(work_queue(QUEUE, bindings_for((RateMovie,))))
    job = await asyncio.wait_for(running, 60)
    assert (job.state, job.result["sent"]) == ("succeeded", 1)
    assert len(await taken(broker, 1)) == 1


async def test_published_but_not_committed_is_published_again(
    importer: Importer, broker: RabbitBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    importer.sorted_together = 10
    rows = b"".join(b"%d,31,4,1260759144\n" % user for user in range(1, 36))
    publish = importer.commands.publish
    chunks = 0

    async def killed(messages: list[Outgoing]) -> None:
        nonlocal chunks
        chunks += 1
        await publish(messages)
        if chunks == 2:
            msg = "killed"
            raise RuntimeError(msg)

    monkeypatch.setattr(importer.commands, "publish", killed)
    job = await importer.run(HEADER + rows)
    assert (job.state, job.result["sent"], job.result["rows"]) == ("succeeded", 35, 35)
    events = await taken(broker, 45)
    assert len({event.id for event in events}) == 35
    assert [event.id for event in events[10:20]] == [event.id for event in events[20:30]]


async def test_what_is_published_is_no_headway_before_it_is_committed(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import that dies without any is given up after some attempts; meanwhile it says more."""
    monkeypatch.setattr("ingest_service.rating_imports._AT_A_TIME", 10)
    monkeypatch.setattr("ingest_service.rating_imports._TELL_EVERY", 0.0)
    rows = b"".join(b"%d,31,4,1260759144\n" % user for user in range(1, 36))
    publish = importer.commands.publish
    told: list[tuple[int, str | None]] = []
    job_id = await importer.begin(HEADER + rows)

    async def watched(messages: list[Outgoing]) -> None:
        job = await importer.job(job_id)
        told.append((job.done, job.error))
        await publish(messages)

    monkeypatch.setattr(importer.commands, "publish", watched)
    job = await importer.ended(job_id)
    assert (job.state, job.done) == ("succeeded", 35)
    notes = [f"{sent} of the next 35 ratings are published" for sent in (10, 20, 30)]
    assert told == [(0, None), *((0, note) for note in notes)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.timeout(400)
async def test_killed_twice_it_goes_on_and_nothing_is_missing(
    make_importer: MakeImporter,
    queue: str,
    broker: RabbitBroker,
    postgres_database: str,
    rabbit_vhost: str,
    tmp_path: Path,
) -> None:
    importer = make_importer()
    rows, wrong = 60_000, 60
    lines = [
        f"{n},{n % 977 + 1},{6 if n % 1000 == 0 else n % 10 / 2 + 0.5},{1_000_000_000 + n}\n"
        for n in range(1, rows + 1)
    ]
    job_id = await importer.begin(HEADER + "".join(lines).encode())
    environment = os.environ | {
        "DATABASE_URL": postgres_database,
        "AMQP_URL": rabbit_vhost,
        "HTTP_PORT": str(free_port()),
        "UPLOAD_STORE_URL": (tmp_path / "uploads").as_uri(),
        "RATINGS_MOST_BEHIND": "1000000",
        "RATINGS_SORTED_TOGETHER": "10000",
    }
    program = [sys.executable, "-m", "ingest_service"]
    log = (tmp_path / "log").open("wb")
    await asyncio.to_thread(subprocess.run, [*program, "migrate"], env=environment, check=True)
    for share in (0.2, 0.5, 1.0):
        process = await asyncio.create_subprocess_exec(
            *program, env=environment, stdout=log, stderr=log
        )
        try:

            async def reached(share: float = share) -> bool:
                job = await importer.job(job_id)
                return job.done >= share * rows and (share < 1 or job.state == "succeeded")

            await eventually(f"{share:.0%} of the file", reached)
            if share < 1:
                assert (await importer.job(job_id)).state == "running", "over before the kill"
        finally:
            process.kill()
            await asyncio.wait_for(process.wait(), 10)
    log.close()
    job = await importer.job(job_id)
    assert (job.result["rows"], job.result["sent"], job.rejected) == (rows, rows - wrong, wrong)
    depth = await broker.depth(queue)
    assert depth is not None
    assert rows - wrong <= depth <= rows - wrong + 2 * 10_000, "at most a chunk for each kill"
    events = {event.id: event for event in await taken(broker, depth)}
    assert sorted(at for *_, at in rated(events.values())) == [
        1_000_000_000 + n for n in range(1, rows + 1) if n % 1000
    ]


def expected(
    lines: Iterable[list[str]], users: str, film: Callable[[str], str | None]
) -> Counter[Rated]:
    return Counter(
        (f"{users}{user}", movie_id, 2 * float(stars), int(at))
        for user, number, stars, at in lines
        if (movie_id := film(number)) is not None
    )


@pytest.mark.timeout(600)
async def test_ml_latest_small(
    importer: Importer, broker: RabbitBroker, shared_data: Path, thorough: bool
) -> None:
    rows, users, films = (100_836, 610, 9_724) if thorough else (5_000, 32, 2_427)
    with gzip.open(shared_data / "movielens/ml-latest-small/ratings.csv.gz", "rb") as file:
        head, *ratings = islice(file, rows + 1)
    lines = list(csv.reader(line.decode() for line in ratings))
    job = await importer.run(head + b"".join(ratings))
    assert (job.state, job.result["sent"], job.rejected) == ("succeeded", rows, 0)
    events = await taken(broker, rows)
    found = Counter(rated(events))
    assert found == expected(lines, "movielens-", lambda number: f"movielens-{number}")
    assert len({event.id for event in events}) == rows
    assert len({user for user, *_ in found}) == users
    assert len({movie_id for _, movie_id, *_ in found}) == films

    again = rows // 10
    beginning = head + b"".join(ratings[:again])
    assert (await importer.run(beginning)).result["sent"] == again
    repeated = await taken(broker, again)
    assert len({event.id for event in repeated} & {event.id for event in events}) == again


@pytest.mark.timeout(600)
async def test_ml_100k_and_ml_1m(
    importer: Importer, broker: RabbitBroker, shared_data: Path, thorough: bool
) -> None:
    folder = shared_data / "movielens"
    await importer.run(folder / "ml-100k/u.item")
    rows, nameless, of_kolya, of_1m = (100_000, 9, 117, 10_000)
    if not thorough:
        rows, nameless, of_kolya, of_1m = (4_000, 2, 8, 2_000)
    with gzip.open(folder / "ml-100k/u.data.gz", "rb") as file:
        content = b"".join(islice(file, rows))
    job = await importer.run(content)
    # The README's film 267 has no title; u.item names it "unknown".
    assert (job.result["sent"], job.rejected) == (rows - nameless, nameless)
    assert {reason for *_, reason in await importer.rejects(job)} == {
        "u.item, as it was imported, names no film 267"
    }
    found = Counter(rated(await taken(broker, rows - nameless)))
    async with importer.database.reading() as connection:
        stored = await connection.execute(text("SELECT movie_id, title FROM movies"))
        titles = {row.movie_id: row.title for row in stored}
    films = {movie_id for _, movie_id, *_ in found}
    assert films == set(titles) if thorough else films < set(titles)
    # of film 242, by its title
    lines = [line.split("\t") for line in content.decode().splitlines()]
    kolya = expected(lines, "movielens-100k-", {"242": "title-kolya-1996"}.get)
    assert titles["title-kolya-1996"] == "Kolya"
    assert kolya.total() == of_kolya
    assert kolya == Counter({one: n for one, n in found.items() if one[1] == "title-kolya-1996"})

    with gzip.open(folder / "ml-1m/ratings_first487650.dat.gz", "rb") as file:
        some = list(islice(file, of_1m))
    assert (await importer.run(b"".join(some))).result["sent"] == of_1m
    split = [line.decode().strip().split("::") for line in some]
    assert Counter(rated(await taken(broker, of_1m))) == expected(
        split, "movielens-1m-", lambda number: f"movielens-{number}"
    )
