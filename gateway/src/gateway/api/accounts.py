"""Accounts: opened, signed in to, read, exported and erased.

rating-service owns them and judges everything that comes with credentials; its answers are passed
on and never kept. How often an address may try is limited here, before it is asked.
"""

from collections.abc import AsyncGenerator
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode

import httpx
from fastapi import APIRouter, Depends, Query, Request
from pydantic_core import to_json
from starlette.responses import Response

from gateway.account_bodies import (
    FORM,
    EraseBody,
    FormError,
    PasswordBody,
    SignUpBody,
    account_of,
    invalid_form,
    parse_form,
)
from gateway.account_shapes import (
    ACCOUNT_RESPONSES,
    ERASE_OWN_RESPONSES,
    PASSWORD_RESPONSES,
    PROFILE_RESPONSES,
    SIGN_UP_RESPONSES,
    TOKEN_RESPONSES,
    AccountCreated,
    EraseAccepted,
    Export,
    JwkSet,
    OwnProfile,
    Profile,
    RatedFilmList,
    Tokens,
    body_docs,
    form_docs,
)
from gateway.api.answers import respond
from gateway.api.commands import read_body
from gateway.api.parameters import (
    GenreParameter,
    LimitParameter,
    OffsetParameter,
    Words,
    YearParameter,
    given,
)
from gateway.api.passing import NoStoreRoute, pass_on, user_name
from gateway.api.streamed import Streamed
from gateway.bodies import parse_body
from gateway.policies import Policies, principal_of
from gateway.readers import (
    ServiceAwayError,
    ServiceReader,
    parse_object,
    path_part,
    service_away,
)
from gateway.reads import USERS, CachedReads, Loaded, Read
from gateway.shapes import AWAY

_PROFILE_TTL: Final = 5.0
_KEYS_TTL: Final = 5.0
_ACTIVITY_PAGE: Final = 1000

ScoreParameter = Annotated[float | None, Query(ge=0.5, le=10, multiple_of=0.5, allow_inf_nan=False)]

_PASSWORD_GRANT: Final = {
    "grant_type": "password",
    "username": "ada",
    "password": "a long and uncommon one",
}


