"""Users, API keys and audit records, for administrators in person; rating-service owns them."""

import re
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from service_kit.http import ProblemError
from starlette.responses import Response

from gateway.account_bodies import KeyBody, RoleBody
from gateway.account_shapes import (
    ACCOUNT_RESPONSES,
    ERASE_RESPONSES,
    MAKE_KEY_RESPONSES,
    REVOKE_KEY_RESPONSES,
    ROLE_RESPONSES,
    AccountList,
    ApiKeyList,
    ApiKeyMade,
    AuditList,
    EraseAccepted,
    RoleGiven,
    body_docs,
)
from gateway.api.commands import read_body
from gateway.api.parameters import LimitParameter, OffsetParameter, Words, given
from gateway.api.passing import NoStoreRoute, pass_on, user_name
from gateway.bodies import parse_body
from gateway.policies import Policies
from gateway.readers import ServiceReader, path_part

_KEY_ID: Final = re.compile(r"[0-9a-f]{12}", re.ASCII)


class Administration:
    """The handlers."""

    def __init__(self, rating: ServiceReader, policies: Policies) -> None:
        self._rating = rating
        self._policies = policies

    def add_to(self, router: APIRouter) -> None:
        """Register the routes."""
        common: dict[str, Any] = {
            "tags": ["administration"],
            "response_model": None,
            "dependencies": [Depends(self._policies.human_admin)],
            "route_class_override": NoStoreRoute,
        }
        router.add_api_route(
            "/admin/users",
            self.users,
            methods=["GET"],
            summary="Accounts",
            responses={200: {"model": AccountList}, **ACCOUNT_RESPONSES},
            **common,
        )
        router.add_api_route(
            "/admin/users/{name}/role",
            self.give_role,
            methods=["PUT"],
            summary="Make somebody an administrator, or a user again",
            responses={200: {"model": RoleGiven}, **ROLE_RESPONSES},
            openapi_extra=body_docs(RoleBody, {"role": "admin"}),
            **common,
        )
        router.add_api_route(
            "/admin/users/{name}",
            self.erase_user,
            methods=["DELETE"],
            status_code=202,
            summary="Erase an account, and everything that is known of its user",
            responses={202: {"model": EraseAccepted}, **ERASE_RESPONSES},
            **common,
        )
        router.add_api_route(
            "/admin/api-keys",
            self.api_keys,
            methods=["GET"],
            summary="API keys, without what proves them",
            responses={200: {"model": ApiKeyList}, **ACCOUNT_RESPONSES},
            **common,
        )
        router.add_api_route(
            "/admin/api-keys",
            self.make_key,
            methods=["POST"],
            status_code=201,
            summary="Make an API key; it is shown this once",
            responses={201: {"model": ApiKeyMade}, **MAKE_KEY_RESPONSES},
            openapi_extra=body_docs(KeyBody, {"name": "player", "scopes": ["events", "views"]}),
            **common,
        )
        router.add_api_route(
            "/admin/api-keys/{key_id}",
            self.revoke_key,
            methods=["DELETE"],
            status_code=204,
            summary="Revoke an API key",
            responses=REVOKE_KEY_RESPONSES,
            **common,
        )
        router.add_api_route(
            "/admin/audit",
            self.audit,
            methods=["GET"],
            summary="What administrators have done, newest first",
            responses={200: {"model": AuditList}, **ACCOUNT_RESPONSES},
            **common,
        )

    async def users(
        self,
        request: Request,
        q: Annotated[Words | None, Query(max_length=100, description="part of the name")] = None,
        limit: LimitParameter = 20,
        offset: OffsetParameter = 0,
    ) -> Response:
        """By name."""
        asked = given(q=q, limit=limit, offset=offset)
        return await pass_on(request, self._rating, "/admin/users", params=asked)

    async def give_role(self, request: Request, name: str) -> Response:
        """It is in the tokens that the user gets from now on. There must be an administrator
        left."""
        body = parse_body(RoleBody, await read_body(request))
        path = f"/admin/users/{path_part(user_name(name))}/role"
        return await pass_on(request, self._rating, path, content=body.model_dump_json())

    async def erase_user(self, request: Request, name: str) -> Response:
        """For good. There must be an administrator left."""
        path = f"/admin/users/{path_part(user_name(name))}"
        return await pass_on(request, self._rating, path)

    async def api_keys(
        self, request: Request, limit: LimitParameter = 20, offset: OffsetParameter = 0
    ) -> Response:
        """Revoked ones too, newest first."""
        asked = given(limit=limit, offset=offset)
        return await pass_on(request, self._rating, "/admin/api-keys", params=asked)

    async def make_key(self, request: Request) -> Response:
        """Send it as `X-API-Key`."""
        body = parse_body(KeyBody, await read_body(request))
        content = body.model_dump_json(exclude_none=True)
        return await pass_on(request, self._rating, "/admin/api-keys", content=content)

    async def revoke_key(self, request: Request, key_id: str) -> Response:
        """Every replica refuses it within seconds."""
        if not _KEY_ID.fullmatch(key_id):
            raise ProblemError(404, "Not found", "There is no such key.")
        return await pass_on(request, self._rating, f"/admin/api-keys/{key_id}")

    async def audit(
        self,
        request: Request,
        actor: Annotated[
            Words | None,
            Query(max_length=200, description="a user's name, or `key:` and a key's id"),
        ] = None,
        limit: LimitParameter = 20,
        offset: OffsetParameter = 0,
    ) -> Response:
        """What somebody asked for, when and from where."""
        asked = given(actor=actor, limit=limit, offset=offset)
        return await pass_on(request, self._rating, "/admin/audit", params=asked)
