"""Signing in and out: OAuth 2.0's token endpoint (RFC 6749), revocation (RFC 7009), public keys."""

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from service_kit.http import PROBLEM_JSON
from starlette.responses import JSONResponse

from rating_service.accounts import Accounts, Tokens
from rating_service.api.dependencies import UNAVAILABLE, Problem, problems
from rating_service.api.forms import form_schema, read_form
from rating_service.signing_keys import SigningKeys

OAuthErrorCode = Literal["invalid_request", "invalid_grant", "unsupported_grant_type"]

_NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_SECRET: Final = {"type": "string", "format": "password"}
_TOKEN_FORM: Final = form_schema(
    {
        "grant_type": {"type": "string", "enum": ["password", "refresh_token"]},
        "username": {"type": "string", "description": "for `password`: the user's name"},
        "password": _SECRET,
        "refresh_token": {**_SECRET, "description": "for `refresh_token`"},
    },
    ["grant_type"],
)
_REVOKE_FORM: Final = form_schema(
    {
        "token": {**_SECRET, "description": "a refresh token"},
        "token_type_hint": {"type": "string"},
    },
    ["token"],
)


class TokenAnswer(BaseModel):
    """An access token, and the refresh token that gives the next one; times in seconds."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 -- a kind of token
    expires_in: int
    refresh_token: str
    refresh_expires_in: int


class OAuthProblem(Problem):
    """An error as both RFC 9457 and RFC 6749 have it."""

    error: OAuthErrorCode
    error_description: str


class Revoked(BaseModel):
    """Nothing: whether there was such a token is not told."""


class PublicKey(BaseModel):
    """A public key as RFC 8037 has it."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: str
    kid: str
    use: Literal["sig"]
    alg: Literal["EdDSA"]


class KeySet(BaseModel):
    """A JWK set (RFC 7517)."""

    keys: Annotated[list[PublicKey], Field(min_length=1)]


class OAuthError(Exception):
    """The request for a token is refused; `description` holds nothing of it."""

    def __init__(self, error: OAuthErrorCode, description: str) -> None:
        self.error: OAuthErrorCode = error
        self.description = description
        super().__init__(f"{error}: {description}")

    def response(self) -> Response:
        """The answer: always 400, as RFC 6749 asks where the client has no credentials."""
        problem = OAuthProblem(
            type="about:blank",
            title="Not signed in" if self.error == "invalid_grant" else "Invalid request",
            status=400,
            detail=self.description,
            error=self.error,
            error_description=self.description,
        )
        return JSONResponse(
            problem.model_dump(exclude_none=True),
            status_code=400,
            media_type=PROBLEM_JSON,
            headers=_NO_STORE,
        )


_REFUSED: Final[dict[int | str, dict[str, Any]]] = {
    400: {
        "description": "The form is not valid, or the credentials are not good.",
        "content": {PROBLEM_JSON: {"schema": OAuthProblem.model_json_schema()}},
    }
}
_TOO_LARGE: Final = problems(s413="The body is too large.")


def router(accounts: Accounts, keys: SigningKeys) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["sign in"])

    @routes.post(
        "/auth/token",
        summary="Sign in, or stay signed in",
        response_model=TokenAnswer,
        responses={**_REFUSED, **_TOO_LARGE, **UNAVAILABLE},
        openapi_extra=_TOKEN_FORM,
    )
    async def issue_tokens(request: Request) -> Response:
        try:
            tokens = await _granted(accounts, await _form(request))
        except OAuthError as error:
            return error.response()
        answer = TokenAnswer(
            access_token=tokens.access_token,
            expires_in=tokens.expires_in,
            refresh_token=tokens.refresh_token,
            refresh_expires_in=tokens.refresh_expires_in,
        )
        return JSONResponse(answer.model_dump(), headers=_NO_STORE)

    @routes.post(
        "/auth/revoke",
        summary="Sign out",
        description="Ends the session that a refresh token belongs to.",
        response_model=Revoked,
        responses={**_REFUSED, **_TOO_LARGE, **UNAVAILABLE},
        openapi_extra=_REVOKE_FORM,
    )
    async def revoke(request: Request) -> Response:
        try:
            form = await _form(request)
            await accounts.sign_out(_parameter(form, "token"))
        except OAuthError as error:
            return error.response()
        return JSONResponse({}, headers=_NO_STORE)

    @routes.get(
        "/.well-known/jwks.json",
        summary="The keys that access tokens are verified with",
        response_model=KeySet,
        responses=UNAVAILABLE,
    )
    async def jwks() -> Response:
        return JSONResponse(await keys.jwk_set(), headers={"Cache-Control": "public, max-age=60"})

    # FastAPI refers to them; nothing else does.
    _ = (issue_tokens, revoke, jwks)
    return routes


async def _granted(accounts: Accounts, form: dict[str, str]) -> Tokens:
    match _parameter(form, "grant_type"):
        case "password":
            tokens = await accounts.sign_in(
                _parameter(form, "username"), _parameter(form, "password")
            )
            description = "The name or the password is wrong."
        case "refresh_token":
            tokens = await accounts.refresh(_parameter(form, "refresh_token"))
            description = "The refresh token is not good, or not any more; sign in again."
        case _:
            description = "grant_type: expected password or refresh_token"
            raise OAuthError("unsupported_grant_type", description)
    if tokens is None:
        raise OAuthError("invalid_grant", description)
    return tokens


async def _form(request: Request) -> dict[str, str]:
    try:
        return await read_form(request)
    except ValueError as error:
        raise OAuthError("invalid_request", str(error)) from None


def _parameter(form: dict[str, str], name: str) -> str:
    if name not in form:
        raise OAuthError("invalid_request", f"{name}: is missing")
    return form[name]
