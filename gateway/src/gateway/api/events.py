"""`POST /events`: CloudEvents in structured JSON, one or a batch, with a result for each."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any, Final, cast

from fastapi import APIRouter, Depends, Request
from moviemetric_contracts import CLOUDEVENTS_BATCH_JSON, CLOUDEVENTS_JSON
from service_kit.http import PROBLEM_JSON, ProblemError
from starlette.responses import Response

from gateway.api.commands import read_body
from gateway.batch import ACCEPTED, Item, read_item, results
from gateway.bodies import invalid, parse_json
from gateway.identity import RequestIdentity
from gateway.limits import MAX_BATCH
from gateway.outbound import RETRY_AFTER, Outbound
from gateway.policies import Policies
from gateway.shapes import BATCH_RESPONSES, BatchAccepted

# As many events as fit into a body; of commas and zeros there is room for a hundred times that.
MAX_ITEMS: Final = 6000
# Reading a full batch takes long enough for other requests to notice.
_ITEMS_AT_A_TIME: Final = 200

_EXAMPLE: Final[dict[str, Any]] = {
    "specversion": "1.0",
    "id": "player-7/184467",
    "source": "/players/7",
    "type": "movie.viewed.v1",
    "data": {"movie_id": "tmdb-27205", "viewed_at": "2025-01-31T20:15:00Z", "user_id": "u-1"},
}
EVENTS: Final = [{"$ref": f"#/components/schemas/{cls.TYPE}"} for cls in ACCEPTED]
_DOCS: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            CLOUDEVENTS_BATCH_JSON: {
                "schema": {
                    "type": "array",
                    "minItems": 1,
                    "description": f"Each is taken or refused by itself; {MAX_ITEMS} at most, and "
                    f"{MAX_BATCH // 1024} KiB in all.",
                    "items": {"anyOf": [*EVENTS, {}]},
                },
                "example": [_EXAMPLE],
            },
            CLOUDEVENTS_JSON: {"schema": {"anyOf": EVENTS}, "example": _EXAMPLE},
        },
    }
}


class Events:
    """The handler."""

    def __init__(self, outbound: Outbound, policies: Policies) -> None:
        self._outbound = outbound
        self._policies = policies

    def add_to(self, router: APIRouter) -> None:
        """Register the route."""
        router.add_api_route(
            "/events",
            self.post,
            methods=["POST"],
            status_code=202,
            tags=["events"],
            summary="Publish CloudEvents; the good ones are taken, the bad ones named",
            responses={202: {"model": BatchAccepted}, **BATCH_RESPONSES},
            response_model=None,
            openapi_extra=_DOCS,
            dependencies=[Depends(self._policies.events)],
        )

    async def post(self, request: Request) -> Response:
        """Accepted types: movie.viewed.v1, movie.register.v1, movie.refresh.v1.

        An event's `id` is its identity: sending it again has no second effect. On 503 send the
        items with status `failed` again, or simply all of them.
        """
        content_type = request.headers.get("content-type", "")
        fields = _items(content_type, await read_body(request))
        identity = RequestIdentity.from_headers(request.scope["headers"])
        items = await _read_items(fields)
        good = [item for item in items if item.event is not None]
        events = [_with_identity(item, identity) for item in good]
        reasons = await self._outbound.send_many(events) if events else []
        failures = {
            item.index: reason
            for item, reason in zip(good, reasons, strict=True)
            if reason is not None
        }
        return _answer(items, failures, identity)


def _items(content_type: str, raw: bytes) -> list[object]:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in (CLOUDEVENTS_BATCH_JSON, CLOUDEVENTS_JSON):
        raise ProblemError(
            415,
            "Unsupported content type",
            f"Send {CLOUDEVENTS_BATCH_JSON} (an array of events) or {CLOUDEVENTS_JSON} (one).",
            errors=[{"field": "Content-Type", "message": "must be a type of CloudEvents"}],
        )
    fields = parse_json(raw)
    if media_type == CLOUDEVENTS_JSON:
        return [fields]
    if not isinstance(fields, list):
        raise invalid([("(body)", "must be an array of events")])
    if not fields:
        raise invalid([("(body)", "must hold at least one event")])
    items = cast("list[object]", fields)
    if len(items) > MAX_ITEMS:
        raise ProblemError(
            413,
            "Batch too large",
            f"A batch may hold {MAX_ITEMS} events at most; this one holds {len(items)}.",
            errors=[{"field": "(body)", "message": f"more than {MAX_ITEMS} items"}],
        )
    return items


async def _read_items(fields: list[object]) -> list[Item]:
    now = datetime.now(UTC)
    items: list[Item] = []
    for index, item in enumerate(fields):
        items.append(read_item(index, item, now))
        if index % _ITEMS_AT_A_TIME == _ITEMS_AT_A_TIME - 1:
            await asyncio.sleep(0)
    return items


def _with_identity(item: Item, identity: RequestIdentity) -> Any:
    event = item.event
    assert event is not None  # noqa: S101 -- the caller has filtered
    update: dict[str, str] = {}
    if event.correlationid is None and identity.correlation_id is not None:
        update["correlationid"] = identity.correlation_id
    if event.traceparent is None and identity.traceparent is not None:
        update["traceparent"] = identity.traceparent
    return event.model_copy(update=update) if update else event


def _answer(items: list[Item], failures: dict[int, str], identity: RequestIdentity) -> Response:
    answers = results(items, failures)
    rejected = [item for item in items if item.error is not None]
    headers = {"X-Correlation-Id": identity.correlation_id} if identity.correlation_id else {}
    if failures:
        headers["Retry-After"] = RETRY_AFTER
        detail = (
            f"{len(failures)} of {len(items)} events are not confirmed. Send those with status "
            "'failed' again, with the same ids."
        )
        return _problem(503, "Events not confirmed", detail, [], answers, headers)
    if len(rejected) == len(items):
        errors = [
            {"field": f"[{item.index}].{item.error.field}", "message": item.error.message}
            for item in rejected[:10]
            if item.error is not None
        ]
        detail = "; ".join(f"{error['field']}: {error['message']}" for error in errors)
        return _problem(422, "No event can be taken", detail, errors, answers, headers)
    body = {
        "accepted": len(items) - len(rejected),
        "rejected": len(rejected),
        "results": answers,
    }
    return Response(
        json.dumps(body), status_code=202, media_type="application/json", headers=headers
    )


def _problem(
    status: int,
    title: str,
    detail: str,
    errors: list[dict[str, str]],
    answers: list[dict[str, Any]],
    headers: dict[str, str],
) -> Response:
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
    }
    if errors:
        body["errors"] = errors
    body["results"] = answers
    return Response(json.dumps(body), status_code=status, media_type=PROBLEM_JSON, headers=headers)
