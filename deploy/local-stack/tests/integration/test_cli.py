"""The command line, as make calls it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from local_stack.pytest_plugin import scratch_folder


@pytest.fixture
def home() -> Generator[Path]:
    folder = scratch_folder()
    yield folder / "home"
    shutil.rmtree(folder)


def run(home: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TMDB_")}
    return subprocess.run(
        [sys.executable, "-m", "local_stack", *arguments],
        env={**kept, "MOVIEMETRIC_HOME": str(home), **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_env_prints_settings_that_stay_the_same(home: Path) -> None:
    first, second = run(home, "env"), run(home, "env")
    assert first.returncode == 0
    assert first.stdout == second.stdout
    lines = dict(line.split("=", 1) for line in first.stdout.splitlines())
    assert set(lines) == {
        "GATEWAY_URL",
        "INGEST_URL",
        "RATING_URL",
        "COMPUTE_URL",
        "SEARCH_URL",
        "AMQP_URL",
        "RABBITMQ_MANAGEMENT_URL",
        "RABBITMQ_USER",
        "RABBITMQ_PASSWORD",
        "DATABASE_URL",
        "REDIS_URL",
        "SEARCH_BACKEND",
        "TMDB_BASE_URL",
        "ADMIN_NAME",
        "ADMIN_PASSWORD",
    }
    assert (lines["ADMIN_NAME"], len(lines["ADMIN_PASSWORD"])) == ("admin", 32)
    assert urlsplit(lines["AMQP_URL"]).password == lines["RABBITMQ_PASSWORD"]
    assert urlsplit(lines["DATABASE_URL"]).path == "/moviemetric"


def test_a_token_needs_a_stack_that_runs(home: Path) -> None:
    refused = run(home, "token")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "does not answer" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_nothing_runs_at_first(home: Path) -> None:
    status = run(home, "status")
    assert status.returncode == 1
    rows = [line.split() for line in status.stdout.splitlines()]
    assert {row[0]: row[3] for row in rows[1:]} == dict.fromkeys(
        (
            "postgresql",
            "rabbitmq",
            "redis",
            "tmdb-standin",
            "ingest-service",
            "rating-service",
            "compute-service",
            "scheduler",
            "search-indexer",
            "gateway",
        ),
        "stopped",
    )
    assert run(home, "down").stdout == "nothing was running\n"
    assert run(home, "reset").returncode == 0
    assert not home.exists()


def test_logs_are_cut_and_labelled(home: Path) -> None:
    (home / "logs").mkdir(parents=True)
    (home / "logs" / "gateway.log").write_text("".join(f"line {n}\n" for n in range(100)))
    (home / "logs" / "redis.log").write_text("hello\n")
    assert run(home, "logs", "gateway", "--lines", "2").stdout == "line 98\nline 99\n"
    assert run(home, "logs", "-n", "1").stdout == "gateway | line 99\nredis   | hello\n"
    unknown = run(home, "logs", "nothing")
    assert unknown.returncode == 1
    assert unknown.stderr == "there is no log of 'nothing'; there are: gateway, redis\n"


def test_a_folder_that_the_servers_cannot_enter_is_refused_in_words(home: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root runs servers under other accounts")
    home.parent.chmod(0o700)
    refused = run(home, "up")
    assert refused.returncode == 1
    assert "Set MOVIEMETRIC_HOME to a folder that every account can enter." in refused.stderr
    assert "Traceback" not in refused.stderr
