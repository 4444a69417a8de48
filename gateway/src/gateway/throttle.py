"""How often each client may do what: 429 beyond it.

The replicas count together, in Redis. While Redis is away, which a breaker finds out at the cost of
one short timeout in each pause, each goes on from what it has let through itself; so a limit then
is one of each replica. Views are always counted that way: a round trip for each would cost more
than the view does.
Redis is given digests, not addresses and names.

Where a request stands with the tightest of its limits is kept in its scope, and
`RateLimitMiddleware` says it in the headers of the answer, whatever that is:

    RateLimit-Limit: 120        how often in a window
    RateLimit-Remaining: 119    how often still
    RateLimit-Reset: 31         seconds until there is more again
"""

import hashlib
import logging
from collections.abc import Sequence
from typing import Any, Final

from limits import RateLimitItem
from limits.aio.storage import RedisStorage
from redis.exceptions import RedisError
from service_kit.http import ProblemError
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import metrics
from gateway.breaker import Breaker
from gateway.cache import connect
from gateway.quotas import LocalCounter, Quota, parse_limits, quota_of
from gateway.settings import Settings

log = logging.getLogger(__name__)

_PAUSE: Final = 2.0
# Few connections, so that a burst of requests is not one of connects as well, which take so long
# that Redis seems to be away.
_TIMEOUT: Final = 0.25
_CONNECTIONS: Final = 16
_WAIT: Final = 1.0
_KEY_PREFIX: Final = "gateway:limit"
_QUOTA: Final = "gateway.quota"


class Throttle:
    """The limits of the settings. Each method counts the request or raises 429 (ProblemError)."""

    def __init__(self, settings: Settings) -> None:
        shared = SharedCounts(settings.redis_url)
        self._shared = shared
        self._views_per_address = LocalLimit("views", settings.limit_views_per_address)
        self._views_per_key = LocalLimit("views-of-key", settings.limit_views_per_key)
        self._reads = SharedLimit("reads", settings.limit_reads_per_address, shared)
        self._commands = SharedLimit("commands", settings.limit_commands_per_address, shared)
        self._ratings = SharedLimit("ratings", settings.limit_ratings_per_user, shared)
        self._events = SharedLimit("events", settings.limit_events_per_key, shared)
        self._signups = SharedLimit("signups", settings.limit_signups_per_address, shared)
        self._admin = SharedLimit("admin", settings.limit_admin_per_user, shared)
        self._logins_per_address = SharedLimit("logins", settings.limit_logins_per_address, shared)
        self._logins_per_account = SharedLimit(
            "logins-of-account", settings.limit_logins_per_account, shared
        )
        self._logins_per_both = SharedLimit(
            "logins-of-account-from", settings.limit_logins_per_account_and_address, shared
        )

    def views(self, request: Request, address: str) -> None:
        """A view that nobody or a user sends."""
        self._views_per_address.hit(request, address)

    def views_of_key(self, request: Request, key_id: str) -> None:
        """A view that is sent with an API key."""
        self._views_per_key.hit(request, key_id)

    async def reads(self, request: Request, address: str) -> None:
        """An open read."""
        await self._reads.hit(request, address)

    async def commands(self, request: Request, address: str) -> None:
        """A film registered or refreshed."""
        await self._commands.hit(request, address)

    async def ratings(self, request: Request, user_id: str) -> None:
        """A rating given or taken back."""
        await self._ratings.hit(request, user_id)

    async def events(self, request: Request, actor: str) -> None:
        """A batch of events; `actor` is who sends it."""
        await self._events.hit(request, actor)

    async def signups(self, request: Request, address: str) -> None:
        """An account opened."""
        await self._signups.hit(request, address)

    async def logins(self, request: Request, account: str | None, address: str) -> None:
        """An attempt to prove to be `account`, known or not; None: the request names none.

        The narrowest limit is asked first, so that an address that has used up its own attempts
        uses up none of the account's.
        """
        if account is not None:
            await self._logins_per_both.hit(request, f"{account}\n{address}")
        await self._logins_per_address.hit(request, address)
        if account is not None:
            await self._logins_per_account.hit(request, account)

    async def admin(self, request: Request, actor: str) -> None:
        """A request to a route for operators."""
        await self._admin.hit(request, actor)

    async def close(self) -> None:
        """Close the connections."""
        await self._shared.close()


