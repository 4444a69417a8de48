"""What is kept of each film's trend, and how each kind of event changes it. No I/O.

What is counted stays with the key under which it came; a key that is another name of a film (see
`aliases`) points to the film, and the film's state has the sum over all such keys beside its own
counts. So keys can be joined and parted again, at any time and in any order, without looking at a
single event again.

The state is a pure function of its inputs: the set of impulses, the newest version of the film,
the newest aggregate of the ratings under each key, and which keys are the film's. Impulses commute
and versions are compared elsewhere, so no order of events makes a difference (see `trend` for the
precision).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from compute_service.facets import NONE, Facets
from compute_service.trend import Film, Kind, Ratings, TrendFormula, Window, log2_add

_WINDOWS: Final = tuple(Window)  # a tuple is walked through much faster than an enumeration


@dataclass(slots=True)
class WindowState:
    """One window of a film, all in forward-decay space.

    Attributes:
        log_activity: of the events under the film's own key; None without any.
        log_prior: of the source's popularity; None without any and outside the catalogue.
        rank_key: what the chart is ordered by; None while the film is not in the chart.
        alias_log_activity: of the events under its other keys; None without any.
    """

    log_activity: float | None = None
    log_prior: float | None = None
    rank_key: float | None = None
    alias_log_activity: float | None = None

    @property
    def log_events(self) -> float | None:
        """Of all the film's events."""
        return log2_add(self.log_activity, self.alias_log_activity)


@dataclass(slots=True)
class TrendState:
    """A key's trend, which is that of the film of this key unless `film` names another one.

    `views`, `ratings` and `ratings_revision` are what was counted under this very key, `alias_…`
    the sums over the film's other keys. `log_quality` is None exactly while there is no film of
    this key in the catalogue; so it is where `film` names another one.
    """

    movie_id: str
    views: int = 0
    ratings: Ratings = field(default_factory=Ratings)
    ratings_revision: int = 0
    log_quality: float | None = None
    day: WindowState = field(default_factory=WindowState)
    week: WindowState = field(default_factory=WindowState)
    film: str | None = None
    alias_views: int = 0
    alias_ratings: Ratings = field(default_factory=Ratings)
    facets: Facets = NONE

    @property
    def in_catalogue(self) -> bool:
        """Whether the film is registered and was not removed."""
        return self.log_quality is not None

    @property
    def is_known(self) -> bool:
        """A film that was removed before anything happened leaves an empty state behind."""
        return (
            self.in_catalogue
            or self.all_views > 0
            or self.all_ratings.count > 0
            or self.day.log_events is not None
        )

    @property
    def all_views(self) -> int:
        """The film's views, under whatever key they came."""
        return self.views + self.alias_views

    @property
    def all_ratings(self) -> Ratings:
        """The film's local ratings, under whatever key they came."""
        return self.ratings + self.alias_ratings

    def copy(self) -> "TrendState":
        """An equal one that shares nothing."""
        return replace(self, day=replace(self.day), week=replace(self.week))

    def of(self, window: Window) -> WindowState:
        """The state of one window."""
        return self.day if window is Window.DAY else self.week

    def add(
        self,
        formula: TrendFormula,
        kind: Kind,
        seconds: Sequence[float],
        *,
        under_alias: bool = False,
    ) -> None:
        """Somebody viewed or rated the film, at these times in seconds from the landmark.

        What comes under another key of the film is counted there, and added here as well.
        """
        if kind is Kind.VIEW:
            if under_alias:
                self.alias_views += len(seconds)
            else:
                self.views += len(seconds)
        for window in _WINDOWS:
            state = self.of(window)
            added = formula.log_impulses(window, kind, seconds)
            if under_alias:
                state.alias_log_activity = log2_add(state.alias_log_activity, added)
            else:
                state.log_activity = log2_add(state.log_activity, added)
        self._rank(formula)

    def aggregate(
        self, formula: TrendFormula, ratings: Ratings, revision: int, film: Film | None
    ) -> None:
        """The local ratings under this key changed; older revisions change nothing."""
        if revision > self.ratings_revision:
            self.ratings = ratings
            self.ratings_revision = revision
            self.register(formula, film)

    def aggregate_alias(
        self, formula: TrendFormula, before: Ratings, after: Ratings, film: Film | None
    ) -> None:
        """The local ratings under another key of the film changed."""
        self.alias_ratings = self.alias_ratings - before + after
        self.register(formula, film)

    def register(self, formula: TrendFormula, film: Film | None) -> None:
        """The film is new in the catalogue or has changed there; None: it is not in it (any more).

        What was counted stays either way, so that a film that comes back goes on where it was.
        """
        for window in _WINDOWS:
            self.of(window).log_prior = (
                None
                if film is None
                else formula.log_prior(window, film.popularity, film.fetched_at)
            )
        self.log_quality = (
            None if film is None else math.log2(formula.quality(film, self.all_ratings))
        )
        self.facets = NONE if film is None else film.facets
        self._rank(formula)

    def sum_aliases(self, others: Sequence["TrendState"]) -> None:
        """The film's other keys are these, and no more; `register` has to follow."""
        self.alias_views = sum(other.views for other in others)
        self.alias_ratings = sum((other.ratings for other in others), start=Ratings())
        for window in _WINDOWS:
            total: float | None = None
            for other in others:
                total = log2_add(total, other.of(window).log_activity)
            self.of(window).alias_log_activity = total

    def _rank(self, formula: TrendFormula) -> None:
        for state in (self.day, self.week):
            state.rank_key = formula.rank_key(state.log_events, state.log_prior, self.log_quality)


def settle(
    formula: TrendFormula,
    states: Mapping[str, TrendState],
    films_by_key: Mapping[str, str],
    films: Mapping[str, Film],
) -> None:
    """Let each key point to its film, and each film have the sum of its keys.

    Args:
        states: at least of all keys in `films_by_key`.
        films_by_key: of keys that belong together, all.
        films: those of the keys that are in the catalogue.
    """
    others: dict[str, list[TrendState]] = {}
    for key, film in sorted(films_by_key.items()):
        states[key].film = None if film == key else film
        if film != key:
            others.setdefault(film, []).append(states[key])
    for key in films_by_key:
        state = states[key]
        state.sum_aliases(others.get(key, ()))
        state.register(formula, films.get(key) if state.film is None else None)
