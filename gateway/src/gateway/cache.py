"""What the replicas share in Redis: answers, dropped by tags and never wrong because of a race.

An entry is `1|stored_at|fresh_until|generations\\n` followed by the body's bytes (times in seconds
since 1970). A tag's generation is a random token in a key of its own; dropping a tag replaces the
token. A reader takes the generations *before* it asks the service and stores them with the answer,
so an answer that was under way while its tag was dropped never counts as fresh. It stays as the
stale copy for when the service is away, until it is `KEEP` old, or what its reader says.

Redis being away is no error: lookups find nothing, stores do nothing, and a breaker lets a frozen
server cost one timeout in each pause. Drops that could not be done are repeated by `catch_up`.

Beside the answers: the first use of each Idempotency-Key, jobs accepted lately, and the channel
over which every replica hears what happens.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar, cast
from uuid import uuid4

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.breaker import Breaker

log = logging.getLogger(__name__)

KEEP: Final = 24 * 3600
REMEMBER: Final = 24 * 3600
# Tags outlive every entry that was stored under them.
_TAG_LIFE: Final = 2 * KEEP
_PREFIX: Final = "gateway:"
_ALL: Final = "all"
_MAX_OWED: Final = 10_000
_TIMEOUT: Final = 0.1
_PAUSE: Final = 2.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored answer; times in seconds since 1970."""

    stored_at: float
    fresh_until: float
    generations: bytes
    body: bytes

    def pack(self) -> bytes:
        """The bytes that Redis keeps."""
        head = f"1|{self.stored_at:.3f}|{self.fresh_until:.3f}|".encode()
        return head + self.generations + b"\n" + self.body

    @classmethod
    def unpack(cls, value: bytes) -> "Entry | None":
        """The entry in `value`, None when another version of this program wrote it."""
        head, _, body = value.partition(b"\n")
        match head.split(b"|"):
            case [b"1", stored_at, fresh_until, generations]:
                return cls(float(stored_at), float(fresh_until), generations, body)
            case _:
                return None


@dataclass(frozen=True, slots=True)
class Lookup:
    """What Redis had, and the generations that an answer read from now on is stored under."""

    entry: Entry | None
    generations: bytes

    @property
    def unchanged(self) -> bool:
        """Whether there is an entry, and nothing but time has made it old."""
        return self.entry is not None and self.entry.generations == self.generations


def connect(
    url: str, *, timeout: float = _TIMEOUT, connections: int = 256, wait: float = _TIMEOUT
) -> "Redis":
    """A client that does not retry by itself.

    It gives up when Redis has said nothing for `timeout` seconds, or when none of its `connections`
    has become free for `wait` seconds.
    """
    pool = BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType] -- untyped
        url,
        timeout=wait,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        max_connections=connections,
    )
    return Redis.from_pool(pool)


