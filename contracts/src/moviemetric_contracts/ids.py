"""Identities of events: UUIDs of version 7 (RFC 9562, 5.7).

They begin with the time, so that the rows of what happens together are neighbours in an index; with
random ones every event dirties a page of its own in each service's inbox.
"""

import os
import time
from collections import deque
from typing import Final

_VERSION: Final = 7 << 76
_VARIANT: Final = 2 << 62
_RANDOM_A: Final = 0xFFF
_RANDOM_B: Final = (1 << 62) - 1
# Asking the system for random bytes costs more than all the rest; it is asked for many at a time.
_BYTES: Final = 10
_AT_A_TIME: Final = 256

_random: "deque[bytes]" = deque()
os.register_at_fork(after_in_child=_random.clear)


def new_id() -> str:
    """A UUID that nobody else has, in its usual form; any thread may ask for one."""
    random = int.from_bytes(_random_bytes())
    number = (
        time.time_ns() // 1_000_000 << 80
        | _VERSION
        | (random >> 62 & _RANDOM_A) << 64
        | _VARIANT
        | random & _RANDOM_B
    )
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _random_bytes() -> bytes:
    while True:
        try:
            return _random.popleft()
        except IndexError:
            drawn = os.urandom(_BYTES * _AT_A_TIME)
            _random.extend(drawn[start : start + _BYTES] for start in range(0, len(drawn), _BYTES))
