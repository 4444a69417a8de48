"""Whole imports on a real PostgreSQL and a real folder: small hostile files, and the real ones."""

import asyncio
import gzip
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from ingest_service import announcing, listing
from ingest_service.importing import Imports
from ingest_service.rating_commands import RatingCommands
from ingest_service.rejects import read_rejects
from moviemetric_contracts import Event, ImportCatalog, RetryJob
from service_kit import Database, unit_of_work
from service_kit.blobs import BlobStore
from service_kit.jobs import Job, JobRunner, enqueue, load_job
from service_kit.testing import InMemoryBroker
from sqlalchemy import text

Import = Callable[..., Awaitable[Job]]


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 1 << 20):
        yield content[start : start + (1 << 20)]


@pytest.fixture
async def run_import(database: Database, tmp_path: Path) -> AsyncGenerator[Import]:
    """Imports bytes or a file; the job as it ended."""
    blobs = BlobStore.from_url((tmp_path / "uploads").as_uri())
    imports = Imports(database, blobs, RatingCommands(InMemoryBroker()))
    runner = JobRunner(database, source="test", runs={"import": imports.run})
    numbers = count(1)

    async def run(content: bytes | Path, **options: Any) -> Job:
        job_id = f"import-{next(numbers):032x}"
        if isinstance(content, Path):
            content = await asyncio.to_thread(content.read_bytes)
        blob = await blobs.put(job_id, pieces(content))
        command = ImportCatalog(job_id=job_id, uri=blob.uri, **options)
        return await finish(job_id, command)

    async def retry(job: Job) -> Job:
        job_id = f"import-{next(numbers):032x}"
        return await finish(job_id, RetryJob(job_id=job_id, retry_of=job.job_id))

    async def finish(job_id: str, command: ImportCatalog | RetryJob) -> Job:
        request = command.model_dump(mode="json", exclude={"job_id"}, exclude_none=True)
        cause = Event.of(command, source="/test", time=datetime.now(UTC))
        async with unit_of_work(database, source="test") as work:
            await enqueue(work, job_id=job_id, kind="import", request=request, cause=cause)
        await runner.run_pending()
        async with database.reading() as connection:
            job = await load_job(connection, job_id)
        assert job is not None
        return job

    run.retry = retry  # pyright: ignore[reportFunctionMemberAccess]
    yield run
    # What an import is done with is deleted.
    left = {path.name for path in (tmp_path / "uploads").iterdir()}
    async with database.reading() as connection:
        failed = await connection.execute(text("SELECT job_id FROM jobs WHERE state = 'failed'"))
        assert left <= set(failed.scalars())


async def rejects(database: Database, job: Job) -> list[tuple[int, str | None, str]]:
    async with database.reading() as connection:
        found = await read_rejects(connection, job.job_id, limit=1000)
    return [(rejection.line, rejection.column, rejection.reason) for rejection in found]


async def films(database: Database) -> dict[str, str]:
    async with database.reading() as connection:
        rows = await connection.execute(text("SELECT movie_id, title FROM movies ORDER BY 1"))
        return {row.movie_id: row.title for row in rows}


def counts(job: Job) -> dict[str, int]:
    """What is not zero."""
    return {name: value for name, value in job.result.items() if isinstance(value, int) and value}


GENERIC = b"tmdb_id,title,budget\n1,One,10\n2,Two,-5\nx,Three,\n4,Four,7\n"


async def test_wrong_rows_are_rejected_alone(database: Database, run_import: Import) -> None:
    job = await run_import(GENERIC)
    assert (job.state, job.done, job.total, job.rejected) == ("succeeded", 4, 4, 2)
    assert counts(job) == {"rows": 4, "new": 2, "rejected": 2}
    [(first, column, _), (second, other, _)] = await rejects(database, job)
    assert (first, column, second, other) == (3, "budget", 4, "tmdb_id")
    assert await films(database) == {"tmdb-1": "One", "tmdb-4": "Four"}


