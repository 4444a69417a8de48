"""Films as the merge of several sources' records; keys; what bulk runs and imports need.

What was known of each film becomes its record from TMDB. Its genres and external ids are columns
now, and its IMDb id is a key that stands for it.

Revision ID: 0002
Revises: 0001
"""

from alembic import op
from service_kit.migrations import create_job_table

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SORTS = {
    "popularity": "popularity DESC NULLS LAST, film_no",
    "release_date": "release_date DESC NULLS LAST",
    "vote_average": "vote_average DESC NULLS LAST, vote_count DESC NULLS LAST",
}


def upgrade() -> None:
    create_job_table(op)
    op.execute("ALTER TABLE movies RENAME TO movies_of_tmdb")
    op.execute("ALTER TABLE movies_of_tmdb RENAME CONSTRAINT movies_pkey TO movies_of_tmdb_pkey")
    op.execute("""
        CREATE TABLE movies (
            movie_id text COLLATE "C" PRIMARY KEY,
            film_no bigint GENERATED ALWAYS AS IDENTITY,
            revision bigint NOT NULL,
            updated_at timestamptz NOT NULL,
            fetched_at timestamptz,
            removed_at timestamptz,
            removed_reason text,
            records text NOT NULL,
            aliases text[] COLLATE "C" NOT NULL,
            title text,
            sort_title text COLLATE "C",
            imdb_id text,
            original_title text,
            original_language text,
            release_date date,
            genres text[] NOT NULL,
            genre_keys text[] NOT NULL,
            vote_average double precision,
            vote_count bigint NOT NULL,
            popularity double precision NOT NULL,
            poster_path text,
            CONSTRAINT movies_revision_counts_from_one CHECK (revision >= 1),
            CONSTRAINT movies_removal_has_a_reason
                CHECK ((removed_at IS NULL) = (removed_reason IS NULL)),
            CONSTRAINT movies_title_can_be_sorted
                CHECK ((title IS NULL) = (sort_title IS NULL) AND title <> ''),
            CONSTRAINT movies_vote_average_in_range CHECK (vote_average BETWEEN 0 AND 10),
            CONSTRAINT movies_counts_are_not_negative CHECK (vote_count >= 0 AND popularity >= 0)
        )
    """)
    op.execute("""
        INSERT INTO movies (movie_id, revision, updated_at, fetched_at, removed_at, removed_reason,
            records, aliases, title, sort_title, imdb_id, original_title, original_language,
            release_date, genres, genre_keys, vote_average, vote_count, popularity,
            poster_path)
        SELECT movie_id, revision, updated_at, fetched_at, removed_at, removed_reason,
            CASE WHEN document IS NULL THEN '{}' ELSE json_build_object(
                'tmdb/' || movie_id,
                json_build_object(
                    'at', to_char(least(fetched_at, removed_at) AT TIME ZONE 'UTC',
                                  'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'),
                    'fields', (
                        SELECT json_object_agg(name, CASE
                            WHEN name NOT IN ('cast', 'crew') THEN value
                            ELSE (
                                SELECT jsonb_agg(
                                    (SELECT jsonb_object_agg(field, known)
                                     FROM jsonb_each(person) AS p (field, known)
                                     WHERE known NOT IN ('null', '""', '0'))
                                    ORDER BY position)
                                FROM jsonb_array_elements(value) WITH ORDINALITY
                                     AS c (person, position)
                            ) END)
                        FROM jsonb_each(document) AS f (name, value)
                        WHERE name NOT IN ('movie_id', 'tmdb_id', 'aliases')
                          AND value NOT IN ('null', '[]', '""', 'false')
                          AND NOT (name IN ('popularity', 'vote_count') AND value = '0')
                          AND NOT (name = 'vote_average' AND vote_count = 0)
                    ))) END,
            CASE WHEN imdb_id IS NULL THEN '{}' ELSE ARRAY['imdb-' || imdb_id] END,
            title,
            left(coalesce(nullif(ltrim(folded, $chars$"'([{.¡¿«…- $chars$), ''), folded), 100),
            imdb_id, original_title, original_language,
            release_date,
            coalesce((SELECT array_agg(name ORDER BY position)
                      FROM jsonb_array_elements_text(genres) WITH ORDINALITY AS g (name, position)),
                     '{}'),
            coalesce((SELECT array_agg(lower(name) ORDER BY position)
                      FROM jsonb_array_elements_text(genres) WITH ORDINALITY AS g (name, position)),
                     '{}'),
            CASE WHEN vote_count > 0 THEN vote_average END, coalesce(vote_count, 0),
            coalesce(popularity, 0), poster_path
        FROM movies_of_tmdb CROSS JOIN LATERAL (
            SELECT lower(regexp_replace(normalize(title, NFKD), '[\u0300-\u036f]', '', 'g'))
        ) AS t (folded)
        ORDER BY popularity DESC NULLS LAST, movie_id
    """)
    op.execute("DROP TABLE movie_genres, genres, external_ids, movies_of_tmdb")
    present = "WHERE removed_at IS NULL AND title IS NOT NULL"
    for sort, terms in _SORTS.items():
        op.execute(f"CREATE INDEX movies_by_{sort} ON movies ({terms}) {present}")
    op.execute(f"CREATE INDEX movies_by_original_language ON movies (original_language) {present}")
    op.execute(f"CREATE INDEX movies_by_genre ON movies USING gin (genre_keys) {present}")
    op.execute("""
        CREATE TABLE film_keys (
            key text COLLATE "C" PRIMARY KEY,
            movie_id text COLLATE "C" NOT NULL,
            CONSTRAINT film_keys_are_claimable
                CHECK (key !~ '^(tmdb|title)-' OR key <> movie_id)
        )
    """)
    op.execute("CREATE INDEX film_keys_of_film ON film_keys (movie_id)")
    # Two of TMDB's films may name one IMDb id; the one that was found by it keeps it.
    op.execute("""
        INSERT INTO film_keys (key, movie_id)
        SELECT DISTINCT ON (imdb_id) 'imdb-' || imdb_id, movie_id
        FROM movies WHERE imdb_id IS NOT NULL
        ORDER BY imdb_id, removed_at IS NOT NULL, vote_count DESC, movie_id
    """)
    op.execute("""
        UPDATE movies SET aliases = '{}'
        WHERE imdb_id IS NOT NULL AND NOT EXISTS (
            SELECT FROM film_keys WHERE film_keys.movie_id = movies.movie_id)
    """)
    op.execute("""
        CREATE TABLE announcements (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            movie_ids text[] COLLATE "C" NOT NULL,
            created_at timestamptz NOT NULL
        )
    """)
    # Gone within minutes, so that compressing them would be for nothing.
    op.execute("ALTER TABLE announcements ALTER COLUMN movie_ids SET STORAGE EXTERNAL")
    op.execute("""
        CREATE TABLE ingest_queue (
            job_id text NOT NULL,
            tmdb_id integer NOT NULL,
            position integer NOT NULL,
            attempts smallint NOT NULL DEFAULT 0,
            PRIMARY KEY (job_id, tmdb_id)
        )
    """)
    op.execute("CREATE INDEX ingest_queue_next ON ingest_queue (job_id, position)")
    op.execute("""
        CREATE TABLE import_rejects (
            job_id text NOT NULL,
            line bigint NOT NULL,
            column_name text,
            reason text NOT NULL,
            cells text[] NOT NULL,
            whole boolean NOT NULL,
            PRIMARY KEY (job_id, line)
        )
    """)
    op.execute("""
        CREATE TABLE import_unchanged (
            job_id text NOT NULL,
            slot bigint NOT NULL,
            PRIMARY KEY (job_id, slot)
        )
    """)
