"""Jobs: asked for, followed, cancelled, tried again. They are read live, never from the cache."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request
from moviemetric_contracts import CancelJob, IngestCatalog, Message, RetryJob
from pydantic_core import to_json
from service_kit.http import ProblemError
from starlette.responses import Response

from gateway.api.commands import read_body
from gateway.api.parameters import JobIdParameter, Page, given, page
from gateway.api.streamed import Streamed
from gateway.bodies import IngestBody, invalid, parse_body
from gateway.cache import Cache
from gateway.identity import RequestIdentity
from gateway.jobs import (
    ENDED,
    OWNERS,
    Job,
    Kind,
    State,
    accepted_job,
    job_id_of,
    kind_of,
    status_url,
    with_task_fields,
)
from gateway.openapi import command_docs
from gateway.policies import Policies
from gateway.readers import ServiceAwayError, ServiceReader, service_away
from gateway.sending import CommandSender
from gateway.shapes import (
    COMMAND_RESPONSES,
    JOB_COMMAND_RESPONSES,
    JOB_LIST_RESPONSES,
    JOB_RESPONSES,
    JobAccepted,
    JobAnswer,
    JobList,
    RejectList,
)

# Pages that are put together from several services are read from the first job on.
MAX_MERGED: Final = 1000
_INGEST_EXAMPLE: dict[str, Any] = {"lists": {"popular": 30, "top_rated": 30}, "force": False}


class JobReads:
    """Jobs from the services that own them; `cache` knows those accepted lately."""

    def __init__(self, services: Mapping[str, ServiceReader], cache: Cache) -> None:
        self._services = services
        self._cache = cache

    def owner_of(self, job_id: str) -> ServiceReader:
        """The service to ask about a job.

        Raises:
            ProblemError: 422 for what is no job's id, 404 for a kind that no service has.
        """
        kind = kind_of(job_id)
        if kind is None:
            message = "must be a job's id, such as import-0b6b5f0e6a0f5d7e9f396f0f6f1c9f4e"
            raise invalid([("job_id", message)])
        if kind not in OWNERS:
            raise _unknown(job_id)
        return self._services[OWNERS[kind]]

    async def load(self, job_id: str) -> Job:
        """The job as it is now.

        Raises:
            ServiceAwayError: its service does not answer.
            ProblemError: 404.
        """
        owner = self.owner_of(job_id)
        try:
            return await owner.fetch_object(f"/jobs/{job_id}")
        except ProblemError as error:
            if error.status != 404:
                raise
        return await self.accepted(job_id)

    async def accepted(self, job_id: str) -> Job:
        """A job that was accepted lately, and that its service has not taken yet.

        Raises:
            ProblemError: 404, there is none.
        """
        remembered = await self._cache.remembered_job(job_id)
        if remembered is None:
            raise _unknown(job_id)
        return accepted_job(job_id, *remembered)

    async def page(self, asked: dict[str, Any]) -> dict[str, Any]:
        """A page of all jobs, newest first; raises as `load`.

        Without a kind it is put together from all services. One that does not answer is named in
        `note`, and its jobs are left out.

        Raises:
            ProblemError: 422, the page lies too deep for that.
            ServiceAwayError: none that would have to answer does.
        """
        if "kind" in asked:
            return await self._services[OWNERS[asked["kind"]]].fetch_object("/jobs", asked)
        limit, offset = asked["limit"], asked["offset"]
        if offset + limit > MAX_MERGED:
            message = f"reaches beyond the newest {MAX_MERGED} jobs; give a kind"
            raise invalid([("offset", message)])
        names = sorted(set(OWNERS.values()))
        parts = await asyncio.gather(
            *(self._newest(name, {**asked, "limit": offset + limit, "offset": 0}) for name in names)
        )
        away = [name for name, part in zip(names, parts, strict=True) if part is None]
        present = [part for part in parts if part is not None]
        if not present:
            raise ServiceAwayError(" and ".join(away), "no answer")
        jobs = [job for part in present for job in part["items"]]
        jobs.sort(key=_newness, reverse=True)
        page = {
            "items": jobs[offset : offset + limit],
            "total": sum(part["total"] for part in present),
            "limit": limit,
            "offset": offset,
            "as_of": min((part["as_of"] for part in present), key=datetime.fromisoformat),
        }
        return page | ({"note": f"without the jobs of {' and '.join(away)}"} if away else {})

    async def _newest(self, service: str, asked: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return await self._services[service].fetch_object("/jobs", asked)
        except ServiceAwayError:
            return None


class Jobs:
    """The handlers."""

    def __init__(
        self, sender: CommandSender, reads: JobReads, cache: Cache, policies: Policies
    ) -> None:
        self._policies = policies
        self._sender = sender
        self._reads = reads
        self._cache = cache

    def add_to(self, router: APIRouter) -> None:
        """Register the routes."""
        operators = [Depends(self._policies.admin)]
        read: dict[str, Any] = {
            "methods": ["GET"],
            "tags": ["jobs"],
            "response_model": None,
            "dependencies": operators,
        }
        ask: dict[str, Any] = {
            "dependencies": operators,
            "methods": ["POST"],
            "status_code": 202,
            "tags": ["jobs"],
            "response_model": None,
        }
        router.add_api_route(
            "/admin/ingest/run",
            self.ingest,
            summary="Read films in bulk from TMDB",
            responses={202: {"model": JobAccepted}, **COMMAND_RESPONSES},
            openapi_extra=command_docs(IngestBody, _INGEST_EXAMPLE, required=False),
            **ask,
        )
        router.add_api_route(
            "/admin/jobs",
            self.jobs,
            summary="Jobs, newest first",
            responses={200: {"model": JobList}, **JOB_LIST_RESPONSES},
            **read,
        )
        router.add_api_route(
            "/admin/jobs/{job_id}",
            self.job,
            summary="How far a job is",
            responses={200: {"model": JobAnswer}, **JOB_RESPONSES},
            **read,
        )
        router.add_api_route(
            "/admin/jobs/{job_id}/rejects",
            self.rejects,
            summary="The rows that an import could not take, and why",
            responses={
                200: {
                    "model": RejectList,
                    "content": {"text/csv": {"schema": {"type": "string"}}},
                },
                **JOB_RESPONSES,
            },
            **read,
        )
        router.add_api_route(
            "/admin/jobs/{job_id}/cancel",
            self.cancel,
            summary="Stop a job where it is; what it has done stays",
            responses={202: {"model": JobAccepted}, **JOB_COMMAND_RESPONSES},
            openapi_extra=command_docs(None, None),
            **ask,
        )
        router.add_api_route(
            "/admin/jobs/{job_id}/retry",
            self.retry,
            summary="Import the rejected rows again, as a new job",
            responses={202: {"model": JobAccepted}, **JOB_COMMAND_RESPONSES},
            openapi_extra=command_docs(None, None),
            **ask,
        )

    async def ingest(self, request: Request) -> Response:
        """Without a body: all lists, as many pages of each as usual."""
        identity = RequestIdentity.from_headers(request.scope["headers"])
        body = parse_body(IngestBody, await read_body(request) or b"{}")
        asked = body.model_dump_json()
        event_id = await self._sender.event_id(identity, "/admin/ingest/run", asked)
        command = IngestCatalog(
            job_id=job_id_of("ingest", event_id),
            lists=body.pages,
            tmdb_ids=tuple(dict.fromkeys(body.tmdb_ids)),
            changed_since=body.changed_since,
            force=body.force,
        )
        return await self._accept(identity, event_id, command, "ingest")

    async def jobs(
        self,
        part: Annotated[Page, Depends(page)],
        kind: Kind | None = None,
        state: State | None = None,
    ) -> Response:
        """`rate` is per second and `estimated_end` a guess; both are null unless it runs."""
        asked = given(kind=kind, state=state, limit=part.limit, offset=part.offset)
        try:
            answer = await self._reads.page(asked)
        except ServiceAwayError as error:
            raise service_away(error) from error
        answer["items"] = [with_task_fields(job) for job in answer["items"]]
        return _live(to_json(answer))

    async def job(self, job_id: JobIdParameter) -> Response:
        """A job whose command its service has not taken yet is `queued`."""
        try:
            job = await self._reads.load(job_id)
        except ServiceAwayError as error:
            raise service_away(error) from error
        return _live(to_json(with_task_fields(job)))

    async def rejects(
        self,
        request: Request,
        job_id: JobIdParameter,
        part: Annotated[Page, Depends(page)],
        format: Annotated[
            Literal["json", "csv"] | None,
            Query(description="or `Accept: text/csv`; a CSV has all rows, and can be mended"),
        ] = None,
    ) -> Response:
        """Each with its line, column, reason and text."""
        owner = self._reads.owner_of(job_id)
        as_csv = format == "csv" or (format is None and _prefers_csv(request))
        try:
            if as_csv:
                return await _csv(owner, job_id)
            asked = given(limit=part.limit, offset=part.offset)
            return _live(await owner.fetch(f"/jobs/{job_id}/rejects", asked))
        except ServiceAwayError as error:
            raise service_away(error) from error
        except ProblemError as error:
            if error.status != 404 or as_csv:
                raise
        await self._reads.accepted(job_id)
        nothing = {
            "items": list[Job](),
            "total": 0,
            "limit": part.limit,
            "offset": part.offset,
            "as_of": _utc(datetime.now(UTC)),
        }
        return _live(to_json(nothing))

    async def cancel(self, request: Request, job_id: JobIdParameter) -> Response:
        """A job that has ended stays as it is (409)."""
        identity = RequestIdentity.from_headers(request.scope["headers"])
        job = await self._load_if_possible(job_id)
        if job is not None and job.get("state") in ENDED:
            raise _conflict(f"The job has ended already: it {_ended(job)}.")
        event_id = await self._sender.event_id(identity, f"/admin/jobs/{job_id}/cancel", "")
        await self._sender.send(identity, event_id, CancelJob(job_id=job_id), datetime.now(UTC))
        return accepted(identity, event_id, job_id)

    async def retry(self, request: Request, job_id: JobIdParameter) -> Response:
        """Only an import that has ended and rejected rows can be tried again (else 409)."""
        identity = RequestIdentity.from_headers(request.scope["headers"])
        self._reads.owner_of(job_id)
        if kind_of(job_id) != "import":
            raise _conflict("Only imports have rejected rows to try again.")
        job = await self._load_if_possible(job_id)
        if job is not None:
            if job.get("state") not in ENDED:
                raise _conflict(f"The job is {job.get('state')}; wait until it has ended.")
            if not job.get("rejected"):
                raise _conflict("The job has no rejected rows.")
        event_id = await self._sender.event_id(identity, f"/admin/jobs/{job_id}/retry", "")
        command = RetryJob(job_id=job_id_of("import", event_id), retry_of=job_id)
        return await self._accept(identity, event_id, command, "import")

    async def _load_if_possible(self, job_id: str) -> Job | None:
        # A command is taken whether or not its service answers: it is kept until the service does.
        try:
            return await self._reads.load(job_id)
        except ServiceAwayError:
            return None

    async def _accept(
        self,
        identity: RequestIdentity,
        event_id: str,
        command: IngestCatalog | RetryJob,
        kind: Kind,
    ) -> Response:
        asked = JobCommand(identity, event_id, command.job_id, kind)
        return await send_job(self._sender, self._cache, asked, command)


@dataclass(frozen=True, slots=True)
class JobCommand:
    """Who asks for a job, by which event, and what the job is."""

    identity: RequestIdentity
    event_id: str
    job_id: str
    kind: Kind


async def send_job(
    sender: CommandSender, cache: Cache, asked: JobCommand, command: Message
) -> Response:
    """Publish the command that makes a job; the 202 that says where to follow it."""
    now = datetime.now(UTC)
    await sender.send(asked.identity, asked.event_id, command, now)
    await cache.remember_job(asked.job_id, asked.kind, _utc(now))
    return accepted(asked.identity, asked.event_id, asked.job_id)


def accepted(identity: RequestIdentity, event_id: str, job_id: str) -> Response:
    """The 202 of a command that has a job."""
    return Response(
        json.dumps({"event_id": event_id, "job_id": job_id, "status_url": status_url(job_id)}),
        status_code=202,
        media_type="application/json",
        headers={"X-Correlation-Id": identity.correlation_id or event_id},
    )


async def _csv(owner: ServiceReader, job_id: str) -> Response:
    upstream = await owner.open(f"/jobs/{job_id}/rejects.csv")

    async def chunks() -> AsyncGenerator[bytes]:
        async for chunk in upstream.aiter_bytes():
            yield chunk

    return Streamed(
        chunks(),
        media_type="text/csv",
        headers={
            "Content-Disposition": f'attachment; filename="{job_id}-rejects.csv"',
            "Cache-Control": "no-store",
        },
        close=upstream.aclose,
    )


def _newness(job: Job) -> tuple[datetime, str]:
    return datetime.fromisoformat(job["created_at"]), job["job_id"]


def _prefers_csv(request: Request) -> bool:
    return "text/csv" in request.headers.get("accept", "").lower()


def _live(body: bytes) -> Response:
    return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})


def _utc(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _ended(job: Job) -> str:
    return "was cancelled" if job["state"] == "cancelled" else str(job["state"])


def _unknown(job_id: str) -> ProblemError:
    return ProblemError(404, "Unknown job", f"There is no job {job_id}.")


def _conflict(detail: str) -> ProblemError:
    return ProblemError(409, "Not possible now", detail)
