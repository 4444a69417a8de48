"""Whatever breaks in mid-flow, every event that got a 202 has its effect exactly once.

Each test sends views and registrations without pause while something is killed, restarted or
frozen, sends again what was not accepted (the same event with the same id), and then compares what
the services hold with what was sent.
"""

import json
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from harness import LiveStack
from harness.clients import cloud_event
from harness.live_stack import ROOT
from local_stack.servers import PostgresServer, RabbitServer, RedisServer

FILMS = 40
RUN_SECONDS = 4.0


def sample_films() -> list[int]:
    lines = (ROOT / "deploy/sample-catalogue/movies.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["tmdb_id"] for line in lines]


class Traffic:
    """Sends batches from a thread of its own until it is told to stop."""

    def __init__(self, stack: LiveStack, seed: int) -> None:
        self._stack = stack
        self._draw = random.Random(seed)
        # What others did with a film would be counted, too.
        rows = stack.rows("SELECT DISTINCT movie_id FROM compute.activity")
        touched = {row["movie_id"] for row in rows}
        films = [number for number in sample_films() if f"tmdb-{number}" not in touched]
        self.films = films[600 : 600 + FILMS]
        self.accepted: Counter[str] = Counter()
        self.registered: set[int] = set()
        self.refusals = 0
        self._left: list[dict[str, Any]] = []
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _next(self) -> list[dict[str, Any]]:
        events = [
            cloud_event(
                "movie.viewed.v1",
                str(uuid.uuid4()),
                {
                    "movie_id": f"tmdb-{self._draw.choice(self.films)}",
                    "viewed_at": datetime.now(UTC).isoformat(),
                },
            )
            for _ in range(60)
        ]
        number = self._draw.choice(self.films)
        events.append(cloud_event("movie.register.v1", str(uuid.uuid4()), {"tmdb_id": number}))
        return events

    def _count(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            if event["type"] == "movie.viewed.v1":
                self.accepted[event["data"]["movie_id"]] += 1
            else:
                self.registered.add(event["data"]["tmdb_id"])

    def _send(self, events: list[dict[str, Any]]) -> None:
        refused = self._stack.api.send(events)
        refused_ids = {event["id"] for event in refused}
        self._count([event for event in events if event["id"] not in refused_ids])
        self._left += refused
        self.refusals += len(refused)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._send(self._next())
                time.sleep(0.02)
        except BaseException as error:  # noqa: BLE001 -- raised again by finish, in the test
            self._error = error

    @contextmanager
    def flowing(self) -> Generator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join(60)
        if self._error is not None:
            raise self._error

    def send_what_was_refused(self) -> None:
        """Until every event was accepted."""
        deadline = time.monotonic() + 60
        while self._left:
            assert time.monotonic() < deadline, f"{len(self._left)} events were never accepted"
            again, self._left = self._left[:500], self._left[500:]
            self._send(again)
            time.sleep(0.05)

    def check(self) -> None:
        """Every accepted event has had its effect, once, in every service; nothing is parked."""
        self.send_what_was_refused()
        self._stack.drain(60)
        assert self._stack.parked() == {}
        ids = [f"tmdb-{number}" for number in self.films]
        views = self._stack.rows(
            "SELECT movie_id, views FROM compute.trends"
            " WHERE movie_id = ANY(%(ids)s) AND views > 0",
            ids=ids,
        )
        assert {row["movie_id"]: row["views"] for row in views} == dict(self.accepted)
        activity = self._stack.rows(
            "SELECT movie_id, count(*) AS n FROM compute.activity"
            " WHERE movie_id = ANY(%(ids)s) GROUP BY 1",
            ids=ids,
        )
        assert {row["movie_id"]: row["n"] for row in activity} == dict(self.accepted)
        registered = {f"tmdb-{number}" for number in self.registered}
        for table in ("catalog.movies", "compute.movies", "search.documents"):
            rows = self._stack.rows(
                f"SELECT movie_id, revision FROM {table} WHERE movie_id = ANY(%(ids)s)",  # noqa: S608 -- constants
                ids=ids,
            )
            assert {row["movie_id"] for row in rows} == registered, table
        revisions = [
            self._stack.rows(
                f"SELECT movie_id, revision FROM {table} WHERE movie_id = ANY(%(ids)s) ORDER BY 1",  # noqa: S608 -- constants
                ids=ids,
            )
            for table in ("catalog.movies", "compute.movies", "search.documents")
        ]
        assert revisions[0] == revisions[1] == revisions[2]


@pytest.mark.parametrize(
    ("seed", "name"),
    [(0, "ingest-service"), (1, "compute-service"), (2, "search-indexer"), (3, "rating-service")],
)
def test_kill_minus_nine_in_mid_batch(stack: LiveStack, seed: int, name: str) -> None:
    traffic = Traffic(stack, seed)
    service = stack.processes[name]
    with traffic.flowing():
        for _ in range(2):
            time.sleep(RUN_SECONDS / 4)
            service.kill()
            time.sleep(RUN_SECONDS / 8)
            service.start()
    traffic.check()


def test_restart_of_rabbitmq_in_mid_flow(stack: LiveStack, rabbit_server: RabbitServer) -> None:
    traffic = Traffic(stack, 4)
    with traffic.flowing():
        time.sleep(RUN_SECONDS / 2)
        rabbit_server.restart()
        time.sleep(RUN_SECONDS / 2)
    assert traffic.refusals > 0, "the restart was not felt, so nothing was tested"
    traffic.check()


def test_rabbitmq_killed_in_mid_flow(stack: LiveStack, rabbit_server: RabbitServer) -> None:
    traffic = Traffic(stack, 5)
    with traffic.flowing():
        time.sleep(RUN_SECONDS / 2)
        rabbit_server.kill()
        rabbit_server.start()
        time.sleep(RUN_SECONDS / 2)
    traffic.check()


def test_restart_of_postgresql_in_mid_flow(
    stack: LiveStack, postgres_server: PostgresServer
) -> None:
    traffic = Traffic(stack, 6)
    with traffic.flowing():
        time.sleep(RUN_SECONDS / 2)
        postgres_server.stop()
        time.sleep(RUN_SECONDS / 2)
        postgres_server.start()
        time.sleep(RUN_SECONDS / 2)
    assert traffic.refusals == 0, "the gateway does not need the database to accept events"
    traffic.check()


def test_redis_frozen_for_ten_seconds(stack: LiveStack, redis_server: RedisServer) -> None:
    traffic = Traffic(stack, 7)
    asked = 0
    with traffic.flowing():
        time.sleep(1)
        redis_server.freeze()
        try:
            frozen_until = time.monotonic() + 10
            while time.monotonic() < frozen_until:
                assert stack.api.http.get("/movies/trending").status_code == 200
                asked += 1
                time.sleep(0.1)
        finally:
            redis_server.resume()
    # A frozen Redis holds a client without limits for 5 s and more on every request.
    assert asked > 3
    assert traffic.refusals == 0
    traffic.check()
