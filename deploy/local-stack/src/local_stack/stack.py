"""The whole local stack as daemons: up, down, reset, status.

Everything that runs is found through its pid file in the home folder, so each call of the command
line sees what an earlier one left, also one that was interrupted.
"""

import fcntl
import os
import signal
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import httpx

from local_stack import catalogue
from local_stack.access import SignedIn, SignInError
from local_stack.processes import end, in_parallel
from local_stack.procfs import ProcessId
from local_stack.schedules import ScheduleRow, read_schedules
from local_stack.servers import PostgresServer, RabbitPorts, RabbitServer, RedisServer
from local_stack.services import SCHEDULER, STOP_SECONDS, Service, ServiceProcess, service_table
from local_stack.settings import Home, Settings

_LOCK_SECONDS = 300.0
_CATALOGUE_SECONDS = 90.0
_SERVERS = {PostgresServer.name: "POSTGRES", RabbitServer.name: "AMQP", RedisServer.name: "REDIS"}
_EPMD = f"{RabbitServer.name}-epmd"
# the ports that a server uses, beside the one that the status table shows
_RABBIT_PORTS = frozenset({"AMQP", "RABBITMQ_MANAGEMENT", "RABBITMQ_DISTRIBUTION", "EPMD"})

ServiceTable = Callable[[Settings, Mapping[str, str]], list[Service]]


class UpError(Exception):
    """Something did not start. The message names each failure, with its log's last lines."""


class UnfinishedRestoreError(Exception):
    """A dump was restored in part, which must not be taken for the whole."""

    def __init__(self) -> None:
        """Say what to do."""
        super().__init__(
            "restoring a dump into this stack was interrupted or failed, so its data are not "
            "whole. `make import-dump DUMP=<file> FORCE=1` begins anew; `make reset` empties it."
        )


class BusyError(Exception):
    """Another command holds the stack for too long."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the status table; `rss` in bytes, `uptime` in seconds, None when not running."""

    name: str
    pid: int | None
    port: int
    state: str
    rss: int | None
    uptime: float | None


class Servers(NamedTuple):
    """The servers of a stack."""

    postgres: PostgresServer
    rabbit: RabbitServer
    redis: RedisServer


