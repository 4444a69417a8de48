"""The stacks that the tests across services run on."""

import os
import uuid
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path

import pytest
from harness import LiveStack, MakeStack
from local_stack.servers import PostgresServer, RabbitServer, RedisServer


class _Maker:
    """Makes stacks, and ends them when asked: even idle ones take processor time from the tests."""

    def __init__(
        self,
        folders: pytest.TempPathFactory,
        postgres: PostgresServer,
        rabbit: RabbitServer,
        redis: RedisServer,
    ) -> None:
        self._folders = folders
        self._postgres = postgres
        self._rabbit = rabbit
        self._redis = redis
        self._databases = cycle(range(redis.databases))

    @contextmanager
    def stacks(self) -> Generator[MakeStack]:
        """Within the block, what it yields makes running stacks; they end with the block."""
        with ExitStack() as stacks:

            def make(
                *, env: Mapping[str, str] | None = None, only: tuple[str, ...] | None = None
            ) -> LiveStack:
                name = f"stack_{uuid.uuid4().hex[:12]}"
                folder: Path = self._folders.mktemp(name)
                database = next(self._databases)
                self._redis.flush(database)
                stack = LiveStack(
                    folder,
                    amqp_url=self._rabbit.create_vhost(name),
                    management_url=self._rabbit.management_url,
                    database_url=self._postgres.create_database(name),
                    redis_url=self._redis.url_of(database),
                    env=env,
                    only=only,
                )
                return stacks.enter_context(stack)

            yield make


@pytest.fixture(scope="session")
def _maker(
    tmp_path_factory: pytest.TempPathFactory,
    postgres_server: PostgresServer,
    rabbit_server: RabbitServer,
    redis_server: RedisServer,
) -> _Maker:
    return _Maker(tmp_path_factory, postgres_server, rabbit_server, redis_server)


@pytest.fixture(scope="module")
def make_stack(_maker: _Maker) -> Generator[MakeStack]:
    """Makes running stacks, each with a database and a virtual host of its own."""
    with _maker.stacks() as make:
        yield make


@pytest.fixture(scope="session")
def stack(_maker: _Maker) -> Generator[LiveStack]:
    """One stack for all tests that do not mind each other's films."""
    with _maker.stacks() as make:
        yield make()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets; skips where it is not there."""
    named = os.environ.get("MOVIEMETRIC_SHARED_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no data sets in {folder}; set MOVIEMETRIC_SHARED_DATA to their folder")
    return folder
