"""What commands do to ratings and their sums. No I/O.

Of all commands of a user about a film the newest by its own time counts, of two at the same time
the one with the greater event id: a maximum, and so the same in any order and however often a
command comes. A rating that was taken back is kept as a time without a score.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from moviemetric_contracts import (
    Event,
    MovieRated,
    MovieUnrated,
    RateMovie,
    Rating,
    RatingAggregated,
    UnrateMovie,
)

MAX_AHEAD: Final = timedelta(minutes=5)
STEPS: Final = 20
# asyncpg takes the very first moment of the calendar for -infinity.
_EARLIEST: Final = datetime.min.replace(microsecond=1, tzinfo=UTC)

RatingKey = tuple[str, str]
"""A user and a film, by its own key."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The newest that is known of a user and a film; `half_steps` is None where it was taken
    back."""

    half_steps: int | None
    changed_at: datetime
    event_id: str

    @property
    def rating(self) -> Rating | None:
        """The score that counts, with its time."""
        if self.half_steps is None:
            return None
        return Rating(score=self.half_steps / 2, rated_at=self.changed_at)

    def is_older_than(self, other: "Stored") -> bool:
        """Whether `other` has the last word."""
        return (self.changed_at, self.event_id) < (other.changed_at, other.event_id)


@dataclass(frozen=True, slots=True)
class Command:
    """What a user said of a film, under whatever key."""

    user_id: str
    movie_id: str
    stored: Stored
    review: str | None
    event: Event[Any]

    def fact(self, movie_id: str, before: Stored | None) -> MovieRated | MovieUnrated | None:
        """What it did to the film; None where there was no rating to take back."""
        previous = None if before is None else before.rating
        if (rating := self.stored.rating) is not None:
            return MovieRated(
                movie_id=movie_id, user_id=self.user_id, rating=rating, previous=previous
            )
        if previous is None:
            return None
        return MovieUnrated(
            movie_id=movie_id,
            user_id=self.user_id,
            previous=previous,
            unrated_at=self.stored.changed_at,
        )


def command_of(event: Event[RateMovie] | Event[UnrateMovie], now: datetime) -> Command:
    """A command with its time: that of the event, at most five minutes ahead of `now`.

    Without this bound a rating that is dated in the year 9999 could never be changed again.
    """
    moment = now if event.time is None else max(_EARLIEST, min(event.time, now + MAX_AHEAD))
    data = event.data
    half_steps, review = None, None
    if isinstance(data, RateMovie):
        half_steps = round(data.score * 2)
        review = data.review if data.review and not data.review.isspace() else None
    stored = Stored(half_steps, moment, event.id)
    return Command(data.user_id, data.movie_id, stored, review, event)


def newest(commands: Iterable[Command], own_keys: Mapping[str, str]) -> dict[RatingKey, Command]:
    """The command that counts for each user and film; `own_keys` gives each key's film."""
    found: dict[RatingKey, Command] = {}
    for command in commands:
        key = (command.user_id, own_keys[command.movie_id])
        known = found.get(key)
        if known is None or known.stored.is_older_than(command.stored):
            found[key] = command
    return found


def _no_ratings() -> list[int]:
    return [0] * STEPS


@dataclass(slots=True)
class Aggregate:
    """The sum of a film's ratings: `histogram[i]` has the score (i + 1) / 2."""

    movie_id: str
    histogram: list[int] = field(default_factory=_no_ratings)
    revision: int = 0

    def replace(self, before: int | None, after: int | None) -> None:
        """A rating of `before` half steps is one of `after` now; None: there is none."""
        if before is not None:
            self.histogram[before - 1] -= 1
        if after is not None:
            self.histogram[after - 1] += 1

    def fact(self) -> RatingAggregated:
        """As others are told."""
        count = sum(self.histogram)
        return RatingAggregated(
            movie_id=self.movie_id,
            count=count,
            mean=total_of(self.histogram) / count if count else None,
            histogram=tuple(self.histogram),
            revision=self.revision,
        )


def total_of(histogram: Iterable[int]) -> float:
    """The sum of the scores; exact, for they are halves."""
    return sum(count * (step + 1) for step, count in enumerate(histogram)) / 2


def by_score(histogram: Iterable[int]) -> dict[str, int]:
    """`{"0.5": n, …, "10.0": n}`."""
    return {f"{(step + 1) / 2:.1f}": count for step, count in enumerate(histogram)}
