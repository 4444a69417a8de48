from datetime import UTC, datetime, timedelta

from ingest_service.catalogue import Finding, newest_of_each

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def finding(movie_id: str, minute: int) -> Finding:
    return Finding(
        movie_id=movie_id, fetched_at=NOON + timedelta(minutes=minute), removed_reason="gone"
    )


def test_the_last_fetch_of_each_film_remains_in_the_order_of_keys() -> None:
    older, newer, other = finding("tmdb-2", 0), finding("tmdb-2", 1), finding("tmdb-1", 0)
    assert newest_of_each([older, newer, other]) == [other, newer]
    assert newest_of_each([newer, other, older]) == [other, newer]
