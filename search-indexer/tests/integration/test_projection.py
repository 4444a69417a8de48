"""Events become documents: by revision, in any order, as often as they come."""

import asyncio
import random
from typing import Any

from search_indexer.engine import SearchRequest
from search_indexer.subscriptions import SUBSCRIPTIONS
from service_kit import Ack, Database
from service_kit.testing import deliver
from sqlalchemy import text

CATALOGUE, TRENDS, *_ = SUBSCRIPTIONS


async def _content(database: Database) -> dict[str, list[Any]]:
    queries = {
        "documents": "SELECT * FROM documents ORDER BY movie_id",
        "listing": """
            SELECT l.movie_id, shown, g.genres, g.decade, g.language, g.genre_keys, year,
                vote_average, vote_count, popularity, trend_revision, score, rank_key, views
            FROM listing l LEFT JOIN facet_groups g ON g.id = l.facet_group ORDER BY movie_id""",
        "index_changes": "SELECT movie_id, whole_document FROM index_changes ORDER BY movie_id",
    }
    async with database.reading() as connection:
        return {
            name: [tuple(row) for row in await connection.execute(text(query))]
            for name, query in queries.items()
        }


async def _apply(database: Database, events: list[Any]) -> None:
    for subscription in SUBSCRIPTIONS:
        taken = [event for event in events if isinstance(event.data, subscription.accepts)]
        outcomes = await deliver(subscription, database, taken) if taken else []
        assert all(isinstance(outcome, Ack) for outcome in outcomes), outcomes


def _history(make: Any) -> list[Any]:
    """What happens to forty films: changes, removals, trends before and after."""
    rng = random.Random(5)
    events: list[Any] = []
    for number in range(1, 41):
        for revision in range(1, 6):
            if rng.random() < 0.3:
                events.append(make.removed(f"tmdb-{number}", revision))
            else:
                film = make.movie(
                    number,
                    f"Film {number} version {revision}",
                    released=f"{1950 + number}-03-0{revision}",
                    genres=rng.sample(["Drama", "Comedy", "War"], k=2),
                    cast=[f"Person {rng.randrange(9)}"],
                    popularity=rng.random(),
                )
                events.append(make.upserted(film, revision))
    for revision in range(1, 30):
        entries = {
            f"tmdb_{number}": (rng.random() * 100, rng.gauss(0, 3), rng.randrange(1000))
            for number in rng.sample(range(1, 60), k=12)
        }
        events.append(make.trend(revision, **entries))
    return events


async def test_shuffled_and_repeated_events_give_the_same_content(
    database: Database, make: Any
) -> None:
    """In order and once, against five times each, shuffled, in batches of every size."""
    events = _history(make)
    for event in events:
        await _apply(database, [event])
    expected = await _content(database)
    assert len(expected["documents"]) == 40
    async with database.transaction() as connection:
        await connection.execute(
            text("TRUNCATE documents, listing, facet_groups, index_changes, vocabulary, inbox")
        )
    rng = random.Random(11)
    shuffled = events * 5
    rng.shuffle(shuffled)
    while shuffled:
        size = rng.choice((1, 5, 60, 400))
        batch, shuffled = shuffled[:size], shuffled[size:]
        await _apply(database, batch)
    assert await _content(database) == expected


async def test_new_event_ids_with_old_revisions_change_nothing(
    database: Database, make: Any
) -> None:
    """The revision decides, not the inbox."""
    await _apply(database, [make.upserted(make.movie(1, "Second"), 2)])
    await _apply(database, [make.trend(9, tmdb_1=(40.0, 1.0, 5))])
    expected = await _content(database)
    await _apply(database, [make.upserted(make.movie(1, "First"), 1)])
    await _apply(database, [make.upserted(make.movie(1, "Also second"), 2)])
    await _apply(database, [make.removed("tmdb-1", 1)])
    await _apply(database, [make.trend(8, tmdb_1=(10.0, 0.0, 1))])
    assert await _content(database) == expected


async def test_batches_at_the_same_time_do_not_deadlock(database: Database, make: Any) -> None:
    """Twelve writers over the same films in different orders."""
    rng = random.Random(3)

    async def write(revision: int) -> None:
        numbers = rng.sample(range(1, 150), k=120)
        if revision % 2:
            films = [make.movie(n, f"Film {n}", genres=[f"Genre {n % 7}"]) for n in numbers]
            await _apply(database, [make.upserted(film, revision) for film in films])
        else:
            entries = {f"tmdb_{n}": (1.0, float(revision), 1) for n in numbers}
            await _apply(database, [make.trend(revision, **entries)])

    async with asyncio.timeout(60):
        await asyncio.gather(*(write(revision) for revision in range(1, 13)))


