"""Ratings, what says whether an index is as it should be, jobs, and what was searched for."""

from alembic import op
from service_kit.migrations import create_job_table

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Apart from the documents, as trends are: they change far more often, and may be known earlier.
RATINGS = """
ALTER TABLE listing
    ADD COLUMN ratings_revision bigint NOT NULL DEFAULT 0,
    ADD COLUMN local_ratings bigint NOT NULL DEFAULT 0 CHECK (local_ratings >= 0),
    ADD COLUMN local_mean double precision,
    ADD CONSTRAINT ratings_have_a_mean CHECK ((local_ratings > 0) = (local_mean IS NOT NULL))
"""

# Which rules a row's searched columns were derived by (see `derivation`); 0: nobody knows.
DERIVED_BY = "ALTER TABLE documents ADD COLUMN derived_by bigint NOT NULL DEFAULT 0"

# `next_identity` is the index that a rebuild is about to swap in: when it is found in place of the
# known one, nothing was lost. `rebuilt_by` is the job that fills a second index, which until then
# is told of every change too. `filled` says that the index has had everything once: before, it
# must not be asked.
INDEX_STATE = """
ALTER TABLE index_state
    ADD COLUMN next_identity text,
    ADD COLUMN rebuilt_by text,
    ADD COLUMN filled boolean NOT NULL DEFAULT false
"""

# An index that nothing has still to be told of was filled before anybody kept a note of it.
FILLED = """
UPDATE index_state SET filled = true
WHERE NOT EXISTS (SELECT FROM index_changes WHERE not_before <= now())
"""

# What was searched for, folded, by day (UTC); of nobody in particular.
SEARCHES = """
CREATE TABLE searches (
    day date NOT NULL,
    query text NOT NULL CHECK (length(query) BETWEEN 1 AND 100),
    searches bigint NOT NULL DEFAULT 0 CHECK (searches >= 0),
    no_result_searches bigint NOT NULL DEFAULT 0
        CHECK (no_result_searches BETWEEN 0 AND searches),
    opened bigint NOT NULL DEFAULT 0 CHECK (opened >= 0),
    PRIMARY KEY (day, query)
) WITH (fillfactor = 70)
"""
OPENED_FILMS = """
CREATE TABLE opened_films (
    day date NOT NULL,
    query text NOT NULL,
    movie_id text NOT NULL,
    opened bigint NOT NULL CHECK (opened >= 1),
    PRIMARY KEY (day, query, movie_id),
    FOREIGN KEY (day, query) REFERENCES searches ON DELETE CASCADE
) WITH (fillfactor = 70)
"""


def upgrade() -> None:
    """Adds them."""
    create_job_table(op)
    for statement in (RATINGS, DERIVED_BY, INDEX_STATE, FILLED, SEARCHES, OPENED_FILMS):
        op.execute(statement)
