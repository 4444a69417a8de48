"""Which account a server runs as, and which folders that account can reach.

PostgreSQL refuses to run as root, and no server needs to. Started by root, a server runs as the
account that its Debian package made; started by anybody else, as that user.
"""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Account:
    """An account of this machine."""

    name: str
    uid: int
    gid: int


def server_account(name: str) -> Account | None:
    """The account to switch to for a server: None when this process is not root, or lacks it."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name, entry.pw_uid, entry.pw_gid)


def can_enter(account: Account | None, folder: Path) -> bool:
    """Whether the account (None: this process) can enter the folder, through all its parents."""
    test = shutil.which("test") or "/usr/bin/test"
    result = subprocess.run(  # noqa: S603 - no shell, a fixed program
        [test, "-x", str(folder)],
        cwd="/",
        user=None if account is None else account.uid,
        group=None if account is None else account.gid,
        extra_groups=None if account is None else [account.gid],
        check=False,
    )
    return result.returncode == 0


def private_folder(folder: Path, account: Account | None) -> None:
    """Create a folder that only the account (None: this process's user) can read."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if account is not None:
        os.chown(folder, account.uid, account.gid)


def private_file(path: Path, text: str, account: Account | None) -> None:
    """Write a file that only the account (None: this process's user) can read."""
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    if account is not None:
        os.chown(unfinished, account.uid, account.gid)
    unfinished.replace(path)
