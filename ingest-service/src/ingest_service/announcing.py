"""Tells others of films that changed in bulk.

A registration's event goes through the outbox. An import would write its million films there once
more, so it leaves only their keys, in rows of some hundred; the event is made from the film as it
is when its turn comes. A film that changed again meanwhile is told of as it is then: who keeps a
copy compares revisions.

Publishing is held back while consumers are behind, so that a large import does not fill the broker,
and for a moment while an import runs on this process, which would only make both slower.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid5

import orjson
from moviemetric_contracts import Event, Exchange, MovieRemoved, MovieUpserted
from service_kit import Broker, Database, Outgoing
from service_kit.store import to_outgoing
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest_service.listing import KnownMovie, read_films
from ingest_service.repository import NAMELESS

_log = logging.getLogger(__name__)

FILMS_A_ROW: Final = 1000
_NAMESPACE: Final = UUID("0f2f4f1e-4d3b-4b0e-9d8e-6a1c5f6f0b52")
_SOURCE: Final = "/ingest-service"
_LONGEST_WAIT: Final = timedelta(seconds=120)

_ADD: Final = text("""
    INSERT INTO announcements (movie_ids, created_at)
    SELECT string_to_array(keys, ' '), :now FROM unnest(CAST(:rows AS text[])) AS row (keys)
""")
_TAKE: Final = text("""
    SELECT id, movie_ids, created_at FROM announcements
    ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
""")
_DONE: Final = text("DELETE FROM announcements WHERE id = :id")
_WAITING: Final = text("SELECT coalesce(sum(cardinality(movie_ids)), 0) FROM announcements")


async def announce_later(
    connection: AsyncConnection, movie_ids: Sequence[str], now: datetime
) -> None:
    """Part of the transaction that changes the films."""
    # No key holds a blank; joined ones are bound much faster than an array of thousands.
    rows = [
        " ".join(movie_ids[start : start + FILMS_A_ROW])
        for start in range(0, len(movie_ids), FILMS_A_ROW)
    ]
    if rows:
        await connection.execute(_ADD, {"rows": rows, "now": now})


async def waiting(connection: AsyncConnection) -> int:
    """How many films are still to be told of."""
    return int((await connection.execute(_WAITING)).scalar_one())


class Announcer:
    """Publishes what `announce_later` left; several may run at once.

    Args:
        is_busy: whether an import runs on this process.
        watched: queues whose consumers are not to be left behind by more than `most_behind`.
    """

    def __init__(
        self,
        database: Database,
        broker: Broker,
        *,
        is_busy: Callable[[], bool],
        watched: Sequence[str] = (),
        most_behind: int = 20_000,
    ) -> None:
        self._database = database
        self._broker = broker
        self._is_busy = is_busy
        self._watched = watched
        self._most_behind = most_behind

    async def publish_waiting(self) -> None:
        """Publish until nothing waits, an import begins, or the consumers are behind.

        Raises:
            Outage: the database is away.
            PublishError: the broker did not confirm; nothing is lost.
        """
        while not await self._consumers_are_behind():
            for _ in range(10):
                if not await self._publish_one():
                    return

    async def _consumers_are_behind(self) -> bool:
        for queue in self._watched:
            depth = await self._broker.depth(queue)
            if depth is not None and depth > self._most_behind:
                return True
        return False

    async def _publish_one(self) -> bool:
        now = datetime.now(UTC)
        async with self._database.transaction() as connection:
            row = (await connection.execute(_TAKE)).first()
            if row is None or (self._is_busy() and now - row.created_at < _LONGEST_WAIT):
                return False
            films = await read_films(connection, row.movie_ids)
            messages = [message_of(film, now) for film in films]
            for error in await self._broker.publish_many(messages, confirm_within=10):
                if error is not None:
                    raise error
            await connection.execute(_DONE, {"id": row.id})
        return True


def message_of(film: KnownMovie, now: datetime) -> Outgoing:
    """The event that says what the film is now; always the same id for the same revision."""
    event_id = str(uuid5(_NAMESPACE, f"{film.movie_id}/{film.revision}"))
    if film.content is None or film.removed_reason is not None or film.known_since is None:
        gone = MovieRemoved(
            movie_id=film.movie_id,
            reason=film.removed_reason or NAMELESS,
            revision=film.revision,
        )
        return to_outgoing(Event.of(gone, source=_SOURCE, time=now, id=event_id))
    # Written out rather than through the contract's classes, which cost ten times as much; what a
    # record holds was checked when it came in.
    envelope: dict[str, Any] = {
        "specversion": "1.0",
        "id": event_id,
        "source": _SOURCE,
        "type": MovieUpserted.TYPE,
        "time": now,
        "subject": film.movie_id,
        "datacontenttype": "application/json",
        "data": {
            "movie": {**film.content, "fetched_at": film.known_since},
            "revision": film.revision,
        },
    }
    return Outgoing(Exchange.EVENTS, MovieUpserted.TYPE, orjson.dumps(envelope))
