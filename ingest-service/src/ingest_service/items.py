"""Which film a number of ml-100k is, as its u.item said; its u.data names films by nothing else."""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_REMEMBER: Final = text("""
    INSERT INTO movielens_items (item, movie_id)
    SELECT item, movie_id FROM unnest(CAST(:items AS int[]), CAST(:movie_ids AS text[]))
         AS new (item, movie_id)
    ORDER BY item
    ON CONFLICT (item) DO UPDATE SET movie_id = excluded.movie_id
    WHERE movielens_items.movie_id <> excluded.movie_id
""")
_ALL: Final = text("SELECT item, movie_id FROM movielens_items")


async def remember_items(connection: AsyncConnection, items: Mapping[int, str]) -> None:
    """Part of the transaction that stores the films; what was said last counts."""
    await connection.execute(_REMEMBER, {"items": list(items), "movie_ids": list(items.values())})


async def known_items(connection: AsyncConnection) -> dict[int, str]:
    """The keys of all films that have a number; there are 1,682 of them."""
    return {row.item: row.movie_id for row in await connection.execute(_ALL)}
