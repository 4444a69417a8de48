"""Who is asking: the access token of the `Authorization` header (RFC 6750).

tokens = Bearer(keys)

@router.get("/users/me", responses=UNAUTHORIZED)
async def me(token: Annotated[AccessToken, Depends(tokens)]) -> …
"""

from typing import Any, Final

from fastapi import Request
from pydantic import BaseModel
from service_kit import ProblemError
from service_kit.http import PROBLEM_JSON
from service_kit.tokens import (
    AccessToken,
    InvalidTokenError,
    UnknownKeyError,
    read_access_token,
)

from rating_service.signing_keys import SigningKeys


class FieldError(BaseModel):
    """One field that is wrong."""

    field: str
    message: str


class Problem(BaseModel):
    """An error as RFC 9457 has it; `errors` where fields are wrong."""

    type: str
    title: str
    status: int
    detail: str | None = None
    errors: list[FieldError] | None = None


def problems(**described: str) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route: `problems(s404="There is no such user.")`."""
    return {
        int(name.removeprefix("s")): {
            "description": description,
            "content": {PROBLEM_JSON: {"schema": Problem.model_json_schema()}},
        }
        for name, description in described.items()
    }


UNAUTHORIZED: Final = problems(s401="No access token was given, or one that proves nothing.")
UNAVAILABLE: Final = problems(s503="Try again later.")
INVALID: Final = problems(s422="The request is not valid; `errors` names the fields.")


def unauthorized(reason: str) -> ProblemError:
    """The 401 for credentials that prove nothing; `reason` is plain ASCII without quotes."""
    challenge = f'Bearer error="invalid_token", error_description="{reason}"'
    return ProblemError(401, "Not signed in", reason, headers={"WWW-Authenticate": challenge})


def forbidden(reason: str) -> ProblemError:
    """The 403 for somebody who is known, but may not do that."""
    challenge = f'Bearer error="insufficient_scope", error_description="{reason}"'
    return ProblemError(403, "Not allowed", reason, headers={"WWW-Authenticate": challenge})


class Bearer:
    """A FastAPI dependency that answers the request's `AccessToken`, or 401."""

    def __init__(self, keys: SigningKeys) -> None:
        self._keys = keys

    async def __call__(self, request: Request) -> AccessToken:
        """Raises ProblemError: 401, or 503 while there is no key to check tokens with."""
        headers = request.headers.getlist("authorization")
        if not headers:
            raise ProblemError(
                401,
                "Not signed in",
                "This needs an access token: Authorization: Bearer <token>.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        scheme, _, token = headers[0].partition(" ")
        if len(headers) > 1 or scheme.lower() != "bearer":
            reason = "expected one Authorization header with the scheme Bearer"
            raise unauthorized(reason)
        try:
            return await self._believed(token.strip())
        except InvalidTokenError as error:
            raise unauthorized(str(error)) from None

    async def _believed(self, token: str) -> AccessToken:
        try:
            return read_access_token(token, await self._keys.public())
        except UnknownKeyError:
            return read_access_token(token, await self._keys.public(look_again=True))
