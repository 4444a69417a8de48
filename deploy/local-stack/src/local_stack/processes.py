"""Starting, watching and ending one program and everything that it started itself."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from local_stack.accounts import Account
from local_stack.launcher import DISMISS, Spec
from local_stack.procfs import ProcessId

_POLL_SECONDS = 0.02
_READY_POLL_SECONDS = 0.05
_INTERRUPT_SECONDS = 5.0
_LOG_TAIL_BYTES = 64 * 1024
_LOG_LIMIT_BYTES = 10 * 1024 * 1024

# set when a parallel start is interrupted: nothing more is started by the threads that go on
_interrupted = threading.Event()


class StartError(Exception):
    """A program could not be started or did not become ready.

    Attributes: `name` of the program, `reason`, and `log`, the file that tells more.
    """

    def __init__(self, name: str, reason: str, log: Path) -> None:
        """Keep the parts; the message holds all of them with the log's last lines."""
        self.name = name
        self.reason = reason
        self.log = log
        lines = "".join(f"    {line}\n" for line in log_tail(log, 15)) or "    (nothing)\n"
        super().__init__(f"{name} {reason}.\n  The last lines of {log}:\n{lines}".rstrip("\n"))


def log_tail(log: Path, lines: int) -> list[str]:
    """The last lines of a log file; none when there is no such file."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LOG_TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-lines:] if lines > 0 else []


def wait_for(condition: Callable[[], bool], seconds: float, every: float = _POLL_SECONDS) -> bool:
    """Ask until the condition holds, for at most `seconds`; returns whether it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(every)
    return True


def end(process: ProcessId | None, number: signal.Signals, seconds: float) -> bool:
    """End a process and its descendants: ask with the signal, and SIGKILL what is left.

    Returns whether the process ended by itself within `seconds`.
    """
    if process is None:
        return True
    tree = process.tree()
    process.signal(number)
    # a stopped process takes no signal but SIGKILL until it goes on
    for member in tree:
        member.signal(signal.SIGCONT)
    graceful = wait_for(lambda: not process.alive, seconds)
    kill([process, *tree])
    return graceful


def kill(processes: Sequence[ProcessId]) -> None:
    """SIGKILL processes and all their descendants, and wait until they are gone."""
    doomed = list(processes)
    for process in doomed:
        process.signal(signal.SIGSTOP)  # so that none starts another one meanwhile
    doomed += [member for process in processes for member in process.tree()]
    for process in doomed:
        process.signal(signal.SIGKILL)
    wait_for(lambda: not any(process.alive for process in doomed), 10.0)


