"""API keys: `mm_<key id>_<secret>`, with which programs are known.

The key id (12 hexadecimal digits) finds a key, the secret (43 characters, 256 random bits) proves
it. Only the secret's SHA-256 is stored: a slow hash would protect what can be guessed, and this
cannot be.
"""

import hmac
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final, Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from rating_service.accounts_repository import ERASED

Scope = Literal["events", "views", "movies", "admin"]

_ADD: Final = text("""
    INSERT INTO api_keys (key_id, secret_digest, name, scopes, created_by, created_at, expires_at)
    VALUES (:key_id, :digest, :name, CAST(:scopes AS text[]), :created_by, now(),
            CAST(:expires_at AS timestamptz))
    RETURNING created_at
""")
_LIST: Final = text("""
    SELECT key_id, api_keys.name, scopes, users.name AS created_by, api_keys.created_at,
           expires_at, revoked_at
    FROM api_keys LEFT JOIN users ON users.user_id = created_by
    ORDER BY api_keys.created_at DESC, key_id LIMIT :limit OFFSET :offset
""")
_COUNT: Final = text("SELECT count(*) FROM api_keys")
_MADE_BY: Final = text("""
    SELECT key_id, api_keys.name, scopes, users.name AS created_by, api_keys.created_at,
           expires_at, revoked_at
    FROM api_keys LEFT JOIN users ON users.user_id = created_by
    WHERE created_by = :user_id ORDER BY api_keys.created_at, key_id
""")
_REVOKE: Final = text("""
    UPDATE api_keys SET revoked_at = COALESCE(revoked_at, now()) WHERE key_id = :key_id
    RETURNING key_id
""")
_GOOD: Final = text("""
    SELECT key_id, name, scopes, secret_digest FROM api_keys
    WHERE key_id = :key_id AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
""")
_REVOKE_ADMIN_KEYS: Final = text("""
    UPDATE api_keys SET revoked_at = now()
    WHERE created_by = ANY(CAST(:user_ids AS text[])) AND 'admin' = ANY(scopes)
      AND revoked_at IS NULL
""")
_FORGET_MAKERS: Final = text("""
    UPDATE api_keys SET created_by = :erased WHERE created_by = ANY(CAST(:user_ids AS text[]))
""")
# Wider than the ids that are made: what else is presented is unknown rather than invalid.
KEY_ID_PATTERN: Final = r"^[a-z0-9]{12}$"
_NO_DIGEST: Final = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key without its secret; `created_by` is a name, None for a user who was erased."""

    key_id: str
    name: str
    scopes: list[Scope]
    created_by: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class KnownKey:
    """Who presents a good key, and what it may do."""

    key_id: str
    name: str
    scopes: list[Scope]


async def create(
    connection: AsyncConnection,
    *,
    name: str,
    scopes: Collection[Scope],
    created_by: str,
    expires_at: datetime | None,
) -> tuple[str, str, datetime]:
    """(key id, the whole key, when it was made). The key cannot be had again."""
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    rows = await connection.execute(
        _ADD,
        {
            "key_id": key_id,
            "digest": sha256(secret.encode()).digest(),
            "name": name,
            "scopes": sorted(scopes),
            "created_by": created_by,
            "expires_at": expires_at,
        },
    )
    return key_id, f"mm_{key_id}_{secret}", rows.scalar_one()


async def list_keys(
    connection: AsyncConnection, *, limit: int, offset: int
) -> tuple[list[ApiKey], int]:
    """A page of the keys, newest first, revoked ones too; and how many there are."""
    rows = await connection.execute(_LIST, {"limit": limit, "offset": offset})
    total = (await connection.execute(_COUNT)).scalar_one()
    return [ApiKey(**row) for row in rows.mappings()], total


async def made_by(connection: AsyncConnection, user_id: str) -> Sequence[ApiKey]:
    """The keys that a user made."""
    rows = await connection.execute(_MADE_BY, {"user_id": user_id})
    return [ApiKey(**row) for row in rows.mappings()]


async def revoke(connection: AsyncConnection, key_id: str) -> bool:
    """From now on the key is not good; False if there is no such key."""
    return (await connection.execute(_REVOKE, {"key_id": key_id})).scalar_one_or_none() is not None


async def verify(connection: AsyncConnection, key_id: str, digest: bytes) -> KnownKey | None:
    """The key whose secret has this SHA-256; None if it is unknown, revoked or expired."""
    row = (await connection.execute(_GOOD, {"key_id": key_id})).one_or_none()
    matches = hmac.compare_digest(row.secret_digest if row else _NO_DIGEST, digest)
    return KnownKey(row.key_id, row.name, row.scopes) if row and matches else None


async def revoke_admin_keys(connection: AsyncConnection, user_ids: Collection[str]) -> None:
    """Revoke the keys that open the routes for operators and were made by these users.

    Who is no administrator any more must not be left with the key of one.
    """
    await connection.execute(_REVOKE_ADMIN_KEYS, {"user_ids": list(user_ids)})


async def forget_makers(connection: AsyncConnection, user_ids: Collection[str]) -> None:
    """The keys do not say any more who made them."""
    await connection.execute(_FORGET_MAKERS, {"erased": ERASED, "user_ids": list(user_ids)})
