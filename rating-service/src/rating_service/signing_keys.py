"""The private keys that sign access tokens: a folder of PEM files that only this service can read.

The newest file signs; the public halves of all are published, so that tokens signed before a
rotation stay good. To rotate, put another Ed25519 key in PKCS #8 form into the folder; to retire
an old one, delete its file once its last token has expired. The folder is read again every minute,
and when a token names a key that is not known. The name of a file does not matter: `kid` is the
key's thumbprint (RFC 7638).
"""

import asyncio
import base64
import fcntl
import json
import logging
import os
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from service_kit import ProblemError
from service_kit.tokens import ALGORITHM, TOKEN_TYPE, PublicKeys, public_keys

READ_EVERY: Final = 60.0
READ_FOR_UNKNOWN_EVERY: Final = 5.0

_log = logging.getLogger(__name__)


class NoSigningKeyError(ProblemError):
    """The folder holds no usable key."""

    def __init__(self) -> None:
        super().__init__(
            503,
            "No signing key",
            "The service has no key to sign tokens with; `migrate` makes one in TOKEN_KEYS_FOLDER.",
            headers={"Retry-After": "10"},
        )


@dataclass(frozen=True, slots=True)
class _KeyRing:
    signing: tuple[str, Ed25519PrivateKey]
    jwk_set: Mapping[str, Any]
    public: PublicKeys


class SigningKeys:
    """The keys in a folder, as they were when it was read last."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ring: _KeyRing | None = None
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def sign(self, claims: Mapping[str, Any]) -> str:
        """A token with these claims, signed with the newest key.

        Raises:
            NoSigningKeyError: there is none.
        """
        kid, key = (await self._fresh(READ_EVERY)).signing
        headers = {"kid": kid, "typ": TOKEN_TYPE}
        return jwt.encode(dict(claims), key, algorithm=ALGORITHM, headers=headers)

    async def jwk_set(self) -> Mapping[str, Any]:
        """The public keys as RFC 7517 has them; raises NoSigningKeyError."""
        return (await self._fresh(READ_EVERY)).jwk_set

    async def public(self, *, look_again: bool = False) -> PublicKeys:
        """The public keys by `kid`; raises NoSigningKeyError.

        Args:
            look_again: a key was missing; read the folder now unless that was just done.
        """
        return (await self._fresh(READ_FOR_UNKNOWN_EVERY if look_again else READ_EVERY)).public

    async def check(self) -> float:
        """Seconds that it took to find a key; raises NoSigningKeyError."""
        started = time.perf_counter()
        await self._fresh(READ_FOR_UNKNOWN_EVERY)
        return time.perf_counter() - started

    async def create_if_empty(self) -> None:
        """Make the folder and a first key, unless it has a file with one."""
        await asyncio.to_thread(_create_if_empty, self._folder)

    async def _fresh(self, max_age: float) -> _KeyRing:
        if self._ring is None or time.monotonic() - self._read_at > max_age:
            async with self._reading:
                # Another may have read it while this one waited.
                if self._ring is None or time.monotonic() - self._read_at > max_age:
                    # A folder that is gone for a moment does not take its keys along.
                    self._ring = await asyncio.to_thread(_read, self._folder) or self._ring
                    self._read_at = time.monotonic()
        if self._ring is None:
            raise NoSigningKeyError
        return self._ring


def _read(folder: Path) -> _KeyRing | None:
    keys: dict[str, Ed25519PrivateKey] = {}
    for path in _newest_first(folder):
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            # The library's text may quote the file.
            reason = type(error).__name__
            _log.warning("not a usable key", extra={"file": path.name, "reason": reason})
            continue
        if not isinstance(key, Ed25519PrivateKey):
            reason = "expected an Ed25519 key"
            _log.warning("not a usable key", extra={"file": path.name, "reason": reason})
            continue
        keys.setdefault(_thumbprint(key), key)
    if not keys:
        return None
    jwks = [
        {**_public_jwk(key), "kid": kid, "use": "sig", "alg": ALGORITHM}
        for kid, key in keys.items()
    ]
    jwk_set = {"keys": jwks}
    return _KeyRing(next(iter(keys.items())), jwk_set, public_keys(jwk_set))


def _newest_first(folder: Path) -> list[Path]:
    try:
        dated = [(path.stat().st_mtime_ns, path.name, path) for path in folder.glob("*.pem")]
    except OSError as error:
        _log.warning("cannot read the folder of the keys", extra={"reason": error.strerror})
        return []
    return [path for _, _, path in sorted(dated, reverse=True)]


def _public_jwk(key: Ed25519PrivateKey) -> dict[str, str]:
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return {"crv": "Ed25519", "kty": "OKP", "x": _base64url(raw)}


def _thumbprint(key: Ed25519PrivateKey) -> str:
    canonical = json.dumps(_public_jwk(key), separators=(",", ":"), sort_keys=True)
    return _base64url(sha256(canonical.encode()).digest())


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _create_if_empty(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)
    with _locked(folder):
        if _newest_first(folder):
            return
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        kid = _thumbprint(key)
        unfinished = folder / f".{kid}.unfinished"
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(folder / f"{kid}.pem")
    _log.info("made a key to sign tokens with", extra={"kid": kid})


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
