"""`make bench-search-upkeep`: how soon a changed film is found, and rebuilding under traffic.

Over HTTP, with the gateway, search-indexer and the servers as processes of their own, for each
engine: the seconds from a published `movie.upserted` to the hit with the new title, at a steady
rate of changes; then a rebuild of all films under a constant stream of searches and changes, the
answers meanwhile, and the drift afterwards.

Films are read from MOVIEMETRIC_SHARED_DATA, as by `tests/bench/search.py`. Meilisearch is started
from MEILISEARCH_BINARY. Exits with 1 when a figure misses its target.
"""

import asyncio
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
import search_films
from harness import LiveStack
from local_stack.ports import free_port
from local_stack.pytest_plugin import scratch_folder
from local_stack.servers import PostgresServer, RabbitServer, RedisServer
from moviemetric_contracts import (
    Event,
    Message,
    Movie,
    MovieUpserted,
    RatingAggregated,
    TrendBreakdown,
    TrendEntry,
    TrendUpdated,
)
from run import Report
from search_indexer import repository
from search_indexer.documents import Document
from service_kit import Database, Publisher, RabbitBroker
from sqlalchemy import text

FILMS: Final = int(os.environ.get("UPKEEP_FILMS", "55000"))
RATE: Final = float(os.environ.get("UPKEEP_RATE", "20"))
SECONDS: Final = float(os.environ.get("UPKEEP_SECONDS", "60"))
ENGINES: Final = os.environ.get("SEARCH_ENGINES", "postgres,meilisearch").split(",")
TARGET: Final = 2.0
PARTS: Final = ("rating-service", "search-indexer", "gateway")
_PROBES_A_SECOND: Final = 3.0
# Each film that changed is searched for so often, which must not become what is measured.
_POLL: Final = 0.1
_SEARCHERS: Final = 4
_QUERIES: Final = ("love", "the dark", "man", "war", "paris", "new yrok", "night of", "christmas")
_KEY: Final = "a-master-key-of-this-bench"


def start_meilisearch(stack: ExitStack, folder: Path, program: str) -> dict[str, str]:
    """A server of its own; the settings that name it."""
    address = f"127.0.0.1:{free_port()}"
    command = [program, "--http-addr", address, "--no-analytics", "--master-key", _KEY]
    command += ["--db-path", str(folder / "meilisearch"), "--max-indexing-memory", "512MiB"]
    log = stack.enter_context((folder / "meilisearch.log").open("wb"))
    process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    stack.callback(process.wait)
    stack.callback(process.kill)
    deadline = time.monotonic() + 60
    while True:
        try:
            httpx.get(f"http://{address}/health", timeout=1, trust_env=False).raise_for_status()
        except httpx.HTTPError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            time.sleep(0.05)
        else:
            return {"MEILISEARCH_URL": f"http://{address}", "MEILISEARCH_KEY": _KEY}


def movie_of(film: Document, title: str) -> Movie:
    """The film with another title, as the catalogue would tell of it."""
    return Movie(
        movie_id=film.movie_id,
        tmdb_id=film.tmdb_id,
        title=title,
        original_title=film.original_title,
        original_language=film.original_language,
        overview=film.overview,
        release_date=film.release_date,
        genres=film.genres,
        vote_average=film.vote_average,
        vote_count=film.vote_count,
        popularity=film.popularity,
        fetched_at=datetime.now(UTC),
    )


async def store(stack: LiveStack, films: Sequence[Document]) -> None:
    """As search-indexer stores them; the index in Meilisearch follows by itself."""
    database = Database(stack.database_url, schema="search")
    try:
        for start in range(0, len(films), 500):
            batch = sorted(films[start : start + 500], key=lambda film: film.movie_id)
            async with database.transaction() as connection:
                await repository.store_catalogue_changes(connection, batch)
                await repository.store_trends(connection, search_films.trends(batch))
        async with database.transaction() as connection:
            # As autovacuum does in its time.
            await connection.execute(text("ANALYZE"))
    finally:
        await database.dispose()


