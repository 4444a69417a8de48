"""SQL of what was searched for: `searches` and `opened_films`, by day."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from search_indexer.signals import QueryCounts

# Beyond so many queries a day the rarest are forgotten: who types at random fills no table.
MOST_QUERIES_A_DAY: Final = 20_000
MOST_FILMS_OF_A_QUERY: Final = 50
_TOP_OPENED: Final = 5

_ADD: Final = text("""
INSERT INTO searches AS s (day, query, searches, no_result_searches, opened)
SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (
    day date, query text, searches bigint, no_result_searches bigint, opened bigint)
ORDER BY day, query
ON CONFLICT (day, query) DO UPDATE SET
    searches = s.searches + excluded.searches,
    no_result_searches = s.no_result_searches + excluded.no_result_searches,
    opened = s.opened + excluded.opened
""")
_ADD_FILMS: Final = text("""
INSERT INTO opened_films AS f (day, query, movie_id, opened)
SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (
    day date, query text, movie_id text, opened bigint)
ORDER BY day, query, movie_id
ON CONFLICT (day, query, movie_id) DO UPDATE SET opened = f.opened + excluded.opened
""")

_SUMS: Final = """
sums AS MATERIALIZED (
    SELECT query, sum(searches)::bigint AS searches,
        sum(no_result_searches)::bigint AS no_result_searches, sum(opened)::bigint AS opened
    FROM searches
    WHERE day BETWEEN :date_from AND :date_to
    GROUP BY query
    HAVING NOT :no_results OR sum(no_result_searches) > 0
)"""
_TOP: Final = text(f"""
WITH {_SUMS},
top AS MATERIALIZED (
    SELECT * FROM sums
    ORDER BY CASE WHEN :no_results THEN no_result_searches ELSE searches END DESC,
        searches DESC, query COLLATE "C"
    LIMIT :limit OFFSET :offset
)
SELECT (SELECT count(*) FROM sums) AS total, (
    SELECT jsonb_agg(jsonb_build_object(
        'query', t.query, 'searches', t.searches,
        'no_result_searches', t.no_result_searches, 'opened', t.opened,
        'top_opened', ARRAY(
            SELECT f.movie_id FROM opened_films f
            WHERE f.query = t.query AND f.day BETWEEN :date_from AND :date_to
            GROUP BY f.movie_id ORDER BY sum(f.opened) DESC, f.movie_id LIMIT :films
        ))
        ORDER BY CASE WHEN :no_results THEN t.no_result_searches ELSE t.searches END DESC,
            t.searches DESC, t.query COLLATE "C")
    FROM top t
) AS items
""")  # noqa: S608 -- made of constants; values are bound

_FORGET_OLD: Final = text("DELETE FROM searches WHERE day < :before")
_FORGET_RARE: Final = text("""
DELETE FROM searches s USING (
    SELECT day, query, row_number() OVER (
        PARTITION BY day ORDER BY searches DESC, opened DESC, query) AS place
    FROM searches
) AS placed
WHERE s.day = placed.day AND s.query = placed.query AND placed.place > :most
""")
_FORGET_RARE_FILMS: Final = text("""
DELETE FROM opened_films f USING (
    SELECT day, query, movie_id, row_number() OVER (
        PARTITION BY day, query ORDER BY opened DESC, movie_id) AS place
    FROM opened_films
) AS placed
WHERE (f.day, f.query, f.movie_id) = (placed.day, placed.query, placed.movie_id)
    AND placed.place > :most
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class TopSearch:
    """A query and what came of it; `top_opened` are movie ids, the one opened most first."""

    query: str
    searches: int
    no_result_searches: int
    opened: int
    top_opened: list[str]


async def add(connection: AsyncConnection, counts: Mapping[tuple[date, str], QueryCounts]) -> None:
    """Adds the counts of a batch."""
    if not counts:
        return
    rows = [
        {
            "day": day.isoformat(),
            "query": query,
            "searches": entry.searches,
            "no_result_searches": entry.no_results,
            "opened": entry.opened,
        }
        for (day, query), entry in counts.items()
    ]
    films = [
        {"day": day.isoformat(), "query": query, "movie_id": movie_id, "opened": opened}
        for (day, query), entry in counts.items()
        for movie_id, opened in entry.films.items()
    ]
    await connection.execute(_ADD, {"rows": json.dumps(rows)})
    if films:
        await connection.execute(_ADD_FILMS, {"rows": json.dumps(films)})


async def top_searches(
    connection: AsyncConnection,
    *,
    date_from: date,
    date_to: date,
    no_results: bool,
    limit: int,
    offset: int,
) -> tuple[list[TopSearch], int]:
    """A page of the queries searched most (or most in vain) on these days, and how many in all."""
    row = (
        await connection.execute(
            _TOP,
            {
                "date_from": date_from,
                "date_to": date_to,
                "no_results": no_results,
                "limit": limit,
                "offset": offset,
                "films": _TOP_OPENED,
            },
        )
    ).one()
    return [TopSearch(**item) for item in row.items or ()], row.total


async def forget(
    connection: AsyncConnection,
    *,
    before: date,
    most_queries: int = MOST_QUERIES_A_DAY,
    most_films: int = MOST_FILMS_OF_A_QUERY,
) -> None:
    """Deletes days before `before`, and the rarest queries and films beyond the most of a day."""
    await connection.execute(_FORGET_OLD, {"before": before})
    await connection.execute(_FORGET_RARE, {"most": most_queries})
    await connection.execute(_FORGET_RARE_FILMS, {"most": most_films})
