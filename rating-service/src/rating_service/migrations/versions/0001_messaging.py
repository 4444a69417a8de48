"""Inbox and outbox.

Revision ID: 0001
Revises:
"""

from alembic import op
from service_kit.migrations import create_messaging_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go from an empty schema to this revision."""
    create_messaging_tables(op)
