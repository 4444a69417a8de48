"""`make bench-scale`: the charts with a million films and ten million views behind them.

- `GET /trending` of the service itself, without any cache in front: each filter's first request
  alone (it counts the films that pass), then two connections that ask as fast as they are answered.
  Beside the times stands the processor time of a request, of the service and the database together:
  that does not depend on what else the machine does.
- What a view costs: batches of 500 through the real handler, beside 10,000, 100,000 and a million
  films. Views fall on films by a power law over the whole catalogue, so a larger one is also less
  in the servers' memory.
- The artifact `trending` from all the views, of the present day and of the day before; the first
  must equal the live chart.

The rows are made by SQL: films of a skewed popularity, those of early years at the bottom of the
chart, views of the last 60 days. `SCALE_FILMS` and `SCALE_VIEWS` make it smaller.
"""

import asyncio
import itertools
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
import psycopg
from compute_service import charts
from compute_service.artifacts import Day, GenreStatsDaily, RatingsByDecade, TrendingDaily
from compute_service.artifacts.repository import ArtifactRun, record_run
from compute_service.bootstrap import PACKAGE, SCHEMA
from compute_service.charts import EVERYTHING
from compute_service.facets import genre_signature
from compute_service.handlers import TrendHandlers
from compute_service.subscriptions import subscriptions
from compute_service.trend import LANDMARK, TrendFormula, Window
from harness import LiveStack
from load import get, measure
from local_stack.procfs import ProcessId, descendants
from local_stack.pytest_plugin import scratch_folder
from local_stack.servers import PostgresServer, RabbitServer
from moviemetric_contracts import Event, MovieViewed
from service_kit import Database
from service_kit.migrations import upgrade
from service_kit.testing import deliver
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

FILMS = int(os.environ.get("SCALE_FILMS", "1000000"))
VIEWS = int(os.environ.get("SCALE_VIEWS", "10000000"))
SMALLER = [size for size in (10_000, 100_000) if size < FILMS]
BATCH, BATCHES, WARM_UP = 500, 60, 15
TARGET = 0.050
FORMULA = TrendFormula()

