"""Recommendations: weights against direct matrix products, and what a person would expect."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from compute_service.recommendation.interactions import History, Interactions
from compute_service.recommendation.model import (
    FilmContent,
    LinearOptions,
    Recommender,
    RecommenderOptions,
    companions,
    content_similarity,
    fit,
    fit_linear,
)

RNG_SEED = 7
SMALL = LinearOptions(ridge=5.0, similarity_ridge=5.0)


def random_interactions(users: int = 40, items: int = 12) -> Interactions:
    rng = np.random.default_rng(RNG_SEED)
    columns = [
        (user, item, position, rng.choice([0.5, 1.0]))
        for user in range(users)
        for position, item in enumerate(rng.permutation(items)[: rng.integers(1, items)])
    ]
    user, item, position, weight = zip(*columns, strict=True)
    return Interactions.of(user, item, position, weight, users=users, items=items)


def chains(users: int = 60) -> Interactions:
    """Whoever saw 0 goes on to 1, then 2; whoever saw 3 goes on to 4, then 5; some begin late."""
    columns: list[tuple[int, int, int]] = []
    for user in range(users):
        films = (0, 1, 2) if user % 2 else (3, 4, 5)
        columns += [(user, film, time) for time, film in enumerate(films[user % 3 == 0 :])]
    user, item, time = zip(*columns, strict=True)
    return Interactions.of(user, item, time, users=users, items=7)


class TestInteractions:
    def test_are_sorted_by_user_and_time_and_ties_keep_their_order(self) -> None:
        found = Interactions.of([1, 0, 1, 1], [4, 3, 2, 0], [5, 9, 5, 1], users=2, items=5)
        assert found.user.tolist() == [0, 1, 1, 1]
        assert found.item.tolist() == [3, 0, 4, 2]
        assert found.age.tolist() == [0, 2, 1, 0]

    def test_a_film_met_twice_counts_once_at_the_later_time_with_the_greater_weight(self) -> None:
        found = Interactions.of(
            [0, 0, 0, 1], [7, 8, 7, 7], [1, 2, 3, 1], [1.0, 0.25, 0.5, 0.75], users=2, items=9
        )
        assert found.item.tolist() == [8, 7, 7]
        assert found.weight.tolist() == [0.25, 1.0, 0.75]
        assert found.age.tolist() == [1, 0, 0]

    def test_what_has_no_weight_is_left_out(self) -> None:
        found = Interactions.of([0, 0], [0, 1], [1, 2], [0.0, -1.0], users=1, items=2)
        assert len(found) == 0
        assert found.counts().tolist() == [0, 0]

    def test_the_newest_and_a_selection_of_films(self) -> None:
        all_of_them = Interactions.of([0, 0, 0, 1], [2, 0, 1, 2], range(4), users=2, items=3)
        assert all_of_them.newest(2).item.tolist() == [0, 1, 2]
        selected = all_of_them.among(np.array([2, 1]))
        assert selected.item.tolist() == [0, 1, 0]
        assert selected.age.tolist() == [1, 0, 0]
        assert all_of_them.history(0).items.tolist() == [2, 0, 1]
        assert all_of_them.counts().tolist() == [1, 1, 2]

    @pytest.mark.parametrize(
        ("user", "item", "time", "weight", "told"),
        [
            ([0], [0, 1], [1], [1.0], "different lengths"),
            ([2], [0], [1], [1.0], "user must be from 0 to 1"),
            ([0], [-1], [1], [1.0], "item must be from 0 to 1"),
            ([0], [0], [1], [math.nan], "not finite"),
        ],
    )
    def test_nonsense_is_refused_by_name(
        self, user: list[int], item: list[int], time: list[int], weight: list[float], told: str
    ) -> None:
        with pytest.raises(ValueError, match=told):
            Interactions.of(user, item, time, weight, users=2, items=2)


def direct_weights(
    interactions: Interactions, options: LinearOptions
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The transitions from explicit matrices S and F, one row for each moment."""
    past: list[npt.NDArray[np.float64]] = []
    future: list[npt.NDArray[np.float64]] = []
    films = interactions.items
    for user in range(interactions.users):
        history = interactions.history(user)
        for moment in range(len(history.items) - 1):
            row = np.zeros((2, films))
            target = np.zeros(films)
            for place, (item, weight) in enumerate(
                zip(history.items, history.weights, strict=True)
            ):
                if place <= moment:
                    row[0, item] = weight * 2 ** (-(moment - place) / options.short)
                    row[1, item] = weight * 2 ** (-(moment - place) / options.long)
                else:
                    target[item] = weight * 2 ** (-(place - moment - 1) / options.ahead)
            past.append(row.ravel())
            future.append(target)
    s, f = np.array(past), np.array(future)
    b = np.linalg.inv(s.T @ s + options.ridge * np.eye(2 * films)) @ s.T @ f
    return b[:films], b[films:]


