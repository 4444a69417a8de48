"""Users who asked to be forgotten, and what a user did, for them to take along."""

from alembic import op
from service_kit.migrations import create_erasure_table

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of erased users and the index on activity."""
    create_erasure_table(op)
    # Most views name no user and cost nothing here.
    op.execute("""
        CREATE INDEX activity_of_user ON activity (user_id, occurred_at)
        WHERE user_id IS NOT NULL
    """)
