"""Ratings through the gateway: one for each user and film, the newest, seen by who gave it."""

import random
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from harness import LiveStack, User, eventually
from harness.clients import cloud_event
from moviemetric_contracts import Event, RateMovie, UnrateMovie
from service_kit import RabbitBroker
from service_kit.store import to_outgoing

NOBODYS_FILMS = (23483, 23629)
FILMS = (424, 497, 539, 629)


@pytest.fixture(scope="module")
def films(stack: LiveStack) -> tuple[int, ...]:
    """Films of the catalogue that nobody else rates."""
    register(stack, *FILMS)
    return FILMS


def register(stack: LiveStack, *numbers: int) -> None:
    stack.api.send_all(
        cloud_event("movie.register.v1", f"ratings-{number}", {"tmdb_id": number})
        for number in numbers
    )
    for number in numbers:
        eventually(
            f"{number} to be in rating-service's catalogue",
            lambda number=number: ratings_of(stack, number),
            seconds=20,
        )


def ratings_of(stack: LiveStack, number: int) -> Any:
    return stack.anonymous.get(f"/movies/{number}/ratings")


def rows_of(stack: LiveStack, number: int) -> list[dict[str, Any]]:
    return stack.rows(
        "SELECT user_id, half_steps, review, changed_at, event_id FROM rating.ratings"
        " WHERE movie_id = %(id)s ORDER BY user_id",
        id=f"tmdb-{number}",
    )


def recounted(stack: LiveStack, number: int) -> dict[str, Any]:
    """Count, mean and histogram from the rows themselves."""
    halves = [row["half_steps"] for row in rows_of(stack, number) if row["half_steps"]]
    return {
        "count": len(halves),
        "mean": sum(halves) / 2 / len(halves) if halves else None,
        "histogram": {f"{step / 2:.1f}": halves.count(step) for step in range(1, 21)},
    }


def check_against_recount(stack: LiveStack, number: int) -> dict[str, Any]:
    shown = ratings_of(stack, number)
    expected = recounted(stack, number)
    assert shown["count"] == expected["count"]
    assert shown["histogram"] == expected["histogram"]
    assert shown["mean"] == pytest.approx(expected["mean"])
    return shown


def test_a_hundred_ratings_at_once_are_one_and_the_newest_counts(
    stack: LiveStack, films: tuple[int, ...]
) -> None:
    film = films[0]
    others = [stack.sign_up(f"crowd-{number}") for number in range(3)]
    for other, score in zip(others, (2.0, 9.5, 6.0), strict=True):
        other.rate(f"{film}", score)
    ann = stack.sign_up("ann-the-undecided")
    draw = random.Random(4)
    scores = [draw.randint(1, 20) / 2 for _ in range(100)]

    def rate(score: float) -> str:
        answer = ann.http.put(f"/movies/{film}/rating", json={"score": score})
        assert answer.status_code == 202, answer.text
        return answer.json()["event_id"]

    assert ann.token  # not all of them at once
    with stack.tap() as tap:
        with ThreadPoolExecutor(20) as pool:
            event_ids = list(pool.map(rate, scores))
        stack.drain()
        commands = [message.body for message in tap.taken() if "rate" in message.routing_key]
    sent = {body["id"]: body for body in commands if body["type"] == "movie.rate.v1"}
    assert sent.keys() == set(event_ids)
    assert len(sent) == 100
    newest = max(sent.values(), key=lambda body: (datetime.fromisoformat(body["time"]), body["id"]))

    [row] = [row for row in rows_of(stack, film) if row["user_id"] == ann.user_id]
    assert row["event_id"] == newest["id"]
    assert row["half_steps"] == newest["data"]["score"] * 2
    assert row["changed_at"] == datetime.fromisoformat(newest["time"])
    assert ann.get(f"/movies/{film}/rating")["score"] == newest["data"]["score"]
    shown = check_against_recount(stack, film)
    assert shown["count"] == 4
    assert shown["mean"] == pytest.approx((2 + 9.5 + 6 + newest["data"]["score"]) / 4)


