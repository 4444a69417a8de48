"""`GET /stream`: trend changes and the progress of jobs as server-sent events."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from moviemetric_contracts import JobChanged, parse_movie_id
from pydantic import WithJsonSchema
from pydantic_core import to_json
from service_kit.http import ProblemError
from starlette.responses import Response

from gateway.access import Principal
from gateway.api.jobs import JobReads
from gateway.api.streamed import Streamed
from gateway.bodies import MOVIE_KEY_PATTERN, invalid
from gateway.jobs import JOB_ID_PATTERN
from gateway.live import Listener, LiveNews, Wanted, comment, sse
from gateway.policies import Policies
from gateway.readers import ServiceAwayError
from gateway.shapes import STREAM_RESPONSES

EVENTS: Final = frozenset({"trend", "job"})
MAX_JOBS: Final = 20
MAX_MOVIES: Final = 100
_HEARTBEAT: Final = 15.0
_KEY_STREAM: Final = timedelta(minutes=10)
_RECONNECT_MILLISECONDS: Final = 3000
_JobId = Annotated[str, WithJsonSchema({"type": "string", "pattern": JOB_ID_PATTERN})]
_MovieId = Annotated[
    str, WithJsonSchema({"type": "string", "pattern": MOVIE_KEY_PATTERN, "maxLength": 200})
]
_JOB_FIELDS: Final = tuple(JobChanged.model_fields)


class Stream:
    """The handler."""

    def __init__(self, news: LiveNews, jobs: JobReads, policies: Policies) -> None:
        self._policies = policies
        self._news = news
        self._jobs = jobs

    def add_to(self, router: APIRouter) -> None:
        """Register the route."""
        router.add_api_route(
            "/stream",
            self.get,
            methods=["GET"],
            tags=["live"],
            summary="Trend changes and the progress of jobs, as they happen",
            responses={200: _OK, **STREAM_RESPONSES},
            dependencies=[Depends(self._policies.live)],
            response_model=None,
        )

    async def get(
        self,
        request: Request,
        events: Annotated[
            str | None,
            Query(
                max_length=50,
                description="`trend`, `job` or both; else what the ids are of",
                json_schema_extra={"enum": ["trend", "job", "trend,job", "job,trend"]},
            ),
        ] = None,
        job_id: Annotated[list[_JobId] | None, Query(max_length=MAX_JOBS)] = None,
        movie_id: Annotated[list[_MovieId] | None, Query(max_length=MAX_MOVIES)] = None,
    ) -> Response:
        """`trend` has the films whose score changed, `job` is as `job.changed` and for operators.
        Who asks for nothing in particular is told what is for them. A job that is named is told at
        once as it is now. `dropped` says how many events a slow reader has missed. What happens
        while nobody is connected is not told later: read again after connecting. A stream with jobs
        ends with the access token that it was opened with."""
        wanted = _wanted(events, job_id or [], movie_id or [])
        for job in wanted.job_ids:
            self._jobs.owner_of(job)
        access = self._policies.access
        visitor: Principal | None = None
        if wanted.job_ids or (events is not None and "job" in wanted.events):
            visitor = await access.admin(request)
        elif "job" in wanted.events:
            visitor = await access.optional(request)
            if visitor is None or not visitor.is_admin:
                wanted = replace(wanted, events=wanted.events - {"job"})
        ends_at = _end(visitor) if "job" in wanted.events else None
        listener = self._news.attach(wanted)

        async def close() -> None:
            await self._news.detach(listener)

        return Streamed(
            self._chunks(listener, ends_at),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
            close=close,
        )

    async def _chunks(self, listener: Listener, ends_at: datetime | None) -> AsyncGenerator[bytes]:
        yield b"retry: %d\n\n" % _RECONNECT_MILLISECONDS
        await self._news.greet(listener)
        # Read only now, so that no change falls between reading and listening.
        for job_id in sorted(listener.wanted.job_ids):
            if (job := await self._present(job_id)) is not None:
                listener.offer(sse("job", to_json(job)))
        while True:
            left = _HEARTBEAT
            if ends_at is not None:
                left = min(left, (ends_at - datetime.now(UTC)).total_seconds())
            if left <= 0:
                yield comment("the credentials have to be shown again; connect again")
                return
            chunk = await listener.take(left)
            if chunk is None:
                yield comment("the service stops; connect again")
                return
            yield chunk

    async def _present(self, job_id: str) -> dict[str, Any] | None:
        try:
            job = await self._jobs.load(job_id)
        except (ServiceAwayError, ProblemError):
            return None
        return {name: job.get(name) for name in _JOB_FIELDS}


def _end(visitor: Principal | None) -> datetime:
    """Until when jobs are told without credentials being shown again."""
    if visitor is not None and visitor.expires_at is not None:
        return visitor.expires_at
    return datetime.now(UTC) + _KEY_STREAM


_OK: Final[dict[str, Any]] = {
    "description": "The stream",
    "content": {
        "text/event-stream": {
            # Of one event; its data are JSON.
            "schema": {
                "type": "object",
                "required": ["event", "data"],
                "properties": {
                    "event": {"enum": ["trend", "job", "dropped"]},
                    "data": {"type": "string", "contentMediaType": "application/json"},
                },
            },
            "example": "event: job\n"
            'data: {"job_id":"import-0b6b5f0e6a0f5d7e9f396f0f6f1c9f4e","kind":"import",'
            '"state":"running","done":500,"total":5000,"rejected":2,"error":null}\n\n',
        }
    },
}


def _wanted(events: str | None, job_ids: list[str], movie_ids: list[str]) -> Wanted:
    if events is None:
        names = {name for name, ids in (("job", job_ids), ("trend", movie_ids)) if ids} or EVENTS
    else:
        names = {name.strip() for name in events.split(",") if name.strip()}
        if not names or not names <= EVENTS:
            raise invalid([("events", "must be trend, job or both, separated by a comma")])
    return Wanted(frozenset(names), frozenset(job_ids), frozenset(map(_movie_key, movie_ids)))


def _movie_key(text: str) -> str:
    try:
        return parse_movie_id(text)
    except ValueError as error:
        raise invalid([("movie_id", str(error).encode(errors="replace").decode())]) from None
