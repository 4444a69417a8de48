"""What a batch of searches says, and which days are asked for."""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from moviemetric_contracts import SearchOpened, SearchPerformed
from search_indexer.signals import MAX_QUERY, QueryCounts, count_signals, counted_query
from search_indexer.upkeep_api import period
from service_kit import ProblemError

NOON = datetime(2025, 1, 31, 12, tzinfo=UTC)
TODAY = date(2025, 1, 31)


def searched(query: str, total: int = 3, at: datetime = NOON) -> SearchPerformed:
    return SearchPerformed(search_id="s-1", query=query, total=total, searched_at=at)


def opened(query: str, movie_id: str, at: datetime = NOON) -> SearchOpened:
    return SearchOpened(movie_id=movie_id, query=query, opened_at=at)


def test_searches_are_counted_by_day_and_folded_words() -> None:
    evening_in_new_york = datetime(2025, 1, 31, 20, tzinfo=timezone(timedelta(hours=-5)))
    counts = count_signals(
        [
            searched("Amélie!"),
            searched("amelie", 0),
            searched("AMELIE", at=evening_in_new_york),
            opened("amelie", "tmdb-194"),
            opened("Amelie", "tmdb-194"),
            opened("amelie", "tmdb-2"),
            searched("???"),
            opened("…", "tmdb-3"),
        ]
    )
    assert counts == {
        (date(2025, 1, 31), "amelie"): QueryCounts(
            searches=2, no_results=1, opened=3, films={"tmdb-194": 2, "tmdb-2": 1}
        ),
        (date(2025, 2, 1), "amelie"): QueryCounts(searches=1),
    }


def test_long_queries_are_cut() -> None:
    assert counted_query("x" * 99 + " yz") == "x" * 99
    assert len(counted_query("ab " * 66)) <= MAX_QUERY


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ((None, None, None), (date(2025, 1, 25), TODAY)),
        ((None, None, 1), (TODAY, TODAY)),
        ((date(2025, 1, 1), None, None), (date(2025, 1, 1), TODAY)),
        ((None, date(2025, 1, 7), None), (date(2025, 1, 1), date(2025, 1, 7))),
        ((date(2025, 1, 3), date(2025, 1, 3), None), (date(2025, 1, 3), date(2025, 1, 3))),
        ((date(2025, 2, 9), None, None), (date(2025, 2, 9), date(2025, 2, 9))),
    ],
)
def test_days(asked: Any, expected: tuple[date, date]) -> None:
    assert period(asked[0], asked[1], asked[2], TODAY) == expected


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ((date(2025, 1, 1), None, 7), "days"),
        ((date(2025, 1, 2), date(2025, 1, 1), None), "date_from"),
        ((date(2024, 1, 1), date(2025, 1, 1), None), "date_from"),
        ((None, date(1, 1, 3), None), "date_to"),
    ],
)
def test_days_that_cannot_be(asked: Any, field: str) -> None:
    with pytest.raises(ProblemError) as raised:
        period(asked[0], asked[1], asked[2], TODAY)
    assert raised.value.status == 422
    assert raised.value.detail is not None
    assert raised.value.detail.startswith(field)
