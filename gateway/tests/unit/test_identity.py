"""Event ids and what headers give to an event."""

import pytest
from gateway.identity import RequestIdentity
from service_kit import ProblemError


def test_the_same_key_on_the_same_route_is_the_same_event() -> None:
    identity = RequestIdentity.from_headers([(b"idempotency-key", b"k-1")])
    # Fixed for ever: a client may retry across an update of the gateway.
    assert identity.event_id("/movies/view") == "e76beaf9-dc43-5191-98f5-48888464b787"
    assert identity.event_id("/movies/view") == identity.event_id("/movies/view")
    assert identity.event_id("/movies/view") != identity.event_id("/movies/register")
    assert identity.event_id("/movies/view", "1") == identity.event_id("/movies/view", "1")
    assert identity.event_id("/movies/view", "1") != identity.event_id("/movies/view", "2")
    other = RequestIdentity.from_headers([(b"idempotency-key", b"k-2")])
    assert identity.event_id("/movies/view") != other.event_id("/movies/view")


def test_without_a_key_every_request_is_an_event_of_its_own() -> None:
    identity = RequestIdentity.from_headers([])
    assert identity.event_id("/movies/view") != identity.event_id("/movies/view")


@pytest.mark.parametrize("key", [b"", b"   ", b"x" * 201, b"a\tb", "käse".encode(), b"\xff"])
def test_an_unusable_key_is_refused(key: bytes) -> None:
    with pytest.raises(ProblemError) as caught:
        RequestIdentity.from_headers([(b"idempotency-key", key)])
    assert caught.value.status == 422
    assert caught.value.errors is not None
    assert caught.value.errors[0]["field"] == "Idempotency-Key"


def test_the_longest_key_is_taken() -> None:
    identity = RequestIdentity.from_headers([(b"idempotency-key", b"x" * 200)])
    assert identity.idempotency_key == "x" * 200


def test_correlation_id_comes_before_request_id() -> None:
    headers = [(b"x-request-id", b"r"), (b"x-correlation-id", b"c")]
    assert RequestIdentity.from_headers(headers).correlation_id == "c"
    assert RequestIdentity.from_headers(headers[:1]).correlation_id == "r"


@pytest.mark.parametrize("value", [b"x" * 201, b"a\x01b", b"\xff", b" "])
def test_an_unusable_correlation_id_is_ignored(value: bytes) -> None:
    assert RequestIdentity.from_headers([(b"x-correlation-id", value)]).correlation_id is None


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        (b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", False),
        (b"00-zzf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", False),
        (b"junk", False),
    ],
)
def test_only_a_readable_traceparent_is_passed_on(value: bytes, kept: bool) -> None:
    identity = RequestIdentity.from_headers([(b"traceparent", value)])
    assert identity.traceparent == (value.decode() if kept else None)
