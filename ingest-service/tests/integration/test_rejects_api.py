"""What was wrong with an import, as JSON and as a file to mend."""

import csv
import io
import json
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from ingest_service.formats.cells import plain
from ingest_service.handlers import take_job_commands
from ingest_service.housekeeping import Housekeeping
from ingest_service.jobs_api import router
from ingest_service.reading import Row, open_table
from ingest_service.records import Rejection
from ingest_service.rejects import add_rejects, keep_rejects, reject_page
from moviemetric_contracts import Event, ImportCatalog
from service_kit import Database, install_problem_handlers, unit_of_work
from sqlalchemy import text

JOB = f"import-{'0' * 31}1"
OTHER = f"import-{'0' * 31}2"
HEADER = ["id", "title", "=note"]
REJECTED = [
    Rejection(2, "id", "expected a number, got 'x'", ("x", "Heat, the film", "")),
    Rejection(3, None, "expected 3 columns, got 5", ("1", 'say "no"', "x", "\u00c9", "")),
    Rejection(5, "id", "expected a number, got 'y'", ("y", 'two\nlines, "x"', "a\rb\r\nc")),
    Rejection(9, "title", "is empty", ("7", "", "=HYPERLINK(0)")),
    Rejection(10, "title", "is empty", ("-1", "+1", "@SUM(A1)")),
    Rejection(11, None, "has control characters", ("\t=1", "\r=1", "'=1")),
]


@pytest.fixture
async def api(database: Database) -> AsyncGenerator[httpx.AsyncClient]:
    async with unit_of_work(database, source="test") as work:
        for job_id in (JOB, OTHER):
            command = ImportCatalog(job_id=job_id, uri="file:///x")
            await take_job_commands([Event.of(command, source="/test", time=work.now)], work)
        await work.connection.execute(
            text("UPDATE jobs SET checkpoint = CAST(:checkpoint AS jsonb) WHERE job_id = :job_id"),
            {"job_id": JOB, "checkpoint": json.dumps({"header": HEADER, "delimited": True})},
        )
        # Not in their order.
        await keep_rejects(work.connection, JOB, REJECTED[2:])
        await keep_rejects(work.connection, JOB, REJECTED[:2])
    app = FastAPI()
    install_problem_handlers(app)
    app.include_router(router(database))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://ingest") as client:
        yield client


async def table_of(api: httpx.AsyncClient, job_id: str = JOB) -> list[list[str]]:
    answer = await api.get(f"/jobs/{job_id}/rejects.csv")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    return list(csv.reader(io.StringIO(answer.content.decode(), newline=""), strict=True))


async def test_rejected_rows_as_json(api: httpx.AsyncClient) -> None:
    answer = (await api.get(f"/jobs/{JOB}/rejects")).json()
    as_of = datetime.fromisoformat(answer.pop("as_of"))
    assert abs(datetime.now(UTC) - as_of) < timedelta(minutes=1)
    assert answer == {
        "items": [
            {"line": r.line, "column": r.column, "reason": r.reason, "text": list(r.text)}
            for r in REJECTED
        ],
        "total": 6,
        "limit": 20,
        "offset": 0,
    }


async def test_pages_of_rejected_rows(api: httpx.AsyncClient) -> None:
    params = {"limit": 2, "offset": 4}
    page = (await api.get(f"/jobs/{JOB}/rejects", params=params)).json()
    assert [item["line"] for item in page["items"]] == [10, 11]
    assert (page["total"], page["limit"], page["offset"]) == (6, 2, 4)
    beyond = (await api.get(f"/jobs/{JOB}/rejects", params={"offset": 100_000})).json()
    assert (beyond["items"], beyond["total"]) == ([], 6)


@pytest.mark.parametrize(
    ("params", "field"),
    [({"limit": 0}, "limit"), ({"limit": 101}, "limit"), ({"offset": -1}, "offset")],
)
async def test_bad_parameters(api: httpx.AsyncClient, params: dict[str, Any], field: str) -> None:
    answer = await api.get(f"/jobs/{JOB}/rejects", params=params)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.parametrize("form", ["rejects", "rejects.csv"])
@pytest.mark.parametrize(
    ("job_id", "status"), [("import-unknown", 404), ("import%20-", 422), ("x" * 65, 422)]
)
async def test_no_such_job(api: httpx.AsyncClient, form: str, job_id: str, status: int) -> None:
    answer = await api.get(f"/jobs/{job_id}/{form}")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    if status == 404:
        assert answer.json()["detail"] == "there is no job 'import-unknown' here"


