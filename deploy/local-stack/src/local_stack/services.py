"""The table of services: what runs beside the servers, and how each is started and asked.

Every service keeps to one contract: it reads its settings from the environment; `python -m
<service> migrate` brings its schema and queues up to date and exits; `python -m <service>` serves
until SIGTERM, then finishes what it has in hand within 20 s; `GET /ready` answers 200 once it
serves.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx

from local_stack.processes import ManagedProcess, run_to_end
from local_stack.settings import Settings

STOP_SECONDS = 25.0
_MIGRATE_SECONDS = 120.0
_READY_SECONDS = 60.0
SCHEDULER = "scheduler"


@dataclass(frozen=True, slots=True)
class Service:
    """One service. `port_name` is its port's name in the settings; `migrate` is empty for a service
    that keeps nothing and declares nothing; `module` is its package when it has tables in a schema
    named `schema`. `migrate_env` is what `migrate` gets beyond `env`."""

    name: str
    port_name: str
    port: int
    command: tuple[str, ...]
    migrate: tuple[str, ...]
    env: Mapping[str, str]
    ready_path: str = "/ready"
    schema: str | None = None
    module: str | None = None
    migrate_env: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def ready_url(self) -> str:
        """Where it says that it serves."""
        return f"http://127.0.0.1:{self.port}{self.ready_path}"


def service_table(settings: Settings, environ: Mapping[str, str]) -> list[Service]:
    """All services of a stack with these settings, in the order of the status table."""
    base = settings.service_environment(environ)

    def service(name: str, port_name: str, module: str, schema: str | None) -> Service:
        port = settings.ports[port_name]
        command = (sys.executable, "-m", module)
        return Service(
            name=name,
            port_name=port_name,
            port=port,
            command=command,
            migrate=(*command, "migrate"),
            env={**base, "HTTP_PORT": str(port)},
            schema=schema,
            module=module,
        )

    standin = Service(
        name="tmdb-standin",
        port_name="TMDB_STANDIN",
        port=settings.ports["TMDB_STANDIN"],
        command=(sys.executable, "-m", "tmdb_standin"),
        migrate=(),
        env=base,
        ready_path="/health",
    )
    rating = service("rating-service", "RATING", "rating_service", "rating")
    rating = replace(
        rating,
        env={**rating.env, "TOKEN_KEYS_FOLDER": str(settings.token_keys)},
        migrate_env={
            "FIRST_ADMIN_NAME": settings.admin_name,
            "FIRST_ADMIN_PASSWORD": settings.admin_password,
        },
    )
    # A role of compute-service, whose migration is its own, too: all migrate before any starts.
    scheduler = service(SCHEDULER, "SCHEDULER", "compute_service", None)
    scheduler = replace(
        scheduler, migrate=(), module=None, env={**scheduler.env, "ROLES": "scheduler"}
    )
    return [
        *([standin] if settings.tmdb_standin else []),
        service("ingest-service", "INGEST", "ingest_service", "catalog"),
        rating,
        service("compute-service", "COMPUTE", "compute_service", "compute"),
        scheduler,
        service("search-indexer", "SEARCH", "search_indexer", "search"),
        service("gateway", "GATEWAY", "gateway", None),
    ]


class ServiceProcess:
    """A service as a process. An owned one ends with this process, however that ends."""

    def __init__(
        self, service: Service, *, cwd: Path, log: Path, pid_file: Path, owned: bool = True
    ) -> None:
        """Describe the process; nothing is started."""
        self.service = service
        self.log = log
        self.cwd = cwd
        self.managed = ManagedProcess(
            service.name,
            service.command,
            pid_file=pid_file,
            log=log,
            cwd=cwd,
            env=service.env,
            owned=owned,
        )

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self.managed.running

    def migrate(self) -> None:
        """Bring its schema and queues up to date. Raises StartError when that fails."""
        if self.service.migrate:
            run_to_end(
                f"{self.service.name}: migrate",
                self.service.migrate,
                seconds=_MIGRATE_SECONDS,
                log=self.log,
                cwd=self.cwd,
                env={**self.service.env, **self.service.migrate_env},
            )

    def launch(self) -> None:
        """Start the process without waiting for it."""
        self.managed.start()

    def wait_ready(self, seconds: float = _READY_SECONDS) -> None:
        """Wait until it serves. Raises StartError when it ends or does not within the time."""
        with httpx.Client(timeout=5.0, trust_env=False) as client:
            what = f"ready (GET {self.service.ready_url})"
            self.managed.wait_until(lambda: _is_ready(client, self.service), seconds, what)

    def start(self, seconds: float = _READY_SECONDS) -> None:
        """Start the process and wait until it serves."""
        self.launch()
        self.wait_ready(seconds)

    def ready(self) -> bool:
        """Whether it runs and serves, now."""
        if not self.running:
            return False
        with httpx.Client(timeout=2.0, trust_env=False) as client:
            return _is_ready(client, self.service)

    def stop(self, seconds: float = STOP_SECONDS) -> bool:
        """SIGTERM, then SIGKILL after `seconds`; returns whether it ended by itself."""
        return self.managed.stop(seconds=seconds)

    def kill(self) -> None:
        """SIGKILL it."""
        self.managed.kill()

    def freeze(self) -> None:
        """SIGSTOP it."""
        self.managed.freeze()

    def resume(self) -> None:
        """SIGCONT it."""
        self.managed.resume()


def _is_ready(client: httpx.Client, service: Service) -> bool:
    try:
        return client.get(service.ready_url).is_success
    except httpx.HTTPError:
        return False
