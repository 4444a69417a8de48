"""Messages of a dump as lines of JSON."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from local_stack.dump.exporting import store_base
from local_stack.dump.messages import from_json, to_json, with_address

MOVE = ("file:///old/uploads/", "file:///new%20home/uploads/")


@pytest.mark.parametrize(
    "value",
    [
        "Amélie",
        7,
        -(2**40),
        1.5,
        True,
        None,
        b"\x00\xff",
        datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
        [1, "two", [b"3"]],
        {"count": 2, "time": datetime(2026, 1, 1, tzinfo=UTC), "queues": ["a", {"bytes": "b"}]},
        {"bytes": "not bytes"},
        {"time": "not a time"},
        {},
    ],
)
def test_a_header_survives(value: Any) -> None:
    assert from_json(json.loads(json.dumps(to_json(value)))) == value


def test_a_time_without_zone_is_utc() -> None:
    plain = to_json(datetime(2026, 3, 4, 5, 6))  # noqa: DTZ001 - as the client library gives it
    assert from_json(plain) == datetime(2026, 3, 4, 5, 6, tzinfo=UTC)


def test_the_address_of_an_upload_moves_with_it() -> None:
    body = (
        b'{"id":"1","data":{"uri":"file:///old/uploads/upload-1","filename":"Am\xc3\xa9lie.csv"}}'
    )
    moved = json.loads(with_address(body, MOVE))
    assert moved == {
        "id": "1",
        "data": {"uri": "file:///new%20home/uploads/upload-1", "filename": "Amélie.csv"},
    }


@pytest.mark.parametrize(
    "body",
    [
        b"not json \xff",
        b"[]",
        b'{"data": 3}',
        b'{"data": {"uri":  5}}',
        b'{"data": {"uri":  "s3://elsewhere/upload-1"}}',
        b'{"data":  {"movie_id": "tmdb-1"}}',
        b'{"data": {"uri": "file:///older/uploads/x"}}',
    ],
)
def test_other_bodies_stay_byte_for_byte(body: bytes) -> None:
    assert with_address(body, MOVE) is body


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("file:///a/b", "file:///a/b/"),
        ("file:///a%20b/", "file:///a%20b/"),
        ("file:///a b", "file:///a%20b/"),
        ("s3://bucket/prefix", "s3://bucket/prefix/"),
        ("s3://bucket/", "s3://bucket/"),
    ],
)
def test_what_addresses_begin_with(url: str, base: str) -> None:
    assert store_base(url) == base
