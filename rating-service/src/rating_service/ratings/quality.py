"""The Bayesian mean of a film's ratings: one 10 does not win, and a film without ratings has one.

    Q = (k·g + v·vote_average + Σ local scores) / (k + v + n),  v = min(vote_count, cap)

n local ratings, the source's votes as up to `cap` ratings, and k ratings of the global mean g. This
is the quality in the trend score of compute-service, with the same defaults.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityFormula:
    """The parameters of the mean. Immutable; a nonsensical value is refused with its name.

    Attributes:
        global_mean, global_weight: g and k, the mean that a film is drawn to and its worth in
            ratings.
        vote_cap: how many local ratings the source's votes can at most outweigh.
    """

    global_mean: float = 6.0
    global_weight: float = 10.0
    vote_cap: int = 50

    def __post_init__(self) -> None:
        """Check each parameter.

        Raises:
            ValueError: names the parameter, its value and what it must be.
        """
        if not 0 < self.global_mean <= 10:
            msg = f"quality: global_mean is {self.global_mean!r}, it must be above 0 and at most 10"
            raise ValueError(msg)
        if not 0 < self.global_weight <= 1e9:
            msg = f"quality: global_weight is {self.global_weight!r}, it must be above 0 and finite"
            raise ValueError(msg)
        if not 0 <= self.vote_cap <= 1e9:
            msg = f"quality: vote_cap is {self.vote_cap!r}, it must be at least 0"
            raise ValueError(msg)

    def mean(
        self, *, count: int, total: float, vote_average: float | None, vote_count: int
    ) -> float:
        """Q of a film with `count` local ratings, the sum of whose scores is `total`."""
        votes = 0 if vote_average is None else min(vote_count, self.vote_cap)
        worth = math.fsum((self.global_weight, votes, count))
        points = self.global_weight * self.global_mean + votes * (vote_average or 0.0) + total
        return min(points / worth, 10.0)
