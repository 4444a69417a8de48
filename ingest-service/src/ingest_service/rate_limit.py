"""Paces requests to one server: evenly, in the order of asking, never above a rate.

Every grant is at least 1/rate seconds after the one before, counted from when that one was really
given. So no window of one second, wherever it begins, holds more grants than the rate. Granting a
second's allowance at once and then waiting would keep to the rate here, and break it at the server
as soon as the network delays the first burst more than the second.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable


class PausedError(Exception):
    """The limiter is paused for longer than its callers have patience; `seconds` are left."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"paused for another {seconds:.1f} s")


class RateLimiter:
    """First come, first served. A waiter that is cancelled takes nothing from the others.

    `pause` holds every later grant back, also those that are being waited for already. A pause that
    has more than `patience` seconds left is not waited for: `acquire` raises.
    """

    def __init__(
        self,
        per_second: float,
        *,
        patience: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if per_second <= 0:
            msg = f"a rate must be above 0, got {per_second}"
            raise ValueError(msg)
        # The microsecond is for the sums of intervals, which are rounded.
        self._interval = 1.0 / per_second + 1e-6
        self._patience = patience
        self._clock = clock
        self._sleep = sleep
        self._turn = asyncio.Lock()  # its waiters are served in order
        self._next = clock()
        self._paused_until = self._next

    async def acquire(self) -> None:
        """Return when the next request may be sent.

        Raises:
            PausedError: there is a pause longer than the patience.
        """
        async with self._turn:
            while True:
                if (left := self.paused_for()) > self._patience:
                    raise PausedError(left)
                delay = max(self._next, self._paused_until) - self._clock()
                if delay <= 0:
                    break
                await self._sleep(delay)
            self._next = self._clock() + self._interval

    def pause(self, seconds: float) -> None:
        """Grant nothing for so long; a shorter pause does not end a longer one."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    def paused_for(self) -> float:
        """Seconds that are left of the longest pause, 0 without one."""
        return max(0.0, self._paused_until - self._clock())
