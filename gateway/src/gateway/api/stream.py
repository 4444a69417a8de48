"""`GET /stream`: trend changes and the progress of jobs as server-sent events."""

from collections.abc import AsyncGenerator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from moviemetric_contracts import JobChanged, parse_movie_id
from pydantic_core import to_json
from service_kit.http import ProblemError
from starlette.responses import Response

from gateway.api.jobs import JobReads
from gateway.api.streamed import Streamed
from gateway.bodies import invalid
from gateway.live import Listener, LiveNews, Wanted, comment, sse
from gateway.readers import ServiceAwayError
from gateway.shapes import STREAM_RESPONSES

EVENTS: Final = frozenset({"trend", "job"})
MAX_JOBS: Final = 20
MAX_MOVIES: Final = 100
_HEARTBEAT: Final = 15.0
_RECONNECT_MILLISECONDS: Final = 3000
_JOB_FIELDS: Final = tuple(JobChanged.model_fields)


class Stream:
    """The handler."""

    def __init__(self, news: LiveNews, jobs: JobReads) -> None:
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
            response_model=None,
        )

    async def get(
        self,
        events: Annotated[
            str | None,
            Query(max_length=50, description="`trend`, `job` or both; else what the ids are of"),
        ] = None,
        job_id: Annotated[list[str] | None, Query(max_length=MAX_JOBS)] = None,
        movie_id: Annotated[list[str] | None, Query(max_length=MAX_MOVIES)] = None,
    ) -> Response:
        """`trend` has the films whose score changed, `job` is as `job.changed`. A job that is named
        is told at once as it is now. `dropped` says how many events a slow reader has missed. What
        happens while nobody is connected is not told later: read again after connecting."""
        wanted = _wanted(events, job_id or [], movie_id or [])
        for job in wanted.job_ids:
            self._jobs.owner_of(job)
        listener = self._news.attach(wanted)

        async def close() -> None:
            await self._news.detach(listener)

        return Streamed(
            self._chunks(listener),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
            close=close,
        )

    async def _chunks(self, listener: Listener) -> AsyncGenerator[bytes]:
        yield b"retry: %d\n\n" % _RECONNECT_MILLISECONDS
        await self._news.greet(listener)
        # Read only now, so that no change falls between reading and listening.
        for job_id in sorted(listener.wanted.job_ids):
            if (job := await self._present(job_id)) is not None:
                listener.offer(sse("job", to_json(job)))
        while (chunk := await listener.take(_HEARTBEAT)) is not None:
            yield chunk
        yield comment("the service stops; connect again")

    async def _present(self, job_id: str) -> dict[str, Any] | None:
        try:
            job = await self._jobs.load(job_id)
        except (ServiceAwayError, ProblemError):
            return None
        return {name: job.get(name) for name in _JOB_FIELDS}


_OK: Final[dict[str, Any]] = {
    "description": "The stream",
    "content": {
        "text/event-stream": {
            "schema": {"type": "string"},
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
