"""What users do with their accounts: sign up, sign in, stay signed in, change, leave.

**Staying signed in.** Signing in starts a session with a refresh token: 16 bytes that find the
session, and 32 that prove the right to it. Only a digest of the whole is stored. Each use gives
a new token in place of the old one; a token that finds its session but is not the newest has been
used before, by a thief or by the one stolen from: the session ends, for both.

**Telling nothing.** Whether a name is known cannot be told from the answer to a sign-in, nor from
its time: a hash is always computed. No password, token or hash is in any error or log.
"""

import base64
import binascii
import logging
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final, Self
from uuid import uuid4

from moviemetric_contracts import UserErased
from service_kit import Database, FieldProblem, ProblemError, unit_of_work
from service_kit.tokens import AUDIENCE, ISSUER, Role

from rating_service import accounts_repository as repository
from rating_service import api_keys
from rating_service.accounts_repository import Account
from rating_service.admins import require_another_admin
from rating_service.erasure import erase_users
from rating_service.names import UserName
from rating_service.passwords import Passwords, TooBusyError, require_good
from rating_service.signing_keys import SigningKeys
from rating_service.transactions import repeated

_SELECTOR_BYTES: Final = 16
_SECRET_BYTES: Final = 32
_TOKEN_LENGTH: Final = 64

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What somebody who has signed in is given; times in seconds from now."""

    access_token: str = field(repr=False)
    expires_in: int
    refresh_token: str = field(repr=False)
    refresh_expires_in: int


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """The two parts of a refresh token."""

    raw: bytes = field(repr=False)

    @classmethod
    def new(cls) -> Self:
        """A token that nobody has."""
        return cls(secrets.token_bytes(_SELECTOR_BYTES + _SECRET_BYTES))

    @classmethod
    def parse(cls, written: str) -> Self | None:
        """The token that somebody presents; None if it has not the form of one."""
        if len(written) != _TOKEN_LENGTH or not written.isascii():
            return None
        try:
            return cls(base64.b64decode(written, altchars=b"-_", validate=True))
        except binascii.Error:
            return None

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(self.raw).decode()

    @property
    def selector(self) -> bytes:
        """Finds the session."""
        return self.raw[:_SELECTOR_BYTES]

    @property
    def digest(self) -> bytes:
        """What is stored of it."""
        return sha256(self.raw).digest()


class NoSuchAccountError(Exception):
    """There is no user with this id, any more."""


class WrongPasswordError(ProblemError):
    """The password that should confirm an action is not the user's."""

    def __init__(self, name: str) -> None:
        super().__init__(403, "Wrong password", f"{name}: is not your password")


class NameTakenError(ProblemError):
    """Another user has this name, or one that is the same but for its case."""

    def __init__(self) -> None:
        detail = "name: is taken; names that differ only in case or form are the same"
        wrong: FieldProblem = {"field": "name", "message": "is taken"}
        super().__init__(409, "Name taken", detail, errors=[wrong])


