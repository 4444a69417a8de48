"""MovieLens: what the platform says of its ratings is what the file says, read another way.

In full when tests are to be thorough, else what the first users rated.

The file's own numbers come from the csv module; the films' keys from links.csv, where some films
share a TMDB id, so that their ratings become one film's.
"""

import csv
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import fsum
from pathlib import Path
from typing import Any

import pytest
from harness import LiveStack, MakeStack

pytestmark = pytest.mark.timeout(900)

SOME_USERS = 40
# Rated two films that are one, because their links name the same TMDB id.
USER_OF_DOUBLES = 111


@dataclass(frozen=True)
class Rating:
    """A line of ratings.csv."""

    user_id: str
    film: str
    half_steps: int
    at: int


class Expected:
    """What the files say: one rating of each user and film, the newest."""

    def __init__(self, folder: Path) -> None:
        self.keys = {
            link["movieId"]: f"tmdb-{link['tmdbId']}"
            if link["tmdbId"]
            else f"imdb-tt{link['imdbId']}"
            for link in rows_of(folder / "links.csv")
        }
        lines = [
            Rating(
                user_id=f"movielens-{row['userId']}",
                film=self.keys[row["movieId"]],
                half_steps=round(float(row["rating"]) * 4),
                at=int(row["timestamp"]),
            )
            for row in rows_of(folder / "ratings.csv.gz")
        ]
        self.rated_numbers = len({row["movieId"] for row in rows_of(folder / "ratings.csv.gz")})
        self.lines = len(lines)
        self.users = len({line.user_id for line in lines})
        self.ratings: dict[tuple[str, str], Rating] = {}
        for line in lines:
            other = self.ratings.get((line.user_id, line.film))
            assert other is None or other.at != line.at, "the newest of the two is not in the file"
            if other is None or line.at > other.at:
                self.ratings[line.user_id, line.film] = line
        self.histograms: dict[str, list[int]] = {}
        for rating in self.ratings.values():
            self.histograms.setdefault(rating.film, [0] * 20)[rating.half_steps - 1] += 1

    def mean(self, film: str) -> float:
        """The sum of the scores by their number."""
        scores = [item.half_steps / 2 for item in self.ratings.values() if item.film == film]
        return fsum(scores) / len(scores)


def rows_of(file: Path) -> Iterator[dict[str, str]]:
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "rt", encoding="utf-8", newline="") as text:
        yield from csv.DictReader(text)


