"""`python -m compute_service.recommendation.fitting`: fits a model and writes it, then ends.

A process of its own, so that the service neither waits for it nor keeps its memory. Its parent
starts it (`artifact`), writes the `Order` to its standard input as one line of JSON and keeps that
open: when it closes, because the parent has ended however it ended, this process ends, too. On
success it writes a `Fitted` to standard output. What goes wrong it says on standard error; it ends
with `AWAY` when the database was away, which will pass.
"""

import asyncio
import ctypes
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from service_kit import Database, Outage

from compute_service.recommendation import repository
from compute_service.recommendation.interactions import Int, Interactions
from compute_service.recommendation.model import (
    FilmContent,
    Recommender,
    RecommenderOptions,
    content_similarity,
    fit,
)
from compute_service.recommendation.model.rows import SIMILAR, rows, scorer_of
from compute_service.recommendation.orders import AWAY, Fitted, Order
from compute_service.recommendation.repository import Content, Figures, SimilarFilms
from compute_service.recommendation.taste import standing

SCHEMA: Final = "compute"
_NICENESS: Final = 5
_PR_SET_PDEATHSIG: Final = 1


async def fit_and_write(database: Database, order: Order) -> Fitted:
    """Read, fit, write."""
    began = time.perf_counter()
    movie_ids, interactions, content = await _read(database, order)
    read = time.perf_counter()
    recommender = fit(
        interactions,
        content_similarity([_content(film) for film in content]),
        RecommenderOptions(dense_films=order.dense_films),
    )
    fitted = time.perf_counter()
    figures = Figures(
        as_of=order.as_of,
        computed_at=datetime.now(UTC),
        films=len(movie_ids),
        users=len(np.unique(interactions.user)),
        interactions=len(interactions),
    )
    async with database.transaction() as connection:
        await repository.take_your_time(connection)
        model_id = await repository.write_model(
            connection,
            figures,
            scorer_of(recommender),
            movie_ids,
            rows(recommender),
            _similar(recommender, movie_ids),
        )
    return Fitted(
        model_id=model_id,
        films=figures.films,
        users=figures.users,
        interactions=figures.interactions,
        reading=read - began,
        fitting=fitted - read,
        writing=time.perf_counter() - fitted,
        peak_memory=_peak_memory(),
    )


async def _read(database: Database, order: Order) -> tuple[list[str], Interactions, list[Content]]:
    """The films by number, what was done with them, and what they are about."""
    users: dict[str, int] = {}
    keys: dict[str, int] = {}
    async with database.reading() as connection:
        await repository.unchanging(connection)
        await repository.take_your_time(connection)
        rated = await repository.ratings_before(connection, order.until, users, keys)
        viewed = await repository.views_before(connection, order.until, users, keys)
        in_catalogue = await repository.in_catalogue(connection, keys)
        voted = await repository.most_voted(connection, order.films)

        user = np.array(rated.users, np.int64)
        film = np.array(rated.films, np.int64)
        moment = np.array(rated.moments, np.float64)
        kept = standing(user, film, moment, np.array(rated.half_steps, np.int64))
        user = np.concatenate([user[kept], np.array(viewed.users, np.int64)])
        film = np.concatenate([film[kept], np.array(viewed.films, np.int64)])
        moment = np.concatenate([moment[kept], np.array(viewed.moments, np.float64)])
        weight = np.full(len(user), order.view_weight, np.float32)
        weight[: len(kept)] = 1
        del rated, viewed

        movie_ids = _chosen(keys, film, in_catalogue, voted, order.films)
        content = await repository.content_of(connection, movie_ids)
    number = np.full(len(keys), -1, np.int64)
    for place, movie_id in enumerate(movie_ids):
        if movie_id in keys:
            number[keys[movie_id]] = place
    film = number[film]
    known = film >= 0
    interactions = Interactions.of(
        user[known],
        film[known],
        moment[known],
        weight[known],
        users=len(users),
        items=len(movie_ids),
    )
    return movie_ids, interactions, content


def _chosen(
    keys: dict[str, int],
    film: Int,
    in_catalogue: set[str],
    voted: Sequence[str],
    limit: int,
) -> list[str]:
    """The films of the model, the most telling ones first: by interactions, then by votes."""
    counts = np.bincount(film, minlength=len(keys)).tolist()
    met = sorted(
        (key for key in in_catalogue if counts[keys[key]]),
        key=lambda key: (-counts[keys[key]], key),
    )
    return list(dict.fromkeys([*met[:limit], *voted]))[:limit]


def _content(film: Content) -> FilmContent:
    return FilmContent(
        genres=film.genres,
        keywords=film.keywords,
        people=film.people,
        text=film.overview,
        year=film.release_year,
    )


def _similar(recommender: Recommender, movie_ids: list[str]) -> Iterator[SimilarFilms]:
    for film in range(len(movie_ids)):
        items, scores, audience = recommender.neighbours(film, SIMILAR)
        numbers: list[int] = items.tolist()
        names = [movie_ids[number] for number in numbers]
        yield SimilarFilms(names, scores.tolist(), audience.tolist())


def _peak_memory() -> int:
    with suppress(OSError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    return 0


def _end_with_parent() -> None:
    """Now and from now on: end when standard input is closed, or the parent ends.

    The thread alone would not do: linear algebra may hold it up for seconds.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


async def _run(order: Order) -> Fitted:
    database = Database(
        os.environ["DATABASE_URL"],
        schema=SCHEMA,
        application_name="compute-service recommendations",
        pool_size=1,
    )
    try:
        return await fit_and_write(database, order)
    finally:
        await database.dispose()


def main() -> int:
    """One order, then the end."""
    order = Order.model_validate_json(sys.stdin.buffer.readline())
    _end_with_parent()
    os.nice(_NICENESS)
    try:
        fitted = asyncio.run(_run(order))
    except Outage as outage:
        sys.stderr.write(f"{outage.reason}\n")
        return AWAY
    except Exception as error:  # noqa: BLE001 -- whatever it is, the job has to say it
        traceback.print_exc()
        first, *_ = str(error).splitlines() or [""]
        sys.stderr.write(f"{type(error).__name__}: {first}\n")
        return 1
    sys.stdout.write(fitted.model_dump_json())
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
