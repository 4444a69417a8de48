"""One film out of several records."""

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from ingest_service.merging import (
    Kept,
    known_since,
    merge,
    rank_of_key,
    slot,
    sort_title,
    with_keys,
)
from ingest_service.records import Source

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def kept(minute: int = 0, **fields: Any) -> Kept:
    return Kept(NOON + timedelta(minutes=minute), fields)


def test_a_film_of_one_record_is_that_record() -> None:
    only = kept(title="Heat", vote_average=8.0, vote_count=9)
    merged = merge({"tmdb/tmdb-949": only})
    assert merged == {"title": "Heat", "vote_average": 8.0, "vote_count": 9}
    content = with_keys(merged, "tmdb-949", ["imdb-tt0113277"])
    assert content.keys() == {*merged, "movie_id", "tmdb_id", "imdb_id", "aliases"}
    assert only == kept(title="Heat", vote_average=8.0, vote_count=9), "what is kept stays so"


def test_sources_are_believed_in_their_order() -> None:
    assert list(Source) == [
        "tmdb",
        "tmdb-file",
        "tmdb-credits",
        "table-addition",
        "table",
        "imdb-basics",
        "imdb-ratings",
        "movielens",
        "movielens-links",
    ]
    records = {slot(source, "tmdb-1"): kept(title=str(source)) for source in Source}
    for best in list(Source):
        # However long ago it said so.
        assert merge(records)["title"] == best
        del records[slot(best, "tmdb-1")]
        if not records:
            break


def test_each_field_comes_from_the_best_source_that_knows_it() -> None:
    records = {
        "tmdb/tmdb-949": kept(0, title="Heat", runtime=170),
        "tmdb-file/tmdb-949": kept(5, title="HEAT", tagline="A crime saga", runtime=171),
        "movielens/movielens-6": kept(9, title="Heat (1995)", genres=["Crime"], keywords=["heist"]),
        "imdb-basics/imdb-tt0113277": kept(9, genres=["Action"], original_title="Heat"),
    }
    expected = {
        "title": "Heat",
        "runtime": 170,
        "tagline": "A crime saga",
        "genres": ["Action"],
        "original_title": "Heat",
        "keywords": ["heist"],
    }
    for order in permutations(records.items()):
        assert merge(dict(order)) == expected


def test_of_two_records_of_a_source_the_one_seen_last_is_believed() -> None:
    older = ("table/imdb-tt0000001", kept(1, title="Old", runtime=90))
    newer = ("table/tmdb-1", kept(2, title="New"))
    assert merge(dict([older, newer])) == {"title": "New", "runtime": 90}
    assert merge(dict([newer, older])) == {"title": "New", "runtime": 90}
    # At the same time, by the key: any order, as long as it is always the same.
    same = ("table/tmdb-1", kept(1, title="New"))
    assert merge(dict([older, same])) == merge(dict([same, older]))


def test_an_average_belongs_to_its_count() -> None:
    best = kept(title="T", vote_count=3)
    other = kept(vote_average=9.9, vote_count=1_000_000)
    assert merge({"table/tmdb-1": best, "imdb-ratings/imdb-tt0000001": other}) == {
        "title": "T",
        "vote_count": 3,
    }
    silent = kept(title="T")
    assert merge({"table/tmdb-1": silent, "imdb-ratings/imdb-tt0000001": other}) == {
        "title": "T",
        "vote_average": 9.9,
        "vote_count": 1_000_000,
    }


@pytest.mark.parametrize(
    ("movie_id", "aliases", "expected"),
    [
        ("tmdb-862", set[str](), {"movie_id": "tmdb-862", "tmdb_id": 862}),
        (
            "tmdb-862",
            {"movielens-1", "imdb-tt0114709", "imdb-tt0114708"},
            {
                "movie_id": "tmdb-862",
                "tmdb_id": 862,
                "imdb_id": "tt0114708",
                "aliases": ["imdb-tt0114708", "imdb-tt0114709", "movielens-1"],
            },
        ),
        ("tmdb-862", {"movielens-1"}, {"tmdb_id": 862, "aliases": ["movielens-1"]}),
        (
            "imdb-tt0114709",
            {"movielens-1"},
            {"movie_id": "imdb-tt0114709", "imdb_id": "tt0114709", "aliases": ["movielens-1"]},
        ),
        ("movielens-1", set[str](), {"movie_id": "movielens-1"}),
        ("title-toy-story-1995", set[str](), {"movie_id": "title-toy-story-1995"}),
    ],
)
def test_ids_follow_from_the_keys(
    movie_id: str, aliases: set[str], expected: dict[str, Any]
) -> None:
    assert with_keys({"title": "Toy Story"}, movie_id, aliases) == {
        "title": "Toy Story",
        "movie_id": movie_id,
        **expected,
    }


def test_a_film_whose_imdb_key_is_anothers_still_names_its_imdb_id() -> None:
    content = with_keys({"title": "T", "imdb_id": "tt0000009"}, "tmdb-2", {"movielens-4"})
    assert (content["imdb_id"], content["aliases"]) == ("tt0000009", ["movielens-4"])
    own = with_keys({"title": "T", "imdb_id": "tt0000009"}, "imdb-tt0000001", set())
    assert own["imdb_id"] == "tt0000001"


def test_no_more_aliases_are_shown_than_the_contract_allows() -> None:
    many = {f"movielens-{number}" for number in range(1, 301)}
    shown = with_keys({}, "tmdb-1", many)["aliases"]
    assert shown == sorted(many)[:100]


def test_what_is_known_is_as_old_as_its_popularity() -> None:
    records = {
        "tmdb/tmdb-1": kept(3, title="T", popularity=5.0),
        "tmdb-file/tmdb-1": kept(1, popularity=4.0),
        "table/tmdb-1": kept(9, runtime=90),
    }
    assert known_since(records) == NOON + timedelta(minutes=3)
    del records["tmdb/tmdb-1"]
    assert known_since(records) == NOON + timedelta(minutes=1)
    del records["tmdb-file/tmdb-1"]
    records["movielens/movielens-1"] = kept(4, title="T")
    assert known_since(records) == NOON + timedelta(minutes=9)


def test_the_order_of_keys() -> None:
    keys = ["tmdb-9", "imdb-tt0000001", "movielens-1", "title-a-2000"]
    assert [rank_of_key(key) for key in keys] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Heat", "heat"),
        ("\u00c9cran Total", "ecran total"),
        ("\u201cWuthering\u201d", "\u201cwuthering\u201d"),
        ('"Heat"', 'heat"'),
        ("...And Justice", "and justice"),
        ("\u00a1Three Amigos!", "three amigos!"),
        ("[REC]", "rec]"),
        ("\u2026", "..."),
        ("-", "-"),
        ("\u1e9e", "ss"),
        ("\u0301", ""),
        ("\u4e03\u4eba\u306e\u4f8d", "\u4e03\u4eba\u306e\u4f8d"),
        ("A" * 1000, "a" * 100),
    ],
)
def test_what_titles_are_ordered_by(title: str, expected: str) -> None:
    assert sort_title(title) == expected
