"""The stack as daemons, with real servers and small programs in the places of the services."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import psycopg
import pytest
from local_stack.ports import free_port
from local_stack.processes import wait_for
from local_stack.procfs import ProcessId
from local_stack.services import Service
from local_stack.settings import PREFERRED_PORTS, Home, Settings
from local_stack.stack import Stack, UnfinishedRestoreError, UpError

PROGRAM = Path(__file__).with_name("fake_service.py")
FILMS = [5, 11, 27205]


class Bench:
    """One stack in a folder of its own, with what it said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        sample = folder / "movies.jsonl"
        sample.write_text("".join(json.dumps({"tmdb_id": film}) + "\n" for film in FILMS))
        self.home = Home(folder / "home of the stack")
        self.stack = Stack(
            folder, self.home, os.environ, say=self.said.append, services=self.table, sample=sample
        )

    def table(self, settings: Settings, environ: Mapping[str, str]) -> list[Service]:
        """Two services, one of which stands for the gateway."""

        def service(name: str, port_name: str) -> Service:
            port = settings.ports[port_name]
            command = (sys.executable, "-S", str(PROGRAM), str(self.folder / f"{name}.state"))
            env = {
                **settings.service_environment(environ),
                "HTTP_PORT": str(port),
                "EXPECTED_PASSWORD": settings.admin_password,
            }
            return Service(name, port_name, port, command, (*command, "migrate"), env)

        return [service("ingest-service", "INGEST"), service("gateway", "GATEWAY")]

    def pids(self) -> dict[str, int | None]:
        return {row.name: row.pid for row in self.stack.status()}

    def alive(self) -> list[str]:
        files = self.home.run.glob("*.pid")
        return sorted(file.stem for file in files if ProcessId.read(file) is not None)


@pytest.fixture(scope="module")
def bench(guarded_folder: Path) -> Bench:
    bench = Bench(guarded_folder)
    # its own ports, and one of them already somebody else's
    ports = {name: free_port() for name in PREFERRED_PORTS}
    bench.home.create()
    with socket.create_server(("127.0.0.1", ports["REDIS"])):
        settings = Settings.load(bench.home, {})
        settings.ports = dict(ports)
        settings.save(bench.home)
        bench.stack.up()
    return bench


def test_everything_serves_and_a_taken_port_was_replaced(bench: Bench) -> None:
    assert [(row.name, row.state) for row in bench.stack.status()] == [
        ("postgresql", "running"),
        ("rabbitmq", "running"),
        ("redis", "running"),
        ("ingest-service", "running"),
        ("gateway", "running"),
    ]
    settings = bench.stack.settings()
    notes = [line for line in bench.said if "is taken" in line]
    assert len(notes) == 1
    assert notes[0].endswith(f"another program: redis uses {settings.ports['REDIS']}")
    connections = settings.connections()
    with psycopg.connect(connections["DATABASE_URL"]) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)


def test_the_sample_catalogue_was_loaded_once(bench: Bench) -> None:
    state = (bench.folder / "gateway.state").read_text().split()
    assert state == [f"sample-catalogue-{film}" for film in FILMS]


def test_the_daemons_belong_to_no_terminal_and_no_parent_here(bench: Bench) -> None:
    for name, pid in bench.pids().items():
        assert pid is not None, name
        assert os.getsid(pid) == pid
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        assert int(fields[1]) != os.getpid()


def test_a_second_up_changes_nothing(bench: Bench) -> None:
    pids = bench.pids()
    assert bench.stack.up() is False
    assert bench.pids() == pids


def test_up_brings_back_what_died_and_leaves_the_rest(bench: Bench) -> None:
    before = bench.pids()
    for name in ("redis", "gateway"):
        os.kill(before[name] or 0, signal.SIGKILL)
    assert wait_for(lambda: bench.pids()["gateway"] is None, 20.0)
    assert {row.name for row in bench.stack.status() if row.state == "stopped"} == {
        "redis",
        "gateway",
    }
    assert bench.stack.up() is True
    after = bench.pids()
    assert None not in after.values()
    assert {name for name in before if before[name] != after[name]} == {"redis", "gateway"}


def test_a_frozen_and_a_dead_service_are_shown(bench: Bench) -> None:
    pid = bench.pids()["gateway"] or 0
    os.kill(pid, signal.SIGSTOP)
    try:
        assert wait_for(lambda: bench.stack.status()[-1].state == "frozen", 20.0)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_two_commands_at_once_take_turns(bench: Bench) -> None:
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(bench.stack.up())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [False, False]


def test_a_service_that_fails_is_named_with_its_log(bench: Bench) -> None:
    os.kill(bench.pids()["ingest-service"] or 0, signal.SIGKILL)
    broken = bench.folder / "ingest-service.state.broken"
    broken.touch()
    assert wait_for(lambda: bench.pids()["ingest-service"] is None, 20.0)
    with pytest.raises(UpError) as caught:
        bench.stack.up()
    broken.unlink()
    assert "ingest-service: migrate failed (exit status 1)" in str(caught.value)
    assert "    relation movies is not what it should be" in str(caught.value)
    assert "gateway" in bench.alive()


def test_a_stack_that_was_restored_in_part_does_not_start(bench: Bench) -> None:
    bench.home.restore_unfinished.touch()
    try:
        with pytest.raises(UnfinishedRestoreError, match="make reset"):
            bench.stack.up()
    finally:
        bench.home.restore_unfinished.unlink()
    assert bench.stack.up() is True


def test_down_keeps_the_data_and_reset_does_not(bench: Bench) -> None:
    bench.stack.up()
    url = bench.stack.settings().connections()["DATABASE_URL"]
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
    pids = [pid for pid in bench.pids().values() if pid is not None]
    log = bench.home.logs / "gateway.log"
    assert bench.stack.down() is True
    assert log.read_text().endswith("stopped in an orderly way\n")
    assert bench.alive() == []
    assert [pid for pid in pids if ProcessId.of(pid)] == []
    assert bench.stack.down() is False

    assert bench.stack.up() is True
    assert bench.stack.settings().connections()["DATABASE_URL"] == url
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (42,)
    pids = [pid for pid in bench.pids().values() if pid is not None]
    bench.stack.reset()
    assert [pid for pid in pids if ProcessId.of(pid)] == []
    assert not bench.home.folder.exists()


def test_an_interrupted_up_is_cleaned_by_down(bench: Bench) -> None:
    program = (
        "import os, sys; from pathlib import Path;"
        "from local_stack.settings import Home; from local_stack.stack import Stack;"
        "Stack(Path('/'), Home(Path(sys.argv[1])), os.environ, say=print,"
        "      services=lambda *_: []).up()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, bench.home.folder],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert wait_for(lambda: "rabbitmq" in bench.alive(), 20.0)
        process.send_signal(signal.SIGINT)
        process.wait(30)
    assert "rabbitmq" in bench.alive()
    bench.stack.down()
    assert bench.alive() == []
