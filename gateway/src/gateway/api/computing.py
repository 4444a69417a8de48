"""What is computed ahead: asked for now, and when it is due by itself."""

from typing import Any, Literal

from fastapi import APIRouter, Depends, Request
from moviemetric_contracts import RunCompute
from starlette.responses import Response

from gateway.analysis_shapes import Schedules
from gateway.api.commands import read_body
from gateway.api.jobs import JobCommand, send_job
from gateway.bodies import ComputeBody, parse_body
from gateway.cache import Cache
from gateway.identity import RequestIdentity
from gateway.jobs import job_id_of
from gateway.openapi import command_docs
from gateway.policies import Policies
from gateway.readers import ServiceAwayError, ServiceReader, service_away
from gateway.sending import CommandSender
from gateway.shapes import AWAY, COMMAND_RESPONSES, JobAccepted

ArtifactName = Literal["trending", "genre-stats", "ratings-by-decade", "recommendations", "all"]
_EXAMPLE: dict[str, Any] = {"as_of": "2025-01-31"}


class Computing:
    """The handlers."""

    def __init__(
        self, sender: CommandSender, cache: Cache, compute: ServiceReader, policies: Policies
    ) -> None:
        self._sender = sender
        self._cache = cache
        self._compute = compute
        self._policies = policies

    def add_to(self, router: APIRouter) -> None:
        """Register the routes."""
        operators = [Depends(self._policies.admin)]
        router.add_api_route(
            "/admin/compute/{artifact}",
            self.compute,
            methods=["POST"],
            status_code=202,
            tags=["analytics"],
            summary="Compute what is served ahead: one artifact, or all",
            responses={202: {"model": JobAccepted}, **COMMAND_RESPONSES},
            response_model=None,
            dependencies=operators,
            openapi_extra=command_docs(ComputeBody, _EXAMPLE, required=False),
        )
        router.add_api_route(
            "/admin/schedules",
            self.schedules,
            methods=["GET"],
            tags=["jobs"],
            summary="What runs by itself: when last, when next",
            responses={200: {"model": Schedules}, 503: AWAY},
            response_model=None,
            dependencies=operators,
        )

    async def compute(self, request: Request, artifact: ArtifactName) -> Response:
        """Without a body: of the present day, until now. What was there serves until it is done."""
        identity = RequestIdentity.from_headers(request.scope["headers"])
        body = parse_body(ComputeBody, await read_body(request) or b"{}")
        route = f"/admin/compute/{artifact}"
        event_id = await self._sender.event_id(identity, route, body.model_dump_json())
        job_id = job_id_of("compute", event_id)
        command = RunCompute(job_id=job_id, artifact=artifact, as_of=body.as_of)
        asked = JobCommand(identity, event_id, job_id, "compute")
        return await send_job(self._sender, self._cache, asked, command)

    async def schedules(self) -> Response:
        """Times are UTC; `cron` is null where a schedule is off."""
        try:
            body = await self._compute.fetch("/schedules")
        except ServiceAwayError as error:
            raise service_away(error) from error
        return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})
