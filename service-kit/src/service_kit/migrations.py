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


def create_erasure_table(op: _Operations) -> None:
    """The table of `service_kit.erasure`, version 1."""
    op.execute("""
        CREATE TABLE erased_users (
            user_digest bytea PRIMARY KEY CHECK (octet_length(user_digest) = 32),
            erased_at timestamptz NOT NULL DEFAULT now()
        )
    """)


def create_job_table(op: _Operations) -> None:
    """The table of `service_kit.jobs`, version 1."""
    op.execute("""
        CREATE TABLE jobs (
            job_id text PRIMARY KEY CHECK (job_id ~ '^[A-Za-z0-9_-]{1,64}$'),
            kind text NOT NULL CHECK (length(kind) BETWEEN 1 AND 200),
            state text NOT NULL DEFAULT 'queued'
                CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
            request jsonb NOT NULL CHECK (jsonb_typeof(request) = 'object'),
            checkpoint jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(checkpoint) = 'object'),
            result jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(result) = 'object'),
            done bigint NOT NULL DEFAULT 0 CHECK (done >= 0),
            total bigint CHECK (total >= 0),
            rejected bigint NOT NULL DEFAULT 0 CHECK (rejected >= 0),
            -- why it failed, or what a running job waits for
            error text,
            cancel_requested boolean NOT NULL DEFAULT false,
            -- claims so far; a step commits only under the newest
            attempt integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
            attempt_started_at timestamptz,
            attempt_started_done bigint NOT NULL DEFAULT 0,
            -- claims since the last headway: a job may take its process down with it
            idle_claims integer NOT NULL DEFAULT 0 CHECK (idle_claims >= 0),
            -- errors that nobody foresaw
            failures integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
            -- of the command that asked for the job
            correlation_id text,
            causation_id text,
            traceparent text,
            created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            started_at timestamptz,
            finished_at timestamptz,
            updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
            CHECK (state <> 'running'
                   OR (started_at IS NOT NULL AND attempt_started_at IS NOT NULL AND attempt > 0)),
            CHECK (state <> 'failed' OR error IS NOT NULL)
        ) WITH (fillfactor = 50)
    """)
    op.execute("CREATE INDEX jobs_newest ON jobs (created_at DESC, job_id DESC)")
    op.execute("CREATE INDEX jobs_newest_of_kind ON jobs (kind, created_at DESC, job_id DESC)")
    # What a runner looks at several times a second: a handful of rows, however many are finished.
    op.execute("""
        CREATE INDEX jobs_unfinished ON jobs (created_at, job_id)
        WHERE state IN ('queued', 'running')
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
