"""Listing films locks no facet groups any more."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Drops the reference from `listing` to `facet_groups`.

    It cannot fail: a group is looked up in the statement that lists the film, and none is ever
    deleted. But checking it locked the rows of the few common groups once for each film, which
    took a twelfth of the time of a bulk import and made replicas write shared locks on them.
    """
    op.execute("ALTER TABLE listing DROP CONSTRAINT listing_facet_group_fkey")
