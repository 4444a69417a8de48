"""Cache-aside reading: Redis, then the owning service, then the stale copy.

Identical reads that run at the same time in this process share one lookup and one request, so an
answer that expires under load is fetched once. Where a read has a `grace`, nobody waits for that:
an answer that only time has made old, and not for longer, is given once more and read anew in the
background (stale-while-revalidate, RFC 5861). What an event has made old is not.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

from service_kit.http import ProblemError

from gateway import metrics
from gateway.cache import KEEP, Cache, Lookup
from gateway.readers import RETRY_AFTER, ServiceAwayError

LISTS: Final = "lists"
CATALOGUE: Final = "catalogue"
USERS: Final = "users"
COMPUTED: Final = "computed"

Source = Literal["hit", "miss", "stale"]


def movie_tag(movie_id: str) -> str:
    """The tag of all answers about one film."""
    return f"movie:{movie_id}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A service's answer; a makeshift one (`keep` False) does not replace a good copy.

    `ttl` is how long it counts as fresh if not as long as the read says, in seconds.
    """

    body: bytes
    keep: bool = True
    ttl: float | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """One thing to read.

    Attributes:
        name: of the route, for the metrics.
        key: identifies the answer; equal keys have equal answers.
        tags: what drops it.
        ttl: seconds that it counts as fresh.
        load: asks the service.
        grace: seconds beyond `ttl`, for what takes long to read and may be a little older.
        personal: holds what a person wrote or is called; then nothing of it is kept any longer than
            it is fresh, not even for when the service is away.
    """

    name: str
    key: str
    tags: tuple[str, ...]
    ttl: float
    load: Callable[[], Awaitable[Loaded]]
    grace: float = 0.0
    personal: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON object as bytes; `age` in seconds."""

    body: bytes
    source: Source
    age: float = 0.0


class CachedReads:
    """Resolves reads against one cache."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._flights: dict[str, asyncio.Task[Answer]] = {}
        self._renewals: dict[str, asyncio.Task[Answer]] = {}

    async def answer(self, read: Read) -> Answer:
        """The answer, fresh if possible.

        Raises:
            ProblemError: 503 when the service is away and no copy is kept; what the service
                refuses as it refused it.
        """
        flight = self._flights.get(read.key)
        if flight is None:
            flight = asyncio.create_task(self._resolve(read), name=f"read {read.key}")
            self._flights[read.key] = flight
            flight.add_done_callback(lambda done: _landed(self._flights, read.key, done))
        # Shielded: a client that goes away must not take the others' answer with it.
        answer = await asyncio.shield(flight)
        metrics.CACHE_READS.labels(read.name, answer.source).inc()
        return answer

    async def close(self) -> None:
        """Cancel what is still being read."""
        flights = [*self._flights.values(), *self._renewals.values()]
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def _resolve(self, read: Read) -> Answer:
        found = await self._cache.lookup(read.key, read.tags)
        now = time.time()
        if (
            found is None
            or (entry := found.entry) is None
            or not found.unchanged
            or now >= entry.fresh_until + read.grace
        ):
            return await self._load(read, found)
        if now >= entry.fresh_until and read.key not in self._renewals:
            renewal = asyncio.create_task(self._load(read, found), name=f"renew {read.key}")
            self._renewals[read.key] = renewal
            renewal.add_done_callback(lambda done: _landed(self._renewals, read.key, done))
        return Answer(entry.body, "hit", max(0.0, now - entry.stored_at))

    async def _load(self, read: Read, found: Lookup | None) -> Answer:
        try:
            loaded = await read.load()
        except ServiceAwayError as error:
            return _stale(None if read.personal else found, time.time(), error)
        except ProblemError as error:
            if error.status in (404, 410) and found is not None and found.entry is not None:
                await self._cache.forget(read.key)
            raise
        if found is not None and loaded.keep:
            ttl = read.ttl if loaded.ttl is None else min(read.ttl, loaded.ttl)
            await self._cache.store(
                read.key,
                loaded.body,
                generations=found.generations,
                ttl=ttl,
                keep=ttl if read.personal else KEEP,
            )
        return Answer(loaded.body, "miss")


def _landed(
    flights: dict[str, asyncio.Task[Answer]], key: str, flight: asyncio.Task[Answer]
) -> None:
    del flights[key]
    if not flight.cancelled():
        flight.exception()  # nobody may be left to take it


def _stale(found: Lookup | None, now: float, error: ServiceAwayError) -> Answer:
    if found is None or found.entry is None:
        raise ProblemError(
            503,
            "Service not available",
            f"{error.service} does not answer and no earlier answer is kept; try again shortly.",
            headers={"Retry-After": RETRY_AFTER},
        ) from error
    # Every cached body is a JSON object, so a member can be put in front without parsing it.
    body = b'{"stale":true,' + found.entry.body[1:]
    return Answer(body, "stale", max(0.0, now - found.entry.stored_at))
