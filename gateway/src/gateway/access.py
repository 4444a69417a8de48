"""Who asks, and whether they may.

Credentials are an access token (`Authorization: Bearer …`) or an API key (`X-API-Key: mm_…`), one
of them, once. What is presented is checked even where nobody needs any, so that a client with an
expired token learns of it. Answers are those of RFC 6750: 401 with `WWW-Authenticate` for nobody
and for credentials that prove nothing, 403 for those who may not.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from service_kit.http import ProblemError
from service_kit.tokens import InvalidTokenError, Role
from starlette.requests import Request

from gateway import metrics
from gateway.addresses import ClientAddresses
from gateway.keys import ApiKeys, TokenKeys

EVENTS: Final = "events"
VIEWS: Final = "views"
MOVIES: Final = "movies"
ADMIN: Final = "admin"
# Accounts have ids of this kind; who is nobody must not speak of them.
ACCOUNT_PREFIX: Final = "user-"

_EITHER: Final = "Authorization: Bearer <access token>, or X-API-Key: <key>"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: a user with a token, or a program with an API key.

    Attributes:
        id: the user's id, or the key's.
        role: the user's; None for a key.
        scopes: the key's; empty for a user.
        expires_at: when the token ends; None for a key.
    """

    kind: Literal["user", "key"]
    id: str
    role: Role | None = None
    scopes: frozenset[str] = frozenset()
    expires_at: datetime | None = None

    @property
    def is_admin(self) -> bool:
        """Whether routes for operators are open to them."""
        return self.role == "admin" or ADMIN in self.scopes

    @property
    def actor(self) -> str:
        """As audit records name them."""
        return self.id if self.kind == "user" else f"key:{self.id}"


class Access:
    """Checks requests. All methods raise ProblemError: 400, 401, 403; 503 if none can be judged."""

    def __init__(self, tokens: TokenKeys, api_keys: ApiKeys, addresses: ClientAddresses) -> None:
        self._tokens = tokens
        self._api_keys = api_keys
        self._addresses = addresses

    async def optional(self, request: Request) -> Principal | None:
        """Who asks, None if no credentials are presented."""
        bearer, key = _presented(request.scope["headers"])
        if bearer is not None:
            return await self._bearer(bearer)
        if key is not None:
            return await self._key(key)
        return None

    async def user(self, request: Request) -> Principal:
        """A user; API keys are refused."""
        principal = await self.optional(request)
        if principal is None:
            raise unauthenticated("Sign in: this needs Authorization: Bearer <access token>.")
        if principal.kind != "user":
            raise forbidden("This needs a user's access token; an API key is no user.")
        return principal

    async def admin(self, request: Request) -> Principal:
        """A user with the role admin, or a key with the scope admin."""
        principal = await self.optional(request)
        if principal is None:
            raise unauthenticated(f"This is for operators. Send {_EITHER}.")
        if not principal.is_admin:
            raise forbidden("This needs the role admin, or an API key with the scope 'admin'.")
        return principal

    async def human_admin(self, request: Request) -> Principal:
        """A user with the role admin; API keys are refused."""
        principal = await self.optional(request)
        if principal is None:
            raise unauthenticated("This is for operators. Send Authorization: Bearer <token>.")
        if principal.role != "admin":
            raise forbidden("This needs an access token of a user with the role admin.")
        return principal

    async def producer(
        self, request: Request, scope: str, *, nobody: bool = False, users: bool = False
    ) -> Principal | None:
        """A key with `scope` or an operator; `users`, and `nobody` (None), where they may too."""
        principal = await self.optional(request)
        if principal is None:
            if nobody:
                return None
            raise unauthenticated(f"This is closed to the public. Send {_EITHER}.")
        if principal.is_admin or scope in principal.scopes:
            return principal
        if principal.kind == "user" and users:
            return principal
        raise forbidden(f"This needs an API key with the scope '{scope}'.")

    def address(self, request: Request) -> str:
        """The client's IP address."""
        return self._addresses.of(request.scope)

    async def _bearer(self, value: bytes) -> Principal:
        scheme, _, token = value.decode("latin-1").strip().partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or not token.isascii():
            raise invalid_token("send Authorization: Bearer <access token>")
        try:
            found = await self._tokens.believe(token)
        except InvalidTokenError as error:
            raise invalid_token(str(error)) from None
        return Principal("user", found.user_id, role=found.role, expires_at=found.expires_at)

    async def _key(self, value: bytes) -> Principal:
        found = await self._api_keys.believe(value.decode("latin-1").strip())
        if found is None:
            raise invalid_token("the API key is unknown, revoked or has expired")
        return Principal("key", found.key_id, scopes=found.scopes)


def unauthenticated(detail: str) -> ProblemError:
    """The 401 for nobody."""
    return _refusal(401, "Not signed in", detail, "Bearer")


def invalid_token(reason: str) -> ProblemError:
    """The 401 for credentials that prove nothing; `reason` has no quotes and nothing of them."""
    challenge = f'Bearer error="invalid_token", error_description="{reason}"'
    return _refusal(401, "Credentials not valid", f"{reason[0].upper()}{reason[1:]}.", challenge)


def forbidden(detail: str) -> ProblemError:
    """The 403 for those who may not."""
    return _refusal(403, "Not allowed", detail, 'Bearer error="insufficient_scope"')


def _refusal(status: int, title: str, detail: str, challenge: str) -> ProblemError:
    metrics.REFUSED.labels(str(status)).inc()
    return ProblemError(status, title, detail, headers={"WWW-Authenticate": challenge})


def _presented(headers: list[tuple[bytes, bytes]]) -> tuple[bytes | None, bytes | None]:
    """(Authorization, X-API-Key), of which one at most is given."""
    bearer: bytes | None = None
    key: bytes | None = None
    for name, value in headers:
        if name == b"authorization":
            if bearer is not None:
                raise _ambiguous("Authorization is there twice")
            bearer = value
        elif name == b"x-api-key":
            if key is not None:
                raise _ambiguous("X-API-Key is there twice")
            key = value
    if bearer is not None and key is not None:
        raise _ambiguous("Both Authorization and X-API-Key are there")
    return bearer, key


def _ambiguous(what: str) -> ProblemError:
    return ProblemError(400, "Ambiguous credentials", f"{what}; send one of them, once.")
