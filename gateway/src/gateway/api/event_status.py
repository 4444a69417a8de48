"""`GET /events/{event_id}`: which services have processed an event."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from moviemetric_contracts.envelope import EventId
from pydantic_core import to_json
from starlette.responses import Response

from gateway.account_shapes import EVENT_RESPONSES
from gateway.account_shapes import EventStatus as EventStatusShape
from gateway.api.passing import NoStoreRoute
from gateway.inboxes import MAX_WAIT, Inboxes
from gateway.policies import Policies

WaitParameter = Annotated[
    float,
    Query(
        ge=0,
        le=MAX_WAIT,
        allow_inf_nan=False,
        description="seconds to wait until it is processed",
    ),
]


def event_status_url(event_id: str) -> str:
    """Where an event that the gateway has made can be followed."""
    return f"/api/v1/events/{event_id}"


class EventStatus:
    """The handler."""

    def __init__(self, inboxes: Inboxes, policies: Policies) -> None:
        self._inboxes = inboxes
        self._policies = policies

    def add_to(self, router: APIRouter) -> None:
        """Register the route."""
        router.add_api_route(
            # Producers choose the ids of their events, and may have put slashes into them.
            "/events/{event_id:path}",
            self.get,
            methods=["GET"],
            tags=["events"],
            summary="Which services have processed an event",
            responses={200: {"model": EventStatusShape}, **EVENT_RESPONSES},
            response_model=None,
            dependencies=[Depends(self._policies.reads)],
            route_class_override=NoStoreRoute,
        )

    async def get(
        self, event_id: Annotated[EventId, Path()], wait: WaitParameter = 0.0
    ) -> Response:
        """An event that nothing is known of is not processed yet, or was never published. With
        `wait` the answer comes as soon as one service has processed it."""
        effects, away = await self._inboxes.all_effects(event_id, wait)
        status = {
            "event_id": event_id,
            "processed": bool(effects),
            "services": effects,
            "away": away,
            "as_of": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        }
        return Response(to_json(status), media_type="application/json")
