"""Which film a number of ml-100k is: its ratings name films by nothing else.

Revision ID: 0003
Revises: 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE movielens_items (
            item integer PRIMARY KEY,
            movie_id text COLLATE "C" NOT NULL
        )
    """)
