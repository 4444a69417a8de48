"""A file that another process reads says the same; and whatever ends early is told."""

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from ingest_service.film_reading import FilmChunk, FilmReader, PackedFilmChunk
from ingest_service.formats import FilmFormat
from ingest_service.import_rows import UploadedFile
from ingest_service.reading_process import ReadingProcess
from service_kit import Outage

AT = datetime(2024, 5, 1, 12, tzinfo=UTC)
JOB = "import-7"
HEADER = "movie_id,title,release_date,vote_count\n"


def table(rows: int, *, wrong_every: int = 7) -> bytes:
    return (
        HEADER
        + "".join(
            f'tmdb-{n},"Film ""{n}"", é",1999-01-0{n % 9 + 1},{-1 if n % wrong_every == 1 else n}\n'
            for n in range(1, rows + 1)
        )
    ).encode()


def unlinked(rows: int) -> bytes:
    return table(rows, wrong_every=rows + 7)


def linked(rows: int) -> bytes:
    lines = (f"tmdb-{n},tt{n:07d},Film {n}\n" for n in range(1, rows + 1))
    return ("movie_id,imdb_id,title\n" + "".join(lines)).encode()


def objects(rows: int) -> bytes:
    return json.dumps([{"id": n, "title": f"Film {n}"} for n in range(1, rows + 1)]).encode()


def broken(rows: int) -> bytes:
    return gzip.compress(table(rows))[:-500]


@contextmanager
def reading(
    stream: BinaryIO, name: str, skip: int = 0, *, with_records: bool = True
) -> Generator[ReadingProcess]:
    process = ReadingProcess(
        lambda: stream, name, skip=skip, job_id=JOB, at=AT, with_records=with_records
    )
    try:
        yield process
    finally:
        process.close()


def all_of(next_chunk: Callable[[], Any]) -> list[Any]:
    return list(iter(next_chunk, None))


def meaning(chunk: FilmChunk | PackedFilmChunk) -> dict[str, Any]:
    # the time at which a line was made is in it
    lines = [line.split(b"\t")[:2] for line in chunk.block.splitlines()] if chunk.unlinked else []
    return {
        "rows": chunk.rows,
        "rejections": chunk.rejections,
        "skipped": chunk.skipped,
        "items": chunk.items,
        "unlinked": chunk.unlinked,
        "keys": list(chunk.keys) if chunk.unlinked else [],
        "lines": lines,
        "records": chunk.records,
    }


@pytest.mark.parametrize(
    ("file", "rows", "skip"),
    [
        (table, 9_000, 0),
        (table, 9_000, 4_100),
        (unlinked, 9_000, 0),
        (linked, 5_000, 0),
        (objects, 5_000, 0),
        (broken, 60_000, 0),
        (table, 0, 0),
    ],
)
def test_it_reads_what_a_reader_in_this_process_reads(
    file: Callable[[int], bytes], rows: int, skip: int
) -> None:
    content = file(rows)
    source = UploadedFile(lambda: io.BytesIO(content), "auto")
    assert isinstance(source.format, FilmFormat)
    here = FilmReader(source, source.format, skip=skip, job_id=JOB, at=AT)
    expected = all_of(here.next_chunk)
    assert expected or not rows
    with reading(io.BytesIO(content), source.format.name, skip) as there:
        found = all_of(there.next_chunk)
        assert there.next_chunk() is None
    assert [meaning(chunk) for chunk in found] == [meaning(chunk) for chunk in expected]
    assert there.problem == here.problem
    assert (here.problem is not None) == (file is broken)
    if found:
        assert found[-1].bytes_read == len(content)


@pytest.mark.parametrize(("file", "left_out"), [(unlinked, True), (table, True), (linked, False)])
def test_records_are_left_out_where_lines_say_all(
    file: Callable[[int], bytes], left_out: bool
) -> None:
    with reading(io.BytesIO(file(100)), "generic", with_records=False) as process:
        chunk = process.next_chunk()
    assert chunk is not None
    assert (chunk.records is None) == left_out == chunk.unlinked


class _Endless(io.RawIOBase):
    """A table without end, or what happens after so many blocks."""

    def __init__(self, blocks: int | None = None, then: Exception | None = None) -> None:
        self._left = blocks
        self._then = then
        self._content = self._blocks()

    def _blocks(self) -> Iterator[bytes]:
        yield HEADER.encode()
        while True:
            yield unlinked(1_000)[len(HEADER) :]

    def read(self, size: int = -1) -> bytes:
        del size
        if self._left is not None:
            if self._left == 0:
                if self._then is not None:
                    raise self._then
                threading.Event().wait(60)
            self._left -= 1
        return next(self._content)


def endless(blocks: int | None = None, then: Exception | None = None) -> Any:
    return _Endless(blocks, then)


def test_a_store_that_goes_away_is_not_taken_for_the_end_of_the_file() -> None:
    with (
        reading(endless(20, Outage("S3", "away")), "generic") as process,
        pytest.raises(Outage, match="away"),
    ):
        all_of(process.next_chunk)
    assert process.problem is None


def test_a_process_that_dies_is_told() -> None:
    with reading(endless(), "generic") as process:
        assert process.next_chunk() is not None
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match=r"has ended \(signal 9\)"):
            all_of(process.next_chunk)


def test_a_file_of_something_else_is_told() -> None:
    ratings = b"userId,movieId,rating,timestamp\n1,1,4.0,964982703\n"
    with (
        reading(io.BytesIO(ratings), "auto") as process,
        pytest.raises(RuntimeError, match=r"\(exit code 1\)"),
    ):
        process.next_chunk()


def test_closing_ends_it_also_while_somebody_waits_for_a_chunk() -> None:
    with reading(endless(1), "generic") as process:
        waiting = threading.Thread(target=lambda: all_of(process.next_chunk))
        waiting.start()
        time.sleep(0.2)
        assert waiting.is_alive()
        process.close()
        waiting.join(30)
        assert not waiting.is_alive()
        assert not _runs(process.pid)


def test_it_knows_nothing_of_the_services_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://somebody:secret@nowhere/")
    with reading(endless(), "generic") as process:
        assert process.next_chunk() is not None
        environment = Path(f"/proc/{process.pid}/environ").read_bytes()
    assert b"secret" not in environment
    assert b"DATABASE_URL" not in environment


_PARENT = """
import sys, time
sys.path.insert(0, sys.argv[1])
from test_reading_process import AT, JOB, endless
from ingest_service.reading_process import ReadingProcess
process = ReadingProcess(
    endless, "generic", skip=0, job_id=JOB, at=AT, with_records=False
)
assert process.next_chunk() is not None
print(process.pid, flush=True)
time.sleep(60)
"""


def test_it_ends_with_the_process_that_started_it() -> None:
    here = str(Path(__file__).parent)
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, here], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    with parent, parent.stdout as output:
        pid = int(output.readline())
        assert _runs(pid)
        parent.kill()
    deadline = time.monotonic() + 30
    while _runs(pid):
        assert time.monotonic() < deadline, "it went on without anybody"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        return stat.rpartition(b")")[2].split()[0] != b"Z"
    except FileNotFoundError:
        return False
