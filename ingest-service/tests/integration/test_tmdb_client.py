"""The client against real HTTP: the stand-in, and answers that TMDB should never give."""

import asyncio
import gzip
import json
import logging
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from typing import Any

import httpx
import pytest
from ingest_service.rate_limit import RateLimiter, RefusalShare
from ingest_service.tmdb_client import (
    ApiKeyError,
    TmdbAnswerError,
    TmdbClient,
    TmdbCoolDownError,
    TmdbDocument,
    TmdbError,
    TmdbNotFound,
    TmdbUnavailableError,
)

INCEPTION = 27205
KEY = "0123456789abcdef0123456789abcdef"
TOKEN = f"{'a' * 40}.{'b' * 60}.{'c' * 43}"
NOT_FOUND = {"success": False, "status_code": 34, "status_message": "The resource ..."}
FILM = {"id": 5, "title": "Four Rooms"}


def http(status: str, body: object = None, *headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *headers, "Connection: close"]
    return "\r\n".join([*lines, "", ""]).encode() + content


async def test_a_film_with_its_appended_parts(standin: Any, make_client: Any) -> None:
    before = datetime.now(UTC)
    document = await make_client(standin.base_url).fetch_movie(INCEPTION)
    assert isinstance(document, TmdbDocument)
    assert json.loads(document.text) == document.body
    body: Any = document.body
    assert body["id"] == INCEPTION
    assert body["title"] == "Inception"
    assert {"credits", "keywords", "external_ids", "release_dates"} <= body.keys()
    assert before <= document.fetched_at <= datetime.now(UTC)


async def test_not_found_is_a_result(standin: Any, make_client: Any) -> None:
    found = await make_client(standin.base_url).fetch_movie(2_000_000_000)
    assert isinstance(found, TmdbNotFound)
    assert found.tmdb_id == 2_000_000_000


@pytest.mark.parametrize(
    ("key", "in_query", "header"), [(KEY, True, None), (TOKEN, False, f"Bearer {TOKEN}")]
)
async def test_the_key_is_sent_the_way_its_kind_wants_and_is_never_logged(
    serve_script: Any,
    make_client: Any,
    caplog: pytest.LogCaptureFixture,
    key: str,
    in_query: bool,
    header: str | None,
) -> None:
    caplog.set_level(logging.DEBUG)
    server = await serve_script(http("500 X"), http("401 X", {"status_code": 7}))
    client: TmdbClient = make_client(server.base_url, key)
    with pytest.raises(ApiKeyError) as caught:
        await client.fetch_movie(5)
    head = httpx.Headers(
        [tuple(line.split(": ", 1)) for line in server.requests[-1].split("\r\n")[1:] if line]
    )
    assert (f"api_key={key}" in server.requests[-1]) is in_query
    assert head.get("authorization") == header
    assert key not in caplog.text
    assert all(key not in str(vars(record)) for record in caplog.records)
    assert any("HTTP Request" in record.message for record in caplog.records)
    assert key not in repr(caught.value)


async def test_the_key_is_in_no_error_of_a_broken_connection(make_client: Any) -> None:
    client: TmdbClient = make_client("http://127.0.0.1:1/3", KEY, max_attempts=1)
    with pytest.raises(TmdbUnavailableError) as caught:
        await client.fetch_movie(5)
    error: BaseException | None = caught.value
    while error is not None:
        assert KEY not in f"{error!r} {vars(error)}"
        error = error.__context__


async def test_a_refused_key_stops_all_asking(standin: Any, make_client: Any) -> None:
    client: TmdbClient = make_client(standin.base_url, "wrong", max_concurrency=1)
    results = await asyncio.gather(
        *(client.fetch_movie(number) for number in range(1, 11)), return_exceptions=True
    )
    assert [type(result) for result in results] == [ApiKeyError] * 10
    assert standin.requests()["total"] == 1
    with pytest.raises(ApiKeyError, match=r"refuses the API key \(status 401: Invalid API key"):
        await client.check()


