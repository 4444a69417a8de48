"""Films with their tombstones, source documents, genres, external ids.

Revision ID: 0001
Revises:
"""

from alembic import op
from service_kit.migrations import create_messaging_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_messaging_tables(op)
    op.execute("""
        CREATE TABLE movies (
            movie_id text COLLATE "C" PRIMARY KEY,
            revision bigint NOT NULL,
            fetched_at timestamptz NOT NULL,
            updated_at timestamptz NOT NULL,
            removed_at timestamptz,
            removed_reason text,
            document jsonb,
            tmdb_id integer GENERATED ALWAYS AS ((document->>'tmdb_id')::integer) STORED,
            imdb_id text GENERATED ALWAYS AS (document->>'imdb_id') STORED,
            title text GENERATED ALWAYS AS (document->>'title') STORED,
            sort_title text COLLATE "und-x-icu"
                GENERATED ALWAYS AS (left(document->>'title', 200)) STORED,
            original_title text GENERATED ALWAYS AS (document->>'original_title') STORED,
            original_language text GENERATED ALWAYS AS (document->>'original_language') STORED,
            release_date date GENERATED ALWAYS AS (
                make_date(left(document->>'release_date', 4)::integer,
                          substr(document->>'release_date', 6, 2)::integer,
                          substr(document->>'release_date', 9, 2)::integer)) STORED,
            release_year smallint
                GENERATED ALWAYS AS (left(document->>'release_date', 4)::smallint) STORED,
            genres jsonb GENERATED ALWAYS AS (document->'genres') STORED,
            vote_average double precision
                GENERATED ALWAYS AS ((document->>'vote_average')::double precision) STORED,
            vote_count integer GENERATED ALWAYS AS ((document->>'vote_count')::integer) STORED,
            popularity double precision
                GENERATED ALWAYS AS ((document->>'popularity')::double precision) STORED,
            poster_path text GENERATED ALWAYS AS (document->>'poster_path') STORED,
            CONSTRAINT movies_revision_counts_from_one CHECK (revision >= 1),
            CONSTRAINT movies_change_comes_with_a_fetch CHECK (updated_at <= fetched_at),
            CONSTRAINT movies_removal_has_a_reason
                CHECK ((removed_at IS NULL) = (removed_reason IS NULL)),
            CONSTRAINT movies_present_has_a_document
                CHECK (removed_at IS NOT NULL OR document IS NOT NULL),
            CONSTRAINT movies_document_is_its_own
                CHECK (document IS NULL OR coalesce(document->>'movie_id' = movie_id, false)),
            CONSTRAINT movies_document_is_complete
                CHECK (document IS NULL
                OR coalesce(title <> '' AND vote_count >= 0 AND popularity >= 0, false)),
            CONSTRAINT movies_vote_average_in_range CHECK (vote_average BETWEEN 0 AND 10)
        )
    """)
    # A long document goes out of the row rather than compressed into it: lists do not read it.
    op.execute("ALTER TABLE movies SET (toast_tuple_target = 256)")
    for sort, columns in {
        "popularity": ("popularity",),
        "release_date": ("release_date",),
        "vote_average": ("vote_average", "vote_count"),
        "title": ("sort_title",),
    }.items():
        for direction in ("ASC", "DESC"):
            terms = ", ".join(f"{column} {direction} NULLS LAST" for column in columns)
            op.execute(
                f"CREATE INDEX movies_by_{sort}_{direction.lower()}"
                f" ON movies ({terms}, movie_id) WHERE removed_at IS NULL"
            )
    for column in ("release_year", "original_language"):
        op.execute(
            f"CREATE INDEX movies_by_{column}"
            f" ON movies ({column}, popularity DESC NULLS LAST, movie_id) WHERE removed_at IS NULL"
        )
    op.execute("""
        CREATE TABLE source_documents (
            source text NOT NULL,
            source_id text NOT NULL,
            body text NOT NULL,
            sha256 text NOT NULL,
            etag text,
            fetched_at timestamptz NOT NULL,
            PRIMARY KEY (source, source_id),
            CONSTRAINT source_documents_sha256_is_hex CHECK (sha256 ~ '^[0-9a-f]{64}$')
        )
    """)
    op.execute("""
        CREATE TABLE genres (
            genre_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            name text NOT NULL,
            CONSTRAINT genres_name_is_not_empty CHECK (name <> '')
        )
    """)
    op.execute("CREATE UNIQUE INDEX genres_name_once ON genres (lower(name))")
    op.execute("""
        CREATE TABLE movie_genres (
            movie_id text COLLATE "C" NOT NULL REFERENCES movies ON DELETE CASCADE,
            genre_id integer NOT NULL REFERENCES genres,
            PRIMARY KEY (movie_id, genre_id)
        )
    """)
    op.execute("CREATE INDEX movie_genres_by_genre ON movie_genres (genre_id, movie_id)")
    op.execute("""
        CREATE TABLE external_ids (
            movie_id text COLLATE "C" NOT NULL REFERENCES movies ON DELETE CASCADE,
            source text NOT NULL,
            external_id text NOT NULL,
            PRIMARY KEY (movie_id, source),
            CONSTRAINT external_ids_source_is_known CHECK (source IN ('tmdb', 'imdb'))
        )
    """)
    op.execute("CREATE INDEX external_ids_id ON external_ids (source, external_id)")
