"""A film under several keys: what is rated under any of them is the film's, in any order."""

import asyncio
import random
from collections.abc import Iterable
from typing import Any

import pytest
from moviemetric_contracts import Event, RatingAggregated
from rating_service.ratings import repository
from service_kit import unit_of_work

TMDB, IMDB, LENS, TITLE = "tmdb-862", "imdb-tt0114709", "movielens-1", "title-toy-story-1995"
OTHER = "tmdb-8844"
ADA, BOB, EVE = "user-ada", "user-bob", "movielens-3"


def aggregated(facts: Iterable[Any]) -> list[tuple[str, int, float | None]]:
    return [
        (fact.movie_id, fact.count, fact.mean)
        for fact in facts
        if isinstance(fact, RatingAggregated)
    ]


def history(make: Any) -> list[Event[Any]]:
    """One film, of which four sources know one key each and learn of each other bit by bit."""
    return [
        make.rate(ADA, TITLE, 2, at=1, review="Under its title."),
        make.rate(ADA, IMDB, 4, at=2),
        make.upserted(TITLE, 1),
        make.rate(BOB, LENS, 5, at=3, review="Toys!"),
        make.unrate(BOB, TITLE, at=2),
        make.upserted(IMDB, 3, aliases=(TITLE,)),
        make.removed(TITLE, 2),
        make.rate(EVE, TITLE, 9, at=4),
        make.unrate(EVE, IMDB, at=5),
        make.rate(EVE, LENS, 7.5, at=4.5),
        make.upserted(IMDB, 4, aliases=(LENS, TITLE)),
        make.rate(ADA, LENS, 9.5, at=6, review="Better every time.", event_id="b"),
        make.rate(ADA, TMDB, 1, at=6, event_id="a"),
        make.upserted(TMDB, 1, title="Toy Story", aliases=(IMDB,)),
        make.removed(IMDB, 5),
        make.rate("user-mal", IMDB, 3, at=6),
        make.upserted(TMDB, 2, title="Toy Story", aliases=(IMDB, LENS, TITLE)),
        make.rate("user-mal", TMDB, 8, at=5),
        make.removed(TMDB, 3),
        make.upserted(TMDB, 4, title="Toy Story", vote_count=7, aliases=(IMDB, LENS, TITLE)),
        make.rate(BOB, OTHER, 6, at=1),
        make.upserted(OTHER, 1),
    ]


EXPECTED = {
    (ADA, TMDB): 9.5,
    (BOB, TMDB): 5,
    (EVE, TMDB): None,
    ("user-mal", TMDB): 3,
    (BOB, OTHER): 6,
}


@pytest.mark.parametrize("seed", range(5))
async def test_any_order_leads_to_the_same_tables(store: Any, make: Any, seed: int) -> None:
    await store.deliver(history(make))
    assert await store.scores() == EXPECTED
    content = await store.content()
    chance = random.Random(seed)
    for _ in range(25):
        await store.forget_everything()
        events = history(make)
        # Some come again as they were, some by another way with another id, which only what is
        # compared by its revision can tell.
        events += chance.choices(events, k=6)
        events += [
            event.model_copy(update={"id": f"again-{n}"})
            for n, event in enumerate(chance.sample(events, 6))
            if hasattr(event.data, "revision")
        ]
        chance.shuffle(events)
        await store.deliver_in_pieces(events, chance)
        await store.check()
        assert without_ids(await store.content()) == without_ids(content)


