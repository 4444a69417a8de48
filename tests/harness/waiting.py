"""Bounded waiting: no test sleeps and hopes."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(
    what: str, ask: Callable[[], T | None], *, seconds: float = 30.0, every: float = 0.05
) -> T:
    """The first answer that is neither None nor False.

    Raises:
        AssertionError: there was none in time; says what was waited for and the last answer.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer is not None and answer is not False:
            return answer
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for: {what}"
        time.sleep(every)
