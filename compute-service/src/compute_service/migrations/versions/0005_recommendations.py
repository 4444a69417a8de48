"""Recommendations: each user's ratings, what films are about, and models fitted from both."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# The newest word of a user on a film, under the key that it came with; a rating that was taken
# back stays as a time without a score, so that an older one that comes later has no effect.
_USER_RATINGS = """
CREATE TABLE user_ratings (
    user_id    text,
    movie_id   text COLLATE "C",
    half_steps smallint CHECK (half_steps BETWEEN 1 AND 20),  -- twice the score; NULL: taken back
    rated_at   timestamptz NOT NULL CHECK (isfinite(rated_at)),
    PRIMARY KEY (user_id, movie_id)
)
"""

# Beside `movies`, whose rows the charts read and which stay small so. A film of which none of this
# is known has no row.
_MOVIE_CONTENT = """
CREATE TABLE movie_content (
    movie_id text COLLATE "C" PRIMARY KEY,
    keywords text[] NOT NULL DEFAULT '{}',
    people   text[] NOT NULL DEFAULT '{}',
    overview text NOT NULL DEFAULT '',
    CONSTRAINT movie_content_says_something CHECK (
        keywords <> '{}' OR people <> '{}' OR overview <> '')
)
"""

# A model is written whole under its own number, and read by nobody before it serves. `popularity`
# has one float4 for each film, little-endian, in the order of their numbers.
_MODELS = """
CREATE TABLE recommendation_models (
    model_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    as_of        date NOT NULL,
    computed_at  timestamptz NOT NULL,
    serving      boolean NOT NULL DEFAULT false,
    films        integer NOT NULL CHECK (films >= 0),
    users        integer NOT NULL CHECK (users >= 0),
    interactions bigint NOT NULL CHECK (interactions >= 0),
    half_life_short double precision NOT NULL CHECK (half_life_short > 0),
    half_life_long  double precision NOT NULL CHECK (half_life_long > 0),
    scale        double precision NOT NULL CHECK (scale > 0 AND scale < 'Infinity'),
    popularity   bytea NOT NULL,
    CONSTRAINT recommendation_models_popularity_of_each CHECK (
        octet_length(popularity) = 4 * films)
)
"""
# What each film says of others: `targets` and `near` are int4, the others float4, little-endian.
# Bytes rather than arrays: a history is up to a hundred rows with hundreds of numbers, which the
# driver would make one by one.
_FILMS = """
CREATE TABLE recommendation_films (
    model_id  bigint REFERENCES recommendation_models ON DELETE CASCADE,
    movie_id  text COLLATE "C",
    number    integer NOT NULL CHECK (number >= 0),
    linear    boolean NOT NULL,
    targets   bytea NOT NULL,
    short     bytea NOT NULL,
    long      bytea NOT NULL,
    near      bytea NOT NULL,
    closeness bytea NOT NULL,
    PRIMARY KEY (model_id, movie_id),
    CONSTRAINT recommendation_films_weights CHECK (
        octet_length(targets) = octet_length(short) AND octet_length(targets) = octet_length(long)),
    CONSTRAINT recommendation_films_closeness CHECK (octet_length(near) = octet_length(closeness))
)
"""
# The films most like each film, best first; `audience` is how much of a score comes from what
# people watch rather than from what the films are about.
_SIMILAR = """
CREATE TABLE movie_recommendations (
    model_id bigint REFERENCES recommendation_models ON DELETE CASCADE,
    movie_id text COLLATE "C",
    similar_ids text[] NOT NULL,
    scores   real[] NOT NULL,
    audience real[] NOT NULL,
    PRIMARY KEY (model_id, movie_id),
    CONSTRAINT movie_recommendations_are_whole CHECK (
        cardinality(similar_ids) = cardinality(scores)
        AND cardinality(similar_ids) = cardinality(audience))
)
"""

_OTHERS = (
    "CREATE INDEX movie_content_keywords_people ON movie_content USING gin (keywords, people)",
    "CREATE UNIQUE INDEX recommendation_models_one_serves ON recommendation_models (serving)"
    " WHERE serving",
    "CREATE UNIQUE INDEX recommendation_films_number ON recommendation_films (model_id, number)",
    # floats do not get smaller by compression
    """
    ALTER TABLE recommendation_films
        ALTER targets SET STORAGE EXTERNAL, ALTER short SET STORAGE EXTERNAL,
        ALTER long SET STORAGE EXTERNAL, ALTER near SET STORAGE EXTERNAL,
        ALTER closeness SET STORAGE EXTERNAL
    """,
    "ALTER TABLE recommendation_models ALTER popularity SET STORAGE EXTERNAL",
)


def upgrade() -> None:
    """Create the tables above."""
    for statement in (_USER_RATINGS, _MOVIE_CONTENT, _MODELS, _FILMS, _SIMILAR, *_OTHERS):
        op.execute(statement)
