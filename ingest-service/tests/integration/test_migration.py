"""A catalogue of the first layout is brought to the present one, and nobody notices."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from ingest_service.catalogue import Finding
from ingest_service.ledger import Effect
from ingest_service.listing import Filters, find, list_page
from ingest_service.records import Source, SourceRecord
from ingest_service.repository import open_ledger, save
from ingest_service.storing import store_findings
from ingest_service.tmdb_movie import movie_from_tmdb
from moviemetric_contracts import Movie, MovieRemoved
from service_kit import Database, unit_of_work
from service_kit.database import async_url
from service_kit.testing import outbox_events
from sqlalchemy import text

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CHANGED = NOON - timedelta(days=2)
REMOVED = NOON - timedelta(hours=5)

# As TMDB sends them: every kind of value, unknown ones, and one IMDb id that two films claim.
FULL = {
    "id": 27205,
    "imdb_id": "tt1375666",
    "title": "Inception",
    "original_title": "Inception",
    "original_language": "en",
    "overview": 'Cobb steals "secrets".\n\u2014 \u00c9 \U0001f3ac',
    "tagline": "",
    "status": "Released",
    "release_date": "2010-07-15",
    "runtime": 148,
    "budget": 160_000_000,
    "revenue": 0,
    "genres": [{"name": "Action"}, {"name": "Science Fiction"}],
    "keywords": {"keywords": [{"name": "dream"}]},
    "credits": {
        "cast": [
            {"name": "Leonardo DiCaprio", "character": "Cobb", "order": 0, "id": 6193},
            {"name": "Nobody", "character": "", "order": 3},
        ],
        "crew": [
            {"name": "Christopher Nolan", "job": "Director", "department": "Directing", "id": 525},
            {"name": "Somebody", "job": "Writer"},
        ],
    },
    "spoken_languages": [{"iso_639_1": "en"}],
    "production_countries": [{"iso_3166_1": "GB"}],
    "production_companies": [{"name": "Legendary Pictures"}],
    "belongs_to_collection": None,
    "homepage": "https://example.org/",
    "poster_path": "/a.jpg",
    "backdrop_path": None,
    "adult": True,
    "vote_average": 8.369,
    "vote_count": 38_000,
    "popularity": 83.952,
}
BARE = {"id": 11, "title": "\u00c9cran", "popularity": 0, "vote_count": 0, "vote_average": 0}
# Few voters, an average all the same.
ODD = {"id": 12, "title": "Odd", "vote_average": 7, "vote_count": 0, "popularity": 1e-05}
PUNCTUATED = {
    "id": 14,
    "title": "\u00bfQu\u00e9 he hecho yo? ... A\u030a",
    "genres": [{"name": "\u00c9pica"}, {"name": "Terror"}],
}
WHOLE = {"id": 13, "title": "Whole", "vote_average": 7, "vote_count": 3, "popularity": 120}
# Two films of one IMDb id: the one with more votes was the answer to it, the other not so.
FIRST = {"id": 21, "title": "First", "imdb_id": "tt0000021", "vote_count": 5, "popularity": 90}
SECOND = {"id": 22, "title": "Second", "imdb_id": "tt0000021", "vote_count": 50, "popularity": 2}
# And a removed one that had the most.
ALSO_GONE = {"id": 23, "title": "Third", "imdb_id": "tt0000021", "vote_count": 99, "popularity": 99}
GONE = {"id": 31, "title": "Gone", "imdb_id": "tt0000031", "genres": [{"name": "Drama"}]}

PRESENT: tuple[dict[str, Any], ...] = (FULL, BARE, ODD, PUNCTUATED, WHOLE, FIRST, SECOND)

REMOVED_FILMS: tuple[dict[str, Any], ...] = (GONE, ALSO_GONE)

_INSERT = text("""
    INSERT INTO movies
        (movie_id, revision, fetched_at, updated_at, removed_at, removed_reason, document)
    VALUES (:movie_id, :revision, :fetched_at, :updated_at, :removed_at, :reason,
            CAST(:document AS jsonb))
""")
_ADD_GENRES = text("""
    INSERT INTO genres (name)
    SELECT DISTINCT jsonb_array_elements_text(genres) FROM movies WHERE genres IS NOT NULL
""")
_HAS_GENRES = text("""
    INSERT INTO movie_genres (movie_id, genre_id)
    SELECT movie_id, genre_id FROM movies CROSS JOIN jsonb_array_elements_text(genres) AS g (name)
    JOIN genres USING (name)
