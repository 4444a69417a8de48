"""Which command counts, and what it does to a sum."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from moviemetric_contracts import Event, RateMovie, UnrateMovie
from rating_service.ratings.projection import (
    Aggregate,
    Stored,
    by_score,
    command_of,
    newest,
    total_of,
)

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)


def command(event_id: str, at: int, score: float | None, movie_id: str = "tmdb-1") -> Any:
    data: Any = UnrateMovie(movie_id=movie_id, user_id="ada")
    if score is not None:
        data = RateMovie(movie_id=movie_id, user_id="ada", score=score)
    event = Event.of(data, source="/test", time=NOW + timedelta(seconds=at), id=event_id)
    return command_of(event, NOW)


def test_the_newest_counts_in_any_order_and_under_any_key() -> None:
    commands = [
        command("d", 1, 5.0),
        command("a", 3, 7.5, "imdb-tt0000001"),
        command("c", 3, None),
        command("b", 3, 9.0),
        command("e", 2, 1.0),
    ]
    own_keys = {"tmdb-1": "tmdb-1", "imdb-tt0000001": "tmdb-1"}
    for order in itertools.permutations(commands):
        found = newest(order, own_keys)
        assert {key: kept.stored.event_id for key, kept in found.items()} == {
            ("ada", "tmdb-1"): "c"
        }


def test_a_score_is_kept_in_half_steps() -> None:
    assert [command("a", 0, score).stored.half_steps for score in (0.5, 1, 7.5, 10)] == [
        1,
        2,
        15,
        20,
    ]
    assert command("a", 0, None).stored == Stored(None, NOW, "a")


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (None, NOW),
        (NOW + timedelta(minutes=4), NOW + timedelta(minutes=4)),
        (NOW + timedelta(minutes=6), NOW + timedelta(minutes=5)),
        (datetime.max.replace(tzinfo=UTC), NOW + timedelta(minutes=5)),
        (datetime.min.replace(tzinfo=UTC), datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
    ],
)
def test_the_time_of_a_command(time: datetime | None, expected: datetime) -> None:
    data = RateMovie(movie_id="tmdb-1", user_id="ada", score=5)
    event = Event.of(data, source="/test", time=NOW).model_copy(update={"time": time})
    assert command_of(event, NOW).stored.changed_at == expected


def test_a_sum_is_exact() -> None:
    aggregate = Aggregate("tmdb-1", revision=1)
    for before, after in ((None, 1), (None, 20), (20, 15), (None, 15), (1, None), (None, None)):
        aggregate.replace(before, after)
    fact = aggregate.fact()
    assert (fact.count, fact.mean) == (2, 7.5)
    assert [step for step, count in enumerate(fact.histogram, start=1) if count] == [15]
    aggregate.replace(15, None)
    aggregate.replace(15, None)
    assert (aggregate.fact().count, aggregate.fact().mean) == (0, None)


def test_scores_by_name() -> None:
    histogram = [0] * 20
    histogram[0], histogram[19] = 3, 2
    named = by_score(histogram)
    assert (list(named)[:3], list(named)[-1]) == (["0.5", "1.0", "1.5"], "10.0")
    assert (named["0.5"], named["9.5"], named["10.0"]) == (3, 0, 2)
    assert total_of(histogram) == 21.5
