"""What becomes of a message, and the exceptions by which a handler says so.

    Ack      its effect is committed (or was before): the broker may forget it
    Retry    it failed, but may succeed later: comes back to this queue only, after a delay
    Parked   it can never succeed here: kept in `<queue>.dead` with its reason

An `Outage` is no outcome of a message: the intake waits, and nothing is settled.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ack:
    """The message is done with."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again; `delay` in seconds, None for the usual growing one."""

    reason: str
    delay: float | None = None


@dataclass(frozen=True, slots=True)
class Parked:
    """Keep the message aside for a person."""

    reason: str


Outcome = Ack | Retry | Parked


class Park(Exception):  # noqa: N818 -- an instruction to the runtime, named after what it does
    """Raised for an event that can never succeed; `reason` is what a person will read."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class RetryLater(Exception):  # noqa: N818 -- an instruction to the runtime
    """Raised for an event that may succeed later; `delay` in seconds, None for the usual one."""

    def __init__(self, reason: str, delay: float | None = None) -> None:
        self.reason = reason
        self.delay = delay
        super().__init__(reason)


class Outage(Exception):  # noqa: N818 -- a state of the world rather than an error of the caller
    """A dependency is away: the intake pauses, and no message spends an attempt.

    `retry_after` is how many seconds to wait before asking again, None for a short growing delay.
    """

    def __init__(self, dependency: str, reason: str, retry_after: float | None = None) -> None:
        self.dependency = dependency
        self.reason = reason
        self.retry_after = retry_after
        super().__init__(f"{dependency} is not available: {reason}")


def outcome_of(error: Exception) -> Outcome:
    """What an exception about a single event means for it."""
    match error:
        case Park(reason=reason):
            return Parked(reason)
        case RetryLater(reason=reason, delay=delay):
            return Retry(reason, delay)
        case _:
            return Retry(f"{type(error).__name__}: {error}"[:1000])