async def test_a_key_that_is_accepted_again_is_healthy_again(
    serve_script: Any, make_client: Any
) -> None:
    server = await serve_script(http("401 X", {"status_code": 7}), http("200 OK", FILM))
    now = [1000.0]
    client: TmdbClient = make_client(server.base_url, clock=lambda: now[0])
    for now[0] in (1000.0, 1001.0, 1059.0):
        with pytest.raises(ApiKeyError):
            await client.fetch_movie(5)
    assert len(server.requests) == 1
    now[0] = 1061.0
    assert isinstance(await client.fetch_movie(5), TmdbDocument)
    await client.check()


@pytest.mark.parametrize("missing", [None, ""])
async def test_without_a_key_nothing_is_asked(
    standin: Any, make_client: Any, missing: str | None
) -> None:
    client: TmdbClient = make_client(standin.base_url, missing)
    with pytest.raises(ApiKeyError, match="set TMDB_API_KEY"):
        await client.fetch_movie(INCEPTION)
    with pytest.raises(ApiKeyError, match="no TMDB API key"):
        await client.check()
    assert standin.requests()["total"] == 0


@pytest.mark.parametrize("outcome", ["500", "502", "503", "504"])
async def test_server_errors_are_tried_again(standin: Any, make_client: Any, outcome: str) -> None:
    standin.follow(next=[{"outcome": outcome, "count": 2}])
    assert isinstance(await make_client(standin.base_url).fetch_movie(INCEPTION), TmdbDocument)
    assert standin.requests()["statuses"] == {outcome: 2, "200": 1}


async def test_attempts_are_limited_and_their_delays_grow(standin: Any, make_client: Any) -> None:
    standin.follow(fail_ids={INCEPTION: "503"})
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    client = make_client(
        standin.base_url,
        sleep=sleep,
        dice=lambda: 0.0,
        retry_delay=0.25,
        max_attempts=4,
        requests_per_second=1e6,
    )
    with pytest.raises(TmdbUnavailableError, match=r"/movie/27205: status 503 \(attempt 4\)"):
        await client.fetch_movie(INCEPTION)
    assert [delay for delay in slept if delay > 0.1] == [0.25, 0.5, 1.0]
    assert standin.requests()["statuses"] == {"503": 4}


async def test_a_read_timeout_is_tried_again(standin: Any, make_client: Any) -> None:
    standin.follow(next=[{"outcome": "timeout", "count": 1}])
    client = make_client(standin.base_url, read_timeout=0.3)
    assert isinstance(await client.fetch_movie(INCEPTION), TmdbDocument)
    # A slow machine may be given up as well, but not each time.
    statuses = standin.requests()["statuses"]
    assert statuses.keys() == {"client gave up", "200"}


async def test_an_answer_that_trickles_is_cut_off_by_the_total_timeout(make_client: Any) -> None:
    async def trickle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            for _ in range(1000):
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client: TmdbClient = make_client(
        f"http://127.0.0.1:{port}/3", read_timeout=60, total_timeout=0.3, max_attempts=2
    )
    # The trickle takes 20 s and more, and ends well for who waits for it.
    with pytest.raises(TmdbUnavailableError, match="TimeoutError"):
        await client.fetch_movie(5)
    server.close()
    await server.wait_closed()


async def test_retry_after_is_kept_by_all_requests(standin: Any, make_client: Any) -> None:
    standin.follow(next=[{"outcome": "429", "count": 1}], retry_after=1)
    client: TmdbClient = make_client(standin.base_url)
    began = time.monotonic()
    limited = asyncio.create_task(client.fetch_movie(INCEPTION))
    for _ in range(200):
        await asyncio.sleep(0.01)
        if standin.requests()["statuses"].get("429"):
            break
    other = asyncio.create_task(client.fetch_movie(155))
    assert isinstance(await other, TmdbDocument)
    assert time.monotonic() - began > 0.9
    assert isinstance(await limited, TmdbDocument)
    assert standin.requests()["statuses"] == {"429": 1, "200": 2}


async def test_retry_after_may_be_a_date_and_come_with_503(
    serve_script: Any, make_client: Any
) -> None:
    began = time.monotonic()
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    server = await serve_script(http("503 X", {}, f"Retry-After: {date}"), http("200 OK", FILM))
    assert isinstance(await make_client(server.base_url).fetch_movie(5), TmdbDocument)
    assert time.monotonic() - began > 0.9


