"""A circuit breaker: after a failure a dependency is left alone for a while.

It turns "every request waits for the timeout" into "one request in each pause does".
"""

import time
from collections.abc import Callable


class Breaker:
    """Open for `pause` seconds after a failure; then one caller at a time may probe.

    Args:
        pause: seconds without calls after a failure.
        clock: monotonic seconds.
    """

    def __init__(self, pause: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._pause = pause
        self._clock = clock
        self._failing = False
        self._closed_again = 0.0

    def allows(self) -> bool:
        """Whether to call now. While failing, True is given once in each pause: to the probe."""
        if not self._failing:
            return True
        now = self._clock()
        if now < self._closed_again:
            return False
        self._closed_again = now + self._pause
        return True

    def failed(self) -> bool:
        """Report a failed call; True when it is the first after a success."""
        first = not self._failing
        self._failing = True
        self._closed_again = self._clock() + self._pause
        return first

    def succeeded(self) -> bool:
        """Report a call that was answered; True when it is the first after a failure."""
        recovered = self._failing
        self._failing = False
        return recovered
