import asyncio
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest


async def plan(client: httpx.AsyncClient, **fields: Any) -> None:
    answer = await client.post("/_control/faults", json=fields)
    assert answer.status_code == 200, answer.text


async def statuses(client: httpx.AsyncClient, count: int, path: str = "/3/movie/550") -> list[int]:
    return [(await client.get(path)).status_code for _ in range(count)]


async def test_next_faults_come_in_order_and_end(client: httpx.AsyncClient) -> None:
    await plan(
        client,
        next=[{"outcome": 500, "count": 2}, {"outcome": "429"}, {"outcome": 502}],
        retry_after=7,
    )
    assert await statuses(client, 2) == [500, 500]
    limited = await client.get("/3/movie/550")
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "7")
    assert limited.json()["status_code"] == 25
    assert (await client.get("/_control/faults")).json()["pending"] == 1
    assert await statuses(client, 2) == [502, 200]


async def test_fractions_are_repeatable(client: httpx.AsyncClient) -> None:
    runs: list[list[int]] = []
    for seed in (7, 7, 8):
        await plan(client, seed=seed, fractions={"500": 0.3, "429": 0.2})
        runs.append(await statuses(client, 300))
    assert runs[0] == runs[1] != runs[2]
    assert 60 < runs[0].count(500) < 120
    assert 35 < runs[0].count(429) < 85


