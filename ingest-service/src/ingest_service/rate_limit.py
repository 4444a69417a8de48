"""Paces requests to one server, which counts them within any one second.

Requests go out evenly, in the order of asking. Two rules hold for every grant:

    the pace      grants are 1/rate seconds apart. One that comes late, because the process was
                  busy, lets the next ones come earlier, up to a tenth of a second.
    the window    as many grants as the server allows in a second are out at once. One is free again
                  a second after its request has reached the server.

When it reached the server is not known, only when it was answered: then it had been there for at
least as long as the quickest answer takes. So however unevenly network and servers delay requests,
up to 0.5 s, no second of the server's holds more than the rate. To count from the sending instead
would keep to the rate here, and break it there as soon as one stall lets two batches arrive at
once.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

_CATCH_UP: Final = 0.1
_LATEST_ARRIVAL: Final = 0.5  # behind that of the quickest
# The quickest of the last answers may not be quite the quickest there can be.
_MARGIN: Final = 0.01
_ANSWERS_REMEMBERED: Final = 100
_ANSWERS_TO_JUDGE_BY: Final = 20
_LOOK_AGAIN: Final = 0.05  # an answer may have come meanwhile


class PausedError(Exception):
    """The limiter is paused for longer than its callers have patience; `seconds` are left."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"paused for another {seconds:.1f} s")


class RateLimiter:
    """First come, first served. A waiter that is cancelled takes nothing from the others.

    `pause` holds every later grant back, also those that are being waited for already. A pause that
    has more than `patience` seconds left is not waited for: `acquire` raises.

    Args:
        per_second: what the server allows.
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
        self._allowance = max(1, math.floor(per_second))
        self._window = max(1.0, 1.0 / per_second) + _MARGIN
        self._interval = 1.0 / per_second
        self._patience = patience
        self._clock = clock
        self._sleep = sleep
        self._turn = asyncio.Lock()  # its waiters are served in order
        self._due = clock()
        self._paused_until = self._due
        self._out: list[Grant] = []
        self._times: deque[float] = deque(maxlen=_ANSWERS_REMEMBERED)

    async def acquire(self) -> "Grant":
        """Return when the next request may be sent; tell the grant when it is answered.

        Raises:
            PausedError: there is a pause longer than the patience.
        """
        async with self._turn:
            while True:
                if (left := self.paused_for()) > self._patience:
                    raise PausedError(left)
                now = self._clock()
                delay = max(self._due, self._paused_until) - now
                if delay <= 0:
                    delay = min(self._window_opens(now) - now, _LOOK_AGAIN)
                if delay <= 0:
                    break
                await self._sleep(delay)
            self._due = max(self._due, now - _CATCH_UP) + self._interval
            grant = Grant(self, now)
            self._out.append(grant)
            return grant

    def pause(self, seconds: float) -> None:
        """Grant nothing for so long; a shorter pause does not end a longer one."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    def paused_for(self) -> float:
        """Seconds that are left of the longest pause, 0 without one."""
        return max(0.0, self._paused_until - self._clock())

    def free_at(self, sent_at: float, arrived_by: float) -> float:
        """When a grant no longer counts, given by when its request had arrived for sure."""
        return min(max(arrived_by, sent_at), sent_at + _LATEST_ARRIVAL) + self._window

    def arrived_by(self, sent_at: float) -> float:
        """The latest moment at which a request that is answered now reached the server."""
        now = self._clock()
        self._times.append(now - sent_at)
        return now - (min(self._times) if len(self._times) >= _ANSWERS_TO_JUDGE_BY else 0.0)

    def _window_opens(self, now: float) -> float:
        self._out = [grant for grant in self._out if grant.free_at > now]
        if len(self._out) < self._allowance:
            return now
        return min(grant.free_at for grant in self._out)


class Grant:
    """Leave to send one request."""

    __slots__ = ("_limiter", "_sent_at", "free_at")

    def __init__(self, limiter: RateLimiter, sent_at: float) -> None:
        self._limiter = limiter
        self._sent_at = sent_at
        self.free_at = limiter.free_at(sent_at, math.inf)

    def answered(self) -> None:
        """The request's answer begins to arrive."""
        arrived_by = self._limiter.arrived_by(self._sent_at)
        self.free_at = self._limiter.free_at(self._sent_at, arrived_by)


class RefusalShare:
    """Tells a refusal that concerns one request from a limit that is being broken.

    A server that limits an address refuses a good part of what it is sent as soon as the limit is
    broken. Where nearly all else is answered at the same moment, the single request can wait alone.
    """

    def __init__(
        self,
        *,
        share: float = 0.2,
        seconds: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._share = share
        self._seconds = seconds
        self._clock = clock
        self._answers: deque[tuple[float, bool]] = deque()
        self._refused = 0
        self._forgot_at = -math.inf

    def answered(self) -> None:
        """A request was not refused."""
        self._note(refused=False)

    def refused(self, *, sent_at: float) -> bool:
        """A request was refused; whether more than the share of the last seconds' were.

        Then they are forgotten: what follows the pause is judged anew, and refusals of requests
        that were on their way already (`sent_at`, on the clock) do not prolong it.
        """
        if sent_at < self._forgot_at:
            return False
        self._note(refused=True)
        is_crowd = self._refused > self._share * len(self._answers)
        if is_crowd:
            self._answers.clear()
            self._refused = 0
            self._forgot_at = self._clock()
        return is_crowd

    def _note(self, *, refused: bool) -> None:
        now = self._clock()
        self._answers.append((now, refused))
        self._refused += refused
        while self._answers[0][0] < now - self._seconds:
            self._refused -= self._answers.popleft()[1]
