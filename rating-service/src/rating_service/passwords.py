"""Passwords: which are good enough, and Argon2id (RFC 9106) off the event loop.

A password is normalised to NFKC before anything else, so that it can be typed on any keyboard.
Hashing takes tens of milliseconds and megabytes on purpose; so only a few run at a time, a few more
wait, and who comes after that is asked to come back later.
"""

import asyncio
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from service_kit import ProblemError
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from rating_service.names import UserName, search_key

MIN_LENGTH: Final = 10
MAX_LENGTH: Final = 128
# What a password has to have beside the words anybody would try for this user of this site.
_MIN_BESIDE_OBVIOUS: Final = 5
_SITE: Final = "moviemetric"

R = TypeVar("R")


def normalised(password: str) -> str:
    """The form that is checked and hashed."""
    return unicodedata.normalize("NFKC", password)


def require_good(password: str, *, name: UserName) -> None:
    """Refuse a password that is easily guessed.

    Raises:
        ValueError: why; holds nothing of the password.
    """
    form = normalised(password[: MAX_LENGTH + 1])
    if min(len(password), len(form)) < MIN_LENGTH or max(len(password), len(form)) > MAX_LENGTH:
        msg = f"must have {MIN_LENGTH} to {MAX_LENGTH} characters"
        raise ValueError(msg)
    if "\x00" in form:
        msg = "must not contain the NUL character"
        raise ValueError(msg)
    folded = search_key(form)
    if len(set(folded)) == 1:
        msg = "must not repeat one character"
        raise ValueError(msg)
    if folded in _common():
        msg = "is one of the most common passwords"
        raise ValueError(msg)
    for obvious, what in ((name.key, "your name"), (_SITE, "the name of this site")):
        if obvious in folded and len(folded.replace(obvious, "")) < _MIN_BESIDE_OBVIOUS:
            msg = f"must be more than {what}"
            raise ValueError(msg)


@cache
def _common() -> frozenset[str]:
    return frozenset(map(search_key, FREQUENCY_LISTS["passwords"]))


class TooBusyError(ProblemError):
    """More passwords wait to be hashed than the service is set to hold."""

    def __init__(self) -> None:
        super().__init__(
            503,
            "Too many sign in",
            "More people sign in than can be served at once; try again in a moment.",
            headers={"Retry-After": "2"},
        )


class Passwords:
    """Hashes and verifies in threads of its own.

    Args:
        memory_kib: Argon2's memory; time_cost: its passes; parallelism: its lanes.
        threads: how many hashes are computed at a time.
        queue: how many more may wait.
    """

    def __init__(
        self, *, memory_kib: int, time_cost: int, parallelism: int, threads: int, queue: int
    ) -> None:
        self._hasher = PasswordHasher(
            memory_cost=memory_kib, time_cost=time_cost, parallelism=parallelism
        )
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="passwords")
        self._room = threads + queue
        self._in_hand = 0
        # Verified against when there is no such user, so that the answer takes as long.
        self._nobodys = self._hasher.hash(secrets.token_urlsafe())

    async def hash(self, password: str) -> str:
        """The hash to be stored, with its salt and parameters; raises TooBusyError."""
        return await self._run(self._hasher.hash, normalised(password))

    async def verify(self, password: str, hashed: str | None) -> bool:
        """Whether it is the password; raises TooBusyError.

        Args:
            hashed: None when there is no such user: then False, after the same time.
        """
        matches = await self._run(self._matches, normalised(password), hashed or self._nobodys)
        return matches and hashed is not None

    def is_outdated(self, hashed: str) -> bool:
        """Whether it was made with other parameters than are set now."""
        return self._hasher.check_needs_rehash(hashed)

    async def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _matches(self, password: str, hashed: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[..., R], *arguments: str) -> R:
        if self._in_hand >= self._room:
            raise TooBusyError
        self._in_hand += 1
        running = asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        running.add_done_callback(self._ended)
        # A thread works on though nobody waits for it any more, so its place stays taken.
        return await asyncio.shield(running)

    def _ended(self, done: asyncio.Future[Any]) -> None:
        self._in_hand -= 1
        if not done.cancelled():
            # Otherwise an error that nobody waits for any more is reported as never retrieved.
            done.exception()
