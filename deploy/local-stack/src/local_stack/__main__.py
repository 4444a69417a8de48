"""The command line behind `make up`, `down`, `reset`, `status`, `logs`, `env`, `token`, `export`
and `import-dump`."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import httpx

from local_stack.access import RefusedError, SignInError
from local_stack.dump import DumpError, Manifest, export_dump, import_dump
from local_stack.processes import StartError, log_tail
from local_stack.schedules import schedule_lines
from local_stack.servers import MissingProgramError
from local_stack.settings import CHECKOUT, Home, HomeError, find_home
from local_stack.stack import BusyError, Row, Stack, UnfinishedRestoreError, UpError

_SAMPLE = CHECKOUT / "deploy" / "sample-catalogue" / "movies.jsonl"
_HOW_TO_GO_ON = """
What runs so far stays up. `make status` shows it, `make logs SERVICE=<name>` shows a whole log.
When the cause is gone, `make up` starts what is missing; `make down` stops everything."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    home = find_home(CHECKOUT, os.environ)
    sample = _SAMPLE if _SAMPLE.exists() else None
    stack = Stack(CHECKOUT, home, os.environ, say=_say, sample=sample)
    try:
        match options.command:
            case "up":
                return _up(stack)
            case "down":
                _say("stopped; the data are kept" if stack.down() else "nothing was running")
            case "reset":
                stack.reset()
                _say(f"stopped, and everything under {home.folder} is deleted")
            case "status":
                return _status(stack)
            case "env":
                settings = stack.settings()
                for key, value in {**settings.connections(), **settings.administrator()}.items():
                    _say(f"{key}={value}")
            case "token":
                _say(_authorization(stack))
            case "export":
                return _export(stack, options.file)
            case "import-dump":
                return _import_dump(stack, options.file, force=options.force)
            case _:
                return _logs(home, options.service, options.lines, follow=options.follow)
    except UpError as error:
        return _fail(f"{error}\n{_HOW_TO_GO_ON}")
    except (BusyError, DumpError, HomeError, MissingProgramError, StartError) as error:
        return _fail(str(error))
    except (SignInError, UnfinishedRestoreError) as error:
        return _fail(str(error))
    except PermissionError as error:
        return _fail(
            f"{error.filename} cannot be used by this account: {error.strerror}. Use the account "
            "that made it, or set MOVIEMETRIC_HOME to another folder."
        )
    except KeyboardInterrupt:
        if home.restore_unfinished.exists():
            return _fail("interrupted")  # what to do has been said
        return _fail("interrupted; `make down` stops what was started, `make up` goes on")
    except BrokenPipeError:
        # the reader (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="local_stack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start everything and wait until it serves")
    commands.add_parser("down", help="stop everything; the data are kept")
    commands.add_parser("reset", help="stop everything and delete all data")
    commands.add_parser(
        "status",
        help="what runs, and what happens by the clock; exit status 1 when something does not run",
    )
    commands.add_parser("env", help="print the connection settings as KEY=value lines")
    commands.add_parser("token", help="sign in; print the Authorization header, for curl -H @-")
    export = commands.add_parser("export", help="write everything that the stack holds to a file")
    export.add_argument("file", nargs="?", type=Path, help="a new file (default: named by date)")
    restore = commands.add_parser("import-dump", help="make a stack from what export wrote")
    restore.add_argument("file", type=Path, help="what export wrote")
    restore.add_argument("--force", action="store_true", help="delete what the stack holds first")
    logs = commands.add_parser("logs", help="print the last lines of one log, or of all")
    logs.add_argument("service", nargs="?", help="a name that `status` shows")
    logs.add_argument("-n", "--lines", type=int, default=40, help="how many (default 40)")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until interrupted")
    return parser


def _up(stack: Stack) -> int:
    before = time.monotonic()
    started = stack.up()
    settings = stack.settings()
    seconds = time.monotonic() - before
    gateway = settings.http("GATEWAY")
    _say(f"everything is up, after {seconds:.0f} s" if started else "everything is up already")
    _say(f"""
  API           {gateway}/api/v1
  API docs      {gateway}/docs
  RabbitMQ UI   {settings.http("RABBITMQ_MANAGEMENT")}  (user and password: make env)
{_administrator(stack)}
Try:
  curl -X POST {gateway}/api/v1/movies/register -H 'content-type: application/json' \
-d '{{"tmdb_id": 27205}}'
  curl '{gateway}/api/v1/movies/trending?limit=5'
  curl '{gateway}/api/v1/search?q=incepton'
""")
    return 0


def _administrator(stack: Stack) -> str:
    """Who administers it; with the password where nobody has been told so far."""
    settings, told = stack.settings(), stack.home.admin_told
    if told.exists():
        return f"  administrator {settings.admin_name}  (password: make env)\n"
    told.touch()
    return (
        f"  administrator {settings.admin_name}  password {settings.admin_password}\n"
        f"                shown this once; `make env` prints it, from {stack.home.env_file}\n"
    )


