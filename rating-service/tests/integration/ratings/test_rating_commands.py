"""What ratings do: one per user and film, the newest by its own time."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from moviemetric_contracts import (
    Event,
    MovieRated,
    MovieUnrated,
    RateMovie,
    Rating,
    RatingAggregated,
)
from service_kit import unit_of_work
from service_kit.erasure import remember_erased
from service_kit.testing import outbox_events

ADA, BOB, FILM = "user-ada", "movielens-7", "tmdb-862"


def histogram(*scores: float) -> tuple[int, ...]:
    return tuple(scores.count((step + 1) / 2) for step in range(20))


async def test_a_rating_is_kept_told_and_counted(store: Any, make: Any) -> None:
    await store.deliver([make.upserted(FILM)])
    command = make.rate(ADA, FILM, 8.5, at=1, review="Good.")
    await store.deliver([command])
    [row] = await store.rows("SELECT * FROM ratings")
    assert row == (ADA, FILM, 17, "Good.", make.at(1), command.id)
    assert await store.facts() == [
        MovieRated(movie_id=FILM, user_id=ADA, rating=Rating(score=8.5, rated_at=make.at(1))),
        RatingAggregated(movie_id=FILM, count=1, mean=8.5, histogram=histogram(8.5), revision=1),
    ]


async def test_facts_name_the_command_that_led_to_them(store: Any, make: Any) -> None:
    await store.deliver([make.upserted(FILM), command := make.rate(ADA, FILM, 8)])
    caused = await outbox_events(store.database)
    assert [(event.causationid, event.correlationid) for event in caused] == [
        (command.id, command.id)
    ] * 2


async def test_rating_again_replaces(store: Any, make: Any) -> None:
    await store.deliver([make.upserted(FILM), make.rate(ADA, FILM, 4, at=1, review="Bad.")])
    await store.facts()
    await store.deliver([make.rate(ADA, FILM, 9, at=2)])
    assert await store.scores() == {(ADA, FILM): 9}
    assert await store.rows("SELECT review FROM ratings") == [(None,)]
    assert await store.facts() == [
        MovieRated(
            movie_id=FILM,
            user_id=ADA,
            rating=Rating(score=9, rated_at=make.at(2)),
            previous=Rating(score=4, rated_at=make.at(1)),
        ),
        RatingAggregated(movie_id=FILM, count=1, mean=9, histogram=histogram(9), revision=2),
    ]


async def test_the_same_score_again_is_a_rating_but_no_other_sum(store: Any, make: Any) -> None:
    await store.deliver([make.upserted(FILM), make.rate(ADA, FILM, 4, at=1)])
    await store.facts()
    await store.deliver([make.rate(ADA, FILM, 4, at=2)])
    assert [type(fact) for fact in await store.facts()] == [MovieRated]
    assert await store.rows("SELECT revision FROM aggregates") == [(1,)]


async def test_taking_back(store: Any, make: Any) -> None:
    await store.deliver([make.upserted(FILM), make.rate(ADA, FILM, 4, at=1, review="Bad.")])
    await store.deliver([make.rate(BOB, FILM, 7, at=1)])
    await store.facts()
    await store.deliver([make.unrate(ADA, FILM, at=2)])
    assert await store.scores() == {(ADA, FILM): None, (BOB, FILM): 7}
    assert await store.facts() == [
        MovieUnrated(
            movie_id=FILM,
            user_id=ADA,
            previous=Rating(score=4, rated_at=make.at(1)),
            unrated_at=make.at(2),
        ),
        RatingAggregated(movie_id=FILM, count=1, mean=7, histogram=histogram(7), revision=3),
    ]
    await store.deliver([make.unrate(BOB, FILM, at=2)])
    assert (await store.facts())[1] == RatingAggregated(
        movie_id=FILM, count=0, mean=None, histogram=histogram(), revision=4
    )


@pytest.mark.parametrize("late", ["rating", "taking back"])
async def test_what_is_older_than_the_newest_has_no_effect(
    store: Any, make: Any, late: str
) -> None:
    first = make.rate(ADA, FILM, 6, at=5) if late == "taking back" else make.unrate(ADA, FILM, at=5)
    await store.deliver([make.upserted(FILM), first])
    before = await store.content()
    await store.facts()
    older = make.unrate(ADA, FILM, at=4) if late == "taking back" else make.rate(ADA, FILM, 6, at=4)
    await store.deliver([older])
    assert await store.content() == before
    assert await store.facts() == []


async def test_taking_back_what_was_never_rated_says_nothing(store: Any, make: Any) -> None:
    await store.deliver([make.upserted(FILM), make.unrate(ADA, FILM, at=4)])
    assert await store.facts() == []
    await store.deliver([make.rate(ADA, FILM, 3, at=5)])
    assert [type(fact) for fact in await store.facts()] == [MovieRated, RatingAggregated]


async def test_of_two_at_the_same_time_the_greater_id_counts(store: Any, make: Any) -> None:
    # by code point: in the order of a language "é" would stand between "e" and "f"
    events = [
        make.rate(ADA, FILM, score, at=1, event_id=event_id)
        for score, event_id in ((1, "Z"), (2, "a"), (3, "f"), (4, "é"))
    ]
    for order in (events, events[::-1]):
        await store.deliver(order[:2])
        await store.deliver(order[2:])
        assert await store.scores() == {(ADA, FILM): 4}
        await store.forget_everything()
        for event in order:
            await store.deliver([event])
        assert await store.scores() == {(ADA, FILM): 4}
        await store.forget_everything()


async def test_of_a_batch_only_what_counts_is_told(store: Any, make: Any) -> None:
    await store.deliver([make.upserted(FILM)])
    await store.deliver(
        [
            make.rate(ADA, FILM, 1, at=1),
            make.rate(ADA, FILM, 3, at=3),
            make.unrate(ADA, FILM, at=2),
            make.rate(BOB, FILM, 5, at=1),
            make.unrate(BOB, FILM, at=2),
        ]
    )
    rated, aggregated = await store.facts()
    assert (rated.user_id, rated.rating.score, rated.previous) == (ADA, 3, None)
    assert (aggregated.count, aggregated.mean, aggregated.revision) == (1, 3, 1)


async def test_a_time_ahead_of_the_clock_is_cut_and_none_is_now(store: Any) -> None:
    before = datetime.now(UTC)
    ahead = datetime(9999, 12, 31, tzinfo=UTC)
    past = datetime(1, 1, 1, tzinfo=UTC)
    commands = [
        Event.of(RateMovie(movie_id=FILM, user_id=user, score=5), source="/test", time=ahead)
        for user in ("ahead", "past", "none")
    ]
    commands[1] = commands[1].model_copy(update={"time": past})
    commands[2] = commands[2].model_copy(update={"time": None})
    await store.deliver(commands)
    rows = await store.rows("SELECT user_id, changed_at FROM ratings")
    after = datetime.now(UTC)
    moments = dict(rows)
    five = timedelta(minutes=5)
    assert before + five <= moments["ahead"] <= after + five
    assert moments["past"] == past + timedelta(microseconds=1)
    assert before <= moments["none"] <= after


async def test_ratings_of_an_unknown_film_are_counted_and_told_when_it_is_known(
    store: Any, make: Any
) -> None:
    await store.deliver([make.rate(ADA, FILM, 8), make.rate(BOB, FILM, 6)])
    facts = await store.facts()
    assert [type(fact) for fact in facts] == [MovieRated, MovieRated]
    await store.check()
    await store.deliver([make.upserted(FILM)])
    assert await store.facts() == [
        RatingAggregated(movie_id=FILM, count=2, mean=7, histogram=histogram(6, 8), revision=1)
    ]
    await store.deliver([make.upserted(FILM, 2)])
    assert await store.facts() == []


async def test_a_film_and_its_first_rating_at_the_same_time(store: Any, make: Any) -> None:
    """Whichever commits first, the sum goes out once."""
    for first, second in (
        (make.rate(ADA, FILM, 8), make.upserted(FILM)),
        (make.upserted(FILM), make.rate(ADA, FILM, 8)),
    ):
        async with unit_of_work(store.database, source="test") as work:
            if isinstance(first.data, RateMovie):
                await store.handlers.rate([first], work)
            else:
                await store.handlers.follow_catalogue([first], work)
            other = asyncio.ensure_future(store.deliver([second]))
            await store.somebody_waits_for_a_lock()
        await other
        told = sorted(fact.TYPE for fact in await store.facts())
        assert told == [MovieRated.TYPE, RatingAggregated.TYPE]
        await store.check()
        await store.forget_everything()


async def test_a_removed_film_keeps_its_ratings(store: Any, make: Any) -> None:
    await store.deliver([make.upserted(FILM), make.rate(ADA, FILM, 8)])
    await store.deliver([make.removed(FILM, 2)])
    await store.facts()
    await store.deliver([make.rate(BOB, FILM, 6), make.unrate(ADA, FILM, at=9)])
    assert {type(fact) for fact in await store.facts()} == {MovieRated, MovieUnrated}
    await store.deliver([make.upserted(FILM, 3)])
    assert await store.facts() == [
        RatingAggregated(movie_id=FILM, count=1, mean=6, histogram=histogram(6), revision=2)
    ]


async def test_the_commands_of_erased_users_have_no_effect(store: Any, make: Any) -> None:
    async with store.database.transaction() as connection:
        await remember_erased(connection, [ADA])
    await store.deliver([make.rate(ADA, FILM, 8), make.rate(BOB, FILM, 6)])
    await store.deliver([make.unrate(ADA, FILM, at=4)])
    assert await store.scores() == {(BOB, FILM): 6}
    assert [fact.user_id for fact in await store.facts()] == [BOB]


async def test_a_blank_review_is_none(store: Any, make: Any) -> None:
    await store.deliver([make.rate(ADA, FILM, 8, review=""), make.rate(BOB, FILM, 8, review=" \n")])
    assert await store.rows("SELECT review FROM ratings") == [(None,), (None,)]


async def test_a_hundred_ratings_at_the_same_time(store: Any, make: Any, replicas: Any) -> None:
    """One user, one film, five consumers: one row, the newest, and a mean that is a recount's."""
    rate, _ = replicas
    chance = random.Random(1)
    commands = [make.rate(ADA, FILM, chance.randint(1, 20) / 2, at=n) for n in range(100)]
    newest = commands[-1]
    others = [make.rate(f"movielens-{n}", FILM, n % 20 / 2 + 0.5) for n in range(30)]
    await store.deliver([make.upserted(FILM)])
    await store.facts()
    pile = commands + others
    chance.shuffle(pile)
    async with asyncio.timeout(60):
        await asyncio.gather(
            rate(pile[::4], 1),
            rate(pile[1::4], 3),
            rate(pile[2::4], 7),
            rate(pile[3::4], 20),
            rate(pile[::-1], 11),  # all of it again
        )
    assert await store.rows("SELECT event_id FROM ratings WHERE user_id = 'user-ada'") == [
        (newest.id,)
    ]
    scores = [newest.data.score, *(event.data.score for event in others)]
    last = max(
        (fact for fact in await store.facts() if isinstance(fact, RatingAggregated)),
        key=lambda fact: fact.revision,
    )
    assert last.count == 31
    assert last.mean == pytest.approx(sum(scores) / 31, abs=1e-12)
    assert last.histogram == histogram(*scores)


