"""Every event five times in shuffled order leaves the same database content as once in order."""

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from harness import LiveStack, MakeStack
from harness.live_stack import ROOT
from moviemetric_contracts import (
    Event,
    Message,
    Movie,
    MovieRated,
    MovieRemoved,
    MovieUpserted,
    MovieViewed,
    RatingAggregated,
    RegisterMovie,
)
from moviemetric_contracts.messages import Rating
from service_kit import RabbitBroker
from service_kit.store import to_outgoing

NOW = datetime.now(UTC)
SERVICES = ("tmdb-standin", "ingest-service", "rating-service", "compute-service", "search-indexer")


def messages() -> list[Message]:
    """Films that come, change, go and come again, with views and ratings in between."""
    draw = random.Random(7)
    made: list[Message] = []
    for number in range(30):
        movie_id = f"tmdb-{910_000_000 + number}"
        for revision in range(1, 6):
            if draw.random() < 0.2:
                made.append(MovieRemoved(movie_id=movie_id, reason="test", revision=revision))
                continue
            movie = Movie(
                movie_id=movie_id,
                tmdb_id=910_000_000 + number,
                title=f"Film {number} in version {revision}",
                genres=("Drama", f"Genre {revision}"),
                release_date=NOW.date(),
                vote_average=5 + revision / 2,
                vote_count=10 * revision,
                popularity=float(revision),
                fetched_at=NOW - timedelta(hours=10 - revision),
            )
            made.append(MovieUpserted(movie=movie, revision=revision))
        made += [
            MovieViewed(
                movie_id=movie_id,
                viewed_at=NOW - timedelta(minutes=draw.uniform(0, 10_000)),
                user_id=f"user-{view}",
            )
            for view in range(number)
        ]
        for revision in range(1, 4):
            histogram = [0] * 20
            histogram[13] = revision
            rated_at = NOW - timedelta(hours=revision)
            made += [
                MovieRated(
                    movie_id=movie_id,
                    user_id=f"user-{revision}",
                    rating=Rating(score=7, rated_at=rated_at),
                ),
                RatingAggregated(
                    movie_id=movie_id,
                    count=revision,
                    mean=7,
                    histogram=tuple(histogram),
                    revision=revision,
                ),
            ]
    lines = (ROOT / "deploy/sample-catalogue/movies.jsonl").read_text(encoding="utf-8").splitlines()
    made += [RegisterMovie(tmdb_id=json.loads(line)["tmdb_id"]) for line in lines[:50]]
    made.append(RegisterMovie(tmdb_id=2_000_000_002))
    return made


async def publish(stack: LiveStack, events: list[Event[Any]]) -> None:
    broker = RabbitBroker(stack.amqp_url, name="test")
    errors = await broker.publish_many([to_outgoing(event) for event in events])
    await broker.close()
    assert not any(errors)


# What a table holds apart from when it was written, and floats that are sums in the order of
# arrival, which differ in their last bits.
CONTENT = {
    "compute.trends": "movie_id, views, ratings_count, ratings_sum, ratings_revision,"
    " rank_key_day IS NULL AS out_of_charts",
    "compute.movies": "movie_id, revision, removed, title, genres, vote_average, popularity",
    "compute.activity": "movie_id, kind, occurred_at, user_id, session_id",
    "search.documents": "movie_id, revision",
    "catalog.movies": "movie_id, title, genres, aliases, release_date, vote_average, vote_count",
    "catalog.film_keys": "key, movie_id",
}


def content(stack: LiveStack) -> dict[str, list[str]]:
    return {
        table: sorted(
            json.dumps(row, default=str, sort_keys=True)
            for row in stack.rows(f"SELECT {columns} FROM {table}")  # noqa: S608 -- constants
        )
        for table, columns in CONTENT.items()
    }


def rank_keys(stack: LiveStack) -> dict[str, float]:
    rows = stack.rows(
        "SELECT movie_id, rank_key_day FROM compute.trends"
        " WHERE rank_key_day IS NOT NULL AND movie_id LIKE 'tmdb-9100%%'"
    )
    return {row["movie_id"]: row["rank_key_day"] for row in rows}


async def test_five_times_shuffled_equals_once(make_stack: MakeStack) -> None:
    events = [
        Event.of(message, source="/test", time=NOW, id=f"event-{position}")
        for position, message in enumerate(messages())
    ]
    once = make_stack(only=SERVICES)
    await publish(once, events)
    once.drain()
    often = make_stack(only=SERVICES)
    five_times = events * 5
    random.Random(11).shuffle(five_times)
    await publish(often, five_times)
    often.drain()
    assert content(often) == content(once)
    assert rank_keys(often) == pytest.approx(rank_keys(once), rel=1e-9)
    assert once.parked() == often.parked() == {}
    for stack in (once, often):
        for process in stack.processes.values():
            process.stop()
