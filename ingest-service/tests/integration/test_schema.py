"""The migrations, the table definitions and PostgreSQL agree."""

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
      AND c.relname NOT IN ('inbox', 'outbox', 'alembic_version')
    ORDER BY 1
"""
_CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(c.oid)
    FROM pg_constraint c JOIN pg_class r ON r.oid = conrelid
    WHERE c.connamespace = to_regnamespace(:schema)
      AND r.relname NOT IN ('inbox', 'outbox', 'alembic_version')
    ORDER BY conname, 3
"""
_INDEXES = """
    SELECT indexname, indexdef FROM pg_indexes
    WHERE schemaname = :schema AND tablename NOT IN ('inbox', 'outbox', 'alembic_version')
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
    "document": '{"movie_id": "tmdb-5", "title": "T", "vote_count": 0, "popularity": 0}',
}
_INSERT = text("""
    INSERT INTO movies
        (movie_id, revision, fetched_at, updated_at, removed_at, removed_reason, document)
    VALUES (:movie_id, :revision, now(), now(), CAST(:removed AS timestamptz), :reason,
            CAST(CAST(:document AS text) AS jsonb))
""")


@pytest.mark.parametrize(
    "wrong",
    [
        {"revision": 0},
        {"reason": "a reason without a removal"},
        {"document": None},
        {"document": "null"},
        {"document": "{}"},
        {"movie_id": "tmdb-6"},
        {"document": '{"movie_id": "tmdb-5", "vote_count": 0, "popularity": 0}'},
        {"document": '{"movie_id": "tmdb-5", "title": "", "vote_count": 0, "popularity": 0}'},
        {"document": '{"movie_id": "tmdb-5", "title": "T", "vote_count": -1, "popularity": 0}'},
        {
            "document": '{"movie_id": "tmdb-5", "title": "T", "vote_count": 0, "popularity": 0,'
            ' "vote_average": 11}'
        },
    ],
)
async def test_bad_rows_cannot_be_stored(database: Database, wrong: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match="movies_"):
        async with database.transaction() as connection:
            await connection.execute(_INSERT, _GOOD | wrong)


async def test_the_good_row_of_the_test_above_can_be_stored(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(_INSERT, _GOOD)
