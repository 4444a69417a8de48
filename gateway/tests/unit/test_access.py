"""Whose view it is; keys that change, are revoked, or cannot be asked about."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from gateway.keys import ApiKeys, TokenKeys
from moviemetric_contracts import MovieViewed
from service_kit.http import ProblemError
from service_kit.tokens import InvalidTokenError

Run = Callable[..., Any]
ACCOUNT = "user-" + "0" * 32


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize("prefix", ["/api/v1", "/api", ""])
async def test_a_view_with_a_token_is_its_users(
    api: httpx.AsyncClient, publisher: Any, signer: Any, prefix: str
) -> None:
    path = f"{prefix}/movies/view"
    for role in ("user", "admin"):
        headers = signer.bearer(ACCOUNT, role)
        own = await api.post(path, json={"tmdb_id": 1}, headers=headers)
        named = await api.post(path, json={"tmdb_id": 1, "user_id": ACCOUNT}, headers=headers)
        other = await api.post(path, json={"tmdb_id": 1, "user_id": "user-2"}, headers=headers)
        stranger = await api.post(path, json={"tmdb_id": 1, "user_id": "u-1"}, headers=headers)
        statuses = [answer.status_code for answer in (own, named, other, stranger)]
        assert statuses == [202, 202, 403, 403]
        assert "www-authenticate" in other.headers
        views = [event.data for event in publisher.published]
        assert {(type(view), view.user_id) for view in views} == {(MovieViewed, ACCOUNT)}
        assert len(views) == 2
        publisher.published.clear()


async def test_nobody_speaks_for_an_account(
    api: httpx.AsyncClient, publisher: Any, rating: Any
) -> None:
    body = {"tmdb_id": 1, "user_id": ACCOUNT}
    refused = await api.post("/movies/view", json=body)
    assert refused.status_code == 403
    assert "user_id" in refused.json()["detail"]
    assert publisher.published == []
    key = {"X-API-Key": rating.new_key("views")}
    assert (await api.post("/movies/view", json=body, headers=key)).status_code == 202
    assert (await api.post("/movies/view", json={**body, "user_id": "u-1"})).status_code == 202
    assert [event.data.user_id for event in publisher.published] == [ACCOUNT, "u-1"]


async def test_the_same_idempotency_key_of_two_users_is_two_views(
    api: httpx.AsyncClient, publisher: Any, signer: Any
) -> None:
    for user in ("user-1", "user-2", "user-1"):
        headers = {**signer.bearer(user), "Idempotency-Key": "k"}
        answer = await api.post("/movies/view", json={"tmdb_id": 1}, headers=headers)
        assert answer.status_code == 202
    first, second, again = (event.id for event in publisher.published)
    assert first == again != second


async def test_public_keys_are_fetched_once_and_not_for_each_request(
    api: httpx.AsyncClient, signer: Any, rating: Any
) -> None:
    rating.delay = 0.05
    headers = signer.bearer("user-1", "admin")
    answers = await asyncio.gather(
        *(api.post("/movies/view", json={"tmdb_id": 1}, headers=headers) for _ in range(20))
    )
    assert {answer.status_code for answer in answers} == {202}
    assert rating.requests == ["/.well-known/jwks.json"]


async def with_client(url: str, use: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
        await use(client)


async def test_a_new_public_key_is_taken_up_and_not_asked_for_at_will(
    signer: Any, rating: Any, clock: Clock
) -> None:
    newer = type(signer)()

    async def use(client: httpx.AsyncClient) -> None:
        keys = TokenKeys(client, clock)
        assert (await keys.believe(signer.token("user-1"))).user_id == "user-1"
        for _ in range(20):
            with pytest.raises(InvalidTokenError):
                await keys.believe(newer.token())
        assert len(rating.requests) == 1  # five seconds have not gone by
        clock.now += 5.1
        rating.public_keys = [newer.jwk, signer.jwk]
        assert (await keys.believe(newer.token("user-2"))).user_id == "user-2"
        assert (await keys.believe(signer.token("user-1"))).user_id == "user-1"
        assert len(rating.requests) == 2
        await keys.close()

    await with_client(rating.url, use)


async def test_known_public_keys_go_on_while_their_service_is_away(
    signer: Any, rating: Any, clock: Clock
) -> None:
    async def use(client: httpx.AsyncClient) -> None:
        keys = TokenKeys(client, clock)
        await keys.believe(signer.token())
        await rating.stop()
        clock.now += 3600
        assert (await keys.believe(signer.token())).user_id == "user-1"
        with pytest.raises(InvalidTokenError):
            await keys.believe(type(signer)().token())
        rating.public_keys = [type(signer)().jwk]
        await rating.start()
        clock.now += 301
        # The old key is good for the request that finds it old, which waits for nothing.
        await keys.believe(signer.token())
        async with asyncio.timeout(30):
            while True:
                try:
                    await keys.believe(signer.token())
                except InvalidTokenError:
                    break
                await asyncio.sleep(0.01)
        await keys.close()

    await with_client(rating.url, use)


async def test_no_public_key_at_all_is_503_and_nobody_waits_long(
    api: httpx.AsyncClient, publisher: Any, signer: Any, rating: Any
) -> None:
    await rating.stop()
    for _ in range(3):
        answer = await api.post("/admin/ingest/run", headers=signer.bearer("user-1", "admin"))
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) >= 1
    assert (await api.post("/movies/view", json={"tmdb_id": 1})).status_code == 202
    assert [event.type for event in publisher.published] == ["movie.viewed.v1"]


@pytest.mark.parametrize("answer", [[], {"keys": "x"}, "x", None, {"keys": []}])
async def test_what_is_no_key_set_lets_nobody_in(
    signer: Any, rating: Any, clock: Clock, answer: Any
) -> None:
    rating.public_keys = answer["keys"] if isinstance(answer, dict) else answer

    async def use(client: httpx.AsyncClient) -> None:
        keys = TokenKeys(client, clock)
        with pytest.raises(ProblemError) as caught:
            await keys.believe(signer.token())
        assert caught.value.status == 503
        rating.public_keys = [signer.jwk]
        clock.now += 1.1
        assert (await keys.believe(signer.token())).user_id == "user-1"
        await keys.close()

    await with_client(rating.url, use)


async def test_a_key_is_believed_for_five_seconds(rating: Any, clock: Clock) -> None:
    key = rating.new_key("events")

    async def use(client: httpx.AsyncClient) -> None:
        keys = ApiKeys(client, clock)
        found = await asyncio.gather(*(keys.believe(key) for _ in range(10)))
        assert {item.scopes for item in found if item} == {frozenset({"events"})}
        assert len(rating.requests) == 1
        rating.revoke(key)
        clock.now += 4.9
        assert await keys.believe(key) is not None
        clock.now += 0.2
        assert await keys.believe(key) is None
        assert len(rating.requests) == 2
        await keys.close()

    await with_client(rating.url, use)


async def test_a_bad_key_is_asked_about_again_after_a_second(rating: Any, clock: Clock) -> None:
    key = rating.new_key("events")
    known = dict(rating.api_keys)
    rating.revoke(key)

    async def use(client: httpx.AsyncClient) -> None:
        keys = ApiKeys(client, clock)
        for _ in range(5):
            assert await keys.believe(key) is None
        assert len(rating.requests) == 1
        rating.api_keys = known
        clock.now += 1.1
        assert await keys.believe(key) is not None
        await keys.close()

    await with_client(rating.url, use)


async def test_the_secret_is_not_sent(rating: Any, clock: Clock) -> None:
    key = rating.new_key("events")
    secret = key.split("_", 2)[2]

    async def use(client: httpx.AsyncClient) -> None:
        keys = ApiKeys(client, clock)
        assert await keys.believe(key) is not None
        assert await keys.believe(key[:-1] + "A") is None
        await keys.close()

    await with_client(rating.url, use)
    sent = [request.target.encode() + request.body for request in rating.received]
    assert len(sent) == 2
    assert not any(secret.encode() in text for text in sent)


async def test_keys_that_cannot_be_asked_about_are_503(
    api: httpx.AsyncClient, publisher: Any, rating: Any
) -> None:
    key = {"X-API-Key": rating.new_key("views")}
    rating.status = 500
    assert (await api.post("/movies/view", json={"tmdb_id": 1}, headers=key)).status_code == 503
    await rating.stop()
    for _ in range(3):
        answer = await api.post("/movies/view", json={"tmdb_id": 1}, headers=key)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) >= 1
    assert publisher.published == []
