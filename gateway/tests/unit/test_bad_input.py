"""Bad input through the whole application: 4xx that names the field, and nothing published."""

import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

CLOUDEVENTS = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
FAR = (datetime.now(UTC) + timedelta(hours=25)).isoformat()

VIEW_BODIES: list[tuple[str, bytes, int, str]] = [
    ("empty", b"", 400, ""),
    ("not json", b"tmdb_id=1", 400, ""),
    ("cut short", b'{"tmdb_id": 1', 400, ""),
    ("two values", b'{"tmdb_id": 1} {}', 400, ""),
    ("not utf-8", b'{"user_id": "\xff", "tmdb_id": 1}', 400, ""),
    ("utf-16", '{"tmdb_id": 1}'.encode("utf-16"), 400, ""),
    ("array", b"[]", 422, "(body)"),
    ("null", b"null", 422, "(body)"),
    ("string", b'"x"', 422, "(body)"),
    ("nothing said", b"{}", 422, "(body)"),
    ("both ids", b'{"tmdb_id": 1, "movie_id": "tmdb-1"}', 422, "(body)"),
    ("unknown field", b'{"tmdb_id": 1, "colour": "red"}', 422, "colour"),
    ("id as text", b'{"tmdb_id": "1"}', 422, "tmdb_id"),
    ("id as float", b'{"tmdb_id": 1.5}', 422, "tmdb_id"),
    ("id as whole float", b'{"tmdb_id": 1.0}', 422, "tmdb_id"),
    ("id as bool", b'{"tmdb_id": true}', 422, "tmdb_id"),
    ("id null", b'{"tmdb_id": null}', 422, "(body)"),
    ("id zero", b'{"tmdb_id": 0}', 422, "tmdb_id"),
    ("id negative", b'{"tmdb_id": -5}', 422, "tmdb_id"),
    ("id beyond 32 bit", b'{"tmdb_id": 2147483648}', 422, "tmdb_id"),
    ("id of 100 digits", b'{"tmdb_id": ' + b"9" * 100 + b"}", 422, "tmdb_id"),
    ("id of 5000 digits", b'{"tmdb_id": ' + b"9" * 5000 + b"}", 422, "tmdb_id"),
    ("id NaN", b'{"tmdb_id": NaN}', 422, "tmdb_id"),
    ("id Infinity", b'{"tmdb_id": -Infinity}', 422, "tmdb_id"),
    ("id 1e999", b'{"tmdb_id": 1e999}', 422, "tmdb_id"),
    ("id list", b'{"tmdb_id": [1]}', 422, "tmdb_id"),
    ("movie_id bool", b'{"movie_id": true}', 422, "movie_id"),
    ("movie_id float", b'{"movie_id": 1.5}', 422, "movie_id"),
    ("movie_id huge", b'{"movie_id": ' + b"9" * 200 + b"}", 422, "movie_id"),
    ("movie_id NaN", b'{"movie_id": NaN}', 422, "movie_id"),
    ("movie_id empty", b'{"movie_id": ""}', 422, "movie_id"),
    ("movie_id word", b'{"movie_id": "inception"}', 422, "movie_id"),
    ("movie_id tmdb-0", b'{"movie_id": "tmdb-0"}', 422, "movie_id"),
    ("movie_id beyond 32 bit", b'{"movie_id": "tmdb-9999999999"}', 422, "movie_id"),
    ("movie_id with newline", b'{"movie_id": "tmdb-1\\n"}', 422, "movie_id"),
    ("movie_id other digits", '{"movie_id": "tmdb-\u0661"}'.encode(), 422, "movie_id"),
    ("movie_id injection", b'{"movie_id": "tmdb-1\' OR 1=1"}', 422, "movie_id"),
    ("movie_id long", b'{"movie_id": "title-' + b"a" * 300 + b'-1999"}', 422, "movie_id"),
    ("user as number", b'{"tmdb_id": 1, "user_id": 7}', 422, "user_id"),
    ("user empty", b'{"tmdb_id": 1, "user_id": ""}', 422, "user_id"),
    ("user long", b'{"tmdb_id": 1, "user_id": "' + b"u" * 129 + b'"}', 422, "user_id"),
    ("user NUL", b'{"tmdb_id": 1, "user_id": "a\\u0000b"}', 422, "user_id"),
    ("user lone surrogate", b'{"tmdb_id": 1, "user_id": "\\ud800"}', 422, "user_id"),
    ("session lone low surrogate", b'{"tmdb_id": 1, "session_id": "\\udc00x"}', 422, "session_id"),
    ("session list", b'{"tmdb_id": 1, "session_id": ["s"]}', 422, "session_id"),
    ("name lone surrogate", b'{"tmdb_id": 1, "\\ud800": 1}', 422, "(body)"),
    ("name twice", b'{"tmdb_id": 1, "tmdb_id": 2}', 422, "tmdb_id"),
    ("deep", b'{"tmdb_id": ' + b"[" * 500 + b"]" * 500 + b"}", 422, "tmdb_id"),
    ("very deep", b'{"tmdb_id": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", 422, "(body)"),
    ("viewed_at number", b'{"tmdb_id": 1, "viewed_at": 1700000000}', 422, "viewed_at"),
    ("viewed_at digits", b'{"tmdb_id": 1, "viewed_at": "1700000000"}', 422, "viewed_at"),
    ("viewed_at date", b'{"tmdb_id": 1, "viewed_at": "2024-01-01"}', 422, "viewed_at"),
    ("viewed_at no zone", b'{"tmdb_id": 1, "viewed_at": "2024-01-01T00:00:00"}', 422, "viewed_at"),
    ("viewed_at 31 June", b'{"tmdb_id": 1, "viewed_at": "2024-06-31T00:00:00Z"}', 422, "viewed_at"),
    ("viewed_at 25 h", b'{"tmdb_id": 1, "viewed_at": "2024-06-01T25:00:00Z"}', 422, "viewed_at"),
    ("viewed_at words", b'{"tmdb_id": 1, "viewed_at": "yesterday"}', 422, "viewed_at"),
    ("viewed_at bool", b'{"tmdb_id": 1, "viewed_at": true}', 422, "viewed_at"),
    ("viewed_at NaN", b'{"tmdb_id": 1, "viewed_at": NaN}', 422, "viewed_at"),
    (
        "viewed_at year 9999",
        b'{"tmdb_id": 1, "viewed_at": "9999-12-31T23:59:59-12:00"}',
        422,
        "viewed_at",
    ),
    (
        "viewed_at year 0",
        b'{"tmdb_id": 1, "viewed_at": "0000-01-01T00:00:00Z"}',
        422,
        "viewed_at",
    ),
    (
        "viewed_at before year 1 in UTC",
        b'{"tmdb_id": 1, "viewed_at": "0001-01-01T00:00:00+12:00"}',
        422,
        "viewed_at",
    ),
    (
        "viewed_at in 25 hours",
        json.dumps({"tmdb_id": 1, "viewed_at": FAR}).encode(),
        422,
        "viewed_at",
    ),
]


def check_problem(response: httpx.Response, status: int, field: str) -> None:
    """A problem document with this status, whose first error names `field` ("" for none)."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["title"]
    if field:
        assert problem["errors"][0]["field"] == field, problem
        assert problem["errors"][0]["message"]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [case[1:] for case in VIEW_BODIES],
    ids=[case[0] for case in VIEW_BODIES],
)
async def test_view(
    api: httpx.AsyncClient, publisher: Any, body: bytes, status: int, field: str
) -> None:
    check_problem(await api.post("/api/v1/movies/view", content=body), status, field)
    assert publisher.events == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "tmdb_id"),
        ({"tmdb_id": "27205"}, "tmdb_id"),
        ({"tmdb_id": True}, "tmdb_id"),
        ({"tmdb_id": 2**31}, "tmdb_id"),
        ({"tmdb_id": 1, "movie_id": "tmdb-1"}, "movie_id"),
        ([1], "(body)"),
    ],
)
async def test_register(api: httpx.AsyncClient, publisher: Any, body: object, field: str) -> None:
    check_problem(await api.post("/movies/register", json=body), 422, field)
    assert publisher.events == []


@pytest.mark.parametrize(
    "movie_id", ["imdb-tt1375666", "title-heat-1995", "x", "0", "-1", "99999999999", "tmdb-1%00"]
)
@pytest.mark.parametrize("form", ["/movies/{}/refresh", "/movies/trigger_external_update/{}"])
async def test_refresh(api: httpx.AsyncClient, publisher: Any, form: str, movie_id: str) -> None:
    check_problem(await api.post(f"/api{form.format(movie_id)}"), 422, "movie_id")
    assert publisher.events == []


def event(**changes: Any) -> dict[str, Any]:
    """A good event but for `changes`; `data` is merged, None takes an attribute away."""
    good: dict[str, Any] = {
        "specversion": "1.0",
        "id": "e-1",
        "source": "/test",
        "type": "movie.viewed.v1",
        "data": {"movie_id": "tmdb-1", "viewed_at": "2024-01-01T00:00:00Z"},
    }
    if isinstance(changes.get("data"), dict):
        changes["data"] = {**good["data"], **changes["data"]}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


BAD_EVENTS: list[tuple[object, str]] = [
    ("text", "(item)"),
    (7, "(item)"),
    (None, "(item)"),
    ([], "(item)"),
    ({}, "type"),
    (event(type=3), "type"),
    (event(type="movie.viewed.v9"), "type"),
    (event(type="movie.rated.v1"), "type"),
    (event(type="movie.upserted.v1"), "type"),
    (event(type="nonsense"), "type"),
    (event(type="\ud800"), "type"),
    (event(specversion="0.3"), "specversion"),
    (event(id=None), "id"),
    (event(id=""), "id"),
    (event(id=7), "id"),
    (event(id="x" * 201), "id"),
    (event(id="a\x00b"), "id"),
    (event(id="a\nb"), "id"),
    (event(source=None), "source"),
    (event(source=""), "source"),
    (event(datacontenttype="text/plain"), "datacontenttype"),
    (event(data=None), "data"),
    (event(data="x"), "data"),
    (event(data={"colour": "red"}), "data.colour"),
    (event(data={"movie_id": "27205"}), "data.movie_id"),
    (event(data={"movie_id": 27205}), "data.movie_id"),
    (event(data={"movie_id": "tmdb-9999999999"}), "data.movie_id"),
    (event(data={"user_id": True}), "data.user_id"),
    (event(data={"user_id": "a\x00"}), "data.user_id"),
    (event(data={"user_id": "\udc00"}), "data.user_id"),
    (event(data={"viewed_at": 1700000000}), "data.viewed_at"),
    (event(data={"viewed_at": "1700000000"}), "data.viewed_at"),
    (event(data={"viewed_at": "2024-01-01T00:00:00"}), "data.viewed_at"),
    (event(data={"viewed_at": "9999-12-31T23:59:59Z"}), "data.viewed_at"),
    (event(data={"viewed_at": FAR}), "data.viewed_at"),
    (event(data={"viewed_at": float("nan")}), "data.viewed_at"),
    (event(time="9999-12-31T23:59:59Z"), "time"),
    (event(time=FAR), "time"),
    (event(time=1700000000), "time"),
    (event(time="2024-01-01T00:00:00"), "time"),
    (event(weight=float("inf")), "weight"),
    (event(weight=[[float("nan")]]), "weight[0][0]"),
    (event(type="movie.register.v1"), "data.tmdb_id"),
]


@pytest.mark.parametrize(("item", "field"), BAD_EVENTS)
async def test_a_bad_event_is_named_and_the_good_ones_beside_it_are_taken(
    producer_api: httpx.AsyncClient, publisher: Any, item: object, field: str
) -> None:
    headers = {"content-type": BATCH}
    alone = await producer_api.post("/events", content=json.dumps([item]), headers=headers)
    check_problem(alone, 422, f"[0].{field}")
    assert alone.json()["results"][0]["status"] == "rejected"
    assert publisher.events == []
    beside = json.dumps([event(id="a"), item, event(id="b")])
    mixed = await producer_api.post("/events", content=beside, headers=headers)
    assert mixed.status_code == 202
    assert [result["status"] for result in mixed.json()["results"]] == [
        "accepted",
        "rejected",
        "accepted",
    ]
    assert mixed.json()["results"][1]["error"].startswith(f"{field}: ")
    assert [published.id for published in publisher.events] == ["a", "b"]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"", 400, ""),
        (b"[", 400, ""),
        (b"[]", 422, "(body)"),
        (b"{}", 422, "(body)"),
        (b'"x"', 422, "(body)"),
        (b"[" * 100_000 + b"]" * 100_000, 422, "(body)"),
        (b"[" * 900 + b"]" * 900, 422, "[0].[0]"),
        (b'[{"a": 1, "a": 2}]', 422, "a"),
    ],
)
async def test_a_bad_batch(
    producer_api: httpx.AsyncClient, publisher: Any, body: bytes, status: int, field: str
) -> None:
    response = await producer_api.post("/events", content=body, headers={"content-type": BATCH})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    if field and not field.startswith("["):
        assert response.json()["errors"][0]["field"] == field
    assert publisher.events == []


@pytest.mark.parametrize(
    "content_type", [None, "application/json", "text/plain", "multipart/form-data", "x"]
)
async def test_events_wants_a_type_of_cloudevents(
    producer_api: httpx.AsyncClient, publisher: Any, content_type: str | None
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    response = await producer_api.post("/events", content=json.dumps([event()]), headers=headers)
    check_problem(response, 415, "Content-Type")
    assert publisher.events == []


async def chunks(size: int) -> AsyncGenerator[bytes]:
    """`size` bytes without a Content-Length."""
    for _ in range(size // 4096):
        yield b" " * 4096
    yield b" " * (size % 4096)


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/movies/view", 262_144),
        ("/api/movies/register", 262_144),
        ("/api/v1/events", 1_048_576),
        ("/events", 1_048_576),
    ],
)
async def test_a_body_above_the_limit(
    producer_api: httpx.AsyncClient, publisher: Any, path: str, limit: int
) -> None:
    headers = {"content-type": BATCH}
    announced = await producer_api.post(path, content=b" " * (limit + 1), headers=headers)
    check_problem(announced, 413, "(body)")
    streamed = await producer_api.post(path, content=chunks(limit + 1), headers=headers)
    check_problem(streamed, 413, "(body)")
    lying = await producer_api.post(
        path, content=chunks(limit + 1), headers={**headers, "content-length": "10"}
    )
    check_problem(lying, 413, "(body)")
    # Exactly at the limit it is read, and found to be no JSON.
    check_problem(await producer_api.post(path, content=chunks(limit), headers=headers), 400, "")
    assert publisher.events == []


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/movies?limit=0", "limit"),
        ("/movies?limit=101", "limit"),
        ("/movies?limit=x", "limit"),
        ("/movies?limit=" + "9" * 5000, "limit"),
        ("/movies?offset=-1", "offset"),
        ("/movies?offset=100001", "offset"),
        ("/movies?page=0", "page"),
        ("/movies?page=2000&page_size=100", "page"),
        ("/movies?page=2&offset=7", "offset"),
        ("/movies?limit=5&page_size=6", "page_size"),
        ("/movies?year=soon", "year"),
        ("/movies?year=1999&release_year=2000", "release_year"),
        ("/movies?sort=revenue", "sort"),
        ("/movies?sort=title&sort_by=trend", "sort_by"),
        ("/movies?order=up", "order"),
        ("/movies?language=%00", "language"),
        ("/movies?genre=%00", "genre"),
        ("/movies?min_votes=-1", "min_votes"),
        ("/movies/trending?window=month", "window"),
        ("/movies/trending?limit=1000", "limit"),
        ("/movies/nothing", "movie_id"),
        ("/movies/tmdb-0", "movie_id"),
        ("/movies/%00", "movie_id"),
        ("/movies/%ED%A0%80", "movie_id"),
        ("/movies/5/trend?window=hour", "window"),
        ("/movies/five/trend", "movie_id"),
        ("/search", "q"),
        ("/search?q=%00", "q"),
        ("/search?q=" + "x" * 201, "q"),
        ("/search?q=x&min_rating=nan", "min_rating"),
        ("/search?q=x&min_rating=inf", "min_rating"),
        ("/search?q=x&min_rating=11", "min_rating"),
        ("/search?q=x&min_votes=-1", "min_votes"),
        ("/search?q=x&year=0", "year"),
        ("/search?q=x&year=10000", "year"),
        ("/search?q=x&year=1999-1990", "year"),
        ("/search?q=x&year=-", "year"),
        ("/search?q=x&year=1990-1995-1999", "year"),
        ("/search?q=x&decade=1995", "decade"),
        ("/search?q=x&decade=10000", "decade"),
        ("/search?q=x&genre=", "genre"),
        ("/search?q=x&genre=,", "genre"),
        ("/search?q=x&genre=%00", "genre"),
        ("/search?q=x&genre=" + "x" * 101, "genre"),
        ("/search?q=x" + "&genre=x" * 21, "genre"),
        ("/search?q=x&genre=" + "x," * 21, "genre"),
        ("/search?q=x&genre_mode=some", "genre_mode"),
        ("/search?q=x&language=english%20or%20so", "language"),
        ("/search?q=x&sort=title", "sort"),
        ("/search?q=x&order=up", "order"),
        ("/search?q=x&order=asc", "order"),
        ("/search?q=x&highlight=perhaps", "highlight"),
        ("/search/suggest", "q"),
        ("/search/suggest?q=%00", "q"),
        ("/search/suggest?q=" + "x" * 201, "q"),
        ("/search/suggest?q=x&limit=0", "limit"),
        ("/search/suggest?q=x&limit=21", "limit"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/api/v1"])
async def test_reads(api: httpx.AsyncClient, prefix: str, path: str, field: str) -> None:
    check_problem(await api.get(prefix + path), 422, field)


@pytest.mark.parametrize("path", ["/nothing", "/api/v1/nothing", "/api", "/movies/1/2/3", "/apiv1"])
async def test_an_unknown_route(api: httpx.AsyncClient, path: str) -> None:
    check_problem(await api.get(path), 404, "")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/search", "GET"),
        ("GET", "/events", "POST"),
        ("PUT", "/api/movies/register", "POST"),
        ("POST", "/movies", "GET"),
    ],
)
async def test_another_method(api: httpx.AsyncClient, method: str, path: str, allowed: str) -> None:
    response = await api.request(method, path)
    check_problem(response, 405, "")
    assert response.headers["allow"] == allowed


async def test_a_batch_of_more_items_than_events_fit_into_it(
    producer_api: httpx.AsyncClient, publisher: Any
) -> None:
    body = b"[" + b"0," * 500_000 + b"0]"
    answer = await producer_api.post("/events", content=body, headers={"content-type": BATCH})
    check_problem(answer, 413, "(body)")
    assert publisher.events == []
