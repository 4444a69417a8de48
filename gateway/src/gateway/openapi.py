"""The OpenAPI page: what FastAPI derives, and the bodies that the routes read for themselves."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.bodies import IngestBody, RegisterBody, ViewBody
from gateway.shapes import BatchProblem, Problem

DESCRIPTION: Final = """\
What is trending, what is it like, find me that film: over your own traffic.

Commands answer **202** once the event is durable; its effect follows within moments. Send an
`Idempotency-Key` (a UUID) to make a retry safe. Errors are `application/problem+json`. Every answer
to a GET says how fresh it is (`as_of`, `X-Cache`), and `stale: true` while a service is away.
"""

TAGS: Final = [
    {"name": "commands", "description": "Ask for something to happen; 202 means durable."},
    {"name": "events", "description": "CloudEvents in batches, for busy producers."},
    {"name": "movies", "description": "The catalogue and the charts."},
    {"name": "search", "description": "Find a film, typing errors included."},
    {"name": "imports", "description": "Fill the catalogue: files, and TMDB in bulk."},
    {"name": "jobs", "description": "What takes longer: followed, cancelled, tried again."},
    {"name": "live", "description": "What changes, as it changes."},
    {"name": "operations", "description": "Health and metrics."},
]

_BODIES: Final[tuple[type[BaseModel], ...]] = (
    RegisterBody,
    ViewBody,
    IngestBody,
    Problem,
    BatchProblem,
)

HEADERS: Final[list[dict[str, Any]]] = [
    {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "The same key on the same route is the same event. Use a UUID.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 200},
    },
    {
        "name": "X-Correlation-Id",
        "in": "header",
        "required": False,
        "description": "Carried by the event and all that follow from it, and given back.",
        "schema": {"type": "string", "maxLength": 200},
    },
    {
        "name": "traceparent",
        "in": "header",
        "required": False,
        "description": "W3C trace context, carried by the event.",
        "schema": {"type": "string"},
    },
]


def command_docs(
    body: type[BaseModel] | None, example: dict[str, Any] | None, *, required: bool = True
) -> dict[str, Any]:
    """`openapi_extra` of a route that reads its body for itself."""
    extra: dict[str, Any] = {"parameters": HEADERS}
    if body is not None:
        extra["requestBody"] = {
            "required": required,
            "content": {
                "application/json": {
                    "schema": {"$ref": f"#/components/schemas/{body.__name__}"},
                    "example": example,
                }
            },
        }
    return extra


def describe(app: FastAPI) -> None:
    """Give the application its title and its complete schema."""
    app.title = "MovieMetric"
    app.version = "1"

    def schema() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=DESCRIPTION,
                tags=TAGS,
                routes=app.routes,
            )
            _, definitions = models_json_schema(
                [(body, "validation") for body in _BODIES],
                ref_template="#/components/schemas/{model}",
            )
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            for name, definition in definitions.get("$defs", {}).items():
                schemas.setdefault(name, definition)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = schema
