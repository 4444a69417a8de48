"""The search index in the hands of operators, and what people searched for."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from moviemetric_contracts import RebuildSearch, RepairSearch, SearchOpened
from service_kit.http import ProblemError
from starlette.responses import Response

from gateway.api.commands import read_body
from gateway.api.jobs import JobCommand, send_job
from gateway.api.parameters import DateParameter, LimitParameter, OffsetParameter, given
from gateway.bodies import OpenedBody, parse_body
from gateway.cache import Cache
from gateway.identity import RequestIdentity
from gateway.jobs import job_id_of
from gateway.openapi import command_docs
from gateway.policies import Policies, visitor_of
from gateway.readers import Params, ServiceAwayError, ServiceReader, service_away
from gateway.search_signals import SearchSignals
from gateway.sending import CommandSender
from gateway.shapes import (
    AWAY,
    COMMAND_RESPONSES,
    JOB_LIST_RESPONSES,
    Accepted,
    JobAccepted,
    SearchDrift,
    TopSearches,
    problem,
)

# Half a million films are compared within a quarter of a minute.
DRIFT_SECONDS: Final = 120.0
_OPENED: Final[dict[str, Any]] = {"movie_id": "tmdb-27205", "query": "incepton"}


class SearchAdmin:
    """The handlers.

    Args:
        search: for short questions.
        patient: for comparing, which takes longer than any other answer.
    """

    def __init__(
        self,
        sender: CommandSender,
        cache: Cache,
        search: ServiceReader,
        patient: ServiceReader,
        policies: Policies,
    ) -> None:
        self._sender = sender
        self._cache = cache
        self._search = search
        self._patient = patient
        self._policies = policies

    def add_to(self, router: APIRouter) -> None:
        """Register the routes."""
        operators = [Depends(self._policies.admin)]
        read: dict[str, Any] = {
            "methods": ["GET"],
            "response_model": None,
            "dependencies": operators,
        }
        ask: dict[str, Any] = {
            "methods": ["POST"],
            "status_code": 202,
            "tags": ["search"],
            "response_model": None,
            "dependencies": operators,
            "responses": {202: {"model": JobAccepted}, **COMMAND_RESPONSES},
            "openapi_extra": command_docs(None, None),
        }
        router.add_api_route(
            "/admin/search/build-index",
            self.build_index,
            summary="Fill a new search index and swap it in; searches answer throughout",
            **ask,
        )
        router.add_api_route(
            "/admin/search/repair",
            self.repair,
            summary="Mend what differs between the search index and the films",
            **ask,
        )
        router.add_api_route(
            "/admin/search/drift",
            self.drift,
            tags=["search"],
            summary="Compare the search index with the films",
            responses={200: {"model": SearchDrift}, 503: AWAY},
            **read,
        )
        router.add_api_route(
            "/analytics/top-searches",
            self.top_searches,
            tags=["analytics"],
            summary="What was searched for most, or most in vain",
            responses={200: {"model": TopSearches}, **JOB_LIST_RESPONSES},
            **read,
        )

    async def build_index(self, request: Request) -> Response:
        """Everything that is searched is derived anew. Films that change meanwhile are in it."""
        return await self._ask(request, "/admin/search/build-index", RebuildSearch)

    async def repair(self, request: Request) -> Response:
        """What `GET /admin/search/drift` tells is mended, and nothing else touched."""
        return await self._ask(request, "/admin/search/repair", RepairSearch)

    async def drift(self) -> Response:
        """`missing`, `surplus` and `outdated` films of each index, with some of their ids. `drift`
        is their sum, null while an index cannot be asked."""
        return await self._read(self._patient, "/drift")

    async def top_searches(
        self,
        date_from: DateParameter = None,
        date_to: DateParameter = None,
        days: Annotated[
            int | None, Query(ge=1, le=366, description="until today; 7 if nothing is named")
        ] = None,
        no_results: Annotated[
            bool, Query(description="only what found nothing, most often first")
        ] = False,
        limit: LimitParameter = 20,
        offset: OffsetParameter = 0,
    ) -> Response:
        """Counted by day (UTC), by words without case and accents; nothing while SEARCH_SIGNALS is
        off. Words that people type may be personal, so this is for administrators."""
        asked = given(
            date_from=date_from.isoformat() if date_from else None,
            date_to=date_to.isoformat() if date_to else None,
            days=days,
            no_results="true" if no_results else None,
            limit=limit,
            offset=offset,
        )
        return await self._read(self._search, "/top-searches", asked)

    async def _ask(
        self, request: Request, route: str, make: type[RebuildSearch | RepairSearch]
    ) -> Response:
        identity = RequestIdentity.from_headers(request.scope["headers"])
        event_id = await self._sender.event_id(identity, route, "")
        job_id = job_id_of("search", event_id)
        asked = JobCommand(identity, event_id, job_id, "search")
        return await send_job(self._sender, self._cache, asked, make(job_id=job_id))

    async def _read(
        self, reader: ServiceReader, path: str, asked: Params | None = None
    ) -> Response:
        try:
            body = await reader.fetch(path, asked)
        except ServiceAwayError as error:
            raise service_away(error) from error
        return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})


class OpenedFilms:
    """Takes note of what was opened from a search."""

    def __init__(self, sender: CommandSender, signals: SearchSignals, policies: Policies) -> None:
        self._sender = sender
        self._signals = signals
        self._policies = policies

    def add_to(self, router: APIRouter) -> None:
        """Register the route."""
        router.add_api_route(
            "/search/opened",
            self.opened,
            methods=["POST"],
            status_code=202,
            tags=["search"],
            summary="Somebody opened a film from the results of a search",
            responses={
                202: {"model": Accepted},
                **COMMAND_RESPONSES,
                404: problem("Searches are not counted here (SEARCH_SIGNALS is off)"),
            },
            response_model=None,
            dependencies=[Depends(self._policies.views)],
            openapi_extra=command_docs(OpenedBody, _OPENED),
        )

    async def opened(self, request: Request) -> Response:
        """`search_id` is what the search answered in `X-Search-Id`. Nobody's id is kept."""
        identity = RequestIdentity.from_headers(request.scope["headers"])
        body = parse_body(OpenedBody, await read_body(request))
        if not self._signals.enabled:
            raise ProblemError(404, "Not counted", "Searches are not counted here.")
        now = datetime.now(UTC)
        opened = SearchOpened(
            movie_id=body.key,
            query=body.query,
            opened_at=body.opened_at or now,
            search_id=body.search_id,
        )
        visitor = visitor_of(request)
        # An Idempotency-Key is its client's own, as far as the client is known.
        route = "/search/opened" if visitor is None else f"/search/opened {visitor.actor}"
        asked = body.model_dump_json() if identity.idempotency_key else ""
        event_id = await self._sender.event_id(identity, route, asked)
        await self._sender.send(identity, event_id, opened, now)
        return Response(
            f'{{"event_id":"{event_id}","movie_id":"{body.key}",'
            f'"status_url":"/api/v1/events/{event_id}"}}',
            status_code=202,
            media_type="application/json",
            headers={"X-Correlation-Id": identity.correlation_id or event_id},
        )
