"""How events change the state of a film, whatever their order."""

import itertools
import math
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from compute_service.projection import TrendState, settle
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


def test_keys_that_are_joined_count_for_the_film_until_they_are_parted() -> None:
    film, alias = TrendState("tmdb-1"), TrendState("imdb-tt0000001")
    states = {state.movie_id: state for state in (film, alias)}
    film.add(FORMULA, Kind.VIEW, [SECONDS])
    film.aggregate(FORMULA, Ratings(count=1, total=9), 1, FILM)
    alias.add(FORMULA, Kind.VIEW, [SECONDS] * 2)
    alone = film.copy()
    joined = {"tmdb-1": "tmdb-1", "imdb-tt0000001": "tmdb-1"}
    settle(FORMULA, states, joined, {"tmdb-1": FILM, "imdb-tt0000001": FILM})
    assert (film.film, alias.film, film.all_views, alias.views) == (None, "tmdb-1", 3, 2)
    assert (alias.in_catalogue, alias.day.rank_key) == (False, None)

    # what comes then is added up like what came before
    film.add(FORMULA, Kind.VIEW, [SECONDS] * 3, under_alias=True)
    film.aggregate_alias(FORMULA, Ratings(), Ratings(count=2, total=11), FILM)
    assert (film.all_views, film.all_ratings) == (6, Ratings(count=3, total=20))
    assert film.log_quality == pytest.approx(math.log2((60 + 400 + 20) / 63))
    assert FORMULA.activity(Window.WEEK, film.week.log_events, NOW) == pytest.approx(6)

    settle(FORMULA, states, {key: key for key in states}, {"tmdb-1": FILM, "imdb-tt0000001": FILM})
    assert film == alone
    assert (alias.film, alias.in_catalogue, alias.all_views) == (None, True, 2)


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