def run_to_end(
    name: str,
    command: Sequence[str],
    *,
    seconds: float,
    log: Path,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    account: Account | None = None,
) -> str:
    """Run a command that ends by itself; returns what it printed, which its log gets, too.

    Raises StartError when it fails, takes longer, or the start that it is part of is interrupted.
    """
    process = subprocess.Popen(  # noqa: S603 - commands of our own tables, no shell
        list(command),
        cwd=cwd,
        env=None if env is None else dict(env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        user=None if account is None else account.uid,
        group=None if account is None else account.gid,
        extra_groups=None if account is None else [account.gid],
    )
    deadline = time.monotonic() + seconds
    output, reason = "", ""
    unsent: str | None = stdin
    while True:
        try:
            output, _ = process.communicate(unsent, timeout=0.2)
        except subprocess.TimeoutExpired:
            unsent = None  # taken over by the first call
            if not reason and time.monotonic() >= deadline:
                reason = f"did not finish within {seconds:.0f} s"
            if not reason and _interrupted.is_set():
                reason = "was interrupted"
            identity = ProcessId.of(process.pid)
            if reason and identity is not None:
                kill([identity])
        else:
            break
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        file.write(output)
    if not reason and process.returncode != 0:
        reason = f"failed (exit status {process.returncode})"
    if reason:
        raise StartError(name, reason, log)
    return output


class ManagedProcess:
    """One program in a session of its own, with a log file and a pid file.

    An owned one ends with the process that started it, whatever ends that. One that is not owned is
    a daemon: any later process that knows its pid file can watch and end it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        pid_file: Path,
        log: Path,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        account: Account | None = None,
        owned: bool = False,
        grace_signal: signal.Signals | None = None,
        remove: Path | None = None,
    ) -> None:
        """Describe the program; nothing is started.

        `env` is the whole environment (None: this process's). When its owner is gone, an owned one
        is sent `grace_signal` and killed 3 s later, and the folder `remove` is deleted.
        """
        self.name = name
        self.command = list(command)
        self.pid_file = pid_file
        self.log = log
        self._cwd = cwd
        self._env = env
        self._account = account
        self._owned = owned
        self._grace_signal = grace_signal
        self._remove = remove
        self._supervisor: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> ProcessId | None:
        """The process while it is alive."""
        return ProcessId.read(self.pid_file)

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self.process is not None

    def start(self) -> None:
        """Start the program, unless it runs. Raises StartError when it cannot be executed."""
        if self.running:
            return
        if _interrupted.is_set():
            raise StartError(self.name, "was not started: interrupted", self.log)
        self._dismiss_supervisor()
        _rotate(self.log)
        spec = Spec(
            command=self.command,
            cwd=str(self._cwd),
            log=str(self.log),
            pid_file=str(self.pid_file),
            uid=None if self._account is None else self._account.uid,
            gid=None if self._account is None else self._account.gid,
            owner=os.getpid() if self._owned else None,
            grace_signal=self._grace_signal,
            remove=None if self._remove is None else str(self._remove),
        )
        with self.log.open("ab") as errors:
            launcher = subprocess.Popen(  # noqa: S603 - our own launcher, no shell
                [sys.executable, "-P", "-m", "local_stack.launcher", json.dumps(spec)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=None if self._env is None else dict(self._env),
                start_new_session=True,
            )
        if launcher.stdin is None or launcher.stdout is None:
            raise AssertionError("both were asked for as pipes")
        with launcher.stdout as answer:
            line = answer.readline().decode(errors="replace").strip()
        if self._owned and line == "started":
            self._supervisor = launcher
            return
        launcher.stdin.close()
        launcher.wait()
        if line != "started":
            raise StartError(self.name, f"could not be started: {line or 'see its log'}", self.log)

    def wait_until(self, ready: Callable[[], bool], seconds: float, what: str = "ready") -> None:
        """Wait until `ready()`; raises StartError when the program ends or the time is up."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.running:
                raise StartError(self.name, f"ended before it was {what}", self.log)
            if _interrupted.is_set():
                raise StartError(self.name, f"is not {what} yet: interrupted", self.log)
            if time.monotonic() >= deadline:
                raise StartError(self.name, f"was not {what} within {seconds:.0f} s", self.log)
            time.sleep(_READY_POLL_SECONDS)

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 20.0) -> bool:
        """Ask it to end, and kill it after `seconds`; returns whether it ended by itself."""
        graceful = end(self.process, number, seconds)
        self._forget()
        return graceful

    def kill(self) -> None:
        """SIGKILL it and all its descendants at once."""
        process = self.process
        if process is not None:
            kill([process])
        self._forget()

    def freeze(self) -> None:
        """SIGSTOP it and all its descendants: connections stay open, nothing answers."""
        process = self.process
        for member in [] if process is None else process.tree():
            member.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `freeze`."""
        process = self.process
        for member in [] if process is None else process.tree():
            member.signal(signal.SIGCONT)

    def _forget(self) -> None:
        self._dismiss_supervisor()
        self.pid_file.unlink(missing_ok=True)

    def _dismiss_supervisor(self) -> None:
        if self._supervisor is not None and self._supervisor.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._supervisor.stdin.write(DISMISS)
                self._supervisor.stdin.close()
            self._supervisor.wait()
        self._supervisor = None


def in_parallel(jobs: Mapping[str, Callable[[], object]]) -> dict[str, Exception]:
    """Run the jobs side by side; returns the error of each one that failed.

    An interrupt ends the wait: what the jobs have begun is finished, nothing more is started.
    """
    failures: dict[str, Exception] = {}

    def run(name: str, job: Callable[[], object]) -> None:
        try:
            job()
        except Exception as error:  # noqa: BLE001 - carried to the caller, who waits for all jobs
            failures[name] = error

    threads = [
        threading.Thread(target=run, args=(name, job), name=name, daemon=True)
        for name, job in jobs.items()
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        _interrupted.set()
        for thread in threads:
            thread.join(_INTERRUPT_SECONDS)
        raise
    return failures


def _rotate(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
        log.replace(log.with_name(f"{log.name}.1"))
