"""The bodies of requests about accounts.

Here is checked what they look like. rating-service, to which they are passed on, knows which names
and passwords are allowed; so their limits in the documentation are its own.
"""

import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final, Literal
from urllib.parse import parse_qsl

from moviemetric_contracts import Moment
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, WithJsonSchema
from service_kit.http import PROBLEM_JSON
from starlette.responses import Response

from gateway.bodies import Body, RateBody, RatingBody, require_timestamp
from gateway.shapes import Problem

Role = Literal["user", "admin"]
KeyScope = Literal["events", "views", "movies", "admin"]

MAX_FORM: Final = 8 * 1024
_MAX_FIELDS: Final = 20
_MAX_NAME: Final = 300
_MAX_PASSWORD: Final = 1_000
JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"


def _no_nul(text: str) -> str:
    if "\x00" in text:
        msg = "must not contain the NUL character"
        raise ValueError(msg)
    return text


def _written(value: object) -> object:
    return value if isinstance(value, datetime) else require_timestamp(value)


UserName = Annotated[
    str,
    Field(max_length=_MAX_NAME),
    AfterValidator(_no_nul),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 3,
            "maxLength": 30,
            "description": "letters and digits of any script, `_`, `.` and `-`; two names that "
            "differ in case alone are the same",
            "examples": ["ada"],
        }
    ),
]
NewPassword = Annotated[
    str,
    Field(max_length=_MAX_PASSWORD, repr=False),
    AfterValidator(_no_nul),
    WithJsonSchema(
        {
            "type": "string",
            "format": "password",
            "minLength": 10,
            "maxLength": 128,
            "description": "not a common one, and not made of the user's name",
        }
    ),
]
Password = Annotated[
    str,
    Field(max_length=_MAX_PASSWORD, repr=False),
    AfterValidator(_no_nul),
    WithJsonSchema({"type": "string", "format": "password", "maxLength": _MAX_PASSWORD}),
]


class SignUpBody(Body):
    """A new account."""

    name: UserName
    password: NewPassword


class PasswordBody(Body):
    """A new password; it ends all sessions."""

    current_password: Password
    new_password: NewPassword


class EraseBody(Body):
    """The password, so that a session alone cannot erase an account."""

    password: Password


class RoleBody(Body):
    """What a user may do."""

    role: Role


class KeyBody(Body):
    """A new API key."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=100, description="what it is for", examples=["player"]),
        AfterValidator(_no_nul),
    ]
    scopes: Annotated[tuple[KeyScope, ...], Field(min_length=1, max_length=4)]
    expires_at: Annotated[
        Annotated[Moment, BeforeValidator(_written)] | None,
        Field(description="RFC 3339 with a zone; never if absent"),
    ] = None


class FormError(ValueError):
    """A form that cannot be read; the message is for people."""


def parse_form(content_type: str, raw: bytes) -> dict[str, str]:
    """The fields of a form as OAuth 2.0 has it: none of them twice.

    Raises:
        FormError: it is none, or larger than any that is meant.
    """
    if content_type.partition(";")[0].strip().lower() != FORM:
        msg = f"send a form: Content-Type {FORM}"
        raise FormError(msg)
    if len(raw) > MAX_FORM:
        msg = f"the form may have {MAX_FORM} bytes at most"
        raise FormError(msg)
    try:
        pairs = parse_qsl(
            raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS
        )
    except UnicodeDecodeError:
        msg = "the form is not UTF-8"
        raise FormError(msg) from None
    except ValueError:
        msg = f"the form may have {_MAX_FIELDS} fields at most"
        raise FormError(msg) from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        msg = "a field occurs twice"
        raise FormError(msg)
    if any("\x00" in value for value in fields.values()):
        msg = "a field contains the NUL character"
        raise FormError(msg)
    return fields


def account_of(form: Mapping[str, str]) -> str | None:
    """What is the same for all spellings of the name in a form, known or not; None: it has none."""
    name = form.get("username", "")
    folded = unicodedata.normalize("NFKC", name).casefold()
    return unicodedata.normalize("NFKC", folded).strip() or None


class OAuthProblem(Problem):
    """A problem that also says what OAuth 2.0 says (RFC 6749, 5.2)."""

    error: str = Field(examples=["invalid_grant"])
    error_description: str


def invalid_form(description: str) -> Response:
    """The 400 for a form that cannot be read."""
    said = OAuthProblem(
        title="Invalid request",
        status=400,
        detail=description,
        error="invalid_request",
        error_description=description,
    )
    content = said.model_dump_json(exclude_none=True)
    return Response(content, status_code=400, media_type=PROBLEM_JSON)


# What the OpenAPI page defines for the routes that read their bodies for themselves.
ACCOUNT_BODIES: Final[tuple[type[BaseModel], ...]] = (
    RatingBody,
    RateBody,
    SignUpBody,
    PasswordBody,
    EraseBody,
    RoleBody,
    KeyBody,
    OAuthProblem,
)
