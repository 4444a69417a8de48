"""What a stream's queue keeps, drops and says, without a server."""

from datetime import UTC, datetime
from typing import Any

import pytest
from gateway.live import JobOrder, Listener, Wanted, comment, messages_of, sse
from moviemetric_contracts import (
    Event,
    JobChanged,
    Message,
    MovieRemoved,
    TrendBreakdown,
    TrendEntry,
    TrendUpdated,
)
from pydantic_core import from_json

NOW = datetime(2025, 1, 31, 20, 15, tzinfo=UTC)


def event(data: Message) -> Event[Any]:
    return Event.of(data, source="test", time=NOW)


def entry(number: int) -> TrendEntry:
    return TrendEntry(
        movie_id=f"tmdb-{number}",
        score=61.5,
        rank_key=-3.25,
        views=number,
        breakdown=TrendBreakdown(activity=1, quality=7),
    )


def test_the_channel_carries_jobs_and_trends_in_bounded_pieces() -> None:
    job = JobChanged(job_id="import-1", kind="import", state="running", done=5, rejected=1)
    trend = TrendUpdated(as_of=NOW, revision=1, entries=tuple(entry(n) for n in range(1, 402)))
    removed = MovieRemoved(movie_id="tmdb-1", reason="gone", revision=1)
    messages = [
        from_json(message) for message in messages_of([event(removed), event(job), event(trend)])
    ]
    assert messages[0] == {
        "event": "job",
        "data": {
            "job_id": "import-1",
            "kind": "import",
            "state": "running",
            "done": 5,
            "total": None,
            "rejected": 1,
            "error": None,
        },
    }
    assert [len(message["data"]["entries"]) for message in messages[1:]] == [200, 200, 1]
    assert messages[1]["event"] == "trend"
    assert messages[1]["data"]["revision"] == 1
    assert messages[1]["data"]["as_of"] == "2025-01-31T20:15:00Z"
    assert messages[3]["data"]["entries"] == [
        {"movie_id": "tmdb-401", "final_trend_score": 61.5, "rank_key": -3.25, "views": 401}
    ]


def test_news_of_a_job_never_goes_back() -> None:
    order = JobOrder(max_jobs=2)

    def advances(job_id: str, state: str, done: int) -> bool:
        return order.advances({"job_id": job_id, "state": state, "done": done})

    assert advances("a", "queued", 0)
    assert advances("a", "running", 0)
    assert advances("a", "running", 5)
    assert advances("a", "running", 5)
    assert not advances("a", "running", 4)
    assert not advances("a", "queued", 0)
    assert advances("b", "running", 1)
    assert advances("a", "cancelled", 5)
    assert not advances("a", "running", 9)
    # Only so many jobs are remembered.
    assert advances("c", "queued", 0)
    assert advances("b", "queued", 0)


JOB = {"job_id": "import-1", "state": "running"}
TREND = {"as_of": "x", "entries": [{"movie_id": "tmdb-1"}, {"movie_id": "tmdb-2"}]}


@pytest.mark.parametrize(
    ("wanted", "job", "trend"),
    [
        (Wanted(), JOB, TREND),
        (Wanted(events=frozenset({"job"})), JOB, None),
        (Wanted(events=frozenset({"trend"})), None, TREND),
        (Wanted(job_ids=frozenset({"import-1"})), JOB, TREND),
        (Wanted(job_ids=frozenset({"import-2"})), None, TREND),
        (
            Wanted(movie_ids=frozenset({"tmdb-2", "tmdb-9"})),
            JOB,
            {"as_of": "x", "entries": [{"movie_id": "tmdb-2"}]},
        ),
        (Wanted(movie_ids=frozenset({"tmdb-9"})), JOB, None),
    ],
)
def test_a_stream_is_for_what_was_asked(wanted: Wanted, job: Any, trend: Any) -> None:
    assert wanted.part_of("job", JOB) == job
    assert wanted.part_of("trend", TREND) == trend


async def test_a_slow_stream_loses_the_oldest_and_is_told_how_many() -> None:
    listener = Listener(Wanted(), max_waiting=100)
    for number in range(10):
        listener.offer(sse("job", b'{"n":%d}' % number))  # 29 bytes each
    said = await listener.take(1)
    assert said == (
        sse("dropped", b'{"count":7}') + b"".join(sse("job", b'{"n":%d}' % n) for n in (7, 8, 9))
    )
    listener.offer(sse("job", b"{}"))
    assert await listener.take(1) == sse("job", b"{}")


async def test_an_event_above_the_bound_is_said_all_the_same() -> None:
    listener = Listener(Wanted(), max_waiting=10)
    listener.offer(comment("not counted"))
    listener.offer(sse("job", b"x" * 100))
    assert await listener.take(1) == sse("job", b"x" * 100)


async def test_silence_is_a_comment_and_the_end_comes_after_what_waits() -> None:
    listener = Listener(Wanted())
    assert (await listener.take(0.01) or b"").startswith(b":")
    listener.offer(sse("job", b"{}"))
    listener.end()
    assert await listener.take(60) == sse("job", b"{}")
    assert await listener.take(60) is None
