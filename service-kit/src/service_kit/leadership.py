"""One process of many leads: whoever holds an advisory lock on a connection of its own.

A killed leader's connection ends with it, so that another one takes over within `STANDBY_SECONDS`.
One that stands still, or whose machine is cut off, loses its session, and so the lock, after
`IDLE_SECONDS`. It may not know yet when its successor begins: two leaders at the same time are
rare, but what they do must bear it.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service_kit import metrics
from service_kit.database import Conflict, Database
from service_kit.session_locks import LockName, lock_keys, lock_session

log = logging.getLogger(__name__)

STANDBY_SECONDS: Final = 2.0
IDLE_SECONDS: Final = 8.0

_SPACE: Final = "leaders"
_LABEL: Final = "leader "
# PostgreSQL cuts an application's name off at 63 bytes.
_MAX_HOST: Final = 40
_FIND = text(f"""
    SELECT application_name
    FROM pg_locks JOIN pg_stat_activity USING (pid),
         LATERAL (SELECT {lock_keys("CAST(:space AS text)", ":name")}) AS lock (class, object)
    WHERE locktype = 'advisory' AND objsubid = 2 AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid = CAST(lock.class AS oid) AND objid = CAST(lock.object AS oid)
""")  # noqa: S608 -- made of constants


def this_process() -> str:
    """How this process is named as a leader: `<host>:<pid>`."""
    return f"{socket.gethostname()[:_MAX_HOST]}:{os.getpid()}"


async def lead(
    database: Database, name: str, work: Callable[[], Awaitable[object]], *, every: float
) -> None:
    """Stand by until nobody else leads, then do the work every so many seconds.

    Meant for a `Periodic`, which begins again after an error. Returns when the leadership is lost;
    when cancelled, another process can take over at once.

    Raises:
        Outage: the database is away.
    """
    lock = LockName(_SPACE, name)
    label = f"{_LABEL}{this_process()}"
    async with lock_session(database, lock, idle_seconds=IDLE_SECONDS, label=label) as session:
        while not await session.try_lock():  # noqa: ASYNC110 -- it is another process that tells
            await asyncio.sleep(STANDBY_SECONDS)
        log.info("leads from now on", extra={"leadership": name})
        metrics.LEADS.labels(name).set(1)
        try:
            while await session.is_alive():
                try:
                    await work()
                except Conflict as conflict:
                    log.info("the leader's work waits", extra={"reason": str(conflict)})
                await asyncio.sleep(every)
        finally:
            metrics.LEADS.labels(name).set(0)
        log.warning("leads no longer: its session ended", extra={"leadership": name})


async def find_leader(connection: AsyncConnection, name: str) -> str | None:
    """Which process leads now, as PostgreSQL knows it: `<host>:<pid>`."""
    found = await connection.execute(_FIND, {"space": _SPACE, "name": name})
    label = found.scalar_one_or_none()
    return None if label is None else str(label).removeprefix(_LABEL)
