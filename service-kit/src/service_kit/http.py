"""Errors of an HTTP API as RFC 9457 `application/problem+json`."""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service_kit.outcomes import Outage

log = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"


class FieldProblem(TypedDict):
    """One field that is wrong."""

    field: str
    message: str


class ProblemError(Exception):
    """Answer the request with this problem.

    Attributes:
        errors: which fields are wrong, where that is what is wrong.
        headers: for instance `Retry-After`.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str = "",
        *,
        errors: Sequence[FieldProblem] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = list(errors) if errors else None
        self.headers = headers
        super().__init__(f"{status} {title}: {detail}")

    def response(self) -> Response:
        """The answer itself."""
        body: dict[str, Any] = {"type": "about:blank", "title": self.title, "status": self.status}
        if self.detail:
            body["detail"] = self.detail
        if self.errors:
            body["errors"] = self.errors
        return Response(
            json.dumps(body),
            status_code=self.status,
            media_type=PROBLEM_JSON,
            headers=dict(self.headers) if self.headers else None,
        )


def field_name(location: Sequence[object]) -> str:
    """`("body", "movie_id")` → `movie_id`; the whole body is `(body)`."""
    parts = [str(part) for part in location]
    if len(parts) > 1 and parts[0] in {"body", "query", "path", "header"}:
        parts = parts[1:]
    return ".".join(parts) or "(body)"


def _on_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)  # noqa: S101 -- registered for nothing else
    return error.response()


def _on_http_exception(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 -- registered for nothing else
    return ProblemError(
        error.status_code, str(error.detail), headers=dict(error.headers or {})
    ).response()


def _on_invalid_request(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 -- registered for nothing else
    errors: list[FieldProblem] = [
        {"field": field_name(item["loc"]), "message": item["msg"].removeprefix("Value error, ")}
        for item in error.errors()
    ]
    detail = "; ".join(f"{item['field']}: {item['message']}" for item in errors)
    return ProblemError(422, "Invalid request", detail, errors=errors).response()


def _on_outage(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Outage)  # noqa: S101 -- registered for nothing else
    log.warning("request refused", extra={"reason": str(error)})
    detail = f"{error.dependency} is not available at the moment"
    return ProblemError(503, "Service unavailable", detail, headers={"Retry-After": "2"}).response()


def _on_defect(request: Request, error: Exception) -> Response:
    # Starlette raises it again after the answer, so the server's log has the traceback.
    log.error("request failed", extra={"path": request.url.path, "reason": repr(error)})
    return ProblemError(500, "Internal error", "the server's log has the details").response()


def install_problem_handlers(app: FastAPI) -> None:
    """Make every error of `app` a problem document."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(Outage, _on_outage)
    app.add_exception_handler(Exception, _on_defect)
