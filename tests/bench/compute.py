"""`make bench-compute`: MovieLens from event to recommendations.

Films and ratings are published as events, films under `movielens-` keys, and taken by a real
compute-service. Then recommendations are computed once: how long that takes, and how much memory
the service and the process that fits have at most. Last, how soon the service answers.

Exits with 1 when a figure misses its target.
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
import numpy as np
from compute_service.artifacts import Day
from compute_service.recommendation import repository
from compute_service.recommendation.artifact import Recommendations
from compute_service.recommendation.orders import Fitted, ModelSettings
from harness import LiveStack, eventually
from local_stack.pytest_plugin import scratch_folder
from local_stack.servers import PostgresServer, RabbitServer, RedisServer
from moviemetric_contracts import Event, Movie, MovieRated, MovieUpserted, Rating
from recommendations import READERS, Film, Ratings
from service_kit import Database, RabbitBroker
from service_kit.store import to_outgoing

SECONDS, MEGABYTES, P50 = 120, 1500, 50
SERVICE = "compute-service"
ASKED = 200
AT_ONCE = 2000


@dataclass(frozen=True)
class Figures:
    """Of one set; times in seconds, memory in MB."""

    ratings: int
    taken: float
    job: float
    fitted: Fitted
    service_before: float
    service_after: float

    @property
    def peak(self) -> float:
        """Of the service and the process that fits, together."""
        return self.service_after + self.fitted.peak_memory / 2**20


@contextmanager
def running() -> Generator[LiveStack]:
    """A compute-service on servers of its own that write to disk as in production."""
    folder = scratch_folder()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        postgres = stack.enter_context(PostgresServer(folder / "postgres", durable=True))
        rabbit = stack.enter_context(RabbitServer(folder / "rabbitmq"))
        redis = stack.enter_context(RedisServer(folder / "redis"))
        live = LiveStack(
            Path(tempfile.mkdtemp(dir=folder)),
            amqp_url=rabbit.url,
            management_url=rabbit.management_url,
            database_url=postgres.url,
            redis_url=redis.url_of(0),
            # nobody is there to take announcements of trends, which would pile up
            env={"LOG_LEVEL": "WARNING", "TREND_ANNOUNCE_SECONDS": "3600"},
            only=(SERVICE,),
        )
        yield stack.enter_context(live)


def film_events(films: dict[int, Film]) -> Iterator[Event[Any]]:
    """Of all films of a set; what it does not say is left out."""
    now = datetime.now(UTC)
    for number, film in films.items():
        movie = Movie(
            movie_id=f"movielens-{number}",
            title=f"Film {number}",
            genres=tuple(sorted(film.genres)),
            release_date=None if film.year is None else date(film.year, 1, 1),
            fetched_at=now,
        )
        yield Event.of(MovieUpserted(movie=movie, revision=1), source="/bench", time=now)


def rating_events(ratings: Ratings) -> Iterator[Event[Any]]:
    """Each user's ratings a minute apart, in their order; all of them past."""
    count = np.bincount(ratings.user)
    position = np.arange(len(ratings)) - (np.cumsum(count) - count)[ratings.user]
    first = datetime.now(UTC) - timedelta(minutes=int(count.max()) + 10)
    columns = (ratings.user, ratings.film, ratings.stars, position)
    for user, film, stars, place in zip(*(column.tolist() for column in columns), strict=True):
        at = first + timedelta(minutes=place)
        rated = MovieRated(
            movie_id=f"movielens-{film}",
            user_id=f"user-{user}",
            rating=Rating(score=2 * stars, rated_at=at),
        )
        yield Event.of(rated, source="/bench", time=at)


async def publish(amqp_url: str, events: Iterable[Event[Any]]) -> int:
    """Publish in order, with confirms; answers how many."""
    broker = RabbitBroker(amqp_url, name="bench")
    published, waiting = 0, iter(events)
    while batch := [to_outgoing(event) for event in islice(waiting, AT_ONCE)]:
        errors = await broker.publish_many(batch, confirm_within=30)
        assert not any(errors), errors
        published += len(batch)
    await broker.close()
    return published


def taken(stack: LiveStack, queue: str) -> int:
    """Events that the service has had from a queue."""
    [row] = stack.rows("SELECT count(*) AS n FROM compute.inbox WHERE consumer = %(q)s", q=queue)
    return row["n"]


async def compute(database_url: str) -> Fitted:
    """What a job of the kind `recommendations` does, without the job."""
    now = datetime.now(UTC)
    fitted = await Recommendations(database_url, ModelSettings()).fit(Day.of(now.date(), now))
    database = Database(database_url, schema="compute")
    async with database.transaction() as connection:
        assert await repository.serve(connection, fitted.model_id)
    await database.dispose()
    return fitted


