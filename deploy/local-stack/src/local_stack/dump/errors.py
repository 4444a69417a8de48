"""What can go wrong with a dump, in words."""

from collections.abc import Generator
from contextlib import contextmanager
from subprocess import TimeoutExpired

import httpx
from aio_pika.exceptions import AMQPError

from local_stack.servers.postgres import SqlError


class DumpError(Exception):
    """A dump cannot be made or restored; the message says why and what to do."""


@contextmanager
def server_errors() -> Generator[None]:
    """Turns what the servers' clients raise into DumpError."""
    try:
        yield
    except SqlError as error:
        raise DumpError(f"PostgreSQL: {error}") from error
    except (
        AMQPError,
        httpx.HTTPError,
        ConnectionError,
        TimeoutError,
        TimeoutExpired,
    ) as error:
        raise DumpError(f"a server did not do as asked: {error!r}") from error
