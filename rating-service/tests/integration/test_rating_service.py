"""The service against a real database and broker: its schema is made, its health is told."""

import asyncio
from pathlib import Path

import httpx
import psycopg
import pytest
from local_stack.servers import RabbitServer
from rating_service.bootstrap import NAME, SCHEMA, bootstrap
from rating_service.settings import Settings
from service_kit import Service
from service_kit.migrations import upgrade


@pytest.fixture
async def service(postgres_database: str, rabbit_vhost: str, tmp_path: Path) -> Service:
    await asyncio.to_thread(upgrade, postgres_database, package="rating_service", schema=SCHEMA)
    service = bootstrap(
        Settings(
            amqp_url=rabbit_vhost,
            database_url=postgres_database,
            token_keys_folder=tmp_path / "keys",
            roles=frozenset({"api"}),
        )
    )
    for prepare in service.on_migrate:
        await prepare()
    return service


def client_of(service: Service) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=service.app)
    return httpx.AsyncClient(transport=transport, base_url="http://rating")


async def close(service: Service) -> None:
    await service.broker.close()
    assert service.database is not None
    await service.database.dispose()


async def test_migrating_twice_makes_tables_in_its_own_schema_only(
    postgres_database: str,
) -> None:
    for _ in range(2):
        await asyncio.to_thread(upgrade, postgres_database, package="rating_service", schema=SCHEMA)
    with psycopg.connect(postgres_database) as connection:
        rows = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables"
            " WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 2"
        ).fetchall()
    assert {schema for schema, _ in rows} == {"rating"}
    assert {table for _, table in rows} >= {"alembic_version", "inbox", "outbox", "erased_users"}


async def test_health_names_each_dependency(service: Service) -> None:
    async with client_of(service) as client:
        health = (await client.get("/health")).json()
        ready = await client.get("/ready")
    await close(service)
    assert health["service"] == NAME
    assert health["status"] == "ok"
    assert {name: entry["status"] for name, entry in health["dependencies"].items()} == {
        "rabbitmq": "ok",
        "postgresql": "ok",
        "signing-keys": "ok",
    }
    assert ready.status_code == 200


async def test_it_is_not_ready_while_the_broker_is_away(
    service: Service, rabbit_server: RabbitServer
) -> None:
    await asyncio.to_thread(rabbit_server.freeze)
    async with client_of(service) as client:
        ready = await client.get("/ready")
        health = await client.get("/health")
    await asyncio.to_thread(rabbit_server.resume)
    await close(service)
    assert ready.status_code == 503
    assert any(problem.startswith("rabbitmq") for problem in ready.json()["problems"])
    assert health.status_code == 200
    assert health.json()["status"] == "down"
    assert health.json()["dependencies"]["postgresql"]["status"] == "ok"