class Accounts:
    """The accounts in a database.

    Args:
        access_for: how long an access token is good.
        refresh_for: how long a refresh token is good.
        sessions: most sessions of a user; starting another ends the one not used for longest.
        source: the service's name, the source of what it emits.
    """

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        keys: SigningKeys,
        *,
        access_for: timedelta,
        refresh_for: timedelta,
        sessions: int,
        source: str,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._keys = keys
        self._access_for = access_for
        self._refresh_for = refresh_for
        self._sessions = sessions
        self._source = source

    async def sign_up(self, name: UserName, password: str) -> datetime:
        """When the account was made.

        Raises:
            ValueError: the password is not good enough.
            NameTakenError: so is the name.
            TooBusyError: too many passwords wait to be hashed.
        """
        require_good(password, name=name)
        async with self._database.reading() as connection:
            if await repository.find_by_name(connection, name) is not None:
                raise NameTakenError
        hashed = await self._passwords.hash(password)

        async def add() -> datetime | None:
            async with self._database.transaction() as connection:
                return await repository.add_user(
                    connection,
                    user_id=repository.new_user_id(),
                    name=name,
                    password_hash=hashed,
                    role="user",
                )

        created_at = await repeated(add)
        # Somebody may have been faster while the hash was computed.
        if created_at is None:
            raise NameTakenError
        return created_at

    async def sign_in(self, written_name: str, password: str) -> Tokens | None:
        """Tokens of a new session; None if the name or the password is wrong.

        Raises:
            TooBusyError: too many passwords wait to be hashed.
            NoSigningKeyError: there is no key to sign with.
        """
        account = await self._find(written_name)
        hashed = account.password_hash if account else None
        if not await self._passwords.verify(password, hashed) or account is None:
            return None
        better = await self._hashed_anew(password, account)

        async def start() -> Tokens | None:
            async with self._database.transaction() as connection:
                role = await repository.lock_with_password(
                    connection, account.user_id, account.password_hash
                )
                if role is None:
                    return None
                if better is not None:
                    await repository.set_password_hash(connection, account.user_id, better)
                token = RefreshToken.new()
                await repository.start_session(
                    connection,
                    account.user_id,
                    selector=token.selector,
                    digest=token.digest,
                    seconds=self._refresh_for.total_seconds(),
                    keep=self._sessions,
                )
                return await self._tokens(account.user_id, role, token)

        return await repeated(start)

    async def refresh(self, written_token: str) -> Tokens | None:
        """New tokens for a refresh token; None if it is not good, and its session has ended.

        Raises:
            NoSigningKeyError: there is no key to sign with; the old token stays good.
        """
        old = RefreshToken.parse(written_token)
        if old is None:
            return None

        async def rotate() -> Tokens | None:
            new = RefreshToken(old.selector + secrets.token_bytes(_SECRET_BYTES))
            async with self._database.transaction() as connection:
                session = await repository.rotate(
                    connection,
                    old.selector,
                    old=old.digest,
                    new=new.digest,
                    seconds=self._refresh_for.total_seconds(),
                )
                if session is not None:
                    return await self._tokens(session.user_id, session.role, new)
                user_id = await repository.end_session(connection, old.selector)
            if user_id is not None:
                _log.warning(
                    "a session ended: a refresh token was used twice or too late",
                    extra={"user_id": user_id},
                )
            return None

        return await repeated(rotate)

    async def sign_out(self, written_token: str) -> None:
        """End the session that a refresh token belongs to, if there is one."""
        token = RefreshToken.parse(written_token)
        if token is None:
            return

        async def end() -> None:
            async with self._database.transaction() as connection:
                await repository.end_session(connection, token.selector)

        await repeated(end)

    async def change_password(self, user_id: str, *, current: str, new: str) -> None:
        """Replace the password; the user is signed out everywhere.

        Raises:
            NoSuchAccountError: there is no such user.
            ValueError: the new password is not good enough.
            WrongPasswordError: `current` is not the password.
            TooBusyError: too many passwords wait to be hashed.
        """
        account = await self.find(user_id)
        require_good(new, name=account.name)
        if not await self._passwords.verify(current, account.password_hash):
            raise WrongPasswordError("current_password")
        hashed = await self._passwords.hash(new)

        async def change() -> bool:
            async with self._database.transaction() as connection:
                return await repository.change_password(
                    connection, user_id, old=account.password_hash, new=hashed
                )

        if not await repeated(change):
            raise WrongPasswordError("current_password")

    async def leave(self, user_id: str, password: str) -> str:
        """Erase one's own account; the id of the event that tells the other services.

        Raises:
            NoSuchAccountError: there is no such user.
            WrongPasswordError: it is not the password.
            LastAdminError: nobody else is an administrator.
            TooBusyError: too many passwords wait to be hashed.
        """
        account = await self.find(user_id)
        if not await self._passwords.verify(password, account.password_hash):
            raise WrongPasswordError("password")
        return await self.erase(user_id)

    async def erase(self, user_id: str) -> str:
        """Erase an account; the id of the event that tells the other services.

        Raises:
            LastAdminError: nobody else is an administrator.
        """

        async def erase_once() -> str:
            async with unit_of_work(self._database, source=self._source) as work:
                event = work.emit(UserErased(user_id=user_id))
                await erase_users(work, [user_id], keep_an_admin=True)
            return event.id

        return await repeated(erase_once)

    async def set_role(self, user_id: str, role: Role) -> None:
        """Make somebody an administrator, or no longer.

        Raises:
            LastAdminError: nobody else is an administrator.
        """

        async def change() -> None:
            async with self._database.transaction() as connection:
                if role != "admin":
                    await require_another_admin(connection, user_id, "demoted")
                await repository.set_role(connection, user_id, role)
                if role != "admin":
                    await api_keys.revoke_admin_keys(connection, [user_id])

        await repeated(change)

    async def find(self, user_id: str) -> Account:
        """The account of whom a token names.

        Raises:
            NoSuchAccountError: there is none, any more.
        """
        async with self._database.reading() as connection:
            account = await repository.find_by_id(connection, user_id)
        if account is None:
            raise NoSuchAccountError
        return account

    async def _find(self, written_name: str) -> Account | None:
        try:
            name = UserName.parse(written_name)
        except ValueError:
            return None
        async with self._database.reading() as connection:
            return await repository.find_by_name(connection, name)

    async def _hashed_anew(self, password: str, account: Account) -> str | None:
        if not self._passwords.is_outdated(account.password_hash):
            return None
        try:
            return await self._passwords.hash(password)
        except TooBusyError:
            return None  # next time

    async def _tokens(self, user_id: str, role: Role, refresh_token: RefreshToken) -> Tokens:
        now = datetime.now(UTC)
        access_token = await self._keys.sign(
            {
                "iss": ISSUER,
                "aud": AUDIENCE,
                "sub": user_id,
                "role": role,
                "iat": now,
                "exp": now + self._access_for,
                "jti": uuid4().hex,
            }
        )
        return Tokens(
            access_token=access_token,
            expires_in=int(self._access_for.total_seconds()),
            refresh_token=str(refresh_token),
            refresh_expires_in=int(self._refresh_for.total_seconds()),
        )