""")
_EXTERNAL_IDS = text("""
    INSERT INTO external_ids (movie_id, source, external_id)
    SELECT movie_id, 'tmdb', tmdb_id::text FROM movies WHERE tmdb_id IS NOT NULL
    UNION ALL SELECT movie_id, 'imdb', imdb_id FROM movies WHERE imdb_id IS NOT NULL
""")


def movie(body: Mapping[str, Any], fetched_at: datetime = NOON) -> Movie:
    return movie_from_tmdb(body, tmdb_id=body["id"], fetched_at=fetched_at)


def _alembic(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", "ingest_service:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["database_url"] = async_url(url)
    config.attributes["schema"] = "catalog"
    return config


async def _insert(
    database: Database, number: int, document: str | None, *, removed_at: datetime | None = None
) -> None:
    async with database.transaction() as connection:
        await connection.execute(
            _INSERT,
            {
                "movie_id": f"tmdb-{number}",
                "revision": 7 if removed_at is None else 8,
                "fetched_at": NOON,
                "updated_at": CHANGED if removed_at is None else removed_at,
                "removed_at": removed_at,
                "reason": None if removed_at is None else "TMDB does not know it",
                "document": document,
            },
        )


def _document(body: Mapping[str, Any]) -> str:
    # Without aliases, which the first layout did not know.
    return movie(body).model_dump_json(exclude={"fetched_at", "aliases"})


@pytest.fixture
async def migrated(postgres_database: str) -> AsyncGenerator[Database]:
    """A catalogue that was filled in the first layout and then upgraded."""
    await asyncio.to_thread(command.upgrade, _alembic(postgres_database), "0001")
    old = Database(postgres_database, schema="catalog")
    for body in PRESENT:
        await _insert(old, body["id"], _document(body))
    for body in REMOVED_FILMS:
        await _insert(old, body["id"], _document(body), removed_at=REMOVED)
    await _insert(old, 32, None, removed_at=REMOVED)
    async with old.transaction() as connection:
        for statement in (_ADD_GENRES, _HAS_GENRES, _EXTERNAL_IDS):
            await connection.execute(statement)
    await old.dispose()
    await asyncio.to_thread(command.upgrade, _alembic(postgres_database), "head")
    database = Database(postgres_database, schema="catalog")
    yield database
    await database.dispose()


@pytest.mark.parametrize("body", PRESENT, ids=lambda body: body["title"])
async def test_a_present_film_is_what_it_was(migrated: Database, body: Mapping[str, Any]) -> None:
    async with migrated.reading() as connection:
        known = await find(connection, f"tmdb-{body['id']}")
    assert known is not None
    assert known.content is not None
    assert (known.revision, known.updated_at, known.removed_reason) == (7, CHANGED, None)
    assert known.known_since == NOON
    shown = Movie.model_validate({**known.content, "fetched_at": known.known_since})
    # An average of no votes said nothing, and is the only thing that is dropped.
    expected = movie(body).model_copy(
        update={"aliases": shown.aliases} | ({"vote_average": None} if body is ODD else {})
    )
    assert shown == expected


async def test_imdb_ids_are_keys_of_the_film_that_answered_to_them(migrated: Database) -> None:
    found = {
        "imdb-tt1375666": "tmdb-27205",
        "imdb-tt0000021": "tmdb-22",
        "imdb-tt0000031": "tmdb-31",
    }
    async with migrated.reading() as connection:
        for key, movie_id in found.items():
            known = await find(connection, key)
            assert known is not None
            assert known.movie_id == movie_id
        rows = await connection.execute(text("SELECT movie_id, aliases FROM movies"))
        aliases = {row.movie_id: row.aliases for row in rows}
        rows = await connection.execute(text("SELECT key, movie_id FROM film_keys"))
        assert {row.key: row.movie_id for row in rows} == found
    assert {key: value for key, value in aliases.items() if value} == {
        "tmdb-27205": ["imdb-tt1375666"],
        "tmdb-22": ["imdb-tt0000021"],
        "tmdb-31": ["imdb-tt0000031"],
    }


async def test_lists_hold_what_they_held(migrated: Database) -> None:
    expected = {
        "popularity": [27205, 13, 21, 22, 12, 11],
        "vote_average": [27205, 13],
        "release_date": [27205],
    }
    expected["popularity"] = [13, 21, 27205, 22, 12, 11]
    async with migrated.reading() as connection:
        for sort in ("popularity", "vote_average", "release_date"):
            page = await list_page(
                connection, Filters(), sort=sort, descending=True, limit=100, offset=0
            )
            ids = [film["movie_id"] for film in page.items]
            assert page.total == len(PRESENT)
            first = expected[sort]
            assert ids[: len(first)] == [f"tmdb-{number}" for number in first], sort
        page = await list_page(
            connection,
            Filters(genre="science fiction", year=2010, language="en", min_votes=38_000),
            sort="title",
            descending=False,
            limit=100,
            offset=0,
        )
    full = movie(FULL)
    assert [dict(film) for film in page.items] == [
        {
            "movie_id": "tmdb-27205",
            "imdb_id": "tt1375666",
            "title": "Inception",
            "original_title": "Inception",
            "original_language": "en",
            "release_date": date(2010, 7, 15),
            "genres": list(full.genres),
            "vote_average": 8.369,
            "vote_count": 38_000,
            "popularity": 83.952,
            "poster_path": "/a.jpg",
        }
    ]


async def test_removed_films_stay_removed(migrated: Database) -> None:
    async with migrated.reading() as connection:
        gone = await find(connection, "tmdb-31")
        never = await find(connection, "tmdb-32")
    assert gone is not None
    assert gone.content is not None
    assert (gone.removed_reason, gone.revision) == ("TMDB does not know it", 8)
    assert gone.content["title"] == "Gone"
    assert never is not None
    assert (never.content, never.removed_reason, never.revision) == (
        None,
        "TMDB does not know it",
        8,
    )


async def test_what_tmdb_says_again_is_no_change(migrated: Database) -> None:
    later = NOON + timedelta(hours=1)
    again = [
        Finding(movie_id=f"tmdb-{body['id']}", fetched_at=later, movie=movie(body, later))
        for body in PRESENT
    ]
    again += [
        Finding(movie_id=movie_id, fetched_at=later, removed_reason="TMDB does not know it")
        for movie_id in ("tmdb-31", "tmdb-32")
    ]
    before = await _films(migrated)
    async with unit_of_work(migrated, source="test") as work:
        stored = await store_findings(work, again)
    assert (stored.new, stored.changed, stored.unchanged, stored.removed) == (0, 0, 7, 2)
    assert await outbox_events(migrated) == []
    after = await _films(migrated)
    assert {film["fetched_at"] for film in before.values()} == {NOON}
    assert {key for key, film in after.items() if film["fetched_at"] != later} == {"tmdb-23"}
    for key, film in after.items():
        # What the migration computed is what the code computes.
        times = {"fetched_at": None, "removed_at": None, "records": None}
        assert film | times == before[key] | times
        removed = key in {"tmdb-23", "tmdb-31", "tmdb-32"}
        assert (film["revision"], film["updated_at"]) == ((8, REMOVED) if removed else (7, CHANGED))


async def _films(database: Database) -> dict[str, dict[str, Any]]:
    async with database.reading() as connection:
        rows = await connection.execute(text("SELECT * FROM movies"))
        return {row["movie_id"]: dict(row) for row in rows.mappings()}


async def test_a_change_and_a_return_are_told(migrated: Database) -> None:
    later = NOON + timedelta(hours=1)
    bodies = ({**FULL, "popularity": 84}, GONE)
    async with unit_of_work(migrated, source="test") as work:
        stored = await store_findings(
            work,
            [
                Finding(movie_id=f"tmdb-{body['id']}", fetched_at=later, movie=movie(body, later))
                for body in bodies
            ]
            + [Finding(movie_id="tmdb-11", fetched_at=later, removed_reason="gone")],
        )
    assert (stored.new, stored.changed, stored.removed) == (1, 1, 1)
    facts = {fact.subject: fact.data for fact in await outbox_events(migrated)}
    assert {key: fact.model_dump()["revision"] for key, fact in facts.items()} == {
        "tmdb-27205": 8,
        "tmdb-31": 9,
        "tmdb-11": 8,
    }
    assert isinstance(facts["tmdb-11"], MovieRemoved)


async def test_a_removed_film_comes_back_only_by_what_is_newer(migrated: Database) -> None:
    """Nobody saw the film between its removal and the last time that TMDB was asked for it."""
    async with migrated.transaction() as connection:
        ledger = await open_ledger(connection, ["tmdb-31"])
        older = SourceRecord(Source.TMDB_FILE, "tmdb-31", (), {"title": "Gone", "runtime": 90})
        assert ledger.apply(older, REMOVED - timedelta(days=1)) is Effect.UNCHANGED
        assert await save(connection, ledger, NOON) == []
        assert ledger.films["tmdb-31"].removed


async def test_there_is_no_way_back(postgres_database: str, migrated: Database) -> None:
    with pytest.raises(AttributeError, match="downgrade"):
        await asyncio.to_thread(command.downgrade, _alembic(postgres_database), "0001")
    async with migrated.reading() as connection:
        assert await find(connection, "tmdb-27205") is not None
