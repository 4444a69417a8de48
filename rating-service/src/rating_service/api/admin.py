"""For administrators: users, API keys, and the record of what administrators did.

The role is looked up: a token may be older than the loss of it.
"""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, Field
from service_kit import Database, ProblemError
from service_kit.tokens import AccessToken, Role

from rating_service import accounts_repository as repository
from rating_service import api_keys, audit
from rating_service.accounts import Accounts
from rating_service.api.accounts import ErasureAnswer, find_named, gone, status_url
from rating_service.api.dependencies import (
    INVALID,
    UNAUTHORIZED,
    UNAVAILABLE,
    Bearer,
    forbidden,
    problems,
)
from rating_service.api.fields import Body, FutureMoment, KeyName, Limit, Offset
from rating_service.api_keys import Scope
from rating_service.names import UserName, search_key
from rating_service.transactions import repeated


class RoleBody(Body):
    """What somebody is to be."""

    role: Role


class KeyBody(Body):
    """What the new key is called, what it may do, and until when."""

    name: KeyName
    scopes: Annotated[frozenset[Scope], Field(min_length=1)]
    expires_at: FutureMoment | None = None


class ListedUser(BaseModel, from_attributes=True):
    """A user in a list."""

    name: str
    role: Role
    created_at: datetime


class UserList(BaseModel):
    """A page of users by name."""

    items: list[ListedUser]
    total: int
    limit: int
    offset: int
    as_of: datetime


class UserRole(BaseModel):
    """What a user is now."""

    name: str
    role: Role


class ListedKey(BaseModel, from_attributes=True):
    """An API key without its secret; `created_by` is None where that user was erased."""

    key_id: str
    name: str
    scopes: list[Scope]
    created_by: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class KeyList(BaseModel):
    """A page of API keys, newest first."""

    items: list[ListedKey]
    total: int
    limit: int
    offset: int
    as_of: datetime


class NewKey(BaseModel):
    """A key that was just made; `key` is shown this once."""

    key_id: str
    key: str
    name: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None


class AuditRecord(BaseModel, from_attributes=True):
    """Somebody did something; `actor` is a name, `key:<key id>` or `erased`."""

    actor: str
    action: str
    acted_at: datetime
    address: str | None


class AuditList(BaseModel):
    """A page of records, newest first."""

    items: list[AuditRecord]
    total: int
    limit: int
    offset: int
    as_of: datetime


_REFUSED = {
    **UNAUTHORIZED,
    **problems(s403="Only administrators may do that."),
    **INVALID,
    **UNAVAILABLE,
}
_TOO_LARGE = problems(s413="The body is too large.")
_NO_SUCH_USER = problems(s404="There is no such user.")
_LAST_ADMIN = problems(s409="The last administrator stays one.")


