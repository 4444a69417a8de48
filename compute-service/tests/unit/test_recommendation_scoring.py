"""Scores from stored rows equal those of the model that they were cut from."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from compute_service.recommendation.content import Traits, alike
from compute_service.recommendation.interactions import History, Interactions
from compute_service.recommendation.model import (
    ContentOptions,
    FilmContent,
    LinearOptions,
    Recommender,
    RecommenderOptions,
    content_similarity,
    fit,
)
from compute_service.recommendation.model.rows import rows, scorer_of
from compute_service.recommendation.scoring import RECENT, best
from compute_service.recommendation.taste import Taste, profile_weights, standing

ITEMS = 30


@pytest.fixture(scope="module")
def recommender() -> Recommender:
    """Of 30 films, 20 of them in the linear model and 3 that nobody met."""
    rng = np.random.default_rng(3)
    user: list[int] = []
    item: list[int] = []
    position: list[int] = []
    for number in range(80):
        films = rng.permutation(ITEMS - 3)[: rng.integers(2, 20)]
        user += [number] * len(films)
        item += films.tolist()
        position += range(len(films))
    interactions = Interactions.of(user, item, position, users=80, items=ITEMS)
    content = [
        FilmContent(genres=[f"genre {film % 4}"], keywords=[f"word {film % 7}"], year=1980 + film)
        for film in range(ITEMS)
    ]
    linear = LinearOptions(ridge=5.0, similarity_ridge=5.0)
    options = RecommenderOptions(linear=linear, dense_films=20)
    return fit(interactions, content_similarity(content), options)


@pytest.mark.parametrize("length", [0, 1, 7, 30])
def test_whole_rows_give_what_the_model_gives(recommender: Recommender, length: int) -> None:
    rng = np.random.default_rng(length)
    items: list[int] = rng.permutation(ITEMS)[:length].tolist()
    weights = rng.choice([0.3, 0.5, 1.0], length).astype(np.float32)
    history = History(np.array(items, np.int64), weights)
    stored = list(rows(recommender, kept=ITEMS))
    scorer = scorer_of(recommender)
    profile = scorer.profile([stored[item] for item in items], weights)
    assert scorer.scores(profile) == pytest.approx(recommender.scores(history), abs=1e-5)
    wanted = np.array([29, 3, 17])
    parts = scorer.contributions(profile, wanted)
    assert parts.shape == (length, 3)
    for column, item in enumerate(wanted.tolist()):
        expected = recommender.contributions(history, item)
        assert parts[:, column] == pytest.approx(expected, abs=1e-5)


def test_of_a_longer_history_only_the_newest_count(recommender: Recommender) -> None:
    stored = list(rows(recommender, kept=ITEMS))
    scorer = scorer_of(recommender)
    films = [stored[number % ITEMS] for number in range(RECENT + 40)]
    weights = np.linspace(0.1, 1, len(films)).astype(np.float32)
    whole = scorer.scores(scorer.profile(films, weights))
    newest = scorer.scores(scorer.profile(films[40:], weights[40:]))
    assert whole == pytest.approx(newest)


def test_rows_keep_the_strongest_weights(recommender: Recommender) -> None:
    linear = recommender.linear
    assert linear is not None
    certain = 1 - recommender.trust_in_neighbours[recommender.dense]
    for row in rows(recommender, kept=4):
        place = int(recommender.position[row.number])
        assert row.linear == (place >= 0)
        if place < 0:
            assert not len(row.targets)
            continue
        short = certain * linear.short_weights[place]
        long = certain * linear.long_weights[place]
        strength = np.maximum(np.abs(short), np.abs(long))
        assert set(row.targets) == set(recommender.dense[np.argsort(-strength)[:4]])
        at = [recommender.dense.tolist().index(target) for target in row.targets]
        assert row.short.tolist() == short[at].tolist()
        assert row.long.tolist() == long[at].tolist()


def test_the_best_are_in_order_and_ties_by_number() -> None:
    scores = np.array([1, 5, 3, 5, 2, 3, 3], np.float32)
    possible = np.array([True, True, True, True, True, True, False])
    assert best(scores, possible, 3).tolist() == [1, 3, 2]
    assert best(scores, possible, 10).tolist() == [1, 3, 2, 5, 4, 0]
    assert best(scores, np.zeros(7, np.bool_), 3).tolist() == []


def test_of_ratings_under_two_keys_the_newest_stands() -> None:
    user = np.array([0, 0, 0, 1, 1, 2])
    film = np.array([5, 5, 6, 5, 5, 5])
    moment = np.array([1.0, 2.0, 1.0, 7.0, 7.0, 1.0])
    half_steps = np.array([20, 4, 9, 3, 8, 0])
    assert sorted(standing(user, film, moment, half_steps).tolist()) == [1, 2, 4]


def test_a_taste_is_in_order_of_time_with_what_was_named_last() -> None:
    day = [datetime(2026, 5, n, tzinfo=UTC) for n in range(1, 10)]
    taste = Taste.of(
        {"a": (20, day[1]), "b": (7, day[3]), "c": (8, day[0])},
        {"c": day[5], "d": day[2] + timedelta(hours=1)},
        ["e", "b", "e"],
        view_weight=0.3,
    )
    found = [(film.movie_id, film.weight, film.liked) for film in taste.films]
    assert found == [
        ("a", 1.0, True),
        ("d", 0.3, True),
        ("c", 1.0, True),
        ("e", 1.0, True),
        ("b", 1.0, True),
    ]
    assert (taste.rated, taste.viewed) == ({"a", "b", "c"}, {"c", "d"})
    disliked = Taste.of({"b": (7, day[3])}, {})
    assert [(film.weight, film.liked) for film in disliked.films] == [(0.5, False)]
    assert profile_weights(np.array([7, 8, 20])).tolist() == [0.5, 1.0, 1.0]


def test_closeness_by_content() -> None:
    one = Traits({"horror": "Horror"}, {"space": "space", "cat": "cat"}, {}, 197, "en")
    other = Traits({"horror": "HORROR", "war": "War"}, {"space": "Space"}, {"x": "X"}, 198, "en")
    # (0.35 / sqrt 2 + 0.3 / sqrt 2 + 0.05) / (0.35 + 0.3 + 0.05 + 0.05)
    assert one.closeness(other) == pytest.approx(0.679493, abs=1e-6)
    assert Traits().closeness(one) == 0
    assert one.shared(other) == {"genres": ["Horror"], "keywords": ["space"]}
    likeness = alike([one, other, Traits()])
    assert likeness.diagonal() == pytest.approx([1, 1, 0], abs=1e-5)
    assert likeness[0, 1] == pytest.approx(likeness[1, 0])
    assert 0 < likeness[0, 1] < 1


def test_what_nearly_all_films_share_leads_to_the_first_ones_only() -> None:
    films = [FilmContent(genres=["drama"], keywords=["rare"] if n > 7 else []) for n in range(10)]
    found = content_similarity(films, ContentOptions(widest=3)).toarray()
    # the two with the rare keyword find each other, the others the first three of their genre
    assert found[8, 9] > 0
    assert set(np.flatnonzero(found[6])) == {0, 1, 2}
    assert found == pytest.approx(found.T)
