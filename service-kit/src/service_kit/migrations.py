"""Alembic for a schema of one's own.

Each service's `migrations/env.py` is `run_env()`, and its first revision begins with
`create_messaging_tables(op)`. Tables carry no schema name: the search path gives it, and the
version table lives in the schema too, so that services can share a database.
"""

import asyncio
from typing import Any, Final, Protocol

import sqlalchemy as sa
from alembic import command, context
from alembic.config import Config
from sqlalchemy import pool, text
from sqlalchemy.ext.asyncio import create_async_engine

from service_kit.database import async_url

# Serialises the migrations of one database; the number only has to be the same everywhere.
_LOCK: Final = 7_205_603


class _Operations(Protocol):
    def execute(self, sqltext: str) -> Any: ...


def create_messaging_tables(op: _Operations) -> None:
    """Inbox and outbox, version 1."""
    # The key is the event's id as it came: a person with an id can look it up.
    op.execute("""
        CREATE TABLE inbox (
            consumer text NOT NULL,
            event_id text NOT NULL,
            processed_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (consumer, event_id)
        )
    """)
    op.execute("""
        CREATE TABLE outbox (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            exchange text NOT NULL,
            routing_key text NOT NULL CHECK (octet_length(routing_key) BETWEEN 1 AND 255),
            body text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    # Rows live for milliseconds; without this the table's dead rows would outgrow it.
    op.execute("""
        ALTER TABLE outbox SET (
            autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000
        )
    """)


def upgrade(database_url: str, *, package: str, schema: str) -> None:
    """Create the schema if need be and bring it to the newest revision.

    Safe to run from several processes at the same time. Blocking; not for a running event loop.

    Args:
        package: the import package that holds `migrations/`.
    """
    config = Config()
    config.set_main_option("script_location", f"{package}:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["database_url"] = async_url(database_url)
    config.attributes["schema"] = schema
    command.upgrade(config, "head")


def run_env() -> None:
    """The body of every `env.py`."""
    asyncio.run(_migrate())


async def _migrate() -> None:
    url = context.config.attributes["database_url"]
    schema = context.config.attributes["schema"]
    engine = create_async_engine(
        url,
        poolclass=pool.NullPool,
        connect_args={"server_settings": {"search_path": f'"{schema}", public'}},
    )
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            await connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))
            await connection.run_sync(_run, schema)
    finally:
        await engine.dispose()


def _run(connection: sa.Connection, schema: str) -> None:
    context.configure(connection=connection, version_table_schema=schema)
    with context.begin_transaction():
        context.run_migrations()