class TestLinear:
    def test_transitions_equal_the_ridge_regression_on_explicit_moments(self) -> None:
        options = LinearOptions(ridge=5.0, similarity_share=0.0)
        interactions = random_interactions()
        model = fit_linear(interactions, options)
        short, long = direct_weights(interactions, options)
        np.fill_diagonal(short, 0)
        np.fill_diagonal(long, 0)
        assert model.short_weights == pytest.approx(short, abs=2e-4)
        assert model.long_weights == pytest.approx(long, abs=2e-4)

    def test_similarity_alone_is_ease(self) -> None:
        interactions = random_interactions()
        model = fit_linear(interactions, LinearOptions(similarity_ridge=5.0, similarity_share=1.0))
        x = np.zeros((interactions.users, interactions.items))
        x[interactions.user, interactions.item] = interactions.weight
        # each column solved by itself, without the film that is to be predicted
        expected = np.zeros((interactions.items, interactions.items))
        for item in range(interactions.items):
            others = np.delete(np.arange(interactions.items), item)
            gram = x[:, others].T @ x[:, others] + 5.0 * np.eye(len(others))
            expected[others, item] = np.linalg.solve(gram, x[:, others].T @ x[:, item])
        scale = np.abs(model.short_weights).sum() / np.abs(expected).sum()
        assert scale > 0
        assert model.short_weights / scale == pytest.approx(expected, abs=2e-4)
        assert model.long_weights == pytest.approx(model.short_weights)

    def test_the_order_is_learned(self) -> None:
        model = fit_linear(chains(), SMALL)
        after_first = model.scores(History.of(0))
        assert int(np.argmax(after_first)) == 1
        assert model.scores(History.of(1))[2] > model.scores(History.of(1))[0]

    def test_scores_are_the_sum_of_contributions_and_equal_those_of_all_users(self) -> None:
        interactions = random_interactions()
        model = fit_linear(interactions, SMALL)
        together = model.scores_of_all(interactions, 3, 9)
        for user in range(3, 9):
            history = interactions.history(user)
            scores = model.scores(history)
            assert together[user - 3] == pytest.approx(scores, abs=1e-5)
            for item in range(interactions.items):
                parts = model.contributions(history, item)
                assert len(parts) == len(history.items)
                assert parts.sum() == pytest.approx(scores[item], abs=1e-5)

    @pytest.mark.parametrize("interactions", [chains(1), chains(2)])
    def test_little_to_learn_from_is_enough(self, interactions: Interactions) -> None:
        assert np.isfinite(fit_linear(interactions).short_weights).all()

    @pytest.mark.parametrize(
        ("name", "value"), [("short", 0.0), ("ridge", math.nan), ("similarity_share", 1.5)]
    )
    def test_a_nonsensical_option_is_refused_by_name(self, name: str, value: float) -> None:
        with pytest.raises(ValueError, match=name):
            LinearOptions(**{name: value})  # pyright: ignore[reportArgumentType]


class TestContent:
    FILMS = (
        FilmContent(genres=["Sci-Fi", "Action"], keywords=["robot", "future"], year=1999),
        FilmContent(genres=["sci-fi", "Action"], keywords=["robot"], year=1991),
        FilmContent(genres=["Romance"], people=["Meg Ryan"], text="She meets him in Seattle."),
        FilmContent(genres=["Romance"], people=["meg ryan "], text="They meet in New York."),
        FilmContent(),
    )

    def test_alike_films_are_near_and_nothing_is_near_what_nothing_is_known_of(self) -> None:
        similarity = content_similarity(self.FILMS).toarray()
        assert similarity == pytest.approx(similarity.T)
        assert similarity.diagonal() == pytest.approx(np.zeros(5))
        assert similarity[0].argmax() == 1
        assert similarity[2].argmax() == 3
        assert similarity[0, 2] == 0
        assert not similarity[4].any()
        assert similarity.max() <= 1

    def test_the_same_content_is_as_near_as_can_be(self) -> None:
        film = FilmContent(genres=["a"], keywords=["b"], people=["c"], text="word", year=2000)
        other = FilmContent(genres=["x"], keywords=["y"], people=["z"], text="else", year=1960)
        third = FilmContent(genres=["m"], keywords=["n"], people=["o"], text="last", year=1930)
        similarity = content_similarity([film, film, *[other, third] * 9]).toarray()
        assert similarity[0, 1] == pytest.approx(1.0, abs=1e-5)

    def test_no_films(self) -> None:
        content = content_similarity([])
        assert content.shape == (0, 0)
        recommender = fit(Interactions.of([], [], [], users=0, items=0), content)
        assert recommender.recommend(History.of(), 5) == []

    def test_companions_are_the_shrunk_cosine(self) -> None:
        interactions = Interactions.of(
            [0, 0, 1, 1, 2], [0, 1, 0, 1, 0], [1, 2, 1, 2, 1], users=3, items=4
        )
        found = companions(interactions, np.array([1, 3]), shrink=10.0).toarray()
        assert found[1, 0] == pytest.approx(2 / (math.sqrt(2 * 3) + 10))
        assert found[0, 1] == found[1, 0]
        assert found.sum() == pytest.approx(2 * found[0, 1])


