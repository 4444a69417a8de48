"""All services as processes of their own, on servers that the caller gives."""

import os
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, Self

import psycopg
from local_stack.ports import free_port
from local_stack.processes import in_parallel
from local_stack.services import Service, ServiceProcess
from psycopg.rows import dict_row

from harness.clients import Api, Management, Secrets, User
from harness.tap import TAP, Tap
from harness.waiting import eventually

ROOT = Path(__file__).parents[2]
MODULES = {
    "tmdb-standin": "tmdb_standin",
    "ingest-service": "ingest_service",
    "rating-service": "rating_service",
    "compute-service": "compute_service",
    "search-indexer": "search_indexer",
    "gateway": "gateway",
    "scheduler": "compute_service",
}
# Runs where it is asked for only: what a test does not ask for must not happen by the clock.
_OPTIONAL = frozenset({"scheduler"})
ADMIN = "admin"
PASSWORD = "an uncommon password of the tests"
# What a test does in seconds, people do in days.
_LIMITS = {
    f"LIMIT_{name}": "1000000/second"
    for name in (
        *("VIEWS_PER_ADDRESS", "COMMANDS_PER_ADDRESS", "RATINGS_PER_USER", "EVENTS_PER_KEY"),
        *("SIGNUPS_PER_ADDRESS", "LOGINS_PER_ADDRESS", "LOGINS_PER_ACCOUNT"),
        *("LOGINS_PER_ACCOUNT_AND_ADDRESS", "ADMIN_PER_USER"),
    )
}
# The same for every stack, however many run at the same time.
_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")


class MakeStack(Protocol):
    """Makes a running stack with a database and a virtual host of its own."""

    def __call__(
        self, *, env: Mapping[str, str] | None = None, only: tuple[str, ...] | None = None
    ) -> "LiveStack":
        """Start it; it ends with the module's tests."""
        ...