async def test_rate_limit(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("tmdb_standin.traffic.time", SimpleNamespace(monotonic=lambda: now))
    await plan(client, requests_per_second=5)
    assert await statuses(client, 5) == [200] * 5
    refused = await client.get("/3/movie/550")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert (
        refused.json()["status_message"] == "Your request count (6) is over the allowed limit of 5."
    )
    now += 1.0
    assert await statuses(client, 1) == [200]
    seen = (await client.get("/_control/requests")).json()
    assert seen["rate_limited"] == 1
    assert seen["peak_per_second"] == 6


async def test_latency(client: httpx.AsyncClient) -> None:
    await plan(client, latency=[0.05, 0.08])
    started = time.monotonic()
    await asyncio.gather(*(client.get("/3/movie/550") for _ in range(10)))
    assert time.monotonic() - started >= 0.05
    assert (await client.get("/_control/requests")).json()["peak_in_flight"] == 10


async def test_timeout_hangs_then_answers_504(client: httpx.AsyncClient) -> None:
    await plan(client, next=[{"outcome": "timeout"}], hang_seconds=0.1)
    started = time.monotonic()
    assert await statuses(client, 1) == [504]
    assert time.monotonic() - started >= 0.1


async def test_failing_ids(client: httpx.AsyncClient) -> None:
    await plan(client, fail_ids={"603": 503})
    assert await statuses(client, 2, "/3/movie/603") == [503, 503]
    assert await statuses(client, 1, "/3/movie/603/credits") == [503]
    assert await statuses(client, 1, "/3/movie/tt0133093") == [503]
    assert await statuses(client, 1, "/3/movie/550") == [200]


async def test_removed_ids_are_nowhere(client: httpx.AsyncClient) -> None:
    await plan(client, removed_ids=[27205])
    assert await statuses(client, 1, "/3/movie/27205") == [404]
    found = (await client.get("/3/search/movie?query=inception")).json()
    assert found["total_results"] == 0
    assert (await client.get("/3/movie/popular")).json()["total_results"] == 2399


async def test_overrides_show_in_detail_lists_and_changes(client: httpx.AsyncClient) -> None:
    await plan(client, overrides={"27205": {"vote_average": 9.9, "imdb_id": "tt0000001"}})
    body = (await client.get("/3/movie/27205?append_to_response=external_ids")).json()
    assert (body["vote_average"], body["title"]) == (9.9, "Inception")
    assert body["external_ids"]["imdb_id"] == "tt0000001"
    first = (await client.get("/3/movie/top_rated")).json()["results"][0]
    assert (first["id"], first["vote_average"]) == (27205, 9.9)
    changes = (await client.get("/3/movie/changes")).json()
    assert changes["results"] == [{"id": 27205, "adult": False, "softcore": False}]
    assert changes["total_results"] == 1


async def test_changes_keep_to_the_range_asked_for(client: httpx.AsyncClient) -> None:
    await plan(client, overrides={"550": {"runtime": 1}})
    today = datetime.now(UTC).date()
    past = {"start_date": str(today - timedelta(20)), "end_date": str(today - timedelta(6))}
    near = {"start_date": str(today - timedelta(13)), "end_date": str(today + timedelta(1))}
    totals = [
        (await client.get("/3/movie/changes", params=params)).json()["total_results"]
        for params in (past, near)
    ]
    assert totals == [0, 1]


@pytest.mark.parametrize(
    ("params", "number"),
    [
        ({"start_date": "2026-01-01", "end_date": "2026-01-16"}, 20),
        ({"start_date": "2026-01-02", "end_date": "2026-01-01"}, 20),
        ({"start_date": "soon"}, 5),
    ],
)
async def test_bad_ranges(client: httpx.AsyncClient, params: dict[str, str], number: int) -> None:
    answer = await client.get("/3/movie/changes", params=params)
    assert (answer.status_code, answer.json()["status_code"]) == (422, number)


async def test_changes_in_pages_of_a_hundred(client: httpx.AsyncClient) -> None:
    popular = [
        item["id"]
        for page in range(1, 7)
        for item in (await client.get(f"/3/movie/popular?page={page}")).json()["results"]
    ]
    await plan(client, overrides={str(film_id): {} for film_id in popular})
    pages = [(await client.get(f"/3/movie/changes?page={page}")).json() for page in (1, 2)]
    assert [len(page["results"]) for page in pages] == [100, 20]
    assert (pages[0]["total_pages"], pages[0]["total_results"]) == (2, 120)
    assert sorted(popular) == [item["id"] for page in pages for item in page["results"]]


async def test_what_a_new_plan_gives_back_counts_as_changed(client: httpx.AsyncClient) -> None:
    await plan(client, overrides={"550": {"runtime": 1}})
    await plan(client, overrides={"603": {"runtime": 1}})
    assert (await client.get("/3/movie/550")).json()["runtime"] == 139
    changes = (await client.get("/3/movie/changes")).json()["results"]
    assert [item["id"] for item in changes] == [550, 603]


async def test_reset(client: httpx.AsyncClient) -> None:
    await plan(
        client,
        overrides={"550": {"title": "x"}},
        removed_ids=[603],
        fractions={"500": 1.0},
        requests_per_second=1,
    )
    assert (await client.delete("/_control/faults")).status_code == 204
    assert await statuses(client, 3, "/3/movie/603") == [200] * 3
    assert (await client.get("/3/movie/550")).json()["title"] == "Fight Club"
    assert (await client.get("/3/movie/changes")).json()["total_results"] == 0


async def test_requests_are_counted(client: httpx.AsyncClient) -> None:
    await plan(client, next=[{"outcome": 500}])
    await statuses(client, 2, "/3/movie/550")
    await statuses(client, 1, "/3/movie/tt1375666")
    await statuses(client, 1, "/3/movie/1")
    await statuses(client, 1, "/3/movie/603/credits")
    await client.get("/3/movie/popular", headers={"Authorization": "Bearer wrong"})
    seen = (await client.get("/_control/requests")).json()
    assert seen["total"] == 6
    assert seen["statuses"] == {"200": 3, "500": 1, "404": 1, "401": 1}
    assert seen["paths"] == {
        "/3/movie/popular": {"401": 1},
        "/3/movie/{id}": {"500": 1, "200": 2, "404": 1},
        "/3/movie/{id}/credits": {"200": 1},
    }
    assert seen["films"] == {
        "1": {"asked": 1, "answered": 0},
        "550": {"asked": 2, "answered": 1},
        "27205": {"asked": 1, "answered": 1},
    }
    assert (seen["in_flight"], seen["peak_in_flight"]) == (0, 1)
    assert (await client.delete("/_control/requests")).status_code == 204
    assert (await client.get("/_control/requests")).json()["total"] == 0


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"latencie": 1}, "latencie"),
        ({"latency": -1}, "latency"),
        ({"latency": [0.2, 0.1]}, "latency"),
        ({"requests_per_second": 0}, "requests_per_second"),
        ({"next": [{"outcome": 418}]}, "outcome"),
        ({"fractions": {"500": 0.6, "429": 0.6}}, "fractions"),
        ({"overrides": {"550": {"id": 1}}}, "overrides"),
        ({"overrides": {"550": {"vote": 1}}}, "vote"),
        ({"overrides": {"1": {"title": "x"}}}, "overrides"),
    ],
)
async def test_plans_that_cannot_be_followed(
    client: httpx.AsyncClient, body: dict[str, Any], named: str
) -> None:
    answer = await client.post("/_control/faults", json=body)
    assert answer.status_code == 422
    assert named in answer.text
    assert await statuses(client, 1) == [200]
