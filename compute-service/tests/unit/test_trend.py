"""The trend formula: values written out, or computed another way as direct sums of 2^-age."""

import math
import random
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pytest
from compute_service.trend import (
    LANDMARK,
    MAX_AHEAD,
    VERSION,
    Film,
    Kind,
    Ratings,
    TrendFormula,
    Window,
    clamp,
    forward_seconds,
    log2_add,
    log2_sum,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
FORMULA = TrendFormula()
FILM = Film(vote_average=8.0, vote_count=1000, popularity=200.0, fetched_at=NOW)
FIRST_MOMENT = datetime(1, 1, 1, tzinfo=UTC)
LAST_MOMENT = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def log_views(*moments: datetime, window: Window = Window.DAY) -> float | None:
    return FORMULA.log_impulses(window, Kind.VIEW, [forward_seconds(moment) for moment in moments])


def activity_of(*moments: datetime, window: Window = Window.DAY, at: datetime = NOW) -> float:
    return FORMULA.activity(window, log_views(*moments, window=window), at)


def direct_sum(moments: list[datetime], half_life_hours: float, at: datetime) -> float:
    ages = [(at - moment).total_seconds() / 3600 / half_life_hours for moment in moments]
    return math.fsum(2.0**-age for age in ages)


class TestLogarithmicSums:
    def test_adding_two_powers(self) -> None:
        assert log2_add(3.0, 3.0) == 4.0  # 8 + 8 = 16
        assert log2_add(5.0, 3.0) == pytest.approx(math.log2(40), rel=1e-15)
        assert log2_add(3.0, 5.0) == log2_add(5.0, 3.0)

    def test_nothing_is_neutral(self) -> None:
        assert log2_add(None, None) is None
        assert log2_add(None, -7.0) == -7.0
        assert log2_add(-7.0, None) == -7.0
        assert log2_sum([]) is None
        assert log2_sum([-7.0]) == -7.0

    def test_far_apart_and_far_out_neither_overflow_nor_lose_the_larger(self) -> None:
        assert log2_add(3e6, -3e6) == 3e6
        assert log2_add(-3e6, 3e6) == 3e6
        assert log2_sum([3e6, 3e6, -3e6]) == 3e6 + 1
        assert log2_sum([-3e6, -3e6]) == -3e6 + 1

    def test_a_sum_does_not_depend_on_the_order(self) -> None:
        chance = random.Random(20261121)
        exponents = [chance.uniform(2400, 2500) for _ in range(1000)]
        expected = log2_sum(exponents)
        for _ in range(20):
            chance.shuffle(exponents)
            assert log2_sum(exponents) == expected


class TestActivity:
    def test_a_view_is_worth_one_now_and_half_a_half_life_later(self) -> None:
        assert activity_of(NOW) == pytest.approx(1.0, rel=1e-12)
        assert activity_of(NOW, at=NOW + timedelta(hours=24)) == pytest.approx(0.5, rel=1e-12)
        assert activity_of(NOW, at=NOW + timedelta(hours=72)) == pytest.approx(0.125, rel=1e-12)
        week_on = NOW + timedelta(days=7)
        assert activity_of(NOW, window=Window.WEEK, at=week_on) == pytest.approx(0.5, rel=1e-12)

    def test_a_rating_is_worth_three_views(self) -> None:
        rated = FORMULA.log_impulses(Window.DAY, Kind.RATING, [forward_seconds(NOW)])
        assert FORMULA.activity(Window.DAY, rated, NOW) == pytest.approx(3.0, rel=1e-12)

    @pytest.mark.parametrize(("window", "hours"), [(Window.DAY, 24.0), (Window.WEEK, 168.0)])
    def test_equals_the_sum_of_the_decayed_impulses(self, window: Window, hours: float) -> None:
        chance = random.Random(1)
        moments = [NOW - timedelta(seconds=chance.uniform(-300, 30 * 86400)) for _ in range(2000)]
        for later in (timedelta(0), timedelta(hours=5), timedelta(days=40)):
            assert activity_of(*moments, window=window, at=NOW + later) == pytest.approx(
                direct_sum(moments, hours, NOW + later), rel=1e-11
            )

    def test_any_order_and_any_batches_give_the_same_to_1e_12_of_the_logarithm(self) -> None:
        chance = random.Random(2)
        moments = [NOW - timedelta(seconds=chance.uniform(0, 7 * 86400)) for _ in range(1000)]
        whole = log_views(*moments)
        assert whole is not None
        for _ in range(10):
            chance.shuffle(moments)
            total: float | None = None
            rest = list(moments)
            while rest:
                size = chance.randint(1, 200)
                total = log2_add(total, log_views(*rest[:size]))
                rest = rest[size:]
            assert total == pytest.approx(whole, rel=1e-12, abs=0)

    def test_one_by_one_a_million_views_are_a_million(self) -> None:
        total: float | None = None
        one = log_views(NOW)
        for _ in range(1_000_000):
            total = log2_add(total, one)
        assert FORMULA.activity(Window.DAY, total, NOW) == pytest.approx(1e6, rel=1e-7)

    def test_a_million_views_in_batches_are_a_million(self) -> None:
        total: float | None = None
        batch = FORMULA.log_impulses(Window.DAY, Kind.VIEW, [forward_seconds(NOW)] * 500)
        for _ in range(2000):
            total = log2_add(total, batch)
        assert FORMULA.activity(Window.DAY, total, NOW) == pytest.approx(1e6, rel=1e-9)

    def test_no_impulses_are_no_activity(self) -> None:
        assert log_views() is None
        assert FORMULA.activity(Window.DAY, None, NOW) == 0.0

    def test_a_kind_of_weight_zero_is_ignored(self) -> None:
        deaf = TrendFormula(view_weight=0)
        assert deaf.log_impulses(Window.DAY, Kind.VIEW, [0.0, 1.0]) is None
        assert deaf.log_impulses(Window.DAY, Kind.RATING, [0.0]) == math.log2(3)

    def test_the_ends_of_the_calendar(self) -> None:
        for moment in (FIRST_MOMENT, LAST_MOMENT):
            for window in Window:
                stored = log_views(moment, window=window)
                assert stored is not None
                assert math.isfinite(stored)
                assert stored == pytest.approx(
                    (moment - LANDMARK) / timedelta(seconds=FORMULA.half_life(window)), rel=1e-12
                )
        assert activity_of(FIRST_MOMENT) == 0.0
        assert activity_of(FIRST_MOMENT, NOW) == pytest.approx(1.0, rel=1e-12)
        assert math.isfinite(activity_of(LAST_MOMENT))

    def test_clamping_bounds_the_future_only(self) -> None:
        assert clamp(LAST_MOMENT, NOW) == NOW + MAX_AHEAD == NOW + timedelta(minutes=5)
        assert clamp(NOW + timedelta(minutes=4), NOW) == NOW + timedelta(minutes=4)
        assert clamp(FIRST_MOMENT, NOW) == FIRST_MOMENT


class TestPrior:
    def test_five_hundredths_of_the_popularity_halved_each_half_life(self) -> None:
        for window, half_life in ((Window.DAY, 1), (Window.WEEK, 7)):
            prior = FORMULA.log_prior(window, 200.0, NOW)
            later = NOW + timedelta(days=2 * half_life)
            assert FORMULA.activity(window, prior, NOW) == pytest.approx(10.0, rel=1e-12)
            assert FORMULA.activity(window, prior, later) == pytest.approx(2.5, rel=1e-12)

    def test_without_popularity_or_weight_there_is_none(self) -> None:
        assert FORMULA.log_prior(Window.DAY, 0.0, NOW) is None
        assert TrendFormula(prior_weight=0).log_prior(Window.DAY, 200.0, NOW) is None

    @pytest.mark.parametrize("popularity", [5e-324, 1e308])
    def test_any_popularity_is_finite(self, popularity: float) -> None:
        for moment in (FIRST_MOMENT, LAST_MOMENT):
            prior = FORMULA.log_prior(Window.DAY, popularity, moment)
            assert prior is not None
            assert math.isfinite(prior)


class TestQuality:
    def test_the_sources_votes_count_as_at_most_fifty_ratings(self) -> None:
        # (10·6 + 50·8) / (10 + 50)
        assert FORMULA.quality(FILM, Ratings()) == pytest.approx(460 / 60)

    def test_few_votes_count_as_they_are(self) -> None:
        film = replace(FILM, vote_count=3)
        assert FORMULA.quality(film, Ratings()) == pytest.approx((60 + 24) / 13)

    def test_local_ratings_count_one_each(self) -> None:
        # (10·6 + 50·8 + 20·9.5) / (10 + 50 + 20)
        assert FORMULA.quality(FILM, Ratings(count=20, total=190)) == pytest.approx(650 / 80)

    def test_one_ten_does_not_win(self) -> None:
        unknown = Film(vote_average=None, vote_count=0, popularity=0, fetched_at=NOW)
        one_ten = FORMULA.quality(unknown, Ratings(count=1, total=10))
        assert one_ten == pytest.approx(70 / 11)
        assert one_ten < FORMULA.quality(FILM, Ratings())

    def test_without_any_opinion_it_is_the_global_mean(self) -> None:
        for film in (
            Film(vote_average=None, vote_count=77, popularity=0, fetched_at=NOW),
            Film(vote_average=0.0, vote_count=0, popularity=0, fetched_at=NOW),
        ):
            assert FORMULA.quality(film, Ratings()) == 6.0

    def test_stays_above_zero_and_at_most_ten(self) -> None:
        worst = Film(vote_average=0.0, vote_count=10**9, popularity=0, fetched_at=NOW)
        best = Film(vote_average=10.0, vote_count=10**9, popularity=0, fetched_at=NOW)
        believing = TrendFormula(vote_cap=10**9, global_weight=1e-9)
        assert 0 < believing.quality(worst, Ratings()) < 1e-15
        assert 9.99 < believing.quality(best, Ratings(count=10**6, total=1e7)) <= 10


def key(formula: TrendFormula, activity: float, quality: float, at: datetime = NOW) -> float:
    """The rank key of a film that has this activity at a time."""
    log_total = math.log2(activity) + forward_seconds(at) / formula.half_life(Window.DAY)
    rank_key = formula.rank_key(log_total, None, math.log2(quality))
    assert rank_key is not None
    return rank_key


class TestScore:
    def test_is_a_geometric_mean_on_a_scale_to_one_hundred(self) -> None:
        # x = sqrt(20 · 5) = 10 = R
        assert FORMULA.score(Window.DAY, key(FORMULA, 20, 5), NOW) == pytest.approx(50, rel=1e-10)
        # x = sqrt(112.5 · 8) = 30; 30 / 40
        assert FORMULA.score(Window.DAY, key(FORMULA, 112.5, 8), NOW) == pytest.approx(75)
        # a = 1/4: x = (16^(1/4)) · (1^(3/4)) = 2; 2 / 12
        skewed = TrendFormula(activity_exponent=0.25)
        assert skewed.score(Window.DAY, key(skewed, 16, 1), NOW) == pytest.approx(100 / 6)

    def test_falls_with_time(self) -> None:
        rank_key = key(FORMULA, 20, 5)
        # two half-lives: x = sqrt(5 · 5) = 5; 5 / 15
        later = NOW + timedelta(hours=48)
        assert FORMULA.score(Window.DAY, rank_key, later) == pytest.approx(100 / 3)

    def test_prior_and_events_add_up(self) -> None:
        log_prior = FORMULA.log_prior(Window.DAY, 200.0, NOW)
        rank_key = FORMULA.rank_key(log_views(NOW, NOW), log_prior, math.log2(8))
        expected = math.sqrt(12 * 8)  # 10 of the prior and 2 views
        assert FORMULA.score(Window.DAY, rank_key, NOW) == pytest.approx(
            100 * expected / (expected + 10)
        )

    def test_nothing_to_rank(self) -> None:
        assert FORMULA.rank_key(None, None, 2.0) is None
        assert FORMULA.rank_key(1.0, 1.0, None) is None
        assert FORMULA.score(Window.DAY, None, NOW) == 0.0

    def test_never_leaves_the_scale(self) -> None:
        for rank_key in (-4e6, -1e3, 0.0, 1e3, 4e6):
            for at in (FIRST_MOMENT, NOW, LAST_MOMENT):
                assert 0 <= FORMULA.score(Window.DAY, rank_key, at) <= 100

    def test_is_in_the_order_of_the_rank_keys_at_any_time(self) -> None:
        chance = random.Random(3)
        base = key(FORMULA, 1, 6)
        keys = sorted(base + chance.uniform(-8, 8) for _ in range(500))
        for days in (0, 1, 9, 30):
            at = NOW + timedelta(days=days)
            scores = [FORMULA.score(Window.DAY, rank_key, at) for rank_key in keys]
            assert scores == sorted(scores)
            assert len(set(scores)) == len(scores)

    def test_the_order_equals_that_of_directly_computed_scores(self) -> None:
        chance = random.Random(4)
        films: list[tuple[float, float]] = []
        for _ in range(300):
            views = [
                NOW - timedelta(seconds=chance.uniform(0, 5 * 86400))
                for _ in range(chance.randint(0, 30))
            ]
            popularity, quality = chance.uniform(0.5, 900), chance.uniform(3, 9)
            fetched_at = NOW - timedelta(hours=chance.uniform(0, 100))
            age = (NOW - fetched_at).total_seconds() / 86400
            activity = direct_sum(views, 24, NOW) + 0.05 * popularity * 2**-age
            rank_key = FORMULA.rank_key(
                log_views(*views),
                FORMULA.log_prior(Window.DAY, popularity, fetched_at),
                math.log2(quality),
            )
            assert rank_key is not None
            films.append((rank_key, math.sqrt(activity * quality)))
        by_key = sorted(films, key=lambda film: film[0])
        assert by_key == sorted(films, key=lambda film: film[1])

    def test_a_few_dozen_views_lift_a_middling_film_above_the_most_popular_one(self) -> None:
        # The most popular film of TMDB 5000 has 876 points and 6.4; most have below 30.
        top = Film(vote_average=6.4, vote_count=4571, popularity=875.6, fetched_at=NOW)
        viral = Film(vote_average=6.0, vote_count=240, popularity=3.0, fetched_at=NOW)

        def rank_key(film: Film, views: int) -> float:
            found = FORMULA.rank_key(
                log_views(*[NOW] * views),
                FORMULA.log_prior(Window.DAY, film.popularity, film.fetched_at),
                math.log2(FORMULA.quality(film, Ratings())),
            )
            assert found is not None
            return found

        assert rank_key(viral, 24) < rank_key(top, 0) < rank_key(viral, 60)


class TestExplanation:
    def test_names_every_input(self) -> None:
        ratings = Ratings(count=20, total=190.0)
        explanation = FORMULA.explain(
            Window.WEEK,
            film=FILM,
            log_activity=log_views(NOW, NOW, window=Window.WEEK),
            views=2,
            ratings=ratings,
            at=NOW + timedelta(days=7),
        )
        activity, quality = explanation.components.activity, explanation.components.quality
        assert activity.from_events == pytest.approx(1.0)
        assert activity.from_prior == pytest.approx(5.0)
        assert activity.value == pytest.approx(6.0)
        assert (activity.half_life_hours, activity.exponent) == (168.0, 0.5)
        assert (activity.views, activity.weights) == (2, {"view": 1.0, "rating": 3.0})
        assert (activity.popularity, activity.prior_weight) == (200.0, 0.05)
        assert activity.fetched_at == NOW
        assert quality.value == pytest.approx(8.125)
        assert (quality.ratings_count, quality.ratings_mean) == (20, 9.5)
        assert (quality.vote_average, quality.vote_count, quality.votes_used) == (8.0, 1000, 50)
        assert (quality.global_mean, quality.global_weight, quality.vote_cap) == (6.0, 10.0, 50)
        assert explanation.formula.version == VERSION
        assert explanation.formula.parameters == asdict(FORMULA)
        raw = math.sqrt(6 * 8.125)
        assert explanation.score == pytest.approx(100 * raw / (raw + 10))

    def test_outside_the_catalogue_there_is_activity_but_no_score(self) -> None:
        explanation = FORMULA.explain(
            Window.DAY, film=None, log_activity=log_views(NOW), views=1, ratings=Ratings(), at=NOW
        )
        assert explanation.score is None
        assert explanation.components.activity.value == pytest.approx(1.0)
        assert explanation.components.quality.value is None
        assert explanation.components.quality.votes_used == 0

    def test_a_film_nobody_cares_for_scores_zero(self) -> None:
        film = replace(FILM, popularity=0.0)
        explanation = FORMULA.explain(
            Window.DAY, film=film, log_activity=None, views=0, ratings=Ratings(), at=NOW
        )
        assert explanation.score == 0.0


class TestParameters:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("activity_exponent", 0.0),
            ("activity_exponent", 1.0),
            ("activity_exponent", math.nan),
            ("half_life_day_hours", 0.0),
            ("half_life_week_hours", math.inf),
            ("view_weight", -1.0),
            ("rating_weight", math.nan),
            ("prior_weight", -0.1),
            ("global_mean", 10.5),
            ("global_weight", 0.0),
            ("vote_cap", -1),
            ("reference", 0.0),
        ],
    )
    def test_nonsense_is_refused_by_name(self, name: str, value: float) -> None:
        with pytest.raises(ValueError, match=f"trend formula: {name} is {value!r}, it must be"):
            TrendFormula(**{name: value})  # pyright: ignore[reportArgumentType]

    def test_the_fingerprint_tells_formulas_apart(self) -> None:
        assert FORMULA.fingerprint() == TrendFormula().fingerprint()
        assert FORMULA.fingerprint() != TrendFormula(view_weight=2).fingerprint()
