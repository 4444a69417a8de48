import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from local_stack.processes import ManagedProcess, end, wait_for
from local_stack.procfs import ProcessId, descendants


@pytest.fixture
def sleeper() -> Generator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def identity(process: subprocess.Popen[bytes]) -> ProcessId:
    found = ProcessId.of(process.pid)
    assert found is not None
    return found


def test_a_process_is_found_again_through_its_pid_file(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    identity(sleeper).write(tmp_path / "pid")
    assert ProcessId.read(tmp_path / "pid") == identity(sleeper)
    sleeper.kill()
    sleeper.wait()
    assert ProcessId.read(tmp_path / "pid") is None


@pytest.mark.parametrize("change", [{"started": 1}, {"boot": "an-earlier-boot"}])
def test_a_recycled_pid_is_another_process(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], change: dict[str, int | str]
) -> None:
    earlier = dataclasses.replace(identity(sleeper), **change)  # pyright: ignore[reportArgumentType]
    earlier.write(tmp_path / "pid")
    managed = ManagedProcess(
        "earlier", ["true"], pid_file=tmp_path / "pid", log=tmp_path / "log", cwd=tmp_path
    )
    assert not managed.running
    earlier.signal(signal.SIGKILL)
    end(earlier, signal.SIGKILL, 0.0)
    managed.freeze()
    managed.stop()
    managed.kill()
    assert sleeper.poll() is None
    assert not identity(sleeper).frozen


@pytest.mark.parametrize("content", ["", "no pid at all", "12", "x y z"])
def test_a_damaged_pid_file_names_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / "pid").write_text(content)
    assert ProcessId.read(tmp_path / "pid") is None


def test_a_zombie_is_not_alive(sleeper: subprocess.Popen[bytes]) -> None:
    recorded = identity(sleeper)
    os.kill(sleeper.pid, signal.SIGKILL)
    assert wait_for(lambda: not recorded.alive, 20.0)
    assert ProcessId.of(sleeper.pid) is None
    assert Path(f"/proc/{sleeper.pid}").exists()


def test_a_name_with_brackets_and_spaces_is_read(tmp_path: Path) -> None:
    odd = tmp_path / "a) R (b"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([odd, "60"]) as process:
        try:
            assert wait_for(
                lambda: Path(f"/proc/{process.pid}/comm").read_text() == "a) R (b\n", 20.0
            )
            assert identity(process).uptime < 60
            assert process.pid in {child.pid for child in descendants(os.getpid())}
        finally:
            process.kill()


def test_the_whole_tree_is_seen_and_ended() -> None:
    script = "import subprocess, time; subprocess.Popen(['sleep', '60']); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-S", "-c", script]) as process:
        root = identity(process)
        assert wait_for(lambda: len(root.tree()) == 2, 20.0)
        tree = root.tree()
        assert root.resident_bytes() > tree[1].resident_bytes() > 0
        end(root, signal.SIGTERM, 5.0)
        assert not any(member.alive for member in tree)


def test_the_environment_is_that_of_the_start() -> None:
    given = {"PATH": os.environ["PATH"], "MOVIEMETRIC_TEST": "a=b\nc", "EMPTY": ""}
    with subprocess.Popen(["sleep", "60"], env=given) as process:
        found = identity(process)
        # the kernel shows none for an instant while the program begins
        assert wait_for(lambda: found.environment() == given, 20.0)
        process.kill()
    assert found.environment() == {}
