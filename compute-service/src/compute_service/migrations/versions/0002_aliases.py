"""Other keys of a film, whose views, ratings and scores are the film's; charts by votes."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# What each film claims as its other keys. Two films may claim one key, as long as one of them has
# not heard of the other; the key is the better one's then.
_ALIASES = (
    """
    CREATE TABLE aliases (
        alias    text COLLATE "C",
        movie_id text COLLATE "C",
        PRIMARY KEY (alias, movie_id),
        CONSTRAINT aliases_name_another_film CHECK (alias <> movie_id)
    )
    """,
    "CREATE INDEX aliases_movie_id ON aliases (movie_id)",
)

_MOVIES = (
    # Of which version the claims in `aliases` are: a removal has none, and leaves them as they are.
    """
    ALTER TABLE movies
        ADD COLUMN aliases_revision bigint NOT NULL DEFAULT 0,
        ADD CONSTRAINT movies_aliases_are_not_ahead CHECK (aliases_revision <= revision)
    """,
    # Most films of a bulk import have no votes, and no filter asks for these.
    "CREATE INDEX movies_vote_count ON movies (vote_count) WHERE vote_count > 0",
)

# Counts stay in the row of the key under which they came. `film` is the key of the film they
# belong to (NULL: this one), and alias_… of that film is the sum over its other keys.
_TRENDS = """
ALTER TABLE trends
    ADD COLUMN film text COLLATE "C",
    ADD COLUMN alias_views bigint NOT NULL DEFAULT 0 CHECK (alias_views >= 0),
    ADD COLUMN alias_ratings_count bigint NOT NULL DEFAULT 0 CHECK (alias_ratings_count >= 0),
    ADD COLUMN alias_ratings_sum double precision NOT NULL DEFAULT 0,
    ADD COLUMN alias_log_activity_day double precision
        CHECK (alias_log_activity_day BETWEEN -1e12 AND 1e12),
    ADD COLUMN alias_log_activity_week double precision
        CHECK (alias_log_activity_week BETWEEN -1e12 AND 1e12),
    ADD CONSTRAINT trends_alias_ratings_have_a_mean CHECK (
        alias_ratings_sum BETWEEN 0.5 * alias_ratings_count AND 10 * alias_ratings_count),
    -- another name of a film is no film: it is in no chart, and no name leads to it
    ADD CONSTRAINT trends_alias_is_no_film CHECK (
        film IS NULL OR (
            film <> movie_id AND log_quality IS NULL AND alias_views = 0
            AND alias_ratings_count = 0
            AND num_nonnulls(alias_log_activity_day, alias_log_activity_week) = 0))
"""


def upgrade() -> None:
    """Create the table and the columns above."""
    for statement in (*_ALIASES, *_MOVIES, _TRENDS):
        op.execute(statement)
