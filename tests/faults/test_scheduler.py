"""Two schedulers beside three compute-services: whatever happens to the leader, every command goes
out once, and another one leads soon."""

import socket
from collections import Counter
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import httpx
import pytest
from harness import LiveStack, MakeStack, eventually
from harness.tap import Published, Tap
from local_stack.services import ServiceProcess

COMMANDS = ("catalog.ingest.*", "compute.run.*", "search.rebuild.*")
TAKEOVER_SECONDS = 15.0  # as promised; usually two or three
# Often enough that a test can wait for it. All others are as they are by default.
EVERY_TWO_SECONDS = {"SCHEDULE_RATINGS_BY_DECADE": "*/2 * * * * *"}
STEP = timedelta(seconds=2)


@dataclass
class Cluster:
    """The schedulers by name, and every command that was published."""

    stack: LiveStack
    tap: Tap
    schedulers: dict[str, ServiceProcess]
    published: list[Published] = field(default_factory=list[Published])

    def watch(self) -> list[Published]:
        """All commands so far."""
        self.published += self.tap.taken()
        return self.published

    def page(self, url: str | None = None) -> dict[str, Any]:
        """What a process says about the schedules, by default a compute-service."""
        base = url or self.stack.urls["compute-service"]
        return httpx.get(f"{base}/schedules", timeout=20, trust_env=False).json()

    def leader(self) -> str | None:
        """The name of the process that leads."""
        process = self.page()["leader"]["process"]
        for name, scheduler in self.schedulers.items():
            running = scheduler.managed.process
            if running is not None and process == f"{socket.gethostname()}:{running.pid}":
                return name
        return None

    def ticks(self) -> list[datetime]:
        """The due times of the schedule that runs all the time, in the order of publication."""
        return [
            datetime.fromisoformat(found.body["time"])
            for found in self.watch()
            if found.body["data"].get("artifact") == "ratings-by-decade"
        ]


@pytest.fixture(scope="module")
def cluster(make_stack: MakeStack) -> Generator[Cluster]:
    """Two schedulers and three compute-services."""
    stack = make_stack(env=EVERY_TWO_SECONDS, only=("compute-service", "scheduler"))
    with ExitStack() as parts:
        tap = parts.enter_context(stack.tap(*COMMANDS))
        for number in (2, 3):
            parts.enter_context(stack.another("compute-service", f"compute-service-{number}"))
        second = parts.enter_context(stack.another("scheduler", "scheduler-2"))
        schedulers = {"scheduler": stack.processes["scheduler"], "scheduler-2": second}
        yield Cluster(stack, tap, schedulers)
        for scheduler in schedulers.values():
            scheduler.stop()


def newest(now: datetime, hour: int, minute: int = 0, weekday: int | None = None) -> datetime:
    """The last time at which a clock in UTC showed it, on that day of the week."""
    moment = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    while moment > now or (weekday is not None and moment.weekday() != weekday):
        moment -= timedelta(days=1)
    return moment


def test_what_was_missed_goes_out_once_for_each_schedule(cluster: Cluster) -> None:
    eventually("somebody to lead", cluster.leader)
    rows = "SELECT name, last_due, job_id FROM compute.schedules WHERE name <> 'ratings-by-decade'"
    eventually("the schedules to be known", lambda: len(cluster.stack.rows(rows)) == 5)
    # As if nobody had run for sixteen days.
    missed = """
        UPDATE compute.schedules SET done_until = done_until - interval '16 days'
        WHERE name <> 'ratings-by-decade' RETURNING clock_timestamp() AS now
    """
    now: datetime = cluster.stack.rows(missed)[0]["now"].astimezone(UTC)
    eventually("all to be made up", lambda: all(r["last_due"] for r in cluster.stack.rows(rows)))

    trending, genres = newest(now, 3), newest(now, 3, 15)
    expected: dict[str, tuple[str, datetime, dict[str, str]]] = {
        "ingest": ("catalog.ingest.v1", newest(now, 2), {"source": "tmdb"}),
        "trending": ("compute.run.v1", trending, {"as_of": f"{trending - timedelta(days=1):%F}"}),
        "genre-stats": ("compute.run.v1", genres, {"as_of": f"{genres - timedelta(days=1):%F}"}),
        "index-rebuild": ("search.rebuild.v1", newest(now, 4, weekday=0), {}),
        "recommendations": ("compute.run.v1", newest(now, 5, weekday=0), {}),
    }
    stored = {row["name"]: row for row in cluster.stack.rows(rows)}
    assert {name: row["last_due"] for name, row in stored.items()} == {
        name: due for name, (_, due, _) in expected.items()
    }

    def commands() -> list[Published] | None:
        found = [
            message
            for message in cluster.watch()
            if message.body["data"].get("artifact") != "ratings-by-decade"
        ]
        return found if len(found) >= len(expected) else None

    found = eventually("the commands", commands)
    jobs = {message.body["data"]["job_id"]: message for message in found}
    assert len(found) == len(jobs) == len(expected)
    for name, (key, due, data) in expected.items():
        message = jobs[stored[name]["job_id"]]
        assert message.routing_key == key
        assert datetime.fromisoformat(message.body["time"]) == due
        assert message.body["data"].items() >= data.items()


