"""No server outlives its owner, however that ends; as root and as an ordinary user."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Generator
from pathlib import Path

import pytest
from local_stack.processes import wait_for
from local_stack.procfs import ProcessId
from local_stack.pytest_plugin import scratch_folder

PROGRAM = Path(__file__).with_name("owner_program.py")
SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture
def folder() -> Generator[Path]:
    base = scratch_folder()
    inner = base / "with a space"
    inner.mkdir(mode=0o755)
    yield inner
    shutil.rmtree(base, ignore_errors=True)


def started(owner: subprocess.Popen[str]) -> list[ProcessId]:
    """The processes that the owner says it runs; each is alive."""
    assert owner.stdout is not None
    found = [ProcessId.of(int(pid)) for pid in owner.stdout.readline().split()]
    processes = [process for process in found if process is not None]
    assert processes
    assert len(processes) == len(found)
    return processes


def assert_all_ends(processes: list[ProcessId], folder: Path) -> None:
    """Soon none of the processes is alive, and their data are deleted."""
    wait_for(lambda: not any(process.alive for process in processes), 30.0)
    assert [process for process in processes if process.alive] == []
    wait_for(lambda: not any(folder.iterdir()), 30.0)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_servers_end_with_their_owner(folder: Path, number: signal.Signals) -> None:
    command = [sys.executable, PROGRAM, folder, "postgresql,redis"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as owner:
        processes = started(owner)
        owner.send_signal(number)
    assert_all_ends(processes, folder)


def test_a_forked_child_that_holds_the_pipes_keeps_nothing_alive(folder: Path) -> None:
    command = [sys.executable, PROGRAM, folder, "redis", "fork"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        processes = started(owner)
        owner.kill()
        owner.wait()
        assert_all_ends(processes, folder)


def test_an_ordinary_user_can_run_all_servers_and_none_outlives_the_owner(folder: Path) -> None:
    python, environment, user = ordinary_user()
    if user is not None:
        os.chown(folder, user, user)
    with subprocess.Popen(
        [python, PROGRAM, folder, "postgresql,rabbitmq,redis"],
        env=environment,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        cwd="/",
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        processes = started(owner)
        names = {Path(f"/proc/{process.pid}/comm").read_text().strip() for process in processes}
        assert {"beam.smp", "epmd", "postgres", "redis-server"} <= names
        users = {Path(f"/proc/{process.pid}").stat().st_uid for process in processes}
        assert users == {os.geteuid() if user is None else user}
        owner.kill()
    assert_all_ends(processes, folder)


def ordinary_user() -> tuple[str, dict[str, str], int | None]:
    """An interpreter, an environment and the uid to take (None: this process's is ordinary)."""
    if os.geteuid() != 0:
        return sys.executable, dict(os.environ), None
    user = pwd.getpwnam("nobody").pw_uid
    # the interpreter of a virtual environment may lie where only root can go
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/nonexistent",
        "PYTHONPATH": f"{SOURCE}:{sysconfig.get_path('purelib')}",
    }
    probe = "import sys, httpx, local_stack; sys.exit(sys.version_info < (3, 11))"
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            works = subprocess.run(
                [python, "-c", probe],
                env=environment,
                user=user,
                group=user,
                extra_groups=[],
                cwd="/",
                stderr=subprocess.DEVNULL,
                check=False,
            )
        except PermissionError:
            continue
        if works.returncode == 0:
            return python, environment, user
    pytest.skip("nobody cannot read this checkout, or its system Python is too old")
