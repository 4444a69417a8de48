"""Computing on demand through the whole application, and questions that are refused."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest
from gateway.jobs import job_id_of
from moviemetric_contracts import RunCompute

TOMORROW = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()
ARTIFACTS = ("trending", "genre-stats", "ratings-by-decade", "recommendations", "all")


@pytest.mark.parametrize("artifact", ARTIFACTS)
async def test_an_artifact_is_asked_for_as_a_job(
    admin_api: httpx.AsyncClient, publisher: Any, artifact: str
) -> None:
    today = await admin_api.post(f"/api/v1/admin/compute/{artifact}")
    earlier = await admin_api.post(
        f"/api/v1/admin/compute/{artifact}", json={"as_of": "2025-01-31"}
    )
    assert (today.status_code, earlier.status_code) == (202, 202), earlier.text
    first, second = publisher.events
    job_id = job_id_of("compute", first.id)
    assert today.json() == {
        "event_id": first.id,
        "job_id": job_id,
        "status_url": f"/api/v1/admin/jobs/{job_id}",
    }
    assert first.data == RunCompute(job_id=job_id, artifact=artifact, as_of=None)
    assert second.data.as_of == date(2025, 1, 31)
    assert second.data.job_id != job_id


async def test_the_same_key_asks_for_one_job_of_each_artifact(
    admin_api: httpx.AsyncClient, publisher: Any
) -> None:
    headers = {"Idempotency-Key": "nightly"}
    for path in ("trending", "trending", "all"):
        answer = await admin_api.post(f"/admin/compute/{path}", headers=headers)
        assert answer.status_code == 202, answer.text
    first, again, other = (event.id for event in publisher.events)
    assert first == again != other


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/admin/compute/everything", {}, "artifact"),
        ("/admin/compute/all", [], "(body)"),
        ("/admin/compute/all", {"date": "2025-01-31"}, "date"),
        ("/admin/compute/all", {"as_of": "2025-02-30"}, "as_of"),
        ("/admin/compute/all", {"as_of": "31.1.2025"}, "as_of"),
        ("/admin/compute/all", {"as_of": "2025-01-31T00:00:00Z"}, "as_of"),
        ("/admin/compute/all", {"as_of": 20250131}, "as_of"),
        ("/admin/compute/all", {"as_of": TOMORROW}, "as_of"),
    ],
)
async def test_a_run_that_cannot_be(
    admin_api: httpx.AsyncClient, publisher: Any, path: str, body: object, field: str
) -> None:
    response = await admin_api.post(path, json=body)
    assert response.status_code == 422, response.text
    assert response.json()["errors"][0]["field"] == field
    assert publisher.events == []


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/movies/trending?as_of=yesterday", "as_of"),
        ("/movies/trending?as_of=2025-02-30", "as_of"),
        ("/movies/trending?as_of=1738281600", "as_of"),
        ("/movies/trending?min_votes=-1", "min_votes"),
        ("/movies/rising?limit=0", "limit"),
        ("/movies/603/chart-history?from=2025", "from"),
        ("/movies/603/chart-history?limit=367", "limit"),
        ("/movies/heat/chart-history", "movie_id"),
        ("/analytics/top-genres?date=2025-13-01", "date"),
        ("/analytics/top-genres?date=2025-01-01&target_date=2025-01-02", "target_date"),
        ("/analytics/ratings-by-decade?date=", "date"),
        ("/movies/603/recommendations?diversity=2", "diversity"),
        ("/movies/603/recommendations?diversity=nan", "diversity"),
        ("/movies/603/recommendations?limit=51", "limit"),
        ("/movies/heat/recommendations", "movie_id"),
        ("/recommendations?like=heat", "like"),
        ("/recommendations?like=,", "like"),
        ("/recommendations?like=" + ",".join(map(str, range(1, 52))), "like"),
    ],
)
async def test_bad_parameters(admin_api: httpx.AsyncClient, path: str, field: str) -> None:
    response = await admin_api.get(path)
    assert response.status_code == 422, response.text
    assert response.json()["errors"][0]["field"] == field
