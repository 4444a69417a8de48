"""Searches as a signal: what was searched for, told to others without holding up the answer.

Off unless SEARCH_SIGNALS says so, because what people type may be personal. Nobody's id is told.
"""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from moviemetric_contracts import Event, SearchPerformed
from pydantic_core import from_json
from service_kit.http import ProblemError
from starlette.responses import Response

from gateway import metrics
from gateway.outbound import Outbound
from gateway.sending import SOURCE

log = logging.getLogger(__name__)

SEARCH_ID: Final = "X-Search-Id"
# So many may be on their way at a time; while the broker is slow, the others are not told.
_MOST_WAITING: Final = 256


class SearchSignals:
    """Tells of searches, if `enabled`."""

    def __init__(self, outbound: Outbound, *, enabled: bool) -> None:
        self.enabled = enabled
        self._outbound = outbound
        self._waiting: set[asyncio.Task[None]] = set()

    def performed(self, response: Response, query: str, *, offset: int) -> Response:
        """Tells of a first page; the answer then says by which id what is opened refers to it."""
        if not self.enabled or offset or not query.strip():
            return response
        if len(self._waiting) >= _MOST_WAITING:
            metrics.SIGNALS_DROPPED.inc()
            return response
        search_id = uuid4().hex
        task = asyncio.create_task(
            self._tell(search_id, query, bytes(response.body)), name=f"search {search_id}"
        )
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)
        response.headers[SEARCH_ID] = search_id
        return response

    async def close(self) -> None:
        """Gives what is on its way a moment."""
        if self._waiting:
            _, late = await asyncio.wait(self._waiting, timeout=2)
            for task in late:
                task.cancel()

    async def _tell(self, search_id: str, query: str, body: bytes) -> None:
        now = datetime.now(UTC)
        answer: dict[str, Any] = from_json(body)
        performed = SearchPerformed(
            search_id=search_id,
            query=query,
            total=answer["total"],
            engine=answer.get("engine") or None,
            searched_at=now,
        )
        try:
            await self._outbound.send(Event.of(performed, source=SOURCE, time=now))
        except ProblemError as error:
            log.warning("a search was not told of", extra={"reason": error.detail})
