"""MovieLens' ratings, from their upload until every service has had them."""

import csv
import gzip
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

from harness import LiveStack, eventually
from harness.live_stack import ROOT

_USERS = 610
_FILMS = 5_000
_MADE_UP = 100_000
# Looking costs what is measured.
_EVERY = 0.5


@dataclass
class Rated:
    """What one import of ratings gave; times in seconds from the upload on.

    Attributes:
        published: until its job had ended, with every rating confirmed by the broker.
        rated: until rating-service had taken the last of them.
        counted: until compute-service had the last of what follows from them.
        processor: seconds of processor time that each service took for it.
        events: the commands, and what followed from them, that services with a database took.
    """

    rows: int
    published: float
    rated: float
    counted: float
    processor: dict[str, float]
    events: int


def ratings_folder(scratch: Path) -> Path:
    """A folder with movies.csv, links.csv and ratings.csv.gz.

    MovieLens' own where it is there (RATINGS_FOLDER, or shared/data beside the checkout), else one
    that is made up in `scratch`, of the same size and shape.
    """
    named = os.environ.get("RATINGS_FOLDER")
    usual = ROOT.parent / "shared/data/movielens/ml-latest-small"
    folder = Path(named) if named else usual
    if named or folder.is_dir():
        return folder
    draw = random.Random(3)
    with (scratch / "movies.csv").open("w", newline="") as file:
        films = csv.writer(file)
        films.writerow(("movieId", "title", "genres"))
        films.writerows((n, f"Film {n} (1999)", "Drama") for n in range(1, _FILMS + 1))
    with (scratch / "links.csv").open("w", newline="") as file:
        links = csv.writer(file)
        links.writerow(("movieId", "imdbId", "tmdbId"))
        links.writerows((n, f"{9_000_000 + n}", 900_000_000 + n) for n in range(1, _FILMS + 1))
    weights = [1 / rank for rank in range(1, _FILMS + 1)]
    pairs: set[tuple[int, int]] = set()
    while len(pairs) < _MADE_UP:
        drawn = draw.choices(range(1, _FILMS + 1), weights, k=10_000)
        pairs |= {(draw.randint(1, _USERS), film) for film in drawn}
    with gzip.open(scratch / "ratings.csv.gz", "wt", newline="") as file:
        ratings = csv.writer(file)
        ratings.writerow(("userId", "movieId", "rating", "timestamp"))
        ratings.writerows(
            (user, film, draw.randint(1, 10) / 2, 900_000_000 + draw.randint(0, 500_000_000))
            for user, film in sorted(pairs)
        )
    return scratch


def rated(stack: LiveStack, folder: Path) -> Rated:
    """Import the films, then the ratings, with a clock."""
    for name in ("movies.csv", "links.csv"):
        job = stack.api.ended(stack.api.upload(folder / name), seconds=300)
        assert job["state"] == "succeeded", job
    eventually("the films to be everywhere", lambda: not stack.busy(), seconds=300, every=1.0)
    stack.drain(60)

    before, taken_before = _processor_time(stack), _taken(stack)
    started = time.perf_counter()
    job_id = stack.api.upload(folder / "ratings.csv.gz")
    published = rated = 0.0
    rows = 0
    while not published or not rated or stack.unpublished("rating"):
        time.sleep(_EVERY)
        now = time.perf_counter() - started
        assert now < 600, "the ratings were not taken within ten minutes"
        if not published:
            job = stack.api.job(job_id)
            assert job["state"] in {"queued", "running", "succeeded"}, job
            published = now if job["state"] == "succeeded" else 0.0
            rows = job["done"]
        elif not rated:
            [taken] = stack.rows(
                "SELECT count(*) AS n FROM rating.inbox WHERE consumer = 'rating-service.ratings'"
            )
            rated = now if taken["n"] >= rows else 0.0
    # What compute-service has to count is what rating-service has told: nothing is left to tell.
    counted = _counted(stack, started)
    stack.drain(60)
    assert stack.parked() == {}
    used = {name: seconds - before[name] for name, seconds in _processor_time(stack).items()}
    return Rated(rows, published, rated, counted, used, _taken(stack) - taken_before)


def _taken(stack: LiveStack) -> int:
    [row] = stack.rows("""
        SELECT (SELECT count(*) FROM rating.inbox) + (SELECT count(*) FROM compute.inbox)
            + (SELECT count(*) FROM search.inbox) AS n
    """)
    return row["n"]


def _processor_time(stack: LiveStack) -> dict[str, float]:
    found = {name: process.managed.process for name, process in stack.processes.items()}
    return {name: process.cpu_seconds() for name, process in found.items() if process is not None}


def _counted(stack: LiveStack, started: float) -> float:
    """Until the sums of both services agree and each rating was counted as activity."""

    def agree() -> bool:
        [row] = stack.rows("""
            SELECT (SELECT sum(n) FROM rating.aggregates, unnest(histogram) AS n) AS rated,
                   (SELECT sum(ratings_count) FROM compute.trends) AS counted,
                   (SELECT count(*) FROM rating.ratings) AS ratings,
                   (SELECT count(*) FROM compute.activity WHERE kind = 'rating') AS told
        """)
        return row["rated"] == row["counted"] and row["ratings"] <= row["told"]

    eventually("compute-service to have counted all ratings", agree, seconds=600, every=_EVERY)
    return time.perf_counter() - started
