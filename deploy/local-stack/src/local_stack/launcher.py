"""Starts one program in a session of its own and, when it has an owner, ends it with the owner.

Protocol: `python -m local_stack.launcher SPEC`, where SPEC is a JSON object (see `Spec`). The
environment is handed on to the program. The answer is one line on stdout: `started`, or why not.

- Without an owner the launcher returns at once; the program goes on by itself.
- With an owner it stays and adopts every orphan among the program's descendants. A byte on stdin
  dismisses it; the end of stdin, or another parent, means that the owner is gone. In both cases it
  kills all that is left of the program. So a server of a test run cannot outlive the test run, not
  even one that was ended by SIGKILL.

The program's pid file is written here, before the answer: an interrupt of the caller at any moment
leaves either nothing running or a pid file that tells what runs.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TypedDict, cast

from local_stack.procfs import ProcessId, descendants

DISMISS = b"."
_PR_SET_CHILD_SUBREAPER = 36
_GRACE_SECONDS = 3.0
_KILL_SECONDS = 10.0


class Spec(TypedDict):
    """What to start, and how.

    `owner` is the pid of the process to end with, or None; `grace_signal` is sent before SIGKILL
    when the owner is gone (None: SIGKILL at once); `remove` is a folder to delete after that.
    """

    command: list[str]
    cwd: str
    log: str
    pid_file: str
    uid: int | None
    gid: int | None
    owner: int | None
    grace_signal: int | None
    remove: str | None


def _start(spec: Spec) -> subprocess.Popen[bytes]:
    log = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    try:
        program = subprocess.Popen(  # noqa: S603 - the command comes from our own tables
            spec["command"],
            cwd=spec["cwd"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            user=spec["uid"],
            group=spec["gid"],
            extra_groups=None if spec["gid"] is None else [spec["gid"]],
        )
    finally:
        os.close(log)
    identity = ProcessId.of(program.pid)
    if identity is not None:
        identity.write(Path(spec["pid_file"]))
    return program


def _end_descendants() -> None:
    deadline = time.monotonic() + _KILL_SECONDS
    while time.monotonic() < deadline:
        for process in descendants(os.getpid()):
            process.signal(signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return
        time.sleep(0.01)


def _supervise(program: subprocess.Popen[bytes], spec: Spec) -> None:
    owner = spec["owner"]
    poller = select.poll()
    poller.register(0, select.POLLIN | select.POLLHUP)
    # a forked child of the owner may hold the pipe open, so its end is not the only sign
    while not poller.poll(1000) and os.getppid() == owner:
        program.poll()
    dismissed = bool(poller.poll(0)) and os.read(0, 1) != b""
    if program.poll() is None and spec["grace_signal"] is not None:
        program.send_signal(spec["grace_signal"])
        program.send_signal(signal.SIGCONT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(_GRACE_SECONDS)
    _end_descendants()
    if not dismissed and spec["remove"] is not None:
        shutil.rmtree(spec["remove"], ignore_errors=True)


def main() -> int:
    """Run the launcher; 0 when the program was started."""
    spec = cast(Spec, json.loads(sys.argv[1]))
    if spec["owner"] is not None:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        program = _start(spec)
    except OSError as error:
        sys.stdout.write(f"{error}\n")
        return 1
    sys.stdout.write("started\n")
    sys.stdout.flush()
    if spec["owner"] is not None:
        os.close(1)
        _supervise(program, spec)
    return 0


if __name__ == "__main__":
    sys.exit(main())
