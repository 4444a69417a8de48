"""There is always an administrator: the first one is made on `migrate`, the last one stays."""

import logging
from typing import Final

from service_kit import Database, ProblemError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from rating_service import accounts_repository as repository
from rating_service.names import UserName
from rating_service.passwords import Passwords, require_good

# Serialises those who would make the first administrator at the same time.
_LOCK: Final = text("""
    SELECT pg_advisory_xact_lock(hashtextextended('rating-service first administrator', 0))
""")

_log = logging.getLogger(__name__)


class LastAdminError(ProblemError):
    """Without this user nobody would be an administrator."""

    def __init__(self, what: str) -> None:
        detail = f"The last administrator cannot be {what}; make somebody else one before."
        super().__init__(409, "Last administrator", detail)


class FirstAdminError(Exception):
    """The settings of the first administrator cannot be followed; the message says why."""


async def require_another_admin(connection: AsyncConnection, user_id: str, what: str) -> None:
    """Refuse to go on if the user is the only administrator; holds the rows of all of them.

    Raises:
        LastAdminError: saying that they cannot be `what`.
    """
    if await repository.lock_admins(connection) == {user_id}:
        raise LastAdminError(what)


async def ensure_admin(
    database: Database, passwords: Passwords, *, name: str, password: str
) -> None:
    """Make an administrator with this name and password, unless there is one already.

    Raises:
        FirstAdminError: the name or the password is not allowed, or somebody has the name.
    """
    async with database.reading() as connection:
        if await repository.has_admin(connection):
            return
    try:
        admin = UserName.parse(name)
    except ValueError as error:
        msg = f"FIRST_ADMIN_NAME {error}"
        raise FirstAdminError(msg) from None
    try:
        require_good(password, name=admin)
    except ValueError as error:
        msg = f"FIRST_ADMIN_PASSWORD {error}"
        raise FirstAdminError(msg) from None
    hashed = await passwords.hash(password)
    async with database.transaction() as connection:
        await connection.execute(_LOCK)
        if await repository.has_admin(connection):
            return
        created_at = await repository.add_user(
            connection,
            user_id=repository.new_user_id(),
            name=admin,
            password_hash=hashed,
            role="admin",
        )
    if created_at is None:
        # To make them an administrator would hand the system to whoever took the name first.
        msg = f"FIRST_ADMIN_NAME: {admin.shown} is a user already; choose another name"
        raise FirstAdminError(msg)
    _log.info("made the first administrator", extra={"user_name": admin.shown})
