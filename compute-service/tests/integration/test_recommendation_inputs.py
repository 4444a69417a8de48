"""What recommendations are made from: the newest word of each user on a film, and what it is
about, in whatever order the events came."""

import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from compute_service.recommendation import repository
from moviemetric_contracts import Event, MovieRated, MovieUnrated, Rating, UserErased
from service_kit import Database, Outcome
from sqlalchemy import text

Deliver = Callable[[Sequence[Event[Any]]], Awaitable[list[Outcome]]]
ADA, BOB, EVE = "user-ada", "bob/of\ta producer", "eve"


async def rows(database: Database, statement: str) -> list[tuple[Any, ...]]:
    async with database.reading() as connection:
        return [tuple(row) for row in await connection.execute(text(statement))]


async def stored(database: Database) -> list[tuple[Any, ...]]:
    return await rows(
        database,
        "SELECT user_id, movie_id, half_steps, rated_at FROM user_ratings ORDER BY 1, 2",
    )


def rated(make: Any, user_id: str, movie_id: str, score: float, at: datetime) -> Event[Any]:
    rating = Rating(score=score, rated_at=at)
    return make.of(MovieRated(movie_id=movie_id, user_id=user_id, rating=rating))


def unrated(make: Any, user_id: str, movie_id: str, at: datetime) -> Event[Any]:
    previous = Rating(score=5, rated_at=at)
    return make.of(
        MovieUnrated(movie_id=movie_id, user_id=user_id, previous=previous, unrated_at=at)
    )


async def test_the_newest_word_counts_in_whatever_order_it_comes(
    database: Database, deliver_all: Deliver, make: Any
) -> None:
    minute = [make.now - timedelta(minutes=n) for n in range(10, 0, -1)]
    told = [
        rated(make, ADA, "tmdb-1", 4.5, minute[0]),
        unrated(make, ADA, "tmdb-1", minute[1]),
        rated(make, ADA, "tmdb-1", 6.0, minute[2]),
        rated(make, ADA, "tmdb-2", 9.0, minute[1]),
        unrated(make, ADA, "tmdb-2", minute[4]),
        # of the same moment: the higher score, and a score before none
        rated(make, BOB, "tmdb-1", 3.0, minute[5]),
        rated(make, BOB, "tmdb-1", 7.5, minute[5]),
        unrated(make, BOB, "tmdb-1", minute[5]),
        unrated(make, BOB, "tmdb-2", minute[6]),
        rated(make, BOB, "tmdb-2", 0.5, minute[6]),
        # never rated, as far as is known here
        unrated(make, BOB, "tmdb-3", minute[7]),
    ]
    draw = random.Random(5)
    for _ in range(4):
        draw.shuffle(told)
        # the same facts as events of their own, since one id counts once
        again = [make.of(event.data) for event in told]
        cut = draw.randrange(len(again))
        await deliver_all(again[:cut])
        await deliver_all(again[cut:])
        assert await stored(database) == [
            (BOB, "tmdb-1", 15, minute[5]),
            (BOB, "tmdb-2", 1, minute[6]),
            (BOB, "tmdb-3", None, minute[7]),
            (ADA, "tmdb-1", 12, minute[2]),
            (ADA, "tmdb-2", None, minute[4]),
        ]
        async with database.transaction() as connection:
            await connection.execute(text("DELETE FROM user_ratings"))


async def test_two_keys_of_one_film_count_once_the_newest(
    database: Database, deliver_all: Deliver, make: Any
) -> None:
    early, later, last = (make.now - timedelta(hours=n) for n in (3, 2, 1))
    await deliver_all(
        [
            make.upserted("tmdb-862", aliases=("imdb-tt0114709",)),
            rated(make, ADA, "imdb-tt0114709", 9.0, early),
            rated(make, ADA, "tmdb-862", 2.0, later),
            rated(make, BOB, "imdb-tt0114709", 8.0, later),
            rated(make, BOB, "tmdb-862", 3.0, early),
            # taken back under another key than it was given
            rated(make, EVE, "imdb-tt0114709", 8.0, later),
            unrated(make, EVE, "tmdb-862", last),
        ]
    )
    async with database.reading() as connection:
        assert await repository.ratings_of(connection, ADA) == {"tmdb-862": (4, later)}
        assert await repository.ratings_of(connection, BOB) == {"tmdb-862": (16, later)}
        assert await repository.ratings_of(connection, EVE) == {}


async def test_erased_users_leave_no_rating_and_get_none_again(
    database: Database, deliver_all: Deliver, make: Any
) -> None:
    at = make.now - timedelta(hours=1)
    early = [rated(make, ADA, "tmdb-1", 8, at), unrated(make, ADA, "tmdb-2", at)]
    await deliver_all([*early, rated(make, BOB, "tmdb-1", 7, at)])
    await deliver_all([make.of(UserErased(user_id=ADA))])
    assert await stored(database) == [(BOB, "tmdb-1", 14, at)]
    await deliver_all(
        [
            *early,
            rated(make, ADA, "tmdb-3", 8, at),
            unrated(make, ADA, "tmdb-1", at),
            unrated(make, ADA, "tmdb-4", at),
        ]
    )
    assert await stored(database) == [(BOB, "tmdb-1", 14, at)]


async def test_what_a_film_is_about_follows_its_newest_version(
    database: Database, deliver_all: Deliver, make: Any
) -> None:
    cast = [{"name": f"Actor {n}", "order": n} for n in range(14)][::-1]
    crew = [{"name": "Ann Dee", "job": "Director"}, {"name": "Cam", "job": "Editor"}]
    await deliver_all(
        [
            make.upserted(
                "tmdb-1",
                2,
                keywords=("Robot", "robot", "future"),
                cast=[*cast, {"name": "ANN DEE", "order": 20}],
                crew=crew,
                overview="o" * 1500,
            ),
            make.upserted("tmdb-2", 2, keywords=("noir",)),
            make.upserted("tmdb-3", overview="Boy meets girl."),
            make.upserted("tmdb-4"),
        ]
    )
    statement = "SELECT movie_id, keywords, people, overview FROM movie_content ORDER BY 1"
    people = ["Ann Dee", *(f"Actor {n}" for n in range(10))]
    third: tuple[Any, ...] = ("tmdb-3", [], [], "Boy meets girl.")
    assert await rows(database, statement) == [
        ("tmdb-1", ["Robot", "future"], people, "o" * 1000),
        ("tmdb-2", ["noir"], [], ""),
        third,
    ]
    await deliver_all(
        [
            make.upserted("tmdb-1", 1, keywords=("too late",)),
            make.upserted("tmdb-1", 3),
            make.removed("tmdb-2", 3),
            make.upserted("tmdb-4", 2, keywords=("sea",)),
        ]
    )
    assert await rows(database, statement) == [third, ("tmdb-4", ["sea"], [], "")]
