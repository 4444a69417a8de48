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
    """A cached list, asked for at a steady rate until the end: a probe and no load.

    It is read anew every few seconds, which is one in some hundred of these requests.
    """

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
                    run(self._url, requests, connections=4, seconds=1.0, per_second=40)
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


class _Memory(threading.Thread):
    """The most that each service held in memory, with the processes that it started."""

    def __init__(self, stack: LiveStack) -> None:
        super().__init__(daemon=True)
        found = {name: process.managed.process for name, process in stack.processes.items()}
        self._pids = {name: of.pid for name, of in found.items() if isinstance(of, ProcessId)}
        self.over = threading.Event()
        self.peaks = dict.fromkeys(self._pids, 0)

    def run(self) -> None:
        while not self.over.wait(1.0):
            for name, pid in self._pids.items():
                # Each at its own peak: never less than what both held at the same time.
                held = _most_held(pid) + sum(_most_held(child) for child in _children(pid))
                self.peaks[name] = max(self.peaks[name], held)


def _children(pid: int) -> list[int]:
    children: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(after_name[1]) == pid:
            children.append(int(stat.parent.name))
    return children


def _most_held(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    held = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(held[0]) * 1024 if held else 0


@contextmanager
def _measured_memory(stack: LiveStack) -> Generator[_Memory]:
    memory = _Memory(stack)
    memory.start()
    try:
        yield memory
    finally:
        memory.over.set()
        memory.join(10)


def imported(stack: LiveStack, folder: Path, rows: int) -> Imported:
    """Upload a file of so many rows and wait until its job has ended."""
    file = folder / "upload.csv"
    write_upload(file, rows)
    # The same reads go on beside both, so that both have as much of the machine.
    with _reading(stack):
        bare = bare_rate(stack, file, rows)
    with _reading(stack) as reading, _measured_memory(stack) as memory:
        job = stack.api.ended(stack.api.upload(file), seconds=1800, every=1.0)
    assert job["state"] == "succeeded", job
    assert job["result"]["new"] == rows, job["result"]
    began, ended = (datetime.fromisoformat(job[name]) for name in ("started_at", "finished_at"))
    return Imported(
        rows=rows,
        rate=rows / (ended - began).total_seconds(),
        bare_rate=bare,
        peak_memory=memory.peaks,
        reads=reading.result,
    )


def seconds_until_told(stack: LiveStack) -> float:
    """Until the chart and the search have taken all films that an import has announced."""
    started = time.perf_counter()
    eventually("all films to be taken", lambda: not stack.busy(), seconds=3600, every=1.0)
    return time.perf_counter() - started