async def test_a_hundred_ratings_out_of_order_end_in_the_newest_by_their_own_time(
    stack: LiveStack, films: tuple[int, ...]
) -> None:
    film = f"tmdb-{films[1]}"
    begin = datetime.now(UTC) - timedelta(days=3)
    user = "outsider-out-of-order"
    events: list[Event[Any]] = [
        Event.of(
            RateMovie(movie_id=film, user_id=user, score=(minute % 20 + 1) / 2),
            source="/test",
            time=begin + timedelta(minutes=minute),
            id=str(uuid.uuid4()),
        )
        for minute in range(99)
    ]
    last = Event.of(
        RateMovie(movie_id=film, user_id=user, score=1.5, review="The last word."),
        source="/test",
        time=begin + timedelta(minutes=100),
        id=str(uuid.uuid4()),
    )
    taken_back = Event.of(
        UnrateMovie(movie_id=film, user_id=user),
        source="/test",
        time=begin + timedelta(minutes=99, seconds=30),
        id=str(uuid.uuid4()),
    )
    mixed = [*events, last, taken_back] * 2
    random.Random(5).shuffle(mixed)
    broker = RabbitBroker(stack.amqp_url, name="test")
    errors = await broker.publish_many([to_outgoing(event) for event in mixed])
    await broker.close()
    assert not any(errors)
    stack.drain()
    [row] = rows_of(stack, films[1])
    assert (row["half_steps"], row["review"]) == (3, "The last word.")
    assert row["event_id"] == last.id
    assert check_against_recount(stack, films[1])["count"] == 1
    reviews = stack.anonymous.get(f"/movies/{films[1]}/reviews")["items"]
    assert [(item["user"], item["review"]) for item in reviews] == [(None, "The last word.")]


def test_who_writes_reads_what_they_wrote(stack: LiveStack, films: tuple[int, ...]) -> None:
    film = films[2]
    bob = stack.sign_up("bob-who-looks-at-once")
    for turn, score in enumerate((8.5, 0.5, 10.0, 7.0)):
        # What is cached before is not what is answered afterwards.
        assert ratings_of(stack, film)["count"] == (1 if turn else 0)
        accepted = bob.rate(f"{film}", score, f"Seen {turn + 1} times.")
        assert accepted["processed"] is True
        shown = ratings_of(stack, film)
        assert (shown["count"], shown["mean"]) == (1, score)
        assert shown["histogram"][f"{score:.1f}"] == 1
        own = bob.get(f"/movies/{film}/rating")
        assert (own["score"], own["review"]) == (score, f"Seen {turn + 1} times.")
        [review] = stack.anonymous.get(f"/movies/{film}/reviews")["items"]
        assert (review["user"], review["score"]) == (bob.name, score)
        status = httpx.get(f"{stack.urls['gateway']}{accepted['status_url']}", trust_env=False)
        assert status.json()["processed"] is True
        services = {item["service"] for item in status.json()["services"]}
        assert "rating-service" in services

    answer = bob.http.delete(f"/movies/{film}/rating", params={"wait": 5})
    assert (answer.status_code, answer.json()["processed"]) == (202, True)
    assert (ratings_of(stack, film)["count"], ratings_of(stack, film)["mean"]) == (0, None)
    assert bob.http.get(f"/movies/{film}/rating").status_code == 404
    assert bob.get("/users/me/ratings")["items"] == []
    check_against_recount(stack, film)


def test_ratings_move_the_trend(stack: LiveStack, films: tuple[int, ...]) -> None:
    film = films[3]
    before = eventually("the trend", lambda: stack.anonymous.get(f"/movies/{film}/trend"))
    for number in range(3):
        stack.sign_up(f"trendsetter-{number}").rate(f"{film}", 10.0)
    after = eventually(
        "the ratings to count",
        lambda: (
            trend
            if (trend := stack.anonymous.get(f"/movies/{film}/trend"))["ratings"]
            == before["ratings"] + 3
            else None
        ),
        seconds=20,
    )
    assert after["final_trend_score"] > before["final_trend_score"]


