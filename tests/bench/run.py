"""`make bench`: what the platform carries on this machine, each figure beside its yardstick.

Ratios are of figures measured in this run; absolute numbers depend on the machine and on what else
it does. Exits with 1 when a figure misses its target.
"""

import argparse
import itertools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import bulk
import consumption
from freshness import freshness
from harness import LiveStack, eventually
from harness.clients import cloud_event
from harness.live_stack import ROOT
from imports import imported, seconds_until_told
from load import Result, get, measure, post_json
from local_stack.procfs import ProcessId, descendants
from local_stack.pytest_plugin import scratch_folder
from local_stack.servers import PostgresServer, RabbitServer, RedisServer
from ratings import rated, ratings_folder

COUNT = 40_000
SINGLE_COUNT = 4_000
REGISTERED = 300
# A million films take the chart and the search some minutes.
TELL = os.environ.get("UNTIL_TOLD") == "1"
NO_BROKER = Path(__file__).with_name("no_broker_gateway.py")
IMPORTED = int(os.environ.get("IMPORTED_ROWS", "1000000"))


class Report:
    """Prints each figure with its target as it comes, and remembers what was missed."""

    def __init__(self) -> None:
        self.missed: list[str] = []

    def line(self, name: str, value: str, target: str = "", *, ok: bool = True) -> None:
        """One line; `ok` says whether the target is met."""
        verdict = "" if not target else "ok" if ok else "MISSED"
        sys.stdout.write(f"  {name:<58} {value:>16}  {target:<18} {verdict}\n")
        sys.stdout.flush()
        if not ok:
            self.missed.append(name)

    def title(self, text: str) -> None:
        """What the lines below are about."""
        sys.stdout.write(f"\n{text}\n")


@contextmanager
def quiet_stack(tmdb_rate: int) -> Generator[tuple[LiveStack, dict[str, object]]]:
    """All services on servers of their own that write to disk as in production."""
    folder = scratch_folder()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        postgres = stack.enter_context(PostgresServer(folder / "postgres", durable=True))
        rabbit = stack.enter_context(RabbitServer(folder / "rabbitmq"))
        redis = stack.enter_context(RedisServer(folder / "redis"))
        logs = Path(tempfile.mkdtemp(dir=folder))
        live = LiveStack(
            logs,
            amqp_url=rabbit.url,
            management_url=rabbit.management_url,
            database_url=postgres.url,
            redis_url=redis.url_of(0),
            env={"TMDB_REQUESTS_PER_SECOND": str(tmdb_rate), "LOG_LEVEL": "WARNING"},
        )
        stack.enter_context(live)
        servers: dict[str, object] = {
            server.name: server.managed.process for server in (postgres, rabbit, redis)
        }
        yield live, servers


def register(stack: LiveStack) -> None:
    """Fill the chart."""
    lines = (ROOT / "deploy/sample-catalogue/movies.jsonl").read_text(encoding="utf-8").splitlines()
    numbers = [int(line.split(":", 1)[1].split(",", 1)[0]) for line in lines[:REGISTERED]]
    stack.api.send_all(
        cloud_event("movie.register.v1", f"bench-{number}", {"tmdb_id": number})
        for number in numbers
    )
    eventually(
        "the films to be in the chart",
        lambda: stack.api.get("/movies/trending", limit=1)["total"] >= REGISTERED,
        seconds=90,
    )


def bench_consumption(stack: LiveStack, report: Report) -> None:
    """Item by item, in batches, and with nothing done at all."""
    report.title("Events per second through compute-service")
    ours = max(consumption.compute_rate(stack, COUNT) for _ in range(2))
    stack.processes["compute-service"].stop()
    bare = max(consumption.yardstick(stack, "bare", COUNT) for _ in range(2))
    single = consumption.yardstick(stack, "single", SINGLE_COUNT)
    consumption.remove_yardstick(stack)
    stack.processes["compute-service"].start()
    stack.drain(120)
    report.line("compute-service: inbox, activity, trends, one commit a batch", f"{ours:,.0f}/s")
    report.line("one message per transaction (pika, psycopg, prefetch 100)", f"{single:,.0f}/s")
    report.line("bare aio-pika, acknowledged in batches, nothing done", f"{bare:,.0f}/s")
    report.line(
        "  against one per transaction", f"{ours / single:.1f}x", ">= 5x", ok=ours >= 5 * single
    )
    report.line(
        "  against bare consumption", f"{ours / bare:.2f}x", ">= 0.6x", ok=ours >= 0.6 * bare
    )


