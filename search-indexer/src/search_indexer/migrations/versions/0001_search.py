"""Documents, trends, the vocabulary, and what an external index has still to be told."""

from alembic import op
from service_kit.migrations import create_messaging_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# In `public`, which is on every service's search_path; both are trusted extensions, so the owner of
# the database may create them.
EXTENSIONS = (
    "CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA public",
    "CREATE EXTENSION IF NOT EXISTS fuzzystrmatch SCHEMA public",
)

# Searched columns are derived from the shown ones when a document is stored. Keys are compact
# folded titles in the C collation, so that a prefix is a range of their index.
DOCUMENTS = """
CREATE TABLE documents (
    movie_id text PRIMARY KEY,
    revision bigint NOT NULL CHECK (revision >= 1),
    removed boolean NOT NULL DEFAULT false,
    tmdb_id integer,
    imdb_id text,
    title text,
    original_title text,
    original_language text,
    overview text,
    people text[] NOT NULL DEFAULT '{}',
    keywords text[] NOT NULL DEFAULT '{}',
    genres text[] NOT NULL DEFAULT '{}',
    release_date date,
    vote_average double precision,
    vote_count bigint NOT NULL DEFAULT 0,
    popularity double precision NOT NULL DEFAULT 0,
    poster_path text,
    title_key text COLLATE "C" NOT NULL DEFAULT '',
    original_title_key text COLLATE "C" NOT NULL DEFAULT '',
    title_words tsvector NOT NULL DEFAULT '',
    name_words tsvector NOT NULL DEFAULT '',
    all_words tsvector NOT NULL DEFAULT '',
    CONSTRAINT shown_documents_have_a_title CHECK (removed OR title IS NOT NULL)
)
"""

DOCUMENT_INDEXES = (
    "CREATE INDEX documents_all_words ON documents USING gin (all_words)",
    "CREATE INDEX documents_title_words ON documents USING gin (title_words)",
    "CREATE INDEX documents_title_key ON documents (title_key)",
    "CREATE INDEX documents_original_title_key ON documents (original_title_key)",
)

# What a film counts under: few thousand combinations, so that counting facets groups by a number.
# Unknown is 0 and the empty string, which a UNIQUE constraint can compare.
FACET_GROUPS = """
CREATE TABLE facet_groups (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    genres text[] NOT NULL,
    decade integer NOT NULL,
    language text NOT NULL,
    UNIQUE (genres, decade, language)
)
"""

# What films are filtered, counted and ranked by: short rows, because a broad search reads all of
# them, and apart from the documents because trends change far more often and may be known before
# the film is (then it is not `shown`).
LISTING = """
CREATE TABLE listing (
    movie_id text PRIMARY KEY,
    shown boolean NOT NULL DEFAULT false,
    facet_group bigint REFERENCES facet_groups,
    genre_keys text[] NOT NULL DEFAULT '{}',
    year integer,
    language text,
    vote_average double precision,
    vote_count bigint NOT NULL DEFAULT 0,
    popularity double precision NOT NULL DEFAULT 0,
    trend_revision bigint NOT NULL DEFAULT 0,
    score double precision,
    rank_key double precision,
    views bigint NOT NULL DEFAULT 0 CHECK (views >= 0),
    CONSTRAINT shown_films_are_counted CHECK (NOT shown OR facet_group IS NOT NULL)
) WITH (fillfactor = 80)
"""

# Every word of a title, name or keyword that was ever seen: what a mistyped word is compared with.
# A word that no document has any more finds nothing, so none is ever taken out.
VOCABULARY = 'CREATE TABLE vocabulary (word text COLLATE "C" PRIMARY KEY)'
VOCABULARY_INDEXES = (
    "CREATE INDEX vocabulary_initial_length ON vocabulary (left(word, 1), length(word))",
    "CREATE INDEX vocabulary_trigrams ON vocabulary USING gin (word gin_trgm_ops)",
)

# One row a film whose copy in the external index is behind. A change gets a new version; the row
# goes when that very version has been indexed, so a change made meanwhile is never lost.
INDEX_CHANGES = (
    "CREATE SEQUENCE index_change_versions",
    """
    CREATE TABLE index_changes (
        movie_id text PRIMARY KEY,
        version bigint NOT NULL,
        whole_document boolean NOT NULL,
        not_before timestamptz NOT NULL DEFAULT '-infinity',
        error text
    ) WITH (fillfactor = 70)
    """,
    "CREATE INDEX index_changes_version ON index_changes (version)",
)

# `identity` tells one index from another that was created in its place; the lease lets one process
# at a time write, so that an older copy of a document cannot overtake a newer one.
INDEX_STATE = """
CREATE TABLE index_state (
    engine text PRIMARY KEY,
    identity text NOT NULL DEFAULT '',
    lease_holder text,
    lease_until timestamptz
)
"""


def upgrade() -> None:
    """Creates everything."""
    create_messaging_tables(op)
    for statement in (
        *EXTENSIONS,
        DOCUMENTS,
        *DOCUMENT_INDEXES,
        FACET_GROUPS,
        LISTING,
        VOCABULARY,
        *VOCABULARY_INDEXES,
        *INDEX_CHANGES,
        INDEX_STATE,
    ):
        op.execute(statement)
