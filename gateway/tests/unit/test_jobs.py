"""Jobs asked for through the whole application with a recording publisher, and what is refused."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest
from gateway.jobs import job_id_of, kind_of, with_task_fields
from moviemetric_contracts import CancelJob, IngestCatalog, RetryJob
from moviemetric_contracts.messages import ListPages

JOB = "import-0b6b5f0e6a0f5d7e9f396f0f6f1c9f4e"
TOMORROW = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()


@pytest.mark.parametrize("prefix", ["/api/v1", "/api", ""])
@pytest.mark.parametrize("body", [b"", b"{}", b'{"force": false}'])
async def test_ingest_run_without_a_wish_is_all_lists(
    admin_api: httpx.AsyncClient, publisher: Any, prefix: str, body: bytes
) -> None:
    response = await admin_api.post(f"{prefix}/admin/ingest/run", content=body)
    assert response.status_code == 202, response.text
    [event] = publisher.events
    job_id = "ingest-" + event.id.replace("-", "")
    assert response.json() == {
        "event_id": event.id,
        "job_id": job_id,
        "status_url": f"/api/v1/admin/jobs/{job_id}",
    }
    assert event.data == IngestCatalog(
        job_id=job_id,
        lists=ListPages(
            popular=30,
            top_rated=30,
            now_playing=10,
            upcoming=10,
            trending_week=5,
            discover_popularity=10,
            discover_vote_average=10,
        ),
    )


async def test_ingest_run_reads_what_is_named_and_nothing_else(
    admin_api: httpx.AsyncClient, publisher: Any
) -> None:
    wishes: list[dict[str, Any]] = [
        {"lists": {"popular": 3}},
        {"tmdb_ids": [5, 7, 5]},
        {"changed_since": "2025-01-01", "force": True},
        {"lists": {"upcoming": 1}, "tmdb_ids": list(range(1, 10_001))},
    ]
    for wish in wishes:
        response = await admin_api.post("/admin/ingest/run", json=wish)
        assert response.status_code == 202, response.text
    nothing = dict.fromkeys(ListPages.model_fields, 0)
    commands = [event.data for event in publisher.events]
    assert [command.lists for command in commands] == [
        ListPages(**{**nothing, "popular": 3}),
        None,
        None,
        ListPages(**{**nothing, "upcoming": 1}),
    ]
    assert [command.tmdb_ids for command in commands] == [
        (),
        (5, 7),
        (),
        tuple(range(1, 10_001)),
    ]
    assert commands[2].changed_since == date(2025, 1, 1)
    assert [command.force for command in commands] == [False, False, True, False]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "(body)"),
        ({"pages": 3}, "pages"),
        ({"lists": {}}, "(body)"),
        ({"lists": {"popular": 0}}, "(body)"),
        ({"lists": []}, "lists"),
        ({"lists": {"best": 3}}, "lists.best"),
        ({"lists": {"popular": -1}}, "lists.popular"),
        ({"lists": {"popular": 501}}, "lists.popular"),
        ({"lists": {"popular": "3"}}, "lists.popular"),
        ({"lists": {"popular": 3.0}}, "lists.popular"),
        ({"lists": {"popular": True}}, "lists.popular"),
        ({"tmdb_ids": 5}, "tmdb_ids"),
        ({"tmdb_ids": ["5"]}, "tmdb_ids.0"),
        ({"tmdb_ids": [5, 0]}, "tmdb_ids.1"),
        ({"tmdb_ids": list(range(1, 10_002))}, "tmdb_ids"),
        ({"changed_since": 1_700_000_000}, "changed_since"),
        ({"changed_since": "2025-02-30"}, "changed_since"),
        ({"changed_since": "2025-01-01T00:00:00"}, "changed_since"),
        ({"changed_since": "0001-01-01"}, "changed_since"),
        ({"changed_since": TOMORROW}, "changed_since"),
        ({"force": "true"}, "force"),
        ({"force": 1}, "force"),
    ],
)
async def test_a_bad_ingest_run(
    admin_api: httpx.AsyncClient, publisher: Any, body: object, field: str
) -> None:
    response = await admin_api.post("/admin/ingest/run", json=body)
    assert response.status_code == 422, response.text
    assert response.json()["errors"][0]["field"] == field
    assert publisher.events == []


async def test_no_json_is_400(admin_api: httpx.AsyncClient, publisher: Any) -> None:
    assert (await admin_api.post("/admin/ingest/run", content=b"popular")).status_code == 400
    assert publisher.events == []


async def test_commands_about_jobs_are_taken_while_their_service_is_away(
    admin_api: httpx.AsyncClient, publisher: Any
) -> None:
    headers = {"Idempotency-Key": "k"}
    paths = (f"/admin/jobs/{JOB}/cancel", f"/admin/jobs/{JOB}/retry", "/admin/ingest/run")
    answers = [await admin_api.post(path, headers=headers) for path in paths * 2]
    assert {answer.status_code for answer in answers} == {202}
    cancelled, retried, ran = answers[:3]
    first, second = publisher.events[:3], publisher.events[3:]
    assert [event.id for event in first] == [event.id for event in second]
    assert len({event.id for event in first}) == 3
    assert cancelled.json()["job_id"] == JOB
    assert first[0].data == CancelJob(job_id=JOB)
    new = retried.json()["job_id"]
    assert new == job_id_of("import", first[1].id) != JOB
    assert first[1].data == RetryJob(job_id=new, retry_of=JOB)
    assert first[2].data.job_id == ran.json()["job_id"]


@pytest.mark.parametrize("end", ["", "/rejects", "/cancel", "/retry"])
@pytest.mark.parametrize(
    ("job_id", "status"),
    [
        ("1", 422),
        ("import-1", 422),
        ("import-" + "g" * 32, 422),
        ("import-" + "A" * 32, 422),
        ("import-" + "0" * 33, 422),
        ("import%00-" + "0" * 32, 422),
        ("0" * 32, 422),
        ("quality-" + "0" * 32, 404),
    ],
)
async def test_what_is_no_job(
    admin_api: httpx.AsyncClient, publisher: Any, end: str, job_id: str, status: int
) -> None:
    method = "POST" if end in ("/cancel", "/retry") else "GET"
    response = await admin_api.request(method, f"/api/v1/admin/jobs/{job_id}{end}")
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert publisher.events == []


async def test_an_ingest_run_has_no_rejected_rows_to_retry(
    admin_api: httpx.AsyncClient, publisher: Any
) -> None:
    response = await admin_api.post(f"/admin/jobs/ingest-{'0' * 32}/retry")
    assert response.status_code == 409
    assert publisher.events == []


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/admin/jobs?kind=quality", "kind"),
        ("/admin/jobs?limit=100&offset=901", "offset"),
        ("/admin/jobs?state=done", "state"),
        ("/admin/jobs?limit=0", "limit"),
        ("/admin/jobs?page=2&offset=5", "offset"),
        (f"/admin/jobs/{JOB}/rejects?format=xml", "format"),
        (f"/admin/jobs/{JOB}/rejects?limit=101", "limit"),
        ("/stream?events=news", "events"),
        ("/stream?events=", "events"),
        ("/stream?events=trend%00", "events"),
        ("/stream?job_id=5", "job_id"),
        ("/stream?movie_id=heat", "movie_id"),
        ("/stream?" + "&".join(["movie_id=1"] * 101), "movie_id"),
        ("/stream?" + "&".join([f"job_id={JOB}"] * 21), "job_id"),
    ],
)
async def test_bad_parameters(admin_api: httpx.AsyncClient, path: str, field: str) -> None:
    response = await admin_api.get(path)
    assert response.status_code == 422, response.text
    assert response.json()["errors"][0]["field"] == field


async def test_reads_while_the_service_is_away_are_503(admin_api: httpx.AsyncClient) -> None:
    rejects = f"/admin/jobs/{JOB}/rejects"
    for path in ("/admin/jobs", f"/admin/jobs/{JOB}", rejects, f"{rejects}?format=csv"):
        response = await admin_api.get(path)
        assert response.status_code == 503, path
        assert int(response.headers["Retry-After"]) >= 1


def test_the_kind_is_in_the_id() -> None:
    job_id = job_id_of("import", "0b6b5f0e-6a0f-5d7e-9f39-6f0f6f1c9f4e")
    assert job_id == JOB
    assert kind_of(job_id) == "import"
    assert kind_of(job_id + "\n") is None


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("queued", "PENDING"),
        ("running", "STARTED"),
        ("succeeded", "SUCCESS"),
        ("failed", "FAILURE"),
        ("cancelled", "REVOKED"),
    ],
)
def test_a_job_in_the_words_of_older_clients(state: str, status: str) -> None:
    job = {"job_id": JOB, "state": state, "request": {"format": "auto", "uri": "file:///x"}}
    assert with_task_fields(job) == {
        "job_id": JOB,
        "state": state,
        "request": {"format": "auto"},
        "task_id": JOB,
        "status": status,
    }
