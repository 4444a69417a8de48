"""Facets follow the catalogue; the migration makes those of films that were there before."""

from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from typing import Any

from compute_service import charts
from compute_service.charts import ChartFilter
from compute_service.rebuild import rebuild
from compute_service.trend import TrendFormula, Window
from moviemetric_contracts import Event
from service_kit import Database, Outcome
from sqlalchemy import text

Deliver = Callable[[Sequence[Event[Any]]], Awaitable[list[Outcome]]]

_FACETS = text("""
    SELECT movie_id, facet_year, facet_language, facet_votes, facet_genres FROM trends
    ORDER BY movie_id
""")
_FORGET = text("""
    UPDATE trends SET facet_year = NULL, facet_language = NULL, facet_votes = 0, facet_genres = 0
""")
_FILL = text(import_module("compute_service.migrations.versions.0007_facets").FILL)
GENRES = ("Drama", "Science Fiction", "Noël", "ÉTÉ", "動畫", "Straße", "War")


async def facets(database: Database) -> list[tuple[Any, ...]]:
    async with database.reading() as connection:
        return [tuple(row) for row in await connection.execute(_FACETS)]


async def a_catalogue(deliver_all: Deliver, make: Any) -> None:
    await deliver_all(
        [
            *(
                make.upserted(
                    f"tmdb-{n}",
                    genres=GENRES[n % 7 : n % 7 + n % 4],
                    original_language=("en", "JA", None, "İ", "ΑΣ")[n % 5 if n % 3 else 0],
                    release_date=None if n % 7 == 0 else f"{1900 + n}-01-01",
                    vote_count=n * n,
                )
                for n in range(1, 60)
            ),
            make.upserted("tmdb-100", genres=("War",), aliases=("imdb-tt0000100",)),
            make.viewed("imdb-tt0000100"),
            make.viewed("tmdb-200"),
            make.removed("tmdb-7", revision=2),
        ]
    )


async def test_the_migration_and_the_rebuild_make_the_same(
    database: Database, deliver_all: Deliver, make: Any
) -> None:
    await a_catalogue(deliver_all, make)
    written = await facets(database)
    assert len({row[1:] for row in written}) > 40
    for key in ("imdb-tt0000100", "tmdb-200", "tmdb-7"):
        assert (key, None, None, 0, 0) in written, "is no film in the catalogue"
    async with database.transaction() as connection:
        await connection.execute(_FORGET)
        await connection.execute(_FILL)
    assert await facets(database) == written
    async with database.transaction() as connection:
        await connection.execute(_FORGET)
        await rebuild(connection, TrendFormula())
    assert await facets(database) == written


async def test_a_language_that_is_not_ascii_is_found_either_way(
    database: Database, deliver_all: Deliver, make: Any
) -> None:
    """What its lower case is only the database says."""
    await deliver_all([make.upserted("tmdb-1", original_language="İ"), make.upserted("tmdb-2")])
    async with database.reading() as connection:
        lower = (await connection.execute(text("SELECT lower('İ')"))).scalar_one()
        for passing in (None, 0):
            page = await charts.read_chart(
                connection,
                Window.DAY,
                ChartFilter(language=lower),
                limit=1,
                offset=0,
                ranked=1000,
                passing=passing,
            )
            assert [entry.movie_id for entry in page.entries] == ["tmdb-1"]
            assert page.total == (None if passing is None else 1)


async def test_they_follow_each_version(
    database: Database, deliver_all: Deliver, make: Any
) -> None:
    async def found(**wanted: Any) -> list[str]:
        async with database.reading() as connection:
            page = await charts.read_chart(
                connection, Window.WEEK, ChartFilter(**wanted), limit=1, offset=0
            )
        # by rank: sorting would have counted
        assert page.total is None or not page.entries
        return [entry.movie_id for entry in page.entries]

    await deliver_all([make.upserted("tmdb-1", genres=("Drama",), original_language="en")])
    assert await found(genre="drama", language="EN") == ["tmdb-1"]
    await deliver_all([make.upserted("tmdb-1", 2, genres=("War",), original_language="fr")])
    assert await found(genre="war", language="fr") == ["tmdb-1"]
    assert await found(genre="drama") == []
    # an aggregate of its ratings leaves them as they are
    await deliver_all([make.aggregated("tmdb-1", scores=[10.0], revision=1)])
    assert await found(genre="war", language="fr") == ["tmdb-1"]
    await deliver_all([make.removed("tmdb-1", revision=3)])
    assert await found(genre="war") == []
    await deliver_all([make.upserted("tmdb-1", 4, genres=("War",), release_date="1930-05-05")])
    assert await found(genre="war", year=1930) == ["tmdb-1"]
