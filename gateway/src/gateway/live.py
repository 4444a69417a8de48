"""Live news for those who listen: from the queue to every replica, and from there to its streams.

    gateway.cache queue ─► one replica ─► Redis channel ─► every replica ─► its streams

A message on the channel is one JSON object `{"event": name, "data": {...}}`. A replica subscribes
while it has streams, with one connection however many they are. Nothing is kept: what happens while
nobody listens, or while Redis is away, is not heard, and a stream says so in a comment.

Replicas that take from the queue side by side may tell things in another order than they happened.
News of a job that is older than what was told of it is left out; a trend bears its `revision`.

A stream's client that reads too slowly loses the oldest events, and is told how many.
"""

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from moviemetric_contracts import Event, JobChanged, TrendUpdated
from pydantic_core import from_json, to_json
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from service_kit.http import ProblemError

from gateway import metrics

log = logging.getLogger(__name__)

CHANNEL: Final = "gateway:live"
RETRY_AFTER: Final = "5"
# Bounds one event on the wire; a trend.updated has up to 5000 entries.
_ENTRIES: Final = 200
_MAX_WAITING: Final = 1024 * 1024
_CONNECT_TIMEOUT: Final = 2.0
_SILENCE: Final = 5.0
_PAUSE: Final = 1.0
_GREETING_TIMEOUT: Final = 1.0
_UNUSED: Final = 10.0
_CLOSE_ATTEMPTS: Final = 6
_LISTENING: Final = "listening"
_AWAY: Final = "Redis is away: no news until further notice"

# States of a job before its end, in their order.
_STEPS: Final = {"queued": 0, "running": 1}

EventName = Literal["trend", "job"]


def messages_of(events: Sequence[Event[Any]]) -> list[bytes]:
    """What the channel carries of these events."""
    messages: list[bytes] = []
    for event in events:
        match event.data:
            case JobChanged() as job:
                messages.append(_message("job", job.model_dump(mode="json")))
            case TrendUpdated(as_of=as_of, revision=revision, entries=entries):
                films = [
                    {
                        "movie_id": entry.movie_id,
                        "final_trend_score": entry.score,
                        "rank_key": entry.rank_key,
                        "views": entry.views,
                    }
                    for entry in entries
                ]
                head = {"as_of": as_of, "revision": revision}
                messages += [
                    _message("trend", {**head, "entries": films[start : start + _ENTRIES]})
                    for start in range(0, len(films), _ENTRIES)
                ]
            case _:
                pass
    return messages


def _message(event: EventName, data: dict[str, Any]) -> bytes:
    return to_json({"event": event, "data": data})


def sse(event: str, data: bytes) -> bytes:
    """One server-sent event; `data` is JSON, which has no line ends of its own."""
    return b"event: " + event.encode() + b"\ndata: " + data + b"\n\n"


def comment(text: str) -> bytes:
    """A line that clients skip."""
    return b": " + text.encode() + b"\n\n"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which news a stream is for; an empty set of ids is all of them."""

    events: frozenset[str] = frozenset({"trend", "job"})
    job_ids: frozenset[str] = frozenset()
    movie_ids: frozenset[str] = frozenset()

    def part_of(self, event: str, data: dict[str, Any]) -> dict[str, Any] | None:
        """What of `data` this stream is for, None if nothing."""
        if event not in self.events:
            return None
        if event == "job":
            return data if not self.job_ids or data.get("job_id") in self.job_ids else None
        if not self.movie_ids:
            return data
        entries = [entry for entry in data["entries"] if entry["movie_id"] in self.movie_ids]
        return {**data, "entries": entries} if entries else None


class Listener:
    """What one stream still has to say, bounded in bytes."""

    def __init__(self, wanted: Wanted, max_waiting: int = _MAX_WAITING) -> None:
        self.wanted = wanted
        self._max_waiting = max_waiting
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        self._ended = False
        self._told_up: bool | None = None
        self._wake = asyncio.Event()

    def tell_state(self, *, up: bool) -> None:
        """Say whether news is heard, unless that has been said."""
        if self._told_up is not up:
            self._told_up = up
            self.offer(comment(_LISTENING if up else _AWAY))

    @property
    def greeted(self) -> bool:
        """Whether it has been said at all if news is heard."""
        return self._told_up is not None

    def offer(self, chunk: bytes) -> None:
        """Say this next; the oldest is dropped when too much waits."""
        self._waiting.append(chunk)
        self._size += len(chunk)
        while self._size > self._max_waiting and len(self._waiting) > 1:
            oldest = self._waiting.popleft()
            self._size -= len(oldest)
            self._dropped += not oldest.startswith(b":")
        self._wake.set()

    def end(self) -> None:
        """Say what waits, and then no more."""
        self._ended = True
        self._wake.set()

    async def take(self, seconds: float) -> bytes | None:
        """What is to be said now; a comment after `seconds` of silence, None at the end."""
        if not self._waiting and not self._ended:
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
        if not self._waiting:
            return None if self._ended else comment("still here")
        chunks = [] if not self._dropped else [sse("dropped", b'{"count":%d}' % self._dropped)]
        self._dropped = 0
        chunks += self._waiting
        self._waiting.clear()
        self._size = 0
        return b"".join(chunks)


class JobOrder:
    """Knows the jobs told of last, so that none goes back. A job's `done` only grows."""

    def __init__(self, max_jobs: int = 1000) -> None:
        self._max_jobs = max_jobs
        self._told: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def advances(self, data: dict[str, Any]) -> bool:
        """Whether `data` is at least as new as what was told of its job; remembers it if so."""
        job_id = str(data["job_id"])
        progress = (_STEPS.get(str(data["state"]), len(_STEPS)), int(data["done"]))
        if progress < self._told.get(job_id, progress):
            return False
        self._told[job_id] = progress
        self._told.move_to_end(job_id)
        if len(self._told) > self._max_jobs:
            self._told.popitem(last=False)
        return True


