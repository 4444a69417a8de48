"""The stacks that the tests across services run on."""

import os
import uuid
from collections.abc import Generator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness import LiveStack, MakeStack
from local_stack.servers import PostgresServer, RabbitServer, RedisServer


@pytest.fixture(scope="session")
def make_stack(
    tmp_path_factory: pytest.TempPathFactory,
    postgres_server: PostgresServer,
    rabbit_server: RabbitServer,
    redis_server: RedisServer,
) -> Generator[MakeStack]:
    """Makes running stacks, each with a database and a virtual host of its own."""
    with ExitStack() as stacks:

        def make(
            *, env: Mapping[str, str] | None = None, only: tuple[str, ...] | None = None
        ) -> LiveStack:
            name = f"stack_{uuid.uuid4().hex[:12]}"
            folder: Path = tmp_path_factory.mktemp(name)
            stack = LiveStack(
                folder,
                amqp_url=rabbit_server.create_vhost(name),
                management_url=rabbit_server.management_url,
                database_url=postgres_server.create_database(name),
                redis_url=redis_server.url_of(0),
                env=env,
                only=only,
            )
            return stacks.enter_context(stack)

        yield make


@pytest.fixture(scope="session")
def stack(make_stack: MakeStack) -> LiveStack:
    """One stack for all tests that do not mind each other's films."""
    return make_stack()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets; skips where it is not there."""
    named = os.environ.get("MOVIEMETRIC_SHARED_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no data sets in {folder}; set MOVIEMETRIC_SHARED_DATA to their folder")
    return folder
