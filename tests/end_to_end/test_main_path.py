"""A film is registered, viewed, scored, ranked and found: the platform's main job."""

import json
import random
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta

import pika
import pytest
from harness import LiveStack, eventually
from harness.clients import cloud_event
from harness.live_stack import ROOT

INCEPTION = 27205
FILMS = (603, 550, 278, 238, 155, 13, 680, 27205, 11, 120)


def view_event(movie_id: str, event_id: str | None = None, *, at: datetime | None = None):
    moment = at or datetime.now(UTC)
    return cloud_event(
        "movie.viewed.v1",
        event_id or str(uuid.uuid4()),
        {"movie_id": movie_id, "viewed_at": moment.isoformat()},
    )


def views_of(stack: LiveStack, movie_id: str) -> int:
    rows = stack.rows("SELECT views FROM compute.trends WHERE movie_id = %(id)s", id=movie_id)
    return rows[0]["views"] if rows else 0


def test_a_registered_film_is_there_soon(stack: LiveStack) -> None:
    answer = stack.api.http.post("/movies/register", json={"tmdb_id": INCEPTION})
    assert answer.status_code == 202
    accepted = answer.json()
    assert accepted["movie_id"] == "tmdb-27205"
    assert accepted["event_id"]
    assert accepted["status_url"] == "/api/v1/movies/tmdb-27205"

    detail = eventually("the film", lambda: stack.api.get("/movies/27205"))
    assert detail["title"] == "Inception"
    assert detail["release_date"] == "2010-07-14"
    assert "Science Fiction" in detail["genres"]
    assert detail["imdb_id"] == "tt1375666"

    def in_trending():
        items = stack.api.get("/movies/trending", year=2010, limit=100)["items"]
        return next((item for item in items if item["movie_id"] == "tmdb-27205"), None)

    entry = eventually("its place in trending", in_trending)
    assert entry["rank"] >= 1
    assert 0 < entry["final_trend_score"] < 100

    def found():
        hits = stack.api.get("/search", q="incepton")["hits"]
        return hits and hits[0]["movie_id"] == "tmdb-27205"

    eventually("a search with a typo to find it", found)


def test_a_view_moves_the_score_and_the_explanation_adds_up(stack: LiveStack) -> None:
    stack.api.send_all([cloud_event("movie.register.v1", "path-603", {"tmdb_id": 603})])
    before = eventually("the trend", lambda: stack.api.get("/movies/603/trend"))
    answer = stack.anonymous.http.post("/movies/view", json={"tmdb_id": 603, "user_id": "ann"})
    assert answer.status_code == 202

    def moved():
        trend = stack.api.get("/movies/603/trend")
        return trend if trend["views"] == before["views"] + 1 else None

    after = eventually("the view to count", moved)
    assert after["final_trend_score"] > before["final_trend_score"]
    assert set(after["components"]) == {"activity", "quality"}
    assert after["formula"]["version"]


def test_a_film_that_tmdb_does_not_know_is_removed(stack: LiveStack) -> None:
    stack.api.send_all([cloud_event("movie.register.v1", "gone-1", {"tmdb_id": 2_000_000_001})])
    stack.drain()
    assert stack.api.http.get("/movies/2000000001").status_code == 404
    assert stack.parked() == {}


@pytest.mark.timeout(300)
def test_very_many_views_are_counted_exactly_and_ranked_right(
    stack: LiveStack, thorough: bool
) -> None:
    catalogue = [
        json.loads(line)["tmdb_id"]
        for line in (ROOT / "deploy/sample-catalogue/movies.jsonl")
        .read_text(encoding="utf-8")
        .splitlines()
    ]
    # What other tests did with a film counts as well, and is not in the sum below.
    touched = {row["movie_id"] for row in stack.rows("SELECT movie_id FROM compute.activity")}
    touched |= {f"tmdb-{number}" for number in FILMS}
    films = [number for number in catalogue if f"tmdb-{number}" not in touched][:500]
    stack.api.send_all(
        cloud_event("movie.register.v1", f"zipf-{number}", {"tmdb_id": number}) for number in films
    )

    def registered() -> bool:
        [row] = stack.rows(
            "SELECT count(*) AS n FROM compute.movies WHERE tmdb_id = ANY(%(ids)s)", ids=films
        )
        return row["n"] == 500

    eventually("500 films to be registered", registered, seconds=90)
    draw = random.Random(20260301)
    weights = [1 / rank for rank in range(1, 501)]
    now = datetime.now(UTC)
    sent = [
        (number, now - timedelta(seconds=draw.uniform(0, 3 * 86400)))
        for number in draw.choices(films, weights, k=100_000 if thorough else 20_000)
    ]
    stack.api.send_all(
        (
            view_event(f"tmdb-{number}", f"zipf-view-{position}", at=moment)
            for position, (number, moment) in enumerate(sent)
        ),
        batch=2000,
        seconds=100,
    )
    stack.drain(100)
    expected = Counter(f"tmdb-{number}" for number, _ in sent)
    counted = {
        row["movie_id"]: row["views"]
        for row in stack.rows(
            "SELECT movie_id, views FROM compute.trends WHERE movie_id = ANY(%(ids)s)",
            ids=list(expected),
        )
    }
    assert counted == dict(expected)
    assert trending_order(stack, films) == order_from_scratch(stack, films, sent)
    assert stack.parked() == {}


