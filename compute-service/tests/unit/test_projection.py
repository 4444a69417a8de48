"""How events change the state of a film, whatever their order."""

import itertools
import math
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from compute_service.projection import TrendState
from compute_service.trend import Film, Kind, Ratings, TrendFormula, Window, forward_seconds

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
FORMULA = TrendFormula()
FILM = Film(vote_average=8.0, vote_count=1000, popularity=200.0, fetched_at=NOW)
SECONDS = forward_seconds(NOW)


def test_a_film_is_ranked_only_while_it_is_in_the_catalogue() -> None:
    state = TrendState("tmdb-1")
    state.add(FORMULA, Kind.VIEW, [SECONDS] * 6)
    assert (state.views, state.in_catalogue) == (6, False)
    assert (state.day.rank_key, state.week.rank_key) == (None, None)

    state.register(FORMULA, FILM)
    assert state.in_catalogue
    assert state.day.rank_key is not None
    raw = math.sqrt((6 + 10) * 460 / 60)
    assert FORMULA.score(Window.DAY, state.day.rank_key, NOW) == pytest.approx(
        100 * raw / (raw + 10)
    )

    state.register(FORMULA, None)
    assert (state.in_catalogue, state.day.rank_key, state.day.log_prior) == (False, None, None)
    assert state.views == 6
    assert state.day.log_activity is not None


def test_ratings_are_activity_but_no_views() -> None:
    state = TrendState("tmdb-1")
    state.add(FORMULA, Kind.RATING, [SECONDS])
    assert state.views == 0
    assert FORMULA.activity(Window.WEEK, state.week.log_activity, NOW) == pytest.approx(3.0)


def test_an_older_aggregate_changes_nothing() -> None:
    state = TrendState("tmdb-1")
    state.aggregate(FORMULA, Ratings(count=2, total=18), 7, FILM)
    state.aggregate(FORMULA, Ratings(count=1, total=1), 6, FILM)
    assert (state.ratings, state.ratings_revision) == (Ratings(count=2, total=18), 7)
    assert state.log_quality == pytest.approx(math.log2(478 / 62))


def test_every_order_gives_the_same_state() -> None:
    changes: list[Callable[[TrendState], None]] = [
        lambda state: state.add(FORMULA, Kind.VIEW, [SECONDS, SECONDS - 3600]),
        lambda state: state.add(FORMULA, Kind.VIEW, [SECONDS - 86400]),
        lambda state: state.add(FORMULA, Kind.RATING, [SECONDS - 10]),
        lambda state: state.aggregate(FORMULA, Ratings(count=3, total=20), 4, FILM),
        lambda state: state.aggregate(FORMULA, Ratings(count=2, total=11), 3, FILM),
        lambda state: state.register(FORMULA, FILM),
    ]
    keys: list[float] = []
    for order in itertools.permutations(changes):
        state = TrendState("tmdb-1")
        for change in order:
            change(state)
        assert (state.views, state.ratings, state.ratings_revision) == (
            3,
            Ratings(count=3, total=20),
            4,
        )
        assert state.day.rank_key is not None
        keys.append(state.day.rank_key)
    assert max(keys) - min(keys) < 1e-11
