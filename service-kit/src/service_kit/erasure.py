"""Users who asked to be forgotten: what comes of theirs afterwards has no effect.

Their ids are not kept, only digests of them: enough to know an id again, not to tell it.

An erasure waits until no transaction is under way that has found its users unerased, and a later
one finds them erased. So nothing of theirs can be written behind its back. Both functions take a
lock until the transaction ends; call them before any row is locked.
"""

from collections.abc import Collection
from hashlib import sha256
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

# Serialises erasures with the users of one schema; the number only has to be the same everywhere.
_LOCK: Final = 7_205_604

_SHARE: Final = text(
    "SELECT pg_advisory_xact_lock_shared(CAST(:number AS int), hashtext(current_schema()))"
)
_EXCLUDE: Final = text(
    "SELECT pg_advisory_xact_lock(CAST(:number AS int), hashtext(current_schema()))"
)
_ERASED: Final = text("""
    SELECT user_digest FROM erased_users WHERE user_digest = ANY(CAST(:digests AS bytea[]))
""")
_REMEMBER: Final = text("""
    INSERT INTO erased_users (user_digest)
    SELECT digest FROM unnest(CAST(:digests AS bytea[])) AS new (digest) ORDER BY digest
    ON CONFLICT DO NOTHING
""")


async def erased_among(connection: AsyncConnection, user_ids: Collection[str]) -> set[str]:
    """Those of the users who were erased; the others are not, until the transaction ends."""
    if not user_ids:
        return set()
    by_digest = {_digest(user_id): user_id for user_id in user_ids}
    await connection.execute(_SHARE, {"number": _LOCK})
    # A statement of its own: it must see what was committed while the lock was waited for.
    rows = await connection.execute(_ERASED, {"digests": list(by_digest)})
    return {by_digest[bytes(digest)] for digest in rows.scalars()}


async def remember_erased(connection: AsyncConnection, user_ids: Collection[str]) -> None:
    """From now on these users are erased; the caller deletes what there is of theirs."""
    await connection.execute(_EXCLUDE, {"number": _LOCK})
    digests = sorted({_digest(user_id) for user_id in user_ids})
    await connection.execute(_REMEMBER, {"digests": digests})


def _digest(user_id: str) -> bytes:
    return sha256(user_id.encode()).digest()
