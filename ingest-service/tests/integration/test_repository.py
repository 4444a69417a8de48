"""Films and keys on a real PostgreSQL: what is saved is what is opened, also side by side."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from ingest_service.ledger import Effect, Film, Ledger, RefusedError, keys_of
from ingest_service.listing import KnownMovie, fetched_since, find, read_films, stored_films
from ingest_service.merging import Kept
from ingest_service.records import Source, SourceRecord
from ingest_service.repository import Change, open_ledger, save
from ingest_service.storing import fact_of
from moviemetric_contracts import MovieRemoved
from service_kit import Conflict, Database
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def minute(number: float) -> datetime:
    return NOON + timedelta(minutes=number)


def record(source: Source, key: str, *links: str, **fields: Any) -> SourceRecord:
    return SourceRecord(source, key, links, fields)


async def take_on(
    connection: AsyncConnection,
    records: Sequence[SourceRecord],
    at: datetime,
    *,
    job_id: str | None = None,
) -> list[Change]:
    ledger = await open_ledger(connection, keys_of(records), job_id=job_id)
    for one in records:
        with suppress(RefusedError):
            ledger.apply(one, at)
    return await save(connection, ledger, at)


async def take(
    database: Database, *records: SourceRecord, at: datetime = NOON, job_id: str | None = None
) -> list[Change]:
    async with database.transaction() as connection:
        return await take_on(connection, records, at, job_id=job_id)


async def remove(database: Database, movie_id: str, at: datetime) -> list[Change]:
    async with database.transaction() as connection:
        ledger = await open_ledger(connection, [movie_id])
        ledger.remove(movie_id, "gone", at)
        return await save(connection, ledger, at)


async def known(database: Database, key: str) -> KnownMovie | None:
    async with database.reading() as connection:
        return await find(connection, key)


async def opened(database: Database, *keys: str) -> Ledger:
    async with database.transaction() as connection:
        return await open_ledger(connection, keys)


async def rows_of(database: Database, statement: str) -> list[dict[str, Any]]:
    async with database.reading() as connection:
        return [dict(row) for row in (await connection.execute(text(statement))).mappings()]


def told(changes: Sequence[Change]) -> list[tuple[str, int, bool]]:
    return [(change.movie_id, change.revision, change.removed_reason is None) for change in changes]


RICH: dict[str, Any] = {
    "title": '"\u00c9l", said C\u00e9sar \u2014 \U0001f3ac\nand\t{left}, \\N',
    "original_title": "\u4e03\u4eba\u306e\u4f8d",
    "original_language": "ja",
    "overview": 'A "text"\\ with, {braces}',
    "release_date": "1954-04-26",
    "runtime": 207,
    "budget": 2**53 - 1,
    "genres": ["Action", 'Sci-"Fi"', "NULL", "a,b", ""],
    "cast": [{"name": "Toshir\u014d Mifune", "character": "Kikuchiyo", "order": 1}],
    "vote_average": 8,
    "vote_count": 2**53 - 1,
    "popularity": 1e-05,
    "poster_path": "/a.jpg",
    "adult": True,
}


async def test_every_field_comes_back_as_it_was_saved(database: Database) -> None:
    original = Film(
        "tmdb-346",
        records={
            "tmdb/tmdb-346": Kept(NOON, RICH),
            "table/tmdb-346": Kept(
                NOON + timedelta(microseconds=123_456), {"tagline": "x"}, "import-1", repeated=True
            ),
        },
        aliases={"movielens-2019", "imdb-tt0047478"},
        fetched_at=minute(-5),
        touched=True,
    )
    gone = Film(
        "tmdb-5", fetched_at=NOON, removed_at=minute(-1), removed_reason='"gone"', touched=True
    )
    keys = dict.fromkeys(original.aliases, "tmdb-346")
    async with database.transaction() as connection:
        ledger = Ledger([original, gone], {})
        ledger.keys |= keys
        ledger.changed_keys |= keys
        changes = await save(connection, ledger, minute(1))
    assert told(changes) == [("tmdb-346", 1, True), ("tmdb-5", 1, False)]
    assert changes[1].removed_reason == '"gone"'

    ledger = await opened(database, "movielens-2019", "tmdb-5", "tmdb-999")
    assert ledger.keys == keys
    assert ledger.stored_keys == keys.keys()
    assert ledger.films.keys() == {"tmdb-346", "tmdb-5"}
    film = ledger.films["tmdb-346"]
    assert film.records == original.records
    assert (film.aliases, film.revision, film.updated_at) == (original.aliases, 1, minute(1))
    assert (film.fetched_at, film.removed_at, film.removed_reason) == (minute(-5), None, None)
    assert (film.stored, film.touched) == (True, False)
    assert film.shown() == changes[0].film.content()
    tombstone = ledger.films["tmdb-5"]
    assert (tombstone.records, tombstone.aliases) == ({}, set())
    assert (tombstone.removed_at, tombstone.removed_reason) == (minute(-1), '"gone"')

    found = await known(database, "imdb-tt0047478")
    assert found is not None
    assert found.content == changes[0].film.content()
    assert found.known_since == NOON
    [row, _] = await rows_of(database, "SELECT * FROM movies ORDER BY movie_id")
    shown = {key: row[key] for key in ("title", "genres", "vote_count", "popularity", "imdb_id")}
    assert shown == {
        "title": RICH["title"],
        "genres": RICH["genres"],
        "vote_count": 2**53 - 1,
        "popularity": 1e-05,
        "imdb_id": "tt0047478",
    }
    assert row["genre_keys"] == ["action", 'sci-"fi"', "null", "a,b", ""]
    assert row["release_date"] == date(1954, 4, 26)
    assert (row["vote_average"], row["original_title"]) == (8.0, RICH["original_title"])
    assert (row["original_language"], row["poster_path"]) == ("ja", "/a.jpg")


@pytest.mark.parametrize("fields", [{"title": "T"}, {"runtime": 5}])
async def test_what_is_unknown_is_null_in_the_columns(
    database: Database, fields: dict[str, Any]
) -> None:
    await take(database, record(Source.TABLE, "imdb-tt0000001", **fields))
    [row] = await rows_of(database, "SELECT * FROM movies")
    unknown = ("original_title", "original_language", "release_date", "poster_path")
    assert {row[name] for name in (*unknown, "vote_average", "fetched_at", "removed_at")} == {None}
    assert (row["genres"], row["genre_keys"]) == ([], [])
    assert (row["vote_count"], row["popularity"]) == (0, 0)
    assert (row["title"], row["sort_title"]) == (("T", "t") if "title" in fields else (None, None))


async def test_the_revision_grows_exactly_when_others_see_a_change(database: Database) -> None:
    key = "tmdb-5"
    steps: list[tuple[Callable[[datetime], Awaitable[list[Change]]], list[tuple[int, bool]], int]]

    def says(source: Source, **fields: Any) -> Callable[[datetime], Awaitable[list[Change]]]:
        return lambda at: take(database, record(source, key, **fields), at=at)

    def link(*links: str) -> Callable[[datetime], Awaitable[list[Change]]]:
        return lambda at: take(database, record(Source.MOVIELENS_LINKS, key, *links), at=at)

    def gone(at: datetime) -> Awaitable[list[Change]]:
        return remove(database, key, at)

    steps = [
        # Nobody sees a film without a title.
        (says(Source.TABLE, runtime=90), [], 1),
        (says(Source.TABLE, runtime=91), [], 1),
        (says(Source.TMDB, title="T"), [(2, True)], 2),
        (says(Source.TMDB, title="T"), [], 2),
        (says(Source.MOVIELENS, title="Worse"), [], 2),
        (says(Source.TMDB, title="T", genres=["Drama"]), [(3, True)], 3),
        (link("movielens-1"), [(4, True)], 4),
        (link("movielens-1"), [], 4),
        (gone, [(5, False)], 5),
        (gone, [], 5),
        (says(Source.TMDB, title="T", genres=["Drama"]), [(6, True)], 6),
        (says(Source.TMDB, title="T"), [(7, True)], 7),
    ]
    updated_at = None
    for number, (step, expected, revision) in enumerate(steps):
        changes = await step(minute(number))
        assert told(changes) == [(key, *rest) for rest in expected], number
        film = await known(database, key)
        assert film is not None
        assert film.revision == revision, number
        if expected:
            assert film.updated_at == minute(number)
        elif updated_at is not None:
            assert film.updated_at == updated_at
        updated_at = film.updated_at


async def test_a_film_whose_source_names_it_no_more_leaves(database: Database) -> None:
    await take(database, record(Source.TABLE, "tmdb-5", title="T", runtime=5), at=minute(1))
    changes = await take(database, record(Source.TABLE, "tmdb-5", runtime=5), at=minute(2))
    assert told(changes) == [("tmdb-5", 2, False)]
    assert fact_of(changes[0]) == MovieRemoved(
        movie_id="tmdb-5", reason="no source names it", revision=2
    )
    film = await known(database, "tmdb-5")
    assert film is not None
    assert (film.content, film.removed_reason) == (None, None)


async def test_a_film_that_is_absorbed_leaves_under_its_old_key(database: Database) -> None:
    at_imdb = record(Source.IMDB_BASICS, "imdb-tt0113277", title="Heat", genres=["Crime"])
    await take(database, at_imdb, at=minute(1))
    await take(database, record(Source.TABLE, "imdb-tt0113277", runtime=170), at=minute(2))
    changes = await take(
        database,
        record(Source.TMDB, "tmdb-949", "imdb-tt0113277", title="Heat", tagline="x"),
        at=minute(3),
    )
    assert told(changes) == [("tmdb-949", 1, True), ("imdb-tt0113277", 3, False)]
    assert changes[1].removed_reason == "is tmdb-949 now"
    merged = {
        "movie_id": "tmdb-949",
        "tmdb_id": 949,
        "imdb_id": "tt0113277",
        "aliases": ["imdb-tt0113277"],
        "title": "Heat",
        "tagline": "x",
        "runtime": 170,
        "genres": ["Crime"],
    }
    assert changes[0].film.content() == merged
    for key in ("tmdb-949", "imdb-tt0113277"):
        film = await known(database, key)
        assert film is not None
        assert (film.movie_id, film.content) == ("tmdb-949", merged)
    ids = [row["movie_id"] for row in await rows_of(database, "SELECT movie_id FROM movies")]
    assert ids == ["tmdb-949"]

    # A chain: the film that absorbed one is absorbed itself, and every old key still answers.
    lens = record(Source.MOVIELENS, "movielens-6", title="Heat (1995)")
    other = record(Source.IMDB_RATINGS, "imdb-tt9999999", "movielens-6", vote_count=1)
    assert told(await take(database, lens, at=minute(4))) == [("movielens-6", 1, True)]
    assert told(await take(database, other, at=minute(5))) == [
        ("imdb-tt9999999", 1, True),
        ("movielens-6", 2, False),
    ]
    link = record(Source.MOVIELENS_LINKS, "tmdb-949", "imdb-tt9999999")
    assert told(await take(database, link, at=minute(6))) == [
        ("tmdb-949", 2, True),
        ("imdb-tt9999999", 2, False),
    ]
    for key in ("movielens-6", "imdb-tt9999999"):
        film = await known(database, key)
        assert film is not None
        assert film.movie_id == "tmdb-949"
    keys = await rows_of(database, "SELECT key, movie_id FROM film_keys ORDER BY key")
    assert [(row["key"], row["movie_id"]) for row in keys] == [
        ("imdb-tt0113277", "tmdb-949"),
        ("imdb-tt9999999", "tmdb-949"),
        ("movielens-6", "tmdb-949"),
    ]


async def test_a_link_that_comes_before_its_film(database: Database) -> None:
    link = record(Source.MOVIELENS_LINKS, "tmdb-949", "imdb-tt0113277", "movielens-6")
    assert await take(database, link) == []
    film = await known(database, "movielens-6")
    assert film is not None
    assert (film.movie_id, film.content, film.removed_reason) == ("tmdb-949", None, None)
    async with database.reading() as connection:
        assert await stored_films(connection, ["tmdb-949"]) == set()
    [change] = await take(database, record(Source.TMDB, "tmdb-949", title="Heat"))
    assert change.film.content()["aliases"] == ["imdb-tt0113277", "movielens-6"]
    film = await known(database, "movielens-6")
    assert film is not None
    assert film.movie_id == "tmdb-949"


async def test_many_films_in_one_save(database: Database) -> None:
    numbers = range(1, 2001)

    def batch(runtime: int) -> list[SourceRecord]:
        return [record(Source.TMDB, f"tmdb-{n}", title=f"T{n}", runtime=runtime) for n in numbers]

    assert len(await take(database, *batch(90), at=minute(1))) == 2000
    assert await take(database, *batch(90), at=minute(2)) == []
    again = batch(90)[:1000] + batch(91)[1000:]
    changed = await take(database, *again, at=minute(3))
    assert {change.movie_id for change in changed} == {f"tmdb-{n}" for n in range(1001, 2001)}
    counts = await rows_of(
        database, "SELECT revision, fetched_at, count(*) FROM movies GROUP BY 1, 2 ORDER BY 1"
    )
    assert [tuple(row.values()) for row in counts] == [
        (1, minute(3), 1000),
        (2, minute(3), 1000),
    ]


async def test_several_saves_in_one_transaction(database: Database) -> None:
    numbers = (1, 2, 3)
    await take(
        database, *(record(Source.TMDB, f"tmdb-{n}", title="0") for n in numbers), at=minute(0)
    )
    async with database.transaction() as connection:
        for step in range(1, 6):
            batch = [
                record(Source.TMDB, f"tmdb-{n}", title=str(step)) for n in numbers if n >= step - 2
            ]
            await take_on(connection, batch, minute(step))
    rows = await rows_of(database, "SELECT title, revision FROM movies ORDER BY movie_id")
    assert [(row["title"], row["revision"]) for row in rows] == [("3", 4), ("4", 5), ("5", 6)]


async def test_saves_on_one_connection_are_apart(
    postgres_database: str, database: Database
) -> None:
    await take(database, record(Source.TMDB, "tmdb-1", title="0"), at=minute(0))
    narrow = Database(postgres_database, schema="catalog", pool_size=1)
    try:
        pids: set[int] = set()
        for step in range(1, 4):
            # One that is rolled back leaves nothing behind.
            with suppress(ZeroDivisionError):
                async with narrow.transaction() as connection:
                    wrong = record(Source.TMDB, "tmdb-1", title="wrong")
                    assert len(await take_on(connection, [wrong], minute(99))) == 1
                    raise ZeroDivisionError
            async with narrow.transaction() as connection:
                pids.add((await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one())
                await take_on(
                    connection, [record(Source.TMDB, "tmdb-1", title=str(step))], minute(step)
                )
        assert len(pids) == 1
    finally:
        await narrow.dispose()
    [row] = await rows_of(database, "SELECT title, revision, fetched_at FROM movies")
    assert tuple(row.values()) == ("3", 4, minute(3))


async def test_which_films_are_known_and_fresh(database: Database) -> None:
    await take(
        database,
        record(Source.TMDB, "tmdb-1", title="Fresh"),
        record(Source.TMDB_FILE, "tmdb-2", title="Of a file"),
        at=minute(1),
    )
    await take(database, record(Source.TMDB, "tmdb-3", title="Gone"), at=minute(1))
    await remove(database, "tmdb-3", minute(2))
    ids = [f"tmdb-{number}" for number in range(1, 5)]
    async with database.reading() as connection:
        assert await fetched_since(connection, ids, minute(1)) == {"tmdb-1"}
        assert await fetched_since(connection, ids, minute(1.1)) == set()
        assert await stored_films(connection, ids) == {"tmdb-1", "tmdb-2", "tmdb-3"}
        films = {film.movie_id: film for film in await read_films(connection, ids)}
    assert films.keys() == {"tmdb-1", "tmdb-2", "tmdb-3"}
    assert films["tmdb-3"].removed_reason == "gone"
    assert films["tmdb-3"].content is not None


# Two transactions at the same time: both have read before either writes. `first` commits, then
# `second` goes on; if it is told of a conflict it is repeated, as the runtime does.


class Side:
    """A transaction that stands between reading and writing."""

    def __init__(self, database: Database, records: Sequence[SourceRecord], at: datetime) -> None:
        self._database = database
        self._records = records
        self._at = at
        self.has_read = asyncio.Event()
        self.may_write = asyncio.Event()
        self.conflicts = 0
        self.changes: list[Change] = []

    async def run(self) -> None:
        for _ in range(3):
            try:
                async with self._database.transaction() as connection:
                    ledger = await open_ledger(connection, keys_of(self._records))
                    self.has_read.set()
                    await asyncio.wait_for(self.may_write.wait(), 20)
                    for one in self._records:
                        ledger.apply(one, self._at)
                    self.changes = await save(connection, ledger, self._at)
            except Conflict:
                self.conflicts += 1
            else:
                return
        pytest.fail("conflicts without end")


async def race(
    database: Database, first: Sequence[SourceRecord], second: Sequence[SourceRecord]
) -> tuple[Side, Side]:
    """Both read; `first` commits; `second` goes on."""
    sides = Side(database, first, minute(1)), Side(database, second, minute(2))
    tasks = [asyncio.create_task(side.run()) for side in sides]
    try:
        async with asyncio.timeout(30):
            await sides[0].has_read.wait()
            await sides[1].has_read.wait()
            sides[0].may_write.set()
            await tasks[0]
            sides[1].may_write.set()
            await tasks[1]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return sides


async def check_keys(database: Database) -> None:
    """Every key leads to a film that knows it as an alias."""
    films = {
        row["movie_id"]: set(row["aliases"])
        for row in await rows_of(database, "SELECT movie_id, aliases FROM movies")
    }
    keys = {
        row["key"]: row["movie_id"]
        for row in await rows_of(database, "SELECT key, movie_id FROM film_keys")
    }
    for key, own in keys.items():
        assert keys.get(own, own) == own, f"{key} leads to {own}, which leads to {keys[own]}"
        assert key == own or key not in films
        assert key == own or key in films[own], f"{own} does not know {key}"
    for movie_id, aliases in films.items():
        assert {keys.get(alias) for alias in aliases} <= {movie_id}


KEYS = ["tmdb-5", "imdb-tt0000005", "movielens-5", "title-heat-1995"]


@pytest.mark.parametrize("key", KEYS)
async def test_two_create_the_same_film(database: Database, key: str) -> None:
    first, second = await race(
        database,
        [record(Source.TABLE, key, title="T", runtime=90)],
        [record(Source.MOVIELENS, key, title="Worse", genres=["Drama"])],
    )
    assert (first.conflicts, second.conflicts) == (0, 1)
    assert (told(first.changes), told(second.changes)) == ([(key, 1, True)], [(key, 2, True)])
    film = await known(database, key)
    assert film is not None
    assert film.content is not None
    assert (film.content["title"], film.content["runtime"], film.content["genres"]) == (
        "T",
        90,
        ["Drama"],
    )
    await check_keys(database)


async def test_two_claim_the_same_key(database: Database) -> None:
    first, second = await race(
        database,
        [record(Source.TMDB, "tmdb-1", "imdb-tt0000005", title="One")],
        [record(Source.TMDB, "tmdb-2", "imdb-tt0000005", title="Two", imdb_id="tt0000005")],
    )
    assert (first.conflicts, second.conflicts) == (0, 1)
    assert second.changes[0].film.content() == {
        "title": "Two",
        "movie_id": "tmdb-2",
        "tmdb_id": 2,
        "imdb_id": "tt0000005",
    }
    film = await known(database, "imdb-tt0000005")
    assert film is not None
    assert film.movie_id == "tmdb-1"
    await check_keys(database)


@pytest.mark.parametrize("link_first", [True, False])
async def test_a_film_is_created_while_its_key_becomes_anothers(
    database: Database, link_first: bool
) -> None:
    sides = (
        [record(Source.TMDB, "tmdb-1", "imdb-tt0000005", title="One")],
        [record(Source.IMDB_BASICS, "imdb-tt0000005", title="One", genres=["Drama"])],
    )
    await race(database, *(sides if link_first else sides[::-1]))
    film = await known(database, "imdb-tt0000005")
    assert film is not None
    assert film.content is not None
    assert (film.movie_id, film.content["genres"]) == ("tmdb-1", ["Drama"])
    assert len(await rows_of(database, "SELECT movie_id FROM movies")) == 1
    await check_keys(database)


@pytest.mark.parametrize("key", ["tmdb-5", "imdb-tt0000005"])
@pytest.mark.parametrize("link_first", [True, False])
async def test_a_film_is_created_while_a_link_to_it_is_learnt(
    database: Database, key: str, link_first: bool
) -> None:
    sides = (
        [record(Source.MOVIELENS_LINKS, key, "movielens-5")],
        [record(Source.TABLE, key, title="T")],
    )
    await race(database, *(sides if link_first else sides[::-1]))
    film = await known(database, "movielens-5")
    assert film is not None
    assert film.content is not None
    assert (film.movie_id, film.content["aliases"]) == (key, ["movielens-5"])
    await check_keys(database)


@pytest.mark.parametrize("near_first", [True, False])
async def test_two_links_of_a_chain_are_learnt_at_once(
    database: Database, near_first: bool
) -> None:
    sides = (
        [record(Source.MOVIELENS_LINKS, "imdb-tt0000005", "movielens-5")],
        [record(Source.TMDB, "tmdb-5", "imdb-tt0000005", title="T")],
    )
    await race(database, *(sides if near_first else sides[::-1]))
    await check_keys(database)
    await take(database, record(Source.MOVIELENS, "movielens-5", title="t", genres=["Drama"]))
    film = await known(database, "movielens-5")
    assert film is not None
    assert film.content is not None
    assert (film.movie_id, film.content["genres"]) == ("tmdb-5", ["Drama"])
    await check_keys(database)


async def test_who_works_on_the_same_stored_film_waits(database: Database) -> None:
    await take(database, record(Source.TABLE, "imdb-tt0000005", title="T"), at=minute(0))
    first = Side(database, [record(Source.TMDB, "tmdb-5", "imdb-tt0000005", title="T")], minute(1))
    second = Side(
        database, [record(Source.IMDB_RATINGS, "imdb-tt0000005", vote_count=3)], minute(2)
    )
    second.may_write.set()
    tasks = [asyncio.create_task(first.run())]
    await asyncio.wait_for(first.has_read.wait(), 20)
    tasks.append(asyncio.create_task(second.run()))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(second.has_read.wait(), 0.3)
    first.may_write.set()
    async with asyncio.timeout(20):
        await asyncio.gather(*tasks)
    assert (first.conflicts, second.conflicts) == (0, 0)
    assert told(second.changes) == [("tmdb-5", 2, True)]
    await check_keys(database)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_replicas_in_any_order_end_with_the_same_films(database: Database, seed: int) -> None:
    """Six writers, links of every direction, conflicts repeated: as if one had done it."""
    draw = random.Random(seed)
    records: list[tuple[SourceRecord, datetime]] = []
    expected: dict[str, tuple[set[str], set[str]]] = {}
    for number in range(1, 21):
        tmdb, imdb, lens = f"tmdb-{number}", f"imdb-tt{number:07}", f"movielens-{number}"
        film = [
            record(Source.TMDB, tmdb, *draw.sample([imdb, lens], draw.randint(0, 2)), title="T"),
            record(Source.IMDB_BASICS, imdb, *draw.sample([lens], draw.randint(0, 1)), title="B"),
            record(Source.IMDB_RATINGS, imdb, vote_average=5.0, vote_count=number),
            record(Source.MOVIELENS, lens, genres=["Drama"]),
            record(Source.MOVIELENS_LINKS, tmdb, imdb),
            record(Source.MOVIELENS_LINKS, *draw.sample([imdb, lens], 2)),
        ]
        records += [(one, minute(number)) for one in film]
        expected[tmdb] = (
            {imdb, lens},
            {f"{one.source}/{one.key}" for one in film if one.fields},
        )
    draw.shuffle(records)
    conflicts = 0

    async def writer(own: list[tuple[SourceRecord, datetime]]) -> None:
        nonlocal conflicts
        while own:
            size = draw.randint(1, 6)
            batch = own[:size]
            for _ in range(100):
                try:
                    async with database.transaction() as connection:
                        ledger = await open_ledger(connection, keys_of(one for one, _ in batch))
                        for one, at in batch:
                            ledger.apply(one, at)
                        await save(connection, ledger, NOON)
                except Conflict:
                    conflicts += 1
                    await asyncio.sleep(draw.random() * 0.01)
                else:
                    break
            else:
                pytest.fail("conflicts without end")
            del own[:size]

    async with asyncio.timeout(60):
        await asyncio.gather(*(writer(records[start::6]) for start in range(6)))
    await check_keys(database)
    ledger = await opened(database, *expected)
    found = {key: (film.aliases, set(film.records)) for key, film in ledger.films.items()}
    assert found == expected
    assert len(await rows_of(database, "SELECT movie_id FROM movies")) == 20


async def test_the_same_import_again_writes_nothing(database: Database) -> None:
    batch = [
        record(Source.TABLE, "tmdb-1", "imdb-tt0000001", title="One"),
        record(Source.TABLE, "imdb-tt0000002", title="Two"),
        record(Source.TABLE, "title-three-2000", title="Three"),
        record(Source.MOVIELENS_LINKS, "tmdb-1", "movielens-1"),
    ]
    statement = "SELECT xmin::text, * FROM movies ORDER BY movie_id"
    await take(database, *batch, at=minute(1), job_id="import-1")
    before = await rows_of(database, statement)
    assert await take(database, *batch, at=minute(2), job_id="import-2") == []
    assert await rows_of(database, statement) == before
    ledger = await opened(database, "tmdb-1")
    assert ledger.apply(batch[0], minute(3)) is Effect.UNCHANGED
