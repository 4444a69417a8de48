"""Form bodies as OAuth 2.0 has them (RFC 6749): `application/x-www-form-urlencoded`, UTF-8.

A parameter may occur once, one without a value counts as absent, and unknown ones are ignored.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from fastapi import Request

FORM: Final = "application/x-www-form-urlencoded"
_MAX_FIELDS: Final = 20


async def read_form(request: Request) -> dict[str, str]:
    """The parameters.

    Raises:
        ValueError: it is no such form; the message holds nothing of its values.
    """
    types = request.headers.getlist("content-type")
    if len(types) != 1 or types[0].partition(";")[0].strip().lower() != FORM:
        msg = f"expected a body of type {FORM}"
        raise ValueError(msg)
    fields: dict[str, str] = {}
    for name, value in _pairs(await request.body()):
        if name in fields:
            msg = "a parameter occurs more than once"
            raise ValueError(msg)
        if "\x00" in value:
            msg = "a parameter contains the NUL character"
            raise ValueError(msg)
        fields[name] = value
    return {name: value for name, value in fields.items() if value}


def _pairs(body: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS
        )
    except UnicodeDecodeError:
        msg = "the form is not UTF-8"
    except ValueError:
        msg = f"the form has more than {_MAX_FIELDS} parameters"
    raise ValueError(msg) from None


def form_schema(properties: Mapping[str, Any], required: list[str]) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads a form."""
    schema = {"type": "object", "properties": dict(properties), "required": required}
    return {"requestBody": {"required": True, "content": {FORM: {"schema": schema}}}}
