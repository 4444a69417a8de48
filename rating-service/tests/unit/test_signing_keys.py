"""The folder of keys: made once, rotated, published."""

import asyncio
import base64
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from rating_service import signing_keys
from rating_service.signing_keys import NoSigningKeyError, SigningKeys
from service_kit.tokens import AUDIENCE, ISSUER, read_access_token

# RFC 8037, appendix A: a key and its thumbprint.
RFC_PRIVATE = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
RFC_PUBLIC = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
RFC_THUMBPRINT = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def claims() -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "user-1",
        "role": "user",
        "iat": now,
        "exp": now + timedelta(minutes=1),
        "jti": "1",
    }


def put(folder: Path, name: str, key: Any, *, age: float = 0) -> None:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / name).write_bytes(pem)
    moment = datetime.now(UTC).timestamp() - age
    os.utime(folder / name, (moment, moment))


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def absent(tmp_path: Path) -> Path:
    """Where a folder is to be made."""
    return tmp_path / "keys"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder that others may read."""
    path = tmp_path / "keys"
    path.mkdir(mode=0o755)
    return path


async def test_the_first_key_is_private_and_made_once(absent: Path) -> None:
    await asyncio.gather(*(SigningKeys(absent).create_if_empty() for _ in range(8)))
    made = contents(absent)
    [name] = made
    assert (mode_of(absent), mode_of(absent / name)) == (0o700, 0o600)
    await SigningKeys(absent).create_if_empty()
    assert contents(absent) == made
    [key] = (await SigningKeys(absent).jwk_set())["keys"]
    assert f"{key['kid']}.pem" == name


async def test_a_folder_open_to_others_is_closed(folder: Path) -> None:
    await SigningKeys(folder).create_if_empty()
    assert mode_of(folder) == 0o700


async def test_the_published_key_is_the_public_half_with_its_thumbprint(folder: Path) -> None:
    raw = base64.urlsafe_b64decode(RFC_PRIVATE + "=")
    put(folder, "any-name.pem", Ed25519PrivateKey.from_private_bytes(raw))
    assert await SigningKeys(folder).jwk_set() == {
        "keys": [
            {
                "kty": "OKP",
                "crv": "Ed25519",
                "x": RFC_PUBLIC,
                "kid": RFC_THUMBPRINT,
                "use": "sig",
                "alg": "EdDSA",
            }
        ]
    }


async def test_the_newest_signs_and_all_are_believed(folder: Path) -> None:
    put(folder, "a.pem", Ed25519PrivateKey.generate(), age=60)
    keys = SigningKeys(folder)
    old = await keys.sign(claims())
    put(folder, "b.pem", Ed25519PrivateKey.generate())
    fresh = SigningKeys(folder)
    new = await fresh.sign(claims())
    assert jwt.get_unverified_header(old)["kid"] != jwt.get_unverified_header(new)["kid"]
    assert jwt.get_unverified_header(new)["typ"] == "at+jwt"
    for token in (old, new):
        assert read_access_token(token, await fresh.public()).user_id == "user-1"


async def test_a_rotated_key_is_taken_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await SigningKeys(folder).create_if_empty()
    keys = SigningKeys(folder)
    before = await keys.public()
    put(folder, "new.pem", Ed25519PrivateKey.generate())
    assert await keys.public(look_again=True) == before  # it has just looked
    monkeypatch.setattr(signing_keys, "READ_FOR_UNKNOWN_EVERY", 0.0)
    assert await keys.public() == before
    both = await keys.public(look_again=True)
    assert len(both) == 2
    assert both.keys() > before.keys()


async def test_what_is_no_key_is_left_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(folder, "good.pem", Ed25519PrivateKey.generate(), age=60)
    put(folder, "rsa.pem", generate_private_key(public_exponent=65537, key_size=2048))
    (folder / "torn.pem").write_text("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYD")
    (folder / ".unfinished").write_text("x")
    keys = SigningKeys(folder)
    assert len(await keys.public()) == 1
    assert {getattr(record, "file", None) for record in caplog.records} == {"rsa.pem", "torn.pem"}
    assert "MC4CAQ" not in caplog.text


async def test_without_a_key_it_says_what_to_do(folder: Path) -> None:
    keys = SigningKeys(folder)
    for asked in (keys.jwk_set, keys.public, keys.check):
        with pytest.raises(NoSigningKeyError, match="TOKEN_KEYS_FOLDER"):
            await asked()
    with pytest.raises(NoSigningKeyError):
        await keys.sign(claims())


async def test_a_folder_that_is_gone_does_not_take_its_keys_along(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await SigningKeys(folder).create_if_empty()
    keys = SigningKeys(folder)
    before = await keys.public()
    monkeypatch.setattr(signing_keys, "READ_EVERY", 0.0)
    os.rename(folder, f"{folder}-elsewhere")  # noqa: PTH104 -- pathlib blocks, this too
    assert await keys.public() == before
