"""What is asked of Meilisearch: filters that cannot be broken out of, and windows as pages."""

from typing import Any

import pytest
from search_indexer.engine import SearchRequest
from search_indexer.meilisearch_index import includes
from search_indexer.meilisearch_search import (
    condition,
    filter_of,
    page_window,
    query_of,
    sort_of,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("en", 'language = "en"'),
        ('en" OR year > 0', 'language = "en\\" OR year > 0"'),
        ("en\\", 'language = "en\\\\"'),
        ('\\"', 'language = "\\\\\\""'),
    ],
)
def test_a_string_stays_inside_its_quotes(value: str, expected: str) -> None:
    """Quotes and backslashes are escaped."""
    assert condition("language", "=", value) == expected


def test_conditions_are_a_list_that_must_all_hold() -> None:
    """One entry each; genres by their folded form, which has no special character at all."""
    request = SearchRequest(
        genres=("Science Fiction", 'Drama" OR "x'),
        year_from=1999,
        year_to=1999,
        min_rating=7.5,
        min_votes=10,
    )
    assert filter_of(request) == [
        'genre_keys = "science fiction"',
        'genre_keys = "drama or x"',
        "year >= 1999",
        "year <= 1999",
        "vote_average >= 7.5",
        "vote_count >= 10",
    ]


def test_any_of_several_genres_is_one_condition() -> None:
    """A list within the list; beside it everything else must hold."""
    request = SearchRequest(genres=("War", "Western"), genre_mode="any", decade=1990, language="en")
    assert filter_of(request) == [
        ['genre_keys = "war"', 'genre_keys = "western"'],
        "decade = 1990",
        'original_language = "en"',
    ]


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({}, True),
        ({"sortableAttributes": ["b", "a"]}, True),
        ({"sortableAttributes": ["a"]}, False),
        ({"sortableAttributes": ["a", "b", "c"]}, False),
        ({"rankingRules": ["typo", "words"]}, False),
        ({"typoTolerance": {"enabled": True, "more": 1}}, True),
        ({"typoTolerance": {"enabled": False}}, False),
        ({"typoTolerance": None}, False),
        ({"stopWords": None}, False),
        ({"facetSearch": True}, True),
    ],
)
def test_settings_are_compared_as_the_server_means_them(changed: Any, same: bool) -> None:
    """What is a set has no order there, what is a list has; it may have settings of its own."""
    wanted = {
        "sortableAttributes": ["a", "b"],
        "rankingRules": ["words", "typo"],
        "typoTolerance": {"enabled": True},
        "stopWords": ["the"],
    }
    assert includes(wanted | changed, wanted) is same


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("spider-man", "spider man"),
        ('"dark knight" -batman', "dark knight   batman"),
        ("a & ...", "a"),
        ("the ", "the"),
        ("शोले", "शोले"),
        ("x\x00\ud800", "x"),
        ("???", ""),
    ],
)
def test_a_query_has_no_operators_and_ends_with_a_word(text: str, query: str) -> None:
    """Which may be unfinished."""
    assert query_of(text) == query


def test_an_order_comes_before_relevance_and_ties_go_by_trend() -> None:
    """Nothing comes before relevance where that is asked for."""
    assert sort_of(SearchRequest()) is None
    assert sort_of(SearchRequest(sort="date", order="asc")) == [
        "release_date:asc",
        "rank_key:desc",
        "popularity:desc",
    ]
    assert sort_of(SearchRequest(sort="trend", order="asc")) == ["rank_key:asc", "popularity:asc"]


def test_no_filter_is_an_empty_list() -> None:
    """Nothing asked, nothing filtered."""
    assert filter_of(SearchRequest()) == []


def test_every_window_is_inside_its_page() -> None:
    """The page holds the whole window, and is the window itself where that is possible."""
    for offset in range(300):
        for limit in (1, 7, 20, 100):
            page, size, skip = page_window(offset, limit)
            assert (page - 1) * size + skip == offset
            assert skip + limit <= size
    assert page_window(40, 20) == (3, 20, 0)
    assert page_window(7, 5) == (2, 6, 1)
