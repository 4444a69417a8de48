"""Settings, logs, problem documents and health pages of a process."""

import asyncio
import json
import logging
import sys

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from local_stack.ports import free_port
from service_kit import (
    Outage,
    Periodic,
    ProblemError,
    ProcessSettings,
    ServiceSettings,
    install_problem_handlers,
)
from service_kit.consumer import ConsumerStatus
from service_kit.health import Health, health_router
from service_kit.logs import JsonFormatter
from service_kit.service import Service, main
from service_kit.settings import Role
from service_kit.testing import InMemoryBroker
from service_kit.topology import DELAYS, delay_for


def test_roles_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", "amqp://localhost/")
    monkeypatch.setenv("DATABASE_URL", "postgresql://localhost/x")
    monkeypatch.setenv("ROLES", "api, consumers")
    assert ServiceSettings().roles == {"api", "consumers"}  # pyright: ignore[reportCallIssue]


def never(_settings: ServiceSettings) -> Service:
    raise AssertionError


def test_missing_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AMQP_URL", raising=False)
    monkeypatch.setenv("DATABASE_URL", "postgresql://localhost/x")
    monkeypatch.setenv("HTTP_PORT", "99999999")
    monkeypatch.setattr(sys, "argv", ["some_service"])
    with pytest.raises(SystemExit) as stopped:
        main("some-service", ServiceSettings, never)
    message = str(stopped.value)
    assert message.startswith("some-service cannot start; set these environment variables right:")
    assert "AMQP_URL: Field required" in message
    assert "HTTP_PORT: " in message
    assert "DATABASE_URL" not in message


def test_a_log_record_is_one_line_of_json() -> None:
    record = logging.makeLogRecord(
        {"name": "x", "msg": "film\nchanged", "levelname": "INFO", "movie_id": "tmdb-1"}
    )
    line = JsonFormatter("svc").format(record)
    assert "\n" not in line
    fields = json.loads(line)
    assert (fields["service"], fields["message"]) == ("svc", "film\nchanged")
    assert fields["movie_id"] == "tmdb-1"


@pytest.mark.parametrize(
    ("attempt", "wanted", "seconds"),
    [
        (1, None, 1),
        (2, None, 1),
        (3, None, 10),
        (6, None, 60),
        (8, None, 600),
        (99, None, 600),
        (1, 0.5, 1),
        (1, 5, 10),
        (1, 61, 600),
        (1, 10_000, 600),
    ],
)
def test_delays_grow(attempt: int, wanted: float | None, seconds: int) -> None:
    assert delay_for(attempt, wanted).seconds == seconds
    assert delay_for(attempt, wanted) in DELAYS


async def ask(app: FastAPI, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get(path)


async def test_every_error_is_a_problem_document() -> None:
    app = FastAPI()
    install_problem_handlers(app)

    def fail(path: str, error: Exception) -> None:
        def route() -> None:
            raise error

        app.add_api_route(path, route)

    fail("/problem", ProblemError(409, "Conflict", "twice", headers={"X-A": "b"}))
    fail("/outage", Outage("PostgreSQL", "secret details"))
    fail("/defect", ZeroDivisionError("secret details"))
    expected = {"/problem": 409, "/outage": 503, "/defect": 500, "/nowhere": 404}
    for path, status in expected.items():
        answer = await ask(app, path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status
        assert "secret" not in answer.text
    assert (await ask(app, "/problem")).headers["x-a"] == "b"
    assert (await ask(app, "/outage")).headers["retry-after"] == "2"


async def test_health_says_what_is_away_and_ready_why_not() -> None:
    broken = False

    async def check() -> None:
        if broken:
            msg = "no route to it"
            raise ConnectionError(msg)

    async def frozen() -> None:
        await asyncio.Event().wait()

    status = ConsumerStatus("svc.queue", "consuming", None)
    health = Health(
        "svc", required={"broker": check}, optional={"cache": frozen}, consumers=lambda: [status]
    )
    app = FastAPI()
    app.include_router(health_router(health))
    page = (await ask(app, "/health")).json()
    assert page["status"] == "degraded"
    assert page["dependencies"]["broker"]["latency_ms"] >= 0
    assert page["dependencies"]["cache"]["error"] == "no answer within 1 s"
    assert (await ask(app, "/ready")).status_code == 200

    broken = True
    status = ConsumerStatus("svc.queue", "paused", "PostgreSQL is away")
    assert (await ask(app, "/health")).json()["status"] == "down"
    ready = await ask(app, "/ready")
    assert ready.status_code == 503
    assert ready.json() == {
        "ready": False,
        "problems": ["broker: no route to it"],
        "waiting": ["svc.queue is paused: PostgreSQL is away"],
    }

    broken = False
    ready = await ask(app, "/ready")
    assert ready.status_code == 200
    assert ready.json()["waiting"] == ["svc.queue is paused: PostgreSQL is away"]
    status = ConsumerStatus("svc.queue", "connecting", "no such queue")
    assert (await ask(app, "/ready")).json()["problems"] == [
        "svc.queue is connecting: no such queue"
    ]


def task_names() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks()}


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        ({"consumers"}, {"consuming"}),
        ({"scheduler"}, {"by the clock"}),
        ({"api", "scheduler"}, {"by the clock"}),
        ({"consumers", "scheduler"}, {"consuming", "by the clock"}),
        ({"api"}, set[str]()),
    ],
)
async def test_a_periodic_job_runs_where_its_role_is_played(
    roles: set[Role], expected: set[str]
) -> None:
    ran: set[str] = set()

    def periodic(name: str, role: Role) -> Periodic:
        async def run() -> None:
            ran.add(name)

        return Periodic(name=name, every=0.01, run=run, role=role)

    always = APIRouter()
    always.add_api_route("/always", lambda: "answered")
    service = Service(
        name="svc",
        settings=ProcessSettings(
            amqp_url="amqp://nowhere/", http_port=free_port(), roles=frozenset(roles)
        ),
        database=None,
        periodics=[periodic("consuming", "consumers"), periodic("by the clock", "scheduler")],
        always=always,
        broker=InMemoryBroker(),
    )
    running = asyncio.create_task(service.run())
    async with asyncio.timeout(30):
        # what waits for the end of the process is the last that is begun
        while "stop" not in task_names():  # noqa: ASYNC110 -- nothing else tells
            await asyncio.sleep(0.01)
        assert task_names() & {"consuming", "by the clock"} == expected
        while ran != expected:  # noqa: ASYNC110 -- both may be missing
            await asyncio.sleep(0.01)
    assert (await ask(service.app, "/always")).json() == "answered"
    service.request_stop()
    await asyncio.wait_for(running, 10)
    assert ran == expected
