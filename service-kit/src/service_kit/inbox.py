"""Which queues of a service an event has had its effect on, and waiting for it.

Internal to the system: the gateway asks it. All who wait share one query, however many they are.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from sqlalchemy import text

from service_kit.database import Database
from service_kit.http import ProblemError

MAX_WAIT: Final = 5.0
MAX_WAITING: Final = 1_000
_EVERY: Final = 0.02

_PROCESSED: Final = text("""
    SELECT event_id, consumer, processed_at FROM inbox
    WHERE consumer = ANY(CAST(:queues AS text[])) AND event_id = ANY(CAST(:event_ids AS text[]))
    ORDER BY processed_at, consumer
""")

Effects = list[tuple[str, datetime]]


class InboxWatch:
    """The inbox of a service, with these queues."""

    def __init__(self, database: Database, queues: Sequence[str]) -> None:
        self._database = database
        self._queues = list(queues)
        self._waiting: dict[str, list[asyncio.Future[Effects]]] = {}
        self._watching: asyncio.Task[None] | None = None

    async def effects(self, event_id: str) -> Effects:
        """(queue, time) of each effect that the event has had; raises `Outage`."""
        return (await self._read([event_id])).get(event_id, [])

    async def wait(self, event_id: str, seconds: float) -> Effects:
        """As `effects`, but not before there is one, or the time is up."""
        if found := await self.effects(event_id):
            return found
        if seconds <= 0:
            return []
        if sum(map(len, self._waiting.values())) >= MAX_WAITING:
            raise ProblemError(
                503, "Too many wait", "Ask again without waiting.", headers={"Retry-After": "1"}
            )
        future: asyncio.Future[Effects] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(event_id, []).append(future)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch(), name="inbox watch")
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(future, seconds)
        return []

    async def _watch(self) -> None:
        """Runs as long as somebody waits."""
        while self._forget_those_gone():
            try:
                found = await self._read(list(self._waiting))
            except Exception as error:  # noqa: BLE001 -- told to those who wait
                for future in self._taken(list(self._waiting)):
                    future.set_exception(error)
                return
            for event_id, effects in found.items():
                for future in self._taken([event_id]):
                    future.set_result(effects)
            await asyncio.sleep(_EVERY)

    def _forget_those_gone(self) -> bool:
        for event_id, futures in list(self._waiting.items()):
            futures[:] = [future for future in futures if not future.done()]
            if not futures:
                del self._waiting[event_id]
        return bool(self._waiting)

    def _taken(self, event_ids: Sequence[str]) -> list[asyncio.Future[Effects]]:
        futures = [future for key in event_ids for future in self._waiting.pop(key, [])]
        return [future for future in futures if not future.done()]

    async def _read(self, event_ids: Sequence[str]) -> dict[str, Effects]:
        effects: dict[str, Effects] = {}
        asked = {"queues": self._queues, "event_ids": list(event_ids)}
        async with self._database.reading() as connection:
            for row in await connection.execute(_PROCESSED, asked):
                effects.setdefault(row.event_id, []).append((row.consumer, row.processed_at))
        return effects


def inbox_router(watch: InboxWatch) -> APIRouter:
    """`GET /inbox/{event_id}?wait=seconds`."""
    router = APIRouter()

    @router.get("/inbox/{event_id:path}")
    async def get_effects(
        event_id: str, wait: Annotated[float, Query(ge=0, le=MAX_WAIT)] = 0.0
    ) -> dict[str, Any]:
        effects = await watch.wait(event_id, wait)
        return {
            "items": [{"queue": queue, "processed_at": at} for queue, at in effects],
            "as_of": datetime.now(UTC),
        }

    # FastAPI refers to it; nothing else does.
    _ = get_effects
    return router
