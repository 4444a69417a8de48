"""Passwords: which are refused, and how they are hashed."""

import asyncio
import threading

import pytest
from argon2 import PasswordHasher
from rating_service.names import UserName
from rating_service.passwords import Passwords, TooBusyError, require_good

ADA = UserName.parse("Ada-Lovelace")
GOOD = "twelve brass cogs"


def quick(*, threads: int = 2, queue: int = 8) -> Passwords:
    return Passwords(memory_kib=8, time_cost=1, parallelism=1, threads=threads, queue=queue)


def slow(*, threads: int, queue: int) -> Passwords:
    """Some tens of milliseconds each."""
    return Passwords(memory_kib=32_768, time_cost=4, parallelism=1, threads=threads, queue=queue)


@pytest.mark.parametrize(
    "password",
    [
        GOOD,
        "x" * 9 + "y",
        "šťřžýáíéúů",
        "a b" * 42 + "cd",
        "passwort-mit-mehr",
        "ada-lovelace in 1815",
    ],
)
def test_good_ones(password: str) -> None:
    require_good(password, name=ADA)


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("", "10 to 128"),
        ("only9char", "10 to 128"),
        ("x" * 128 + "y", "10 to 128"),
        ("xy" * 1_000_000, "10 to 128"),
        ("\ufdfa", "10 to 128"),  # one character, though NFKC makes eighteen of it
        ("\ufdfa" * 10, "10 to 128"),
        ("qwertyuiop", "most common"),
        ("QwertyUIOP", "most common"),
        ("".join(chr(ord(letter) + 0xFEE0) for letter in "qwertyuiop"), "most common"),
        ("password123", "most common"),
        ("1234567890", "most common"),
        ("z" * 12, "repeat one"),
        ("zZzZzZzZzZzZ", "repeat one"),
        ("ada-lovelace", "your name"),
        ("ADA-LOVELACE!", "your name"),
        ("ada-lovelaceada-lovelace", "your name"),
        ("moviemetric1", "this site"),
        ("twelve brass\x00cogs", "NUL"),
    ],
)
def test_bad_ones(password: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refusal:
        require_good(password, name=ADA)
    assert not password or password not in str(refusal.value)


async def test_hashes_are_salted_argon2id_and_verify() -> None:
    passwords = Passwords(memory_kib=19_456, time_cost=2, parallelism=1, threads=2, queue=2)
    one, other = await asyncio.gather(passwords.hash(GOOD), passwords.hash(GOOD))
    assert one != other
    assert one.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await passwords.verify(GOOD, one)
    assert not await passwords.verify(GOOD + " ", one)
    assert not await passwords.verify(GOOD, "no hash at all")
    assert not passwords.is_outdated(one)
    assert quick().is_outdated(one)
    await passwords.close()


async def test_composed_and_decomposed_letters_are_the_same_password() -> None:
    passwords = quick()
    hashed = await passwords.hash("šťastné kolečko")
    assert await passwords.verify("s\u030ct\u030castne\u0301 kolec\u030cko", hashed)
    await passwords.close()


async def test_nobodys_password_takes_as_long_and_is_never_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passwords = Passwords(memory_kib=19_456, time_cost=2, parallelism=1, threads=1, queue=1)
    hashed = await passwords.hash(GOOD)

    verified: list[str] = []
    verify = PasswordHasher.verify

    def noted(hasher: PasswordHasher, hashed: str, password: str) -> bool:
        verified.append(hashed)
        return verify(hasher, hashed, password)

    monkeypatch.setattr(PasswordHasher, "verify", noted)
    for against in (hashed, None):
        assert not await passwords.verify("wrong " + GOOD, against)
    known, unknown = verified
    assert known != unknown
    # The same parameters are the same work.
    assert known.split("$")[:4] == unknown.split("$")[:4]
    assert known.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    await passwords.close()


async def test_beyond_the_queue_one_is_asked_to_come_back() -> None:
    passwords = slow(threads=1, queue=2)
    taken = [asyncio.create_task(passwords.hash(GOOD)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(TooBusyError) as refusal:
        await passwords.hash(GOOD)
    assert refusal.value.status == 503
    assert refusal.value.headers is not None
    assert "Retry-After" in refusal.value.headers
    await asyncio.gather(*taken)
    assert await passwords.verify(GOOD, await passwords.hash(GOOD))
    await passwords.close()


async def test_who_no_longer_waits_keeps_the_place_until_the_thread_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passwords = quick(threads=1, queue=0)
    may_end = threading.Event()

    def wait(*_: object) -> str:
        return str(may_end.wait(60))

    monkeypatch.setattr(PasswordHasher, "hash", wait)
    impatient = asyncio.create_task(passwords.hash(GOOD))
    await asyncio.sleep(0.01)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    with pytest.raises(TooBusyError):
        await passwords.hash(GOOD)
    may_end.set()
    async with asyncio.timeout(20):
        while True:
            try:
                await passwords.hash(GOOD)
            except TooBusyError:
                await asyncio.sleep(0.02)
            else:
                break
    await passwords.close()


async def test_the_event_loop_goes_on_meanwhile() -> None:
    passwords = slow(threads=2, queue=2)
    most = 0
    for _ in range(5):  # on a busy machine it may have few turns now and then
        hashing = asyncio.gather(passwords.hash(GOOD), passwords.hash(GOOD))
        turns = 0
        while not hashing.done():
            await asyncio.sleep(0.001)
            turns += 1
        await hashing
        most = max(most, turns)
    assert most > 10
    await passwords.close()
