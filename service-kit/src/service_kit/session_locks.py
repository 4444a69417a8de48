"""Locks that live as long as a connection of their own: advisory locks of PostgreSQL.

Nobody has to give one back. When a process is killed its connections end, and whoever asks next
gets the lock. A process that stands still, or whose machine vanished, keeps its connections for a
while: TCP keepalives notice a vanished machine after half a minute, and with `idle_seconds` the
server ends a session that asks nothing for so long, whatever the reason is.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service_kit.database import Database, translate
from service_kit.outcomes import Outage

# A session that has not answered by then cannot be relied upon.
ANSWER_SECONDS: Final = 5.0

_KEEPALIVE = text("""
    SELECT set_config('tcp_keepalives_idle', '10', false),
           set_config('tcp_keepalives_interval', '5', false),
           set_config('tcp_keepalives_count', '4', false)
""")
# Servers before PostgreSQL 14 do not know the setting; with them the keepalives have to do.
_END_WHEN_IDLE = text("""
    SELECT set_config(name, :milliseconds, false) FROM pg_settings
    WHERE name = 'idle_session_timeout'
""")
_SHOW_AS = text("SELECT set_config('application_name', :label, false)")
_ALIVE = text("SELECT 1")


def lock_keys(space: str, name: str) -> str:
    """The two numbers that name a lock, from SQL expressions for its space and name."""
    return f"hashtext({space} || ' in ' || current_schema()), hashtext({name})"


_TRY_LOCK = text(f"SELECT pg_try_advisory_lock({lock_keys('CAST(:space AS text)', ':name')})")


@dataclass(frozen=True, slots=True)
class LockName:
    """What is locked within the schema: `name` among the things of the kind `space`."""

    space: str
    name: str


class LockSession:
    """A connection that may come to hold one lock; made by `lock_session`."""

    def __init__(self, connection: AsyncConnection, lock: LockName) -> None:
        self._connection = connection
        self._lock = lock
        self._lost = False

    async def try_lock(self) -> bool:
        """Take the lock unless another session has it. Not to be called by who has it.

        Raises:
            Outage: the session has ended, or does not answer.
        """
        parameters = {"space": self._lock.space, "name": self._lock.name}
        return bool(await self._ask(_TRY_LOCK, parameters))

    async def is_alive(self) -> bool:
        """Whether the session, and with it a lock that was taken, is still there."""
        try:
            await self._ask(_ALIVE, {})
        except Exception:  # noqa: BLE001 -- whatever is wrong with it, it cannot be relied upon
            return False
        return True

    async def _ask(self, statement: TextClause, parameters: dict[str, str]) -> object:
        # A connection that failed would be opened anew at the next statement, without the lock.
        if self._lost:
            raise Outage("PostgreSQL", "the session of a lock was lost")
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return (await self._connection.execute(statement, parameters)).scalar_one()
        except TimeoutError as error:
            self._lost = True
            raise Outage("PostgreSQL", "the session of a lock does not answer") from error
        except Exception as error:
            self._lost = True
            raise translate(error) from error


@asynccontextmanager
async def lock_session(
    database: Database, lock: LockName, *, idle_seconds: float | None = None, label: str = ""
) -> AsyncGenerator[LockSession]:
    """A session of its own for one lock; leaving the block frees the lock.

    Args:
        idle_seconds: the server ends the session when nothing is asked for so long; `is_alive`
            asks something. None: never.
        label: shown in `pg_stat_activity` instead of the application's name.

    Raises:
        Outage: the database is away.
    """
    async with database.session() as connection:
        try:
            await connection.execute(_KEEPALIVE)
            if idle_seconds is not None:
                milliseconds = str(round(idle_seconds * 1000))
                await connection.execute(_END_WHEN_IDLE, {"milliseconds": milliseconds})
            if label:
                await connection.execute(_SHOW_AS, {"label": label})
        except Exception as error:
            raise translate(error) from error
        yield LockSession(connection, lock)
