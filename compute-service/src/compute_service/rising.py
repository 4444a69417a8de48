"""Which films are rising: watched more in the last day than their own last week lets one expect.

Of a film that is viewed at a steady rate r, the decayed sum with half-life h is A_h = r·h / ln 2
(the integral of r·2^(-s/h) over all ages s). So the week's sum says what to expect of the day's:

    c        = h_day / h_week                       1/7 by default
    expected = c · A_week
    excess   = A_day - expected                     0 in the mean while the rate is steady

Events that come independently of each other (a Poisson process) make the excess vary: an event of
age s weighs k(s) = 2^(-s/h_day) - c·2^(-s/h_week) in it, and its variance is r·∫k²(s) ds, which
comes to

    variance = v · r·h_day / ln 2,   v = (1 - c)² / (2 · (1 + c))     0.32 by default

and r·h_day / ln 2 is what `expected` estimates. Hence

    rise = excess / sqrt(v · (expected + 1))

in standard deviations: how unlikely the last day is for a film that goes on as it did. The 1 stands
for a view or so that every film may have by chance, and keeps those that nobody ever looked at from
rising without bounds after two views.

Only what happened here counts, not the prior from the source's popularity, whose own decay is none
of a rate. Two things follow from the model. A rating weighs three views, so it comes as a burst of
three, and the bound is somewhat crossed more often by chance. And a film has no past before it was
first seen: in the first days everything that is watched is rising.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from compute_service.trend import TrendFormula, Window

# In standard deviations: by chance one steady film in forty is above it.
LEAST_RISE: Final = 2.0
# In views of the last day: fewer say nothing.
LEAST_ACTIVITY: Final = 5.0
_BY_CHANCE: Final = 1.0


@dataclass(frozen=True, slots=True)
class Pace:
    """The decayed sums of a film's events, with the day's half-life and with the week's."""

    movie_id: str
    day: float
    week: float


@dataclass(frozen=True, slots=True)
class Rise:
    """How much a film rises: `rise` in standard deviations, the others in views."""

    movie_id: str
    rise: float
    activity: float
    expected: float


def share_of_week(formula: TrendFormula) -> float:
    """c: which part of the week's sum the day's one is at a steady rate."""
    return formula.half_life(Window.DAY) / formula.half_life(Window.WEEK)


def rising(
    formula: TrendFormula, films: Iterable[Pace], *, least_activity: float = LEAST_ACTIVITY
) -> list[Rise]:
    """Those of the films that rise, most first, ties by key.

    Empty where the day's half-life is not shorter than the week's: then neither is the past of the
    other.
    """
    share = share_of_week(formula)
    if share >= 1:
        return []
    variance = (1 - share) ** 2 / (2 * (1 + share))
    found: list[Rise] = []
    for film in films:
        expected = share * film.week
        rise = (film.day - expected) / math.sqrt(variance * (expected + _BY_CHANCE))
        if film.day >= least_activity and rise >= LEAST_RISE:
            found.append(Rise(film.movie_id, rise, film.day, expected))
    return sorted(found, key=lambda film: (-film.rise, film.movie_id))
