"""What a batch of events says about documents and trends."""

import random
from datetime import date
from typing import Any

from search_indexer.documents import (
    Document,
    Removal,
    catalogue_changes,
    document_of,
    trend_changes,
)


def test_a_document_has_what_is_searched_and_shown(make: Any) -> None:
    """Cast by billing, then directors, each once; year and decade of release."""
    movie = make.movie(
        27205,
        "Inception",
        released="2010-07-15",
        cast=["Leonardo DiCaprio", "Elliot Page"],
        directors=["Christopher Nolan", "Leonardo DiCaprio"],
        keywords=["dream"],
        genres=["Action", "Action", "Science Fiction"],
    )
    document = document_of(movie, 3)
    assert document.people == ("Leonardo DiCaprio", "Elliot Page", "Christopher Nolan")
    assert document.genres == ("Action", "Science Fiction")
    assert (document.movie_id, document.revision) == ("tmdb-27205", 3)
    assert document.release_date == date(2010, 7, 15)
    assert (document.year, document.decade) == (2010, 2010)


def test_an_unknown_date_gives_no_year(make: Any) -> None:
    """None, not zero."""
    document = document_of(make.movie(1, "Undated"), 1)
    assert (document.year, document.decade) == (None, None)


def test_the_newest_statement_about_a_film_holds(make: Any) -> None:
    """In whatever order a batch is, and however often an event is in it."""
    messages = [
        make.upserted(make.movie(1, "Old"), 1).data,
        make.upserted(make.movie(1, "New"), 4).data,
        make.removed("tmdb-1", 3).data,
        make.upserted(make.movie(2, "Gone"), 7).data,
        make.removed("tmdb-2", 8).data,
    ] * 3
    for seed in range(20):
        random.Random(seed).shuffle(messages)
        first, second = catalogue_changes(messages)
        assert isinstance(first, Document)
        assert (first.title, first.revision) == ("New", 4)
        assert second == Removal(movie_id="tmdb-2", revision=8)


def test_the_newest_trend_of_each_film_holds(make: Any) -> None:
    """By the revision of the event, sorted by film."""
    messages = [
        make.trend(5, tmdb_2=(50.0, 2.0, 9), tmdb_1=(10.0, 1.0, 3)).data,
        make.trend(6, tmdb_2=(60.0, 2.5, 10)).data,
    ]
    for order in (messages, messages[::-1]):
        assert [(t.movie_id, t.revision, t.score, t.views) for t in trend_changes(order)] == [
            ("tmdb-1", 5, 10.0, 3),
            ("tmdb-2", 6, 60.0, 10),
        ]
