"""Rising: against a film's own past, in standard deviations."""

import numpy as np
import pytest
from compute_service.rising import Pace, rising
from compute_service.trend import TrendFormula

FORMULA = TrendFormula()


def test_ten_views_out_of_nowhere() -> None:
    [film] = rising(FORMULA, [Pace("tmdb-1", 10.0, 10.0)])
    assert (film.movie_id, film.activity) == ("tmdb-1", 10.0)
    assert film.expected == pytest.approx(10 / 7)
    # c = 1/7: (10 - 10/7) / sqrt((6/7)² / (2 · 8/7) · (10/7 + 1))
    assert film.rise == pytest.approx(9.70143, abs=1e-5)


def test_a_film_at_its_usual_rate_is_not_rising_however_high() -> None:
    assert rising(FORMULA, [Pace("tmdb-1", 50_000.0, 350_000.0)]) == []


def test_of_two_with_the_same_activity_the_one_with_the_quieter_past_comes_first() -> None:
    films = [Pace("tmdb-1", 40.0, 140.0), Pace("tmdb-3", 40.0, 70.0), Pace("tmdb-2", 40.0, 70.0)]
    assert [film.movie_id for film in rising(FORMULA, films)] == ["tmdb-2", "tmdb-3", "tmdb-1"]


def test_too_little_is_no_rise() -> None:
    assert rising(FORMULA, [Pace("tmdb-1", 4.9, 4.9)]) == []
    assert len(rising(FORMULA, [Pace("tmdb-1", 4.9, 4.9)], least_activity=4.0)) == 1


def test_a_day_as_long_as_a_week_has_no_past() -> None:
    formula = TrendFormula(half_life_day_hours=100, half_life_week_hours=100)
    assert rising(formula, [Pace("tmdb-1", 100.0, 10.0)]) == []


def test_it_is_in_standard_deviations() -> None:
    """Films viewed at a steady rate, event by event: 2.3% are above two standard deviations."""
    draw = np.random.default_rng(5)
    hours, per_hour, films = 24 * 90, 6.0, 3000
    paces: list[Pace] = []
    for number in range(films):
        ages = draw.uniform(0, hours, draw.poisson(per_hour * hours))
        paces.append(
            Pace(
                f"tmdb-{number}",
                float(np.exp2(-ages / 24).sum()),
                float(np.exp2(-ages / 168).sum()),
            )
        )
    above = len(rising(FORMULA, paces)) / films
    assert 0.015 < above < 0.035
