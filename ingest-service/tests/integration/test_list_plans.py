"""Every page of a list is read through an index, with 50,000 films."""

from collections.abc import Sequence
from typing import Any

import psycopg
from ingest_service import repository
from ingest_service.repository import Filters, Sort
from service_kit import Database
from sqlalchemy import event, text

_FILMS = """
    INSERT INTO movies (movie_id, revision, fetched_at, updated_at, document)
    SELECT 'tmdb-' || n, 1, now(), now(), jsonb_build_object(
        'movie_id', 'tmdb-' || n, 'tmdb_id', n, 'title', 'Film ' || md5(n::text),
        'original_language', (ARRAY['en', 'en', 'en', 'ja', 'fr', 'es', 'is'])[n % 7 + 1],
        'release_date', CASE WHEN n % 50 > 0 THEN 1920 + n * 11 % 105 || '-01-02' END,
        'genres', jsonb_build_array('Drama'),
        'vote_average', CASE WHEN n % 5 > 0 THEN n * 13 % 100 / 10.0 END,
        'vote_count', n * 31 % 5000, 'popularity', n * 37 % 10007 / 10.0,
        'overview', repeat(md5(n::text), 20))
    FROM generate_series(1, 50000) AS n
"""
_CASES: Sequence[tuple[Filters, Sort, bool, int]] = (
    (Filters(), "popularity", True, 0),
    (Filters(), "popularity", False, 40_000),
    (Filters(), "release_date", True, 40_000),
    (Filters(), "release_date", False, 0),
    (Filters(), "vote_average", True, 0),
    (Filters(), "vote_average", False, 0),
    (Filters(), "title", True, 0),
    (Filters(), "title", False, 40_000),
    (Filters(year=1999), "popularity", True, 0),
    (Filters(year=1999), "vote_average", True, 0),
    (Filters(language="is"), "popularity", True, 0),
    (Filters(language="en"), "release_date", True, 0),
    (Filters(min_votes=4900), "vote_average", True, 0),
    (Filters(genre="drama"), "popularity", True, 0),
    (Filters(genre="western"), "vote_average", True, 0),
    (Filters(movie_ids=["tmdb-1", "tmdb-50000", "imdb-tt0000001"]), "popularity", True, 0),
)


async def test_pages_are_index_scans(database: Database, postgres_database: str) -> None:
    async with database.transaction() as connection:
        await connection.execute(text(_FILMS))
        await connection.execute(text("INSERT INTO genres (name) VALUES ('Drama'), ('Western')"))
        await connection.execute(
            text("""
                INSERT INTO movie_genres SELECT movie_id, 1 FROM movies
                UNION ALL SELECT movie_id, 2 FROM movies WHERE tmdb_id % 100 = 0
            """)
        )
    # As autovacuum does it after so many new rows.
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE catalog.movies, catalog.movie_genres")

    statements: list[tuple[str, Any]] = []

    def record(*arguments: Any) -> None:
        _, _, statement, parameters, _, _ = arguments
        statements.append((statement, parameters))

    async with database.reading() as connection:
        event.listen(connection.sync_connection, "before_cursor_execute", record)
        for filters, sort, descending, offset in _CASES:
            page = await repository.list_page(
                connection, filters, sort=sort, descending=descending, limit=20, offset=offset
            )
            assert page.items, (filters, sort)
            statement, parameters = statements[-1]
            rows = await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
            plan = "\n".join(rows.scalars())
            assert "Seq Scan on movies" not in plan, (filters, sort, plan)
            assert "Index" in plan, (filters, sort, plan)