async def test_a_film_can_be_found_while_it_is_there(world: Any, make: Any) -> None:
    """Registered, retitled, removed, registered again; with both engines."""
    search = world.engine.search
    await world.deliver(make.upserted(make.movie(1, "Blade Runner"), 1))
    assert (await search(SearchRequest(q="blade runer"))).total == 1
    await world.deliver(make.upserted(make.movie(1, "Do Androids Dream"), 2))
    assert (await search(SearchRequest(q="blade runner"))).total == 0
    assert (await search(SearchRequest(q="androids"))).total == 1
    await world.deliver(make.removed("tmdb-1", 3))
    assert (await search(SearchRequest(q="androids"))).total == 0
    await world.deliver(make.upserted(make.movie(1, "Too late"), 2))
    assert (await search(SearchRequest())).total == 0
    await world.deliver(make.upserted(make.movie(1, "Back Again"), 4))
    assert (await search(SearchRequest(q="back"))).total == 1


async def test_of_a_film_with_several_keys_one_document_is_left(
    world: Any, database: Database, make: Any
) -> None:
    """Whatever comes first of the film, the removal of its old key, and trends of both."""
    old = make.movie(9, "Toy Story", genres=["Comedy"])
    new = make.movie(1, "Toy Story", genres=["Comedy"], aliases=["tmdb-9", "imdb-tt0114709"])
    events = [
        make.upserted(old, 1),
        make.upserted(new, 1),
        make.removed("tmdb-9", 2),
        make.trend(1, tmdb_9=(10.0, 1.0, 4)),
        make.trend(2, tmdb_9=(20.0, 2.0, 5), tmdb_1=(30.0, 3.0, 6)),
    ]
    rng = random.Random(2)
    tables: list[Any] = []
    for _ in range(8):
        rng.shuffle(events)
        for event in events:
            await world.deliver(event)
        result = await world.engine.search(SearchRequest(q="toy story"))
        assert [(hit.movie_id, hit.views) for hit in result.hits] == [("tmdb-1", 6)]
        assert result.facets.genre == {"Comedy": 1}
        content = await _content(database)
        rows = [row[:2] for row in content["listing"]]
        assert rows == [("tmdb-1", True), ("tmdb-9", False)]
        # of the old key nothing grows: the row that keeps older versions out, and its last trend
        assert [row[0] for row in content["documents"]] == ["tmdb-1", "tmdb-9"]
        assert len(content["index_changes"]) <= 2
        tables.append({name: content[name] for name in ("documents", "listing")})
        async with database.transaction() as connection:
            await connection.execute(text("TRUNCATE documents, listing, index_changes, inbox"))
    assert all(content == tables[0] for content in tables)


async def test_the_order_follows_the_trend(world: Any, make: Any) -> None:
    """Also a trend that came before the film; with both engines."""
    await world.deliver(make.trend(1, tmdb_2=(20.0, -1.0, 3)))
    assert (await world.engine.search(SearchRequest())).total == 0
    films = [make.movie(number, f"Alien {number}") for number in (1, 2, 3)]
    await world.deliver(*(make.upserted(film) for film in films))
    result = await world.engine.search(SearchRequest(q="alien"))
    assert [hit.movie_id for hit in result.hits] == ["tmdb-2", "tmdb-1", "tmdb-3"]
    assert (result.hits[0].final_trend_score, result.hits[0].views) == (20.0, 3)
    await world.deliver(make.trend(2, tmdb_3=(90.0, 6.0, 8)))
    for query in ("alien", "alein", ""):
        result = await world.engine.search(SearchRequest(q=query))
        assert [hit.movie_id for hit in result.hits] == ["tmdb-3", "tmdb-2", "tmdb-1"]
        assert (result.hits[0].final_trend_score, result.hits[0].views) == (90.0, 8)


async def test_films_of_every_size_can_be_indexed(world: Any, make: Any) -> None:
    """The longest title, a plot of a megabyte, every field empty, odd characters."""
    await world.deliver(
        make.upserted(make.movie(1, "word " * 199 + "last")),
        make.upserted(make.movie(2, "Plot", overview="dream " * 200_000)),
        make.upserted(make.movie(3, "x" * 1000, language=None)),
        make.upserted(make.movie(4, "'\\\"%_:*&|💥")),
        make.upserted(make.movie(5, "Crowd", cast=[f"Name{n} Person{n}" for n in range(500)])),
    )
    assert (await world.engine.search(SearchRequest())).total == 5
    assert (await world.engine.search(SearchRequest(q="dreams"))).hits[0].movie_id == "tmdb-2"