async def test_facts_grow_their_revision_one_by_one_and_end_with_what_is_stored(
    store: Any, make: Any
) -> None:
    chance = random.Random(2)
    await store.deliver([make.upserted(FILM), make.upserted("tmdb-5")])
    for n in range(60):
        user, film = f"user-{chance.randint(1, 4)}", chance.choice((FILM, "tmdb-5"))
        event = (
            make.unrate(user, film, at=n)
            if chance.random() < 0.3
            else make.rate(user, film, chance.randint(1, 20) / 2, at=n)
        )
        await store.deliver([event])
    facts = [fact for fact in await store.facts() if isinstance(fact, RatingAggregated)]
    stored = await store.rows("SELECT movie_id, histogram, revision FROM aggregates")
    assert len(stored) == 2
    for film, counted, revision in stored:
        of_film = [fact for fact in facts if fact.movie_id == film]
        assert [fact.revision for fact in of_film] == list(range(1, revision + 1))
        assert of_film[-1].histogram == tuple(counted)


async def test_replicas_never_deadlock(store: Any, make: Any, replicas: Any) -> None:
    rate, follow = replicas
    chance = random.Random(3)
    films = [f"tmdb-{n}" for n in range(1, 60)]
    commands = [
        make.rate(f"user-{chance.randint(1, 40)}", chance.choice(films), 5, at=n)
        for n in range(3000)
    ]
    catalogue = [make.upserted(film, revision) for film in films for revision in (1, 2)]
    chance.shuffle(catalogue)
    async with asyncio.timeout(60):
        await asyncio.gather(
            rate(commands[:1500], 120),
            rate(commands[1500:], 120),
            rate(commands[1000:2000], 70),  # redelivered to a third one
            follow(catalogue, 25),
            follow(catalogue[::-1], 25),
        )
    assert await store.rows(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    ) == [(0,)]
    last = {(event.data.user_id, event.data.movie_id): event.id for event in commands}
    rows = await store.rows("SELECT user_id, movie_id, event_id FROM ratings")
    assert {(user, film): event_id for user, film, event_id in rows} == last
