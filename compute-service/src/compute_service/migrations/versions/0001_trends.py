"""Movies, trends, activity: what the trend score is computed from and kept in."""

from alembic import op
from service_kit.migrations import create_messaging_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# A film that was removed keeps only its key and revision, so that the table has the same content
# whether the removal came before or after an older version of the film; its own CHECKs say so.
_MOVIES = """
CREATE TABLE movies (
    movie_id          text COLLATE "C" PRIMARY KEY,
    revision          bigint NOT NULL CHECK (revision >= 1),
    removed           boolean NOT NULL,
    tmdb_id           integer,
    imdb_id           text,
    title             text,
    original_title    text,
    original_language text,
    release_date      date,
    release_year      smallint GENERATED ALWAYS AS
                          (EXTRACT(year FROM release_date)::smallint) STORED,
    genres            text[] NOT NULL DEFAULT '{}',
    genre_keys        text[] NOT NULL DEFAULT '{}',  -- genres for comparing, without case
    vote_average      double precision CHECK (vote_average BETWEEN 0 AND 10),
    vote_count        bigint CHECK (vote_count >= 0),
    popularity        double precision CHECK (popularity >= 0 AND popularity < 'Infinity'),
    poster_path       text,
    fetched_at        timestamptz,
    CONSTRAINT movies_one_key_per_genre CHECK (cardinality(genres) = cardinality(genre_keys)),
    CONSTRAINT movies_removed_is_empty CHECK (
        CASE WHEN removed
        THEN num_nonnulls(tmdb_id, imdb_id, title, original_title, original_language, release_date,
                          vote_average, vote_count, popularity, poster_path, fetched_at) = 0
             AND genres = '{}'
        ELSE num_nulls(title, vote_count, popularity, fetched_at) = 0
        END)
)
"""

# A logarithm of activity is a number of half-lives around the landmark. BETWEEN refuses
# infinities and NaN, which would poison every later sum: for PostgreSQL NaN is above all numbers.
_TRENDS = """
CREATE TABLE trends (
    movie_id          text COLLATE "C" PRIMARY KEY,
    views             bigint NOT NULL DEFAULT 0 CHECK (views >= 0),
    ratings_count     bigint NOT NULL DEFAULT 0 CHECK (ratings_count >= 0),
    ratings_sum       double precision NOT NULL DEFAULT 0,
    ratings_revision  bigint NOT NULL DEFAULT 0 CHECK (ratings_revision >= 0),
    log_activity_day  double precision CHECK (log_activity_day BETWEEN -1e12 AND 1e12),
    log_activity_week double precision CHECK (log_activity_week BETWEEN -1e12 AND 1e12),
    log_prior_day     double precision CHECK (log_prior_day BETWEEN -1e12 AND 1e12),
    log_prior_week    double precision CHECK (log_prior_week BETWEEN -1e12 AND 1e12),
    log_quality       double precision CHECK (log_quality BETWEEN -2000 AND 4),  -- 0 < Q <= 10
    rank_key_day      double precision CHECK (rank_key_day BETWEEN -1e12 AND 1e12),
    rank_key_week     double precision CHECK (rank_key_week BETWEEN -1e12 AND 1e12),
    dirty             boolean NOT NULL DEFAULT false,
    -- a mean outside of 0.5 to 10 could never come from ratings
    CONSTRAINT trends_ratings_have_a_mean CHECK (
        ratings_sum BETWEEN 0.5 * ratings_count AND 10 * ratings_count),
    -- what is not in the catalogue is in no chart ...
    CONSTRAINT trends_ranked_has_quality CHECK (rank_key_day IS NULL OR log_quality IS NOT NULL),
    CONSTRAINT trends_unregistered_has_no_prior CHECK (
        log_quality IS NOT NULL OR num_nonnulls(log_prior_day, log_prior_week) = 0),
    -- ... and what is in one chart is in both, for the windows differ in nothing but the half-life
    CONSTRAINT trends_ranked_in_both CHECK ((rank_key_day IS NULL) = (rank_key_week IS NULL)),
    -- only a film with a score can be announced
    CONSTRAINT trends_dirty_is_ranked CHECK (rank_key_day IS NOT NULL OR NOT dirty)
) WITH (
    -- every row is rewritten again and again: leave room beside it, clean up by number of rewrites
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 20000
)
"""

# Only ever appended to, and read from one end to the other when trends are rebuilt: no index,
# which would cost more on each view than all the rest. Duplicates are kept out by the inbox, in
# the same transaction. The weight of an impulse is the formula's, so that it can be rebuilt under
# another formula.
_ACTIVITY = """
CREATE TABLE activity (
    movie_id    text COLLATE "C" NOT NULL,
    kind        varchar NOT NULL CHECK (kind IN ('view', 'rating')),
    occurred_at timestamptz NOT NULL CHECK (isfinite(occurred_at)),
    user_id     text,
    session_id  text
)
"""

# Sums made with different half-lives cannot be compared: which formula made the stored ones.
_APPLIED_FORMULA = """
CREATE TABLE applied_formula (
    one_row     boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    fingerprint text NOT NULL
)
"""

_INDEXES = (
    "CREATE INDEX movies_genre_keys ON movies USING gin (genre_keys)",
    "CREATE INDEX movies_release_year ON movies (release_year)",
    "CREATE INDEX trends_rank_day ON trends (rank_key_day DESC, movie_id)"
    " WHERE rank_key_day IS NOT NULL",
    "CREATE INDEX trends_rank_week ON trends (rank_key_week DESC, movie_id)"
    " WHERE rank_key_week IS NOT NULL",
    "CREATE INDEX trends_dirty ON trends (movie_id) WHERE dirty",
)


def upgrade() -> None:
    """Create the inbox, the outbox and the tables above."""
    create_messaging_tables(op)
    for statement in (_MOVIES, _TRENDS, _ACTIVITY, _APPLIED_FORMULA, *_INDEXES):
        op.execute(statement)
    op.execute("CREATE SEQUENCE trend_revision AS bigint")
