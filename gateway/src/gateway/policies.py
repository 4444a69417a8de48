"""What each route needs, declared where the route is registered.

    router.add_api_route("/events", self.post, dependencies=[Depends(policies.events)], …)

A policy runs before parameters and body are looked at: it finds out who asks, whether they may,
and whether not too often. What an operator changes is audited here too, once they are let in and
before anything is done: `admin.acted` is durable, or the request is refused with 503. The OpenAPI
page takes from the policy which credentials a route takes and how it refuses.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from fastapi.routing import APIRoute
from moviemetric_contracts import AdminActed, Event
from starlette.requests import Request
from starlette.routing import BaseRoute

from gateway.access import EVENTS, MOVIES, VIEWS, Access, Principal
from gateway.addresses import subscriber
from gateway.identity import RequestIdentity
from gateway.outbound import Outbound
from gateway.sending import SOURCE
from gateway.settings import Settings
from gateway.throttle import Throttle

OAUTH2: Final = "OAuth2"
API_KEY: Final = "ApiKey"
_PRINCIPAL: Final = "gateway.principal"
# What an audit record repeats of a path: ids, never a person's name.
_ID: Final = re.compile(r"[a-z0-9-]{1,60}", re.ASCII)

Check = Callable[[Request], Awaitable[Principal | None]]


@dataclass(frozen=True, eq=False, slots=True)
class Policy:
    """What a route needs; a dependency of the route.

    Attributes:
        name: for people.
        check: lets the request in, or raises ProblemError.
        credentials: the kinds of them that open the route; empty if it looks at none.
        needed: whether nobody may pass without.
        limited: whether 429 is among the answers.
    """

    name: str
    check: Check
    credentials: tuple[str, ...] = ()
    needed: bool = False
    limited: bool = False

    async def __call__(self, request: Request) -> None:
        """Run before the handler; `principal_of` tells it who asks."""
        request.scope[_PRINCIPAL] = await self.check(request)

    @property
    def security(self) -> list[dict[str, list[str]]]:
        """The `security` of an OpenAPI operation."""
        kinds = [{kind: list[str]()} for kind in self.credentials]
        return kinds if self.needed or not kinds else [{}, *kinds]


class Policies:
    """The policies of this gateway."""

    def __init__(
        self, settings: Settings, access: Access, throttle: Throttle, outbound: Outbound
    ) -> None:
        self.access = access
        self.throttle = throttle
        self._settings = settings
        self._outbound = outbound

        anyone = (OAUTH2, API_KEY)
        views, commands = not settings.views_open, not settings.commands_open
        self.open = Policy("open", _nobody)
        self.reads = Policy("reads", self._reads, limited=True)
        self.live = Policy("live", _nobody, anyone)
        self.views = Policy("views", self._views, anyone, needed=views, limited=True)
        self.commands = Policy("commands", self._commands, anyone, needed=commands, limited=True)
        self.events = Policy("events", self._events, anyone, needed=True, limited=True)
        self.ratings = Policy("ratings", self._ratings, (OAUTH2,), needed=True, limited=True)
        self.account = Policy("account", access.user, (OAUTH2,), needed=True, limited=True)
        self.signups = Policy("signups", self._signups, limited=True)
        self.logins = Policy("logins", _nobody, limited=True)
        self.admin = Policy("admin", self._admin, anyone, needed=True, limited=True)
        self.human_admin = Policy(
            "human admin", self._human_admin, (OAUTH2,), needed=True, limited=True
        )

    async def _reads(self, request: Request) -> None:
        await self.throttle.reads(request, self.subscriber(request))

    async def _views(self, request: Request) -> Principal | None:
        principal = await self.access.producer(
            request, VIEWS, nobody=self._settings.views_open, users=True
        )
        if principal is not None and principal.kind == "key":
            self.throttle.views_of_key(request, principal.id)
        else:
            self.throttle.views(request, self.subscriber(request))
        return principal

    async def _commands(self, request: Request) -> Principal | None:
        principal = await self.access.producer(
            request, MOVIES, nobody=self._settings.commands_open, users=True
        )
        await self.throttle.commands(request, self.subscriber(request))
        return principal

    async def _events(self, request: Request) -> Principal | None:
        principal = await self.access.producer(request, EVENTS)
        if principal is not None:
            await self.throttle.events(request, principal.actor)
        return principal

    async def _ratings(self, request: Request) -> Principal:
        principal = await self.access.user(request)
        await self.throttle.ratings(request, principal.id)
        return principal

    async def _signups(self, request: Request) -> None:
        await self.throttle.signups(request, self.subscriber(request))

    async def _admin(self, request: Request) -> Principal:
        return await self._operate(request, await self.access.admin(request))

    async def _human_admin(self, request: Request) -> Principal:
        return await self._operate(request, await self.access.human_admin(request))

    async def _operate(self, request: Request, principal: Principal) -> Principal:
        await self.throttle.admin(request, principal.actor)
        if request.method != "GET":
            await self._audit(request, principal)
        return principal

    async def _audit(self, request: Request, principal: Principal) -> None:
        identity = RequestIdentity.from_headers(request.scope["headers"])
        now = datetime.now(UTC)
        acted = AdminActed(
            actor=principal.actor,
            action=action_of(request.scope),
            acted_at=now,
            address=self.access.address(request),
        )
        event = Event.of(
            acted,
            source=SOURCE,
            time=now,
            correlationid=identity.correlation_id,
            traceparent=identity.traceparent,
        )
        await self._outbound.send(event)

    def subscriber(self, request: Request) -> str:
        return subscriber(self.access.address(request))


async def _nobody(_request: Request) -> None:
    """Lets everybody in, as nobody."""


def principal_of(request: Request) -> Principal:
    """Who asks, on a route that nobody enters without saying so."""
    principal = visitor_of(request)
    if principal is None:
        msg = "this route's policy lets nobody in, or has none"
        raise RuntimeError(msg)
    return principal


def visitor_of(request: Request) -> Principal | None:
    """Who asks, None for nobody."""
    return request.scope.get(_PRINCIPAL)


def policy_of(route: BaseRoute) -> Policy | None:
    """The policy that a route was registered with."""
    if isinstance(route, APIRoute):
        for dependency in route.dependencies:
            if isinstance(dependency.dependency, Policy):
                return dependency.dependency
    policy: object = getattr(route, "policy", None)
    return policy if isinstance(policy, Policy) else None


def action_of(scope: Mapping[str, Any]) -> str:
    """Method and route, such as `POST /api/v1/admin/jobs/import-…/cancel`.

    Names of users are left as the route has them: `/api/v1/admin/users/{name}`.
    """
    path = str(getattr(scope.get("route"), "path", "(unknown)"))
    given: Mapping[str, object] = scope.get("path_params", {})
    for name, value in given.items():
        if name != "name" and _ID.fullmatch(str(value)):
            path = path.replace(f"{{{name}}}", str(value))
    return f"{scope['method']} {path}"[:200]
