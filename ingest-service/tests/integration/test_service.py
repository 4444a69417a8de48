"""The whole service with a broker: from a command on the exchange to the fact behind it."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from moviemetric_contracts import Event, Message, RegisterMovie
from service_kit import RabbitBroker
from service_kit.store import to_outgoing

INCEPTION = 27205


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def until(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    for _ in range(100_000):
        with suppress(httpx.TransportError):
            if condition():
                return
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.01)
    pytest.fail(f"not within {seconds} s: {what}")


class Running:
    """The service as a process of its own."""

    def __init__(self, settings: dict[str, str], log: Path) -> None:
        self.port = int(settings["HTTP_PORT"])
        self.log = log
        environment = os.environ | settings
        program = [sys.executable, "-m", "ingest_service"]
        subprocess.run([*program, "migrate"], env=environment, check=True, timeout=60)
        with log.open("wb") as stdout:
            self.process = subprocess.Popen(
                program, env=environment, stdout=stdout, stderr=subprocess.STDOUT
            )

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=20)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture
def run_service(postgres_database: str, rabbit_vhost: str, standin: Any, tmp_path: Path) -> Any:
    running: list[Running] = []

    def run(api_key: str) -> Running:
        settings = {
            "DATABASE_URL": postgres_database,
            "AMQP_URL": rabbit_vhost,
            "HTTP_PORT": str(free_port()),
            "TMDB_BASE_URL": standin.base_url,
            "TMDB_API_KEY": api_key,
        }
        running.append(Running(settings, tmp_path / "log"))
        return running[-1]

    yield run
    for service in running:
        if service.process.poll() is None:
            service.process.kill()
            service.process.wait(10)


async def publish(amqp_url: str, data: Message) -> None:
    broker = RabbitBroker(amqp_url, name="test")
    event = Event.of(data, source="/test", time=datetime.now(UTC))
    await broker.publish(to_outgoing(event))
    await broker.close()


async def test_a_registration_is_readable_within_a_moment(
    run_service: Any, rabbit_vhost: str
) -> None:
    service = run_service("0123456789abcdef0123456789abcdef")
    await until(lambda: service.get("/ready").status_code == 200, "the service is ready")
    await publish(rabbit_vhost, RegisterMovie(tmdb_id=155))
    await until(lambda: service.get("/movies/155").status_code == 200, "the first film is there")

    await publish(rabbit_vhost, RegisterMovie(tmdb_id=INCEPTION))
    await until(lambda: service.get("/movies/27205").status_code == 200, "the film is there")
    assert service.get("/movies").json()["total"] == 2
    health = service.get("/health").json()
    assert health["dependencies"]["tmdb"]["status"] == "ok"
    assert service.stop() == 0
    assert "0123456789abcdef" not in service.log.read_text()


@pytest.mark.parametrize(
    ("api_key", "reason", "asked"),
    [
        ("wrong", "TMDB refuses the API key (status 401: Invalid API key", 1),
        ("", "there is no TMDB API key", 0),
    ],
)
async def test_without_a_valid_key_the_intake_pauses_and_readiness_says_why(
    run_service: Any, rabbit_vhost: str, standin: Any, api_key: str, reason: str, asked: int
) -> None:
    service = run_service(api_key)
    await until(lambda: service.get("/health").status_code == 200, "the service answers")
    await publish(rabbit_vhost, RegisterMovie(tmdb_id=INCEPTION))
    await until(lambda: reason in service.get("/ready").text, "readiness shows the reason")
    assert service.get("/ready").status_code == 200, "its reads go on"
    assert reason in service.get("/health").json()["dependencies"]["tmdb"]["error"]
    assert service.get("/movies").json()["total"] == 0
    assert standin.requests()["total"] == asked
    assert service.stop() == 0
    if not api_key:
        assert "TMDB_API_KEY is not set" in service.log.read_text()
