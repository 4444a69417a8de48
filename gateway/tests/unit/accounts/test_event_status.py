"""Which services have processed an event: all are asked, and one that is away is named."""

import time
from typing import Any

import httpx
import pytest

EVENT = "0b6b5f0e-6a0f-5d7e-9f39-6f0f6f1c9f4e"
SERVICES = ["rating-service", "compute-service", "ingest-service", "search-indexer"]


def effect(queue: str, at: str) -> dict[str, str]:
    return {"queue": queue, "processed_at": f"2025-01-31T20:15:0{at}Z"}


@pytest.fixture(autouse=True)
def _inboxes(desks: Any, reply: Any) -> None:
    for desk in desks.all().values():
        desk.replies[f"GET /inbox/{EVENT}"] = reply({"items": [], "as_of": "x"})


@pytest.mark.parametrize("prefix", ["/api/v1", "/api", ""])
async def test_effects_of_all_services_by_their_time(
    client: httpx.AsyncClient, desks: Any, reply: Any, prefix: str
) -> None:
    rated = [effect("rating-service.ratings", "3"), effect("rating-service.x", "1")]
    desks.rating.replies[f"GET /inbox/{EVENT}"] = reply({"items": rated})
    computed = [effect("compute-service.ratings", "2")]
    desks.compute.replies[f"GET /inbox/{EVENT}"] = reply({"items": computed})
    answer = await client.get(f"{prefix}/events/{EVENT}")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    status = answer.json()
    assert status.pop("as_of").endswith("Z")
    assert status == {
        "event_id": EVENT,
        "processed": True,
        "services": [
            {"service": "rating-service", **rated[1]},
            {"service": "compute-service", **computed[0]},
            {"service": "rating-service", **rated[0]},
        ],
        "away": [],
    }


async def test_an_unknown_event_is_not_processed(client: httpx.AsyncClient) -> None:
    status = (await client.get(f"/events/{EVENT}")).json()
    assert (status["processed"], status["services"], status["away"]) == (False, [], [])


async def test_services_that_are_away_are_named(
    client: httpx.AsyncClient, desks: Any, reply: Any
) -> None:
    rated = [effect("rating-service.ratings", "3")]
    desks.rating.replies[f"GET /inbox/{EVENT}"] = reply({"items": rated})
    await desks.compute.stop()
    desks.search.replies[f"GET /inbox/{EVENT}"] = reply({}, 503)
    del desks.ingest.replies[f"GET /inbox/{EVENT}"]
    for query in ("", "?wait=1"):
        status = (await client.get(f"/events/{EVENT}{query}")).json()
        assert [done["service"] for done in status["services"]] == ["rating-service"]
        assert sorted(status["away"]) == ["compute-service", "ingest-service", "search-indexer"]


async def test_waiting_ends_with_the_first_effect_and_asks_all_once_more(
    client: httpx.AsyncClient, desks: Any, reply: Any
) -> None:
    def slow(asked: Any) -> Any:
        waits = "wait=0.0" not in asked.target
        done = [] if waits else [effect("compute-service.ratings", "2")]
        return reply({"items": done}, delay=60 if waits else 0)

    rated = [effect("rating-service.ratings", "3")]
    desks.rating.replies[f"GET /inbox/{EVENT}"] = reply({"items": rated}, delay=0.2)
    for desk in (desks.compute, desks.ingest, desks.search):
        desk.replies[f"GET /inbox/{EVENT}"] = slow
    started = time.perf_counter()
    status = (await client.get(f"/events/{EVENT}?wait=5")).json()
    assert time.perf_counter() - started >= 0.2
    assert status["away"] == []
    assert {done["service"] for done in status["services"]} == set(SERVICES)
    assert [httpx.URL(a.target).params["wait"] for a in desks.search.asked] == ["5.0", "0.0"]


async def test_waiting_ends_when_the_time_is_up(
    client: httpx.AsyncClient, desks: Any, reply: Any
) -> None:
    for desk in desks.all().values():
        desk.replies[f"GET /inbox/{EVENT}"] = reply({"items": []}, delay=0.7)
    started = time.perf_counter()
    status = (await client.get(f"/events/{EVENT}?wait=0.7")).json()
    assert time.perf_counter() - started >= 0.7
    assert (status["processed"], status["away"]) == (False, [])
    assert {len(desk.asked) for desk in desks.all().values()} == {1}


@pytest.mark.parametrize("wait", ["-1", "5.01", "nan", "inf", "x"])
async def test_wait_is_bounded(client: httpx.AsyncClient, desks: Any, wait: str) -> None:
    assert (await client.get(f"/events/{EVENT}?wait={wait}")).status_code == 422
    assert desks.rating.asked == []


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("a%2Fb", "/inbox/a%2Fb"),
        ("player-7/184467", "/inbox/player-7%2F184467"),
        ("%2e%2e", "/inbox/%2E%2E"),
        ("x%2F..%2F..%2Finternal", "/inbox/x%2F..%2F..%2Finternal"),
        ("a%3Fwait=5", "/inbox/a%3Fwait%3D5"),
        ("%252e%252e", "/inbox/%252e%252e"),
    ],
)
async def test_an_events_id_stays_one_part_of_the_path(
    client: httpx.AsyncClient, desks: Any, written: str, asked: str
) -> None:
    url = httpx.URL("http://gateway").copy_with(raw_path=f"/api/v1/events/{written}".encode())
    assert (await client.get(url)).status_code == 200
    assert [request.target for request in desks.rating.asked] == [f"{asked}?wait=0.0"]


@pytest.mark.parametrize("written", ["x" * 201, "a%00b", "a%0Db"])
async def test_what_is_no_events_id_is_refused(
    client: httpx.AsyncClient, desks: Any, written: str
) -> None:
    assert (await client.get(f"/events/{written}")).status_code == 422
    assert desks.rating.asked == []