def test_a_film_that_nobody_knows_is_rated_and_counted_once_it_is_known(stack: LiveStack) -> None:
    film, unknown = NOBODYS_FILMS
    eve = stack.sign_up("eve-the-early")
    dan = stack.sign_up("dan-the-early")
    assert eve.rate(f"{film}", 9.0, "Before everybody.")["processed"] is True
    dan.rate(f"{film}", 4.0)
    eve.rate(f"{unknown}", 1.0)
    stack.drain()
    assert stack.anonymous.http.get(f"/movies/{film}/ratings").status_code == 404
    assert eve.get(f"/movies/{film}/rating")["score"] == 9.0
    listed = {item["movie_id"]: item for item in eve.get("/users/me/ratings")["items"]}
    assert listed[f"tmdb-{film}"]["in_catalogue"] is False
    assert (listed[f"tmdb-{film}"]["title"], listed[f"tmdb-{film}"]["score"]) == (None, 9.0)

    register(stack, film)
    shown = eventually(
        "the ratings to be shown",
        lambda: shown if (shown := ratings_of(stack, film))["count"] == 2 else None,
    )
    assert shown["mean"] == 6.5
    check_against_recount(stack, film)
    trend = eventually(
        "the chart to have counted them",
        lambda: (
            trend
            if (trend := stack.anonymous.get(f"/movies/{film}/trend"))["ratings"] == 2
            else None
        ),
        seconds=20,
    )
    assert trend["in_catalogue"] is True
    listed = {item["movie_id"]: item for item in eve.get("/users/me/ratings")["items"]}
    assert listed[f"tmdb-{film}"]["in_catalogue"] is True
    assert listed[f"tmdb-{film}"]["title"]
    assert listed[f"tmdb-{unknown}"]["in_catalogue"] is False


def wrong_ratings() -> list[tuple[str, Any, str]]:
    film = f"/movies/{FILMS[0]}/rating"
    return [
        ("PUT", {"score": 0}, film),
        ("PUT", {"score": 10.5}, film),
        ("PUT", {"score": 7.25}, film),
        ("PUT", {"score": -3}, film),
        ("PUT", {"score": "eight"}, film),
        ("PUT", {"score": None}, film),
        ("PUT", {"score": 8, "review": "x" * 10_001}, film),
        ("PUT", {"score": 8, "review": 5}, film),
        ("PUT", {"score": 8, "user_id": "somebody-else"}, film),
        ("PUT", {}, film),
        ("PUT", [], film),
        ("PUT", {"score": 8}, "/movies/not-a-film/rating"),
        ("PUT", {"score": 8}, f"{film}?wait=6"),
        ("PUT", {"score": 8}, f"{film}?wait=-1"),
        ("DELETE", None, "/movies/not-a-film/rating"),
        ("POST", {"score": 8}, "/ratings"),
        ("POST", {"score": 8, "movie_id": "tmdb-1", "tmdb_id": 2}, "/ratings"),
        ("POST", {"score": 11, "tmdb_id": 2}, "/ratings"),
    ]


@pytest.fixture(scope="module")
def wrong_user(stack: LiveStack) -> User:
    return stack.sign_up("walter-the-wrong")


@pytest.mark.parametrize(("method", "body", "path"), wrong_ratings())
def test_wrong_ratings_are_refused_in_words_and_not_published(
    stack: LiveStack, wrong_user: User, method: str, body: Any, path: str
) -> None:
    assert wrong_user.token
    with stack.tap() as tap:
        answer = wrong_user.http.request(method, path, json=body)
        assert [message for message in tap.taken() if "rat" in message.routing_key] == []
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


def test_everybody_could_read_what_was_told(stack: LiveStack) -> None:
    stack.drain()
    assert stack.parked() == {}


def test_the_logs_hold_no_secret(stack: LiveStack) -> None:
    assert stack.leaks() == {}