class Accounts:
    """The handlers."""

    def __init__(
        self,
        reads: CachedReads,
        rating: ServiceReader,
        compute: ServiceReader,
        policies: Policies,
    ) -> None:
        self._reads = reads
        self._rating = rating
        self._compute = compute
        self._policies = policies

    def add_to(self, router: APIRouter) -> None:
        """Register the routes; the fixed paths before those with a user's name."""
        common: dict[str, Any] = {
            "tags": ["accounts"],
            "response_model": None,
            "route_class_override": NoStoreRoute,
        }
        own: dict[str, Any] = {**common, "dependencies": [Depends(self._policies.account)]}
        logins = [Depends(self._policies.logins)]
        router.add_api_route(
            "/users",
            self.sign_up,
            methods=["POST"],
            status_code=201,
            summary="Open an account",
            responses={201: {"model": AccountCreated}, **SIGN_UP_RESPONSES},
            openapi_extra=body_docs(
                SignUpBody, {"name": "ada", "password": "a long and uncommon one"}
            ),
            dependencies=[Depends(self._policies.signups)],
            **common,
        )
        router.add_api_route(
            "/auth/token",
            self.token,
            methods=["POST"],
            summary="Sign in, or go on with a refresh token",
            responses={200: {"model": Tokens}, **TOKEN_RESPONSES},
            openapi_extra=form_docs(_TOKEN_FORM, _PASSWORD_GRANT),
            dependencies=logins,
            **common,
        )
        router.add_api_route(
            "/auth/revoke",
            self.revoke,
            methods=["POST"],
            summary="Sign out: end the session of a refresh token",
            responses={200: {"description": "It is ended, or there was none"}, **TOKEN_RESPONSES},
            openapi_extra=form_docs(_REVOKE_FORM, {"token": "…"}),
            dependencies=logins,
            **common,
        )
        router.add_api_route(
            "/users/me",
            self.me,
            methods=["GET"],
            summary="One's own account",
            responses={200: {"model": OwnProfile}, 503: AWAY},
            **own,
        )
        router.add_api_route(
            "/users/me",
            self.erase,
            methods=["DELETE"],
            status_code=202,
            summary="Erase one's account, and everything that is known of one",
            responses={202: {"model": EraseAccepted}, **ERASE_OWN_RESPONSES},
            openapi_extra=body_docs(EraseBody, {"password": "a long and uncommon one"}),
            **own,
        )
        router.add_api_route(
            "/users/me/password",
            self.password,
            methods=["PUT"],
            status_code=204,
            summary="Change one's password; it ends all sessions",
            responses=PASSWORD_RESPONSES,
            openapi_extra=body_docs(
                PasswordBody,
                {
                    "current_password": "a long and uncommon one",
                    "new_password": "another long and uncommon one",
                },
            ),
            **own,
        )
        router.add_api_route(
            "/users/me/ratings",
            self.ratings,
            methods=["GET"],
            summary="One's own ratings",
            responses={200: {"model": RatedFilmList}, **ACCOUNT_RESPONSES},
            **own,
        )
        router.add_api_route(
            "/users/me/export",
            self.export,
            methods=["GET"],
            summary="Everything that is known of one",
            responses={200: {"model": Export}, 503: AWAY},
            **own,
        )
        router.add_api_route(
            "/users/{name}",
            self.profile,
            methods=["GET"],
            tags=["accounts"],
            summary="A user, as others see them",
            responses={200: {"model": Profile}, **PROFILE_RESPONSES},
            response_model=None,
            dependencies=[Depends(self._policies.reads)],
        )
        router.add_api_route(
            "/.well-known/jwks.json",
            self.keys,
            methods=["GET"],
            tags=["accounts"],
            summary="The public keys that access tokens are signed with; also at the root",
            responses={200: {"model": JwkSet}, 503: AWAY},
            response_model=None,
            dependencies=[Depends(self._policies.reads)],
        )

    async def sign_up(self, request: Request) -> Response:
        """The name is free if no other one differs from it in case or encoding alone."""
        body = parse_body(SignUpBody, await read_body(request))
        return await pass_on(request, self._rating, "/users", content=body.model_dump_json())

    async def token(self, request: Request) -> Response:
        """OAuth 2.0: `grant_type` `password` or `refresh_token`. The answer to a wrong name is the
        answer to a wrong password."""
        form = await self._form(request)
        if isinstance(form, Response):
            return form
        address = self._policies.subscriber(request)
        if form.get("grant_type") == "refresh_token":
            # It names nobody and cannot be guessed, and whole offices share an address.
            await self._policies.throttle.commands(request, address)
        else:
            await self._policies.throttle.logins(request, account_of(form), address)
        # Written anew, so that nobody can read another name in it than was read here.
        content = urlencode(form)
        return await pass_on(
            request, self._rating, "/auth/token", content=content, content_type=FORM
        )

    async def revoke(self, request: Request) -> Response:
        """RFC 7009: 200 whether or not there is such a session."""
        form = await self._form(request)
        if isinstance(form, Response):
            return form
        await self._policies.throttle.commands(request, self._policies.subscriber(request))
        content = urlencode(form)
        return await pass_on(
            request, self._rating, "/auth/revoke", content=content, content_type=FORM
        )

    async def me(self, request: Request) -> Response:
        """Its name and role, and how its user rates."""
        return await pass_on(request, self._rating, "/users/me")

    async def erase(self, request: Request) -> Response:
        """For good. What services hold of the user goes within moments, and averages are corrected;
        `status_url` tells which have done so."""
        body = parse_body(EraseBody, await read_body(request))
        await self._limit_guesses(request)
        return await pass_on(request, self._rating, "/users/me", content=body.model_dump_json())

    async def password(self, request: Request) -> Response:
        """Sign in again afterwards."""
        body = parse_body(PasswordBody, await read_body(request))
        await self._limit_guesses(request)
        return await pass_on(
            request, self._rating, "/users/me/password", content=body.model_dump_json()
        )

    async def ratings(
        self,
        request: Request,
        min_score: ScoreParameter = None,
        max_score: ScoreParameter = None,
        genre: GenreParameter = None,
        year: YearParameter = None,
        q: Annotated[
            Words | None, Query(min_length=1, max_length=200, description="part of the title")
        ] = None,
        sort: Literal["rated_at", "score", "title", "release_date"] = "rated_at",
        order: Literal["asc", "desc"] = "desc",
        limit: LimitParameter = 20,
        offset: OffsetParameter = 0,
    ) -> Response:
        """Films that are not in the catalogue are there too, without a title."""
        asked = given(
            min_score=min_score,
            max_score=max_score,
            genre=genre,
            year=year,
            q=q,
            sort=sort,
            order=order,
            limit=limit,
            offset=offset,
        )
        return await pass_on(request, self._rating, "/users/me/ratings", params=asked)

    async def export(self, request: Request) -> Response:
        """The account with its sessions, ratings and reviews, and what its user has viewed."""
        known = await pass_on(request, self._rating, "/users/me/export")
        if known.status_code != 200:
            return known
        activity = Activity(self._compute, principal_of(request).id)
        try:
            held = parse_object(self._rating.name, bytes(known.body))
            first = await activity.page(None)
        except ServiceAwayError as error:
            raise service_away(error) from error
        return Streamed(
            activity.beside(held, first),
            media_type="application/json",
            headers={"Content-Disposition": 'attachment; filename="moviemetric-export.json"'},
            close=_nothing,
        )

    async def profile(self, name: str) -> Response:
        """Since when, and how they rate."""
        part = path_part(user_name(name))
        read = Read(
            name="profile",
            key=f"profile/{part}",
            tags=(USERS,),
            ttl=_PROFILE_TTL,
            load=lambda: self._load(f"/users/{part}"),
            personal=True,
        )
        return respond(await self._reads.answer(read))

    async def keys(self) -> Response:
        """A JWK set (RFC 7517). Look again when a token names a key that is not there."""
        read = Read(
            name="keys",
            key="keys",
            tags=(),
            ttl=_KEYS_TTL,
            load=lambda: self._load("/.well-known/jwks.json"),
        )
        return respond(await self._reads.answer(read))

    async def _load(self, path: str) -> Loaded:
        return Loaded(await self._rating.fetch(path))

    async def _form(self, request: Request) -> dict[str, str] | Response:
        """The fields of the form, or what is answered to it."""
        raw = await read_body(request)
        try:
            return parse_form(request.headers.get("content-type", ""), raw)
        except FormError as error:
            return invalid_form(str(error))

    async def _limit_guesses(self, request: Request) -> None:
        """A password is asked for here too, and somebody else's session must not find it out."""
        account, address = principal_of(request).id, self._policies.subscriber(request)
        await self._policies.throttle.logins(request, account, address)


