"""Access tokens: who may be believed to be whom, without asking anybody.

A token is a JWT (RFC 7519) as RFC 9068 profiles it, signed with Ed25519 (RFC 8037). rating-service
alone holds the private keys and publishes the public ones as a JWK set (RFC 7517); `kid` is the
key's thumbprint (RFC 7638). The algorithm follows from the key and is never the token's choice:
`none`, and HS256 with the public key as its secret, are refused before any signature is looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, cast

import jwt

ALGORITHM: Final = "EdDSA"
TOKEN_TYPE: Final = "at+jwt"  # noqa: S105 -- the value of a header
ISSUER: Final = "moviemetric/rating-service"
AUDIENCE: Final = "moviemetric"
MAX_TOKEN_LENGTH: Final = 4_096

Role = Literal["user", "admin"]
PublicKeys = Mapping[str, jwt.PyJWK]
"""Public keys by `kid`."""

_CLAIMS: Final = ("iss", "aud", "sub", "exp", "iat", "jti", "role")


class InvalidTokenError(Exception):
    """A token that proves nothing; the reason is for people and holds nothing of the token."""


class UnknownKeyError(InvalidTokenError):
    """The token names a key that is not among those known; newer ones may have it."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a token says, once it is believed."""

    user_id: str
    role: Role
    expires_at: datetime


def read_access_token(token: str, keys: PublicKeys) -> AccessToken:
    """Believe a token, or not.

    Raises:
        UnknownKeyError: its key is not among `keys`.
        InvalidTokenError: for every other reason.
    """
    if len(token) > MAX_TOKEN_LENGTH:
        msg = "the token is too long"
        raise InvalidTokenError(msg)
    try:
        header = jwt.get_unverified_header(token)
    except jwt.InvalidTokenError:
        msg = "this is no token"
        raise InvalidTokenError(msg) from None
    if header.get("alg") != ALGORITHM or header.get("typ") != TOKEN_TYPE:
        msg = "this is no access token of this service"
        raise InvalidTokenError(msg)
    key = keys.get(str(header.get("kid")))
    if key is None:
        msg = "the token was signed with a key that is not known here"
        raise UnknownKeyError(msg)
    return _believed(_claims(token, key))


def public_keys(jwk_set: object) -> dict[str, jwt.PyJWK]:
    """The usable keys of a JWK set by `kid`; others are left out.

    Raises:
        ValueError: it is no JWK set.
    """
    listed: object = cast("Any", jwk_set).get("keys") if isinstance(jwk_set, dict) else None
    if not isinstance(listed, list):
        msg = "expected a JWK set: an object with a list of keys"
        raise ValueError(msg)
    found: dict[str, jwt.PyJWK] = {}
    for fields in cast("list[object]", listed):
        if not isinstance(fields, dict):
            continue
        key = cast("dict[str, Any]", fields)
        if (key.get("kty"), key.get("crv")) != ("OKP", "Ed25519") or "kid" not in key:
            continue
        try:
            found[str(key["kid"])] = jwt.PyJWK(key, algorithm=ALGORITHM)
        except jwt.PyJWTError:
            continue
    return found


def _claims(token: str, key: jwt.PyJWK) -> dict[str, Any]:
    try:
        return jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            issuer=ISSUER,
            options={"require": list(_CLAIMS)},
        )
    except jwt.ExpiredSignatureError:
        msg = "the token has expired"
    except jwt.InvalidSignatureError:
        msg = "the token's signature is wrong"
    except jwt.MissingRequiredClaimError as error:
        msg = f"the token lacks the claim {error.claim}"
    except jwt.PyJWTError:
        msg = "the token is not valid here"
    raise InvalidTokenError(msg)


def _believed(claims: Mapping[str, Any]) -> AccessToken:
    user_id, role = claims["sub"], claims["role"]
    if not isinstance(user_id, str) or not user_id or role not in ("user", "admin"):
        msg = "the token names no user"
        raise InvalidTokenError(msg)
    return AccessToken(user_id, role, datetime.fromtimestamp(claims["exp"], UTC))
