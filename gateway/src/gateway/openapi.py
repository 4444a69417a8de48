"""The OpenAPI page: what FastAPI derives, and the bodies that the routes read for themselves."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from moviemetric_contracts import Event
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.account_bodies import ACCOUNT_BODIES
from gateway.batch import ACCEPTED
from gateway.bodies import ComputeBody, IngestBody, RegisterBody, ViewBody
from gateway.policies import API_KEY, OAUTH2, Policy, policy_of
from gateway.prefixes import API_PREFIX
from gateway.shapes import AWAY, BatchProblem, Problem, problem

DESCRIPTION: Final = """\
What is trending, what is it like, find me that film: over your own traffic.

Commands answer **202** once the event is durable; its effect follows within moments. Send an
`Idempotency-Key` (a UUID) to make a retry safe. Errors are `application/problem+json`. Every answer
to a GET says how fresh it is (`as_of`, `X-Cache`), and `stale: true` while a service is away.

Reading is open. Users sign in with OAuth2 (`POST /auth/token`) and send the access token as
`Authorization: Bearer …`; programs send an API key as `X-API-Key`. What is limited says in
`RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` (seconds) where you stand, and
answers **429** with `Retry-After` beyond it.
"""

SECURITY_SCHEMES: Final[dict[str, Any]] = {
    OAUTH2: {
        "type": "oauth2",
        "description": "An access token of a user; short-lived, renewed with the refresh token.",
        "flows": {
            "password": {
                "tokenUrl": f"{API_PREFIX}/auth/token",
                "refreshUrl": f"{API_PREFIX}/auth/token",
                "scopes": {},
            }
        },
    },
    API_KEY: {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "For programs, with the scopes `events`, `views`, `movies` and `admin`.",
    },
}

TAGS: Final = [
    {"name": "commands", "description": "Ask for something to happen; 202 means durable."},
    {"name": "events", "description": "CloudEvents in batches, for busy producers."},
    {"name": "movies", "description": "The catalogue and the charts."},
    {"name": "search", "description": "Find a film, typing errors included."},
    {"name": "recommendations", "description": "Films like a film, and films for a user."},
    {"name": "analytics", "description": "Figures computed ahead, day by day."},
    {"name": "ratings", "description": "One rating of a user and a film; what all of them say."},
    {
        "name": "accounts",
        "description": "Sign up, sign in; what is kept of you.",
    },
    {"name": "imports", "description": "Fill the catalogue: files, and TMDB in bulk."},
    {"name": "jobs", "description": "What takes longer: followed, cancelled, tried again."},
    {"name": "administration", "description": "Users, API keys and the audit; for people only."},
    {"name": "live", "description": "What changes, as it changes."},
    {"name": "operations", "description": "Health and metrics."},
]

_BODIES: Final[tuple[type[BaseModel], ...]] = (
    RegisterBody,
    ViewBody,
    IngestBody,
    ComputeBody,
    *ACCOUNT_BODIES,
    Problem,
    BatchProblem,
)

_AMBIGUOUS: Final = problem("Malformed, or credentials of both kinds or twice")
_UNAUTHORIZED: Final = problem("No credentials, or such that prove nothing; `WWW-Authenticate`")
_FORBIDDEN: Final = problem("Not with these credentials")
_TOO_MANY: Final = problem("Too many requests; try again after `Retry-After` seconds")

HEADERS: Final[list[dict[str, Any]]] = [
    {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "The same key on the same route is the same event. Use a UUID.",
        "schema": {
            "type": "string",
            "pattern": "^[ -~]*[!-~][ -~]*$",
            "minLength": 1,
            "maxLength": 200,
        },
    },
    {
        "name": "X-Correlation-Id",
        "in": "header",
        "required": False,
        "description": "Carried by the event and all that follow from it, and given back. One of "
        "more than 200 characters, or with others than printable ASCII, is ignored.",
        "schema": {"type": "string"},
    },
    {
        "name": "traceparent",
        "in": "header",
        "required": False,
        "description": "W3C trace context, carried by the event; ignored if it is none.",
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


def _events() -> dict[str, Any]:
    """The schemas of the events that `POST /events` takes, and what they refer to."""
    schemas: dict[str, Any] = {}
    for cls in ACCEPTED:
        schema = Event[cls].model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs")
        schema["properties"]["type"] = {"const": cls.TYPE}
        schemas[cls.TYPE] = {**schema, "title": cls.TYPE}
    return schemas


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
            components = document.setdefault("components", {})
            components["securitySchemes"] = SECURITY_SCHEMES
            schemas = components.setdefault("schemas", {})
            for name, definition in {**definitions.get("$defs", {}), **_events()}.items():
                schemas.setdefault(name, definition)
            _add_policies(document, app)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = schema


def _add_policies(document: dict[str, Any], app: FastAPI) -> None:
    for route in app.routes:
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        policy = policy_of(route)
        if policy is None:
            continue
        for method in route.methods or ():
            operation = document["paths"][route.path_format][method.lower()]
            operation["security"] = policy.security
            for status, response in _refusals(policy).items():
                operation["responses"].setdefault(status, response)


def _refusals(policy: Policy) -> dict[str, dict[str, Any]]:
    """How a policy refuses a request, by status."""
    found: dict[str, dict[str, Any]] = {}
    if policy.credentials:
        found |= {"400": _AMBIGUOUS, "401": _UNAUTHORIZED, "403": _FORBIDDEN, "503": AWAY}
    if policy.limited:
        found["429"] = _TOO_MANY
    return found
