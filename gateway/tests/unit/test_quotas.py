"""Counting: where a client stands, who a client is, and how limits are written."""

import random
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import httpx
import pytest
from gateway.addresses import ClientAddresses, subscriber
from gateway.quotas import LocalCounter, parse_limits, quota_of
from gateway.settings import Settings
from limits import parse
from pydantic import ValidationError


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_limit_is_kept_exactly_within_one_window() -> None:
    clock = Clock()
    counter = LocalCounter(parse("3/minute"), clock)
    quotas = [counter.hit("a") for _ in range(5)]
    assert [quota.exceeded for quota in quotas] == [False, False, False, True, True]
    assert [quota.remaining for quota in quotas] == [2, 1, 0, 0, 0]
    assert all(quota.limit == 3 for quota in quotas)
    assert not counter.hit("b").exceeded


@pytest.mark.parametrize("limit", ["1/minute", "3/minute", "10/minute", "7/10seconds", "2/second"])
def test_waiting_as_long_as_told_is_enough(limit: str) -> None:
    clock = Clock()
    counter = LocalCounter(parse(limit), clock)
    chance = random.Random(7)
    waited = 0
    for _ in range(2000):
        quota = counter.hit("a")
        if quota.exceeded:
            waited += 1
            assert quota.remaining == 0
            clock.now += quota.reset
            assert not counter.hit("a").exceeded
        clock.now += chance.random() * 0.3
    assert waited > 10


@pytest.mark.parametrize("limit", ["5/minute", "100/minute", "7/10seconds"])
def test_no_window_anywhere_holds_much_more_than_the_limit(limit: str) -> None:
    """Compared with all moments at which it was let through."""
    item = parse(limit)
    clock = Clock()
    counter = LocalCounter(item, clock)
    chance = random.Random(11)
    through: list[float] = []
    for _ in range(5000):
        clock.now += chance.random() * 2 * item.get_expiry() / item.amount / 3
        if not counter.hit("a").exceeded:
            through.append(clock.now)
    seconds = item.get_expiry()
    most = max(sum(start <= t < start + seconds for t in through) for start in through)
    # The window before counts as evenly spread, which is the only inexactness.
    assert item.amount <= most <= item.amount * 1.5
    rate = len(through) / (through[-1] - through[0]) * seconds
    assert rate <= item.amount * 1.1


def test_clients_are_forgotten_after_two_windows() -> None:
    clock = Clock()
    counter = LocalCounter(parse("5/minute"), clock)
    for number in range(1000):
        counter.hit(str(number))
    clock.now += 130
    counter.hit("x")
    held: dict[str, Any] = vars(counter)
    assert sum(len(value) for value in held.values() if isinstance(value, dict)) == 1  # pyright: ignore[reportUnknownArgumentType]


def test_reset_in_each_state() -> None:
    # (before, its seconds left, present), seconds left of the present window → seconds to wait.
    cases = [
        ((0, 0.0, 10), 12.0, 13),  # full: the window has to end
        ((10, 30.0, 5), 30.0, 1),  # half of the ten count: one less in a moment
        ((10, 30.0, 9), 30.0, 25),  # ... nine of them have to fade: 30 - 1 * 60 / 10 = 24 s
    ]
    for window, left, wait in cases:
        assert quota_of(10, 60.0, window, left, exceeded=True).reset == wait


@pytest.mark.parametrize("text", ["", "none", " NONE "])
def test_no_limit(text: str) -> None:
    assert parse_limits(text) == ()
    assert Settings(amqp_url="amqp://x/", limit_views_per_address=text)


def test_limits_as_they_are_written() -> None:
    found = [(i.amount, i.get_expiry()) for i in parse_limits("10/second; 60/15minutes")]
    assert found == [(10, 1), (60, 900)]


@pytest.mark.parametrize("text", ["many", "10", "10/fortnight", "-1/minute", "1.5/minute"])
def test_what_is_no_limit_stops_the_start(text: str) -> None:
    with pytest.raises(ValidationError, match="120/minute"):
        Settings(amqp_url="amqp://x/", limit_admin_per_user=text)


