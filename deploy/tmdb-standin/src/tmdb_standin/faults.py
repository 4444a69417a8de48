"""Faults on demand and a record of what was asked, both without I/O.

A `FaultPlan` says how the stand-in misbehaves; `Faults` decides, request by request, what the plan
means for it: the rate limit first, then ids that fail, then the faults queued for the next
requests, then the random ones. The same seed and order of requests give the same decisions.
"""

import json
import math
import random
from collections import Counter, deque
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveInt,
    field_validator,
)

from tmdb_standin.shapes import DETAIL_FIELDS, SERVER_ERRORS, Body, over_limit

_USUAL_LIMIT: Final = 40
_MAX_PATHS: Final = 200

Kind = Literal["429", "500", "502", "503", "504", "timeout"]
Outcome = Annotated[Kind, BeforeValidator(str)]


class NextFault(BaseModel):
    """The next `count` requests end as `outcome`."""

    model_config = ConfigDict(extra="forbid")

    outcome: Outcome
    count: PositiveInt = 1


class FaultPlan(BaseModel):
    """How the stand-in misbehaves. The default: not at all."""

    model_config = ConfigDict(extra="forbid")

    seed: int = 0
    latency: NonNegativeFloat | tuple[NonNegativeFloat, NonNegativeFloat] = 0.0
    """Seconds before every answer: fixed, or drawn evenly from a range."""
    requests_per_second: PositiveInt | None = None
    """More than these within any one second are answered 429."""
    retry_after: PositiveInt = 1
    """Seconds in the `Retry-After` of a 429 that does not come from the rate limit."""
    hang_seconds: NonNegativeFloat = 60.0
    """How long a request that ends as `timeout` hangs before it is answered 504."""
    next: list[NextFault] = Field(default_factory=list[NextFault])
    fractions: dict[Outcome, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict[Outcome, float]
    )
    """Which part of all requests ends as which outcome; the sum is at most 1."""
    fail_ids: dict[int, Outcome] = Field(default_factory=dict[int, Outcome])
    """Every request for these films ends so."""
    removed_ids: frozenset[int] = frozenset()
    """These films are unknown (404, in no list)."""
    overrides: dict[int, dict[str, Any]] = Field(default_factory=dict[int, dict[str, Any]])
    """Fields of the detail body that have another value, per film. `{}` only marks it changed."""

    @field_validator("latency")
    @classmethod
    def _range_rises(cls, value: float | tuple[float, float]) -> float | tuple[float, float]:
        if isinstance(value, tuple) and value[0] > value[1]:
            raise ValueError("the first of [shortest, longest] is greater than the second")
        return value

    @field_validator("fractions")
    @classmethod
    def _sum_is_part(cls, value: dict[Outcome, float]) -> dict[Outcome, float]:
        if sum(value.values()) > 1 + 1e-9:
            raise ValueError("the fractions sum up to more than 1")
        return value

    @field_validator("overrides")
    @classmethod
    def _fields_exist(cls, value: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
        for film_id, fields in value.items():
            unknown = sorted(set(fields) - (DETAIL_FIELDS - {"id"}))
            if unknown:
                raise ValueError(f"film {film_id}: cannot override {', '.join(unknown)}")
            try:
                json.dumps(fields, allow_nan=False)
            except ValueError as problem:
                raise ValueError(f"film {film_id}: NaN and Infinity are no JSON") from problem
        return value

    def edits(self) -> dict[int, Body | None]:
        """What is different about each film; None: it is removed."""
        return {**self.overrides, **dict.fromkeys(self.removed_ids)}


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to one request. `status` None: it is answered as usual."""

    delay: float = 0.0
    status: int | None = None
    body: Body | None = None
    retry_after: int | None = None
    hang: float | None = None
    limited: bool = False


class Faults:
    """A plan in force. Times are seconds on any clock that only rises."""

    def __init__(self, plan: FaultPlan) -> None:
        self.plan = plan
        self._random = random.Random(plan.seed)  # noqa: S311 - repeatable on purpose
        self._next = deque[tuple[Kind, int]]((fault.outcome, fault.count) for fault in plan.next)
        self._window: deque[float] = deque()

    def decide(self, now: float, film_id: int | None) -> Decision:
        delay = self._delay()
        limit = self.plan.requests_per_second
        if limit is not None:
            while self._window and now - self._window[0] >= 1.0:
                self._window.popleft()
            if len(self._window) >= limit:
                wait = max(1, math.ceil(self._window[0] + 1.0 - now))
                return Decision(delay, 429, over_limit(limit + 1, limit), wait, limited=True)
            self._window.append(now)
        outcome = self._outcome(film_id)
        if outcome is None:
            return Decision(delay)
        if outcome == "timeout":
            return Decision(delay, 504, SERVER_ERRORS[504], hang=self.plan.hang_seconds)
        status = int(outcome)
        if status == 429:
            allowed = limit or _USUAL_LIMIT
            return Decision(delay, 429, over_limit(allowed + 1, allowed), self.plan.retry_after)
        return Decision(delay, status, SERVER_ERRORS[status])

    def pending(self) -> int:
        """How many of the faults queued in `next` have not happened yet."""
        return sum(count for _, count in self._next)

    def _delay(self) -> float:
        latency = self.plan.latency
        return self._random.uniform(*latency) if isinstance(latency, tuple) else latency

    def _outcome(self, film_id: int | None) -> Kind | None:
        if film_id is not None and film_id in self.plan.fail_ids:
            return self.plan.fail_ids[film_id]
        if self._next:
            outcome, count = self._next.popleft()
            if count > 1:
                self._next.appendleft((outcome, count - 1))
            return outcome
        if self.plan.fractions:
            drawn = self._random.random()
            for outcome, fraction in self.plan.fractions.items():
                if drawn < fraction:
                    return outcome
                drawn -= fraction
        return None


class RequestLog:
    """Counts of the requests since the start or the last reset."""

    def __init__(self) -> None:
        self._statuses: dict[str, Counter[str]] = {}
        self._asked: Counter[int] = Counter()
        self._answered: Counter[int] = Counter()
        self._last_second: deque[float] = deque()
        self._total = self._limited = self._peak = self._in_flight = self._in_flight_peak = 0

    def arrived(self, now: float, film_id: int | None) -> None:
        """A request came in; `film_id` where it asks for a film's detail body."""
        self._total += 1
        self._in_flight += 1
        self._in_flight_peak = max(self._in_flight_peak, self._in_flight)
        while self._last_second and now - self._last_second[0] >= 1.0:
            self._last_second.popleft()
        self._last_second.append(now)
        self._peak = max(self._peak, len(self._last_second))
        if film_id is not None:
            self._asked[film_id] += 1

    def ended(self, path: str, outcome: str, film_id: int | None, *, limited: bool) -> None:
        """It was answered with an HTTP status, or `outcome` says what became of it."""
        self._in_flight -= 1
        self._limited += limited
        if path not in self._statuses and len(self._statuses) >= _MAX_PATHS:
            path = "(other)"
        self._statuses.setdefault(path, Counter())[outcome] += 1
        if film_id is not None and outcome == "200":
            self._answered[film_id] += 1

    def snapshot(self) -> dict[str, Any]:
        statuses: Counter[str] = Counter()
        for counts in self._statuses.values():
            statuses.update(counts)
        return {
            "total": self._total,
            "statuses": dict(statuses),
            "paths": {path: dict(counts) for path, counts in sorted(self._statuses.items())},
            "films": {
                str(film_id): {"asked": asked, "answered": self._answered[film_id]}
                for film_id, asked in sorted(self._asked.items())
            },
            "rate_limited": self._limited,
            "peak_per_second": self._peak,
            "in_flight": self._in_flight,
            "peak_in_flight": self._in_flight_peak,
        }
