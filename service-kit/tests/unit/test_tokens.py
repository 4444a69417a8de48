"""Which access tokens are believed."""

import base64
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from service_kit.tokens import (
    ALGORITHM,
    AUDIENCE,
    ISSUER,
    TOKEN_TYPE,
    InvalidTokenError,
    UnknownKeyError,
    public_keys,
    read_access_token,
)

OURS, THEIRS = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


def jwk(key: Ed25519PrivateKey, kid: str) -> dict[str, Any]:
    raw = key.public_key().public_bytes_raw()
    x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    return {"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x, "use": "sig", "alg": ALGORITHM}


KEYS = public_keys({"keys": [jwk(OURS, "k1"), jwk(THEIRS, "k2")]})


def claims(**changes: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    said = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "user-1",
        "role": "user",
        "jti": "t1",
        "iat": now,
        "exp": now + timedelta(days=1),
    }
    return {name: value for name, value in (said | changes).items() if value is not None}


def signed(
    said: dict[str, Any] | None = None,
    *,
    key: Any = OURS,
    algorithm: str = ALGORITHM,
    **header: Any,
) -> str:
    headers = {"kid": "k1", "typ": TOKEN_TYPE} | header
    return jwt.encode(said or claims(), key, algorithm=algorithm, headers=headers)


def test_a_token_says_who_and_what() -> None:
    exp = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=1)
    token = read_access_token(signed(claims(exp=exp, role="admin")), KEYS)
    assert (token.user_id, token.role, token.expires_at) == ("user-1", "admin", exp)


def _hmac_with_public_key(secret: bytes) -> str:
    # PyJWT itself refuses to sign so: made by hand, as an attacker would.
    header, payload = signed().split(".")[:2]
    del header
    forged = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"at+jwt","kid":"k1"}').rstrip(b"=")
    signing_input = forged + b"." + payload.encode()
    mac = hmac.digest(secret, signing_input, "sha256")
    signature = base64.urlsafe_b64encode(mac).rstrip(b"=")
    return (signing_input + b"." + signature).decode()


def _pem() -> bytes:
    return OURS.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _altered() -> str:
    header, payload, signature = signed().split(".")
    other = jwt.encode({**claims(), "role": "admin"}, OURS, algorithm=ALGORITHM).split(".")[1]
    assert payload != other
    return f"{header}.{other}.{signature}"


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "no token"),
        ("a.b.c", "no token"),
        ("x" * 5000, "too long"),
        (signed(claims(exp=datetime.now(UTC) - timedelta(seconds=1))), "expired"),
        (signed(claims(exp=None)), "lacks the claim exp"),
        (signed(claims(sub=None)), "lacks the claim sub"),
        (signed(claims(role=None)), "lacks the claim role"),
        (signed(claims(role="root")), "names no user"),
        (signed(claims(sub="")), "names no user"),
        (signed(claims(aud="another")), "not valid here"),
        (signed(claims(iss="https://elsewhere.example")), "not valid here"),
        (signed(claims(iat=datetime.now(UTC) + timedelta(hours=1))), "not valid here"),
        (signed(key=THEIRS), "signature is wrong"),
        (signed(kid="k2"), "signature is wrong"),
        (_altered(), "signature is wrong"),
        (signed(typ="JWT"), "no access token"),
        (signed(key=None, algorithm="none"), "no access token"),
        (_hmac_with_public_key(_pem()), "no access token"),
        (_hmac_with_public_key(OURS.public_key().public_bytes_raw()), "no access token"),
    ],
)
def test_other_tokens_are_not_believed(token: str, reason: str) -> None:
    with pytest.raises(InvalidTokenError, match=reason):
        read_access_token(token, KEYS)


@pytest.mark.parametrize("kid", ["k9", "../../etc/passwd", "https://evil.example/jwks.json", ""])
def test_a_key_that_is_not_known_is_told_apart(kid: str) -> None:
    with pytest.raises(UnknownKeyError):
        read_access_token(signed(kid=kid), KEYS)


def test_reasons_hold_nothing_of_the_token() -> None:
    token = signed(claims(sub="user-secret"), key=THEIRS)
    with pytest.raises(InvalidTokenError) as caught:
        read_access_token(token, KEYS)
    assert "user-secret" not in str(caught.value)
    assert token.split(".")[1] not in str(caught.value)


def test_keys_of_other_kinds_are_left_out() -> None:
    broken = jwk(OURS, "broken") | {"x": "!"}
    other = {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}
    assert set(public_keys({"keys": [other, broken, 7, jwk(OURS, "good")]})) == {"good"}


@pytest.mark.parametrize("value", [None, [], {}, {"keys": {}}])
def test_what_is_no_key_set_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="JWK set"):
        public_keys(value)
