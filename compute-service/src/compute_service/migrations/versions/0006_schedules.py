"""What is published by the clock, and how far each schedule is."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of schedules."""
    op.execute("""
        CREATE TABLE schedules (
            name text PRIMARY KEY CHECK (name ~ '^[a-z][a-z-]{0,39}$'),
            -- the expression that the leader goes by; NULL while the schedule is off
            cron text CHECK (cron <> ''),
            -- of fire times up to here nothing is left to do
            done_until timestamptz NOT NULL CHECK (isfinite(done_until)),
            -- the command that was published last, and when it was due
            last_due timestamptz,
            published_at timestamptz,
            event_id text,
            job_id text,
            CHECK (num_nulls(last_due, published_at, event_id, job_id) IN (0, 4))
        )
    """)
