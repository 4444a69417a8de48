"""All SQL about users and their sessions. The clock is the database's, which all replicas share.

**Locks.** Who starts a session or changes an account holds the user's row, so that a password is
not changed while somebody is let in with the old one. Rows are locked in the order users, then
sessions. Whether an administrator is the last one is decided with the rows of all of them locked.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

from service_kit.tokens import Role
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from rating_service.names import UserName

ERASED: Final = "erased"
"""What stands for a user who was erased."""

_COLUMNS: Final = "user_id, name, name_key, password_hash, role, created_at, password_changed_at"
_ADD: Final = text("""
    INSERT INTO users (
        user_id, name, name_key, password_hash, role, created_at, password_changed_at)
    VALUES (:user_id, :name, :name_key, :password_hash, :role, now(), now())
    ON CONFLICT (name_key) DO NOTHING
    RETURNING created_at
""")
_BY_KEY: Final = text(f"SELECT {_COLUMNS} FROM users WHERE name_key = :key")  # noqa: S608 -- made of constants
_BY_ID: Final = text(f"SELECT {_COLUMNS} FROM users WHERE user_id = :user_id")  # noqa: S608 -- made of constants
_ANY_ADMIN: Final = text("SELECT EXISTS (SELECT FROM users WHERE role = 'admin')")
_LOCK_ADMINS: Final = text("""
    SELECT user_id FROM users WHERE role = 'admin' ORDER BY user_id FOR UPDATE
""")
_LOCK_WITH_PASSWORD: Final = text("""
    SELECT role FROM users WHERE user_id = :user_id AND password_hash = :password_hash
    FOR NO KEY UPDATE
""")
_LOCK_USERS: Final = text("""
    SELECT user_id, name FROM users WHERE user_id = ANY(CAST(:user_ids AS text[]))
    ORDER BY user_id FOR UPDATE
""")
_SET_HASH: Final = text("UPDATE users SET password_hash = :new WHERE user_id = :user_id")
_CHANGE_PASSWORD: Final = text("""
    UPDATE users SET password_hash = :new, password_changed_at = now()
    WHERE user_id = :user_id AND password_hash = :old
    RETURNING user_id
""")
_SET_ROLE: Final = text("UPDATE users SET role = :role WHERE user_id = :user_id")
_LIST: Final = text("""
    SELECT name, role, created_at FROM users WHERE strpos(name_key, :part) > 0
    ORDER BY name_key LIMIT :limit OFFSET :offset
""")
_COUNT: Final = text("SELECT count(*) FROM users WHERE strpos(name_key, :part) > 0")
_DELETE_USERS: Final = text("DELETE FROM users WHERE user_id = ANY(CAST(:user_ids AS text[]))")

_START_SESSION: Final = text("""
    INSERT INTO sessions (selector, token_digest, user_id, created_at, last_used_at, expires_at)
    VALUES (:selector, :digest, :user_id, now(), now(), now() + make_interval(secs => :seconds))
    RETURNING expires_at
""")
_KEEP_NEWEST_SESSIONS: Final = text("""
    DELETE FROM sessions WHERE selector IN (
        SELECT selector FROM sessions WHERE user_id = :user_id
        ORDER BY last_used_at DESC, selector OFFSET :keep)
""")
# A second use of the same token waits for the first one's commit and then finds another digest.
_ROTATE: Final = text("""
    UPDATE sessions SET
        token_digest = :new, last_used_at = now(),
        expires_at = now() + make_interval(secs => :seconds)
    FROM users
    WHERE selector = :selector AND token_digest = :old AND sessions.expires_at > now()
        AND users.user_id = sessions.user_id
    RETURNING users.user_id, users.role, sessions.expires_at
""")
_END_SESSION: Final = text("DELETE FROM sessions WHERE selector = :selector RETURNING user_id")
_END_SESSIONS: Final = text("DELETE FROM sessions WHERE user_id = :user_id")
_SESSIONS: Final = text("""
    SELECT created_at, last_used_at, expires_at FROM sessions
    WHERE user_id = :user_id AND expires_at > now() ORDER BY created_at, selector