def without_ids(content: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    """Ids are drawn anew in each run, but for those that decide."""
    return content | {"ratings": [row[:-1] for row in content["ratings"]]}


async def test_the_newest_of_each_user_moves_along(store: Any, make: Any) -> None:
    await store.deliver(
        [
            make.upserted(TMDB),
            make.upserted(IMDB),
            make.rate(ADA, IMDB, 8, at=2, review="Newer."),
            make.rate(ADA, TMDB, 4, at=1),
            make.rate(BOB, IMDB, 3, at=1),
            make.rate(BOB, TMDB, 6, at=2, review="Newer, too."),
            make.rate(EVE, IMDB, 10, at=1),
        ]
    )
    await store.facts()
    await store.deliver([make.upserted(TMDB, 2, aliases=(IMDB,)), make.removed(IMDB, 2)])
    assert await store.scores() == {(ADA, TMDB): 8, (BOB, TMDB): 6, (EVE, TMDB): 10}
    assert await store.rows(
        "SELECT user_id, review FROM ratings WHERE review IS NOT NULL ORDER BY 1"
    ) == [(ADA, "Newer."), (BOB, "Newer, too.")]
    facts = await store.facts()
    assert aggregated(facts) == [(IMDB, 0, None), (TMDB, 3, 8)]
    assert [fact.revision for fact in facts] == [2, 2]


async def test_a_key_that_was_taken_back_last_takes_the_films_rating_with_it(
    store: Any, make: Any
) -> None:
    await store.deliver(
        [make.upserted(TMDB), make.rate(ADA, TMDB, 4, at=1), make.unrate(ADA, LENS, at=2)]
    )
    await store.facts()
    await store.deliver([make.upserted(TMDB, 2, aliases=(LENS,))])
    assert await store.scores() == {(ADA, TMDB): None}
    assert aggregated(await store.facts()) == [(TMDB, 0, None)]


async def test_later_commands_under_another_key_go_to_the_film(store: Any, make: Any) -> None:
    await store.deliver([make.upserted(TMDB, aliases=(IMDB, LENS))])
    await store.deliver([make.rate(ADA, LENS, 8, at=1), make.rate(BOB, IMDB, 6, at=1)])
    rated, other, summed = await store.facts()
    assert (rated.movie_id, other.movie_id) == (TMDB, TMDB)
    assert aggregated([summed]) == [(TMDB, 2, 7)]
    await store.deliver([make.rate(ADA, LENS, 5, at=3), make.rate(ADA, TMDB, 4, at=2)])
    assert await store.scores() == {(ADA, TMDB): 5, (BOB, TMDB): 6}
    [rated, summed] = await store.facts()
    assert rated.previous.score == 8


async def test_a_claim_of_a_claimed_film_reaches_through(store: Any, make: Any) -> None:
    await store.deliver([make.upserted(TMDB, aliases=(IMDB,)), make.rate(ADA, TITLE, 8)])
    await store.deliver([make.upserted(IMDB, aliases=(TITLE,))])
    assert await store.scores() == {(ADA, TMDB): 8}
    assert aggregated(await store.facts()) == [(TITLE, 0, None), (TMDB, 1, 8)]
    await store.deliver([make.rate(BOB, TITLE, 6)])
    assert aggregated(await store.facts()) == [(TMDB, 2, 7)]


async def test_of_a_film_that_is_not_in_the_catalogue_only_the_emptied_key_is_told(
    store: Any, make: Any
) -> None:
    await store.deliver([make.upserted(TMDB), make.removed(TMDB, 3), make.rate(ADA, IMDB, 8)])
    await store.facts()
    await store.deliver([make.upserted(TMDB, 2, aliases=(IMDB,))])
    assert await store.scores() == {(ADA, TMDB): 8}
    assert aggregated(await store.facts()) == [(IMDB, 0, None)]
    await store.deliver([make.upserted(TMDB, 4)])
    assert aggregated(await store.facts()) == [(TMDB, 1, 8)]


async def test_a_worse_kind_of_key_claims_nothing(store: Any, make: Any) -> None:
    await store.deliver([make.upserted(TMDB), make.rate(ADA, TMDB, 8), make.rate(ADA, OTHER, 5)])
    await store.deliver(
        [
            make.upserted(IMDB, 1, aliases=(TMDB, IMDB)),
            make.upserted(TMDB, 2, aliases=(OTHER, TMDB)),
        ]
    )
    assert await store.scores() == {(ADA, TMDB): 8, (ADA, OTHER): 5}


async def test_films_and_ratings_by_replicas_at_the_same_time(
    store: Any, make: Any, replicas: Any
) -> None:
    rate, follow = replicas
    chance = random.Random(9)
    numbers = range(1, 31)
    keys = {n: (f"tmdb-{n}", f"imdb-tt{n:07}", f"movielens-{n}") for n in numbers}
    own = {key: names[0] for names in keys.values() for key in names}
    commands = [
        make.rate(
            f"user-{chance.randint(1, 20)}",
            chance.choice(keys[chance.choice(numbers)]),
            chance.randint(1, 20) / 2,
            at=n,
        )
        if chance.random() < 0.9
        else make.unrate(
            f"user-{chance.randint(1, 20)}", chance.choice(keys[chance.choice(numbers)]), at=n
        )
        for n in range(3000)
    ]
    last = {(event.data.user_id, own[event.data.movie_id]): event for event in commands}
    catalogue = [
        event
        for n, (tmdb, imdb, lens) in keys.items()
        for event in (
            make.upserted(imdb, 1, aliases=(lens,)),
            make.upserted(tmdb, 1),
            make.upserted(tmdb, 2, aliases=(imdb,)),
            make.removed(imdb, 2),
            make.upserted(tmdb, 3, aliases=(lens, imdb) if n % 2 else (imdb,)),
        )
    ]
    chance.shuffle(catalogue)
    chance.shuffle(commands)
    async with asyncio.timeout(90):
        await asyncio.gather(
            rate(commands[:1500], 60),
            rate(commands[1500:], 60),
            rate(commands[1000:2000], 45),  # redelivered to a third one
            follow(catalogue[::2], 7),
            follow(catalogue[1::2], 7),
            follow(catalogue[::-1], 11),
        )
    rows = await store.rows("SELECT user_id, movie_id, event_id FROM ratings")
    assert {(user, film): event_id for user, film, event_id in rows} == {
        key: event.id for key, event in last.items()
    }
    sums = {fact.movie_id: fact for fact in await newest_sums(store)}
    stored = await store.rows("SELECT movie_id, histogram FROM aggregates")
    assert {key: sums[key].histogram for key in keys_with_ratings(last)} == {
        key: tuple(histogram) for key, histogram in stored if sum(histogram)
    }
    # what others add up over all keys of a film is what the film has
    assert sum(fact.count for fact in sums.values()) == sum(
        hasattr(event.data, "score") for event in last.values()
    )


def keys_with_ratings(last: dict[tuple[str, str], Event[Any]]) -> set[str]:
    return {film for (_, film), event in last.items() if hasattr(event.data, "score")}


async def newest_sums(store: Any) -> list[RatingAggregated]:
    newest: dict[str, RatingAggregated] = {}
    for fact in await store.facts():
        if isinstance(fact, RatingAggregated):
            known = newest.get(fact.movie_id)
            if known is None or known.revision < fact.revision:
                newest[fact.movie_id] = fact
    return list(newest.values())


async def test_a_rating_that_is_being_counted_while_its_key_is_joined_is_not_stranded(
    store: Any, make: Any
) -> None:
    """In both orders: the rating waits for the film, or the film for the rating."""
    join = make.upserted(TMDB, 1, aliases=(IMDB,))
    async with unit_of_work(store.database, source="test") as work:
        await store.handlers.rate([make.rate(ADA, IMDB, 8)], work)
        joining = asyncio.ensure_future(store.deliver([join]))
        await store.somebody_waits_for_a_lock()
    await joining
    assert await store.scores() == {(ADA, TMDB): 8}

    await store.forget_everything()
    await store.deliver([make.rate(ADA, IMDB, 8), make.upserted(TMDB, 1)])
    async with unit_of_work(store.database, source="test") as work:
        await repository.lock_films(work.connection, [IMDB])
        rating = asyncio.ensure_future(store.deliver([make.rate(BOB, IMDB, 6)]))
        await store.somebody_waits_for_a_lock()
        await store.handlers.follow_catalogue([make.upserted(TMDB, 2, aliases=(IMDB,))], work)
    await rating
    assert await store.scores() == {(ADA, TMDB): 8, (BOB, TMDB): 6}


async def test_a_deadlock_is_a_conflict_that_is_repeated(store: Any, make: Any) -> None:
    """The one that waited first gives way, and its batch has its effect once all the same."""
    await store.deliver([make.rate(ADA, IMDB, 8), make.rate(ADA, TMDB, 6, at=1)])
    async with unit_of_work(store.database, source="test") as work:
        await repository.lock_films(work.connection, [TMDB])
        joining = asyncio.ensure_future(store.deliver([make.upserted(TMDB, aliases=(IMDB,))]))
        await store.somebody_waits_for_a_lock()  # it holds the other one, and gives way
        await store.handlers.rate([make.rate(BOB, IMDB, 5)], work)
    await joining
    assert await store.scores() == {(ADA, TMDB): 6, (BOB, TMDB): 5}


async def test_a_bulk_import_writes_films_that_nobody_rated_once(store: Any, make: Any) -> None:
    films = [
        make.upserted(f"tmdb-{n}", aliases=(f"imdb-tt{n:07}",), genres=("Sci-Fi", "Drama"))
        for n in range(1, 501)
    ]
    await store.deliver(films)
    assert await store.rows("SELECT count(*) FROM movies WHERE present") == [(500,)]
    assert await store.rows("SELECT count(*) FROM movies WHERE film = 'tmdb-77'") == [(1,)]
    assert await store.rows("SELECT * FROM aggregates") == []
    assert await store.facts() == []
    assert await store.rows("SELECT genres, genre_keys FROM movies WHERE movie_id = 'tmdb-9'") == [
        (["Sci-Fi", "Drama"], ["sci-fi", "drama"])
    ]