class TestRecommender:
    @pytest.fixture
    def recommender(self) -> Recommender:
        films = [FilmContent(genres=["first"])] * 3 + [FilmContent(genres=["second"])] * 4
        return fit(chains(), content_similarity(films), RecommenderOptions(linear=SMALL))

    def test_what_comes_next_is_first_and_the_history_is_left_out(
        self, recommender: Recommender
    ) -> None:
        found = [film.item for film in recommender.recommend(History.of(0), 10)]
        assert found[0] == 1
        assert 0 not in found
        assert len(found) == 6

    def test_without_a_history_the_popular_come_first(self, recommender: Recommender) -> None:
        counts = chains().counts()
        found = [film.item for film in recommender.recommend(History.of(), 7)]
        assert counts[found].tolist() == sorted(counts.tolist(), reverse=True)

    def test_a_film_without_a_history_is_found_by_its_content(
        self, recommender: Recommender
    ) -> None:
        found = [film.item for film in recommender.recommend(History.of(3, 4, 5), 4)]
        assert found[0] == 6
        assert {film.item for film in recommender.similar(6, 3)} == {3, 4, 5}

    def test_without_interactions_content_decides(self) -> None:
        nothing = Interactions.of([], [], [], users=0, items=3)
        films = [FilmContent(genres=["a"]), FilmContent(genres=["b"]), FilmContent(genres=["b"])]
        recommender = fit(nothing, content_similarity(films))
        assert recommender.recommend(History.of(1), 1)[0].item == 2
        assert [reason.item for reason in recommender.reasons(History.of(0, 1), 2)] == [1]
        assert len(recommender.recommend(History.of(), 5)) == 3

    def test_reasons_are_the_films_that_led_there(self, recommender: Recommender) -> None:
        reasons = recommender.reasons(History.of(3, 0), 1)
        assert reasons[0].item == 0
        assert reasons[0].share > 0.9
        assert sum(reason.share for reason in reasons) == pytest.approx(1.0)

    def test_contributions_and_popularity_are_the_score(self, recommender: Recommender) -> None:
        history = History.of(3, 6, 0)
        scores = recommender.scores(history)
        for item in range(7):
            parts = float(recommender.contributions(history, item).sum())
            popular = recommender.scale * float(recommender.popularity[item]) / 4
            assert parts + popular == pytest.approx(float(scores[item]), abs=1e-6)

    def test_only_what_is_allowed(self, recommender: Recommender) -> None:
        allowed = np.array([True, False, True, False, False, False, False])
        found = recommender.recommend(History.of(0), 5, allowed=allowed)
        assert [film.item for film in found] == [2]
        assert allowed.tolist() == [True, False, True, False, False, False, False]
        assert [film.item for film in recommender.similar(0, 5, allowed=allowed)] == [2]

    def test_diversity_brings_in_the_other_kind(self, recommender: Recommender) -> None:
        def kinds(diversity: float) -> list[bool]:
            found = recommender.recommend(History.of(5), 2, diversity=diversity)
            return [film.item < 3 for film in found]

        assert kinds(0.0) == [False, False]
        assert sorted(kinds(0.7)) == [False, True]
        with pytest.raises(ValueError, match="diversity"):
            recommender.recommend(History.of(0), 2, diversity=1.5)

    def test_films_outside_the_linear_model_are_served_by_their_companions(self) -> None:
        recommender = fit(
            chains(), options=RecommenderOptions(linear=SMALL, dense_films=2, neighbours=3)
        )
        outside = set(range(6)) - set(recommender.dense.tolist())
        assert len(recommender.dense) == 2
        for film in outside:
            near = {found.item for found in recommender.similar(film, 5)}
            assert near
            assert near <= ({0, 1, 2} if film < 3 else {3, 4, 5})

    def test_content_of_other_films_is_refused(self) -> None:
        with pytest.raises(ValueError, match="7 films"):
            fit(chains(), content_similarity([FilmContent()] * 3))
