"""Imports a file of films or ratings through the gateway, and shows how far it is.

`python -m local_stack.importing GATEWAY_URL FILE` sends the file to `POST /upload`, piece by piece,
and follows the job that comes of it until it ends; `--job ID` follows one that runs already,
`--cancel` cancels it, `--rejects FILE` writes its rejected rows to a file. All of it needs an
administrator or an API key; `local_stack.access` says where they are looked for.

Progress goes to stderr, the outcome to stdout. Exit status: 0 all rows were taken, 2 some were
rejected, 1 the import failed, was cancelled or could not begin, 130 interrupted. A job that is no
longer followed goes on.
"""

import argparse
import io
import os
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn, TextIO, cast

import httpx
from tqdm import tqdm

from local_stack.access import SignInError, auth_for
from local_stack.problems import problem_of

_PREFIX: Final = "/api/v1"
_TIMEOUT: Final = httpx.Timeout(30.0, connect=5.0, read=120.0, write=60.0)
_ENDED: Final = frozenset({"succeeded", "failed", "cancelled"})
_POLL_SECONDS: Final = 0.5
# A gateway that restarts is back sooner.
_AWAY_SECONDS: Final = 60.0
# Without Redis the gateway does not know a job before its service has taken it.
_UNKNOWN_SECONDS: Final = 5.0
_LINE_SECONDS: Final = 3.0
_REDRAW_SECONDS: Final = 0.1
_BAR: Final = "{percentage:3.0f}%|{bar}|{postfix}"
_REJECTS_SHOWN: Final = 5
_TEXT_SHOWN: Final = 160
# Counts that are shown even when nothing of the kind was there.
_ALWAYS: Final = ("new", "changed", "unchanged", "rejected")
_COUNTS: Final = (
    ("new", "new films"),
    ("changed", "changed films"),
    ("unchanged", "unchanged"),
    ("linked", "ids tied together"),
    ("waiting", "waiting for a row that names the film"),
    ("repeated", "the same as an earlier row"),
    ("rejected", "rejected"),
)

Job = Mapping[str, Any]


class ImportingError(Exception):
    """The file could not be imported; the message says why and what to do."""


class UnknownJobError(ImportingError):
    """The gateway knows no such job."""


class Progress:
    """How far something is, on stderr: a bar in a terminal, elsewhere a line now and then."""

    def __init__(self, stream: TextIO) -> None:
        """Show nothing yet."""
        self._stream = stream
        self._shown_at = time.monotonic()
        self._shown: str = ""
        self._bar: tqdm[NoReturn] | None = None
        if stream.isatty():
            self._bar = tqdm(file=stream, leave=False, dynamic_ncols=True, bar_format=_BAR)

    def show(self, done: int, total: int | None, words: str) -> None:
        """Show the present state, unless that was done a moment ago."""
        now = time.monotonic()
        wait = _LINE_SECONDS if self._bar is None else _REDRAW_SECONDS
        if now - self._shown_at < wait or words == self._shown:
            return
        self._shown_at, self._shown = now, words
        if self._bar is None:
            self._stream.write(f"{words}\n")
            self._stream.flush()
        else:
            self._bar.total = total
            self._bar.n = done
            self._bar.set_postfix_str(words)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()


class _WatchedFile(io.FileIO):
    """A file that tells how far it has been read."""

    def __init__(self, path: Path, progress: Progress) -> None:
        super().__init__(path)
        self._progress = progress
        self._size = path.stat().st_size
        self._done = 0
        self._started = time.monotonic()

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(-1 if size is None else size)
        self._done += len(piece)
        seconds = max(time.monotonic() - self._started, 0.001)
        self._progress.show(
            self._done,
            self._size,
            f"sent {self._done / 1e6:,.1f} of {self._size / 1e6:,.1f} MB, "
            f"{self._done / 1e6 / seconds:,.1f} MB/s",
        )
        return piece


def check_file(path: Path) -> None:
    """Raises ImportingError for what cannot be sent."""
    try:
        with path.open("rb") as file:
            if not path.is_file():
                raise ImportingError(f"{path} is no regular file")
            if not file.read(1):
                raise ImportingError(f"{path} is empty")
    except FileNotFoundError:
        raise ImportingError(f"there is no file {path}") from None
    except IsADirectoryError:
        raise ImportingError(f"{path} is a folder; name one file") from None
    except OSError as error:
        raise ImportingError(f"{path} cannot be read: {error.strerror}") from None


