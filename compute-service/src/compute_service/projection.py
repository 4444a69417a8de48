"""What is kept of each film's trend, and how each kind of event changes it. No I/O.

The state is a pure function of its inputs: the set of impulses, the newest version of the film
and the newest aggregate of its ratings. Impulses commute and versions are compared elsewhere, so
no order of events makes a difference (see `trend` for the precision).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from compute_service.trend import Film, Kind, Ratings, TrendFormula, Window, log2_add


@dataclass(slots=True)
class WindowState:
    """One window of a film, all in forward-decay space.

    Attributes:
        log_activity: of the film's events; None without any.
        log_prior: of the source's popularity; None without any and outside the catalogue.
        rank_key: what the chart is ordered by; None while the film is not in the chart.
    """

    log_activity: float | None = None
    log_prior: float | None = None
    rank_key: float | None = None


@dataclass(slots=True)
class TrendState:
    """A film's trend. `log_quality` is None exactly while the film is not in the catalogue."""

    movie_id: str
    views: int = 0
    ratings: Ratings = field(default_factory=Ratings)
    ratings_revision: int = 0
    log_quality: float | None = None
    day: WindowState = field(default_factory=WindowState)
    week: WindowState = field(default_factory=WindowState)

    @property
    def in_catalogue(self) -> bool:
        """Whether the film is registered and was not removed."""
        return self.log_quality is not None

    def of(self, window: Window) -> WindowState:
        """The state of one window."""
        return self.day if window is Window.DAY else self.week

    def add(self, formula: TrendFormula, kind: Kind, seconds: Sequence[float]) -> None:
        """Somebody viewed or rated the film, at these times in seconds from the landmark."""
        if kind is Kind.VIEW:
            self.views += len(seconds)
        for window in Window:
            state = self.of(window)
            state.log_activity = log2_add(
                state.log_activity, formula.log_impulses(window, kind, seconds)
            )
        self._rank(formula)

    def aggregate(
        self, formula: TrendFormula, ratings: Ratings, revision: int, film: Film | None
    ) -> None:
        """The local ratings changed; older revisions change nothing."""
        if revision > self.ratings_revision:
            self.ratings = ratings
            self.ratings_revision = revision
            self.register(formula, film)

    def register(self, formula: TrendFormula, film: Film | None) -> None:
        """The film is new in the catalogue or has changed there; None: it is not in it (any more).

        What was counted stays either way, so that a film that comes back goes on where it was.
        """
        for window in Window:
            self.of(window).log_prior = (
                None
                if film is None
                else formula.log_prior(window, film.popularity, film.fetched_at)
            )
        self.log_quality = None if film is None else math.log2(formula.quality(film, self.ratings))
        self._rank(formula)

    def _rank(self, formula: TrendFormula) -> None:
        for state in (self.day, self.week):
            state.rank_key = formula.rank_key(state.log_activity, state.log_prior, self.log_quality)
