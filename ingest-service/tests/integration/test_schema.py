"""The migrations, the table definitions and PostgreSQL agree."""

from datetime import UTC, datetime
from typing import Any

import pytest
from ingest_service.models import metadata
from service_kit import Database
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

_COLUMNS = """
    SELECT c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
           l.collname, a.attgenerated::text, a.attidentity::text,
           pg_get_expr(d.adbin, d.adrelid)
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    LEFT JOIN pg_collation l ON l.oid = a.attcollation
    LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
    WHERE c.relnamespace = to_regnamespace(:schema) AND c.relkind = 'r' AND a.attnum > 0
      AND c.relname NOT IN ('inbox', 'outbox', 'jobs', 'alembic_version')
    ORDER BY 1
"""
_CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(c.oid)
    FROM pg_constraint c JOIN pg_class r ON r.oid = conrelid
    WHERE c.connamespace = to_regnamespace(:schema)
      AND r.relname NOT IN ('inbox', 'outbox', 'jobs', 'alembic_version')
    ORDER BY conname, 3
"""
_INDEXES = """
    SELECT indexname, indexdef FROM pg_indexes
    WHERE schemaname = :schema AND tablename NOT IN ('inbox', 'outbox', 'jobs', 'alembic_version')
    ORDER BY indexname
"""


async def _described(database: Database, schema: str) -> list[str]:
    lines: list[str] = []
    async with database.transaction() as connection:
        await connection.execute(text(f"SET LOCAL search_path = {schema}"))
        for query in (_COLUMNS, _CONSTRAINTS, _INDEXES):
            rows = await connection.execute(text(query), {"schema": schema})
            lines += [str(tuple(row)).replace(f"{schema}.", "") for row in rows]
    return lines


async def test_the_migrations_make_the_tables_that_the_code_describes(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(text("CREATE SCHEMA described"))
        await connection.execute(text("SET LOCAL search_path = described"))
        await connection.run_sync(metadata.create_all)
    migrated = await _described(database, "catalog")
    assert len(migrated) > 60
    assert migrated == await _described(database, "described")


_GOOD: dict[str, Any] = {
    "movie_id": "tmdb-5",
    "revision": 1,
    "removed": None,
    "reason": None,
    "records": '{"tmdb/tmdb-5": {"at": "2026-01-01T00:00:00+00:00", "fields": {"title": "T"}}}',
    "title": "T",
    "sort_title": "t",
    "vote_average": None,
    "vote_count": 0,
    "popularity": 0.0,
}
_INSERT = text("""
    INSERT INTO movies
        (movie_id, revision, updated_at, fetched_at, removed_at, removed_reason, records, aliases,
         title, sort_title, genres, genre_keys, vote_average, vote_count, popularity)
    VALUES (:movie_id, :revision, now(), now(), CAST(:removed AS timestamptz), :reason,
            CAST(CAST(:records AS text) AS json), '{}', CAST(:title AS text),
            CAST(:sort_title AS text), '{}', '{}', :vote_average, :vote_count, :popularity)
""")


@pytest.mark.parametrize(
    "wrong",
    [
        {"revision": 0},
        {"reason": "a reason without a removal"},
        {"removed": datetime(2026, 1, 1, tzinfo=UTC)},
        {"title": None},
        {"sort_title": None},
        {"title": ""},
        {"vote_average": 11.0},
        {"vote_average": -0.1},
        {"vote_count": -1},
        {"popularity": -1.0},
    ],
)
async def test_bad_films_cannot_be_stored(database: Database, wrong: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match="movies_"):
        async with database.transaction() as connection:
            await connection.execute(_INSERT, _GOOD | wrong)


@pytest.mark.parametrize(
    "right", [{}, {"title": None, "sort_title": None}, {"vote_average": 10.0, "vote_count": 2**40}]
)
async def test_good_films_can_be_stored(database: Database, right: dict[str, Any]) -> None:
    async with database.transaction() as connection:
        await connection.execute(_INSERT, _GOOD | right)


async def test_a_film_is_stored_once(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(_INSERT, _GOOD)
    with pytest.raises(IntegrityError, match="movies_pkey"):
        async with database.transaction() as connection:
            await connection.execute(_INSERT, _GOOD)


_ADD_KEY = text("INSERT INTO film_keys (key, movie_id) VALUES (:key, :movie_id)")


@pytest.mark.parametrize(
    ("key", "movie_id"), [("tmdb-5", "tmdb-5"), ("title-heat-1995", "title-heat-1995")]
)
async def test_only_keys_that_a_link_may_claim_stand_for_themselves(
    database: Database, key: str, movie_id: str
) -> None:
    with pytest.raises(IntegrityError, match="film_keys_are_claimable"):
        async with database.transaction() as connection:
            await connection.execute(_ADD_KEY, {"key": key, "movie_id": movie_id})


async def test_a_key_stands_for_one_film(database: Database) -> None:
    async with database.transaction() as connection:
        for key, movie_id in (
            ("imdb-tt0000001", "imdb-tt0000001"),
            ("imdb-tt0000002", "tmdb-5"),
            ("movielens-5", "tmdb-5"),
        ):
            await connection.execute(_ADD_KEY, {"key": key, "movie_id": movie_id})
    with pytest.raises(IntegrityError, match="film_keys_pkey"):
        async with database.transaction() as connection:
            await connection.execute(_ADD_KEY, {"key": "movielens-5", "movie_id": "tmdb-6"})
