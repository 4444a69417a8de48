"""`make bench-search`: how well both engines find films, and how fast, over real films.

Relevance is over the TMDB 5000 films and the queries of `search-indexer/tests/relevance`. Times are
of one query after the other, over 4,803, 55,000 and 500,000 documents (SEARCH_SIZES), first what a
person may type, then what many films have. Meilisearch is measured where MEILISEARCH_BINARY names
the program, or MEILISEARCH_URL (and MEILISEARCH_KEY) a server. Films are read from
MOVIEMETRIC_SHARED_DATA, or shared/data beside the checkout. Exits with 1 when a figure misses its
target.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import quantiles
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
import search_films
from harness.live_stack import ROOT
from local_stack.ports import free_port
from local_stack.pytest_plugin import scratch_folder
from local_stack.servers import PostgresServer
from run import Report
from search_indexer import repository
from search_indexer.documents import Document, Figures
from search_indexer.engine import SearchEngine, SearchRequest
from search_indexer.meilisearch_engine import MeilisearchEngine
from search_indexer.meilisearch_index import MeilisearchIndex
from search_indexer.postgres_engine import PostgresEngine
from service_kit import Database
from service_kit.migrations import upgrade

QUERIES: Final = ROOT / "search-indexer/tests/relevance/queries.json"
SIZES: Final = [
    int(size) for size in os.environ.get("SEARCH_SIZES", "4803,55000,500000").split(",")
]
ENGINES: Final = os.environ.get("SEARCH_ENGINES", "postgres,meilisearch").split(",")
ROUNDS: Final = int(os.environ.get("SEARCH_ROUNDS", "3"))
TARGETS: Final = {"postgres": 0.80, "meilisearch": 0.90}
_STORED_AT_ONCE: Final = 500
_SENT_AT_ONCE: Final = 25_000

Fill = Callable[[Iterable[Document]], Awaitable[None]]

BROAD: Final = [
    SearchRequest(q=q)
    for q in ("love", "man", "young", "life", "the", "s", "st", "star", "war", "night", "new", "a")
]
LISTED: Final = [
    SearchRequest(),
    SearchRequest(offset=1000),
    SearchRequest(genres=("Drama",)),
    SearchRequest(genres=("Comedy", "Romance")),
    SearchRequest(genres=("War", "Western"), genre_mode="any"),
    SearchRequest(language="fr", genres=("Drama",)),
    SearchRequest(decade=2010),
    SearchRequest(year_from=2001, year_to=2009),
    SearchRequest(min_rating=7.5, min_votes=100),
    SearchRequest(sort="date"),
    SearchRequest(sort="rating", min_votes=50),
    SearchRequest(q="love", genres=("Drama",), sort="date"),
]
TYPED: Final = [
    "s",
    "st",
    "sta",
    "star",
    "star w",
    "the g",
    "incep",
    "incepton",
    "dicap",
    "harry po",
]


@dataclass(frozen=True)
class Query:
    """What is typed, and the films of which one should come first."""

    query: str
    kind: str
    films: tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """Where the film came, from 1; 0 when it is not among the first ten."""

    kind: str
    place: int


def queries() -> list[Query]:
    """The committed set."""
    rows = json.loads(QUERIES.read_text(encoding="utf-8"))
    return [Query(row["query"], row["kind"], tuple(row["films"])) for row in rows]


def films_of(size: int, folder: Path) -> Iterator[Document]:
    """The films of a size: TMDB 5000, or the bulk set with films made from it."""
    if size <= search_films.TMDB_5000:
        return iter(search_films.tmdb_5000(folder)[:size])
    return search_films.many(list(search_films.bulk(folder)), size)


def in_batches(films: Iterable[Document], size: int) -> Iterator[list[Document]]:
    """Lists of at most `size`."""
    rest = iter(films)
    while batch := list(islice(rest, size)):
        yield batch


@asynccontextmanager
async def postgres(server: PostgresServer, size: int) -> AsyncGenerator[tuple[SearchEngine, Fill]]:
    """The PostgreSQL engine, filled as the service's consumers fill it."""
    name = f"search_{size}"
    url = server.create_database(name)
    await asyncio.to_thread(upgrade, url, package="search_indexer", schema="search")
    database = Database(url, schema="search")

    async def fill(films: Iterable[Document]) -> None:
        for batch in in_batches(films, _STORED_AT_ONCE):
            batch.sort(key=lambda film: film.movie_id)
            async with database.transaction() as connection:
                await repository.store_catalogue_changes(connection, batch)
                await repository.store_trends(connection, search_films.trends(batch))
        async with database.transaction() as connection:
            await repository.sum_up_facet_counts(connection)
        # As autovacuum does in its time.
        server.execute("VACUUM ANALYZE", name)

    try:
        yield PostgresEngine(database), fill
    finally:
        await database.dispose()


