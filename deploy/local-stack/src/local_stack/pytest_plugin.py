"""pytest fixtures with private PostgreSQL, RabbitMQ and Redis servers.

Load with `-p local_stack.pytest_plugin` or `pytest_plugins`. After collection, each server that a
collected test asks for starts in the background; the first test that needs it waits for it. All end
with the test run, also when it is interrupted or killed.
"""

import shutil
import tempfile
import threading
import uuid
from collections.abc import Generator
from itertools import cycle
from pathlib import Path

import pytest

from local_stack.accounts import can_enter, server_account
from local_stack.servers import PostgresServer, RabbitServer, RedisServer, Server


class _Background:
    """A server that starts in a thread; `get` waits for it and raises what stopped it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._start, name=server.name, daemon=True)
        self._thread.start()

    def _start(self) -> None:
        try:
            self.server.start()
        except Exception as error:  # noqa: BLE001 - raised in the test that needs the server
            self._error = error

    def get(self) -> Server:
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self.server

    def end(self) -> None:
        self._thread.join()
        self.server.kill()


class _Servers:
    """The servers of one test run, each started at most once."""

    fixtures = ("postgres_server", "rabbit_server", "redis_server")

    def __init__(self) -> None:
        self._started: dict[str, _Background] = {}
        self._folders: list[Path] = []

    def start(self, fixture: str) -> _Background:
        if fixture not in self._started:
            self._started[fixture] = _Background(self._make(fixture))
        return self._started[fixture]

    def end(self) -> None:
        for background in self._started.values():
            background.end()
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)
        self._started.clear()
        self._folders.clear()

    def _make(self, fixture: str) -> Server:
        folder = scratch_folder()
        self._folders.append(folder)
        match fixture:
            case "postgres_server":
                return PostgresServer(folder, durable=False, remove=folder)
            case "rabbit_server":
                return RabbitServer(folder, statistics_interval=1.0, remove=folder)
            case _:
                return RedisServer(folder, remove=folder)


_RECOVERY_SECONDS = 20.0
_servers = pytest.StashKey[_Servers]()


def scratch_folder() -> Path:
    """A new folder that the servers' own accounts can enter; the caller deletes it."""
    account = server_account("postgres")
    usual = Path(tempfile.gettempdir())
    base = usual if can_enter(account, usual) else Path("/var/tmp")  # noqa: S108 - random name below
    folder = Path(tempfile.mkdtemp(prefix="moviemetric-", dir=base))
    folder.chmod(0o755)
    return folder


def pytest_configure(config: pytest.Config) -> None:
    """Make the place where the run's servers are kept."""
    config.stash[_servers] = _Servers()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start in the background what the collected tests will ask for."""
    if session.config.option.collectonly:
        return
    needed = {
        fixture
        for item in session.items
        if isinstance(item, pytest.Function)
        for fixture in item.fixturenames
    }
    for fixture in _Servers.fixtures:
        if fixture in needed:
            session.config.stash[_servers].start(fixture)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End all servers."""
    config.stash[_servers].end()


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> PostgresServer:
    """A PostgreSQL server of this test run."""
    server = pytestconfig.stash[_servers].start("postgres_server").get()
    assert isinstance(server, PostgresServer)  # noqa: S101 -- made for nothing else
    return server


@pytest.fixture(scope="session")
def rabbit_server(pytestconfig: pytest.Config) -> RabbitServer:
    """A RabbitMQ server of this test run, with its management API."""
    server = pytestconfig.stash[_servers].start("rabbit_server").get()
    assert isinstance(server, RabbitServer)  # noqa: S101 -- made for nothing else
    return server


@pytest.fixture(scope="session")
def redis_server(pytestconfig: pytest.Config) -> RedisServer:
    """A Redis server of this test run."""
    server = pytestconfig.stash[_servers].start("redis_server").get()
    assert isinstance(server, RedisServer)  # noqa: S101 -- made for nothing else
    return server


@pytest.fixture
def postgres_database(postgres_server: PostgresServer) -> Generator[str]:
    """`postgresql://` URL of an empty database, dropped after the test."""
    _revive(postgres_server)
    name = f"test_{uuid.uuid4().hex}"
    yield postgres_server.create_database(name)
    _revive(postgres_server)
    postgres_server.drop_database(name)


@pytest.fixture
def rabbit_vhost(rabbit_server: RabbitServer) -> Generator[str]:
    """`amqp://` URL of an empty virtual host, deleted after the test."""
    _revive(rabbit_server)
    name = f"test-{uuid.uuid4().hex}"
    yield rabbit_server.create_vhost(name)
    _revive(rabbit_server)
    process = rabbit_server.managed.process
    # A queue that is deleted while it is still being recovered after a start takes RabbitMQ 3.10's
    # supervisor of dead-lettering down with it, and no such queue can be declared from then on.
    if process is not None and process.uptime > _RECOVERY_SECONDS:
        rabbit_server.delete_vhost(name)


_databases = cycle(range(RedisServer.databases))


@pytest.fixture
def redis_database(redis_server: RedisServer) -> str:
    """`redis://` URL of an empty database."""
    _revive(redis_server)
    database = next(_databases)
    redis_server.flush(database)
    return redis_server.url_of(database)


def _revive(server: Server) -> None:
    """Bring back a server that a test has frozen, stopped or killed."""
    server.resume()
    server.start()
