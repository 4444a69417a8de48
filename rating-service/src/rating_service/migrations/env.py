"""Alembic's entry point; the service kit sets the schema and runs the revisions."""

from service_kit.migrations import run_env

run_env()