_MOVIES = """
    INSERT INTO movies (movie_id, revision, removed, tmdb_id, title, original_title,
        original_language, release_date, genres, genre_keys, vote_average, vote_count, popularity,
        poster_path, fetched_at)
    SELECT 'tmdb-' || n, 1, false, n, 'Film ' || n, 'Film ' || n,
        CASE WHEN n %% 50000 = 7 THEN 'la' WHEN lot < 0.6 THEN 'en' WHEN lot < 0.7 THEN 'fr'
             WHEN lot < 0.8 THEN 'ja' WHEN lot < 0.9 THEN 'es' ELSE 'de' END,
        make_date(year, 1 + n %% 12, 1 + n %% 28), genres,
        array(SELECT lower(genre) FROM unnest(genres) AS genre),
        5 + 3 * random(), floor(1000 * power(random(), 4))::bigint,
        -- those of the first decades are at the bottom
        CASE WHEN year < 1940 THEN 0.001 ELSE 1 END
            * (0.5 + 900 * power(random(), 12) * power((year - 1899) / 128.0, 3)),
        '/poster' || n || '.jpg', now() - random() * interval '3 days'
    FROM (
        SELECT n, random() AS lot, 1900 + floor(127 * power(random(), 0.5))::int AS year,
            array_remove(ARRAY[
                CASE WHEN random() < 0.35 THEN 'Drama' END,
                CASE WHEN random() < 0.25 THEN 'Comedy' END,
                CASE WHEN random() < 0.01 THEN 'Western' END,
                CASE WHEN random() < 0.004 THEN 'Film Noir' END,
                CASE WHEN n %% 20000 = 3 THEN 'Rare' END], NULL) AS genres
        FROM generate_series(1, %(films)s) AS n
    ) AS drawn
"""
_ACTIVITY = """
    INSERT INTO activity (movie_id, kind, occurred_at)
    SELECT 'tmdb-' || (1 + floor(%(films)s * power(random(), 3)))::int,
        CASE WHEN random() < 0.97 THEN 'view' ELSE 'rating' END,
        %(now)s - interval '60 days' * (1 - n / %(views)s)
    FROM generate_series(1, %(views)s) AS n
"""
# The sums as the handlers would have made them. 60 days are few half-lives: they add up plainly.
_TRENDS = """
    INSERT INTO trends (movie_id, facet_year, facet_language, facet_votes, facet_genres, views,
        log_quality, log_activity_day, log_activity_week, log_prior_day, log_prior_week,
        rank_key_day, rank_key_week)
    SELECT movie_id, year, language, votes, genres, views, log_quality, day, week, prior_day,
        prior_week,
        a * log2_of_sum(day, prior_day) + (1 - a) * log_quality,
        a * log2_of_sum(week, prior_week) + (1 - a) * log_quality
    FROM (
        SELECT movies.movie_id, movies.release_year AS year,
            lower(movies.original_language) AS language, movies.vote_count AS votes,
            (SELECT COALESCE(bit_or(signature), 0) FROM unnest(movies.genre_keys) AS key
                JOIN signatures ON genre = key) AS genres,
            COALESCE(views, 0) AS views, %(exponent)s AS a,
            day + %(now_seconds)s / %(half_day)s AS day,
            week + %(now_seconds)s / %(half_week)s AS week,
            ln(popularity * %(prior)s) / ln(2.0) + fetched / %(half_day)s AS prior_day,
            ln(popularity * %(prior)s) / ln(2.0) + fetched / %(half_week)s AS prior_week,
            ln((%(weight)s * %(mean)s + LEAST(vote_count, %(cap)s) * vote_average)
                / (%(weight)s + LEAST(vote_count, %(cap)s))) / ln(2.0) AS log_quality
        FROM (
            SELECT *, date_part('epoch', fetched_at) - %(landmark)s AS fetched
            FROM movies
        ) AS movies
        LEFT JOIN (
            SELECT movie_id, count(*) FILTER (WHERE kind = 'view') AS views,
                ln(sum(weight * power(2.0, age / %(half_day)s))) / ln(2.0) AS day,
                ln(sum(weight * power(2.0, age / %(half_week)s))) / ln(2.0) AS week
            FROM (
                SELECT movie_id, kind, CASE kind WHEN 'view' THEN 1.0 ELSE 3.0 END AS weight,
                    date_part('epoch', occurred_at) - date_part('epoch', %(now)s)
                        AS age
                FROM activity
            ) AS events
            GROUP BY movie_id
        ) AS summed USING (movie_id)
    ) AS films
"""
_GENRES = ("Drama", "Comedy", "Western", "Film Noir", "Rare")
_SIGNATURES = "CREATE TEMP TABLE signatures (genre text, signature bigint)"
_SIGNATURE = "INSERT INTO signatures VALUES (%(genre)s, %(signature)s)"
_LOG2_OF_SUM = """
    CREATE FUNCTION log2_of_sum(x float8, y float8) RETURNS float8 LANGUAGE sql IMMUTABLE AS $$
        SELECT CASE WHEN x IS NULL OR y IS NULL THEN COALESCE(x, y) ELSE GREATEST(x, y)
            + ln(1 + power(2.0::float8, GREATEST(-abs(x - y), -1000))) / ln(2.0::float8) END
    $$
"""


class Report:
    """Prints each figure with its target as it comes, and remembers what was missed."""

    def __init__(self) -> None:
        self.missed: list[str] = []

    def line(self, name: str, value: str, target: str = "", *, ok: bool = True) -> None:
        """One line; `ok` says whether the target is met."""
        verdict = "" if not target else "ok" if ok else "MISSED"
        sys.stdout.write(f"  {name:<56} {value:>28}  {target:<12} {verdict}\n")
        sys.stdout.flush()
        if not ok:
            self.missed.append(name)

    def title(self, text: str) -> None:
        """What the lines below are about."""
        sys.stdout.write(f"\n{text}\n")
        sys.stdout.flush()


def fill(url: str, films: int, views: int, now: datetime) -> None:
    """Films, views and the trends that follow from both."""
    parameters = {
        "films": films,
        "views": views,
        "now": now,
        "now_seconds": (now - LANDMARK).total_seconds(),
        "landmark": LANDMARK.timestamp(),
        "half_day": FORMULA.half_life(Window.DAY),
        "half_week": FORMULA.half_life(Window.WEEK),
        "prior": FORMULA.prior_weight,
        "exponent": FORMULA.activity_exponent,
        "weight": FORMULA.global_weight,
        "mean": FORMULA.global_mean,
        "cap": FORMULA.vote_cap,
        "fingerprint": FORMULA.fingerprint(),
    }
    statements = (
        *("SELECT setseed(0.5)", _LOG2_OF_SUM, _MOVIES, _ACTIVITY, _TRENDS),
        *("INSERT INTO applied_formula (fingerprint) VALUES (%(fingerprint)s)", "VACUUM ANALYZE"),
    )
    with psycopg.connect(
        url,
        autocommit=True,
        options=f"-c search_path={SCHEMA} -c work_mem=256MB",
        cursor_factory=psycopg.ClientCursor,
    ) as connection:
        connection.execute(_SIGNATURES)
        for genre in _GENRES:
            key = genre.lower()
            connection.execute(_SIGNATURE, {"genre": key, "signature": genre_signature(key)})
        for statement in statements:
            connection.execute(statement.encode(), parameters)