@pytest.fixture(scope="module")
def folder(shared_data: Path, thorough: bool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where movies.csv, links.csv and ratings.csv.gz are."""
    whole = shared_data / "movielens" / "ml-latest-small"
    if thorough:
        return whole
    folder = tmp_path_factory.mktemp("movielens")
    ratings = [
        row
        for row in rows_of(whole / "ratings.csv.gz")
        if int(row["userId"]) <= SOME_USERS or int(row["userId"]) == USER_OF_DOUBLES
    ]
    rated = {row["movieId"] for row in ratings}
    write_rows(folder / "ratings.csv.gz", ratings)
    for name in ("movies.csv", "links.csv"):
        write_rows(folder / name, [r for r in rows_of(whole / name) if r["movieId"] in rated])
    return folder


def write_rows(file: Path, rows: Sequence[dict[str, str]]) -> None:
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "wt", encoding="utf-8", newline="") as text:
        writer = csv.DictWriter(text, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def expected(folder: Path, thorough: bool) -> Expected:
    expected = Expected(folder)
    assert len(expected.ratings) < expected.lines, "no two films that are one"
    if thorough:
        assert (expected.lines, expected.users, len(expected.keys)) == (100_836, 610, 9_742)
    return expected


def take_in(stack: LiveStack, folder: Path, *names: str) -> list[dict[str, Any]]:
    """Import files one after the other, and wait until everything has had its effect."""
    jobs: list[dict[str, Any]] = []
    for name in names:
        job = stack.api.ended(stack.api.upload(folder / name), seconds=300)
        assert (job["state"], job["rejected"]) == ("succeeded", 0), job
        jobs.append(job)
    stack.drain(300)
    assert stack.parked() == {}
    return jobs


@pytest.fixture(scope="module")
def stack(make_stack: MakeStack, folder: Path, expected: Expected) -> LiveStack:
    """A stack with the films, the links and the ratings."""
    stack = make_stack()
    [*_, job] = take_in(stack, folder, "movies.csv", "links.csv", "ratings.csv.gz")
    assert job["done"] == expected.lines
    assert job["result"]["format"] == "movielens-ratings"
    return stack


def kept(stack: LiveStack) -> dict[tuple[str, str], Rating]:
    rows = stack.rows(
        "SELECT user_id, movie_id, half_steps, changed_at FROM rating.ratings"
        " WHERE half_steps IS NOT NULL"
    )
    return {
        (row["user_id"], row["movie_id"]): Rating(
            row["user_id"], row["movie_id"], row["half_steps"], int(row["changed_at"].timestamp())
        )
        for row in rows
    }


def histograms(stack: LiveStack) -> dict[str, list[int]]:
    rows = stack.rows("SELECT movie_id, histogram FROM rating.aggregates")
    return {row["movie_id"]: row["histogram"] for row in rows if any(row["histogram"])}


def test_every_rating_is_there_with_its_own_time(
    stack: LiveStack, folder: Path, expected: Expected
) -> None:
    found = kept(stack)
    assert len(found) == len(expected.ratings)
    assert len({user for user, _ in found}) == expected.users
    assert found == expected.ratings
    first = min(rows_of(folder / "ratings.csv.gz"), key=lambda row: int(row["timestamp"]))
    assert min(item.at for item in found.values()) == int(first["timestamp"])


def test_the_histogram_of_every_film_is_the_files(stack: LiveStack, expected: Expected) -> None:
    assert histograms(stack) == expected.histograms
    assert len(expected.histograms) == len({expected.keys[film] for film in rated(stack)})


def rated(stack: LiveStack) -> set[str]:
    """MovieLens' numbers of the films that were rated, from the aliases of the catalogue."""
    rows = stack.rows(
        "SELECT key FROM catalog.film_keys WHERE key LIKE 'movielens-%%' AND movie_id = ANY(%(r)s)",
        r=list(histograms(stack)),
    )
    return {row["key"].removeprefix("movielens-") for row in rows}


def test_the_api_answers_with_the_files_numbers(stack: LiveStack, expected: Expected) -> None:
    most = sorted(expected.histograms, key=lambda film: -sum(expected.histograms[film]))
    by_imdb = [film for film in most if film.startswith("imdb-")]
    twice = {film for film in most if list(expected.keys.values()).count(film) > 1}
    for film in [*most[:40], *most[-10:], *by_imdb, *twice]:
        shown = stack.anonymous.get(f"/movies/{film}/ratings")
        histogram = expected.histograms[film]
        assert shown["movie_id"] == film
        assert shown["count"] == sum(histogram)
        assert shown["mean"] == pytest.approx(expected.mean(film), abs=1e-9)
        assert list(shown["histogram"].values()) == histogram
        for number, key in expected.keys.items():
            if key == film:
                alias = stack.anonymous.get(f"/movies/movielens-{number}/ratings")
                assert (alias["movie_id"], alias["count"]) == (film, shown["count"])


def test_the_charts_count_them_too(stack: LiveStack, expected: Expected) -> None:
    rows = stack.rows(
        "SELECT movie_id, ratings_count, ratings_sum FROM compute.trends WHERE ratings_count > 0"
    )
    assert {row["movie_id"]: row["ratings_count"] for row in rows} == {
        film: sum(histogram) for film, histogram in expected.histograms.items()
    }
    for row in rows:
        steps = expected.histograms[row["movie_id"]]
        total = sum(count * step for step, count in enumerate(steps, 1)) / 2
        assert float(row["ratings_sum"]) == pytest.approx(total)


def everything(stack: LiveStack) -> dict[str, list[dict[str, Any]]]:
    return {
        table: stack.rows(f"SELECT * FROM {table} ORDER BY {order}")  # noqa: S608 -- constants
        for table, order in {
            "rating.ratings": "user_id, movie_id",
            "rating.aggregates": "movie_id",
            "rating.movies": "movie_id",
        }.items()
    } | {
        "compute.trends": stack.rows(
            "SELECT movie_id, ratings_count, ratings_sum, ratings_revision FROM compute.trends"
            " ORDER BY movie_id"
        ),
        "catalog.movies": stack.rows("SELECT movie_id, revision FROM catalog.movies ORDER BY 1"),
    }


def test_the_same_files_again_change_nothing(
    stack: LiveStack, folder: Path, expected: Expected
) -> None:
    before = everything(stack)
    with stack.tap("movie.rated.*", "movie.unrated.*", "rating.#", "movie.upserted.*") as tap:
        jobs = take_in(stack, folder, "ratings.csv.gz", "movies.csv", "links.csv")
        assert tap.taken() == []
    assert jobs[0]["done"] == expected.lines
    after = everything(stack)
    for table, rows in before.items():
        assert after[table] == rows, table
    assert kept(stack) == expected.ratings


def test_ratings_that_come_before_their_films_end_the_same(
    make_stack: MakeStack, folder: Path, expected: Expected
) -> None:
    early = make_stack()
    take_in(early, folder, "ratings.csv.gz", "movies.csv")
    assert len(histograms(early)) == expected.rated_numbers
    take_in(early, folder, "links.csv")
    assert kept(early) == expected.ratings
    assert histograms(early) == expected.histograms
    for process in early.processes.values():
        process.stop()
