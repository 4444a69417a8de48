"""Scores of all films for one history, from the stored rows of the films in it. No I/O.

    score[q] = Σ_p w_p·(2^(-age/short)·short[p, q] + 2^(-age/long)·long[p, q])      rows' weights
             + Σ_p share_p·closeness[p, q]                                          rows' nearness
             + scale·popularity[q] / (1 + n)

with share_p = w_p·2^(-age/long) over the sum of these. It is what `model.recommender` computes, for
the rows have its factors in them already: (1 - c_q) in the weights, c_q·κ in the closeness. Of the
weights only the strongest of each row are kept (`model.rows`). So all that is needed is a row for
each film of the history: a few hundred numbers, read by key, and no model in memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from compute_service.recommendation.interactions import Float, Int

Number = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

RECENT: Final = 100  # how much of a history is looked at; older films have no weight left


@dataclass(frozen=True, slots=True)
class FilmRow:
    """What one film says of others.

    Attributes:
        number: its own.
        linear: whether the linear model knows it; other films do not age those it knows.
        targets: (n,) films, with `short` and `long`, (n,) weights towards each.
        near: (m,) films, with `closeness`, (m,).
    """

    number: int
    linear: bool
    targets: Number
    short: Float
    long: Float
    near: Number
    closeness: Float


@dataclass(frozen=True, slots=True)
class Profile:
    """What the films of a history give to others.

    Attributes:
        films: how many films of the history count.
        giver: (n,) which of them gives, 0 for the oldest.
        target: (n,) the film that it gives to.
        value: (n,) how much.
    """

    films: int
    giver: Int
    target: Number
    value: Float


@dataclass(frozen=True, slots=True)
class Scorer:
    """What all histories have in common.

    Attributes:
        short, long: half-lives, in interactions.
        scale: κ.
        popularity: (films,) from 0 to 1.
    """

    short: float
    long: float
    scale: float
    popularity: Float

    def profile(self, rows: Sequence[FilmRow], weights: Sequence[float] | Float) -> Profile:
        """What the newest of these films, oldest first, give with these weights."""
        rows = rows[-RECENT:]
        weight = np.asarray(weights, np.float32)[-RECENT:]
        # how many later films there are, of those that the linear model knows
        linear = np.array([row.linear for row in rows], np.bool_)
        later = np.cumsum(linear[::-1])[::-1] - linear
        short = (weight * np.exp2(-later / self.short)).astype(np.float32)
        long = (weight * np.exp2(-later / self.long)).astype(np.float32)
        share = weight * np.exp2(-np.arange(len(rows))[::-1] / self.long)
        share = (share / max(float(share.sum()), 1e-12)).astype(np.float32)

        targets: list[Number] = []
        values: list[Float] = []
        for place, row in enumerate(rows):
            targets += row.targets, row.near
            values += (
                short[place] * row.short + long[place] * row.long,
                share[place] * row.closeness,
            )
        lengths = [len(row.targets) + len(row.near) for row in rows]
        return Profile(
            len(rows),
            np.repeat(np.arange(len(rows)), lengths),
            np.concatenate([np.empty(0, np.int32), *targets]),
            np.concatenate([np.empty(0, np.float32), *values]),
        )

    def scores(self, profile: Profile) -> Float:
        """(films,) a score of every film, those of the history included."""
        popularity = np.float32(self.scale / (1 + profile.films)) * self.popularity
        given = np.bincount(profile.target, profile.value, len(self.popularity))
        return (popularity + given).astype(np.float32)

    def contributions(self, profile: Profile, items: Int) -> Float:
        """(films of the history, items) what each gives to the scores of these.

        Their sum over the history and the part of popularity are the score.
        """
        place = np.full(len(self.popularity), -1, np.int64)
        place[items] = np.arange(len(items))
        wanted = place[profile.target]
        found = wanted >= 0
        cells = profile.giver[found] * len(items) + wanted[found]
        parts = np.bincount(cells, profile.value[found], profile.films * len(items))
        return parts.reshape(profile.films, len(items)).astype(np.float32)


def best(scores: Float, possible: Mask, count: int) -> Int:
    """The numbers of the `count` best of the possible films, best first, ties by number."""
    candidates = np.flatnonzero(possible)
    values = scores[candidates]
    if len(candidates) > count:
        least = np.partition(values, len(values) - count)[len(values) - count]
        candidates = candidates[values >= least]
        values = scores[candidates]
    return candidates[np.argsort(-values, kind="stable")[:count]]


def diverse(scores: Float, alike: Float, count: int, diversity: float) -> Int:
    """Maximal marginal relevance (J. Carbonell, J. Goldstein, SIGIR 1998).

    Picks, one after the other, the greatest (1 - diversity)·score - diversity·likeness to the
    nearest one picked, with scores brought to 0 to 1.

    Returns:
        (at most count,) places in `scores`, in the order picked.
    """
    if not len(scores):
        return np.empty(0, np.int64)
    low, high = float(scores.min()), float(scores.max())
    relevance = (scores - low) / (high - low) if high > low else np.ones_like(scores)
    nearest = np.zeros_like(relevance)
    left = np.ones(len(scores), np.bool_)
    picked: list[int] = []
    while len(picked) < min(count, len(scores)):
        value = np.where(left, (1 - diversity) * relevance - diversity * nearest, -np.inf)
        found = int(np.argmax(value))
        picked.append(found)
        left[found] = False
        nearest = np.maximum(nearest, alike[found])
    return np.asarray(picked, np.int64)