@asynccontextmanager
async def meilisearch(
    url: str, key: str | None, size: int
) -> AsyncGenerator[tuple[SearchEngine, Fill]]:
    """A Meilisearch index."""
    engine = MeilisearchEngine(url=url, key=key, index=f"bench-{size}")
    index = MeilisearchIndex(url=url, key=key, index=f"bench-{size}", task_timeout=600)

    async def fill(films: Iterable[Document]) -> None:
        await index.ensure_ready()
        for batch in in_batches(films, _SENT_AT_ONCE):
            trends = search_films.trends(batch)
            await index.index(
                [(film, Figures(trend=t)) for film, t in zip(batch, trends, strict=True)]
            )

    try:
        yield engine, fill
    finally:
        await engine.close()
        await index.close()


def start_meilisearch(stack: ExitStack, folder: Path) -> tuple[str, str | None] | None:
    """Where Meilisearch listens and its key; None where there is none."""
    if url := os.environ.get("MEILISEARCH_URL"):
        return url, os.environ.get("MEILISEARCH_KEY") or None
    program = os.environ.get("MEILISEARCH_BINARY")
    if not program:
        return None
    url = f"http://127.0.0.1:{free_port()}"
    command = [program, "--http-addr", url.removeprefix("http://"), "--no-analytics"]
    log = stack.enter_context((folder / "meilisearch.log").open("wb"))
    process = subprocess.Popen(
        [*command, "--db-path", str(folder / "meilisearch")], cwd=folder, stdout=log, stderr=log
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    deadline = time.monotonic() + 60
    while True:
        try:
            httpx.get(f"{url}/health", timeout=1, trust_env=False).raise_for_status()
        except httpx.HTTPError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            time.sleep(0.05)
        else:
            return url, None


async def places(engine: SearchEngine, asked: Sequence[Query]) -> list[Place]:
    """Where the expected films came."""
    found: list[Place] = []
    for query in asked:
        hits = (await engine.search(SearchRequest(q=query.query, limit=10))).hits
        ranks = [n for n, hit in enumerate(hits, start=1) if hit.tmdb_id in query.films]
        found.append(Place(query.kind, min(ranks, default=0)))
    return found


def report_relevance(report: Report, found: dict[str, list[Place]]) -> None:
    """One table for all engines."""
    names = list(found)
    total = len(next(iter(found.values())))
    report.title(f"Relevance of {total} queries over TMDB 5000: success@1, success@5, MRR")
    heads = "".join(f"{name:>20}" for name in names)
    sys.stdout.write(f"  {'':<22}{'queries':>8}{heads}\n")
    for kind in [*dict.fromkeys(place.kind for place in found[names[0]]), "all"]:
        cells = ""
        of_kind: list[int] = []
        for name in names:
            of_kind = [place.place for place in found[name] if kind in (place.kind, "all")]
            first, five, mrr = (
                sum(score(rank) for rank in of_kind) / len(of_kind) for score in SCORES
            )
            cells += f"{first:>8.3f} {five:.3f} {mrr:.3f}"
        sys.stdout.write(f"  {kind:<22}{len(of_kind):>8}{cells}\n")
    for name in names:
        five = sum(SCORES[1](place.place) for place in found[name]) / total
        target = TARGETS[name]
        report.line(f"success@5 on {name}", f"{five:.3f}", f">= {target:.2f}", ok=five >= target)


SCORES: Final[Sequence[Callable[[int], float]]] = (
    lambda rank: float(rank == 1),
    lambda rank: float(0 < rank <= 5),
    lambda rank: 1 / rank if rank else 0.0,
)


async def timed(calls: Sequence[Callable[[], Awaitable[object]]]) -> str:
    """p50 and p99 of all calls, `ROUNDS` times, after one that does not count."""
    seconds: list[float] = []
    for number in range(ROUNDS + 1):
        for call in calls:
            started = time.perf_counter()
            await call()
            if number:
                seconds.append(time.perf_counter() - started)
    cuts = quantiles(seconds, n=100, method="inclusive")
    return f"{cuts[49] * 1000:.1f} / {cuts[98] * 1000:.1f} ms"


async def measure_times(engine: SearchEngine, report: Report, asked: Sequence[Query]) -> None:
    """Each class of queries by itself."""

    def searches(
        requests: Iterable[SearchRequest],
    ) -> list[Callable[[], Awaitable[object]]]:
        return [lambda request=request: engine.search(request) for request in requests]

    typed = [SearchRequest(q=query.query) for query in asked]
    report.line("  typed queries, p50 / p99", await timed(searches(typed)))
    marked = [SearchRequest(q=query.query, highlight=True) for query in asked]
    report.line("  the same with highlights", await timed(searches(marked)))
    report.line("  one broad word", await timed(searches(BROAD)))
    report.line("  lists and filters", await timed(searches(LISTED)))
    completions: list[Callable[[], Awaitable[object]]] = [
        lambda text=text: engine.suggest(text, 8) for text in TYPED
    ]
    report.line("  suggestions", await timed(completions))


async def run(
    report: Report, folder: Path, server: PostgresServer, meili: tuple[str, str | None] | None
) -> None:
    """All sizes on all engines."""
    asked = queries()
    found: dict[str, list[Place]] = {}
    for size in SIZES:
        for name in ENGINES:
            if name == "postgres":
                opened = postgres(server, size)
            elif meili is not None:
                url, key = meili
                opened = meilisearch(url, key, size)
            else:
                continue
            async with opened as (engine, fill):
                films = list(films_of(size, folder))
                started = time.perf_counter()
                await fill(films)
                rate = len(films) / (time.perf_counter() - started)
                load = os.getloadavg()[0]
                report.title(f"{name}, {len(films):,} documents (load {load:.1f})")
                report.line("  indexed, documents a second", f"{rate:,.0f}/s")
                if size == search_films.TMDB_5000:
                    found[name] = await places(engine, asked)
                await measure_times(engine, report, asked)
    if found:
        report_relevance(report, found)


def main() -> int:
    """Measure what is there."""
    folder = search_films.data_folder()
    if folder is None:
        sys.stderr.write(
            "needs the films: set MOVIEMETRIC_SHARED_DATA to the folder with tmdb5000\n"
        )
        return 1
    report = Report()
    scratch = scratch_folder()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        server = stack.enter_context(PostgresServer(scratch / "postgres", durable=True))
        meili = start_meilisearch(stack, scratch) if "meilisearch" in ENGINES else None
        if meili is None and "meilisearch" in ENGINES:
            sys.stdout.write("Meilisearch skipped: set MEILISEARCH_BINARY or MEILISEARCH_URL\n")
        asyncio.run(run(report, folder, server, meili))
    if report.missed:
        sys.stdout.write(f"missed: {', '.join(report.missed)}\n")
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
