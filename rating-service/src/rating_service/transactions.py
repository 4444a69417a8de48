"""Writing for HTTP: a transaction that another was in the way of is repeated."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from service_kit import Conflict, Outage

R = TypeVar("R")

MAX_CONFLICTS: Final = 3


async def repeated(transaction: Callable[[], Awaitable[R]]) -> R:
    """What `transaction` answers once nothing is in its way.

    Raises:
        Outage: others were in its way again and again.
    """
    for conflicts in range(MAX_CONFLICTS + 1):
        try:
            return await transaction()
        except Conflict as conflict:
            if conflicts == MAX_CONFLICTS:
                reason = f"other transactions are in the way: {conflict}"
                raise Outage("PostgreSQL", reason) from conflict
            await asyncio.sleep(random.uniform(0.01, 0.05) * 2**conflicts)  # noqa: S311 -- jitter
    raise AssertionError