class LiveStack:
    """Services, stand-in and clients. As a context manager it runs inside the block.

    Args:
        folder: for logs and pid files.
        env: settings beyond the addresses, for all services.
        only: which processes to run; all but the scheduler if None.
    """

    def __init__(
        self,
        folder: Path,
        *,
        amqp_url: str,
        management_url: str,
        database_url: str,
        redis_url: str,
        env: Mapping[str, str] | None = None,
        only: tuple[str, ...] | None = None,
    ) -> None:
        self.amqp_url = amqp_url
        self.database_url = database_url
        self.redis_url = redis_url
        self.folder = folder
        self.token_keys = folder / "token-keys"
        wanted = MODULES.keys() - _OPTIONAL if only is None else set(only)
        names = [name for name in MODULES if name in wanted]
        ports = {name: free_port() for name in MODULES}
        self.urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        base = {
            **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            "AMQP_URL": amqp_url,
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "UPLOAD_STORE_URL": (folder / "uploads").absolute().as_uri(),
            "TMDB_BASE_URL": f"{self.urls['tmdb-standin']}/3",
            "TMDB_API_KEY": "stand-in",
            "TMDB_REQUESTS_PER_SECOND": "400",
            "TMDB_STANDIN_PORT": str(ports["tmdb-standin"]),
            "SEARCH_BACKEND": "postgres",
            # A machine that runs many tests at a time is slower than one that serves people.
            "READ_TIMEOUT": "10",
            "INGEST_URL": self.urls["ingest-service"],
            "RATING_URL": self.urls["rating-service"],
            "COMPUTE_URL": self.urls["compute-service"],
            "SEARCH_URL": self.urls["search-indexer"],
            **_LIMITS,
            **(env or {}),
        }
        self.processes = {name: self._process(name, ports[name], base, folder) for name in names}
        self.secrets = Secrets()
        self.api = User(self.urls["gateway"], ADMIN, PASSWORD, self.secrets)
        """Signed in as the administrator."""
        self.anonymous = Api(self.urls["gateway"], secrets=self.secrets)
        self._users: list[User] = []
        self.management = Management(management_url, amqp_url)

    def _process(
        self, name: str, port: int, base: Mapping[str, str], folder: Path
    ) -> ServiceProcess:
        command = (sys.executable, "-m", MODULES[name])
        standin = name == "tmdb-standin"
        env, migrate_env = {**base, "HTTP_PORT": str(port)}, dict[str, str]()
        if name == "rating-service":
            env = {
                "ACCESS_TOKEN_SECONDS": "3600",
                **env,
                "TOKEN_KEYS_FOLDER": str(self.token_keys),
            }
            migrate_env = {"FIRST_ADMIN_NAME": ADMIN, "FIRST_ADMIN_PASSWORD": PASSWORD}
        if name == "scheduler":
            env = {**env, "ROLES": "scheduler"}
        service = Service(
            name=name,
            port_name=name,
            port=port,
            command=command,
            # compute-service has migrated the scheduler's schema
            migrate=() if standin or name == "scheduler" else (*command, "migrate"),
            env=env,
            migrate_env=migrate_env,
            ready_path="/health" if standin else "/ready",
        )
        return ServiceProcess(
            service, cwd=ROOT, log=folder / f"{name}.log", pid_file=folder / f"{name}.pid"
        )

    def start(self) -> None:
        """Migrate and start all, and wait until each is ready."""
        processes = self.processes
        self._all({name: process.migrate for name, process in processes.items()})
        self._all({name: process.launch for name, process in processes.items()})
        self._all({name: process.wait_ready for name, process in processes.items()})

    def stop(self) -> None:
        """End all of them."""
        for client in (self.api, self.anonymous, self.management, *self._users):
            client.close()
        self._all({name: process.stop for name, process in self.processes.items()})

    @staticmethod
    def _all(jobs: Mapping[str, Callable[[], object]]) -> None:
        failures = in_parallel(jobs)
        for failure in failures.values():
            raise failure

    def __enter__(self) -> Self:
        """Start."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def sign_up(self, name: str, password: str = PASSWORD) -> User:
        """A new user."""
        body = {"name": name, "password": password}
        answer = self.anonymous.http.post("/users", json=body)
        assert answer.status_code == 201, answer.text
        return self.user(name, password)

    def user(self, name: str, password: str = PASSWORD) -> User:
        """A user who has signed up already."""
        user = User(self.urls["gateway"], name, password, self.secrets)
        self._users.append(user)
        return user

    def api_key(self, *scopes: str) -> str:
        """A new API key."""
        body = {"name": f"of the tests for {', '.join(scopes)}", "scopes": scopes}
        answer = self.api.http.post("/admin/api-keys", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()["key"]

    @contextmanager
    def another(
        self,
        template: str,
        name: str,
        *,
        script: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Generator[ServiceProcess]:
        """One more process of a service on a port of its own, perhaps with other settings, or wired
        by a script."""
        port = free_port()
        usual = self.processes[template]
        service = Service(
            name=name,
            port_name=template,
            port=port,
            command=usual.service.command if script is None else (sys.executable, str(script)),
            migrate=(),
            env={**usual.service.env, **(env or {}), "HTTP_PORT": str(port)},
        )
        process = ServiceProcess(
            service,
            cwd=ROOT,
            log=usual.log.with_name(f"{name}.log"),
            pid_file=usual.log.with_name(f"{name}.pid"),
        )
        process.start()
        try:
            yield process
        finally:
            process.stop()

    @contextmanager
    def another_gateway(
        self, name: str, *, script: Path | None = None, env: Mapping[str, str] | None = None
    ) -> Generator[str]:
        """A second gateway; yields its address."""
        with self.another("gateway", name, script=script, env=env) as process:
            yield f"http://127.0.0.1:{process.service.port}"

    def leaks(self) -> dict[str, int]:
        """Logs that hold a password, token, key or review that was used, and how many of them."""
        found = {
            file.name: len(
                self.secrets.found_in(file.read_text(encoding="utf-8", errors="replace"))
            )
            for file in self.folder.glob("*.log*")
        }
        assert found, "there are no logs to look into"
        assert self.secrets.values, "nothing was used that logs must not hold"
        return {name: count for name, count in found.items() if count}

    def tap(self, *keys: str) -> Tap:
        """Sees everything that is published while it is open, or what has these routing keys."""
        return Tap(self.amqp_url, *keys)

    def rows(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        """What a query on the services' database answers."""
        with (
            psycopg.connect(self.database_url, autocommit=True) as connection,
            connection.cursor(row_factory=dict_row) as cursor,
        ):
            cursor.execute(sql.encode(), parameters)
            return cursor.fetchall()

    def busy(self) -> dict[str, int]:
        """Queues and outboxes that are not empty."""
        counts = {
            name: depth
            for name, depth in self.management.depths().items()
            if not name.endswith(".dead") and not name.startswith(TAP)
        }
        [waiting] = self.rows("""
            SELECT (SELECT count(*) FROM catalog.outbox) AS "catalog.outbox",
                   (SELECT count(*) FROM rating.outbox) AS "rating.outbox",
                   (SELECT count(*) FROM compute.outbox) AS "compute.outbox",
                   (SELECT count(*) FROM search.outbox) AS "search.outbox",
                   (SELECT count(*) FROM catalog.announcements) AS "catalog.announcements"
        """)
        counts |= waiting
        return {name: count for name, count in counts.items() if count}

    def unpublished(self, schema: str) -> int:
        """Events in the outbox of a schema."""
        [row] = self.rows(f"SELECT count(*) AS n FROM {schema}.outbox")  # noqa: S608 -- a constant
        return row["n"]

    def drain(self, seconds: float = 60.0) -> None:
        """Wait until every queue and outbox is empty, and still is after the next report."""

        def empty() -> bool:
            if self.busy():
                return False
            # Depths are as old as the tick on which quorum queues report them.
            time.sleep(1.5)
            return not self.busy()

        try:
            eventually("queues and outboxes to be empty", empty, seconds=seconds, every=0.2)
        except AssertionError as error:
            msg = f"{error}; still waiting: {self.busy()}"
            raise AssertionError(msg) from None

    def parked(self) -> dict[str, int]:
        """Dead-letter queues that hold something."""
        return {
            name: depth
            for name, depth in self.management.depths().items()
            if name.endswith(".dead") and depth
        }