def drawn(films: int, count: int, seed: int) -> list[Event[MovieViewed]]:
    """Views of now, by a power law over the whole catalogue."""
    draw, now = random.Random(seed), datetime.now(UTC)
    return [
        Event.of(
            MovieViewed(movie_id=f"tmdb-{1 + int(films * draw.random() ** 3)}", viewed_at=now),
            source="/bench",
            time=now,
        )
        for _ in range(count)
    ]


async def cost_of_views(database: Database, films: int) -> float:
    """Seconds a view, the median over batches."""
    [by_views, *_] = subscriptions(TrendHandlers(FORMULA))
    events = drawn(films, BATCH * (WARM_UP + BATCHES), seed=films)
    times: list[float] = []
    for start in range(0, len(events), BATCH):
        started = time.perf_counter()
        await deliver(by_views, database, events[start : start + BATCH])
        times.append(time.perf_counter() - started)
    return statistics.median(times[WARM_UP:]) / BATCH


async def bench_artifacts(database: Database, report: Report, now: datetime) -> None:
    """Each artifact, computed and written."""
    report.title(f"Artifacts of {FILMS:,} films and {VIEWS:,} views")
    trending = TrendingDaily(database, FORMULA, size=1000)
    yesterday = now.date() - timedelta(days=1)
    for day, name in ((yesterday, "a past day"), (now.date(), "the present day")):
        started = time.perf_counter()
        write = await trending.prepare(Day.of(day, now))
        computed = time.perf_counter() - started
        async with database.transaction() as connection:
            rows = await write(connection)
            await record(connection, trending.name, day, rows)
        written = time.perf_counter() - started - computed
        report.line(f"trending of {name}: computed", f"{computed:.1f} s")
        report.line(f"  {rows:,} rows written", f"{written * 1000:.0f} ms")
    async with database.reading() as connection:
        live = await charts.read_chart(connection, Window.DAY, EVERYTHING, limit=1000, offset=0)
        rows_of_chart = await connection.execute(
            text(
                "SELECT movie_id FROM movie_trending_daily "
                "WHERE chart_window = 'day' AND date = :day ORDER BY rank"
            ),
            {"day": now.date()},
        )
    same = [entry.movie_id for entry in live.entries] == list(rows_of_chart.scalars())
    report.line("the present day's equals the live chart", str(same), "True", ok=same)
    for artifact in (GenreStatsDaily(database), RatingsByDecade(database)):
        started = time.perf_counter()
        write = await artifact.prepare(Day.of(yesterday, now))
        async with database.transaction() as connection:
            await record(connection, artifact.name, yesterday, await write(connection))
        report.line(artifact.name, f"{time.perf_counter() - started:.1f} s")


async def record(connection: AsyncConnection, artifact: str, day: date, rows: int) -> None:
    """As the job would."""
    run = ArtifactRun(artifact, day, datetime.now(UTC), rows, 0.0, "compute-bench")
    await record_run(connection, run)


FLOOR = {"a film's score: what any request costs at this moment": "/trends/tmdb-1"}
REQUESTS = {
    "the whole chart": "/trending?limit=20",
    "the whole chart, 100 films": "/trending?limit=100",
    "the week's": "/trending?window=week&limit=20",
    "the 500th page": "/trending?limit=20&offset=10000",
    "worst first": "/trending?limit=20&order=asc",
    "genre of 35%": "/trending?genre=Drama&limit=20",
    "genre of 1%": "/trending?genre=Western&limit=20",
    "genre of 0.4%": "/trending?genre=Film%20Noir&limit=20",
    "genre of 0.005%": "/trending?genre=Rare&limit=20",
    "genre of nothing": "/trending?genre=Unheard&limit=20",
    "a recent year": "/trending?year=2024&limit=20",
    "a year at the bottom": "/trending?year=1915&limit=20",
    "language of 60%": "/trending?language=en&limit=20",
    "language of 0.002%": "/trending?language=la&limit=20",
    "genre, year and language": "/trending?genre=Comedy&year=1999&language=fr&limit=20",
    "genre of 1% and at least 500 votes": "/trending?genre=Western&min_votes=500&limit=20",
}
OTHERS = {
    "rising": "/rising?limit=20",
    "rising, of a genre": "/rising?genre=Drama&limit=20",
    "chart of a past day": "/trending?as_of={yesterday}&limit=20",
    "chart of a past day, of a genre": "/trending?as_of={yesterday}&genre=Western&limit=20",
    "a film's history": "/trends/tmdb-1/history",
    "genres": "/analytics/top-genres",
    "decades": "/analytics/ratings-by-decade",
}


