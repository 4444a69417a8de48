"""Recommendations: the linear model where films have a history, neighbours where they have none.

    score[q] = (1 - c_q)·L[q] + c_q·κ·N[q] + κ·popularity[q] / (1 + n)
    N[q]     = Σ_p w_p·2^(-age/long)·similarity[p, q] / Σ_p w_p·2^(-age/long)
    c_q      = trust / (trust + count_q);  1 for films outside the linear model

L is the linear model's score, N the closeness to what the user watched lately, by common users
(rare films) or by content, whichever is closer. A film's own history takes over from its content
as it grows. κ brings N to the spread of L (`_scale`). Popularity, ln(1 + count) relative to the
greatest, decides for a user without a history (n = 0) and fades with each film.

Everything but the last term is a sum over the films of the history, and that is what reasons are:
the films with the largest parts.

The linear model is fitted on the `dense_films` films that most users met; memory grows with their
square (28 bytes each at the peak, 8 to keep), the rest with films · neighbours. So a catalogue of
50,000 rated films costs the same solve as one of 5,000.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from compute_service.recommendation.interactions import Float, History, Int, Interactions
from compute_service.recommendation.model.linear import LinearModel, LinearOptions, fit_linear
from compute_service.recommendation.model.neighbours import Similarity, companions
from compute_service.recommendation.model.sparse import empty, greater_of
from compute_service.recommendation.scoring import RECENT, Mask, best, diverse

_SAMPLE: Final = 200  # users from whom κ is measured
_CANDIDATES: Final = 10  # times as many as asked for are considered where diversity is wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommenderOptions:
    """How a recommender is fitted.

    Attributes:
        linear: of the linear model.
        dense_films: how many films it holds; 5,000 need 0.7 GB while fitting.
        least_users: a film that fewer users met is left to its neighbours.
        trust: with as many users as this, history and content count alike.
        neighbours: kept of each rare film.
    """

    linear: LinearOptions = field(default_factory=LinearOptions)
    dense_films: int = 5000
    least_users: int = 1
    trust: float = 1.0
    neighbours: int = 50


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A film and its score; scores are comparable within one list only."""

    item: int
    score: float


@dataclass(frozen=True, slots=True)
class Reason:
    """A film of the history, and its share (0 to 1) of what speaks for the recommended one."""

    item: int
    share: float


