"""Hooks of Schemathesis: requests that fit the OpenAPI document and that are refused all the same.

Each kind has its reason, because JSON Schema cannot say it. Any other refusal of such a request
fails the test.
"""

import json
import re
from typing import Any, Final, cast

import schemathesis
from schemathesis.openapi.checks import RejectedPositiveData

ADMIN: Final = "admin"
MAX_WAIT: Final = 5
# A pattern of the problem's `detail` → what the document cannot say.
REFUSED: Final = {
    "contradicts": "two names of one parameter must not have different values",
    "lies beyond the first": "page times page_size has a limit",
    "year: ends before it begins": "the two ends of a range depend on each other",
    "must name 1 to 20 genres": "what is between commas",
    "order: needs sort to be": "one field depends on another",
    "was used for another request": "an Idempotency-Key belongs to the body it came with",
    r"'(tmdb-)?\d{10}' is no movie id": "the limit of a number within a text",
    "Input should be a valid integer": "5.0 is an integer to JSON Schema, and is none here",
    "must be a movie id such as": "5.0 is an integer to JSON Schema, and is none here",
    "must not contain the NUL character": "PostgreSQL's text has none",
    "must not contain control characters": "the characters that Unicode counts as printable",
    "more than 24 hours in the future": "depends on the day",
    "must lie between 2008-01-01 and today": "depends on the day",
    "must lie in the future": "depends on the day",
    "must not lie in the future": "depends on the day",
    "is after `to`": "of two days the first has to be the earlier one",
    "asks for no page, no film and no change": "one of several fields must say something",
    "A CSV, TSV or JSON file, plain or gzip, is expected": "what is in the file",
    "a field occurs twice": "OAuth 2.0 forbids it for any field of a form",
    "days: excludes": "two ways to name days exclude each other",
    "date_from: must not be after": "two fields depend on each other",
    "date_from: at most": "two fields depend on each other",
    "date_to: is before all days": "date_to less the days must be a day",
    "No event can be taken": "each event of a batch is judged by itself",
    "may hold letters, digits|must hold a letter": "the letters of all scripts",
    "must not repeat one character|most common passwords|must be more than": "good passwords",
}


@schemathesis.hook  # pyright: ignore[reportUnknownMemberType] -- untyped there
def filter_failure(_context: object, failure: object, _case: object, response: Any) -> bool:
    """Whether the failure counts."""
    if not isinstance(failure, RejectedPositiveData):
        return True
    try:
        problem: object = json.loads(response.content)
    except ValueError:
        return True
    if not isinstance(problem, dict):
        return True
    fields = cast("dict[str, object]", problem)
    said = f"{fields.get('title')}: {fields.get('detail')}"
    return not any(re.search(pattern, said) for pattern in REFUSED)


@schemathesis.hook  # pyright: ignore[reportUnknownMemberType] -- untyped there
def before_call(_context: object, case: Any, _kwargs: object) -> None:
    """Leave the administrator, in whose name all is asked, as it is; and do not wait for long."""
    if case.operation.path.startswith("/api/v1/admin/users/{name}"):
        name = case.path_parameters.get("name")
        if str(name).casefold() == ADMIN:
            case.path_parameters["name"] = f"not-{ADMIN}"
    query: dict[str, Any] = case.query or {}
    wait: object = query.get("wait")
    if isinstance(wait, int | float) and 0 < wait <= MAX_WAIT:
        query["wait"] = 0.05