def trending_order(stack: LiveStack, films: list[int]) -> list[str]:
    wanted = {f"tmdb-{number}" for number in films}
    order: list[str] = []
    for offset in range(0, 2000, 100):
        page = stack.api.get("/movies/trending", limit=100, offset=offset)["items"]
        order += [item["movie_id"] for item in page if item["movie_id"] in wanted]
        if len(page) < 100:
            break
    return order


def order_from_scratch(
    stack: LiveStack, films: list[int], sent: list[tuple[int, datetime]]
) -> list[str]:
    """The documented formula, summed directly over all views at one moment."""
    formula = stack.api.get(f"/movies/{films[0]}/trend")["formula"]
    p = formula["parameters"]
    now = datetime.now(UTC)
    half_life = p["half_life_day_hours"] * 3600
    activity = dict.fromkeys((f"tmdb-{number}" for number in films), 0.0)
    for number, moment in sent:
        activity[f"tmdb-{number}"] += 0.5 ** ((now - moment).total_seconds() / half_life)
    scores: dict[str, float] = {}
    for film in stack.rows(
        "SELECT * FROM compute.movies WHERE movie_id = ANY(%(ids)s)", ids=list(activity)
    ):
        age = (now - film["fetched_at"]).total_seconds()
        prior = p["prior_weight"] * film["popularity"] * 0.5 ** (age / half_life)
        votes = min(film["vote_count"], p["vote_cap"])
        mean = film["vote_average"] or 0.0
        quality = (p["global_weight"] * p["global_mean"] + votes * mean) / (
            p["global_weight"] + votes
        )
        scores[film["movie_id"]] = (activity[film["movie_id"]] + prior) ** p[
            "activity_exponent"
        ] * quality ** (1 - p["activity_exponent"])
    return sorted(scores, key=lambda movie_id: -scores[movie_id])


def test_a_view_published_by_hand_in_the_management_api_counts(stack: LiveStack) -> None:
    movie_id = "tmdb-900000001"
    payload = json.dumps(view_event(movie_id, "by-hand-1"))
    assert stack.management.publish("moviemetric.events", "movie.viewed.v1", payload)
    eventually("the view", lambda: views_of(stack, movie_id) == 1)


def test_a_view_published_with_plain_pika_counts(stack: LiveStack) -> None:
    movie_id = "tmdb-900000002"
    with pika.BlockingConnection(pika.URLParameters(stack.amqp_url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(
            "moviemetric.events",
            "movie.viewed.v1",
            json.dumps(view_event(movie_id, "pika-1")).encode(),
            mandatory=True,
        )
    eventually("the view", lambda: views_of(stack, movie_id) == 1)


QUEUE = "compute-service.movie-viewed"


@pytest.mark.parametrize(
    ("routing_key", "payload", "queue", "reason"),
    [
        ("movie.viewed.v1", "{nonsense", QUEUE, "malformed event: the body is not JSON"),
        ("movie.viewed.v1", "{}", QUEUE, "malformed event: type"),
        (
            "movie.viewed.v1",
            json.dumps(cloud_event("movie.viewed.v1", "odd-1", {"movie_id": "??"})),
            QUEUE,
            "malformed event: data.movie_id",
        ),
        (
            "movie.viewed.v7",
            json.dumps(cloud_event("movie.viewed.v7", "odd-2", {})),
            QUEUE,
            "unknown version of an event type: 'movie.viewed.v7'; known: movie.viewed.v1",
        ),
        (
            "movie.viewed.v1",
            json.dumps(cloud_event("film.watched.v1", "odd-3", {})),
            QUEUE,
            "unknown event type 'film.watched.v1'",
        ),
        (
            "film.watched.v1",
            json.dumps(cloud_event("film.watched.v1", "odd-4", {})),
            "gateway.unrouted",
            "unknown event type 'film.watched.v1'",
        ),
    ],
)
def test_what_cannot_be_read_is_parked_with_its_reason_and_holds_nothing_up(
    stack: LiveStack, routing_key: str, payload: str, queue: str, reason: str
) -> None:
    movie_id = "tmdb-900000003"
    before = views_of(stack, movie_id)
    parked = len(stack.management.parked(queue))
    stack.management.publish("moviemetric.events", routing_key, payload)
    behind = json.dumps(view_event(movie_id))
    stack.management.publish("moviemetric.events", "movie.viewed.v1", behind)
    eventually("the view behind it", lambda: views_of(stack, movie_id) == before + 1)

    def parked_with_reason():
        messages = stack.management.parked(queue)
        if len(messages) != parked + 1:
            return None
        return next(
            (
                message["properties"]["headers"]
                for message in messages
                if str(message["properties"]["headers"]["x-reason"]).startswith(reason)
            ),
            None,
        )

    headers = eventually(f"a parked message: {reason}", parked_with_reason)
    assert headers["x-queue"] == queue
    assert headers["x-original-routing-key"] == routing_key
    with pika.BlockingConnection(pika.URLParameters(stack.amqp_url)) as connection:
        connection.channel().queue_purge(f"{queue}.dead")


def test_the_same_idempotency_key_counts_once(stack: LiveStack) -> None:
    movie_id = "tmdb-900000004"
    ids = {
        stack.api.http.post(
            "/movies/view", json={"movie_id": movie_id}, headers={"Idempotency-Key": "again"}
        ).json()["event_id"]
        for _ in range(5)
    }
    assert len(ids) == 1
    stack.drain()
    assert views_of(stack, movie_id) == 1
