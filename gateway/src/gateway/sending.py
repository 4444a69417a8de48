"""Sending commands on behalf of a request: its identity, and one use of each Idempotency-Key."""

import hashlib
from datetime import datetime
from typing import Final

from moviemetric_contracts import Event, Message
from service_kit.http import ProblemError

from gateway.cache import Cache
from gateway.identity import RequestIdentity
from gateway.outbound import Outbound

SOURCE: Final = "gateway"


class CommandSender:
    """Publishes what requests ask for; `cache` remembers what a key was used for."""

    def __init__(self, outbound: Outbound, cache: Cache) -> None:
        self._outbound = outbound
        self._cache = cache

    async def event_id(self, identity: RequestIdentity, route: str, asked: str) -> str:
        """The id of the event that this request asks for on `route`.

        Raises:
            ProblemError: 422, its Idempotency-Key was used for something else.
        """
        if identity.idempotency_key is not None:
            fingerprint = hashlib.sha256(asked.encode()).hexdigest()
            if not await self._cache.first_use(identity.event_id(route), fingerprint):
                raise used_before()
        return identity.event_id(route, asked)

    async def send(
        self, identity: RequestIdentity, event_id: str, data: Message, now: datetime
    ) -> None:
        """Returns when the event is durable.

        Raises:
            ProblemError: 503 with Retry-After.
        """
        event = Event.of(
            data,
            source=SOURCE,
            time=now,
            id=event_id,
            correlationid=identity.correlation_id,
            traceparent=identity.traceparent,
        )
        await self._outbound.send(event)


def used_before() -> ProblemError:
    """The 422 for a key that belongs to another request."""
    message = "was used for another request in the last 24 hours; use a new key for a new one"
    return ProblemError(
        422,
        "Idempotency-Key used before",
        f"This Idempotency-Key {message}.",
        errors=[{"field": "Idempotency-Key", "message": message}],
    )
