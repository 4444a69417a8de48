"""Figures of genres and decades: written out for a few films, by pandas for five thousand."""

import csv
import gzip
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from moviemetric_contracts import Event
from service_kit import Outcome

Deliver = Callable[[Sequence[Event[Any]]], Awaitable[list[Outcome]]]


async def test_a_few_films(
    deliver_all: Deliver, make: Any, compute: Any, api: httpx.AsyncClient
) -> None:
    yesterday = make.now.date() - timedelta(days=1)
    since_midnight = make.now - make.now.replace(hour=0, minute=0, second=0, microsecond=0)
    films: list[tuple[int, dict[str, Any]]] = [
        (1, {"genres": ("Drama", "War"), "release_date": "1990-01-01", "vote_average": 8.0}),
        (2, {"genres": ("drama",), "release_date": "1999-12-31", "vote_average": 5.0}),
        (3, {"genres": ("Drama", "DRAMA", " "), "release_date": "2000-01-01"}),
        (4, {"genres": ("War",), "release_date": None, "vote_average": 2.0}),
        (5, {"genres": ("Drama",), "release_date": "1991-01-01", "vote_average": 1.0}),
        (6, {"genres": ("Noir",), "release_date": "1949-01-01", "vote_count": 0}),
    ]
    await deliver_all(
        [
            *(make.upserted(f"tmdb-{n}", **fields) for n, fields in films if n != 3),
            make.upserted(
                "tmdb-3",
                vote_average=None,
                vote_count=0,
                aliases=("imdb-tt0000003",),
                **films[2][1],
            ),
            # a film of its own until tmdb-3 was found to be the same; counted once
            make.upserted("imdb-tt0000003", genres=("Drama",), release_date="1993-01-01"),
            make.removed("tmdb-5", 2),
            *(make.viewed("tmdb-1", ago=since_midnight + timedelta(hours=1)) for _ in range(4)),
            make.viewed("tmdb-1", ago=since_midnight + timedelta(hours=25)),
            make.viewed("imdb-tt0000003", ago=since_midnight + timedelta(hours=23)),
            make.viewed("tmdb-3", ago=since_midnight + timedelta(hours=2)),
            make.viewed("tmdb-99", ago=since_midnight + timedelta(hours=2)),
            make.rated("tmdb-2"),
            make.aggregated("tmdb-1", [9.0, 10.0], 1),
            make.aggregated("imdb-tt0000003", [2.0], 1),
        ]
    )
    await compute("genre-stats", yesterday)
    await compute("ratings-by-decade", yesterday)
    answer = (await api.get("/analytics/top-genres", params={"date": str(yesterday)})).json()
    assert answer["items"] == [
        {
            "genre": "Drama", "volume": 3, "views": 6, "avg_rating": 6.5, "rated_films": 2,
            "local_ratings": 3, "local_avg": 7.0,
        },
        {
            "genre": "War", "volume": 2, "views": 4, "avg_rating": 5.0, "rated_films": 2,
            "local_ratings": 2, "local_avg": 9.5,
        },
        {
            "genre": "Noir", "volume": 1, "views": 0, "avg_rating": None, "rated_films": 0,
            "local_ratings": 0, "local_avg": None,
        },
    ]  # fmt: skip
    assert (answer["date"], answer["total"], answer["limit"]) == (str(yesterday), 3, 20)
    second = (await api.get("/analytics/top-genres", params={"limit": 1, "offset": 1})).json()
    assert (second["total"], [genre["genre"] for genre in second["items"]]) == (3, ["War"])

    answer = (await api.get("/analytics/ratings-by-decade")).json()
    assert answer.keys() == {"date", "items", "total", "as_of"}
    assert answer["items"] == [
        {
            "decade": 1940, "movie_count": 1, "avg_rating": None, "rated_films": 0,
            "local_ratings": 0, "local_avg": None,
        },
        {
            "decade": 1990, "movie_count": 2, "avg_rating": 6.5, "rated_films": 2,
            "local_ratings": 2, "local_avg": 9.5,
        },
        {
            "decade": 2000, "movie_count": 1, "avg_rating": None, "rated_films": 0,
            "local_ratings": 1, "local_avg": 2.0,
        },
    ]  # fmt: skip


def normalised(row: dict[str, str]) -> dict[str, Any]:
    """As ingest-service says it: 0 is unknown, and votes are known both or neither."""
    average, count = float(row["vote_average"]), int(row["vote_count"])
    voted = average > 0 and count > 0
    return {
        "title": row["title"],
        "release_date": row["release_date"] or None,
        "genres": tuple(genre["name"] for genre in json.loads(row["genres"])),
        "vote_average": average if voted else None,
        "vote_count": count if voted else 0,
        "popularity": float(row["popularity"]),
    }


async def test_the_films_of_tmdb_5000_as_pandas_has_them(
    shared_data: Path, deliver_all: Deliver, make: Any, compute: Any, api: httpx.AsyncClient
) -> None:
    """The plain mean takes each film once, and no film for a 0 that nobody voted for."""
    path = shared_data / "tmdb5000" / "tmdb_5000_movies.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    await deliver_all([make.upserted(f"tmdb-{row['id']}", **normalised(row)) for row in rows])
    assert (await compute("all")).state == "succeeded"

    table = pd.read_csv(path, keep_default_na=False, na_values={"release_date": [""]})
    assert len(table) == 4803
    table["vote_average"] = table["vote_average"].where(
        (table["vote_count"] > 0) & (table["vote_average"] > 0)
    )
    dated = table.dropna(subset=["release_date"])
    decade = pd.to_datetime(dated["release_date"]).dt.year // 10 * 10
    by_decade = dated.groupby(decade)["vote_average"].agg(["size", "count", "mean"])
    answer = (await api.get("/analytics/ratings-by-decade")).json()["items"]
    assert [
        (item["decade"], item["movie_count"], item["rated_films"], item["avg_rating"])
        for item in answer
    ] == [
        (index, size, count, pytest.approx(mean, rel=1e-12))
        for index, size, count, mean in by_decade.itertuples()
    ]
    assert (len(answer), sum(item["movie_count"] for item in answer)) == (11, 4802)

    genres = [
        sorted({genre["name"] for genre in json.loads(cell)})
        for cell in table["genres"].astype(str)
    ]
    table["genre"] = pd.Series(genres)
    by_genre = table.explode("genre").groupby("genre")["vote_average"]
    expected = sorted(
        by_genre.agg(["size", "count", "mean"]).itertuples(), key=lambda row: (-row[1], row[0])
    )
    answer = (await api.get("/analytics/top-genres", params={"limit": 100})).json()["items"]
    assert [
        (item["genre"], item["volume"], item["rated_films"], item["avg_rating"]) for item in answer
    ] == [
        (genre, size, count, pytest.approx(mean, rel=1e-12))
        for genre, size, count, mean in expected
    ]
    assert (answer[0]["genre"], answer[0]["volume"]) == ("Drama", 2297)