class Stack:
    """The local stack of one checkout."""

    def __init__(
        self,
        root: Path,
        home: Home,
        environ: Mapping[str, str],
        *,
        say: Callable[[str], None],
        services: ServiceTable = service_table,
        sample: Path | None = None,
    ) -> None:
        """Describe the stack; nothing is started.

        `root` is the services' working folder, `say` takes progress lines, `sample` is the
        catalogue to load (None: none).
        """
        self.root = root
        self.home = home
        self._environ = environ
        self._say = say
        self._table = services
        self._sample = sample

    def up(self) -> bool:
        """Start what does not run and wait until all of it serves; True when anything was started.

        Raises UpError; what did start stays up.
        """
        self.home.create()
        with self.locked():
            if self.home.restore_unfinished.exists():
                raise UnfinishedRestoreError
            settings = self.choose_settings()
            started = self.start_servers(settings)
            started |= self.start_services(self.services(settings))
            self._load_sample(settings)
        return started

    def down(self) -> bool:
        """Stop everything, services first; data are kept. True when anything was running."""
        if not self.home.run.exists():
            return False
        with self.locked():
            return self._down(keep=True)

    def reset(self) -> None:
        """Stop everything and delete all data, logs and settings."""
        if not self.home.folder.exists():
            return
        with self.locked():
            self._down(keep=False)
            self.home.empty()

    def status(self) -> list[Row]:
        """What runs and what does not."""
        settings = self.settings()
        rows = [
            self._row(name, settings.ports[port], serving=None) for name, port in _SERVERS.items()
        ]
        rows += [
            self._row(service.service.name, service.service.port, service.ready)
            for service in self.services(settings)
        ]
        return rows

    def schedules(self) -> list[ScheduleRow]:
        """What happens by the clock; nothing where no scheduler answers."""
        for process in self.services(self.settings()):
            if process.service.name == SCHEDULER and process.running:
                return read_schedules(f"http://127.0.0.1:{process.service.port}")
        return []

    def settings(self) -> Settings:
        """What is remembered; remembered from now on when nothing was."""
        if not self.home.env_file.exists():
            self.home.create()
            with self.locked():
                settings = Settings.load(self.home, self._environ)
                settings.save(self.home)
        return Settings.load(self.home, self._environ)

    # What `up` and `down` are made of, for what else needs the stack in parts. The caller holds it.

    def choose_settings(self, *, keep: Collection[str] = ()) -> Settings:
        """Settle what depends on the machine and the environment, and remember it; the choices that
        go with the ports named in `keep` stay as they are."""
        settings = Settings.load(self.home, self._environ)
        settings.choose(self._environ, lambda name: name in keep or self._port_is_ours(name))
        settings.save(self.home)
        for name, port in settings.moved.items():
            self._say(
                f"port {port} is taken by another program: {name.lower().replace('_', '-')} "
                f"uses {settings.ports[name]}"
            )
        if settings.moved:
            # what still runs has been told the old ports
            self.stop_services()
        return settings

    def start_servers(self, settings: Settings) -> bool:
        """Start the servers that do not run; True when there were any. Raises UpError."""
        absent = [server for server in self.servers(settings) if not server.running]
        if absent:
            self._say(f"starting {', '.join(server.name for server in absent)}")
        # also the running ones: an interrupted start may have left one that is still booting
        self._all({server.name: server.start for server in self.servers(settings)})
        return bool(absent)

    def stop_servers(self, settings: Settings) -> None:
        """Stop the servers; data are kept."""
        in_parallel({server.name: server.stop for server in self.servers(settings)})

    def migrate(self, services: Sequence[ServiceProcess]) -> None:
        """Bring schemas and queues up to date. Raises UpError."""
        self._all({service.service.name: service.migrate for service in services})

    def start_services(self, services: Sequence[ServiceProcess]) -> bool:
        """Migrate and start the services that do not run, and wait until all of them serve; True
        when there were any. Raises UpError."""
        absent = [service for service in services if not service.running]
        if absent:
            names = ", ".join(service.service.name for service in absent)
            self._say(f"migrating and starting {names}")
            self.migrate(absent)
            self._all({service.service.name: service.launch for service in absent})
        self._all({service.service.name: service.wait_ready for service in services})
        return bool(absent)

    def stop_services(self, only: Collection[str] | None = None) -> bool:
        """Stop all services, or those with these names; True when any was running."""
        services = self.running_services()
        if only is not None:
            services = {name: services[name] for name in only if name in services}
        if services:
            self._say(f"stopping {', '.join(sorted(services))}")
            self._stop(services, STOP_SECONDS)
        return bool(services)

    def running_services(self) -> dict[str, ProcessId]:
        """The services that run, by name."""
        return {
            name: process
            for name, process in self._running().items()
            if name not in _SERVERS and name != _EPMD
        }

    def _all(self, jobs: Mapping[str, Callable[[], object]]) -> None:
        failures = in_parallel(jobs)
        if failures:
            raise UpError("\n".join(str(error) for error in failures.values()))

    def _load_sample(self, settings: Settings) -> None:
        if self._sample is None or not settings.tmdb_standin:
            return
        if self.home.catalogue_loaded.exists():
            return
        ids = catalogue.film_ids(self._sample)
        base = settings.http("GATEWAY")
        auth = self.administrator(settings)
        with httpx.Client(base_url=base, timeout=30.0, trust_env=False) as client:
            try:
                known = catalogue.total_movies(client)
                if known < len(ids):
                    self._say(f"loading the sample catalogue, {len(ids)} films")
                    catalogue.publish(client, auth, ids)
                    known = catalogue.wait_until_known(client, len(ids), _CATALOGUE_SECONDS)
            except (httpx.HTTPError, catalogue.CatalogueError, SignInError) as error:
                raise UpError(f"the sample catalogue could not be loaded: {error}") from error
        if known >= len(ids):
            self.home.catalogue_loaded.touch()
        else:
            self._say(
                f"{known} of {len(ids)} films of the sample catalogue are there so far; the others "
                "are queued and follow"
            )

    def administrator(self, settings: Settings) -> SignedIn:
        """Signs in as the first administrator."""
        return SignedIn(
            settings.http("GATEWAY"),
            settings.admin_name,
            settings.admin_password,
            source=f"{self.home.env_file} (ADMIN_PASSWORD)",
            keep_in=self.home.admin_token,
        )

    def _down(self, *, keep: bool) -> bool:
        settings = Settings.load(self.home, self._environ)
        services = self.stop_services()
        servers = self._running()
        if servers:
            self._say(f"stopping {', '.join(sorted(servers))}")
            jobs = {
                server.name: server.stop if keep else server.kill
                for server in self.servers(settings)
            }
            in_parallel(jobs)
        # whatever a changed table or settings file does not name any more
        self._stop(self._running(), 5.0)
        for pid_file in self.home.run.glob("*.pid"):
            pid_file.unlink()
        return services or bool(servers)

    def _stop(self, processes: Mapping[str, ProcessId], seconds: float) -> None:
        def job(process: ProcessId) -> Callable[[], object]:
            return lambda: end(process, signal.SIGTERM, seconds)

        in_parallel({name: job(process) for name, process in processes.items()})

    def _running(self) -> dict[str, ProcessId]:
        found = {path.stem: ProcessId.read(path) for path in self.home.run.glob("*.pid")}
        return {name: process for name, process in found.items() if process is not None}

    def _port_is_ours(self, port_name: str) -> bool:
        running = self._running()
        if port_name in _RABBIT_PORTS:
            return (_EPMD if port_name == "EPMD" else RabbitServer.name) in running
        owners = {port: name for name, port in _SERVERS.items()}
        for service in self._table(Settings.load(self.home, self._environ), self._environ):
            owners[service.port_name] = service.name
        return owners.get(port_name) in running

    def servers(self, settings: Settings) -> "Servers":
        """The servers, whether they run or not."""
        ports = settings.ports

        def places(name: str) -> tuple[Path, Path, Path]:
            home = self.home
            return home.folder / name, home.logs / f"{name}.log", home.run / f"{name}.pid"

        folder, log, pid_file = places(PostgresServer.name)
        postgres = PostgresServer(
            folder,
            port=ports["POSTGRES"],
            password=settings.postgres_password,
            owned=False,
            log=log,
            pid_file=pid_file,
        )
        folder, log, pid_file = places(RabbitServer.name)
        rabbit = RabbitServer(
            folder,
            ports=RabbitPorts(
                amqp=ports["AMQP"],
                management=ports["RABBITMQ_MANAGEMENT"],
                distribution=ports["RABBITMQ_DISTRIBUTION"],
                epmd=ports["EPMD"],
            ),
            password=settings.rabbitmq_password,
            owned=False,
            log=log,
            pid_file=pid_file,
        )
        folder, log, pid_file = places(RedisServer.name)
        redis = RedisServer(folder, port=ports["REDIS"], owned=False, log=log, pid_file=pid_file)
        return Servers(postgres, rabbit, redis)

    def services(self, settings: Settings) -> list[ServiceProcess]:
        """The services of the table, whether they run or not."""
        return [self.process(service) for service in self._table(settings, self._environ)]

    def process(self, service: Service) -> ServiceProcess:
        """A service as a process of this stack."""
        return ServiceProcess(
            service,
            cwd=self.root,
            log=self.home.logs / f"{service.name}.log",
            pid_file=self.home.run / f"{service.name}.pid",
            owned=False,
        )

    def _row(self, name: str, port: int, serving: Callable[[], bool] | None) -> Row:
        process = ProcessId.read(self.home.run / f"{name}.pid")
        if process is None:
            return Row(name, None, port, "stopped", None, None)
        state = "running"
        if process.frozen:
            state = "frozen"
        elif serving is not None and not serving():
            state = "not ready"
        return Row(name, process.pid, port, state, process.resident_bytes(), process.uptime)

    @contextmanager
    def locked(self) -> Generator[None]:
        """Hold the stack alone; a second command waits for the first."""
        self.home.folder.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + _LOCK_SECONDS
        told = False
        while True:
            lock = os.open(self.home.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                if _lock_now(lock, self.home.lock_file):
                    yield
                    return
            finally:
                os.close(lock)
            if time.monotonic() >= deadline:
                raise BusyError(f"another command has held {self.home.lock_file} for too long")
            if not told:
                self._say("waiting for another command on this stack to finish")
                told = True
            time.sleep(0.2)


def _lock_now(lock: int, path: Path) -> bool:
    """Lock the open file, if nobody has it and it still is the one at this path."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(lock), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False
