"""What is asked of Meilisearch: filters that cannot be broken out of, and windows as pages."""

import pytest
from search_indexer.engine import SearchRequest
from search_indexer.meilisearch_search import condition, filter_of, page_window


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
        genres=("Science Fiction", 'Drama" OR "x'), year_from=1999, year_to=1999, min_rating=7.5, min_votes=10
    )
    assert filter_of(request) == [
        'genre_keys = "science fiction"',
        'genre_keys = "drama or x"',
        "year >= 1999",
        "year <= 1999",
        "vote_average >= 7.5",
        "vote_count >= 10",
    ]


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
