"""Item-to-item weights that know order, solved in closed form.

What comes next is predicted from what came before. For each moment t of a user's history let
s(t) be the films up to t, each weighted by its age, and f(t) the films after t, weighted by how
soon they come:

    s_h(t)[p] = w_p · 2^(-(t - pos(p)) / h)                 pos(p) <= t
    f(t)[q]   = w_q · 2^(-(pos(q) - t - 1) / ahead)         pos(q) >  t

Positions count interactions, not hours: tastes move with what is watched, and an evening of rating
does not age overnight. Two half-lives are used side by side, h = `short` and h = `long`, so that
the newest films and the past weeks may say different things. With S = [s_short, s_long]:

    B = argmin |F - S·B|² + λ·|B|² = (SᵀS + λI)⁻¹ SᵀF,

the transition part of SLIST (M. Choi, J. Kim, J. Lee, H. Shim, J. Lee: Session-aware Linear
Item-Item Models for Session-based Recommendation, WWW 2021) with two horizons in one system. To it
is added, as its similarity part, EASE (H. Steck: Embarrassingly Shallow Autoencoders for Sparse
Data, WWW 2019), which looks at whole histories without their order:

    E = I - P·diag(1 / diag P),   P = (XᵀX + λ_E·I)⁻¹,   diag E = 0
    M_h = (1 - share)·B_h + share·κ·E

with κ bringing both to the same spread over the users' scores. A user's scores are linear in
the history, so that each film's contribution to a score can be told exactly:

    score[q] = Σ_p w_p·(2^(-age/short)·M_short[p, q] + 2^(-age/long)·M_long[p, q])

**Cost.** SᵀS and SᵀF are never formed from S: an entry is a sum over pairs of films that are at
most `reach` positions apart, with factors that depend on the distance alone. So that is
O(interactions · reach) time. The solve is O(items³) time; memory at its peak is 28 bytes · items²
(SᵀS of 2·items rows, SᵀF, E), 8 · items² stays. It does not grow with users.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from compute_service.recommendation.interactions import Float, History, Interactions
from compute_service.recommendation.model.sparse import Matrix, as_matrix, from_rows

_NEGLIGIBLE: Final = 2.0**-9  # a weight below this is left out of the sums
_SAMPLE: Final = 500  # users from whom κ is measured


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearOptions:
    """How the weights are fitted. A nonsensical value is refused with its name.

    Attributes:
        short, long: half-lives of the past, in interactions.
        ahead: half-life of the future to predict, in interactions.
        ridge: λ of the transitions; for weights near 1.
        similarity_ridge: λ_E of EASE.
        similarity_share: between 0 (transitions alone) and 1 (EASE alone).
        history_limit: how many of a user's newest interactions are learned from.
    """

    short: float = 2.0
    long: float = 12.0
    ahead: float = 2.0
    ridge: float = 700.0
    similarity_ridge: float = 1000.0
    similarity_share: float = 0.3
    history_limit: int = 2000

    def __post_init__(self) -> None:
        """Check each value.

        Raises:
            ValueError: names the option, its value and what it must be.
        """
        for name, low, high in (
            ("short", 0.1, 1e3),
            ("long", 0.1, 1e3),
            ("ahead", 0.1, 1e3),
            ("ridge", 1e-3, 1e9),
            ("similarity_ridge", 1e-3, 1e9),
            ("similarity_share", 0.0, 1.0),
            ("history_limit", 2, 10**6),
        ):
            value: float = getattr(self, name)
            if not low <= value <= high:  # false for NaN, too
                msg = f"linear model: {name} is {value!r}, it must be from {low:g} to {high:g}"
                raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class LinearModel:
    """Fitted weights: `short_weights` and `long_weights`, (items, items), row to column."""

    short_weights: Float
    long_weights: Float
    short: float
    long: float

    def factors(self, history: History) -> tuple[Float, Float]:
        """(n,) each: what the films of a history are multiplied with in either matrix."""
        age = np.arange(len(history.items))[::-1]
        return (
            (history.weights * np.exp2(-age / self.short)).astype(np.float32),
            (history.weights * np.exp2(-age / self.long)).astype(np.float32),
        )

    def scores(self, history: History) -> Float:
        """(items,) scores, for the films of the history, too."""
        short, long = self.factors(history)
        rows = history.items
        sums = short @ self.short_weights[rows] + long @ self.long_weights[rows]
        return np.asarray(sums, np.float32)

    def contributions(self, history: History, item: int) -> Float:
        """(n,) what each film of the history adds to the score of `item`; their sum is it."""
        short, long = self.factors(history)
        rows = history.items
        return short * self.short_weights[rows, item] + long * self.long_weights[rows, item]

    def scores_of_all(self, interactions: Interactions, first: int, last: int) -> Float:
        """(last - first, items) scores of the users from `first` up to `last`, exclusive."""
        return (
            _profiles(interactions, self.short, first, last) @ self.short_weights
            + _profiles(interactions, self.long, first, last) @ self.long_weights
        )

    def similar(self, item: int) -> Float:
        """(items,) how strongly films go together with `item`, in either order; may be negative."""
        both = self.short_weights[item] + self.long_weights[item]
        return both + self.short_weights[:, item] + self.long_weights[:, item]


def fit_linear(interactions: Interactions, options: LinearOptions | None = None) -> LinearModel:
    """Fit the weights of all films in `interactions`.

    The caller keeps the number of films such that 28 bytes · items² fit into memory.

    Args:
        interactions: at least one film.
        options: the defaults where left out.
    """
    options = options or LinearOptions()
    learned = interactions.newest(options.history_limit)
    similarity = (
        _similarity(learned, options.similarity_ridge) if options.similarity_share else None
    )
    short, long = _transitions(learned, options)
    if similarity is not None:
        share = options.similarity_share
        scale = _relative_spread(
            learned, LinearModel(short, long, options.short, options.long), similarity
        )
        similarity *= np.float32(share * scale)
        short *= np.float32(1 - share)
        short += similarity
        long *= np.float32(1 - share)
        long += similarity
    np.fill_diagonal(short, 0)
    np.fill_diagonal(long, 0)
    return LinearModel(short, long, options.short, options.long)


def _profiles(interactions: Interactions, half_life: float, first: int, last: int) -> Matrix:
    """(last - first, items) s_h of each user after the newest interaction."""
    start, end = np.searchsorted(interactions.user, [first, last])
    part = slice(int(start), int(end))
    decayed = interactions.weight[part] * np.exp2(-interactions.age[part] / half_life)
    bounds = np.searchsorted(interactions.user, np.arange(first, last + 1)) - start
    shape = (last - first, interactions.items)
    return from_rows(decayed.astype(np.float32), interactions.item[part], bounds, shape)


def _similarity(interactions: Interactions, ridge: float) -> Float:
    """E, (items, items)."""
    films = interactions.items
    histories = _profiles(interactions, math.inf, 0, interactions.users)
    gram = np.empty((films, films), np.float32)
    by_film = as_matrix(histories.T)
    for start in range(0, films, 512):  # in parts: a sparse product of all would be larger
        gram[start : start + 512] = (by_film[start : start + 512] @ histories).toarray()
    np.fill_diagonal(gram, gram.diagonal() + np.float32(ridge))
    inverse = np.linalg.inv(gram)
    inverse /= -inverse.diagonal().copy()
    np.fill_diagonal(inverse, 0)
    return inverse


def _transitions(interactions: Interactions, options: LinearOptions) -> tuple[Float, Float]:
    """B_short and B_long, (items, items) each."""
    films = interactions.items
    gram, future = _moments(interactions, options)
    diagonal = np.arange(2 * films)
    gram[diagonal, diagonal] += np.float32(options.ridge)
    # LAPACK counts columns first: seen transposed, nothing has to be copied
    factor = cho_factor(gram.T, lower=False, overwrite_a=True, check_finite=False)
    weights = cho_solve(factor, future.T, overwrite_b=True, check_finite=False)
    del gram, factor
    return np.ascontiguousarray(weights[:films]), np.ascontiguousarray(weights[films:])


def _moments(interactions: Interactions, options: LinearOptions) -> tuple[Float, Float]:
    """SᵀS, (2·items, 2·items) with only its lower triangle filled, and FᵀS, (items, 2·items).

    The last interaction of a user has nothing after it and is no moment to learn from. A film at
    position p and a later one at q, l apart, are together in the moments from q on:

        Σ_t 2^(-(t-p)/g) · 2^(-(t-q)/h) = 2^(-l/g) · (1 + r + r² + ...),  r = 2^(-1/g - 1/h)

    with as many terms as there are moments from q on, which is q's age.
    """
    films = interactions.items
    half_lives = (options.short, options.long)
    gram = np.zeros((2 * films, 2 * films), np.float32)
    future = np.zeros((films, 2 * films), np.float32)
    flat_gram, flat_future = gram.reshape(-1), future.reshape(-1)
    longest = max(*half_lives, options.ahead)
    reach = math.ceil(-math.log2(_NEGLIGIBLE) * longest)

    for distance in range(min(reach + 1, len(interactions))):
        first = np.flatnonzero(
            interactions.user[: len(interactions) - distance] == interactions.user[distance:]
        )
        second = first + distance
        earlier, later = interactions.item[first], interactions.item[second]
        product = interactions.weight[first] * interactions.weight[second]
        terms = interactions.age[second]
        for g, past in enumerate(half_lives):
            decay = 2.0 ** (-distance / past)
            if decay < _NEGLIGIBLE:
                continue
            for h, other in enumerate(half_lives):
                if distance == 0 and h > g:
                    continue  # the same entry as with g and h exchanged
                ratio = 2.0 ** (-1 / past - 1 / other)
                sums = decay * (1 - ratio**terms) / (1 - ratio)
                row, column = g * films + earlier, h * films + later
                place = np.maximum(row, column) * (2 * films) + np.minimum(row, column)
                np.add.at(flat_gram, place, (product * sums).astype(np.float32))
        if distance == 0:
            continue
        for g, past in enumerate(half_lives):
            steps = np.arange(distance)
            weight = np.exp2(-steps / past - (distance - 1 - steps) / options.ahead).sum()
            if weight < _NEGLIGIBLE:
                continue
            values = (product * weight).astype(np.float32)
            np.add.at(flat_future, later * (2 * films) + g * films + earlier, values)
    return gram, future


def _relative_spread(interactions: Interactions, model: LinearModel, similarity: Float) -> float:
    """κ: the mean spread of users' scores by the transitions, over that by E."""
    by_similarity = LinearModel(similarity, similarity, model.short, model.long)
    present = np.unique(interactions.user)
    sampled = present[np.linspace(0, len(present) - 1, min(_SAMPLE, len(present))).astype(np.int64)]
    few = np.isin(interactions.user, sampled)
    sample = Interactions(
        np.searchsorted(sampled, interactions.user[few]),
        interactions.item[few],
        interactions.weight[few],
        interactions.age[few],
        len(sampled),
        interactions.items,
    )
    spread = float(model.scores_of_all(sample, 0, len(sampled)).std(axis=1).mean())
    reference = float(by_similarity.scores_of_all(sample, 0, len(sampled)).std(axis=1).mean())
    return spread / reference if reference > 0 else 1.0