def view_requests() -> Iterator[bytes]:
    """POST /movies/view for films in turn."""
    requests = [
        post_json(
            "/api/v1/movies/view", b'{"tmdb_id": %d, "user_id": "user-%d"}' % (number, number)
        )
        for number in range(820_000_000, 820_000_500)
    ]
    return itertools.cycle(requests)


def check(result: Result, status: int) -> None:
    """Every answer was the expected one."""
    assert set(result.statuses) == {status}, result.statuses


def bench_gateway(stack: LiveStack, report: Report) -> None:
    """Views that the broker has confirmed, beside views that nobody keeps."""
    report.title("Accepted views per second at the gateway, one worker, 64 connections")
    url = stack.urls["gateway"]
    measure(url, view_requests(), seconds=2)
    rounds: list[tuple[Result, Result]] = []
    for _ in range(2):
        confirmed = measure(url, view_requests())
        with stack.another_gateway("no-broker-gateway", script=NO_BROKER) as bare_url:
            measure(bare_url, view_requests(), seconds=1)
            rounds.append((confirmed, measure(bare_url, view_requests())))
        stack.drain(120)
    confirmed, bare = max(rounds, key=lambda pair: pair[0].per_second / pair[1].per_second)
    check(confirmed, 202)
    check(bare, 202)
    ratio = confirmed.per_second / bare.per_second
    p99 = confirmed.percentile(99) * 1000
    report.line("202 after the broker's confirm", f"{confirmed.per_second:,.0f}/s")
    report.line("the same route without a broker", f"{bare.per_second:,.0f}/s")
    report.line("  ratio", f"{ratio:.2f}x", ">= 0.4x", ok=ratio >= 0.4)
    report.line("  p99 of the confirmed ones", f"{p99:.1f} ms", "< 100 ms", ok=p99 < 100)


