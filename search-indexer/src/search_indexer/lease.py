"""The right of one process at a time to do something, kept in the database.

It is prolonged while it is used. Should its holder die, however it dies, the next one has it when
it has run out, within a quarter of a minute.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Final
from uuid import uuid4

from service_kit import Conflict, Database, Outage

from search_indexer import repository

logger = logging.getLogger(__name__)

_DURATION: Final = timedelta(seconds=15)
_PROLONG_EVERY: Final = 4.0
# Before it has run out: nothing must be begun while another process may have it.
_TRUSTED_FOR: Final = 11.0
_ASK_EVERY: Final = 0.1


class Lease:
    """A named right, for one task of this process at a time.

    Args:
        name: of the row in `index_state`.

    Attributes:
        rebuilt_by: of that row, as it was when the lease was last taken or prolonged.
    """

    def __init__(self, database: Database, name: str) -> None:
        self.name = name
        self.rebuilt_by: str | None = None
        self._database = database
        self._holder = str(uuid4())
        self._busy = asyncio.Lock()
        self._trusted_until = 0.0

    @asynccontextmanager
    async def held(self, *, wait: float = 0.0) -> AsyncGenerator[bool]:
        """Whether the right is held, within the block; False while somebody else has it.

        Args:
            wait: seconds to wait for it.

        Raises:
            Outage: the database is away.
        """
        deadline = time.monotonic() + wait
        if not await self._acquired(wait):
            yield False
            return
        try:
            if not await self._taken(deadline):
                yield False
                return
            keeping = asyncio.create_task(self._keep(), name=f"lease {self.name}")
            try:
                yield True
            finally:
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)
                await self._give_back()
        finally:
            self._busy.release()

    def check(self) -> None:
        """Call before anything that only its holder may do.

        Raises:
            Outage: it is no longer certain that this process has it.
        """
        if time.monotonic() > self._trusted_until:
            raise Outage(self.name, "the right to write could not be kept")

    async def _acquired(self, wait: float) -> bool:
        if not self._busy.locked():
            return await self._busy.acquire()
        try:
            async with asyncio.timeout(wait):
                return await self._busy.acquire()
        except TimeoutError:
            return False

    async def _taken(self, deadline: float) -> bool:
        while True:
            if await self._prolong():
                return True
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(_ASK_EVERY)

    async def _prolong(self) -> bool:
        asked = time.monotonic()
        async with self._database.transaction() as connection:
            taken = await repository.take_lease(
                connection, engine=self.name, holder=self._holder, duration=_DURATION
            )
        if taken is None:
            self._trusted_until = 0.0
            return False
        self._trusted_until = asked + _TRUSTED_FOR
        self.rebuilt_by = taken.rebuilt_by
        return True

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_PROLONG_EVERY)
            try:
                if not await self._prolong():
                    return
            except (Outage, Conflict) as obstacle:
                logger.warning("a lease was not prolonged", extra={"reason": str(obstacle)})

    async def _give_back(self) -> None:
        self._trusted_until = 0.0
        with suppress(Outage, Conflict):
            async with self._database.transaction() as connection:
                await repository.give_lease_back(connection, engine=self.name, holder=self._holder)
