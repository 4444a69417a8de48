"""Searches go to PostgreSQL, and say so, while the engine that was set up cannot answer.

The tables that PostgreSQL searches are always kept, so nothing has to be prepared. A search waits
for the engine for a fraction of a second at most; after a failure nobody asks it any more but a
probe in the background, which also waits until an index that was lost has been filled again. After
a search that took too long the probe goes at once: if only that search was slow, the others are
back with the engine as soon as it answers. An engine that is slow again soon after gets its rest.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, TypeVar

from service_kit import Outage

from search_indexer.engine import SearchEngine, SearchRequest, SearchResult, Suggestions

log = logging.getLogger(__name__)

NOTE: Final = "the search engine is away; the database answers, which finds less by typing errors"

_PATIENCE: Final = 0.5
_PROBE_EVERY: Final = 1.0
# Slow searches less than so many seconds apart are the engine's fault.
_DOUBTED_FOR: Final = 10.0
# How old the knowledge may be that the index has everything.
_FILLED_FOR: Final = 1.0
_PROBE: Final = SearchRequest(q="the", limit=1)

R = TypeVar("R", SearchResult, Suggestions)


class FallbackEngine:
    """Asks `engine`, or else `makeshift`.

    Args:
        is_filled: whether the engine's index has everything; raises Outage.
        patience: seconds that a search waits for the engine.
        probe_every: seconds between two looks at an engine that failed.
    """

    def __init__(
        self,
        engine: SearchEngine,
        makeshift: SearchEngine,
        *,
        is_filled: Callable[[], Awaitable[bool]],
        patience: float = _PATIENCE,
        probe_every: float = _PROBE_EVERY,
    ) -> None:
        self._engine = engine
        self._makeshift = makeshift
        self._is_filled = is_filled
        self._patience = patience
        self._probe_every = probe_every
        self._usable = True
        # A search took too long, which may be the search's fault.
        self._in_doubt = False
        self._doubted_at = -math.inf
        self._looked_at = 0.0
        self._watching: asyncio.Task[None] | None = None

    async def search(self, request: SearchRequest) -> SearchResult:
        """The films that fit, best first; equally good ones by trend."""
        return await self._ask(
            lambda: self._engine.search(request), lambda: self._makeshift.search(request)
        )

    async def suggest(self, prefix: str, limit: int) -> Suggestions:
        """Films by title, and people, for what is being typed."""
        return await self._ask(
            lambda: self._engine.suggest(prefix, limit),
            lambda: self._makeshift.suggest(prefix, limit),
        )

    async def health(self) -> None:
        """Returns when the engine itself answers."""
        await self._engine.health()

    async def close(self) -> None:
        """Lets go of connections."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._engine.close()
        await self._makeshift.close()

    async def _ask(
        self, engine: Callable[[], Awaitable[R]], makeshift: Callable[[], Awaitable[R]]
    ) -> R:
        if self._usable and self._looked_at == 0.0:
            await self._look_whether_filled()
        if self._usable:
            if time.monotonic() - self._looked_at > _FILLED_FOR:
                self._watch()
            try:
                async with asyncio.timeout(self._patience):
                    return await engine()
            except TimeoutError:
                self._doubt()
                self._give_up(f"no answer within {self._patience:g} s")
            except Outage as outage:
                self._give_up(outage.reason)
            except Exception as error:
                # Such as a refusal by an index that is being set up: never the asker's problem.
                log.exception("the search engine failed")
                self._give_up(str(error))
        else:
            self._watch()
        return replace(await makeshift(), degraded=True, note=NOTE)

    def _doubt(self) -> None:
        now = time.monotonic()
        self._in_doubt = now - self._doubted_at > _DOUBTED_FOR
        self._doubted_at = now

    def _give_up(self, reason: str) -> None:
        if self._usable:
            log.warning("searches fall back to the database", extra={"reason": reason})
        self._usable = False
        self._watch()

    def _watch(self) -> None:
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch_until_usable(), name="search engine")

    async def _watch_until_usable(self) -> None:
        await self._look_whether_filled()
        while not self._usable:
            if not self._in_doubt:
                await asyncio.sleep(self._probe_every)
            self._in_doubt = False
            try:
                async with asyncio.timeout(self._patience):
                    await self._engine.search(_PROBE)
                    if await self._is_filled():
                        log.info("the search engine answers again")
                        self._usable = True
            except (Outage, TimeoutError):
                continue
            except Exception as error:  # noqa: BLE001 -- whatever it is, it may pass
                log.warning("the search engine is not usable yet", extra={"reason": str(error)})

    async def _look_whether_filled(self) -> None:
        self._looked_at = time.monotonic()
        try:
            filled = await self._is_filled()
        except Outage:
            # Without the database there is nothing to fall back to.
            return
        if not filled:
            self._give_up("its index is being filled")