""")
_FORGET_EXPIRED: Final = text("DELETE FROM sessions WHERE expires_at <= now()")


@dataclass(frozen=True, slots=True)
class Account:
    """A user, as stored."""

    user_id: str
    name: UserName
    password_hash: str = field(repr=False)
    role: Role
    created_at: datetime
    password_changed_at: datetime


@dataclass(frozen=True, slots=True)
class ListedUser:
    """A user in a list for administrators."""

    name: str
    role: Role
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """Somewhere a user is signed in."""

    created_at: datetime
    last_used_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Rotation:
    """Whose session it is that goes on, and until when."""

    user_id: str
    role: Role
    expires_at: datetime


def new_user_id() -> str:
    """An id that says nothing of the user; it is never shown to others."""
    return f"user-{uuid4().hex}"


async def add_user(
    connection: AsyncConnection, *, user_id: str, name: UserName, password_hash: str, role: Role
) -> datetime | None:
    """When the user was created; None if somebody has the name."""
    rows = await connection.execute(
        _ADD,
        {
            "user_id": user_id,
            "name": name.shown,
            "name_key": name.key,
            "password_hash": password_hash,
            "role": role,
        },
    )
    return rows.scalar_one_or_none()


async def find_by_name(connection: AsyncConnection, name: UserName) -> Account | None:
    """The user with this name."""
    row = (await connection.execute(_BY_KEY, {"key": name.key})).one_or_none()
    return _account(row) if row else None


async def find_by_id(connection: AsyncConnection, user_id: str) -> Account | None:
    """The user with this id."""
    row = (await connection.execute(_BY_ID, {"user_id": user_id})).one_or_none()
    return _account(row) if row else None


async def has_admin(connection: AsyncConnection) -> bool:
    """Whether anybody is an administrator."""
    return bool((await connection.execute(_ANY_ADMIN)).scalar_one())


async def lock_admins(connection: AsyncConnection) -> set[str]:
    """The ids of all administrators; their rows are held until the transaction ends."""
    return set((await connection.execute(_LOCK_ADMINS)).scalars())


async def lock_with_password(
    connection: AsyncConnection, user_id: str, password_hash: str
) -> Role | None:
    """The user's role, and holds the row; None if the password is not that one any more."""
    given = {"user_id": user_id, "password_hash": password_hash}
    return (await connection.execute(_LOCK_WITH_PASSWORD, given)).scalar_one_or_none()


async def lock_users(connection: AsyncConnection, user_ids: Collection[str]) -> dict[str, str]:
    """Those of the users who have an account, id → name; holds the rows."""
    rows = await connection.execute(_LOCK_USERS, {"user_ids": sorted(user_ids)})
    return {row.user_id: row.name for row in rows}


async def set_password_hash(connection: AsyncConnection, user_id: str, new: str) -> None:
    """Store the same password hashed anew."""
    await connection.execute(_SET_HASH, {"user_id": user_id, "new": new})


async def change_password(connection: AsyncConnection, user_id: str, *, old: str, new: str) -> bool:
    """Replace a hash, and end all sessions; False if it was another by now."""
    changed = await connection.execute(
        _CHANGE_PASSWORD, {"user_id": user_id, "old": old, "new": new}
    )
    if changed.scalar_one_or_none() is None:
        return False
    await connection.execute(_END_SESSIONS, {"user_id": user_id})
    return True


async def set_role(connection: AsyncConnection, user_id: str, role: Role) -> None:
    """Make somebody an administrator, or no longer."""
    await connection.execute(_SET_ROLE, {"user_id": user_id, "role": role})


async def list_users(
    connection: AsyncConnection, *, part: str, limit: int, offset: int
) -> tuple[list[ListedUser], int]:
    """A page of the users whose name's key contains `part`, by name; and how many there are."""
    wanted = {"part": part, "limit": limit, "offset": offset}
    rows = await connection.execute(_LIST, wanted)
    total = (await connection.execute(_COUNT, {"part": part})).scalar_one()
    return [ListedUser(row.name, row.role, row.created_at) for row in rows], total


async def delete_users(connection: AsyncConnection, user_ids: Collection[str]) -> None:
    """Delete the users and their sessions."""
    await connection.execute(_DELETE_USERS, {"user_ids": list(user_ids)})


async def start_session(
    connection: AsyncConnection,
    user_id: str,
    *,
    selector: bytes,
    digest: bytes,
    seconds: float,
    keep: int,
) -> datetime:
    """When the new session expires. Of the user's sessions only the `keep` newest go on."""
    rows = await connection.execute(
        _START_SESSION,
        {"selector": selector, "digest": digest, "user_id": user_id, "seconds": seconds},
    )
    expires_at = rows.scalar_one()
    await connection.execute(_KEEP_NEWEST_SESSIONS, {"user_id": user_id, "keep": keep})
    return expires_at


async def rotate(
    connection: AsyncConnection, selector: bytes, *, old: bytes, new: bytes, seconds: float
) -> Rotation | None:
    """The session with a new token; None if `old` is not the digest of its newest one."""
    rows = await connection.execute(
        _ROTATE, {"selector": selector, "old": old, "new": new, "seconds": seconds}
    )
    row = rows.one_or_none()
    return Rotation(row.user_id, row.role, row.expires_at) if row else None


async def end_session(connection: AsyncConnection, selector: bytes) -> str | None:
    """End a session with all its tokens; the id of its user, None if there was none."""
    return (await connection.execute(_END_SESSION, {"selector": selector})).scalar_one_or_none()


async def sessions_of(connection: AsyncConnection, user_id: str) -> Sequence[Session]:
    """Where the user is signed in."""
    rows = await connection.execute(_SESSIONS, {"user_id": user_id})
    return [Session(row.created_at, row.last_used_at, row.expires_at) for row in rows]


async def forget_expired_sessions(connection: AsyncConnection) -> int:
    """Delete sessions whose tokens are all too old; how many."""
    return (await connection.execute(_FORGET_EXPIRED)).rowcount


def _account(row: Row[Any]) -> Account:
    return Account(
        user_id=row.user_id,
        name=UserName(row.name, row.name_key),
        password_hash=row.password_hash,
        role=row.role,
        created_at=row.created_at,
        password_changed_at=row.password_changed_at,
    )
