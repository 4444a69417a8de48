"""Makes a dump of a local stack.

    stop what brings work in ─► wait until the others have done theirs ─► stop them
      ─► copy messages, database and uploads ─► start all of them again ─► write the archive

Nobody is served from the first step until the services run again. The wait is bounded, because it
is a courtesy only: what is still in a queue, in an outbox or in an unfinished job is part of the
dump, and has its effect where that is restored.
"""

import os
import shutil
import time
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from local_stack.accounts import private_folder
from local_stack.dump import archive, database, messages
from local_stack.dump.archive import Manifest
from local_stack.dump.errors import DumpError, server_errors
from local_stack.services import SCHEDULER
from local_stack.settings import Settings
from local_stack.stack import Servers, Stack, UnfinishedRestoreError

# They take requests, run imports and publish commands by the clock.
_SOURCES: Final = ("gateway", "ingest-service", SCHEDULER)
_DRAIN_SECONDS: Final = 120.0
_NO_HEADWAY_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 0.5
_QUIET_POLLS: Final = 3


@dataclass(frozen=True, slots=True)
class _Copied:
    """What was copied, and where its parts are until the archive is written."""

    messages: dict[str, int]
    schemas: dict[str, archive.Schema]
    sources: dict[str, Path]


def export_dump(
    stack: Stack,
    file: Path,
    *,
    say: Callable[[str], None],
    drain_seconds: float = _DRAIN_SECONDS,
) -> Manifest:
    """Write a dump of the stack, which runs afterwards as it did before.

    Raises DumpError; UpError when something does not start; OSError when the file cannot be
    written.
    """
    home = stack.home
    if not (home.folder / "postgresql").exists():
        raise DumpError(f"there is no stack in {home.folder}; `make up` makes one")
    if file.exists():
        raise DumpError(f"{file} exists already; choose another name, or delete it")
    if not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
        raise DumpError(f"{file.parent} is no folder that this account can write to")
    home.create()
    with stack.locked(), server_errors():
        if home.restore_unfinished.exists():
            raise UnfinishedRestoreError
        shutil.rmtree(home.exporting, ignore_errors=True)
        private_folder(home.exporting, None)
        try:
            at = datetime.now(UTC)
            settings = stack.choose_settings(keep=("INGEST", "SEARCH", "GATEWAY"))
            with _only_servers(stack, settings, say, drain_seconds) as servers:
                say("copying the database, the messages in queues, and uploads")
                copied = _copy(servers, settings, home.exporting)
            manifest = Manifest(
                created_at=at,
                postgresql=servers.postgres.major,
                schemas=copied.schemas,
                messages=copied.messages,
                upload_store_url=store_base(settings.upload_store_url),
                parts={name: archive.part_of(path) for name, path in copied.sources.items()},
            )
            say(f"writing {file}")
            archive.write(file, manifest, copied.sources, at)
        finally:
            shutil.rmtree(home.exporting, ignore_errors=True)
    return manifest


def store_base(url: str) -> str:
    """What the addresses of all uploads in the store begin with."""
    parts = urlsplit(url)
    if parts.scheme != "file":
        return f"{url.rstrip('/')}/"
    return f"{Path(unquote(parts.path)).absolute().as_uri().rstrip('/')}/"


@contextmanager
def _only_servers(
    stack: Stack, settings: Settings, say: Callable[[str], None], drain_seconds: float
) -> Generator[Servers]:
    """The servers without the services; on leaving everything is as it was."""
    ran = stack.running_services()
    # with the settings of their start, which this command's own environment need not have
    services = [
        stack.process(
            replace(
                process.service, env=ran[process.service.name].environment() or process.service.env
            )
        )
        for process in stack.services(settings)
        if process.service.name in ran
    ]
    started_servers = stack.start_servers(settings)
    servers = stack.servers(settings)
    try:
        if ran:
            stack.stop_services(_SOURCES)
            _drain(servers, set(ran) - set(_SOURCES), say, drain_seconds)
            stack.stop_services()
        yield servers
    finally:
        if ran:
            stack.start_services(services)
        elif started_servers:
            stack.stop_servers(settings)


def _drain(
    servers: Servers, services: Collection[str], say: Callable[[str], None], seconds: float
) -> None:
    """Wait until the services have nothing to do; end early when nothing moves."""
    started = moved = time.monotonic()
    least: int | None = None
    told = False
    # what one of them has done may be the next one's work
    quiet = 0
    while quiet < _QUIET_POLLS:
        left = messages.unfinished_work(servers.rabbit, services)
        quiet = quiet + 1 if left == 0 else 0
        now = time.monotonic()
        if least is None or left < least:
            least, moved = left, now
        if left and (now - started > seconds or now - moved > _NO_HEADWAY_SECONDS):
            say(f"{left:,} messages still wait; they become part of the dump")
            return
        if left and not told:
            say(f"waiting until {left:,} messages are processed, for {seconds:.0f} s at most")
            told = True
        time.sleep(_POLL_SECONDS)


def _copy(servers: Servers, settings: Settings, folder: Path) -> _Copied:
    sources = {
        archive.DATABASE: folder / archive.DATABASE,
        archive.MESSAGES: folder / archive.MESSAGES,
    }
    counts = messages.copy_messages(servers.rabbit, sources[archive.MESSAGES])
    servers.postgres.dump(sources[archive.DATABASE])
    schemas = database.describe(servers.postgres)
    uploads = settings.uploads_folder
    for upload in sorted(uploads.iterdir()) if uploads is not None and uploads.is_dir() else ():
        name = f"{archive.UPLOADS}{upload.name}"
        # beside uploads there may lie parts of some that were broken off
        if upload.is_file() and archive.is_part(name):
            sources[name] = _linked(upload, folder / name)
    return _Copied(counts, schemas, sources)


def _linked(source: Path, target: Path) -> Path:
    """The same file under another name, or a copy where that is not possible.

    Uploads are written once. The service that runs again may delete this one.
    """
    target.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