def upload(client: httpx.Client, path: Path, *, format: str, dry_run: bool) -> str:
    """Send the file; returns the id of its job. Raises ImportingError."""
    check_file(path)
    progress = Progress(sys.stderr)
    name = path.name.encode(errors="replace").decode()
    fields = {"format": format, "dry_run": "true" if dry_run else "false"}
    try:
        with _WatchedFile(path, progress) as file:
            files = {"file": (name, file, "application/octet-stream")}
            answer = client.post(f"{_PREFIX}/upload", data=fields, files=files)
    except httpx.LocalProtocolError as error:
        raise ImportingError(f"{path} changed while it was sent: {error}") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _away(client, error) from None
    finally:
        progress.close()
    if answer.status_code != 202:
        raise ImportingError(f"the gateway did not take {path}: {problem_of(answer)}")
    return str(answer.json()["job_id"])


def follow(client: httpx.Client, job_id: str) -> Job:
    """Show the job until it ends; returns it. Raises ImportingError."""
    progress = Progress(sys.stderr)
    answered = time.monotonic()
    try:
        while True:
            try:
                job = _fetch(client, f"/admin/jobs/{job_id}")
            except ImportingError as error:
                patience = _UNKNOWN_SECONDS if isinstance(error, UnknownJobError) else _AWAY_SECONDS
                if time.monotonic() - answered > patience:
                    raise
                time.sleep(_POLL_SECONDS)
                continue
            if job["state"] in _ENDED:
                return job
            answered = time.monotonic()
            progress.show(job["done"], job["total"], words_of(job, datetime.now(UTC)))
            time.sleep(_POLL_SECONDS)
    finally:
        progress.close()


def words_of(job: Job, now: datetime) -> str:
    """How far a job is that has not ended."""
    if job["state"] == "queued":
        return "queued"
    done, total = int(job["done"]), job["total"]
    parts = [f"{done:,} rows" if total is None else f"{done:,} of about {total:,} rows"]
    if job["rejected"]:
        parts.append(f"{job['rejected']:,} rejected")
    if job["rate"]:
        parts.append(f"{job['rate']:,.0f} rows/s")
    if job["estimated_end"]:
        left = (datetime.fromisoformat(job["estimated_end"]) - now).total_seconds()
        parts.append(f"{_duration(max(0.0, left))} left")
    if job["error"]:
        parts.append(f"waits: {job['error']}")
    return ", ".join(parts)


def summary(job: Job) -> list[str]:
    """What became of the rows."""
    result = cast("Mapping[str, Any]", job["result"] or {})
    took = ""
    if job["started_at"] and job["finished_at"]:
        started = datetime.fromisoformat(job["started_at"])
        seconds = (datetime.fromisoformat(job["finished_at"]) - started).total_seconds()
        took = f" after {_duration(seconds)}"
    lines = [f"{job['job_id']} {job['state']}{took}"]
    if job["error"]:
        lines.append(f"  {job['error']}")
    if "format" in result:
        dry = "; only tried, nothing was changed" if result.get("dry_run") else ""
        lines.append(f"  {result.get('rows', 0):,} rows of the format {result['format']}{dry}")
        lines += [
            f"  {result.get(name, 0):>10,}  {label}"
            for name, label in _COUNTS
            if name in _ALWAYS or result.get(name)
        ]
        skipped = cast("Mapping[str, int]", result.get("skipped") or {})
        lines += [f"  {count:>10,}  skipped: {reason}" for reason, count in skipped.items()]
    return lines


def rejected_rows(client: httpx.Client, job: Job) -> list[str]:
    """The first rejected rows, and how to get all of them. Raises ImportingError."""
    path = f"/admin/jobs/{job['job_id']}/rejects"
    page = _fetch(client, f"{path}?limit={_REJECTS_SHOWN}")
    lines = ["", "rejected rows:"]
    for reject in cast("Sequence[Mapping[str, Any]]", page["items"]):
        column = f", column {reject['column']}" if reject["column"] else ""
        text = reject["text"]
        cells = text if isinstance(text, str) else ", ".join(map(str, text))
        shown = cells if len(cells) <= _TEXT_SHOWN else f"{cells[:_TEXT_SHOWN]}…"
        lines.append(f"  line {reject['line']}{column}: {reject['reason']}")
        lines.append(f"    {printable(shown)}")
    if page["total"] > len(page["items"]):
        lines.append(f"  and {page['total'] - len(page['items']):,} more")
    lines.append("All of them, as a file to mend and import again:")
    lines.append(f"  make import JOB={job['job_id']} REJECTS=rejects.csv")
    return lines


def save_rejects(client: httpx.Client, job_id: str, target: Path) -> None:
    """Write all rejected rows to a new file. Raises ImportingError."""
    url = f"{_PREFIX}/admin/jobs/{job_id}/rejects"
    try:
        with client.stream("GET", url, params={"format": "csv"}) as answer:
            if not answer.is_success:
                answer.read()
                raise ImportingError(problem_of(answer))
            with target.open("xb") as file:
                for piece in answer.iter_bytes():
                    file.write(piece)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _away(client, error) from None
    except FileExistsError:
        raise ImportingError(f"{target} exists already; choose another name") from None
    except OSError as error:
        raise ImportingError(f"{target} cannot be written: {error.strerror}") from None


