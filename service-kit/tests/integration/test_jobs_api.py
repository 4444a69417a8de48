"""The read API of jobs."""

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

import httpx
import pytest
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from fastapi import FastAPI
from service_kit import Database, install_problem_handlers, jobs_router
from service_kit.migrations import create_job_table
from sqlalchemy import Connection, text

_JOBS = text("""
    INSERT INTO jobs (job_id, kind, request, result, state, done, total, rejected, error, attempt,
                      attempt_started_at, created_at, started_at, finished_at, updated_at)
    VALUES
    ('import-1', 'import', '{"uri": "file:///a"}', '{"new": 5}', 'succeeded', 5, 5, 1, NULL, 1,
     '2026-03-01 10:00Z', '2026-03-01 09:59Z', '2026-03-01 10:00Z', '2026-03-01 10:01Z',
     '2026-03-01 10:01Z'),
    ('import-2', 'import', '{}', '{}', 'failed', 0, NULL, 0, 'no header', 1,
     '2026-03-02 10:00Z', '2026-03-02 09:59Z', '2026-03-02 10:00Z', '2026-03-02 10:01Z',
     '2026-03-02 10:01Z'),
    ('ingest-1', 'ingest', '{}', '{}', 'running', 100, 400, 0, NULL, 2,
     '2026-03-03 10:00Z', '2026-03-03 09:59Z', '2026-03-03 09:59Z', NULL, '2026-03-03 10:00:30Z'),
    ('import-3', 'import', '{}', '{}', 'queued', 0, NULL, 0, NULL, 0,
     NULL, '2026-03-04 10:00Z', NULL, NULL, '2026-03-04 10:00Z')
""")


def make_table(connection: Connection) -> None:
    create_job_table(Operations(MigrationContext.configure(connection)))


@pytest.fixture
async def client(postgres_database: str) -> AsyncGenerator[httpx.AsyncClient]:
    database = Database(postgres_database, schema="test")
    async with database.transaction() as connection:
        await connection.execute(text("CREATE SCHEMA test"))
        await connection.run_sync(make_table)
        await connection.execute(_JOBS)
    app = FastAPI()
    install_problem_handlers(app)
    app.include_router(jobs_router(database, kinds=("import", "ingest")))
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client
    await database.dispose()


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["job_id"] for item in answer.json()["items"]]


async def test_jobs_are_listed_newest_first(client: httpx.AsyncClient) -> None:
    answer = await client.get("/jobs")
    assert ids(answer) == ["import-3", "ingest-1", "import-2", "import-1"]
    body = answer.json()
    assert (body["total"], body["limit"], body["offset"]) == (4, 20, 0)
    assert datetime.fromisoformat(body["as_of"]).utcoffset() is not None


@pytest.mark.parametrize(
    ("query", "expected", "total"),
    [
        ("kind=import", ["import-3", "import-2", "import-1"], 3),
        ("state=failed", ["import-2"], 1),
        ("kind=ingest&state=failed", [], 0),
        ("limit=1&offset=1", ["ingest-1"], 4),
        ("offset=100000", [], 4),
        ("unknown=1&limit=1", ["import-3"], 4),
    ],
)
async def test_lists_are_filtered_and_paged(
    client: httpx.AsyncClient, query: str, expected: list[str], total: int
) -> None:
    answer = await client.get(f"/jobs?{query}")
    assert ids(answer) == expected
    assert answer.json()["total"] == total


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("kind=compute", "kind"),
        ("state=done", "state"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("offset=-1", "offset"),
        ("offset=100001", "offset"),
        ("limit=many", "limit"),
    ],
)
async def test_what_is_out_of_range_is_refused(
    client: httpx.AsyncClient, query: str, field: str
) -> None:
    answer = await client.get(f"/jobs?{query}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_a_finished_job(client: httpx.AsyncClient) -> None:
    answer = await client.get("/jobs/import-1")
    assert answer.json() == {
        "job_id": "import-1",
        "kind": "import",
        "state": "succeeded",
        "done": 5,
        "total": 5,
        "rejected": 1,
        "error": None,
        "created_at": "2026-03-01T09:59:00Z",
        "started_at": "2026-03-01T10:00:00Z",
        "finished_at": "2026-03-01T10:01:00Z",
        "rate": None,
        "estimated_end": None,
        "request": {"uri": "file:///a"},
        "result": {"new": 5},
    }


async def test_a_running_job_has_a_rate_and_an_end(client: httpx.AsyncClient) -> None:
    job: dict[str, Any] = (await client.get("/jobs/ingest-1")).json()
    assert job["rate"] == 3.33
    # 300 are left, at 100 in 30 seconds, seen from the moment of reading.
    left = datetime.fromisoformat(job["estimated_end"]) - datetime.now().astimezone()
    assert 80 < left.total_seconds() <= 90


@pytest.mark.parametrize("job_id", ["import-9", "x%00y", "a" * 500, "%F0%9F%8E%AC", "..%2fjobs"])
async def test_an_unknown_job_is_a_404(client: httpx.AsyncClient, job_id: str) -> None:
    answer = await client.get(f"/jobs/{job_id}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