async def test_a_long_rest_is_handed_on_and_nothing_is_asked_meanwhile(
    serve_script: Any, make_client: Any
) -> None:
    server = await serve_script(http("429 X", {"status_code": 25}, "Retry-After: 3600"))
    client: TmdbClient = make_client(server.base_url)
    for _ in range(3):
        with pytest.raises(TmdbCoolDownError) as caught:
            await client.fetch_movie(5)
        assert 3590 < caught.value.retry_after <= 3600
    assert len(server.requests) == 1
    with pytest.raises(TmdbCoolDownError):
        await client.check()


async def test_the_rate_is_never_broken_and_nearly_used_up(standin: Any, make_client: Any) -> None:
    figures = ""
    # On a busy machine the stand-in is held up, and what waited for it then arrives at once.
    for _ in range(3):
        standin.reset()
        standin.follow(requests_per_second=40, latency=[0.01, 0.2])
        client: TmdbClient = make_client(standin.base_url, requests_per_second=40)
        films = await asyncio.gather(*(client.fetch_movie(INCEPTION) for _ in range(115)))
        assert all(isinstance(film, TmdbDocument) for film in films)
        log = standin.requests()
        assert 1 < log["peak_in_flight"] <= 20
        # One second tells: at least that one, of three, was not held up.
        if log["statuses"] == {"200": 115} and log["peak_per_second"] > 30:
            return
        figures = f"{log['statuses']}, {log['peak_per_second']} in a second"
    pytest.fail(figures)


