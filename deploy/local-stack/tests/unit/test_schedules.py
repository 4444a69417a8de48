"""What `make status` says about the clock; a small server answers as the scheduler would."""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from local_stack.ports import free_port
from local_stack.schedules import read_schedules, schedule_lines

ITEMS: list[dict[str, Any]] = [
    {
        "name": "trending",
        "cron": "0 3 * * *",
        "command": "compute.run.v1",
        "last_due": "2026-03-10T03:00:00Z",
        "next_due": "2026-03-11T03:00:00Z",
    },
    {"name": "ingest", "cron": "0 2 * * *", "last_due": None, "next_due": "2026-03-10T02:00:00Z"},
    {"name": "index-rebuild", "cron": None, "last_due": None, "next_due": None},
    # a moment ago: the leader is about to do it
    {"name": "now", "cron": "* * * * *", "last_due": None, "next_due": "2026-03-10T12:30:00Z"},
]
PAGE = {"items": ITEMS, "leader": {"held": True}, "as_of": "2026-03-10T12:30:01Z"}


@contextmanager
def answering(status: int, body: bytes) -> Generator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/schedules" else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_last_and_next_runs_are_a_table() -> None:
    with answering(200, json.dumps(PAGE).encode()) as url:
        lines = schedule_lines(read_schedules(url))
    assert lines == [
        "SCHEDULE (UTC)      CRON              LAST              NEXT",
        "trending            0 3 * * *         2026-03-10 03:00  2026-03-11 03:00",
        "ingest              0 2 * * *         -                 2026-03-10 02:00 overdue",
        "index-rebuild       off               -                 -",
        "now                 * * * * *         -                 2026-03-10 12:30",
    ]


@pytest.mark.parametrize(
    ("status", "body"),
    [(503, b"{}"), (200, b"no JSON"), (200, b'{"items": [{}], "as_of": "2026-03-10T12:30:01Z"}')],
)
def test_a_scheduler_that_tells_nothing_is_no_error(status: int, body: bytes) -> None:
    with answering(status, body) as url:
        assert read_schedules(url) == []
    assert schedule_lines([]) == []


def test_a_scheduler_that_is_away_is_no_error() -> None:
    assert read_schedules(f"http://127.0.0.1:{free_port()}") == []
