"""What only other services ask: whether an API key is good."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, StringConstraints
from service_kit import Database, ProblemError

from rating_service import api_keys
from rating_service.api.dependencies import INVALID, UNAVAILABLE, problems
from rating_service.api.fields import Body
from rating_service.api_keys import KEY_ID_PATTERN, Scope


class PresentedKey(Body):
    """A key as somebody presents it; `digest` is the SHA-256 of its secret in hexadecimal."""

    key_id: Annotated[str, StringConstraints(pattern=KEY_ID_PATTERN)]
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class KnownKey(BaseModel, from_attributes=True):
    """A good key and what it may do."""

    key_id: str
    name: str
    scopes: list[Scope]


def router(database: Database) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["internal"])

    @routes.post(
        "/internal/api-keys/verify",
        summary="Whether an API key is good",
        responses={
            **problems(s404="There is no such key, or it was revoked, or has expired."),
            **INVALID,
            **UNAVAILABLE,
        },
    )
    async def verify(body: PresentedKey) -> KnownKey:
        async with database.reading() as connection:
            known = await api_keys.verify(connection, body.key_id, bytes.fromhex(body.digest))
        if known is None:
            raise ProblemError(404, "Unknown key", "There is no such API key, or not any more.")
        return KnownKey.model_validate(known)

    # FastAPI refers to it; nothing else does.
    _ = verify
    return routes
