"""With 50,000 films: pages are read through an index, and are what sorting all films gives."""

from collections.abc import Callable, Sequence
from typing import Any, get_args

import psycopg
from ingest_service.listing import Filters, Sort, list_page
from service_kit import Database
from sqlalchemy import event, text

FILMS = 50_000
_FILMS = """
    INSERT INTO movies (movie_id, revision, fetched_at, updated_at, records, aliases, title,
        sort_title, original_language, release_date, genres, genre_keys,
        vote_average, vote_count, popularity)
    SELECT 'tmdb-' || n, 1, now(), now(),
        json_build_object('tmdb/tmdb-' || n, json_build_object('at', now(),
            'fields', json_build_object('overview', repeat(md5(n::text), 20)))),
        CASE WHEN n % 2 = 0 THEN ARRAY['imdb-tt' || 1000000 + n] ELSE '{}' END,
        'Film ' || lpad((n * 7919 % 100003)::text, 6, '0'),
        'film ' || lpad((n * 7919 % 100003)::text, 6, '0'),
        (ARRAY['en', 'en', 'en', 'ja', 'fr', 'es', 'is'])[n % 7 + 1],
        CASE WHEN n % 50 > 0 THEN make_date(1920 + n * 11 % 105, 1, 2) END,
        CASE WHEN n % 100 = 0 THEN ARRAY['Drama', 'Western'] ELSE ARRAY['Drama'] END,
        CASE WHEN n % 100 = 0 THEN ARRAY['drama', 'western'] ELSE ARRAY['drama'] END,
        CASE WHEN n % 5 > 0 THEN n * 13 % 100 / 10.0 END, n * 31 % 5000, n * 37 % 10007 / 10.0
    FROM generate_series(1, 50000) AS n
"""
_KEYS = """
    INSERT INTO film_keys (key, movie_id)
    SELECT unnest(aliases), movie_id FROM movies
"""
_CASES: Sequence[tuple[Filters, Sort, bool, int]] = (
    (Filters(), "popularity", True, 0),
    (Filters(), "popularity", True, 40_000),
    (Filters(), "release_date", True, 0),
    (Filters(), "release_date", True, 40_000),
    (Filters(), "vote_average", True, 0),
    (Filters(), "vote_average", True, 40_000),
    (Filters(year=1999), "popularity", True, 0),
    (Filters(year=1999), "vote_average", True, 0),
    (Filters(language="is"), "popularity", True, 0),
    (Filters(language="en"), "release_date", True, 0),
    (Filters(min_votes=4900), "vote_average", True, 0),
    (Filters(genre="drama"), "popularity", True, 0),
    (Filters(genre="western"), "vote_average", True, 0),
    (Filters(movie_ids=["tmdb-1", "tmdb-50000", "imdb-tt1000002"]), "popularity", True, 0),
    (Filters(movie_ids=["imdb-tt1000004"]), "popularity", True, 0),
)


def _sorted(sort: Sort, *, descending: bool) -> list[str]:
    """The list as it should be, from the numbers that `_FILMS` computes."""
    sign = -1 if descending else 1
    keys: dict[str, Callable[[int], tuple[int, ...] | None]] = {
        "popularity": lambda n: (n * 37 % 10007,),
        "release_date": lambda n: (n * 11 % 105,) if n % 50 > 0 else None,
        "vote_average": lambda n: (n * 13 % 100, n * 31 % 5000) if n % 5 > 0 else None,
        "title": lambda n: (n * 7919 % 100003,),
    }
    key_of = keys[sort]
    known = {n: key for n in range(1, FILMS + 1) if (key := key_of(n)) is not None}
    unknown = [n for n in range(1, FILMS + 1) if n not in known]
    if sort == "vote_average":
        unknown.sort(key=lambda n: (sign * (n * 31 % 5000), n))
    ordered = sorted(known, key=lambda n: (*(sign * value for value in known[n]), n))
    return [f"tmdb-{n}" for n in [*ordered, *unknown]]


async def test_pages_are_index_scans_in_the_right_order(
    database: Database, postgres_database: str
) -> None:
    async with database.transaction() as connection:
        await connection.execute(text(_FILMS))
        await connection.execute(text(_KEYS))
    # As autovacuum does it after so many new rows.
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE catalog.movies, catalog.film_keys")

    statements: list[tuple[str, Any]] = []

    def record(*arguments: Any) -> None:
        _, _, statement, parameters, _, _ = arguments
        statements.append((statement, parameters))

    async with database.reading() as connection:
        event.listen(connection.sync_connection, "before_cursor_execute", record)
        for filters, sort, descending, offset in _CASES:
            page = await list_page(
                connection, filters, sort=sort, descending=descending, limit=20, offset=offset
            )
            assert page.items, (filters, sort)
            statement, parameters = statements[-1]
            rows = await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
            plan = "\n".join(rows.scalars())
            assert "Seq Scan on movies" not in plan, (filters, sort, plan)
            assert "Index" in plan, (filters, sort, plan)

        # The directions that are asked for less are sorted, not read through an index.
        for sort in get_args(Sort):
            for descending in (True, False):
                expected = _sorted(sort, descending=descending)
                for offset in (0, 20_000, FILMS - 20):
                    page = await list_page(
                        connection,
                        Filters(),
                        sort=sort,
                        descending=descending,
                        limit=20,
                        offset=offset,
                    )
                    found = [film["movie_id"] for film in page.items]
                    assert found == expected[offset : offset + 20], (sort, descending, offset)
                    assert page.total == FILMS
