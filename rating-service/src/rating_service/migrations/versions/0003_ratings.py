"""Ratings, their sums, and the films they are about."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# One row for each key that a rating or the catalogue has named. It is the key's mutex: whoever
# changes a rating under the key, its sum or its film holds it. Of a key that only ratings have
# named there is no version (revision 0).
_MOVIES = """
CREATE TABLE movies (
    movie_id     text COLLATE "C" PRIMARY KEY,
    revision     bigint NOT NULL DEFAULT 0 CHECK (revision >= 0),
    present      boolean NOT NULL DEFAULT false,
    film         text COLLATE "C",  -- the film that claims this key, and has its ratings
    tmdb_id      integer,
    title        text,
    release_date date,
    genres       text[] NOT NULL DEFAULT '{}',
    genre_keys   text[] NOT NULL DEFAULT '{}',  -- genres for comparing, without case
    vote_average double precision CHECK (vote_average BETWEEN 0 AND 10),
    vote_count   bigint CHECK (vote_count >= 0),
    poster_path  text,
    CONSTRAINT movies_film_is_another CHECK (film <> movie_id),
    CONSTRAINT movies_one_key_per_genre CHECK (cardinality(genres) = cardinality(genre_keys)),
    CONSTRAINT movies_absent_is_empty CHECK (
        CASE WHEN present
        THEN revision > 0 AND num_nulls(title, vote_count) = 0
        ELSE num_nonnulls(tmdb_id, title, release_date, vote_average, vote_count, poster_path) = 0
             AND genres = '{}'
        END)
)
"""

# The primary key is what makes a second rating of a film impossible. A rating that was taken back
# stays as a time without a score, so that an older one that comes late is known to be older.
_RATINGS = """
CREATE TABLE ratings (
    user_id    text COLLATE "C",
    movie_id   text COLLATE "C",
    half_steps smallint CHECK (half_steps BETWEEN 1 AND 20),  -- twice the score; NULL: taken back
    review     text CHECK (review <> ''),
    changed_at timestamptz NOT NULL CHECK (isfinite(changed_at)),
    event_id   text COLLATE "C" NOT NULL,  -- of two at the same time the greater one counts
    PRIMARY KEY (user_id, movie_id),
    CONSTRAINT ratings_review_has_a_score CHECK (review IS NULL OR half_steps IS NOT NULL)
)
"""

# Sums by score: histogram[i] counts the ratings with half_steps = i. A film whose ratings were all
# taken back keeps its row, so that `revision` only ever grows.
_AGGREGATES = """
CREATE TABLE aggregates (
    movie_id  text COLLATE "C" PRIMARY KEY,
    histogram bigint[] NOT NULL,
    revision  bigint NOT NULL CHECK (revision >= 1),
    CONSTRAINT aggregates_count_each_score CHECK (
        array_ndims(histogram) = 1 AND cardinality(histogram) = 20 AND 0 <= ALL (histogram))
) WITH (
    -- every row is rewritten again and again: leave room beside it, clean up by number of rewrites
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 20000
)
"""

_INDEXES = (
    # A film's ratings, for moving them when another film claims its key.
    "CREATE INDEX ratings_of_film ON ratings (movie_id)",
    # A user's ratings as they are listed, and a film's reviews.
    "CREATE INDEX ratings_of_user_by_time ON ratings (user_id, changed_at DESC, movie_id)"
    " WHERE half_steps IS NOT NULL",
    "CREATE INDEX ratings_reviews ON ratings (movie_id, changed_at DESC, user_id)"
    " WHERE review IS NOT NULL",
)


def upgrade() -> None:
    """Create the tables above."""
    for statement in (_MOVIES, _RATINGS, _AGGREGATES, *_INDEXES):
        op.execute(statement)
