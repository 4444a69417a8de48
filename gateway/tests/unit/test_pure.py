"""The parts that need nothing around them."""

from datetime import UTC, datetime

import pytest
from gateway.breaker import Breaker
from gateway.cache import Entry, Lookup
from gateway.films import with_trend
from gateway.prefixes import canonical_path
from gateway.subscriptions import tags_of
from moviemetric_contracts import (
    Event,
    JobChanged,
    Message,
    Movie,
    MovieRemoved,
    MovieUpserted,
    TrendBreakdown,
    TrendEntry,
    TrendUpdated,
)

NOW = datetime(2025, 1, 31, 20, 15, tzinfo=UTC)


def test_breaker_lets_one_probe_through_in_each_pause() -> None:
    now = 0.0
    breaker = Breaker(2.0, clock=lambda: now)
    assert breaker.allows()
    assert breaker.failed()
    assert not breaker.failed()
    assert not breaker.allows()
    now = 1.9
    assert not breaker.allows()
    now = 2.0
    assert [breaker.allows(), breaker.allows(), breaker.allows()] == [True, False, False]
    # A probe that never reports, because its request was cancelled, does not block for ever.
    now = 4.0
    assert breaker.allows()
    assert breaker.succeeded()
    assert [breaker.allows(), breaker.allows()] == [True, True]
    assert not breaker.succeeded()


def test_entry_survives_packing_with_newlines_and_bars_in_its_body() -> None:
    entry = Entry(1.5, 6.5, b"0,ab", b'{"a":\n"x|y"}\n')
    assert Entry.unpack(entry.pack()) == entry
    assert Entry.unpack(b"2|something else\n{}") is None
    assert Entry.unpack(b"") is None


@pytest.mark.parametrize(
    ("entry", "unchanged"),
    [
        (Entry(1.5, 6.5, b"0,0", b"{}"), True),
        (Entry(1.5, 6.5, b"0,1", b"{}"), False),
        (None, False),
    ],
)
def test_an_entry_is_unchanged_until_one_of_its_tags_is_dropped(
    entry: Entry | None, unchanged: bool
) -> None:
    assert Lookup(entry, b"0,0").unchanged is unchanged


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        ("/movies", "/api/v1/movies"),
        ("/api/movies", "/api/v1/movies"),
        ("/api/v1/movies", "/api/v1/movies"),
        ("/health", "/health"),
        ("/api/health", "/health"),
        ("/api/v1/health", "/health"),
        ("/openapi.json", "/openapi.json"),
        ("/api/v1/api/v1/movies", "/api/v1/api/v1/movies"),
        ("/apiary", "/api/v1/apiary"),
    ],
)
def test_canonical_path(path: str, canonical: str) -> None:
    assert canonical_path(path) == canonical


def test_events_name_the_answers_that_they_make_old() -> None:
    def event(data: Message) -> Event[Message]:
        return Event.of(data, source="test", time=NOW)

    def entry(movie_id: str) -> TrendEntry:
        return TrendEntry(
            movie_id=movie_id,
            score=1,
            rank_key=0,
            views=1,
            breakdown=TrendBreakdown(activity=1, quality=1),
        )

    movie = Movie(
        movie_id="tmdb-1",
        title="One",
        aliases=("imdb-tt0000001", "movielens-7"),
        fetched_at=NOW,
    )
    entries = (entry("tmdb-3"), entry("tmdb-4"))
    assert tags_of(
        [
            event(MovieUpserted(movie=movie, revision=1)),
            event(MovieRemoved(movie_id="imdb-tt0000002", reason="gone", revision=2)),
            event(TrendUpdated(as_of=NOW, revision=1, entries=entries)),
        ]
    ) == {
        "lists",
        "catalogue",
        "movie:tmdb-1",
        "movie:imdb-tt0000001",
        "movie:movielens-7",
        "movie:imdb-tt0000002",
        "movie:tmdb-3",
        "movie:tmdb-4",
    }
    assert tags_of([]) == set()
    # The progress of a job, several times a second, must leave the lists alone.
    job = JobChanged(job_id="import-" + "0" * 32, kind="import", state="running")
    assert tags_of([event(job)]) == set()


def test_trend_fields_tell_unknown_from_nothing() -> None:
    film = {"movie_id": "tmdb-1", "vote_average": 7.5}
    trend = {"movie_id": "tmdb-1", "views": 3, "ratings": 1, "final_trend_score": 12.5}
    expected = {**film, "external_score": 7.5}
    assert with_trend(dict(film), trend) == {
        **expected,
        "views": 3,
        "ratings": 1,
        "final_trend_score": 12.5,
    }
    assert with_trend(dict(film), None) == {
        **expected,
        "views": 0,
        "ratings": 0,
        "final_trend_score": None,
    }
    assert with_trend(dict(film), None, known=False) == {
        **expected,
        "views": None,
        "ratings": None,
        "final_trend_score": None,
    }
