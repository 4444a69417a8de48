"""Alembic's entry: everything is in the service kit."""

from service_kit.migrations import run_env

run_env()