async def test_scattered_429_hold_up_only_their_own_requests(
    standin: Any, make_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slow the machine is, the answers before the 429 are not too old to be counted.
    share = partial(RefusalShare, seconds=60)
    monkeypatch.setattr("ingest_service.tmdb_client.RefusalShare", share)
    pauses: list[float] = []

    def pause(_: RateLimiter, seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(RateLimiter, "pause", pause)
    client: TmdbClient = make_client(standin.base_url, requests_per_second=100)
    await asyncio.gather(*(client.fetch_movie(INCEPTION) for _ in range(100)))
    standin.follow(fail_ids={155: "429"}, retry_after=1)
    began = time.monotonic()
    limited = asyncio.create_task(client.fetch_movie(155))
    others = await asyncio.gather(*(client.fetch_movie(INCEPTION) for _ in range(20)))
    assert not limited.done()
    assert all(isinstance(film, TmdbDocument) for film in others)
    assert standin.requests()["films"]["155"]["asked"] >= 1
    standin.follow()
    assert isinstance(await limited, TmdbDocument)
    assert time.monotonic() - began > 0.9
    assert pauses == []  # which all of them would have kept


async def test_a_limit_that_is_lower_than_thought_is_kept_by_waiting(
    standin: Any, make_client: Any
) -> None:
    standin.follow(requests_per_second=10)
    client: TmdbClient = make_client(standin.base_url, requests_per_second=40, max_attempts=10)
    films = await asyncio.gather(*(client.fetch_movie(INCEPTION) for _ in range(40)))
    assert all(isinstance(film, TmdbDocument) for film in films)
    # Without a common pause each of those that wait would be sent and refused once a second.
    assert standin.requests()["rate_limited"] < 40


async def test_a_429_without_retry_after_costs_little(serve_script: Any, make_client: Any) -> None:
    film = http("200 OK", FILM)
    server = await serve_script(*[film] * 10, http("429 X", {"status_code": 25}), film)
    client: TmdbClient = make_client(server.base_url, requests_per_second=1000)
    for _ in range(10):
        await client.fetch_movie(5)
    assert isinstance(await client.fetch_movie(5), TmdbDocument)
    assert len(server.requests) == 12


async def test_attempts_that_hang_are_given_up_early_and_later_ones_later(
    standin: Any, make_client: Any
) -> None:
    standin.follow(fail_ids={155: "timeout"})
    client: TmdbClient = make_client(standin.base_url, first_read_timeout=0.2, max_attempts=3)
    began = time.monotonic()
    with pytest.raises(TmdbUnavailableError, match=r"ReadTimeout \(attempt 3\)"):
        await client.fetch_movie(155)
    assert time.monotonic() - began > 0.2 + 0.4 + 0.8


async def test_while_answers_are_slow_there_is_more_patience(
    standin: Any, make_client: Any
) -> None:
    standin.follow(latency=0.3)
    client: TmdbClient = make_client(standin.base_url, first_read_timeout=0.2)
    for _ in range(3):
        await client.fetch_movie(INCEPTION)
    standin.reset()
    standin.follow(latency=0.3)
    await client.fetch_movie(INCEPTION)
    assert standin.requests()["statuses"] == {"200": 1}


async def test_a_bulk_run_leaves_connections_to_others(standin: Any, make_client: Any) -> None:
    standin.follow(latency=3)
    client: TmdbClient = make_client(
        standin.base_url, requests_per_second=1000, first_read_timeout=10
    )
    lane = client.bulk_lane()
    bulk = [asyncio.create_task(client.fetch_movie(INCEPTION, lane=lane)) for _ in range(100)]
    async with asyncio.timeout(30):
        while (await asyncio.to_thread(standin.requests))["in_flight"] < 16:  # noqa: ASYNC110 -- another process
            await asyncio.sleep(0.01)
    await client.fetch_movie(155)
    assert sum(task.done() for task in bulk) < 84  # it did not stand behind all the others
    assert standin.requests()["peak_in_flight"] == 17
    for task in bulk:
        task.cancel()
    await asyncio.gather(*bulk, return_exceptions=True)
    assert lane.requests < 100


async def test_a_page_of_a_list(standin: Any, make_client: Any) -> None:
    client: TmdbClient = make_client(standin.base_url)
    page: Any = await client.fetch_json("/movie/popular", {"page": "2"})
    assert (page["page"], len(page["results"])) == (2, 20)
    with pytest.raises(TmdbAnswerError, match="max at 500"):
        await client.fetch_json("/movie/popular", {"page": "501"})
    with pytest.raises(TmdbAnswerError, match="status 404"):
        await client.fetch_json("/movie/no-such-list", {})


async def test_the_number_in_flight_is_bounded(standin: Any, make_client: Any) -> None:
    standin.follow(latency=0.1)
    client: TmdbClient = make_client(standin.base_url, max_concurrency=3, requests_per_second=1000)
    await asyncio.gather(*(client.fetch_movie(INCEPTION) for _ in range(12)))
    assert standin.requests()["peak_in_flight"] == 3


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (http("200 OK", b"<html>"), "not JSON"),
        (http("200 OK", b""), "not JSON"),
        (http("200 OK", b'{"id": 5, "title": "\xff"}'), "not JSON"),
        (http("200 OK", b"[" * 500_000), "not JSON"),
        (http("200 OK", b" " * 70_000), "longer than 65536 bytes"),
        (
            http("200 OK", gzip.compress(b" " * 10_000_000), "Content-Encoding: gzip"),
            "longer than 65536 bytes",
        ),
        (http("404 Not Found", b"<html>no such page</html>"), "not JSON"),
        (http("404 Not Found", {"detail": "Not Found"}), "404 page that is not TMDB's"),
        (http("302 Found", {}, "Location: http://127.0.0.1:1/"), "status 302"),
        (http("400 Bad", {"status_code": 22, "status_message": "Invalid page"}), "Invalid page"),
    ],
)
async def test_an_unusable_answer_is_an_error_that_says_why(
    serve_script: Any, make_client: Any, answer: bytes, problem: str
) -> None:
    if len(answer) > 400_000:
        client: TmdbClient = make_client((await serve_script(answer)).base_url)
    else:
        server = await serve_script(answer)
        client = make_client(server.base_url, max_body_bytes=65_536)
    with pytest.raises(TmdbAnswerError, match=problem) as caught:
        await client.fetch_movie(5)
    assert isinstance(caught.value, TmdbError)


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        http("200 OK", b"no gzip", "Content-Encoding: gzip"),
    ],
)
async def test_a_broken_connection_is_tried_again(
    serve_script: Any, make_client: Any, broken: bytes
) -> None:
    server = await serve_script(broken, broken, http("404 X", NOT_FOUND))
    assert isinstance(await make_client(server.base_url).fetch_movie(5), TmdbNotFound)
    assert len(server.requests) == 3