async def test_rejected_rows_can_be_tried_again(run_import: Any) -> None:
    conflict = b"movielens_id,tmdb_id,title\n5,10,Ten\n5,11,Eleven\n"
    job = await run_import(conflict)
    again = await run_import.retry(job)
    assert (again.state, again.result["rows"]) == ("succeeded", job.rejected)
    assert again.rejected == job.rejected


async def test_the_first_of_two_different_rows_stays_each_time(
    database: Database, run_import: Import
) -> None:
    content = b"tmdb_id,title\n1,One\n2,Two\n1,Uno\n2,Two\n"
    first = await run_import(content)
    assert counts(first) == {"rows": 4, "new": 2, "repeated": 1, "rejected": 1}
    [(line, _, reason)] = await rejects(database, first)
    assert (line, "tmdb-1" in reason) == (4, True)
    again = await run_import(content)
    assert (again.result["new"], again.result["changed"], again.rejected) == (0, 0, 1)
    assert await films(database) == {"tmdb-1": "One", "tmdb-2": "Two"}
    corrected = await run_import(b"tmdb_id,title\n1,Uno\n")
    assert counts(corrected) == {"rows": 1, "changed": 1}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"   \n \n", "empty"),
        (b"PK\x03\x04" + b"\x00" * 100, ""),
        ("title,year\nA,1".encode("utf-16-le"), "UTF-16"),
        (b"1,2,3\n4,5,6\n", ""),
        (b"title,title\nA,B\n", "title"),
        (b"name,colour\nball,red\n", "colour"),
        (gzip.compress(GENERIC)[:-12], ""),
        (b",".join(b"c%d" % n for n in range(1_000_000)) + b"\n", ""),
        (gzip.compress(b"tmdb_id,title\n" + b"0" * 300_000_000), ""),
    ],
    ids=[
        "empty",
        "blank",
        "zip",
        "utf-16 without a mark",
        "no header",
        "doubled column",
        "other columns",
        "cut off",
        "a million columns",
        "gzip bomb",
    ],
)
async def test_what_is_no_table_fails_and_says_why(
    run_import: Import, content: bytes, said: str
) -> None:
    job = await run_import(content)
    assert job.state in {"failed", "succeeded"}
    if job.state == "succeeded":
        assert job.rejected == 1
    else:
        assert job.error
        assert said in job.error


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + b"tmdb_id,title\n1,One\n",
        b"\xff\xfe" + "tmdb_id,title\n1,One\n".encode("utf-16-le"),
        b"tmdb_id,title\r\n1,One\r\n",
        b"tmdb_id,title\r1,One\r",
        b"TMDB_ID , Title\n1.0,One\n",
        gzip.compress(b"tmdb_id,title\n1,One\n"),
        b'tmdb_id,title\n1,"One"\n2,"never closed\n',
        b"tmdb_id,title\n1,One\ntmdb_id,title\n",
        b"tmdb_id,title\n1,One\n2,Caf\xe9\n",
        b"tmdb_id,title\n1,One\n2,a\x00b\n",
        b"tmdb_id,title\n1,One\n2," + b"x" * 10_000_000 + b"\n",
        b"tmdb_id,title\n1,One\n2,Two,3\n",
    ],
    ids=[
        "byte order mark",
        "utf-16",
        "crlf",
        "cr",
        "spaces and a float",
        "gzip",
        "quote never closed",
        "header again",
        "latin-1",
        "nul",
        "ten megabytes",
        "a cell too many",
    ],
)
async def test_the_good_rows_of_an_odd_file_are_kept(
    database: Database, run_import: Import, content: bytes
) -> None:
    job = await run_import(content)
    assert job.state == "succeeded", job.error
    assert await films(database) == {"tmdb-1": "One"}
    assert job.rejected == job.result["rows"] - 1


async def test_formulas_are_texts_and_given_out_harmless(
    database: Database, run_import: Import
) -> None:
    await run_import(b'tmdb_id,title\n1,=SUM(A1)\n2,"\'=SUM(A1)"\n')
    assert set((await films(database)).values()) == {"=SUM(A1)"}