def peak_of(pid: int) -> float:
    """MB of memory at most so far."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def answers(stack: LiveStack, users: int) -> dict[str, list[float]]:
    """Milliseconds of each answer of the service, one at a time, by what was asked."""
    draw = random.Random(1)
    named = [f"user-{draw.randrange(users)}" for _ in range(ASKED)]
    films = [
        row["movie_id"]
        for row in stack.rows(
            "SELECT movie_id FROM compute.recommendation_films ORDER BY md5(movie_id) LIMIT 200"
        )
    ]
    genre = stack.rows("SELECT genres[1] AS genre FROM compute.movies WHERE genres <> '{}' LIMIT 1")
    asked: dict[str, Sequence[tuple[str, dict[str, Any]]]] = {
        "films for a user": [("/recommendations", {"user_id": user}) for user in named],
        "  of a genre": [
            ("/recommendations", {"user_id": user, "genre": genre[0]["genre"]}) for user in named
        ],
        "  with diversity": [
            ("/recommendations", {"user_id": user, "diversity": 0.3}) for user in named
        ],
        "films for three picked ones": [
            ("/recommendations", {"like": ",".join(films[n % 190 : n % 190 + 3])})
            for n in range(ASKED)
        ],
        "similar films": [(f"/similar/{film}", {}) for film in films],
    }
    found: dict[str, list[float]] = {}
    with httpx.Client(base_url=stack.urls[SERVICE], timeout=30) as client:
        for name, requests in asked.items():
            times: list[float] = []
            for path, query in requests:
                began = time.perf_counter()
                answer = client.get(path, params=query)
                times.append((time.perf_counter() - began) * 1000)
                assert answer.status_code == 200, answer.text
                assert answer.json()["items"], answer.text
            found[name] = sorted(times)
    return found


def bench(name: str, folder: Path, missed: list[str]) -> Figures:
    """One set, from its first event to the last answer."""
    ratings, films = READERS[name](folder)
    with running() as stack:
        asyncio.run(publish(stack.amqp_url, film_events(films)))
        eventually(
            "the films to be taken",
            lambda: taken(stack, "compute-service.catalogue") >= len(films),
            seconds=300,
        )
        began = time.perf_counter()
        asyncio.run(publish(stack.amqp_url, rating_events(ratings)))
        eventually(
            "the ratings to be taken",
            lambda: taken(stack, "compute-service.ratings") >= len(ratings),
            seconds=1800,
            every=1.0,
        )
        until_taken = time.perf_counter() - began
        process = stack.processes[SERVICE].managed.process
        assert process is not None
        before = peak_of(process.pid)
        began = time.perf_counter()
        fitted = asyncio.run(compute(stack.database_url))
        job = time.perf_counter() - began
        after = peak_of(process.pid)
        answered = answers(stack, int(ratings.user.max()) + 1)
        figures = Figures(len(ratings), until_taken, job, fitted, before, after)
    show(name, figures, answered, missed)
    return figures


def show(name: str, figures: Figures, answered: dict[str, list[float]], missed: list[str]) -> None:
    """Print the figures of a set; what misses its target is added to `missed`."""

    def line(what: str, value: str, target: str = "", *, ok: bool = True) -> None:
        verdict = "" if not target else "ok" if ok else "MISSED"
        sys.stdout.write(f"  {what:<52} {value:>16}  {target:<12} {verdict}\n")
        sys.stdout.flush()
        if not ok:
            missed.append(f"{what} of {name}")

    fitted = figures.fitted
    sys.stdout.write(
        f"\nMovieLens {name}: {fitted.films:,} films, {fitted.users:,} users, "
        f"{fitted.interactions:,} interactions\n"
    )
    rate = figures.ratings / figures.taken
    line("ratings from the exchange into the tables", f"{figures.taken:.1f} s ({rate:,.0f}/s)")
    line("job", f"{figures.job:.1f} s", f"< {SECONDS} s", ok=figures.job < SECONDS)
    line("  reading", f"{fitted.reading:.1f} s")
    line("  fitting", f"{fitted.fitting:.1f} s")
    line("  writing", f"{fitted.writing:.1f} s")
    ok = figures.peak < MEGABYTES
    line("peak memory of service and job", f"{figures.peak:,.0f} MB", f"< {MEGABYTES} MB", ok=ok)
    line("  of the process that fits", f"{fitted.peak_memory / 2**20:,.0f} MB")
    line("  of the service, most of it before", f"{figures.service_before:,.0f} MB")
    for what, times in answered.items():
        p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
        value = f"{p50:.1f} / {p99:.1f} ms"
        line(f"{what}, p50 / p99", value, f"< {P50} ms p50", ok=p50 < P50)


def main() -> int:
    """All sets, then how the cost grows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path, help="with ml-100k/ and ml-1m/")
    parser.add_argument("--set", choices=READERS, action="append", help="only this one")
    arguments = parser.parse_args()
    names: list[str] = arguments.set or list(READERS)
    missed: list[str] = []
    found = [bench(name, arguments.folder, missed) for name in names]
    if len(found) > 1:
        small, large = found[0], found[-1]
        sys.stdout.write(
            f"\nfrom {small.ratings:,} to {large.ratings:,} ratings: "
            f"{large.job / small.job:.1f} times the time, "
            f"{large.peak / small.peak:.1f} times the memory\n"
        )
    if missed:
        sys.stdout.write(f"missed: {', '.join(missed)}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