def cancel(client: httpx.Client, job_id: str) -> None:
    """Cancel a job. Raises ImportingError."""
    try:
        answer = client.post(f"{_PREFIX}/admin/jobs/{job_id}/cancel")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _away(client, error) from None
    if not answer.is_success:
        raise ImportingError(problem_of(answer))


def printable(text: str) -> str:
    """The text without what a terminal would take for a command."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _fetch(client: httpx.Client, path: str) -> Mapping[str, Any]:
    try:
        answer = client.get(f"{_PREFIX}{path}")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _away(client, error) from None
    if answer.status_code == 404:
        raise UnknownJobError(problem_of(answer))
    if not answer.is_success:
        raise ImportingError(problem_of(answer))
    return cast("Mapping[str, Any]", answer.json())


def _away(client: httpx.Client, error: Exception) -> ImportingError:
    return ImportingError(
        f"the gateway at {_address(client)} does not answer: {str(error) or type(error).__name__}. "
        "Is it up? `make status` shows it."
    )


def _address(client: httpx.Client) -> str:
    return str(client.base_url).rstrip("/")


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, whole = divmod(round(seconds), 60)
    return f"{minutes} min {whole} s" if minutes else f"{whole} s"


def _how_to_go_on(job_id: str) -> str:
    return (
        f"the import goes on without this terminal.\n"
        f"  follow it:  make import JOB={job_id}\n"
        f"  cancel it:  make import JOB={job_id} CANCEL=1"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Import a file or follow a job; returns the exit status."""
    parser = _parser()
    options = parser.parse_intermixed_args(arguments)
    if (options.file is None) == (options.job is None):
        parser.error("name a file, or a job with --job")
    if options.job is None and (options.cancel or options.rejects is not None):
        parser.error("--cancel and --rejects need a --job")
    if options.cancel and options.rejects is not None:
        parser.error("--cancel or --rejects, not both")
    base = options.gateway_url.rstrip("/").removesuffix(_PREFIX)
    job_id: str | None = options.job
    try:
        auth = auth_for(base, os.environ)
        client = httpx.Client(base_url=base, auth=auth, timeout=_TIMEOUT, trust_env=False)
    except httpx.InvalidURL as error:
        return _fail(f"{base!r} is no address of a gateway: {error}")
    except SignInError as error:
        return _fail(str(error))
    with client:
        try:
            if job_id is not None and (options.cancel or options.rejects is not None):
                return _about_job(client, job_id, options.rejects)
            if job_id is None:
                job_id = upload(
                    client, options.file, format=options.format, dry_run=options.dry_run
                )
                sys.stderr.write(f"sent; the import is {job_id}\n")
            job = follow(client, job_id)
            lines = summary(job)
            if job["rejected"]:
                lines += rejected_rows(client, job)
        except (UnknownJobError, SignInError) as error:
            return _fail(str(error))
        except ImportingError as error:
            return _fail(f"{error}\n{_how_to_go_on(job_id)}" if job_id else str(error))
        except KeyboardInterrupt:
            sys.stderr.write("\n")
            _fail(_how_to_go_on(job_id) if job_id else "interrupted; nothing was kept")
            return 130
    sys.stdout.write("\n".join(lines) + "\n")
    if job["state"] != "succeeded":
        return 1
    return 2 if job["rejected"] else 0


def _about_job(client: httpx.Client, job_id: str, rejects: Path | None) -> int:
    """Write its rejected rows to a file, or without one cancel it; returns the exit status."""
    try:
        if rejects is not None:
            save_rejects(client, job_id, rejects)
            sys.stdout.write(f"{rejects} holds the rejected rows\n")
        else:
            cancel(client, job_id)
            sys.stdout.write(f"{job_id} is being cancelled\n")
    except ImportingError as error:
        return _fail(str(error))
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # 2 would say that rows were rejected
        self.exit(1, f"{self.format_usage()}{self.prog}: {message}\n")


def _parser() -> _Parser:
    parser = _Parser(
        prog="python -m local_stack.importing", description="Import a file and follow it."
    )
    parser.add_argument("gateway_url", help="for example http://127.0.0.1:8000")
    parser.add_argument("file", nargs="?", type=Path, help="CSV, TSV or JSON, plain or gzip")
    parser.add_argument("--job", help="follow this job instead")
    parser.add_argument("--cancel", action="store_true", help="cancel that job")
    parser.add_argument("--rejects", type=Path, help="write that job's rejected rows to a new file")
    parser.add_argument("--format", default="auto", help="of the file (default: recognise it)")
    parser.add_argument(
        "--dry-run", action="store_true", help="only find out what the import would do"
    )
    return parser


def _fail(message: str) -> int:
    sys.stderr.write(f"{message}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