async def test_a_file_that_no_spreadsheet_takes_for_formulas(api: httpx.AsyncClient) -> None:
    table = await table_of(api)
    assert table == [
        ["id", "title", "'=note"],
        ["x", "Heat, the film", ""],
        ["1", 'say "no"', "x", "\u00c9", ""],
        ["y", 'two\nlines, "x"', "a\rb\r\nc"],
        ["7", "", "'=HYPERLINK(0)"],
        ["'-1", "'+1", "'@SUM(A1)"],
        ["'\t=1", "'\r=1", "'=1"],
    ]
    dangerous = ("=", "+", "-", "@", "\t", "\r")
    assert not [cell for row in table for cell in row if cell.startswith(dangerous)]


async def test_the_file_is_read_as_what_was_rejected(api: httpx.AsyncClient) -> None:
    """Its rows come in as they were, so that it is enough to mend what was wrong."""
    body = (await api.get(f"/jobs/{JOB}/rejects.csv")).content
    table = open_table(io.BytesIO(body))
    assert [plain(name) for name in table.header] == HEADER
    rows = [[plain(cell) for cell in row.cells] for row in table if isinstance(row, Row)]
    # The one with five cells is wrong as a row still.
    assert rows == [
        ["x", "Heat, the film", ""],
        ["y", 'two\nlines, "x"', "a\rb\r\nc"],
        ["7", "", "=HYPERLINK(0)"],
        ["-1", "+1", "@SUM(A1)"],
        ["=1", "=1", "=1"],
    ]


async def test_nothing_was_rejected(api: httpx.AsyncClient) -> None:
    page = (await api.get(f"/jobs/{OTHER}/rejects")).json()
    assert (page["items"], page["total"]) == ([], 0)
    answer = await api.get(f"/jobs/{OTHER}/rejects.csv")
    assert (answer.status_code, answer.content) == (200, b"")


async def test_a_long_file_comes_whole_and_in_order(
    api: httpx.AsyncClient, database: Database
) -> None:
    lines = range(100, 3101)
    async with database.transaction() as connection:
        await keep_rejects(
            connection, OTHER, [Rejection(n, None, "wrong", (str(n), "x")) for n in lines]
        )
    assert await table_of(api, OTHER) == [[str(n), "x"] for n in lines]
    # The rows of the other job are not among them.
    assert len(await table_of(api)) == 1 + len(REJECTED)


async def _page(database: Database, job_id: str) -> Sequence[Rejection]:
    async with database.reading() as connection:
        return (await reject_page(connection, job_id, limit=100, offset=0)).items


async def test_what_postgresql_cannot_hold_is_replaced(
    api: httpx.AsyncClient, database: Database
) -> None:
    async with database.transaction() as connection:
        row = Rejection(1, "a\x00b", "bad \ud800 text", ("\x00", "\udfff=", '{a,"b"}\\', "NULL"))
        await keep_rejects(connection, OTHER, [row])
    assert await _page(database, OTHER) == [
        Rejection(1, "a\ufffdb", "bad ? text", ("\ufffd", "?=", '{a,"b"}\\', "NULL"))
    ]
    assert (await api.get(f"/jobs/{OTHER}/rejects")).status_code == 200


async def test_a_line_that_is_rejected_again_stays_as_it_was(
    api: httpx.AsyncClient, database: Database
) -> None:
    """A step that is repeated after a conflict or a crash writes its rejections once more."""
    del api
    async with database.transaction() as connection:
        await keep_rejects(connection, JOB, [Rejection(2, None, "other", ("y",)), *REJECTED])
    assert await _page(database, JOB) == REJECTED


async def test_what_has_no_lines_is_numbered(api: httpx.AsyncClient, database: Database) -> None:
    del api
    for failures in (["27205", "155"], ["550"], []):
        async with database.transaction() as connection:
            await add_rejects(
                connection, OTHER, [Rejection(0, None, "status 500", (item,)) for item in failures]
            )
    assert [(row.line, row.text) for row in await _page(database, OTHER)] == [
        (1, ("27205",)),
        (2, ("155",)),
        (3, ("550",)),
    ]


async def test_rejected_rows_are_forgotten_after_their_time(
    api: httpx.AsyncClient, database: Database
) -> None:
    del api
    async with database.transaction() as connection:
        await keep_rejects(connection, OTHER, REJECTED)
        for job_id, days in ((JOB, 31), (OTHER, 29)):
            await connection.execute(
                text("""
                    UPDATE jobs SET state = 'succeeded',
                        finished_at = now() - make_interval(days => :days)
                    WHERE job_id = :job_id
                """),
                {"job_id": job_id, "days": days},
            )
    kept = timedelta(days=30)
    await Housekeeping(database, None, rejects_kept=kept, uploads_kept=kept).tidy()
    assert await _page(database, JOB) == []
    assert await _page(database, OTHER) == REJECTED