async def test_a_file_of_nothing_but_wrong_rows_ends_early(run_import: Import) -> None:
    content = b"tmdb_id,title\n" + b"x,y\n" * 50_000
    job = await run_import(content)
    assert job.state == "failed"
    assert job.done < 50_000


async def test_a_dry_run_is_not_retried(database: Database, run_import: Any) -> None:
    job = await run_import(b"tmdb_id,title\n1,One\n1,Uno\n", dry_run=True)
    assert job.rejected == 1
    again = await run_import.retry(job)
    assert (again.state, await films(database)) == ("failed", {})


async def test_what_could_not_be_read_is_not_tried_again(
    database: Database, run_import: Any
) -> None:
    job = await run_import(b"tmdb_id,title\n1,Am\xe9lie\n")
    again = await run_import.retry(job)
    assert (again.rejected, again.result["new"]) == (1, 0)
    assert await films(database) == {}


async def test_the_first_row_stays_in_a_retry_as_well(database: Database, run_import: Any) -> None:
    job = await run_import(b"tmdb_id,title\n1,One\n1,Uno\n1,Eins\n")
    for _ in range(2):
        job = await run_import.retry(job)
        assert (job.state, job.rejected) == ("succeeded", 2)
    assert await films(database) == {"tmdb-1": "One"}


