"""The stand-in as its own process, as the local stack runs it."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

START_SECONDS = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def standin(catalogue: Path) -> Generator[tuple[subprocess.Popen[str], httpx.Client]]:
    port = free_port()
    env = {
        **os.environ,
        "TMDB_STANDIN_PORT": str(port),
        "TMDB_STANDIN_CATALOGUE": str(catalogue),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tmdb_standin"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": "Bearer k"},
            trust_env=False,
            timeout=30,
        ) as client:
            wait_until_healthy(process, client)
            yield process, client
    finally:
        process.kill()
        process.communicate(timeout=10)


def wait_until_healthy(process: subprocess.Popen[str], client: httpx.Client) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "the stand-in ended while starting"
        try:
            if client.get("/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.02)
    pytest.fail(f"the stand-in was not healthy within {START_SECONDS} s")


def resident_mb(process: subprocess.Popen[str]) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024


def test_serves_the_sample_in_little_memory_and_ends_cleanly(sample_folder: Path) -> None:
    with standin(sample_folder / "movies.jsonl") as (process, client):
        assert client.get("/3/movie/27205").json()["title"] == "Inception"
        for page in range(1, 121):
            assert (
                len(client.get("/3/movie/popular", params={"page": page}).json()["results"]) == 20
            )
        assert resident_mb(process) < 75
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (0, "", "")


def test_a_hanging_request_is_given_up_by_the_client_and_holds_up_no_shutdown(
    sample_folder: Path,
) -> None:
    with standin(sample_folder / "movies.jsonl") as (process, client):
        client.post("/_control/faults", json={"fractions": {"timeout": 1.0}})
        with pytest.raises(httpx.ReadTimeout):
            client.get("/3/movie/550", timeout=0.2)
        deadline = time.monotonic() + 30
        while (seen := client.get("/_control/requests").json())["in_flight"]:
            assert time.monotonic() < deadline
        assert seen["paths"] == {"/3/movie/{id}": {"client gave up": 1}}

        with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as hanging:
            hanging.sendall(b"GET /3/movie/550?api_key=k HTTP/1.1\r\nHost: tmdb\r\n\r\n")
            while not client.get("/_control/requests").json()["in_flight"]:
                assert time.monotonic() < deadline
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
        assert process.returncode == 0


def test_serves_recorded_bodies_in_bounded_memory(shared_data: Path) -> None:
    with standin(shared_data / "tmdb_bulk" / "json") as (process, client):
        assert client.get("/health").json()["films"] == 27495
        assert client.get("/3/movie/27205").json()["overview"].startswith("Cobb,")
        assert client.get("/3/search/movie", params={"query": "parasite"}).json()["results"]
        assert client.get("/3/discover/movie").json()["total_results"] > 27000
        assert resident_mb(process) < 400


def test_a_missing_catalogue_is_one_clear_message(tmp_path: Path) -> None:
    env = {**os.environ, "TMDB_STANDIN_CATALOGUE": str(tmp_path / "nowhere")}
    ended = subprocess.run(
        [sys.executable, "-m", "tmdb_standin"],
        env=env,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert "no such file or folder" in ended.stderr