@dataclass(frozen=True, slots=True)
class Recommender:
    """A fitted model. Make it with `fit`.

    Attributes:
        linear: None while no film has enough users.
        dense: (d,) the films of the linear model, by its own numbering.
        position: (items,) the opposite: a film's place in `dense`, or -1.
        similarity: (items, items) neighbours by content and by common users.
        companionship: (items, items) those by common users alone; of rare films.
        trust_in_neighbours: (items,) c in the formula.
        popularity: (items,) from 0 to 1.
        scale: κ.
        long: half-life of N, in interactions.
    """

    linear: LinearModel | None
    dense: Int
    position: Int
    similarity: Similarity
    companionship: Similarity
    trust_in_neighbours: Float
    popularity: Float
    scale: float
    long: float

    def scores(self, history: History) -> Float:
        """(items,) a score of every film, those of the history included."""
        recent = _recent(history)
        scores = self._neighbours_part(recent)
        if self.linear is not None:
            inside = self._inside(recent)
            certain = 1 - self.trust_in_neighbours[self.dense]
            scores[self.dense] += certain * self.linear.scores(inside)
        scores += np.float32(self.scale / (1 + len(recent.items))) * self.popularity
        return scores

    def recommend(
        self,
        history: History,
        count: int,
        *,
        allowed: Mask | None = None,
        diversity: float = 0.0,
    ) -> list[Recommendation]:
        """The best films for a user, best first, without those of the history.

        Args:
            history: oldest first; may be empty.
            count: how many at most.
            allowed: (items,) which films may be recommended; all where it is left out.
            diversity: 0 (by score alone) to 1 (as unlike each other as can be).
        """
        possible = np.ones(len(self.popularity), np.bool_) if allowed is None else allowed.copy()
        possible[history.items] = False
        return self._chosen(self.scores(history), possible, count, diversity)

    def similar(
        self,
        item: int,
        count: int,
        *,
        allowed: Mask | None = None,
        diversity: float = 0.0,
    ) -> list[Recommendation]:
        """The films most like `item`, best first; fewer than `count` where nothing is like it."""
        watched, near = self._likeness(item)
        scores = watched + near
        possible = scores > 0
        if allowed is not None:
            possible &= allowed
        possible[item] = False
        return self._chosen(scores, possible, count, diversity)

    def neighbours(self, item: int, count: int) -> tuple[Int, Float, Float]:
        """The films most like `item`, best first, as `similar` has them without more.

        Returns:
            (n,) each: their numbers, their scores, and how much of each score, from 0 to 1, is
            that people watch both, rather than what the films are about.
        """
        watched, near = self._likeness(item)
        scores = watched + near
        possible = scores > 0
        possible[item] = False
        found = best(scores, possible, count)
        by_users = _row_of(self.companionship, item)[found] >= self._row(item)[found]
        by_audience = watched[found] + np.where(by_users, near[found], 0)
        shares = np.clip(by_audience / scores[found], 0, 1)
        return found, scores[found], shares.astype(np.float32)

    def _likeness(self, item: int) -> tuple[Float, Float]:
        """(items,) each: by the linear model, and by closeness; their sum is how alike films are.

        A film without a history of its own is placed by content, whatever the others have.
        """
        c = self.trust_in_neighbours
        near = np.float32(self.scale) * self._row(item) * ((1 - c[item]) * c + c[item])
        watched = np.zeros_like(near)
        place = int(self.position[item])
        if self.linear is not None and place >= 0:
            linear = self.linear.similar(place)
            watched[self.dense] = (1 - c[item]) * (1 - c[self.dense]) * linear
        return watched, near

    def reasons(self, history: History, item: int, count: int = 3) -> list[Reason]:
        """Which films of the history speak for `item`, the strongest first; may be none."""
        recent = _recent(history)
        parts = self.contributions(recent, item)
        positive = np.maximum(parts, 0)
        total = float(positive.sum())
        strongest = np.argsort(-positive, kind="stable")[:count]
        return [
            Reason(int(recent.items[index]), float(positive[index]) / total)
            for index in strongest
            if positive[index] > 0
        ]

    def contributions(self, history: History, item: int) -> Float:
        """(n,) what each of the newest films adds to the score of `item`, oldest first.

        Their sum and the part of popularity are the score.
        """
        recent = _recent(history)
        c = self.trust_in_neighbours[item]
        row = self._row(item)
        parts = c * np.float32(self.scale) * self._shares(recent) * row[recent.items]
        place = int(self.position[item])
        if self.linear is not None and place >= 0:
            known = self.position[recent.items] >= 0
            parts[known] += (1 - c) * self.linear.contributions(self._inside(recent), place)
        return parts

    def _inside(self, history: History) -> History:
        """The history in the numbering of the linear model."""
        places = self.position[history.items]
        known = places >= 0
        return History(places[known], history.weights[known])

    def _shares(self, history: History) -> Float:
        """(n,) recency weights that sum up to 1."""
        age = np.arange(len(history.items))[::-1]
        weights = history.weights * np.exp2(-age / self.long)
        return (weights / max(float(weights.sum()), 1e-12)).astype(np.float32)

    def _neighbours_part(self, history: History) -> Float:
        """(items,) c·κ·N."""
        sums = self._shares(history) @ self.similarity[history.items]
        return self.trust_in_neighbours * np.float32(self.scale) * np.asarray(sums, np.float32)

    def _row(self, item: int) -> Float:
        """(items,) the similarity of all films to one."""
        return _row_of(self.similarity, item)

    def _chosen(
        self, scores: Float, possible: Mask, count: int, diversity: float
    ) -> list[Recommendation]:
        if not 0 <= diversity <= 1:
            msg = f"recommendations: diversity is {diversity!r}, it must be from 0 to 1"
            raise ValueError(msg)
        wanted = count if diversity == 0 else count * _CANDIDATES
        found = best(scores, possible, wanted)
        if diversity > 0:
            found = found[diverse(scores[found], self._alike(found), count, diversity)]
        return [Recommendation(int(item), float(scores[item])) for item in found]

    def _alike(self, films: Int) -> Float:
        """(n, n) from 0 to 1: how much films have in common."""
        alike = self.similarity[films][:, films].toarray()
        if self.linear is None:
            return alike
        places = self.position[films]
        known = np.flatnonzero(places >= 0)
        rows = places[known]
        linear = self.linear.long_weights[np.ix_(rows, rows)]
        linear = np.maximum(linear + linear.T, 0)
        if linear.size and linear.max() > 0:
            pairs = np.ix_(known, known)
            alike[pairs] = np.maximum(alike[pairs], linear / linear.max())
        return alike