def router(database: Database, accounts: Accounts, tokens: Bearer) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["administration"])

    async def administrator(token: Annotated[AccessToken, Depends(tokens)]) -> AccessToken:
        async with database.reading() as connection:
            account = await repository.find_by_id(connection, token.user_id)
        if account is None:
            raise gone()
        if account.role != "admin":
            raise forbidden("this needs an administrator")
        return token

    admins_only = [Depends(administrator)]

    @routes.get("/admin/users", summary="Users", responses=_REFUSED, dependencies=admins_only)
    async def list_users(
        q: Annotated[str, Query(max_length=100, description="a part of the name")] = "",
        limit: Limit = 20,
        offset: Offset = 0,
    ) -> UserList:
        # PostgreSQL refuses U+0000 in a parameter; no name holds one.
        part = search_key(q).replace("\x00", "\ufffd")
        async with database.reading() as connection:
            users, total = await repository.list_users(
                connection, part=part, limit=limit, offset=offset
            )
        return UserList(
            items=[ListedUser.model_validate(user) for user in users],
            total=total,
            limit=limit,
            offset=offset,
            as_of=datetime.now(UTC),
        )

    @routes.put(
        "/admin/users/{name}/role",
        summary="Make a user an administrator, or no longer",
        responses={**_REFUSED, **_NO_SUCH_USER, **_LAST_ADMIN, **_TOO_LARGE},
        dependencies=admins_only,
    )
    async def set_role(name: Annotated[str, Path()], body: RoleBody) -> UserRole:
        async with database.reading() as connection:
            account = await find_named(connection, name)
        await accounts.set_role(account.user_id, body.role)
        return UserRole(name=account.name.shown, role=body.role)

    @routes.delete(
        "/admin/users/{name}",
        status_code=202,
        summary="Erase a user",
        responses={**_REFUSED, **_NO_SUCH_USER, **_LAST_ADMIN},
        dependencies=admins_only,
    )
    async def erase_user(name: Annotated[str, Path()]) -> ErasureAnswer:
        async with database.reading() as connection:
            account = await find_named(connection, name)
        event_id = await accounts.erase(account.user_id)
        return ErasureAnswer(event_id=event_id, status_url=status_url(event_id))

    @routes.get("/admin/api-keys", summary="API keys", responses=_REFUSED, dependencies=admins_only)
    async def list_keys(limit: Limit = 100, offset: Offset = 0) -> KeyList:
        async with database.reading() as connection:
            keys, total = await api_keys.list_keys(connection, limit=limit, offset=offset)
        return KeyList(
            items=[ListedKey.model_validate(key) for key in keys],
            total=total,
            limit=limit,
            offset=offset,
            as_of=datetime.now(UTC),
        )

    @routes.post(
        "/admin/api-keys",
        status_code=201,
        summary="Make an API key",
        responses={**_REFUSED, **_TOO_LARGE},
    )
    async def create_key(
        admin: Annotated[AccessToken, Depends(administrator)], body: KeyBody, response: Response
    ) -> NewKey:
        response.headers["Cache-Control"] = "no-store"

        async def create() -> NewKey:
            async with database.transaction() as connection:
                # Held, so that an erasure sees what refers to the user.
                if not await repository.lock_users(connection, [admin.user_id]):
                    raise gone()
                key_id, key, created_at = await api_keys.create(
                    connection,
                    name=body.name,
                    scopes=body.scopes,
                    created_by=admin.user_id,
                    expires_at=body.expires_at,
                )
            return NewKey(
                key_id=key_id,
                key=key,
                name=body.name,
                scopes=sorted(body.scopes),
                created_at=created_at,
                expires_at=body.expires_at,
            )

        return await repeated(create)

    @routes.delete(
        "/admin/api-keys/{key_id}",
        status_code=204,
        summary="Revoke an API key",
        responses={**_REFUSED, **problems(s404="There is no such key.")},
        dependencies=admins_only,
    )
    async def revoke_key(key_id: Annotated[str, Path(pattern=api_keys.KEY_ID_PATTERN)]) -> None:
        async def revoke() -> bool:
            async with database.transaction() as connection:
                return await api_keys.revoke(connection, key_id)

        if not await repeated(revoke):
            raise ProblemError(404, "Unknown key", f"There is no API key {key_id}.")

    @routes.get(
        "/admin/audit",
        summary="What administrators did",
        responses=_REFUSED,
        dependencies=admins_only,
    )
    async def list_audit(
        actor: Annotated[
            str | None, Query(max_length=200, description="a name, or `key:<key id>`")
        ] = None,
        limit: Limit = 20,
        offset: Offset = 0,
    ) -> AuditList:
        async with database.reading() as connection:
            records, total = await audit.list_records(
                connection,
                actor=None if actor is None else actor.replace("\x00", "\ufffd"),
                name_key=_name_key(actor),
                limit=limit,
                offset=offset,
            )
        return AuditList(
            items=[AuditRecord.model_validate(record) for record in records],
            total=total,
            limit=limit,
            offset=offset,
            as_of=datetime.now(UTC),
        )

    # FastAPI refers to them; nothing else does.
    _ = (list_users, set_role, erase_user, list_keys, create_key, revoke_key, list_audit)
    return routes


def _name_key(written: str | None) -> str | None:
    try:
        return UserName.parse(written).key if written is not None else None
    except ValueError:
        return None
