"""Values of fetches."""

from datetime import UTC, date, datetime, timedelta

from ingest_service.catalogue import Finding, newest_of_each, record_of
from ingest_service.records import Source, SourceRecord
from moviemetric_contracts import CastMember, Movie

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def finding(movie_id: str, minute: int) -> Finding:
    return Finding(
        movie_id=movie_id, fetched_at=NOON + timedelta(minutes=minute), removed_reason="gone"
    )


def test_the_last_fetch_of_each_film_remains_in_the_order_of_keys() -> None:
    older, newer, other = finding("tmdb-2", 0), finding("tmdb-2", 1), finding("tmdb-1", 0)
    assert newest_of_each([older, newer, other]) == [other, newer]
    assert newest_of_each([newer, other, older]) == [other, newer]


def test_a_film_of_tmdbs_as_a_record() -> None:
    movie = Movie(
        movie_id="tmdb-949",
        tmdb_id=949,
        imdb_id="tt0113277",
        title="Heat",
        release_date=date(1995, 12, 15),
        genres=("Crime", "Drama"),
        cast=(CastMember(name="Al Pacino", character="Hanna"), CastMember(name="B", order=1)),
        vote_average=8.0,
        vote_count=7,
        popularity=1.5,
        fetched_at=NOON,
    )
    assert record_of(movie) == SourceRecord(
        source=Source.TMDB,
        key="tmdb-949",
        links=("imdb-tt0113277",),
        # What is unknown is left out; what follows from the keys and the time is too.
        fields={
            "imdb_id": "tt0113277",
            "title": "Heat",
            "release_date": "1995-12-15",
            "genres": ["Crime", "Drama"],
            "cast": [{"name": "Al Pacino", "character": "Hanna"}, {"name": "B", "order": 1}],
            "vote_average": 8.0,
            "vote_count": 7,
            "popularity": 1.5,
        },
    )


def test_an_average_of_no_votes_says_nothing() -> None:
    movie = Movie(
        movie_id="tmdb-5", tmdb_id=5, title="T", vote_average=7.0, aliases=(), fetched_at=NOON
    )
    assert record_of(movie) == SourceRecord(Source.TMDB, "tmdb-5", (), {"title": "T"})