def follow(cluster: Cluster, times: int = 3) -> None:
    """Wait for a few more runs of the schedule that runs all the time."""
    before = len(cluster.ticks())
    eventually("more runs", lambda: len(cluster.ticks()) >= before + times, every=0.2)


def takes_over(cluster: Cluster, former: str) -> None:
    """Waits until the other one has published."""
    known = len(cluster.ticks())
    eventually(
        "another one to publish",
        lambda: len(cluster.ticks()) > known and cluster.leader() not in {None, former},
        seconds=TAKEOVER_SECONDS,
        every=0.1,
    )


def test_a_killed_leader_is_followed(cluster: Cluster) -> None:
    follow(cluster)
    former = eventually("somebody to lead", cluster.leader)
    cluster.schedulers[former].kill()
    takes_over(cluster, former)
    follow(cluster)
    cluster.schedulers[former].start()
    follow(cluster)
    assert cluster.leader() != former


def test_a_frozen_leader_is_followed_and_does_no_harm_when_it_goes_on(cluster: Cluster) -> None:
    former = eventually("somebody to lead", cluster.leader)
    cluster.schedulers[former].freeze()
    try:
        takes_over(cluster, former)
    finally:
        cluster.schedulers[former].resume()
    follow(cluster)
    assert cluster.leader() != former
    assert cluster.schedulers[former].ready()


def test_nothing_went_out_twice_or_late_for_long(cluster: Cluster) -> None:
    follow(cluster, 1)
    published = cluster.watch()
    for attribute in ("id", "job_id"):
        values = Counter(
            message.body["data"]["job_id"] if attribute == "job_id" else message.body["id"]
            for message in published
        )
        assert [value for value, count in values.items() if count > 1] == []
    ticks = cluster.ticks()
    assert len(set(ticks)) == len(ticks)
    assert {tick.second % 2 for tick in ticks} == {0}
    # What was missed while nobody led is made up by its newest run.
    gaps = [later - earlier for earlier, later in pairwise(sorted(ticks))]
    assert min(gaps) == STEP
    assert max(gaps) < timedelta(seconds=TAKEOVER_SECONDS) + STEP


def test_each_command_was_done_once_by_one_of_three_services(cluster: Cluster) -> None:
    follow(cluster, 1)
    asked = {
        message.body["data"]["job_id"]
        for message in cluster.watch()
        if message.body["type"] == "compute.run.v1"
    }
    jobs = "SELECT job_id, state, attempt FROM compute.jobs WHERE job_id = ANY(%(ids)s)"

    def done() -> dict[str, tuple[str, int]] | None:
        rows = cluster.stack.rows(jobs, ids=list(asked))
        found = {row["job_id"]: (row["state"], row["attempt"]) for row in rows}
        ended = {"succeeded", "failed", "cancelled"}
        return (
            found if len(found) == len(asked) and {s for s, _ in found.values()} <= ended else None
        )

    found = eventually("the jobs", done, seconds=60)
    assert set(found.values()) == {("succeeded", 1)}


def test_every_process_answers_for_the_schedules(cluster: Cluster) -> None:
    urls = [
        f"http://127.0.0.1:{scheduler.service.port}" for scheduler in cluster.schedulers.values()
    ]
    pages = [cluster.page(url) for url in (*urls, None)]
    assert {page["leader"]["process"] for page in pages} == {pages[0]["leader"]["process"]}
    names = [[item["name"] for item in page["items"]] for page in pages]
    assert names == [names[0]] * 3
    assert len(names[0]) == 6
    for page in pages:
        as_of = datetime.fromisoformat(page["as_of"])
        for item in page["items"]:
            assert datetime.fromisoformat(item["last_due"]) <= as_of
            assert datetime.fromisoformat(item["next_due"]) > as_of - 2 * STEP
