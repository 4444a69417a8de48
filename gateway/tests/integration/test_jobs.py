"""Jobs read from a service on a real socket, with a real Redis that remembers accepted ones."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
from local_stack.servers import RedisServer

Run = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]

AS_OF = "2025-01-31T20:15:00Z"
JOB_ID = "import-0b6b5f0e6a0f5d7e9f396f0f6f1c9f4e"
JOB: dict[str, Any] = {
    "job_id": JOB_ID,
    "kind": "import",
    "state": "succeeded",
    "done": 5000,
    "total": 5000,
    "rejected": 2,
    "error": None,
    "created_at": AS_OF,
    "started_at": AS_OF,
    "finished_at": AS_OF,
    "rate": None,
    "estimated_end": None,
    "request": {"format": "auto", "filename": "films.csv", "uri": "file:///store/upload-1"},
    "result": {"new": 4998},
}
REJECT = {"line": 7, "column": "budget", "reason": "is negative", "text": "Heat,-5"}
PATH = f"/admin/jobs/{JOB_ID}"


@pytest.fixture
def gateway(
    run_gateway: Run, rabbit_vhost: str, redis_database: str, upstreams: Any, signer: Any
) -> Run:
    """For a user with the role admin."""
    page = {"total": 1, "limit": 20, "offset": 0, "as_of": AS_OF}
    upstreams.ingest.answers = {
        "/jobs": {"items": [JOB], **page},
        f"/jobs/{JOB_ID}": JOB,
        f"/jobs/{JOB_ID}/rejects": {"items": [REJECT], **page},
    }

    def run(**settings: Any) -> Any:
        return run_gateway(
            ready=True,
            headers=signer.bearer("user-admin", "admin"),
            amqp_url=rabbit_vhost,
            redis_url=redis_database,
            **settings,
        )

    return run


async def test_jobs_are_read_live_and_speak_both_languages(gateway: Run, upstreams: Any) -> None:
    async with gateway() as client:
        listed = await client.get("/api/v1/admin/jobs?kind=import&state=failed&page=3&page_size=5")
        first = (await client.get(PATH)).json()
        upstreams.ingest.answers[f"/jobs/{JOB_ID}"] = {**JOB, "state": "running", "done": 17}
        second = (await client.get(PATH)).json()
    asked = httpx.URL(upstreams.ingest.requests[0])
    assert asked.path == "/jobs"
    assert dict(asked.params) == {
        "kind": "import",
        "state": "failed",
        "limit": "5",
        "offset": "10",
    }
    shown = {
        **JOB,
        "request": {"format": "auto", "filename": "films.csv"},
        "task_id": JOB_ID,
        "status": "SUCCESS",
    }
    assert listed.json()["items"] == [shown]
    assert first == shown
    assert (second["done"], second["status"]) == (17, "STARTED")


async def test_jobs_of_all_services_are_one_list_newest_first(gateway: Run, upstreams: Any) -> None:
    def jobs(kind: str, *minutes: int) -> dict[str, Any]:
        items = [
            {
                **JOB,
                "job_id": f"{kind}-{minute:032x}",
                "kind": kind,
                "created_at": f"2025-01-31T20:{minute:02}:00Z",
            }
            for minute in minutes
        ]
        return {"items": items, "total": 40, "limit": 6, "offset": 0, "as_of": AS_OF}

    upstreams.ingest.answers["/jobs"] = jobs("import", 50, 20, 10)
    upstreams.compute.answers["/jobs"] = jobs("compute", 40, 30)
    upstreams.search.answers["/jobs"] = jobs("search", 45)
    async with gateway() as client:
        part = (await client.get("/admin/jobs?state=succeeded&limit=4&offset=2")).json()
        upstreams.compute.status = 500
        without = (await client.get("/admin/jobs?limit=4")).json()
        of_one = await client.get("/admin/jobs?kind=compute")
    asked = httpx.URL(upstreams.search.requests[0])
    assert dict(asked.params) == {"state": "succeeded", "limit": "6", "offset": "0"}
    shown = [(job["kind"], job["created_at"][14:16]) for job in part["items"]]
    assert shown == [("compute", "40"), ("compute", "30"), ("import", "20"), ("import", "10")]
    assert (part["total"], part["limit"], part["offset"]) == (120, 4, 2)
    assert "note" not in part
    assert [job["kind"] for job in without["items"]] == ["import", "search", "import", "import"]
    assert without["note"] == "without the jobs of compute-service"
    assert of_one.status_code == 503


async def test_a_job_that_nobody_has_taken_is_queued(
    gateway: Run, redis_server: RedisServer
) -> None:
    async with gateway() as client:
        accepted = (await client.post("/admin/ingest/run")).json()
        job = (await client.get(accepted["status_url"])).json()
        rejects = (await client.get(accepted["status_url"] + "/rejects")).json()
        as_csv = await client.get(accepted["status_url"] + "/rejects?format=csv")
        unknown = await client.get("/admin/jobs/ingest-" + "0" * 32)
        cancelled = await client.post(accepted["status_url"] + "/cancel")
        await asyncio.to_thread(redis_server.freeze)
        forgotten = await client.get(accepted["status_url"])
        await asyncio.to_thread(redis_server.resume)
    assert {name: job[name] for name in JOB if name != "created_at"} == {
        "job_id": accepted["job_id"],
        "kind": "ingest",
        "state": "queued",
        "done": 0,
        "total": None,
        "rejected": 0,
        "error": None,
        "started_at": None,
        "finished_at": None,
        "rate": None,
        "estimated_end": None,
        "request": {},
        "result": {},
    }
    assert job["status"] == "PENDING"
    assert job["created_at"].endswith("Z")
    assert (rejects["items"], rejects["total"]) == ([], 0)
    assert as_csv.status_code == 404
    assert unknown.status_code == forgotten.status_code == 404
    assert cancelled.status_code == 202


async def test_rejected_rows_as_json(gateway: Run, upstreams: Any) -> None:
    async with gateway() as client:
        answer = await client.get(f"{PATH}/rejects?limit=5&offset=10")
    assert answer.json()["items"] == [REJECT]
    assert dict(httpx.URL(upstreams.ingest.requests[-1]).params) == {"limit": "5", "offset": "10"}


@pytest.mark.parametrize(("query", "accept"), [("?format=csv", "*/*"), ("", "text/csv")])
async def test_rejected_rows_as_csv_come_as_they_are_written(
    gateway: Run, upstreams: Any, query: str, accept: str
) -> None:
    seen = asyncio.Event()

    async def rows() -> AsyncGenerator[bytes]:
        yield b"title,budget\r\n"
        # Not written before the client has the first: nothing keeps it back.
        async with asyncio.timeout(30):
            await seen.wait()
        yield b"Heat,-5\r\n"

    upstreams.ingest.answers[f"/jobs/{JOB_ID}/rejects.csv"] = rows
    async with (
        gateway() as client,
        client.stream("GET", f"{PATH}/rejects{query}", headers={"accept": accept}) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert answer.headers["content-disposition"] == (
            f'attachment; filename="{JOB_ID}-rejects.csv"'
        )
        pieces = answer.aiter_bytes()
        assert await anext(pieces) == b"title,budget\r\n"
        seen.set()
        assert await anext(pieces) == b"Heat,-5\r\n"
        assert [piece async for piece in pieces] == []


async def test_a_csv_that_breaks_off_is_no_whole_answer(gateway: Run, upstreams: Any) -> None:
    async def rows() -> AsyncGenerator[bytes]:
        yield b"title,budget\r\n"
        raise ConnectionResetError

    upstreams.ingest.answers[f"/jobs/{JOB_ID}/rejects.csv"] = rows
    async with gateway() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"{PATH}/rejects?format=csv")
        assert (await client.get(PATH)).status_code == 200


async def test_a_reader_of_a_csv_who_leaves_stops_it(gateway: Run, upstreams: Any) -> None:
    closed = asyncio.Event()

    async def rows() -> AsyncGenerator[bytes]:
        try:
            while True:
                yield b"Heat,-5\r\n" * 1000
                await asyncio.sleep(0)
        finally:
            closed.set()

    upstreams.ingest.answers[f"/jobs/{JOB_ID}/rejects.csv"] = rows
    async with gateway() as client:
        async with client.stream("GET", f"{PATH}/rejects?format=csv") as answer:
            await anext(answer.aiter_bytes())
        async with asyncio.timeout(30):
            await closed.wait()


@pytest.mark.parametrize(
    ("job", "end", "words"),
    [
        ({"state": "succeeded"}, "cancel", "succeeded"),
        ({"state": "cancelled"}, "cancel", "was cancelled"),
        ({"state": "running"}, "retry", "is running"),
        ({"state": "queued"}, "retry", "is queued"),
        ({"state": "succeeded", "rejected": 0}, "retry", "no rejected rows"),
    ],
)
async def test_what_is_too_late_or_too_early_is_409(
    gateway: Run, upstreams: Any, job: dict[str, Any], end: str, words: str
) -> None:
    upstreams.ingest.answers[f"/jobs/{JOB_ID}"] = {**JOB, **job}
    async with gateway() as client:
        answer = await client.post(f"{PATH}/{end}")
    assert answer.status_code == 409
    assert words in answer.json()["detail"]


async def test_a_retry_is_a_job_of_its_own(gateway: Run) -> None:
    async with gateway() as client:
        answer = await client.post(f"{PATH}/retry")
        job = await client.get(answer.json()["status_url"])
    assert answer.status_code == 202
    assert answer.json()["job_id"] != JOB_ID
    assert job.json()["state"] == "queued"


async def test_an_unknown_job_is_not_commanded(gateway: Run) -> None:
    async with gateway() as client:
        for end in ("cancel", "retry"):
            answer = await client.post(f"/admin/jobs/import-{'0' * 32}/{end}")
            assert answer.status_code == 404