def test_proxies_that_are_no_networks_stop_the_start() -> None:
    with pytest.raises(ValidationError, match="trusted_proxies"):
        Settings(amqp_url="amqp://x/", trusted_proxies="proxy")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.1"], "192.0.2.1"),  # not from a trusted proxy
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.1"], "198.51.100.1"),  # the first is invented
        ("10.0.0.1", ["203.0.113.9", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.1, 10.9.9.9"], "198.51.100.1"),
        ("10.0.0.1", ["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
        ("10.0.0.1", ["198.51.100.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("::1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, \u0661\u0660.0.0.1"], "10.0.0.1"),
    ],
)
def test_where_a_request_comes_from(peer: str, forwarded: list[str], address: str) -> None:
    headers = [(b"x-forwarded-for", line.encode()) for line in forwarded]
    addresses = ClientAddresses([ip_network("10.0.0.0/8"), ip_network("::1/128")])
    assert addresses.of({"client": (peer, 1), "headers": headers}) == address


def test_without_trusted_proxies_the_peer_counts() -> None:
    headers = [(b"x-forwarded-for", b"198.51.100.1")]
    assert ClientAddresses().of({"client": ("127.0.0.1", 1), "headers": headers}) == "127.0.0.1"
    assert ClientAddresses().of({"client": None, "headers": headers}) == "unknown"


@pytest.mark.parametrize(
    ("address", "counts_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("unknown", "unknown"),
    ],
)
def test_who_an_address_counts_as(address: str, counts_as: str) -> None:
    assert subscriber(address) == counts_as


Run = Callable[..., Any]


async def test_views_are_limited_per_address_and_say_so(api_with: Run, publisher: Any) -> None:
    async with api_with(limit_views_per_address="3/minute") as api:
        answers = [await api.post("/movies/view", json={"tmdb_id": 1}) for _ in range(3)]
        assert [r.status_code for r in answers] == [202] * 3
        assert [r.headers["ratelimit-remaining"] for r in answers] == ["2", "1", "0"]
        assert {r.headers["ratelimit-limit"] for r in answers} == {"3"}
        assert all(0 < int(r.headers["ratelimit-reset"]) <= 61 for r in answers)
        for prefix in ("", "/api", "/api/v1"):
            check_limited(await api.post(f"{prefix}/movies/view", json={"tmdb_id": 1}), 3)
        # A bad body is refused for being too much before it is looked at.
        check_limited(await api.post("/movies/view", content=b"{"), 3)
        assert (await api.get("/ping")).status_code == 200
    assert len(publisher.published) == 3


def check_limited(response: httpx.Response, limit: int) -> None:
    assert response.status_code == 429
    assert response.headers["content-type"] == "application/problem+json"
    assert int(response.headers["retry-after"]) == int(response.headers["ratelimit-reset"]) >= 1
    assert response.headers["ratelimit-limit"] == str(limit)
    assert response.headers["ratelimit-remaining"] == "0"


async def test_a_key_has_a_limit_of_its_own(api_with: Run, rating: Any) -> None:
    keys = [{"X-API-Key": rating.new_key("views")} for _ in range(2)]
    settings = {"limit_views_per_address": "1/minute", "limit_views_per_key": "2/minute"}
    async with api_with(**settings) as api:
        for headers in keys:
            answers = [
                await api.post("/movies/view", json={"tmdb_id": 1}, headers=headers)
                for _ in range(3)
            ]
            assert [r.status_code for r in answers] == [202, 202, 429]


async def test_two_limits_at_once_and_the_tighter_is_told(api_with: Run) -> None:
    async with api_with(limit_views_per_address="4/second;5/hour") as api:
        answers = [await api.post("/movies/view", json={"tmdb_id": 1}) for _ in range(4)]
        assert [r.headers["ratelimit-limit"] for r in answers] == ["4"] * 4
        check_limited(await api.post("/movies/view", json={"tmdb_id": 1}), 4)


async def test_each_route_has_its_own_limit(
    api_with: Run, publisher: Any, signer: Any, rating: Any
) -> None:
    """Counted by each replica alone, as Redis is not there."""
    names = "commands_per_address", "events_per_key", "ratings_per_user", "admin_per_user"
    limits = {f"limit_{name}": "2/hour" for name in (*names, "signups_per_address")}
    key = {"X-API-Key": rating.new_key("events", "admin")}
    asks: list[tuple[str, str, dict[str, str]]] = [
        ("POST", "/movies/register", {}),
        ("POST", "/events", key),
        ("PUT", "/movies/5/rating", signer.bearer("user-1")),
        ("GET", "/admin/jobs", signer.bearer("user-2", "admin")),
        ("POST", "/users", {}),
    ]
    async with api_with(**limits) as api:
        for method, path, headers in asks:
            answers = [
                await api.request(method, path, headers=headers, content=b"") for _ in range(3)
            ]
            assert [r.status_code == 429 for r in answers] == [False, False, True], path
            assert [r.headers["ratelimit-remaining"] for r in answers] == ["1", "0", "0"]
            check_limited(answers[-1], 2)
        # Another user, and another key, is another client.
        for method, path, headers in (
            ("PUT", "/movies/5/rating", signer.bearer("user-3")),
            ("POST", "/events", {"X-API-Key": rating.new_key("events")}),
        ):
            response = await api.request(method, path, headers=headers, content=b"")
            assert response.status_code != 429
    assert publisher.published == []


async def test_what_is_refused_does_not_count(api_with: Run, signer: Any) -> None:
    async with api_with(limit_admin_per_user="2/hour") as api:
        for _ in range(5):
            assert (await api.get("/admin/jobs")).status_code == 401
            refused = await api.get("/admin/jobs", headers=signer.bearer("user-1"))
            assert refused.status_code == 403
        headers = signer.bearer("user-1", "admin")
        assert (await api.get("/admin/jobs", headers=headers)).status_code == 503


async def test_reads_are_limited_only_if_asked_for(api_with: Run) -> None:
    async with api_with() as api:
        assert "ratelimit-limit" not in (await api.get("/movies")).headers
    async with api_with(limit_reads_per_address="2/minute") as api:
        statuses = [
            (await api.get(path)).status_code for path in ("/movies", "/movies/5", "/search?q=x")
        ]
        assert statuses == [503, 503, 429]


async def test_a_network_of_ipv6_counts_as_one(api_with: Run) -> None:
    async with api_with(
        peer="10.0.0.1", trusted_proxies="10.0.0.0/8", limit_views_per_address="2/minute"
    ) as api:
        statuses = [
            (
                await api.post(
                    "/movies/view", json={"tmdb_id": 1}, headers={"X-Forwarded-For": address}
                )
            ).status_code
            for address in ("2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1")
        ]
    assert statuses == [202, 202, 429, 202]


async def test_attempts_to_sign_in_are_limited_per_account_and_address(api_with: Run) -> None:
    """The narrow limit first: who has used up their own attempts uses up nobody else's."""
    limits = {
        "limit_logins_per_account_and_address": "2/hour",
        "limit_logins_per_account": "5/hour",
        "limit_logins_per_address": "6/hour",
        "trusted_proxies": "10.0.0.0/8",
    }

    async def sign_in(name: str, address: str) -> int:
        form = {"grant_type": "password", "username": name, "password": "x" * 12}
        headers = {"X-Forwarded-For": address}
        return (await api.post("/auth/token", data=form, headers=headers)).status_code

    async with api_with(peer="10.0.0.1", **limits) as api:
        # Two of ten count for the account.
        first = [await sign_in("ann", "192.0.2.1") for _ in range(10)]
        assert first[:2] == [404, 404]
        assert first[2:] == [429] * 8
        assert [await sign_in("ann", "192.0.2.2") for _ in range(3)] == [404, 404, 429]
        assert [await sign_in("ann", "192.0.2.3") for _ in range(2)] == [404, 429]
        # Known or not, and however it is written, is nobody's to learn.
        assert await sign_in("ANN", "192.0.2.4") == 429
        assert [await sign_in(f"user{n}", "192.0.2.1") for n in range(5)] == [404] * 4 + [429]