class LiveNews:
    """The streams of this replica and its subscription.

    Args:
        redis_url: where the channel is.
        max_streams: more are refused with 503.
    """

    def __init__(self, redis_url: str, *, max_streams: int) -> None:
        self._client = Redis.from_url(  # pyright: ignore[reportUnknownMemberType] -- untyped
            redis_url,
            socket_connect_timeout=_CONNECT_TIMEOUT,
            socket_timeout=_CONNECT_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
        )
        self._max_streams = max_streams
        self._listeners: set[Listener] = set()
        self._job_order = JobOrder()
        self._subscription: asyncio.Task[None] | None = None
        self._subscribed = asyncio.Event()
        self._ending = False

    def attach(self, wanted: Wanted) -> Listener:
        """A listener that hears from now on; `detach` it.

        Raises:
            ProblemError: 503, too many, or the service is stopping.
        """
        if self._ending or len(self._listeners) >= self._max_streams:
            why = "The service is stopping" if self._ending else "Too many streams are open"
            raise ProblemError(
                503, "No stream", f"{why}; try again.", headers={"Retry-After": RETRY_AFTER}
            )
        listener = Listener(wanted)
        self._listeners.add(listener)
        metrics.STREAMS.set(len(self._listeners))
        if self._subscription is None or self._subscription.done():
            self._subscription = asyncio.create_task(self._keep_subscribed(), name="live news")
        return listener

    async def detach(self, listener: Listener) -> None:
        """Forget the listener. Without any, the subscription ends after a while."""
        self._listeners.discard(listener)
        metrics.STREAMS.set(len(self._listeners))

    async def greet(self, listener: Listener) -> None:
        """Returns when `listener` hears the news, or after a moment; it is told which."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_GREETING_TIMEOUT):
                await self._subscribed.wait()
        listener.tell_state(up=self._subscribed.is_set())

    def end(self) -> None:
        """End all streams and open no more: the service stops."""
        self._ending = True
        for listener in self._listeners:
            listener.end()

    async def close(self) -> None:
        """End everything and close the connection."""
        self.end()
        self._listeners.clear()
        task = self._subscription
        # The client library swallows a cancellation that comes while it connects.
        for _ in range(_CLOSE_ATTEMPTS):
            if task is None or task.done():
                break
            task.cancel()
            await asyncio.wait({task}, timeout=0.5)
        await self._client.aclose()

    async def _keep_subscribed(self) -> None:
        while self._listeners:
            try:
                async with self._channel() as channel:
                    await self._relay(channel)
                    self._set_state(up=False)
                continue
            except (TimeoutError, RedisError, OSError) as error:
                if self._subscribed.is_set():
                    log.warning("live news is interrupted", extra={"error": repr(error)})
                self._set_state(up=False)
            await asyncio.sleep(_PAUSE)

    @asynccontextmanager
    async def _channel(self) -> AsyncGenerator[PubSub]:
        channel = self._client.pubsub()  # pyright: ignore[reportUnknownMemberType]
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                await channel.subscribe(CHANNEL)  # pyright: ignore[reportUnknownMemberType]
            yield channel
        finally:
            with suppress(TimeoutError, RedisError, OSError):
                async with asyncio.timeout(_CONNECT_TIMEOUT):
                    await channel.aclose()

    async def _relay(self, channel: PubSub) -> None:
        """Returns when nobody has listened for a while; raises when Redis is away."""
        # A frozen server closes nothing: after a silence it has to answer a ping.
        probed = False
        needed = time.monotonic()
        while self._listeners or time.monotonic() - needed < _UNUSED:
            if self._listeners:
                needed = time.monotonic()
            message = await _next_message(channel)
            if message is None:
                if probed:
                    msg = "no answer to a ping"
                    raise TimeoutError(msg)
                probed = True
                async with asyncio.timeout(_CONNECT_TIMEOUT):
                    await channel.ping()  # pyright: ignore[reportUnknownMemberType]
                continue
            probed = False
            if message["type"] == "subscribe":
                self._set_state(up=True)
            elif message["type"] == "message":
                self._spread(message["data"])

    def _spread(self, message: bytes) -> None:
        if not self._listeners:
            return
        fields = cast("dict[str, Any]", from_json(message))
        name, data = str(fields["event"]), cast("dict[str, Any]", fields["data"])
        if name == "job" and not self._job_order.advances(data):
            return
        whole: bytes | None = None
        for listener in self._listeners:
            part = listener.wanted.part_of(name, data)
            if part is data:
                whole = whole or sse(name, to_json(data))
                listener.offer(whole)
            elif part is not None:
                listener.offer(sse(name, to_json(part)))

    def _set_state(self, *, up: bool) -> None:
        if up:
            self._subscribed.set()
        else:
            self._subscribed.clear()
        for listener in self._listeners:
            if listener.greeted:
                listener.tell_state(up=up)


async def _next_message(channel: PubSub) -> dict[str, Any] | None:
    message: object = await channel.get_message(timeout=_SILENCE)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return cast("dict[str, Any] | None", message)