@dataclass
class Bench:
    """One engine's stack, with connections to it."""

    stack: LiveStack
    films: Sequence[Document]
    publisher: Publisher
    http: httpx.AsyncClient
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    revisions: Iterator[int] = field(default_factory=lambda: itertools.count(100))

    async def publish(self, data: Message) -> None:
        await self.publisher.publish(Event.of(data, source="/bench", time=datetime.now(UTC)))

    async def change(self, title: str) -> str:
        """Another film gets this title."""
        film = self.films[next(self.numbers) * 7919 % len(self.films)]
        await self.publish(
            MovieUpserted(movie=movie_of(film, title), revision=next(self.revisions))
        )
        return film.movie_id

    async def search(self, base: str, query: str) -> dict[str, Any]:
        answer = await self.http.get(f"{base}/search", params={"q": query, "limit": 5})
        answer.raise_for_status()
        return answer.json()


async def changes(bench: Bench, per_second: float) -> None:
    """Films, trends and ratings that change until this is cancelled."""
    started = time.perf_counter()
    for number in itertools.count(1):
        await asyncio.sleep(max(0.0, started + number / per_second - time.perf_counter()))
        movie_id = await bench.change(f"Renamed {number} times")
        if number % 5 == 0:
            revision = next(bench.revisions)
            entry = TrendEntry(
                movie_id=movie_id,
                score=50,
                rank_key=number / 100,
                views=number,
                breakdown=TrendBreakdown(activity=1, quality=5),
            )
            await bench.publish(
                TrendUpdated(as_of=datetime.now(UTC), revision=revision, entries=(entry,))
            )
            histogram = (0,) * 13 + (1,) + (0,) * 6
            await bench.publish(
                RatingAggregated(
                    movie_id=movie_id, count=1, mean=7, histogram=histogram, revision=revision
                )
            )


async def until_found(bench: Bench, base: str, number: int) -> float:
    """Seconds from the event to the first answer that has the new title."""
    word = "".join(chr(ord("a") + int(digit)) for digit in f"{number:06}")
    query = f"zq{word}"
    published = time.perf_counter()
    movie_id = await bench.change(f"Title {query}")
    while True:
        hits = (await bench.search(base, query))["hits"]
        if any(hit["movie_id"] == movie_id and hit["title"].endswith(query) for hit in hits):
            return time.perf_counter() - published
        assert time.perf_counter() - published < 30, "not found after 30 s"
        await asyncio.sleep(_POLL)


async def freshness(bench: Bench, base: str, seconds: float) -> list[float]:
    """The times of probes at a steady rate, while other films change too."""
    background = asyncio.create_task(changes(bench, RATE))
    probes: list[asyncio.Task[float]] = []
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        probes.append(asyncio.create_task(until_found(bench, base, next(bench.numbers))))
        await asyncio.sleep(max(0.0, len(probes) / _PROBES_A_SECOND - elapsed))
    times = await asyncio.gather(*probes)
    background.cancel()
    await asyncio.gather(background, return_exceptions=True)
    return times


@dataclass
class Answers:
    """What those who searched were told."""

    good: int = 0
    failed: int = 0
    empty: int = 0
    degraded: int = 0
    slowest: float = 0.0


async def searching(bench: Bench, base: str, answers: Answers) -> None:
    """One person after another, until this is cancelled."""
    for query in itertools.cycle(_QUERIES):
        started = time.perf_counter()
        try:
            page = await bench.search(base, query)
        except httpx.HTTPError:
            answers.failed += 1
            continue
        answers.slowest = max(answers.slowest, time.perf_counter() - started)
        answers.empty += not page["total"]
        answers.degraded += bool(page.get("degraded"))
        answers.good += bool(page["total"])


async def rebuild(bench: Bench, base: str) -> tuple[dict[str, Any], Answers]:
    """Rebuild while people search and films change; the job, and the answers meanwhile."""
    answers = Answers()
    traffic = [asyncio.create_task(searching(bench, base, answers)) for _ in range(_SEARCHERS)]
    traffic.append(asyncio.create_task(changes(bench, RATE)))
    try:
        asked = await asyncio.to_thread(bench.stack.api.http.post, "/admin/search/build-index")
        job_id = asked.raise_for_status().json()["job_id"]
        while True:
            job = await asyncio.to_thread(bench.stack.api.job, job_id)
            if job["state"] not in {"queued", "running"}:
                break
            await asyncio.sleep(0.2)
    finally:
        for task in traffic:
            task.cancel()
        await asyncio.gather(*traffic, return_exceptions=True)
    return job, answers


