"""The trend score: how much a film is watched now, weighed against how good it is.

    x(t)     = A(t)^a · Q^q,  a + q = 1                  a weighted geometric mean
    score(t) = 100 · x / (x + R)                         shown on 0 to 100; R is shown as 50
    A(t)     = prior(t) + Σ weight(kind_i) · 2^(-(t - t_i) / h)
    prior(t) = c · popularity · 2^(-(t - fetched_at) / h)
    Q        = (k·g + v·vote_average + Σ local scores) / (k + v + n),  v = min(vote_count, cap)

*Activity* A sums the impulses of every view and rating, each halved every half-life h (24 hours
for the window `day`, 7 days for `week`), on top of a prior from the source's own popularity.
*Quality* Q is a Bayesian mean: n local ratings, the source's votes as up to `cap` ratings, and k
ratings of the global mean g, so that one 10 does not win and a film without ratings still has a
value.

**Forward decay.** A decayed sum need not be recomputed as time passes (G. Cormode, V. Shkapenyuk,
D. Srivastava, B. Xu: Forward Decay: A Practical Time Decay Model for Streaming Systems, ICDE 2009):
measured from a fixed landmark T0 instead of from now,

    A(t) = 2^(L - (t - T0) / h),    L = log2 Σ w_i · 2^((t_i - T0) / h),

and L changes only when an impulse is added, by L ← log2(2^L + 2^l), in O(1). Kept as a logarithm it
cannot overflow: the years 1 and 9999 are both a few million half-lives from the landmark.
Adding commutes, so events may come in any order. Floating point makes that true to about
1e-12 of the activity rather than bit for bit: L is near 2500 for a half-life of a day, where
neighbouring doubles differ by 4.5e-13.

**Order without the clock.** log2 x(t) = a·L + q·log2 Q - a·(t - T0)/h. The last term is the same
for all films, and 100·x/(x + R) grows with x; so at any time films are in the order of

    rank_key = a·L + q·log2 Q,

which only an event of that very film changes. That is what is stored and indexed; the score is
derived from it when somebody reads it.

A film without any activity has no L: it is None here and NULL in the database, never an infinity.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from compute_service.facets import NONE, Facets

VERSION: Final = "trend-1"
LANDMARK: Final = datetime(2020, 1, 1, tzinfo=UTC)
MAX_AHEAD: Final = timedelta(minutes=5)
TEXT: Final = (
    "score = 100·x/(x + reference), "
    "x = activity^activity_exponent · quality^(1 - activity_exponent); "
    "activity = prior_weight·popularity·2^(-(now - fetched_at)/half_life)"
    " + Σ weight(kind)·2^(-(now - time)/half_life); "
    "quality = "
    "(global_weight·global_mean + min(vote_count, vote_cap)·vote_average + Σ local scores)"
    " / (global_weight + min(vote_count, vote_cap) + number of local scores)"
)

_SECONDS_PER_HOUR: Final = 3600.0
_LARGEST_EXPONENT: Final = 1022.0  # the sum of two such powers of 2 is still finite


class Window(StrEnum):
    """How far back activity counts; each window has its half-life."""

    DAY = "day"
    WEEK = "week"


class Kind(StrEnum):
    """What somebody did with a film; each kind has its weight."""

    VIEW = "view"
    RATING = "rating"


def clamp(moment: datetime, now: datetime) -> datetime:
    """An event's own time, but at most five minutes ahead of the server's clock.

    Without this bound one event dated in the year 9999 would keep a film on top for ever.
    """
    return min(moment, now + MAX_AHEAD)


def forward_seconds(moment: datetime) -> float:
    """Seconds from the landmark to `moment`; negative before it."""
    return (moment - LANDMARK).total_seconds()


def log2_add(x: float | None, y: float | None) -> float | None:
    """log2(2^x + 2^y) without leaving log space; None stands for log2(0)."""
    if x is None:
        return y
    if y is None:
        return x
    high, low = (x, y) if x >= y else (y, x)
    return high + math.log1p(math.exp2(low - high)) / math.log(2)


def log2_sum(exponents: Sequence[float]) -> float | None:
    """log2 Σ 2^e without leaving log space; None for no terms. Does not depend on their order."""
    if not exponents:
        return None
    high = max(exponents)
    return high + math.log2(math.fsum(math.exp2(exponent - high) for exponent in exponents))


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """What the source says about a film: votes on 0 to 10, and a popularity as of `fetched_at`.

    The score does not depend on the `facets`; they stand beside it.
    """

    vote_average: float | None
    vote_count: int
    popularity: float
    fetched_at: datetime
    facets: Facets = NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratings:
    """The local ratings of a film: how many, and the sum of their scores (0.5 to 10 each)."""

    count: int = 0
    total: float = 0.0

    def __add__(self, other: "Ratings") -> "Ratings":
        return Ratings(count=self.count + other.count, total=self.total + other.total)

    def __sub__(self, other: "Ratings") -> "Ratings":
        return Ratings(count=self.count - other.count, total=self.total - other.total)


@dataclass(frozen=True, slots=True)
class ActivityComponent:
    """How the activity of an explained score came about. `value` is as of the explanation's
    time."""

    value: float
    exponent: float
    half_life_hours: float
    from_events: float
    from_prior: float
    views: int
    weights: dict[str, float]
    popularity: float | None
    fetched_at: datetime | None
    prior_weight: float


@dataclass(frozen=True, slots=True)
class QualityComponent:
    """How the quality of an explained score came about. `value` is None outside the catalogue."""

    value: float | None
    exponent: float
    ratings_count: int
    ratings_mean: float | None
    vote_average: float | None
    vote_count: int | None
    votes_used: int
    vote_cap: int
    global_mean: float
    global_weight: float


@dataclass(frozen=True, slots=True)
class Components:
    """The two factors of a score."""

    activity: ActivityComponent
    quality: QualityComponent


@dataclass(frozen=True, slots=True)
class FormulaDescription:
    """Which formula computed a score, in words and with every parameter."""

    version: str
    text: str
    parameters: dict[str, float]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A score and all that it was computed from; `score` is None outside the catalogue."""

    score: float | None
    components: Components
    formula: FormulaDescription


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendFormula:
    """All parameters of the score. Immutable; a nonsensical value is refused with its name.

    Attributes:
        activity_exponent: a in the formula, between 0 and 1 exclusive; quality has 1 - a. At one
        half a
            film of quality 5 needs 1.6 times the activity of one of quality 8.
        half_life_day_hours, half_life_week_hours: h of each window, in hours. view_weight,
        rating_weight: what one view or rating adds to the activity; 0 ignores the kind.
        prior_weight: c, activity per point of popularity. At 0.05 the most popular of some
        thousand
            films (about 900 points at TMDB) starts with the worth of 45 views, a typical one with
            1 or 2, so that a few dozen views lift any film above all that nobody watches here.
        global_mean, global_weight: g and k, the mean that quality is drawn to and its worth in
        ratings. vote_cap: how many local ratings the source's votes can at most outweigh.
        reference: R, the raw score that is shown as 50.
    """

    activity_exponent: float = 0.5
    half_life_day_hours: float = 24.0
    half_life_week_hours: float = 168.0
    view_weight: float = 1.0
    rating_weight: float = 3.0
    prior_weight: float = 0.05
    global_mean: float = 6.0
    global_weight: float = 10.0
    vote_cap: int = 50
    reference: float = 10.0

    def __post_init__(self) -> None:
        """Check each parameter.

        Raises:
            ValueError: names the parameter, its value and what it must be.
        """
        self._require("activity_exponent", above=0, below=1)
        self._require("half_life_day_hours", at_least=1 / 60, at_most=87_600)
        self._require("half_life_week_hours", at_least=1 / 60, at_most=87_600)
        self._require("view_weight", at_least=0, at_most=1e6)
        self._require("rating_weight", at_least=0, at_most=1e6)
        self._require("prior_weight", at_least=0, at_most=1e6)
        self._require("global_mean", above=0, at_most=10)
        self._require("global_weight", above=0, at_most=1e9)
        self._require("vote_cap", at_least=0, at_most=1e9)
        self._require("reference", above=0, at_most=1e9)

    def _require(
        self,
        name: str,
        *,
        above: float = -math.inf,
        at_least: float = -math.inf,
        at_most: float = math.inf,
        below: float = math.inf,
    ) -> None:
        value: float = getattr(self, name)
        if not (above < value < below and at_least <= value <= at_most):  # false for NaN, too
            low = f"above {above:g}" if above > -math.inf else f"at least {at_least:g}"
            high = f"below {below:g}" if below < math.inf else f"at most {at_most:g}"
            msg = f"trend formula: {name} is {value!r}, it must be {low} and {high}"
            raise ValueError(msg)

    def half_life(self, window: Window) -> float:
        """The half-life of a window, in seconds."""
        hours = self.half_life_day_hours if window is Window.DAY else self.half_life_week_hours
        return hours * _SECONDS_PER_HOUR

    def weight(self, kind: Kind) -> float:
        """What one impulse of this kind is worth when it happens."""
        return self.view_weight if kind is Kind.VIEW else self.rating_weight

    def log_impulses(self, window: Window, kind: Kind, seconds: Iterable[float]) -> float | None:
        """log2 Σ weight · 2^((t_i - T0) / h) of impulses of one kind; `seconds` are t_i - T0."""
        weight = self.weight(kind)
        if weight == 0:
            return None
        half_life = self.half_life(window)
        total = log2_sum([second / half_life for second in seconds])
        return None if total is None else total + math.log2(weight)

    def log_prior(self, window: Window, popularity: float, fetched_at: datetime) -> float | None:
        """The prior in the same space as `log_impulses`; None when it is nothing."""
        if popularity <= 0 or self.prior_weight == 0:
            return None
        age = forward_seconds(fetched_at) / self.half_life(window)
        return math.log2(popularity) + math.log2(self.prior_weight) + age

    def votes_used(self, vote_average: float | None, vote_count: int) -> int:
        """v: as how many local ratings the source's votes count."""
        return 0 if vote_average is None else min(vote_count, self.vote_cap)

    def quality(self, film: Film, ratings: Ratings) -> float:
        """Q, above 0 and at most 10."""
        votes = self.votes_used(film.vote_average, film.vote_count)
        total = self.global_weight * self.global_mean + ratings.total
        if film.vote_average is not None:
            total += votes * film.vote_average
        return min(total / (self.global_weight + votes + ratings.count), 10.0)

    def rank_key(
        self, log_activity: float | None, log_prior: float | None, log_quality: float | None
    ) -> float | None:
        """What films are ordered by, at any time.

        Args:
            log_activity: of the events, in forward-decay space.
            log_prior: of the source's popularity, in the same space.
            log_quality: log2 Q.

        Returns:
            None for a film without any activity or without quality (not in the catalogue).
        """
        log_total = log2_add(log_activity, log_prior)
        if log_total is None or log_quality is None:
            return None
        return self.activity_exponent * log_total + (1 - self.activity_exponent) * log_quality

    def activity(self, window: Window, log_total: float | None, at: datetime) -> float:
        """A(t) of a sum in forward-decay space: at least 0, finite."""
        if log_total is None:
            return 0.0
        exponent = log_total - forward_seconds(at) / self.half_life(window)
        return math.exp2(min(exponent, _LARGEST_EXPONENT))

    def score(self, window: Window, rank_key: float | None, at: datetime) -> float:
        """The score on 0 to 100 at a time; 0 for a film in the catalogue without any activity."""
        if rank_key is None:
            return 0.0
        decay = self.activity_exponent * forward_seconds(at) / self.half_life(window)
        exponent = rank_key - decay - math.log2(self.reference)
        if exponent > 0:  # each branch raises 2 to a power below 0 only, which cannot overflow
            return 100 / (1 + math.exp2(-exponent))
        return 100 * math.exp2(exponent) / (1 + math.exp2(exponent))

    def describe(self) -> FormulaDescription:
        """The version, the formula in one line and every parameter by name."""
        return FormulaDescription(version=VERSION, text=TEXT, parameters=asdict(self))

    def fingerprint(self) -> str:
        """Tells apart formulas whose stored sums cannot be mixed: version, landmark, parameters."""
        parts = [VERSION, LANDMARK.isoformat(), asdict(self)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def explain(
        self,
        window: Window,
        *,
        film: Film | None,
        log_activity: float | None,
        views: int,
        ratings: Ratings,
        at: datetime,
    ) -> Explanation:
        """Take a score apart.

        Args:
            film: None while the film is not in the catalogue; then there is no score.
            log_activity: of the film's events in this window, in forward-decay space.
            views: how many views were counted, ever.
            ratings: the local ratings, known in or out of the catalogue.
            at: the time to explain the score for.
        """
        log_prior = (
            None if film is None else self.log_prior(window, film.popularity, film.fetched_at)
        )
        quality = None if film is None else self.quality(film, ratings)
        score = None
        if quality is not None:
            key = self.rank_key(log_activity, log_prior, math.log2(quality))
            score = self.score(window, key, at)
        from_events = self.activity(window, log_activity, at)
        from_prior = self.activity(window, log_prior, at)
        return Explanation(
            score=score,
            components=Components(
                activity=ActivityComponent(
                    value=from_events + from_prior,
                    exponent=self.activity_exponent,
                    half_life_hours=self.half_life(window) / _SECONDS_PER_HOUR,
                    from_events=from_events,
                    from_prior=from_prior,
                    views=views,
                    weights={kind.value: self.weight(kind) for kind in Kind},
                    popularity=None if film is None else film.popularity,
                    fetched_at=None if film is None else film.fetched_at,
                    prior_weight=self.prior_weight,
                ),
                quality=QualityComponent(
                    value=quality,
                    exponent=1 - self.activity_exponent,
                    ratings_count=ratings.count,
                    ratings_mean=ratings.total / ratings.count if ratings.count else None,
                    vote_average=None if film is None else film.vote_average,
                    vote_count=None if film is None else film.vote_count,
                    votes_used=(
                        0 if film is None else self.votes_used(film.vote_average, film.vote_count)
                    ),
                    vote_cap=self.vote_cap,
                    global_mean=self.global_mean,
                    global_weight=self.global_weight,
                ),
            ),
            formula=self.describe(),
        )
