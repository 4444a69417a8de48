"""A large upload, beside a bare COPY of the same rows into one table of the same server."""

import asyncio
import itertools
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psycopg
import uvloop
from harness import LiveStack, eventually
from harness.files import write_upload
from load import Result, get, run
from local_stack.procfs import ProcessId

# As the older upload service kept them: typed columns and a number.
_BARE = """
    CREATE TABLE public.bare_films (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        budget double precision, homepage text, original_language text, original_title text,
        overview text, release_date date, revenue double precision, runtime integer, status text,
        title text, vote_average double precision, vote_count double precision,
        production_company_id integer, genre_id integer, languages text)
"""
_COLUMNS = (
    "budget, homepage, original_language, original_title, overview, release_date, revenue, runtime,"
    " status, title, vote_average, vote_count, production_company_id, genre_id, languages"
)


@dataclass
class Imported:
    """What one import gave; rates in rows per second, memory in bytes, times in seconds."""

    rows: int
    rate: float
    bare_rate: float
    peak_memory: dict[str, int]
    reads: Result


def bare_rate(stack: LiveStack, file: Path, rows: int) -> float:
    """COPY and nothing else."""
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        connection.execute(_BARE)
        started = time.perf_counter()
        copying = f"COPY public.bare_films ({_COLUMNS}) FROM STDIN (FORMAT csv, HEADER)"
        with (
            connection.cursor() as cursor,
            cursor.copy(copying.encode()) as copy,
            file.open("rb") as source,
        ):
            while block := source.read(1 << 18):
                copy.write(block)
        seconds = time.perf_counter() - started
        connection.execute("DROP TABLE public.bare_films")
    return rows / seconds


class _Reading(threading.Thread):
    """A cached list, asked for at a steady rate until the end."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self.over = threading.Event()
        self.result = Result()

    def run(self) -> None:
        requests = itertools.repeat(get("/api/v1/movies?limit=20"))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            while not self.over.is_set():
                part = runner.run(
                    run(self._url, requests, connections=4, seconds=1.0, per_second=100)
                )
                self.result.times += part.times
                self.result.seconds += part.seconds
                for status, count in part.statuses.items():
                    self.result.statuses[status] = self.result.statuses.get(status, 0) + count


@contextmanager
def _reading(stack: LiveStack) -> Generator[_Reading]:
    reading = _Reading(stack.urls["gateway"])
    reading.start()
    try:
        yield reading
    finally:
        reading.over.set()
        reading.join(30)


def peak_memory(stack: LiveStack) -> dict[str, int]:
    """The most that each service ever held in memory."""
    peaks: dict[str, int] = {}
    for name, process in stack.processes.items():
        identity = process.managed.process
        if isinstance(identity, ProcessId):
            status = Path(f"/proc/{identity.pid}/status").read_text(encoding="ascii")
            [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
            peaks[name] = int(line.split()[1]) * 1024
    return peaks


def imported(stack: LiveStack, folder: Path, rows: int) -> Imported:
    """Upload a file of so many rows and wait until its job has ended."""
    file = folder / "upload.csv"
    write_upload(file, rows)
    # The same reads go on beside both, so that both have as much of the machine.
    with _reading(stack):
        bare = bare_rate(stack, file, rows)
    with _reading(stack) as reading:
        job = stack.api.ended(stack.api.upload(file), seconds=1800)
    assert job["state"] == "succeeded", job
    assert job["result"]["new"] == rows, job["result"]
    began, ended = (datetime.fromisoformat(job[name]) for name in ("started_at", "finished_at"))
    return Imported(
        rows=rows,
        rate=rows / (ended - began).total_seconds(),
        bare_rate=bare,
        peak_memory=peak_memory(stack),
        reads=reading.result,
    )


def seconds_until_told(stack: LiveStack) -> float:
    """Until the chart and the search have taken all films that an import has announced."""
    started = time.perf_counter()
    eventually("all films to be taken", lambda: not stack.busy(), seconds=3600, every=1.0)
    return time.perf_counter() - started