async def settled(bench: Bench) -> dict[str, Any]:
    """The drift when everything has been told."""
    deadline = time.perf_counter() + 300
    quiet = 0
    while quiet < 4:
        # Depths are as old as the tick on which quorum queues report them.
        await asyncio.sleep(1.5)
        depths = await asyncio.to_thread(bench.stack.management.depths)
        waiting = sum(n for queue, n in depths.items() if queue.startswith("search-indexer."))
        quiet = 0 if waiting else quiet + 1
        assert time.perf_counter() < deadline, f"still waiting: {waiting}"
    return await asyncio.to_thread(bench.stack.api.get, "/admin/search/drift")


async def measure(stack: LiveStack, films: Sequence[Document], name: str, report: Report) -> None:
    """One engine."""
    started = time.perf_counter()
    await store(stack, films)
    broker = RabbitBroker(stack.amqp_url, name="bench")
    # Less than the services keep an idle connection.
    limits = httpx.Limits(max_connections=200, keepalive_expiry=2)
    async with httpx.AsyncClient(timeout=30, trust_env=False, limits=limits) as http:
        bench = Bench(stack, films, Publisher(broker), http)
        indexer, gateway = stack.urls["search-indexer"], f"{stack.urls['gateway']}/api/v1"
        while (page := await bench.search(indexer, "")).get("degraded") or page["total"] < len(
            films
        ):
            assert time.perf_counter() - started < 1800, "the index is not filled"
            await asyncio.sleep(0.5)
        load = os.getloadavg()[0]
        changed = f"{RATE:g} changes a second"
        report.title(f"{name}, {len(films):,} films, {changed} (load {load:.1f})")
        report.line("stored and indexed", f"{time.perf_counter() - started:,.0f} s")
        for place, base in (("search-indexer", indexer), ("the gateway", gateway)):
            times = await freshness(bench, base, SECONDS)
            cuts = quantiles(times, n=100, method="inclusive")
            report.line(
                f"changed film to changed hit at {place}, p50 / p99",
                f"{cuts[49]:.2f} / {cuts[98]:.2f} s",
                f"p99 < {TARGET:g} s",
                ok=cuts[98] < TARGET,
            )
        job, answers = await rebuild(bench, indexer)
        took = datetime.fromisoformat(job["finished_at"]) - datetime.fromisoformat(
            job["started_at"]
        )
        report.line("rebuild", f"{took.total_seconds():,.1f} s")
        report.line("its end", job["state"], "succeeded", ok=job["state"] == "succeeded")
        report.line("searches meanwhile", f"{answers.good:,}")
        report.line("slowest of them", f"{answers.slowest:.2f} s")
        bad = answers.failed + answers.empty
        report.line("failed or empty answers", f"{bad}", "0", ok=not bad)
        report.line("answers of the engine that stands in", f"{answers.degraded}")
        drift = await settled(bench)
        report.line("drift afterwards", f"{drift['drift']}", "0", ok=drift["drift"] == 0)
        report.line("compared in", f"{drift['duration_seconds']:.1f} s")
    await broker.close()


def main() -> int:
    """Measure what is there."""
    folder = search_films.data_folder()
    if folder is None:
        sys.stderr.write(
            "needs the films: set MOVIEMETRIC_SHARED_DATA to the folder with tmdb5000\n"
        )
        return 1
    films = list(search_films.many(list(search_films.bulk(folder)), FILMS))
    report = Report()
    program = os.environ.get("MEILISEARCH_BINARY")
    for name in ENGINES:
        if name == "meilisearch" and not program:
            sys.stdout.write("\nMeilisearch skipped: set MEILISEARCH_BINARY to the program\n")
            continue
        scratch = scratch_folder()
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, scratch, ignore_errors=True)
            postgres = stack.enter_context(PostgresServer(scratch / "postgres", durable=True))
            rabbit = stack.enter_context(RabbitServer(scratch / "rabbitmq"))
            redis = stack.enter_context(RedisServer(scratch / "redis"))
            env = {"SEARCH_BACKEND": name, "LOG_LEVEL": "WARNING"}
            if name == "meilisearch" and program:
                env |= start_meilisearch(stack, scratch, program)
            live = stack.enter_context(
                LiveStack(
                    Path(tempfile.mkdtemp(dir=scratch)),
                    amqp_url=rabbit.url,
                    management_url=rabbit.management_url,
                    database_url=postgres.url,
                    redis_url=redis.url_of(0),
                    env=env,
                    only=PARTS,
                )
            )
            asyncio.run(measure(live, films, name, report))
    if report.missed:
        sys.stdout.write(f"\nmissed: {', '.join(report.missed)}\n")
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