class Activity:
    """What compute-service holds of a user, page by page."""

    def __init__(self, compute: ServiceReader, user_id: str) -> None:
        self._compute = compute
        self._path = f"/users/{path_part(user_id)}/activity"

    async def page(self, after: str | None) -> dict[str, Any]:
        """The page behind `after`; raises ServiceAwayError."""
        asked = given(limit=_ACTIVITY_PAGE, after=after)
        return await self._compute.fetch_object(self._path, asked)

    async def beside(self, held: dict[str, Any], page: dict[str, Any]) -> AsyncGenerator[bytes]:
        """The JSON object `held`, and in it `activity` with all pages from `page` on."""
        yield to_json({**held, "activity": []}).removesuffix(b"]}")
        separator = b""
        while items := page["items"]:
            yield separator + to_json(items)[1:-1]
            separator = b","
            if page.get("next") is None:
                break
            try:
                page = await self.page(page["next"])
            except ServiceAwayError as error:
                # It has begun already, so all that can be done is to leave it incomplete.
                raise httpx.ReadError(str(error)) from error
        yield b"]}"


_TOKEN_FORM: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["grant_type"],
    "properties": {
        "grant_type": {"type": "string", "enum": ["password", "refresh_token"]},
        "username": {"type": "string", "description": "for `password`"},
        "password": {"type": "string", "format": "password", "description": "for `password`"},
        "refresh_token": {"type": "string", "description": "for `refresh_token`"},
    },
}
_REVOKE_FORM: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["token"],
    "properties": {"token": {"type": "string", "minLength": 1, "description": "a refresh token"}},
}


async def _nothing() -> None:
    """Nothing is open."""
