"""What a user who asks to be forgotten has rated."""

from collections.abc import Iterable

from service_kit import UnitOfWork

from rating_service.ratings import repository
from rating_service.ratings.repository import KeyState


async def erase_ratings(work: UnitOfWork, user_id: str) -> None:
    """Drop all of a user's ratings and reviews, correct the films' sums and announce them.

    `service_kit.erasure.remember_erased` has to come first, in the same transaction: nobody else
    can add a rating of the user's then. Ratings may still move to another film.
    """
    connection = work.connection
    held: dict[str, KeyState] = {}
    while missing := await repository.films_rated_by(connection, user_id) - held.keys():
        held |= (await repository.lock_films(connection, missing))[1]
    dropped = await repository.delete_ratings_of(connection, user_id)
    counted = [(movie_id, half_steps) for movie_id, half_steps in dropped if half_steps is not None]
    await _take_off(work, counted, held)


async def _take_off(
    work: UnitOfWork, ratings: Iterable[tuple[str, int]], held: dict[str, KeyState]
) -> None:
    by_film = dict(ratings)
    aggregates = await repository.read_aggregates(work.connection, by_film)
    for movie_id, half_steps in by_film.items():
        aggregates[movie_id].replace(half_steps, None)
    await repository.save_aggregates(work.connection, aggregates.values())
    for movie_id in sorted(aggregates):
        if held[movie_id].present:
            work.emit(aggregates[movie_id].fact())
