"""A large file is read by a process of its own, while this one writes what it has read.

Reading a row and understanding it takes longer than writing it, and both are work for Python, of
which a process does one thing at a time. The file's bytes go there, chunks of rows come back:

    stream ─► stdin ─► FilmReader ─► packed chunks ─► stdout ─► next_chunk

It gets nothing of the service's environment. It ends when either end of its pipes does.
"""

import contextlib
import gc
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from typing import BinaryIO, Final, TypedDict, cast

from ingest_service.film_reading import FilmReader, PackedFilmChunk
from ingest_service.formats import FilmFormat
from ingest_service.import_rows import UploadedFile

_log = logging.getLogger(__name__)

_BLOCK: Final = 256 * 1024
_LENGTH: Final = 8
# What Python needs to start, and the language's settings; no addresses, no passwords.
_ENVIRONMENT: Final = ("PYTHON", "LANG", "LC_", "LD_LIBRARY_PATH")


class _Order(TypedDict):
    format: str
    skip: int
    job_id: str
    at: str
    with_records: bool


class ReadingProcess:
    """Reads films as `FilmReader` does, in another process. `close` it.

    Args:
        open_file: gives the file from its beginning; nobody else reads what it gives.
        format_name: what it was recognised as.
        skip: rows that an earlier attempt has dealt with.
        job_id, at: the import that the records belong to.
        with_records: whether the records of unlinked chunks are wanted, too.

    Attributes:
        problem: why the file could not be read to its end; None if it could.
    """

    def __init__(
        self,
        open_file: Callable[[], BinaryIO],
        format_name: str,
        *,
        skip: int,
        job_id: str,
        at: datetime,
        with_records: bool,
    ) -> None:
        self.problem: str | None = None
        self._open = open_file
        self._error: BaseException | None = None
        self._closed = False
        self._ended = False
        order: _Order = {
            "format": format_name,
            "skip": skip,
            "job_id": job_id,
            "at": at.isoformat(),
            "with_records": with_records,
        }
        self._process = subprocess.Popen(  # noqa: S603 -- this very program
            [sys.executable, "-m", __spec__.name, json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={key: value for key, value in os.environ.items() if key.startswith(_ENVIRONMENT)},
        )
        self._feeding = threading.Thread(target=self._feed, name="feeding", daemon=True)
        self._feeding.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def next_chunk(self) -> PackedFilmChunk | None:
        """The next rows; None at the end, or where the file cannot be read on.

        It blocks, and is meant for a worker thread.

        Raises:
            Outage: the store of the file is away.
            RuntimeError: the process has died.
        """
        if self._ended:
            return None
        output = cast("BinaryIO", self._process.stdout)
        try:
            length = output.read(_LENGTH)
            body = output.read(int.from_bytes(length)) if len(length) == _LENGTH else b""
        except ValueError:  # closed meanwhile
            return None
        if not body or len(body) != int.from_bytes(length):
            if self._closed:
                return None
            if self._error is not None:
                raise self._error
            code = self._process.wait()
            msg = f"the process that reads the file has ended ({_ending(code)})"
            raise RuntimeError(msg)
        found = pickle.loads(body)  # noqa: S301 -- of the process that was started above
        if isinstance(found, PackedFilmChunk):
            return found
        self._ended = True
        self.problem = found
        return None

    def close(self) -> None:
        """End it, wherever it is."""
        self._closed = True
        self._process.kill()
        self._process.wait()
        cast("BinaryIO", self._process.stdout).close()
        # It may wait for the store of the file; when that answers it finds nobody to feed.
        self._feeding.join(1)

    def _feed(self) -> None:
        target = cast("BinaryIO", self._process.stdin)
        try:
            with self._open() as stream:
                while not self._closed and (block := stream.read(_BLOCK)):
                    target.write(block)
        except BrokenPipeError:
            pass  # it has all that it wants, or has died
        except Exception as error:  # noqa: BLE001 -- raised where the chunks are asked for
            # Not to be taken for the end of the file.
            self._error = error
            self._process.kill()
        finally:
            with contextlib.suppress(BrokenPipeError):
                target.close()


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def main() -> None:
    """Read the film file on standard input as the first argument says."""
    # Who started it decides when it ends, also when the whole group is told to.
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)
    # As in every service: rows are many objects in no cycles.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    order = json.loads(sys.argv[1])
    # Whatever prints something must not print it between the chunks.
    with os.fdopen(os.dup(1), "wb") as output:
        os.dup2(2, 1)
        try:
            _read(order, sys.stdin.buffer, output)
        except BrokenPipeError:
            sys.exit("nobody wants to know what the file says")


def _read(order: _Order, stream: BinaryIO, output: BinaryIO) -> None:
    source = UploadedFile(lambda: stream, order["format"])
    if not isinstance(source.format, FilmFormat):
        msg = f"a file of films was expected, not of {source.format.name}"
        raise TypeError(msg)
    reader = FilmReader(
        source,
        source.format,
        skip=order["skip"],
        job_id=order["job_id"],
        at=datetime.fromisoformat(order["at"]),
    )
    while (chunk := reader.next_chunk()) is not None:
        _give(chunk.packed(with_records=order["with_records"]), output)
    _give(reader.problem, output)


def _give(found: PackedFilmChunk | str | None, output: BinaryIO) -> None:
    body = pickle.dumps(found, pickle.HIGHEST_PROTOCOL)
    output.write(len(body).to_bytes(_LENGTH))
    output.write(body)
    output.flush()


if __name__ == "__main__":
    main()