def fit(
    interactions: Interactions,
    content: Similarity | None = None,
    options: RecommenderOptions | None = None,
) -> Recommender:
    """Fit a recommender.

    Args:
        interactions: may be empty; then content and nothing else decides.
        content: (items, items) from `content_similarity`.

    Raises:
        ValueError: `content` is of another number of films.
    """
    options = options or RecommenderOptions()
    films = interactions.items
    if content is not None and content.shape != (films, films):
        msg = f"recommender: content is {content.shape}, the interactions have {films} films"
        raise ValueError(msg)
    counts = interactions.counts()
    enough = np.flatnonzero(counts >= max(options.least_users, 1))
    dense = np.sort(enough[np.argsort(-counts[enough], kind="stable")[: options.dense_films]])
    position = np.full(films, -1, np.int64)
    position[dense] = np.arange(len(dense))
    linear = fit_linear(interactions.among(dense), options.linear) if len(dense) else None

    similarity = content if content is not None else empty((films, films))
    companionship = empty((films, films))
    rare = np.flatnonzero((counts > 0) & (position < 0))
    if len(rare):
        companionship = companions(interactions, rare, neighbours=options.neighbours)
        similarity = greater_of(similarity, companionship)

    c = (options.trust / (options.trust + counts)).astype(np.float32)
    c[position < 0] = 1
    popularity = np.log1p(counts)
    popularity = (popularity / max(float(popularity.max(initial=0)), 1e-12)).astype(np.float32)
    return Recommender(
        linear=linear,
        dense=dense,
        position=position,
        similarity=similarity,
        companionship=companionship,
        trust_in_neighbours=c,
        popularity=popularity,
        scale=_scale(linear, interactions.among(dense)),
        long=options.linear.long,
    )


def _row_of(matrix: Similarity, row: int) -> Float:
    values = np.zeros(int(matrix.shape[1]), np.float32)
    cells = slice(matrix.indptr[row], matrix.indptr[row + 1])
    values[matrix.indices[cells]] = matrix.data[cells]
    return values


def _recent(history: History) -> History:
    return History(history.items[-RECENT:], history.weights[-RECENT:])


def _scale(linear: LinearModel | None, interactions: Interactions) -> float:
    """κ: what the best of a hundred films typically scores; 1 without a linear model."""
    present = np.unique(interactions.user)
    if linear is None or not len(present):
        return 1.0
    sampled = present[np.linspace(0, len(present) - 1, min(_SAMPLE, len(present))).astype(np.int64)]
    typical = [
        float(np.quantile(linear.scores(_recent(interactions.history(int(user)))), 0.99))
        for user in sampled
    ]
    return max(float(np.median(typical)), 1e-6)