def _authorization(stack: Stack) -> str:
    settings = stack.settings()
    gateway = settings.http("GATEWAY")
    try:
        with httpx.Client(timeout=30.0, trust_env=False) as client:
            return f"Authorization: {stack.administrator(settings).header(client)}"
    except httpx.HTTPError as error:
        raise SignInError(
            f"the gateway at {gateway} does not answer: {error}. `make status` shows what runs."
        ) from None


def _export(stack: Stack, file: Path | None) -> int:
    name = f"moviemetric-{datetime.now(UTC):%Y%m%d-%H%M%S}.tar.gz"
    target = (file or Path(name)).expanduser().absolute()
    try:
        manifest = export_dump(stack, target, say=_say)
    except OSError as error:
        return _fail(f"{error.filename or target} could not be written: {error.strerror}")
    _say(f"\n{target} ({target.stat().st_size / 2**20:.1f} MiB) holds")
    _describe(manifest)
    return 0


def _import_dump(stack: Stack, file: Path, *, force: bool) -> int:
    manifest = import_dump(stack, file.expanduser(), force=force, say=_say)
    _say(f"\neverything is up, with what was exported at {manifest.created_at:%Y-%m-%d %H:%M} UTC:")
    _describe(manifest)
    _say(f"  API           {stack.settings().http('GATEWAY')}/api/v1")
    settings = stack.settings()
    _say("\nAccounts are those of the dump, with their passwords.")
    stack.home.admin_told.touch()
    try:
        _authorization(stack)
    except RefusedError:
        _say(
            f"The password of {settings.admin_name} in {stack.home.env_file} is not theirs.\n"
            "For `make import` and `make token`, write name and password of one of the dump's\n"
            "administrators there (ADMIN_NAME, ADMIN_PASSWORD)."
        )
    except SignInError as error:
        _say(str(error))
    return 0


def _describe(manifest: Manifest) -> None:
    for name, schema in manifest.schemas.items():
        rows = sum(schema.tables.values())
        _say(f"  {rows:>10,} rows in {len(schema.tables)} tables of the schema {name}")
    parked = sum(count for queue, count in manifest.messages.items() if queue.endswith(".dead"))
    waiting = sum(manifest.messages.values()) - parked
    _say(f"  {waiting:>10,} messages in queues, and {parked:,} parked ones")
    _say(f"  {len(manifest.uploads):>10,} uploads")


def _status(stack: Stack) -> int:
    rows = stack.status()
    _say(f"{'NAME':<18}{'PID':>8}{'PORT':>7}  {'STATE':<10}{'RSS':>9}{'UPTIME':>12}")
    for row in rows:
        _say(_line(row))
    for line in schedule_lines(stack.schedules()):
        _say(line)
    return 0 if all(row.state == "running" for row in rows) else 1


def _line(row: Row) -> str:
    pid = "-" if row.pid is None else str(row.pid)
    rss = "-" if row.rss is None else f"{row.rss / 2**20:.0f} MiB"
    uptime = "-" if row.uptime is None else _duration(row.uptime)
    return f"{row.name:<18}{pid:>8}{row.port:>7}  {row.state:<10}{rss:>9}{uptime:>12}"


def _duration(seconds: float) -> str:
    minutes, whole = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}"


def _logs(home: Home, service: str | None, lines: int, *, follow: bool) -> int:
    logs = {path.stem: path for path in sorted(home.logs.glob("*.log"))}
    if service is not None and service not in logs:
        return _fail(f"there is no log of {service!r}; there are: {', '.join(logs) or 'none'}")
    shown = logs if service is None else {service: logs[service]}
    width = 0 if service is not None else max(map(len, shown), default=0)
    positions = {name: path.stat().st_size for name, path in shown.items()}
    for name, path in shown.items():
        for line in log_tail(path, lines):
            _say(_labelled(name, line, width))
    while follow:
        for name, path in shown.items():
            positions[name] = _print_new(name, path, positions[name], width)
        sys.stdout.flush()
        time.sleep(0.3)
    return 0


def _print_new(name: str, path: Path, position: int, width: int) -> int:
    """Print the whole lines behind the position; returns where they end."""
    if not path.exists():
        return 0
    if path.stat().st_size < position:
        position = 0  # a new file after rotation or reset
    with path.open("rb") as file:
        file.seek(position)
        new = file.read()
    complete = new[: new.rfind(b"\n") + 1]
    for line in complete.decode(errors="replace").splitlines():
        _say(_labelled(name, line, width))
    return position + len(complete)


def _labelled(name: str, line: str, width: int) -> str:
    return f"{name:<{width}} | {line}" if width else line


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _fail(message: str) -> int:
    sys.stderr.write(f"{message}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
