"""What charts are filtered by goes into the indexes of the rank keys."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# See `compute_service.facets`. `facet_genres` is a signature with two bits for each genre.
_COLUMNS = """
    ALTER TABLE trends
        ADD COLUMN facet_year smallint,
        ADD COLUMN facet_language text,
        ADD COLUMN facet_votes bigint NOT NULL DEFAULT 0,
        ADD COLUMN facet_genres bigint NOT NULL DEFAULT 0
"""
FILL = """
    UPDATE trends SET
        facet_year = movies.release_year,
        facet_language = CASE
            WHEN octet_length(movies.original_language) = char_length(movies.original_language)
                THEN lower(movies.original_language)
            WHEN movies.original_language IS NOT NULL THEN '?'
        END,
        facet_votes = coalesce(movies.vote_count, 0),
        facet_genres = (
            SELECT coalesce(bit_or(
                (1::bigint << (get_byte(digest, 0) % 64))
                | (1::bigint << (get_byte(digest, 1) % 64))), 0)
            FROM unnest(movies.genre_keys) AS key,
                LATERAL (SELECT sha256(convert_to(key, 'UTF8')) AS digest) AS hashed)
    FROM movies
    WHERE movies.movie_id = trends.movie_id AND trends.log_quality IS NOT NULL
"""
_OLD_INDEXES = (
    "DROP INDEX trends_rank_day",
    "DROP INDEX trends_rank_week",
    "DROP INDEX movies_release_year",
)
_INDEXES = (
    # Of a year's films the index alone is read.
    """
    CREATE INDEX movies_release_year ON movies (release_year, lower(original_language))
    INCLUDE (movie_id)
    """,
    *(
        f"""
        CREATE INDEX trends_rank_{window} ON trends (rank_key_{window} DESC, movie_id)
        INCLUDE (facet_year, facet_language, facet_votes, facet_genres)
        WHERE rank_key_{window} IS NOT NULL
        """
        for window in ("day", "week")
    ),
)


def upgrade() -> None:
    """Add, fill and index the columns above.

    It takes seconds for each hundred thousand films, during which nobody else reads or writes
    trends. Stop older processes of the service before: they do not know the columns, and what they
    write of a film is filtered wrongly until its next version. Charts are as fast as they can be
    once the tables are vacuumed, which PostgreSQL does by itself soon after.
    """
    for statement in (*_OLD_INDEXES, _COLUMNS, FILL, *_INDEXES):
        op.execute(statement)