def bench_freshness(stack: LiveStack, report: Report) -> None:
    """How soon a view shows."""
    report.title("From 202 to visible in GET /movies/trending, at 500 views a second")
    found = freshness(stack)
    ordered = sorted(found.seconds)
    p50 = ordered[len(ordered) // 2] * 1000
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000
    check(found.background, 202)
    reached = found.background.per_second
    report.line("views sent meanwhile", f"{reached:,.0f}/s", ">= 475/s", ok=reached >= 475)
    report.line(f"  p50 of {len(ordered)} views", f"{p50:.1f} ms", "< 100 ms", ok=p50 < 100)
    report.line("  p99", f"{p99:.1f} ms", "< 500 ms", ok=p99 < 500)


def bench_reading(stack: LiveStack, report: Report) -> None:
    """The chart out of the cache."""
    report.title("GET /movies/trending from the cache, 64 connections")
    request = itertools.repeat(get("/api/v1/movies/trending?limit=20"))
    result = measure(stack.urls["gateway"], request)
    check(result, 200)
    report.line("requests", f"{result.per_second:,.0f}/s")
    report.line("  p99", f"{result.percentile(99) * 1000:.1f} ms")


def bench_imports(stack: LiveStack, report: Report) -> None:
    """A large upload, from the first row read to the last one committed."""
    report.title(f"{IMPORTED:,} rows of the IMDB upload format")
    with tempfile.TemporaryDirectory() as folder:
        found = imported(stack, Path(folder), IMPORTED)
    ratio = found.rate / found.bare_rate
    report.line("imported: keys, records, merged columns, six indexes", f"{found.rate:,.0f}/s")
    report.line("bare COPY of the same rows into one table", f"{found.bare_rate:,.0f}/s")
    report.line("  ratio", f"{ratio:.3f}x", ">= 0.15x", ok=ratio >= 0.15)
    check(found.reads, 200)
    p99 = found.reads.percentile(99) * 1000
    report.line("p99 of a cached read meanwhile", f"{p99:.1f} ms", "< 100 ms", ok=p99 < 100)
    for name, size in found.peak_memory.items():
        small = size < 250 * 2**20
        report.line(f"peak memory of {name}", f"{size / 2**20:,.0f} MiB", "< 250 MiB", ok=small)
    if TELL:
        seconds = seconds_until_told(stack)
        report.line("until the chart and the search have all of them", f"{seconds:,.0f} s")


def bench_bulk(stack: LiveStack, report: Report) -> None:
    """Films from a TMDB that allows 40 requests a second and fails one in twelve."""
    report.title(f"A bulk run of {bulk.FILMS:,} films: 5% 429, 2% 500, 1% hang")
    found = bulk.bulk_run(stack)
    ratio = found.seconds / (found.needed / bulk.LIMIT)
    peak, over = found.log["peak_per_second"], found.log["rate_limited"]
    report.line("requests sent", f"{found.log['total']:,}")
    report.line("  most in any second", f"{peak}", f"<= {bulk.LIMIT}", ok=peak <= bulk.LIMIT)
    report.line("  refused as over the limit", f"{over}", "0", ok=over == 0)
    report.line("films missing", f"{found.missing}", "0", ok=found.missing == 0)
    report.line("time", f"{found.seconds:.1f} s")
    report.line("  against one request a film", f"{ratio:.2f}x", "<= 1.3x", ok=ratio <= 1.3)


def bench_ratings(stack: LiveStack, report: Report) -> None:
    """An import of ratings, from the upload to the last trend."""
    report.title("MovieLens' ratings, uploaded while everything else runs")
    with tempfile.TemporaryDirectory() as scratch:
        found = rated(stack, ratings_folder(Path(scratch)))
    rate = found.rows / found.counted
    report.line("ratings", f"{found.rows:,}")
    report.line("from the upload to the last of them published", f"{found.published:.1f} s")
    report.line("  to the last of them taken by rating-service", f"{found.rated:.1f} s")
    report.line("  to the last of them counted in the chart", f"{found.counted:.1f} s")
    for name, seconds in found.processor.items():
        report.line(f"processor time of {name}", f"{seconds:.1f} s")
    report.line("events through all services", f"{found.events / found.counted:,.0f}/s")
    report.line("ratings through all services", f"{rate:,.0f}/s", ">= 2,500/s", ok=rate >= 2500)


def memory_of(pid: int) -> int:
    """Bytes in memory, those that several processes share divided among them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def bench_memory(stack: LiveStack, servers: dict[str, object], report: Report) -> None:
    """Memory after all of the above."""
    report.title("Memory of each after it (proportional set size)")
    total = 0
    identities = {name: stack.processes[name].managed.process for name in stack.processes} | servers
    for name, identity in identities.items():
        assert isinstance(identity, ProcessId)
        size = sum(memory_of(process.pid) for process in [identity, *descendants(identity.pid)])
        total += size
        report.line(name, f"{size / 2**20:,.0f} MiB")
    report.line("all", f"{total / 2**20:,.0f} MiB")


BENCHES = {
    "consumption": bench_consumption,
    "gateway": bench_gateway,
    "freshness": bench_freshness,
    "reading": bench_reading,
    "imports": bench_imports,
    "bulk": bench_bulk,
    "ratings": bench_ratings,
}
# Minutes long, so only when asked for.
LONG = ("imports", "bulk", "ratings")


def main() -> int:
    """Run the benches that were asked for; all but the long ones by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", choices=[*BENCHES, []], help="the short ones if none")
    usual = [name for name in BENCHES if name not in LONG]
    only = parser.parse_args().only or usual
    report = Report()
    started = time.monotonic()
    with quiet_stack(bulk.LIMIT if "bulk" in only else 400) as (stack, servers):
        register(stack)
        for name in only:
            BENCHES[name](stack, report)
        bench_memory(stack, servers, report)
    sys.stdout.write(f"\n{time.monotonic() - started:.0f} s\n")
    if report.missed:
        sys.stdout.write(f"missed: {', '.join(report.missed)}\n")
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
