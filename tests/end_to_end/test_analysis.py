"""From what users do to charts of a day, figures and recommendations, over HTTP."""

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from harness import LiveStack, MakeStack, eventually
from harness.clients import cloud_event
from moviemetric_contracts import RunCompute

# Two kinds of audience, and one film that nobody has seen. Facts from the sample catalogue:
SPACE = (11, 1891, 1892)  # Star Wars and two of its sequels
RINGS = (120, 121, 122)  # The Lord of the Rings
UNSEEN = 603  # The Matrix
FILMS = (*SPACE, *RINGS, UNSEEN)


@pytest.fixture(scope="module")
def watched(make_stack: MakeStack) -> LiveStack:
    """A stack in which twelve users like either Star Wars or The Lord of the Rings."""
    stack = make_stack()
    stack.api.send_all(
        cloud_event("movie.register.v1", f"analysis-{number}", {"tmdb_id": number})
        for number in FILMS
    )
    known = "SELECT count(*) AS n FROM compute.movies WHERE tmdb_id = ANY(%(ids)s)"
    eventually("the films", lambda: stack.rows(known, ids=list(FILMS))[0]["n"] == len(FILMS))
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    stack.api.send_all(
        cloud_event(
            "movie.viewed.v1",
            str(uuid.uuid4()),
            {"movie_id": f"tmdb-{number}", "viewed_at": yesterday, "user_id": f"viewer-{user}"},
        )
        for user in range(12)
        for number in (SPACE if user % 2 else RINGS)
    )
    stack.drain()
    return stack


def computed(stack: LiveStack, artifact: str, **body: Any) -> dict[str, Any]:
    answer = stack.api.http.post(f"/admin/compute/{artifact}", json=body)
    assert answer.status_code == 202, answer.text
    return stack.api.ended(answer.json()["job_id"])


def test_everything_is_computed_and_served(watched: LiveStack) -> None:
    day = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    for body in ({"as_of": day}, {}):
        job = computed(watched, "all", **body)
        assert (job["state"], job["done"], job["total"]) == ("succeeded", 4, 4), job
    chart = watched.api.get("/movies/trending", as_of=day, limit=100)
    assert chart["date"] == day
    assert [film["rank"] for film in chart["items"]] == list(range(1, len(FILMS) + 1))
    assert {film["days_on_chart"] for film in chart["items"]} == {1}
    today = watched.api.get("/movies/trending", as_of=datetime.now(UTC).date().isoformat())
    assert {film["movement"] is None for film in today["items"]} == {False}
    history = watched.api.get("/movies/603/chart-history")
    assert [place["days_on_chart"] for place in history["items"]] == [2, 1]

    genres = {item["genre"]: item for item in watched.api.get("/analytics/top-genres")["items"]}
    in_catalogue = watched.rows(
        "SELECT count(*) AS n FROM compute.movies WHERE 'Adventure' = ANY(genres)"
    )
    assert genres["Adventure"]["volume"] == in_catalogue[0]["n"]
    earlier = watched.api.get("/analytics/top-genres", date=day)["items"]
    views = {item["genre"]: item["views"] for item in earlier}
    assert views["Adventure"] == 6 * len(SPACE) + 6 * len(RINGS)
    decades = watched.api.get("/analytics/ratings-by-decade")["items"]
    assert sum(decade["movie_count"] for decade in decades) == len(FILMS)


def test_recommendations_follow_the_audience_and_leave_out_what_was_rated(
    watched: LiveStack,
) -> None:
    job = computed(watched, "recommendations")
    assert job["state"] == "succeeded", job
    similar = watched.api.get("/movies/120/recommendations", limit=3)
    assert {film["movie_id"] for film in similar["items"][:2]} == {"tmdb-121", "tmdb-122"}
    assert similar["items"][0]["reasons"]
    liked = watched.api.get("/recommendations", like="tmdb-11")
    others = [f"tmdb-{number}" for number in SPACE[1:]]
    assert {film["movie_id"] for film in liked["items"][:2]} == set(others)

    user = watched.sign_up("analysis-user")
    assert user.http.put("/movies/11/rating?wait=3", json={"score": 9}).json()["processed"]

    def mine() -> list[dict[str, Any]] | None:
        found = user.http.get("/users/me/recommendations").json()
        return found["items"] if found["based_on"]["ratings"] == 1 else None

    films = eventually("the rating to count", mine)
    assert "tmdb-11" not in {film["movie_id"] for film in films}
    assert {film["movie_id"] for film in films[:2]} == set(others)
    because = [reason for reason in films[0]["reasons"] if reason["kind"] == "because"]
    assert because[0]["movie_id"] == "tmdb-11"


def test_a_run_that_fails_says_why_and_leaves_what_was_there(watched: LiveStack) -> None:
    assert computed(watched, "genre-stats")["state"] == "succeeded"
    before = watched.api.get("/analytics/top-genres")
    job_id = f"compute-{uuid.uuid4().hex}"
    tomorrow = datetime.now(UTC).date() + timedelta(days=2)
    command = RunCompute(job_id=job_id, artifact="genre-stats", as_of=tomorrow)
    event = cloud_event("compute.run.v1", job_id, command.model_dump(mode="json"))
    watched.management.publish("moviemetric.commands", "compute.run.v1", json.dumps(event))

    def known() -> bool:
        return watched.api.http.get(f"/admin/jobs/{job_id}").status_code == 200

    eventually("compute-service to have taken the command", known)
    job = watched.api.ended(job_id)
    assert (job["state"], job["status"]) == ("failed", "FAILURE")
    assert "future" in job["error"]
    after = watched.api.get("/analytics/top-genres")
    assert after["items"] == before["items"]
    assert job_id in {job["job_id"] for job in watched.api.get("/admin/jobs")["items"]}


def test_the_clock_is_shown_to_administrators(watched: LiveStack) -> None:
    page = watched.api.get("/admin/schedules")
    assert {item["name"] for item in page["items"]} >= {"ingest", "trending", "genre-stats"}
