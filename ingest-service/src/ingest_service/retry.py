"""How long to wait before asking a server again. Pure: the clock and the dice are given."""

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

_LONGEST_WAIT: Final = 86_400.0
_LONGEST_BACKOFF: Final = 30.0


def retry_after_seconds(header: str | None, *, now: datetime) -> float | None:
    """Seconds that a `Retry-After` header asks for, which holds seconds or an HTTP date.

    A date that has passed is 0; more than a day counts as a day; None where the header is missing
    or is neither.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text)
    else:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        # A date without a zone ("-0000") is UTC by RFC 5322.
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (aware - now).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_WAIT)


def growing_delay(attempt: int, *, base: float, dice: float) -> float:
    """Seconds to wait after the `attempt`-th failure in a row, the first being 1.

    Doubles each time up to 30 s. `dice` in [0, 1) takes up to half of it away, so that callers that
    failed together do not come back together.
    """
    grown = min(base * math.pow(2.0, min(attempt, 30) - 1), _LONGEST_BACKOFF)
    return grown * (1.0 - dice / 2.0)
