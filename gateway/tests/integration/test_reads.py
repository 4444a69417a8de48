"""Reads through a real Redis from services on real sockets, each of which can be away."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from gateway.breaker import Breaker
from local_stack.servers import RedisServer
from moviemetric_contracts import Event, Movie, MovieUpserted
from redis.asyncio import Redis
from service_kit import Publisher, RabbitBroker

Run = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]
Eventually = Callable[..., Awaitable[None]]

AS_OF = "2025-01-31T20:15:00Z"
FILM = {
    "movie_id": "tmdb-27205",
    "tmdb_id": 27205,
    "imdb_id": "tt1375666",
    "title": "Inception",
    "release_date": "2010-07-15",
    "genres": ["Action"],
    "vote_average": 8.4,
    "vote_count": 37000,
    "popularity": 90.5,
}
TREND = {"movie_id": "tmdb-27205", "views": 3, "ratings": 1, "final_trend_score": 61.5}
PAGE = {"total": 1, "limit": 20, "offset": 0, "as_of": AS_OF}
NEEDED = {
    "movie_id",
    "tmdb_id",
    "title",
    "release_date",
    "genres",
    "vote_average",
    "vote_count",
    "popularity",
    "views",
    "external_score",
    "final_trend_score",
}


@pytest.fixture(autouse=True)
def _answers(upstreams: Any) -> None:
    upstreams.ingest.answers = {
        "/movies": {"items": [FILM], **PAGE},
        "/movies/tmdb-27205": {**FILM, "overview": "A thief.", "revision": 4},
    }
    upstreams.compute.answers = {
        "/trends": {"items": [TREND], "as_of": AS_OF},
        "/trending": {"items": [{**FILM, **TREND, "rank": 1}], "window": "day", **PAGE},
        "/trends/tmdb-27205": {**TREND, "window": "day", "components": {}, "formula": {}},
    }
    upstreams.search.answers = {
        "/search": {
            "query": "x",
            "hits": [{**FILM, **TREND}],
            "facets": {},
            "engine": "postgres",
            **PAGE,
        },
        "/search/suggest": {
            "query": "inc",
            "films": [{"movie_id": "tmdb-27205", "title": "Inception", "year": 2010}],
            "people": ["Ann Ince"],
            "engine": "postgres",
            "as_of": AS_OF,
        },
    }


@pytest.fixture
def gateway(run_gateway: Run, rabbit_vhost: str, redis_database: str) -> Run:
    """The gateway with long lives for its answers, so that only events and time given end them."""

    def run(**settings: Any) -> Any:
        lives = {"movies_ttl": 60, "movie_ttl": 60, "trending_ttl": 60, "search_ttl": 60}
        return run_gateway(amqp_url=rabbit_vhost, redis_url=redis_database, **{**lives, **settings})

    return run


async def test_films_have_what_every_list_has(gateway: Run) -> None:
    async with gateway() as client:
        listed = (await client.get("/api/v1/movies")).json()
        by_trend = (await client.get("/api/v1/movies?sort=trend")).json()
        chart = (await client.get("/api/v1/movies/trending")).json()
        found = (await client.get("/api/v1/search?q=x")).json()
        detail = (await client.get("/api/v1/movies/27205")).json()
    for film in (listed["items"][0], by_trend["items"][0], chart["items"][0], found["hits"][0]):
        assert set(film) >= NEEDED
        assert film["external_score"] == 8.4
        assert film["views"] == 3
        assert film["final_trend_score"] == 61.5
    assert chart["items"][0]["rank"] == 1
    assert set(listed) == {"items", "total", "limit", "offset", "as_of"}
    assert set(chart) == {"items", "total", "limit", "offset", "as_of", "window"}
    assert set(found) == {
        "query",
        "hits",
        "total",
        "limit",
        "offset",
        "facets",
        "engine",
        "as_of",
    }
    assert detail["overview"] == "A thief."
    assert detail["views"] == 3
    assert datetime.fromisoformat(detail["as_of"]).tzinfo is not None


async def test_parameters_reach_the_service_under_either_name(gateway: Run, upstreams: Any) -> None:
    async with gateway() as client:
        await client.get(
            "/movies?page=3&page_size=10&release_year=1999&sort_by=release_date&sort_order=asc"
            "&language=en&genre=Science%20Fiction&min_votes=7"
        )
        await client.get("/movies/trending?window=week&genre=A%26B&limit=5&offset=10")
    asked = httpx.URL(upstreams.ingest.requests[-1]).params
    assert dict(asked) == {
        "limit": "10",
        "offset": "20",
        "year": "1999",
        "sort": "release_date",
        "order": "asc",
        "language": "en",
        "genre": "Science Fiction",
        "min_votes": "7",
    }
    asked = httpx.URL(upstreams.compute.requests[-1]).params
    assert dict(asked) == {"window": "week", "genre": "A&B", "limit": "5", "offset": "10"}


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        ("year=1999", [("year_from", "1999"), ("year_to", "1999")]),
        ("year=1990-1999", [("year_from", "1990"), ("year_to", "1999")]),
        ("year=1990-", [("year_from", "1990")]),
        ("year=-1999", [("year_to", "1999")]),
        ("decade=1990&language=fr", [("decade", "1990"), ("language", "fr")]),
        ("genre=Drama", [("genre", "Drama"), ("genre_mode", "all")]),
        (
            "genre=Drama&genre=War,%20Science%20Fiction,&genre_mode=any",
            [
                ("genre", "Drama"),
                ("genre", "War"),
                ("genre", "Science Fiction"),
                ("genre_mode", "any"),
            ],
        ),
        ("highlight=true", [("highlight", "true")]),
    ],
)
async def test_what_is_searched_reaches_the_service(
    gateway: Run, upstreams: Any, given: str, passed_on: list[tuple[str, str]]
) -> None:
    async with gateway() as client:
        assert (await client.get(f"/search?q=a%20b&{given}")).status_code == 200
    usual = [("sort", "relevance"), ("order", "desc"), ("limit", "20"), ("offset", "0")]
    asked = httpx.URL(upstreams.search.requests[-1]).params.multi_items()
    assert sorted(asked) == sorted([("q", "a b"), *passed_on, *usual])


async def test_the_order_of_a_search_reaches_the_service(gateway: Run, upstreams: Any) -> None:
    async with gateway() as client:
        await client.get("/search?q=x&sort=rating&order=asc")
        await client.get("/search?q=x&sort=date")
    asked = [dict(httpx.URL(request).params) for request in upstreams.search.requests]
    assert [(one["sort"], one["order"]) for one in asked] == [("rating", "asc"), ("date", "desc")]


async def test_suggestions_are_passed_on_and_kept_for_a_moment(
    gateway: Run, upstreams: Any
) -> None:
    async with gateway() as client:
        first = await client.get("/search/suggest?q=inc")
        second = await client.get("/api/v1/search/suggest?q=inc&limit=8")
    assert first.json() == upstreams.search.answers["/search/suggest"]
    assert [r.headers["X-Cache"] for r in (first, second)] == ["miss", "hit"]
    assert upstreams.search.requests == ["/search/suggest?q=inc&limit=8"]


async def test_an_answer_of_the_engine_that_stands_in_is_not_kept(
    gateway: Run, upstreams: Any
) -> None:
    upstreams.search.answers["/search"] |= {"degraded": True, "note": "meilisearch is away"}
    async with gateway() as client:
        answers = [await client.get("/search?q=x") for _ in range(2)]
    assert [answer.headers["X-Cache"] for answer in answers] == ["miss", "miss"]
    assert answers[0].json()["note"] == "meilisearch is away"


async def test_a_second_read_is_a_hit_and_one_long_after_it_a_miss(
    gateway: Run, upstreams: Any
) -> None:
    async with gateway(movies_ttl=0.2) as client:
        first = await client.get("/movies?limit=20")
        second = await client.get("/api/v1/movies")
        assert [r.headers["X-Cache"] for r in (first, second)] == ["miss", "hit"]
        assert first.content == second.content
        assert len(upstreams.ingest.requests) == 1
        await asyncio.sleep(0.5)
        assert (await client.get("/movies")).headers["X-Cache"] == "miss"


async def test_an_answer_that_only_time_has_made_old_is_read_anew_while_nobody_waits(
    gateway: Run, upstreams: Any, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(movies_ttl=20.0) as client:
        first = await client.get("/movies")
        later = SimpleNamespace(time=lambda: time.time() + 25)
        monkeypatch.setattr("gateway.reads.time", later)
        upstreams.ingest.answers["/movies"] = {"items": [], **PAGE}
        upstreams.ingest.delay = 0.2
        late = await asyncio.gather(*(client.get("/movies") for _ in range(20)))
        assert {answer.headers["X-Cache"] for answer in late} == {"hit"}
        assert {answer.content for answer in late} == {first.content}
        assert all(int(answer.headers["Age"]) >= 25 for answer in late)

        async def renewed() -> bool:
            return (await client.get("/movies")).json()["items"] == []

        await eventually(renewed)
        assert len(upstreams.ingest.requests) > 1
        later.time = lambda: time.time() + 65
        assert (await client.get("/movies")).headers["X-Cache"] == "miss"


async def test_reads_at_the_same_time_are_one_request(gateway: Run, upstreams: Any) -> None:
    upstreams.compute.delay = 0.2
    async with gateway() as client:
        answers = await asyncio.gather(*(client.get("/movies/trending") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert [r for r in upstreams.compute.requests if r.startswith("/trending")] == [
        "/trending?window=day&limit=20&offset=0"
    ]


async def test_a_service_that_is_away_is_answered_for_by_the_stale_copy(
    gateway: Run, upstreams: Any
) -> None:
    paths = ["/movies", "/movies/27205", "/movies/trending", "/movies/27205/trend", "/search?q=x"]
    lives = dict.fromkeys(("movies_ttl", "movie_ttl", "trending_ttl", "trend_ttl", "search_ttl"), 0)
    async with gateway(**lives) as client:
        before = [await client.get(path) for path in paths]
        assert {r.headers["X-Cache"] for r in before} == {"miss"}
        for upstream in upstreams.all():
            await upstream.stop()
        for path, good in zip(paths, before, strict=True):
            stale = await client.get(path)
            assert stale.status_code == 200
            assert stale.headers["X-Cache"] == "stale"
            assert stale.headers["Warning"].startswith("110")
            assert int(stale.headers["Age"]) >= 0
            assert stale.json() == {"stale": True, **good.json()}
        never_read = await client.get("/movies?limit=7")
        assert never_read.status_code == 503
        assert int(never_read.headers["Retry-After"]) >= 1
        health = (await client.get("/health")).json()
        assert health["status"] == "degraded"
        assert health["dependencies"]["ingest-service"]["status"] == "down"
        for upstream in upstreams.all():
            await upstream.start()
        await asyncio.sleep(1.1)
        assert (await client.get("/movies")).headers["X-Cache"] == "miss"


@pytest.mark.parametrize("fault", ["error 500", "too slow"])
async def test_a_service_that_fails_counts_as_away(
    gateway: Run, upstreams: Any, fault: str
) -> None:
    async with gateway(search_ttl=0, read_timeout=6.0) as client:
        assert (await client.get("/search?q=x")).headers["X-Cache"] == "miss"
        if fault == "too slow":
            upstreams.search.delay = 60
        else:
            upstreams.search.status = 500
        asked = len(upstreams.search.requests)
        answers = [await client.get("/search?q=x") for _ in range(5)]
        upstreams.search.delay = 0
    assert {r.headers["X-Cache"] for r in answers} == {"stale"}
    if fault == "too slow":
        # Each of five would have waited for the timeout; now and then one tries again.
        assert len(upstreams.search.requests) - asked < 5


async def test_lists_answer_without_trend_while_compute_is_away(
    gateway: Run, upstreams: Any
) -> None:
    await upstreams.compute.stop()
    async with gateway() as client:
        films = (await client.get("/movies")).json()
        film = (await client.get("/movies/27205")).json()
        assert films["items"][0]["title"] == "Inception"
        assert films["items"][0]["final_trend_score"] is None
        assert films["items"][0]["views"] is None
        assert "not available" in films["note"]
        assert film["final_trend_score"] is None
        await upstreams.compute.start()
        await asyncio.sleep(1.1)
        # The makeshift answer was not kept.
        assert (await client.get("/movies")).json()["items"][0]["views"] == 3


async def test_unknown_films_are_404_and_their_copies_are_gone(
    gateway: Run, upstreams: Any
) -> None:
    async with gateway(movie_ttl=0) as client:
        assert (await client.get("/movies/27205")).status_code == 200
        del upstreams.ingest.answers["/movies/tmdb-27205"]
        missing = await client.get("/movies/27205")
        assert missing.status_code == 404
        assert missing.headers["content-type"] == "application/problem+json"
        await upstreams.ingest.stop()
        assert (await client.get("/movies/27205")).status_code == 503


def upserted() -> Event[MovieUpserted]:
    now = datetime.now(UTC)
    movie = Movie(
        movie_id="tmdb-27205",
        tmdb_id=27205,
        title="Inception",
        aliases=("imdb-tt1375666",),
        fetched_at=now,
    )
    return Event.of(MovieUpserted(movie=movie, revision=5), source="test", time=now)


async def test_an_event_drops_the_answers_that_it_makes_old(
    gateway: Run, rabbit_vhost: str, upstreams: Any, eventually: Eventually
) -> None:
    broker = RabbitBroker(rabbit_vhost, name="test")
    async with gateway() as client:

        async def ready() -> bool:
            return (await client.get("/ready")).status_code == 200

        await eventually(ready)
        for path in ("/movies/27205", "/movies"):
            await client.get(path)
        upstreams.ingest.answers["/movies/tmdb-27205"]["overview"] = "New."
        await Publisher(broker).publish(upserted())

        async def seen() -> bool:
            return (await client.get("/movies/27205")).json()["overview"] == "New."

        await eventually(seen)
        assert (await client.get("/movies")).headers["X-Cache"] == "miss"
    await broker.close()


ALIASES = ["imdb-tt1375666", "movielens-79132", "title-inception-2010"]


@pytest.mark.parametrize("alias", ALIASES)
async def test_a_film_is_found_by_each_of_its_keys(
    gateway: Run, upstreams: Any, alias: str
) -> None:
    upstreams.ingest.answers[f"/movies/{alias}"] = {**FILM, "aliases": ALIASES, "homepage": "x"}
    async with gateway(trend_ttl=60) as client:
        film = (await client.get(f"/movies/{alias}")).json()
        trend = (await client.get(f"/movies/{alias}/trend?window=week")).json()
        kept = await client.get(f"/movies/{alias}")
        # Events name the film's own key, so an answer under another one is soon asked for again.
        await asyncio.sleep(1.1)
        again = [await client.get(f"/movies/{alias}{end}") for end in ("", "/trend?window=week")]
        unknown = await client.get("/movies/imdb-tt0000001/trend")
    assert film["movie_id"] == trend["movie_id"] == "tmdb-27205"
    assert film["views"] == trend["views"] == 3
    assert (film["aliases"], film["homepage"]) == (ALIASES, "x")
    assert kept.headers["X-Cache"] == "hit"
    assert [answer.headers["X-Cache"] for answer in again] == ["miss", "miss"]
    assert unknown.status_code == 404
    assert "imdb-tt0000001" in unknown.json()["detail"]


async def test_an_event_drops_what_was_kept_under_the_films_other_keys(
    gateway: Run, rabbit_vhost: str, upstreams: Any, eventually: Eventually
) -> None:
    """Before the link was known they were films of their own."""
    own = {**FILM, "movie_id": "imdb-tt1375666", "title": "Inception (IMDb)"}
    upstreams.ingest.answers["/movies/imdb-tt1375666"] = own
    broker = RabbitBroker(rabbit_vhost, name="test")
    async with gateway(ready=True) as client:
        await client.get("/movies/imdb-tt1375666")
        upstreams.ingest.answers["/movies/imdb-tt1375666"] = FILM
        assert (await client.get("/movies/imdb-tt1375666")).json()["title"] == "Inception (IMDb)"
        await Publisher(broker).publish(upserted())

        async def seen() -> bool:
            return (await client.get("/movies/imdb-tt1375666")).json()["title"] == "Inception"

        await eventually(seen)
    await broker.close()


async def test_an_answer_under_way_while_it_is_dropped_is_not_kept(
    gateway: Run, rabbit_vhost: str, upstreams: Any, eventually: Eventually
) -> None:
    broker = RabbitBroker(rabbit_vhost, name="test")
    async with gateway() as client:

        async def ready() -> bool:
            return (await client.get("/ready")).status_code == 200

        await eventually(ready)
        upstreams.ingest.delay = 0.4
        reading = asyncio.create_task(client.get("/movies/27205"))

        async def asked() -> bool:
            return bool(upstreams.ingest.requests)

        await eventually(asked)
        await Publisher(broker).publish(upserted())
        old = await reading
        upstreams.ingest.delay = 0
        assert old.headers["X-Cache"] == "miss"
        assert (await client.get("/movies/27205")).headers["X-Cache"] == "miss"
        assert (await client.get("/movies/27205")).headers["X-Cache"] == "hit"
    await broker.close()


async def test_a_frozen_redis_costs_one_timeout_and_no_error(
    gateway: Run,
    redis_server: RedisServer,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    redis: Any = Redis
    mget, asked, now = redis.mget, 0, 0.0

    async def counted(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return await mget(*arguments)

    monkeypatch.setattr(redis, "mget", counted)
    # However long the reads take, it is one pause of the breaker.
    monkeypatch.setattr("gateway.cache.Breaker", partial(Breaker, clock=lambda: now))
    async with gateway() as client:
        assert (await client.get("/movies/trending")).status_code == 200
        await asyncio.to_thread(redis_server.freeze)
        now += 10
        asked = 0
        for number in range(20):
            answer = await client.get(f"/movies/trending?offset={number}")
            assert answer.status_code == 200
            assert answer.headers["X-Cache"] == "miss"
        assert asked == 1
        health = (await client.get("/health")).json()
        await asyncio.to_thread(redis_server.resume)
        assert health["status"] == "degraded"
        assert health["dependencies"]["redis"]["status"] == "down"

        async def kept_again() -> bool:
            nonlocal now
            now += 10
            return (await client.get("/movies/trending")).headers["X-Cache"] == "hit"

        await eventually(kept_again)


async def test_what_was_dropped_while_redis_was_frozen_is_dropped_when_it_is_back(
    gateway: Run,
    rabbit_vhost: str,
    redis_server: RedisServer,
    upstreams: Any,
    eventually: Eventually,
) -> None:
    broker = RabbitBroker(rabbit_vhost, name="test")
    async with gateway() as client:

        async def ready() -> bool:
            return (await client.get("/ready")).status_code == 200

        await eventually(ready)
        await client.get("/movies/27205")
        await asyncio.to_thread(redis_server.freeze)
        upstreams.ingest.answers["/movies/tmdb-27205"]["overview"] = "New."
        await Publisher(broker).publish(upserted())
        await asyncio.sleep(0.5)
        await asyncio.to_thread(redis_server.resume)

        async def kept_anew() -> bool:
            answer = await client.get("/movies/27205")
            return answer.headers["X-Cache"] == "hit" and answer.json()["overview"] == "New."

        await eventually(kept_anew, 20)
    await broker.close()
