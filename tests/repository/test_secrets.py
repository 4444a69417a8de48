"""No file of the repository holds a key or token.

Ruff's S105 to S107 look after code; this does after all else: configuration, documents, data.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECRETS = {
    # In a file of its own, or as a string with its line breaks escaped.
    "a private key": rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----(?:\s|\\[nr])+[A-Za-z0-9+/]{16}",
    "an API key of ours": rb"\bmm_[a-z0-9]{12}_[A-Za-z0-9_-]{43}\b",
    "a JSON web token": rb"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}",
    "an access key of AWS": rb"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "a token of GitHub": rb"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{22,})",
    "an Argon2 hash": rb"\$argon2(?:id|i|d)\$v=\d+\$m=\d+,t=\d+,p=\d+\$[\w+/]{8,}\$[\w+/]{16,}",
}
_ANY = re.compile(b"|".join(SECRETS.values()))


def found_in(content: bytes) -> list[str]:
    if _ANY.search(content) is None:
        return []
    return [name for name, pattern in SECRETS.items() if re.search(pattern, content)]


def test_each_kind_is_recognised() -> None:
    dashes = b"-" * 5
    pem = dashes + b"BEGIN PRIVATE KEY" + dashes
    assert found_in(pem + b"\n" + b"MC4C" * 4) == ["a private key"]
    assert found_in(pem.replace(b"PRI", b"OPENSSH PRI") + b"\\n" + b"MC4C" * 4) == ["a private key"]
    assert found_in(b"X-API-Key: mm_" + b"a1" * 6 + b"_" + b"Zz-" * 14 + b"z") == [
        "an API key of ours"
    ]
    assert found_in(b"Bearer " + b".".join([b"eyJhbGciOiJ9", b"eyJzdWIiOiJ9", b"c2lnbmF0"])) == [
        "a JSON web token"
    ]
    assert found_in(b"id=" + b"AKIA" + b"A1B2" * 4) == ["an access key of AWS"]
    assert found_in(b"ghp_" + b"a1B2" * 9) == ["a token of GitHub"]
    salted = b"$".join([b"", b"argon2id", b"v=19", b"m=19456,t=2,p=1", b"c29tZXNhbHQ", b"a" * 43])
    assert found_in(salted) == ["an Argon2 hash"]
    assert found_in(pem + b" mm_<key_id>_<secret>, eyJ.eyJ.x, argon2id m=19456") == []


def test_no_file_holds_a_secret() -> None:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so which files belong to the repository is not known")
    command = [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    files = [ROOT / name.decode() for name in listed.split(b"\0") if name]
    assert ROOT / "pyproject.toml" in files
    found = {
        str(file.relative_to(ROOT)): kinds
        for file in files
        if file.is_file() and (kinds := found_in(file.read_bytes()))
    }
    assert found == {}
