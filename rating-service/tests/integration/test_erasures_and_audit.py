"""The whole service with a real broker: an erasure comes round, actions are recorded."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from moviemetric_contracts import AdminActed, Event
from rating_service.bootstrap import PACKAGE, SCHEMA, bootstrap
from rating_service.settings import Settings
from service_kit import Outgoing, Service
from service_kit.migrations import upgrade


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def service(
    postgres_database: str, rabbit_vhost: str, tmp_path: Path
) -> AsyncGenerator[Service]:
    """Runs until the end of the test, then shuts down as on SIGTERM."""
    await asyncio.to_thread(upgrade, postgres_database, package=PACKAGE, schema=SCHEMA)
    service = bootstrap(
        Settings(
            amqp_url=rabbit_vhost,
            database_url=postgres_database,
            http_port=free_port(),
            token_keys_folder=tmp_path / "keys",
            first_admin_name="root",
            first_admin_password="nine copper kettles",  # pyright: ignore[reportArgumentType]
        )
    )
    for prepare in service.on_migrate:
        await prepare()
    await service.declare()
    running = asyncio.create_task(service.run())
    yield service
    service.request_stop()
    await asyncio.wait_for(running, 20)


async def token_of(client: httpx.AsyncClient, name: str, password: str) -> dict[str, str]:
    form = {"grant_type": "password", "username": name, "password": password}
    answer = await client.post("/auth/token", data=form)
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def test_an_erasure_reaches_its_own_queue_and_actions_are_recorded(service: Service) -> None:
    acted = AdminActed(actor="key:0123456789ab", action="POST /x", acted_at=datetime.now(UTC))
    event = Event.of(acted, source="/test", time=datetime.now(UTC))
    await service.broker.publish(Outgoing(acted.EXCHANGE, event.type, event.to_bytes()))

    url = f"http://127.0.0.1:{service.settings.http_port}"
    async with httpx.AsyncClient(base_url=url, timeout=10) as client, asyncio.timeout(30):
        while True:
            try:
                await client.get("/ready")
                break
            except httpx.ConnectError:
                await asyncio.sleep(0.05)
        ada = {"name": "ada", "password": "twelve brass cogs"}
        assert (await client.post("/users", json=ada)).status_code == 201
        token = await token_of(client, "ada", ada["password"])
        answer = await client.request(
            "DELETE", "/users/me", headers=token, json={"password": ada["password"]}
        )
        assert answer.status_code == 202
        event_id = answer.json()["event_id"]
        effects = (await client.get(f"/inbox/{event_id}?wait=5")).json()["items"]
        assert [effect["queue"] for effect in effects] == ["rating-service.erasures"]

        root = await token_of(client, "root", "nine copper kettles")
        effects = (await client.get(f"/inbox/{event.id}?wait=5")).json()["items"]
        assert [effect["queue"] for effect in effects] == ["rating-service.audit"]
        [record] = (await client.get("/admin/audit", headers=root)).json()["items"]
        assert (record["actor"], record["action"]) == ("key:0123456789ab", "POST /x")

        # A body of unknown length that is too large is cut off.
        async def endless() -> AsyncGenerator[bytes]:
            for _ in range(1000):
                yield b"x" * 65_536

        try:
            refused = await client.post("/users", content=endless())
        except (httpx.WriteError, httpx.ReadError):
            pass
        else:
            assert refused.status_code == 413
        assert (await client.get("/ready")).status_code == 200