class Cache:
    """See the module's docstring. `client` is closed by `close`."""

    def __init__(self, client: "Redis", breaker: Breaker | None = None) -> None:
        self._client = client
        self._breaker = breaker or Breaker(_PAUSE)
        self._owed: set[str] = set()

    async def lookup(self, key: str, tags: Sequence[str]) -> Lookup | None:
        """The entry under `key` and the present generations of `tags`; None: Redis is away."""
        names = [_entry_key(key), _tag_key(_ALL), *(_tag_key(tag) for tag in tags)]
        values = await self._attempt(lambda: self._mget(names))
        if values is None:
            return None
        generations = b",".join(value or b"0" for value in values[1:])
        entry = Entry.unpack(values[0]) if values[0] is not None else None
        return Lookup(entry, generations)

    async def store(
        self, key: str, body: bytes, *, generations: bytes, ttl: float, keep: float = KEEP
    ) -> None:
        """Keep `body` for `keep` seconds, fresh for `ttl` seconds unless a tag is dropped."""
        if keep <= 0:
            return
        now = time.time()
        value = Entry(now, now + ttl, generations, body).pack()
        await self._attempt(lambda: self._set(_entry_key(key), value, keep))

    async def forget(self, key: str) -> None:
        """Drop one entry, its stale copy included."""
        await self._attempt(lambda: self._delete(_entry_key(key)))

    async def drop(self, tags: Collection[str]) -> None:
        """No answer stored under one of `tags` counts as fresh from now on.

        If Redis is away the tags are remembered for `catch_up`; too many of them become all.
        """
        if not tags:
            return
        names = [_tag_key(tag) for tag in tags]
        if await self._attempt(lambda: self._renew(names)) is None:
            self._owed |= set(tags)
            if len(self._owed) > _MAX_OWED:
                self._owed = {_ALL}

    async def catch_up(self) -> None:
        """Drop the tags that could not be dropped while Redis was away."""
        owed, self._owed = self._owed, set()
        await self.drop(owed)

    async def first_use(self, key: str, fingerprint: str) -> bool:
        """Whether `key` was never used with another fingerprint in the last 24 hours.

        True as well while Redis is away.
        """
        name = f"{_PREFIX}once:{key}"
        earlier = await self._attempt(lambda: self._set_once(name, fingerprint))
        return earlier is None or earlier == (fingerprint.encode(),) or earlier == (None,)

    async def claim(self, key: str, value: str) -> str | None:
        """Set `key` for 24 hours unless it is set; its earlier value, None if it had none.

        None as well while Redis is away.
        """
        earlier = await self._attempt(lambda: self._set_once(f"{_PREFIX}claim:{key}", value))
        return earlier[0].decode() if earlier is not None and earlier[0] is not None else None

    async def give_up_claim(self, key: str) -> None:
        """Let the next `claim` of `key` succeed, and count that this happened."""
        await self._attempt(lambda: self._count_and_release(key))

    async def given_up(self, key: str) -> int:
        """How often the claim to `key` was given up in the last 24 hours."""
        values = await self._attempt(lambda: self._mget([f"{_PREFIX}given-up:{key}"]))
        return int(values[0]) if values and values[0] is not None else 0

    async def remember_job(self, job_id: str, kind: str, accepted_at: str) -> None:
        """Keep for 24 hours that a job was accepted; its service may not have taken it yet."""
        value = f"{kind} {accepted_at}".encode()
        await self._attempt(lambda: self._set(f"{_PREFIX}job:{job_id}", value, REMEMBER))

    async def remembered_job(self, job_id: str) -> tuple[str, str] | None:
        """(kind, accepted at) of a job accepted in the last 24 hours, None: not known."""
        values = await self._attempt(lambda: self._mget([f"{_PREFIX}job:{job_id}"]))
        if not values or values[0] is None:
            return None
        kind, _, accepted_at = values[0].decode().partition(" ")
        return kind, accepted_at

    async def broadcast(self, channel: str, messages: Sequence[bytes]) -> None:
        """Publish to whoever listens at this moment; lost while Redis is away."""
        if messages:
            await self._attempt(lambda: self._publish(channel, messages))

    async def ping(self) -> None:
        """Raises RedisError or OSError when Redis does not answer."""
        await self._client.ping()  # pyright: ignore[reportUnknownMemberType]

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _attempt(self, call: Callable[[], Awaitable[T]]) -> T | None:
        if not self._breaker.allows():
            return None
        try:
            result = await call()
        except (TimeoutError, RedisError, OSError) as error:
            if self._breaker.failed():
                log.warning("Redis is away, reading without a cache", extra={"error": repr(error)})
            return None
        if self._breaker.succeeded():
            log.info("Redis is back")
        return result

    async def _mget(self, names: list[str]) -> list[bytes | None]:
        return cast("list[bytes | None]", await self._client.mget(names))

    async def _set(self, name: str, value: bytes, life: float) -> bool:
        await self._client.set(name, value, px=max(1, int(life * 1000)))
        return True

    async def _delete(self, name: str) -> bool:
        await self._client.delete(name)
        return True

    async def _renew(self, names: list[str]) -> bool:
        token = uuid4().hex[:16]
        pipeline = self._client.pipeline(transaction=False)
        for name in names:
            pipeline.set(name, token, ex=_TAG_LIFE)
        await pipeline.execute()
        return True

    async def _set_once(self, name: str, value: str) -> tuple[bytes | None]:
        # In a tuple, because None is also what a failed attempt gives.
        earlier = await self._client.set(name, value, nx=True, get=True, ex=REMEMBER)
        return (cast("bytes | None", earlier),)

    async def _count_and_release(self, key: str) -> bool:
        pipeline = self._client.pipeline(transaction=True)
        pipeline.incr(f"{_PREFIX}given-up:{key}")
        pipeline.expire(f"{_PREFIX}given-up:{key}", REMEMBER)
        pipeline.delete(f"{_PREFIX}claim:{key}")
        await pipeline.execute()
        return True

    async def _publish(self, channel: str, messages: Sequence[bytes]) -> bool:
        pipeline = self._client.pipeline(transaction=False)
        for message in messages:
            pipeline.publish(channel, message)  # pyright: ignore[reportUnknownMemberType] -- untyped
        await pipeline.execute()
        return True


def _entry_key(key: str) -> str:
    return f"{_PREFIX}entry:{key}"


def _tag_key(tag: str) -> str:
    return f"{_PREFIX}tag:{tag}"
