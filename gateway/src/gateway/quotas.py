"""How often something may be done: limits as they are written, and where one stands with them.

The counting is a sliding window made of two fixed ones: what was done in the window before counts
by the part of it that the sliding window still covers. It needs two numbers for each limit and
client, and lets nobody do twice as much around the end of a window.
"""

import math
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from limits import RateLimitItem, parse_many

NONE: Final = "none"
_MAX_CLIENTS: Final = 100_000


def parse_limits(text: str) -> tuple[RateLimitItem, ...]:
    """`10/second;1000/hour` as limits; empty and `none` are no limit.

    Raises:
        ValueError: saying how a limit is written.
    """
    if text.strip().lower() in ("", NONE):
        return ()
    try:
        return tuple(parse_many(text))
    except ValueError:
        msg = f"{text!r} is no limit; write for instance 120/minute, 60/15minutes or none"
        raise ValueError(msg) from None


class Quota(NamedTuple):
    """Where a client stands with a limit.

    Attributes:
        limit: how often in a window.
        remaining: how often still.
        reset: whole seconds until there is more again.
        exceeded: whether this time was one too many; it was not counted then.
    """

    limit: int
    remaining: int
    reset: int
    exceeded: bool = False


def quota_of(
    limit: int,
    seconds: float,
    window: tuple[int, float, int],
    left: float,
    *,
    exceeded: bool,
) -> Quota:
    """The quota in the state of its two windows.

    Args:
        limit: how often in a window of `seconds`.
        window: (count of the window before, seconds that it still counts for, present count).
        left: seconds until the present window ends.
    """
    before, before_left, present = window
    weighted = math.floor(before * before_left / seconds) + present
    remaining = max(0, limit - weighted)
    if not exceeded and remaining:
        return Quota(limit, remaining, math.ceil(left))
    wait = left  # a window that is full to its limit has begun to fade a moment after its end
    if before and present < limit:
        wait = before_left - (limit - present) * seconds / before
    return Quota(limit, remaining, max(1, math.floor(wait) + 1), exceeded)


class LocalCounter:
    """One limit, counted in this process.

    The clients of two windows at most are remembered; when there are too many of them the present
    window ends early, which lets some of them do more than they should.
    """

    def __init__(self, item: RateLimitItem, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = item.amount
        self._seconds = float(item.get_expiry())
        self._clock = clock
        self._started = clock()
        self._before: dict[str, int] = {}
        self._present: dict[str, int] = {}

    def hit(self, client: str) -> Quota:
        """Count one more of `client`, unless that is too many."""
        elapsed = self._elapsed()
        before = self._before.get(client, 0)
        present = self._present.get(client, 0)
        left = self._seconds - elapsed
        # The common case first: it runs for every view.
        weighted = present + (int(before * left / self._seconds) if before else 0)
        if weighted < self._limit:
            self._present[client] = present + 1
            if remaining := self._limit - weighted - 1:
                return Quota(self._limit, remaining, int(left) + 1)
            present += 1
        window = (before, left, present)
        exceeded = weighted >= self._limit
        return quota_of(self._limit, self._seconds, window, left, exceeded=exceeded)

    def _elapsed(self) -> float:
        now = self._clock()
        elapsed = now - self._started
        if elapsed >= self._seconds or len(self._present) >= _MAX_CLIENTS:
            gone = elapsed >= 2 * self._seconds
            self._before, self._present = {} if gone else self._present, {}
            self._started = now - elapsed % self._seconds if elapsed >= self._seconds else now
            elapsed = now - self._started
        return elapsed
