"""What an erased user has rated is gone, and the sums are as if it had never been."""

import asyncio
import random
from typing import Any

from moviemetric_contracts import RatingAggregated
from rating_service.ratings.erasure import erase_ratings
from service_kit import Database, unit_of_work
from service_kit.erasure import remember_erased

ADA, BOB, FILM, OTHER = "user-ada", "user-bob", "tmdb-862", "imdb-tt0000002"


async def erase(database: Database, user_id: str) -> None:
    async with unit_of_work(database, source="test") as work:
        await remember_erased(work.connection, [user_id])
        await erase_ratings(work, user_id)


async def test_sums_are_corrected_and_told(store: Any, make: Any) -> None:
    await store.deliver(
        [
            make.upserted(FILM),
            make.rate(ADA, FILM, 8, review="Mine."),
            make.rate(BOB, FILM, 6),
            make.rate(ADA, OTHER, 3),
            make.unrate(ADA, "tmdb-9", at=4),
        ]
    )
    await store.facts()
    await erase(store.database, ADA)
    assert await store.scores() == {(BOB, FILM): 6}
    # the other one is not in the catalogue
    [fact] = await store.facts()
    assert (fact.movie_id, fact.count, fact.mean, fact.revision) == (FILM, 1, 6, 2)
    await store.deliver([make.rate(ADA, FILM, 9, at=99)])
    assert await store.scores() == {(BOB, FILM): 6}
    assert await store.facts() == []


async def test_a_user_who_never_rated(store: Any) -> None:
    await erase(store.database, ADA)
    assert await store.facts() == []


async def test_while_they_are_rating_and_films_are_joined(
    store: Any, make: Any, replicas: Any
) -> None:
    rate, follow = replicas
    chance = random.Random(5)
    films = {n: (f"tmdb-{n}", f"imdb-tt{n:07}") for n in range(1, 21)}
    commands = [
        make.rate(chance.choice((ADA, BOB)), chance.choice(films[chance.randint(1, 20)]), 5, at=n)
        for n in range(1200)
    ]
    catalogue = [
        event
        for tmdb, imdb in films.values()
        for event in (make.upserted(imdb), make.upserted(tmdb, 2, aliases=(imdb,)))
    ]
    chance.shuffle(catalogue)

    async def erase_soon() -> None:
        async with asyncio.timeout(30):
            while True:
                if await store.rows("SELECT 1 FROM ratings WHERE user_id = 'user-ada'"):
                    break
                await asyncio.sleep(0.01)
        await erase(store.database, ADA)

    async with asyncio.timeout(60):
        await asyncio.gather(
            rate(commands[::2], 20), rate(commands[1::2], 20), follow(catalogue, 3), erase_soon()
        )
    own = {key: names[0] for names in films.values() for key in names}
    bobs = {own[event.data.movie_id] for event in commands if event.data.user_id == BOB}
    assert await store.scores() == {(BOB, film): 5 for film in bobs}
    newest: dict[str, Any] = {}
    for fact in await store.facts():
        if isinstance(fact, RatingAggregated):
            known = newest.setdefault(fact.movie_id, fact)
            newest[fact.movie_id] = max(known, fact, key=lambda sum_: sum_.revision)
    assert {film: newest[film].count for film in bobs} == dict.fromkeys(bobs, 1)