async def test_a_row_that_contradicts_one_that_changed_nothing_is_refused_chunks_later(
    database: Database, run_import: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest_service.import_rows.ROWS_A_CHUNK", 2)
    rows = b"".join(b"%d,Film %d\n" % (number, number) for number in range(1, 12))
    await run_import(b"tmdb_id,title\n" + rows)
    job = await run_import(b"tmdb_id,title\n" + rows + b"1,Other\n2,Film 2\n")
    assert counts(job) == {"rows": 13, "unchanged": 11, "repeated": 1, "rejected": 1}
    assert (await films(database))["tmdb-1"] == "Film 1"
    async with database.reading() as connection:
        [left] = await connection.execute(text("SELECT count(*) FROM import_unchanged"))
    assert left.count == 0


async def test_rows_that_are_no_films_do_not_end_an_import(
    database: Database, run_import: Import
) -> None:
    episode = b"tt%07d\ttvEpisode\tE\tE\t0\t1999\t\\N\t5\tDrama\n"
    content = b"tconst\ttitleType\tprimaryTitle\toriginalTitle\tisAdult\tstartYear\tendYear\t"
    content += b"runtimeMinutes\tgenres\n" + b"".join(episode % n for n in range(1, 17_000))
    job = await run_import(content + b"tt0017000\tmovie\tM\tM\t0\t1999\t\\N\t5\tDrama\n")
    assert (job.state, await films(database)) == ("succeeded", {"imdb-tt0017000": "M"})


async def test_json_that_breaks_off_at_once_keeps_what_stands_before(
    database: Database, run_import: Import
) -> None:
    job = await run_import(b'[{"id": 1, "title": "One"}, {"id": 2, "title": "Two"}, {"id": 3')
    assert job.state == "failed"
    assert await films(database) == {"tmdb-1": "One", "tmdb-2": "Two"}


async def test_an_id_without_a_title_adds_to_its_film(
    database: Database, run_import: Import
) -> None:
    await run_import(b"imdb_id,title\ntt0000001,One\n")
    job = await run_import(b"tmdb_id,imdb_id,title,overview\n,tt0000001,,It is one.\n")
    assert counts(job) == {"rows": 1, "changed": 1}
    assert await films(database) == {"imdb-tt0000001": "One"}


async def test_enormous_rows_are_kept_in_part(database: Database, run_import: Import) -> None:
    names = b",".join(b"extra%d" % number for number in range(40))
    row = b"1,One,-5," + b",".join([b"x" * 60_000] * 40)
    job = await run_import(b"tmdb_id,title,budget," + names + b"\n" + row + b"\n")
    assert job.rejected == 1
    async with database.reading() as connection:
        [kept] = await read_rejects(connection, job.job_id, limit=10)
    assert sum(map(len, kept.text)) < 200_000
    assert (kept.whole, "too long" in kept.reason) == (False, True)


async def test_lists_without_end_are_refused(run_import: Import) -> None:
    genres = "|".join(f"g{number}" for number in range(100_000)).encode()
    job = await run_import(b"tmdb_id,title,genres\n1,One," + genres + b"\n2,Two,Drama\n")
    assert counts(job) == {"rows": 2, "new": 1, "rejected": 1}


# What becomes of each file's rows, imported in this order. The data's own description counts the
# rows, and names what is wrong: one credit without an id, two IMDb files cut off in a line, the
# first row of each bulk file that is no film, rows that are there twice. A film that an earlier
# file has named is `changed` by what a later one adds.
REAL: list[tuple[str, dict[str, int]]] = [
    ("tmdb5000/tmdb_5000_movies.csv.gz", {"rows": 4803, "new": 4803}),
    ("tmdb5000/tmdb_5000_credits_first198.csv.gz", {"rows": 198, "changed": 197, "rejected": 1}),
    (
        "the_movies_dataset/movies_metadata_first5000.csv.gz",
        {"rows": 5000, "new": 3568, "changed": 1431, "repeated": 1},
    ),
    (
        "the_movies_dataset/movies_metadata_sample2995.csv.gz",
        {"rows": 2995, "new": 2381, "changed": 17, "unchanged": 597},
    ),
    ("the_movies_dataset/links.csv.gz", {"rows": 45843, "linked": 45843}),
    (
        "tmdb_bulk/csv/final_tmdb_data_2013.csv.gz",
        {"rows": 3455, "new": 3206, "changed": 248, "skipped": 1},
    ),
    (
        "tmdb_bulk/csv/final_tmdb_data_2015.csv.gz",
        {"rows": 3717, "new": 3409, "changed": 307, "skipped": 1},
    ),
    (
        "tmdb_bulk/csv/final_tmdb_data_2016.csv.gz",
        {"rows": 3958, "new": 3456, "changed": 501, "skipped": 1},
    ),
    (
        "tmdb_bulk/csv/final_tmdb_data_2017.csv.gz",
        {"rows": 4325, "new": 4235, "changed": 89, "skipped": 1},
    ),
    (
        "tmdb_bulk/csv/final_tmdb_data_2018.csv.gz",
        {"rows": 4546, "new": 4544, "changed": 1, "skipped": 1},
    ),
    ("tmdb_bulk/csv/final_tmdb_data_2020.csv.gz", {"rows": 3827, "new": 3826, "skipped": 1}),
    ("tmdb_bulk/csv/final_tmdb_data_2021.csv.gz", {"rows": 3707, "new": 3706, "skipped": 1}),
    (
        "tmdb_bulk/json/tmdb_api_results_2000.json.gz",
        {"rows": 1208, "new": 919, "changed": 288, "skipped": 1},
    ),
    (
        "tmdb_bulk/json/tmdb_api_results_2001.json.gz",
        {"rows": 1291, "new": 1039, "changed": 251, "skipped": 1},
    ),
    (
        "tmdb_bulk/json/tmdb_api_results_2002.json.gz",
        {"rows": 1235, "new": 1031, "changed": 203, "skipped": 1},
    ),
    (
        "tmdb_bulk/json/tmdb_api_results_2003.json.gz",
        {"rows": 1281, "new": 1116, "changed": 164, "skipped": 1},
    ),
    (
        "tmdb_bulk/json/tmdb_api_results_2004.json.gz",
        {"rows": 1428, "new": 1224, "changed": 203, "skipped": 1},
    ),
    (
        "tmdb_bulk/json/tmdb_api_results_2005.json.gz",
        {"rows": 1615, "new": 1399, "changed": 215, "skipped": 1},
    ),
    (
        "tmdb_bulk/json/tmdb_api_results_2006.json.gz",
        {"rows": 1812, "new": 1577, "changed": 234, "skipped": 1},
    ),
    (
        "tmdb_bulk/json/tmdb_api_results_2007.json.gz",
        {"rows": 1853, "new": 1653, "changed": 199, "skipped": 1},
    ),
    (
        "tmdb_bulk/json/tmdb_api_results_2008.json.gz",
        {"rows": 2092, "new": 1869, "changed": 222, "skipped": 1},
    ),
    (
        "tmdb_bulk/json/tmdb_api_results_2009.json.gz",
        {"rows": 2380, "new": 2115, "changed": 264, "skipped": 1},
    ),
    (
        "tmdb_bulk/json/tmdb_api_results_2010.json.gz",
        {"rows": 2605, "new": 2370, "changed": 234, "skipped": 1},
    ),
    (
        "tmdb_bulk/json/tmdb_api_results_2011.json.gz",
        {"rows": 2915, "new": 2672, "changed": 242, "skipped": 1},
    ),
    (
        "tmdb_bulk/json/tmdb_api_results_2012.json.gz",
        {"rows": 3214, "new": 2986, "changed": 227, "skipped": 1},
    ),
    ("tmdb_bulk/json/tmdb_api_results_2019.json.gz", {"rows": 2580, "new": 2579, "skipped": 1}),
    (
        "movielens/ml-latest-small/movies.csv",
        {"rows": 9742, "new": 2463, "changed": 12, "unchanged": 7267},
    ),
    ("movielens/ml-latest-small/links.csv", {"rows": 9742, "unchanged": 9585, "linked": 157}),
    ("movielens/ml-1m/movies.dat", {"rows": 3883, "new": 52, "changed": 81, "unchanged": 3750}),
    ("movielens/ml-100k/u.item", {"rows": 1682, "new": 1663, "repeated": 18, "skipped": 1}),
    (
        "imdb/title.basics.head.tsv.gz",
        {"rows": 29886, "new": 29618, "changed": 101, "unchanged": 166, "rejected": 1},
    ),
    (
        "imdb/title.ratings.head.tsv.gz",
        {"rows": 132012, "changed": 16724, "unchanged": 5302, "waiting": 109985, "rejected": 1},
    ),
    (
        "imdb/movies_2000_2022_basics.csv.gz",
        {"rows": 82697, "new": 27323, "changed": 7786, "unchanged": 47588},
    ),
    ("imdb/movies_2000_2022_ratings.csv.gz", {"rows": 67942, "changed": 23507, "unchanged": 44435}),
    ("dailyrounds/movies_sample_10rows.csv", {"rows": 10, "changed": 10}),
    (
        "dailyrounds/movies_data_assignment_shape_first5000.csv.gz",
        {"rows": 5000, "new": 3574, "changed": 1415, "unchanged": 10, "repeated": 1},
    ),
]
# Films of the bulk files, JSON and CSV, as their description counts them.
BULK_FILMS = 55_023


@pytest.mark.thorough
@pytest.mark.timeout(600)
async def test_real_files(database: Database, run_import: Import, shared_data: Path) -> None:
    bulk = 0
    for name, expected in REAL:
        job = await run_import(shared_data / name)
        assert job.state == "succeeded", (name, job.error)
        skipped = sum(job.result["skipped"].values())
        assert counts(job) | ({"skipped": skipped} if skipped else {}) == expected, name
        accounted = sum(value for key, value in expected.items() if key != "rows")
        assert accounted == expected["rows"], name
        assert len(await rejects(database, job)) == expected.get("rejected", 0)
        bulk += expected["rows"] - skipped if name.startswith("tmdb_bulk") else 0
    assert bulk == BULK_FILMS
    async with database.reading() as connection:
        page = await listing.list_page(
            connection, listing.Filters(), sort="popularity", descending=True, limit=1, offset=0
        )
        announced = await announcing.waiting(connection)
        [row] = await connection.execute(text("SELECT count(title) AS named FROM movies"))
    assert page.total == row.named
    assert announced >= row.named
