"""Pure parts: which spellings are one account, and what events make old."""

from datetime import UTC, datetime

import pytest
from gateway.account_bodies import account_of
from gateway.readers import path_part
from gateway.subscriptions import tags_of
from moviemetric_contracts import Event, RatingAggregated, UserErased

NOW = datetime(2025, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ada", "aDA"),
        ("\uff21da", "ada"),
        ("Strau\u00df", "STRAUSS"),
        ("\u00e9", "e\u0301"),
        ("\u1e9e", "ss"),
        (" ada ", "ada"),
    ],
)
def test_spellings_of_one_account(one: str, other: str) -> None:
    assert account_of({"username": one}) == account_of({"username": other}) is not None


def test_a_form_that_names_nobody() -> None:
    assert account_of({}) is account_of({"username": " "}) is None
    assert account_of({"username": "ada"}) != account_of({"username": "bob"})


def test_ratings_make_a_film_old_and_no_list() -> None:
    aggregated = RatingAggregated(
        movie_id="tmdb-5", count=0, mean=None, histogram=(0,) * 20, revision=1
    )
    erased = UserErased(user_id="user-1")
    events = [Event.of(data, source="test", time=NOW) for data in (aggregated, erased)]
    assert tags_of(events[:1]) == {"movie:tmdb-5"}
    assert tags_of(events) == {"movie:tmdb-5", "users"}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("ada", "ada"),
        ("a.b", "a.b"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("../x", "..%2Fx"),
        ("a?b#c d", "a%3Fb%23c%20d"),
        ("\u00e9%", "%C3%A9%25"),
    ],
)
def test_what_comes_from_outside_is_one_part_of_a_path(text: str, part: str) -> None:
    assert path_part(text) == part
