"""The service's HTTP API over a real, empty PostgreSQL.

After every test, what was logged and every error that was answered are searched for the passwords,
tokens and keys that the test used.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from moviemetric_contracts import Event
from rating_service.bootstrap import SCHEMA, bootstrap
from rating_service.settings import Settings
from service_kit import Ack, Database, Service
from service_kit.logs import JsonFormatter
from service_kit.migrations import upgrade
from service_kit.testing import deliver, outbox_events
from sqlalchemy import text

PASSWORD = "twelve brass cogs"
ADMIN, ADMIN_PASSWORD = "root", "nine copper kettles"
_SECRETS = ("password", "refresh_token", "access_token", "token", "key", "new_password")


@dataclass
class Client:
    """Speaks to the service, and notes what must stay secret."""

    http: httpx.AsyncClient
    secrets: set[str] = field(default_factory=lambda: {PASSWORD, ADMIN_PASSWORD})
    refusals: list[str] = field(default_factory=list[str])

    async def request(
        self, method: str, path: str, *, token: str | None = None, **options: Any
    ) -> httpx.Response:
        for sent in (options.get("json"), options.get("data")):
            self.note(sent)
        headers = {**options.pop("headers", {})}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
            self.secrets |= {token} if len(token) >= 16 else set()
        answer = await self.http.request(method, path, headers=headers, **options)
        if answer.status_code >= 400:
            self.refusals.append(f"{answer.text} {answer.headers}")
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == answer.status_code
        elif answer.content:
            self.note(answer.json())
        return answer

    async def get(self, path: str, token: str | None = None, **options: Any) -> httpx.Response:
        return await self.request("GET", path, token=token, **options)

    async def sign_up(self, name: str, password: str = PASSWORD) -> httpx.Response:
        return await self.request("POST", "/users", json={"name": name, "password": password})

    async def grant(self, **form: str) -> httpx.Response:
        return await self.request("POST", "/auth/token", data=form)

    async def sign_in(self, name: str, password: str = PASSWORD) -> dict[str, Any]:
        answer = await self.grant(grant_type="password", username=name, password=password)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def refresh(self, refresh_token: str) -> httpx.Response:
        return await self.grant(grant_type="refresh_token", refresh_token=refresh_token)

    async def new_user(self, name: str) -> str:
        """An access token of somebody who has just signed up."""
        assert (await self.sign_up(name)).status_code == 201
        return (await self.sign_in(name))["access_token"]

    async def admin(self) -> str:
        """An access token of the first administrator."""
        return (await self.sign_in(ADMIN, ADMIN_PASSWORD))["access_token"]

    def note(self, body: object) -> None:
        """What of a body must stay secret."""
        if isinstance(body, dict):
            found = cast("dict[str, Any]", body)
            self.secrets |= {
                found[name]
                for name in _SECRETS
                if isinstance(found.get(name), str) and len(found[name]) >= 8
            }

    def leaks(self, records: Sequence[logging.LogRecord]) -> list[str]:
        lines = [JsonFormatter("test").format(record) for record in records]
        said = json.dumps(self.refusals + lines, ensure_ascii=False)
        return [secret for secret in self.secrets if secret in said]


@dataclass(frozen=True)
class Store:
    """What is stored, and how events get there."""

    service: Service

    @property
    def database(self) -> Database:
        assert self.service.database is not None
        return self.service.database

    async def rows(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        async with self.database.transaction() as connection:
            return [tuple(row) for row in await connection.execute(text(statement), parameters)]

    async def execute(self, statement: str, **parameters: Any) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(text(statement), parameters)

    async def deliver(self, events: Sequence[Event[Any]]) -> None:
        """All of one type, as a batch; all must succeed."""
        [subscription] = [
            subscription
            for subscription in self.service.subscriptions
            if isinstance(events[0].data, subscription.accepts)
        ]
        outcomes = await deliver(subscription, self.database, events)
        assert outcomes == [Ack()] * len(events)

    async def facts(self) -> list[Event[Any]]:
        return await outbox_events(self.database)

    async def user_id(self, name: str) -> str:
        [(user_id,)] = await self.rows("SELECT user_id FROM users WHERE name = :name", name=name)
        return user_id


@pytest.fixture
async def service(postgres_database: str, tmp_path: Path) -> AsyncGenerator[Service]:
    """Migrated, with a first administrator; hashes quickly, and needs no broker."""
    await asyncio.to_thread(upgrade, postgres_database, package="rating_service", schema=SCHEMA)
    service = bootstrap(
        Settings(
            amqp_url="amqp://127.0.0.1:1/",
            database_url=postgres_database,
            token_keys_folder=tmp_path / "keys",
            password_memory_kib=8,
            password_time_cost=1,
            password_queue=200,
            first_admin_name=ADMIN,
            first_admin_password=ADMIN_PASSWORD,  # pyright: ignore[reportArgumentType]
        )
    )
    for prepare in service.on_migrate:
        await prepare()
    yield service
    await service.close()


@pytest.fixture
def store(service: Service) -> Store:
    return Store(service)


@pytest.fixture
async def client(service: Service, caplog: pytest.LogCaptureFixture) -> AsyncGenerator[Client]:
    caplog.set_level(logging.DEBUG)
    transport = httpx.ASGITransport(app=service.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://rating") as http:
        client = Client(http)
        yield client
    assert client.leaks([*caplog.get_records("setup"), *caplog.get_records("call")]) == []
