"""What stands before the API: the record of requests, faults on demand, and the key check."""

import asyncio
import time
from typing import Any, Final

from starlette.datastructures import Headers, QueryParams
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tmdb_standin.catalogue import Catalogue
from tmdb_standin.faults import FaultPlan, Faults, RequestLog
from tmdb_standin.settings import Settings
from tmdb_standin.shapes import INVALID_KEY, Body

API_PREFIX: Final = "/3/"


class TmdbResponse(JSONResponse):
    media_type = "application/json; charset=utf-8"


class Standin:
    """The state of one stand-in: its films, the plan in force, what was asked."""

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self.settings = settings
        self.original = catalogue
        self.catalogue = catalogue
        self.day = settings.catalogue_day or catalogue.day()
        self.faults = Faults(FaultPlan())
        self.log = RequestLog()
        self.changed: dict[int, str] = {}

    def follow(self, plan: FaultPlan, today: str) -> None:
        """Put a plan in the place of the one in force. Films that it changes, and films that it
        gives back what an earlier plan changed, count as changed today."""
        before, after = self.faults.plan.edits(), plan.edits()
        for film_id in before.keys() | after.keys():
            same = film_id in before and film_id in after and before[film_id] == after[film_id]
            if not same and film_id in self.original.films:
                self.changed[film_id] = today
        self.catalogue = (
            self.original.edited(plan.overrides, plan.removed_ids) if after else self.original
        )
        self.faults = Faults(plan)

    def reset_faults(self) -> None:
        """Back to how it started; nothing counts as changed."""
        self.catalogue = self.original
        self.faults = Faults(FaultPlan())
        self.changed = {}

    def reset_requests(self) -> None:
        self.log = RequestLog()


class Front:
    """ASGI middleware for every request under `/3/`; others pass through."""

    def __init__(self, app: ASGIApp, standin: Standin) -> None:
        self._app = app
        self._standin = standin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        if scope["type"] != "http" or not path.startswith(API_PREFIX):
            await self._app(scope, receive, send)
            return
        standin = self._standin
        log = standin.log
        film_id, is_detail, template = _film_of(path, standin.original)
        now = time.monotonic()
        decision = standin.faults.decide(now, film_id)
        log.arrived(now, film_id if is_detail else None)
        outcome = "aborted"

        async def answer(message: Message) -> None:
            nonlocal outcome
            if message["type"] == "http.response.start":
                outcome = str(message["status"])
            await send(message)

        try:
            if decision.delay:
                await asyncio.sleep(decision.delay)
            if decision.hang is not None and await _gone(receive, decision.hang):
                outcome = "client gave up"
            elif decision.status is not None:
                response = refusal(decision.status, decision.body, decision.retry_after)
                await response(scope, receive, answer)
            elif not standin.settings.accepts_key(_key(scope)):
                await refusal(401, INVALID_KEY)(scope, receive, answer)
            else:
                await self._app(scope, receive, answer)
        finally:
            log.ended(template, outcome, film_id if is_detail else None, limited=decision.limited)


def refusal(status: int, body: Body | None, retry_after: int | None = None) -> Response:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return TmdbResponse(body, status, headers)


def _film_of(path: str, catalogue: Catalogue) -> tuple[int | None, bool, str]:
    """The film a path is about, whether it asks for its detail body, and the path with `{id}`."""
    parts = path.split("/")
    if len(parts) < 4 or parts[2] != "movie" or not any(map(str.isdecimal, parts[3])):
        return None, False, path
    key = parts[3]
    template = "/".join([*parts[:3], "{id}", *parts[4:]])
    return catalogue.id_of(key), len(parts) == 4, template


def _key(scope: Scope) -> str:
    scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    query: Any = scope.get("query_string", b"")
    return QueryParams(query).get("api_key", "")


async def _gone(receive: Receive, seconds: float) -> bool:
    """Wait until the client hangs up; False if it still waits after so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return False
    return True