class SharedCounts:
    """The replicas' counts in Redis, as long as it answers."""

    def __init__(self, redis_url: str) -> None:
        self._client = connect(redis_url, timeout=_TIMEOUT, connections=_CONNECTIONS, wait=_WAIT)
        self._breaker = Breaker(_PAUSE)
        options: Any = {"connection_pool": self._client.connection_pool}
        self._storage = RedisStorage(
            f"async+{redis_url}", implementation="redispy", key_prefix=_KEY_PREFIX, **options
        )

    async def hit(self, item: RateLimitItem, key: str) -> Quota | None:
        """Count one more under `key`, unless that is too many; None: Redis is away."""
        if not self._breaker.allows():
            return None
        seconds = item.get_expiry()
        try:
            counted = await self._storage.acquire_sliding_window_entry(key, item.amount, seconds)
            before, before_left, present, present_left = await self._storage.get_sliding_window(
                key, seconds
            )
        except (TimeoutError, RedisError, OSError) as error:
            if self._breaker.failed():
                log.warning("Redis is away, counting alone", extra={"error": repr(error)})
            return None
        if self._breaker.succeeded():
            log.info("Redis is back, counting together")
        # The storage keeps a window for another one, in which it is the one before.
        left = max(0.0, present_left - seconds)
        window = (before, before_left, present)
        return quota_of(item.amount, float(seconds), window, left, exceeded=not counted)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class LocalLimit:
    """A limit that each replica keeps for itself."""

    def __init__(self, name: str, written: str) -> None:
        self._name = name
        self._counters = [LocalCounter(item) for item in parse_limits(written)]

    def hit(self, request: Request, client: str) -> None:
        """Count, or raise 429."""
        for counter in self._counters:
            _settle(request, self._name, counter.hit(client))


class SharedLimit:
    """A limit that the replicas keep together; alone while Redis is away."""

    def __init__(self, name: str, written: str, shared: SharedCounts) -> None:
        self._name = name
        self._shared = shared
        self._items: Sequence[tuple[RateLimitItem, LocalCounter]] = [
            (item, LocalCounter(item)) for item in parse_limits(written)
        ]

    async def hit(self, request: Request, client: str) -> None:
        """Count, or raise 429."""
        if not self._items:
            return
        digest = hashlib.blake2b(client.encode(errors="replace"), digest_size=12).hexdigest()
        for item, alone in self._items:
            quota = await self._shared.hit(item, item.key_for(self._name, digest))
            # Counted here as well, so that nobody begins anew when Redis goes away.
            if quota is None or not quota.exceeded:
                mine = alone.hit(digest)
                quota = quota or mine
            _settle(request, self._name, quota)


def _settle(request: Request, name: str, quota: Quota) -> None:
    known: Quota | None = request.scope.get(_QUOTA)
    if known is None or quota.exceeded or quota.remaining < known.remaining:
        request.scope[_QUOTA] = quota
    if quota.exceeded:
        metrics.LIMITED.labels(name).inc()
        raise ProblemError(
            429,
            "Too many requests",
            f"At most {quota.limit} are taken; try again in {quota.reset} s.",
            headers={"Retry-After": str(quota.reset)},
        )


class RateLimitMiddleware:
    """Puts the RateLimit headers on the answers of limited requests."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_quota(message: Message) -> None:
            if message["type"] == "http.response.start":
                quota: Quota | None = scope.get(_QUOTA)
                if quota is not None:
                    message["headers"] = [
                        *message["headers"],
                        (b"ratelimit-limit", b"%d" % quota.limit),
                        (b"ratelimit-remaining", b"%d" % quota.remaining),
                        (b"ratelimit-reset", b"%d" % quota.reset),
                    ]
            await send(message)

        await self._app(scope, receive, with_quota)
