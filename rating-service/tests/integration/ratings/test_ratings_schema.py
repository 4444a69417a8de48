"""The tables are closed to states that cannot be."""

from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO movies (movie_id, revision) VALUES ('tmdb-1', -1)",
        "INSERT INTO movies (movie_id, film) VALUES ('tmdb-1', 'tmdb-1')",
        "INSERT INTO movies (movie_id, revision, present) VALUES ('tmdb-1', 1, true)",
        "INSERT INTO movies (movie_id, title) VALUES ('tmdb-1', 'T')",
        "INSERT INTO movies (movie_id, present, title, vote_count) VALUES ('tmdb-1', true, 'T', 1)",
        "INSERT INTO movies (movie_id, genres) VALUES ('tmdb-1', '{Drama}')",
        "INSERT INTO ratings VALUES ('u', 'tmdb-1', 0, NULL, now(), 'e')",
        "INSERT INTO ratings VALUES ('u', 'tmdb-1', 21, NULL, now(), 'e')",
        "INSERT INTO ratings VALUES ('u', 'tmdb-1', NULL, 'Good.', now(), 'e')",
        "INSERT INTO ratings VALUES ('u', 'tmdb-1', 5, '', now(), 'e')",
        "INSERT INTO ratings VALUES ('u', 'tmdb-1', 5, NULL, 'infinity', 'e')",
        "INSERT INTO aggregates VALUES ('tmdb-1', '{0}', 1)",
        "INSERT INTO aggregates VALUES ('tmdb-1', array_fill(-1::bigint, ARRAY[20]), 1)",
        "INSERT INTO aggregates VALUES ('tmdb-1', array_fill(0::bigint, ARRAY[20]), 0)",
    ],
)
async def test_impossible_states_cannot_be_stored(store: Any, statement: str) -> None:
    with pytest.raises(IntegrityError, match="violates check constraint"):
        await store.execute(statement)


async def test_a_second_rating_of_a_film_cannot_be_stored(store: Any, make: Any) -> None:
    await store.deliver([make.rate("ada", "tmdb-1", 5)])
    with pytest.raises(IntegrityError, match="ratings_pkey"):
        await store.execute("INSERT INTO ratings VALUES ('ada', 'tmdb-1', 6, NULL, now(), 'e')")