def processor_seconds(service: ProcessId, server: ProcessId) -> float:
    """What the service and the database have used so far."""
    return sum(p.cpu_seconds() for p in (service, *descendants(server.pid)))


def bench_reading(
    url: str, report: Report, now: datetime, service: ProcessId, server: ProcessId
) -> None:
    """Each request alone, and then as often as it goes."""
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        for title, requests, target in (
            ("For comparison", FLOOR, None),
            ("GET /trending, uncached, two connections", REQUESTS, TARGET),
            ("Others", OTHERS, None),
        ):
            report.title(title)
            for name, template in requests.items():
                path = template.format(yesterday=now.date() - timedelta(days=1))
                started = time.perf_counter()
                answer = client.get(path)
                first = time.perf_counter() - started
                assert answer.status_code == 200, answer.text
                used = processor_seconds(service, server)
                result = measure(url, itertools.repeat(get(path)), connections=2, seconds=4)
                used = (processor_seconds(service, server) - used) / len(result.times)
                assert set(result.statuses) == {200}, result.statuses
                p50, p99 = result.percentile(50), result.percentile(99)
                report.line(
                    f"{name} ({answer.json().get('total', 1):,})",
                    f"{p50 * 1000:.1f} / {p99 * 1000:.1f} / {used * 1000:.1f} ({first * 1000:.0f})",
                    "" if target is None else f"p99 < {target * 1000:.0f}",
                    ok=target is None or p99 < target,
                )
    report.line("", "p50 / p99 / cpu (first), ms")


def main() -> int:
    """Fill, measure, print."""
    report = Report()
    started = time.monotonic()
    folder = scratch_folder()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        # The database has some gigabytes.
        postgres = stack.enter_context(
            PostgresServer(folder / "postgres", durable=True, shared_buffers="1GB")
        )
        rabbit = stack.enter_context(RabbitServer(folder / "rabbitmq"))
        costs: dict[int, float] = {}
        url, now = "", datetime.now(UTC)
        for films in (*SMALLER, FILMS):
            url = postgres.create_database(f"scale_{films}")
            upgrade(url, package=PACKAGE, schema=SCHEMA)
            now = datetime.now(UTC)
            views = VIEWS * films // FILMS
            asyncio.run(prepare(url, films, views, now, report, costs))
        report.title("A view, in batches of 500 through the handler, one commit each")
        for films, cost in costs.items():
            report.line(f"{films:,} films", f"{cost * 1e6:.0f} us")
        ratio = costs[FILMS] / costs[min(costs)]
        report.line(f"  {FILMS:,} against {min(costs):,}", f"{ratio:.2f}x", "<= 2x", ok=ratio <= 2)
        live = LiveStack(
            Path(tempfile.mkdtemp(dir=folder)),
            amqp_url=rabbit.url,
            management_url=rabbit.management_url,
            database_url=url,
            redis_url="redis://127.0.0.1:1/0",
            env={"LOG_LEVEL": "WARNING"},
            only=("compute-service",),
        )
        stack.enter_context(live)
        service, server = (
            live.processes["compute-service"].managed.process,
            postgres.managed.process,
        )
        assert service is not None
        assert server is not None
        bench_reading(live.urls["compute-service"], report, now, service, server)
    sys.stdout.write(f"\n{time.monotonic() - started:.0f} s\n")
    if report.missed:
        sys.stdout.write(f"missed: {', '.join(report.missed)}\n")
    return 1 if report.missed else 0


async def prepare(
    url: str, films: int, views: int, now: datetime, report: Report, costs: dict[int, float]
) -> None:
    """A database of that size, and what is measured on it without the service."""
    started = time.perf_counter()
    fill(url, films, views, now)
    report.title(f"{films:,} films, {views:,} views made in {time.perf_counter() - started:.0f} s")
    database = Database(url, schema=SCHEMA)
    if films == FILMS:
        await bench_artifacts(database, report, now)
    costs[films] = await cost_of_views(database, films)
    await database.dispose()


if __name__ == "__main__":
    sys.exit(main())
