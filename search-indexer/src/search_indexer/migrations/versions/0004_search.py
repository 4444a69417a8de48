"""One index over everything that a film is found by; browsing without counting every film."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# PostgreSQL moves a value out of a row only from rows longer than 2 kB. Tokens are shorter, and a
# search reads nothing of them but their index: within the rows they would make the pages that it
# has to visit six times as many. The padding, which is compressed to a few bytes before that, makes
# every row long enough to be looked at.
LISTING = (
    """
    ALTER TABLE listing
        ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY,
        ADD COLUMN release_date date,
        ADD COLUMN tokens tsvector NOT NULL DEFAULT '',
        ADD COLUMN padding text NOT NULL DEFAULT repeat(' ', 2100)
    """,
    "ALTER TABLE listing SET (toast_tuple_target = 256)",
    "ALTER TABLE listing ALTER COLUMN tokens SET STORAGE EXTERNAL",
)

# Genres are compared by their folded names, and belong to the group.
GROUP_KEYS = (
    "ALTER TABLE facet_groups ADD COLUMN genre_keys text[] NOT NULL DEFAULT '{}'",
    """
    UPDATE facet_groups g SET genre_keys = l.genre_keys
    FROM (SELECT DISTINCT facet_group, genre_keys FROM listing WHERE shown) AS l
    WHERE l.facet_group = g.id
    """,
)

# As the service makes them from a film, see `tokens`; except that the stems are those of people,
# too, until the film changes.
FILL = """
UPDATE listing l SET
    release_date = d.release_date,
    tokens = array_to_tsvector(ARRAY(
        SELECT 't/' || w FROM unnest(tsvector_to_array(d.title_words)) AS w
        UNION SELECT 'p/' || w FROM unnest(tsvector_to_array(d.name_words)) AS w
        UNION SELECT 'g/' || w FROM unnest(tsvector_to_array(d.name_words)) AS w
        UNION SELECT 'k/' || k FROM unnest(ARRAY[d.title_key, d.original_title_key]) AS k
            WHERE k <> ''
        UNION SELECT w FROM unnest(tsvector_to_array(d.all_words)) AS w
    ))
FROM documents d
WHERE d.movie_id = l.movie_id AND NOT d.removed
"""

DOCUMENTS = """
ALTER TABLE documents
    DROP COLUMN title_words, DROP COLUMN name_words, DROP COLUMN all_words,
    DROP COLUMN original_title_key
"""

INDEXES = (
    "CREATE INDEX listing_tokens ON listing USING gin (tokens) WHERE shown",
    "CREATE INDEX listing_facet_group ON listing (facet_group) WHERE shown",
    "CREATE INDEX listing_year ON listing (year) WHERE shown",
    "CREATE INDEX listing_newest ON listing (release_date DESC NULLS LAST) WHERE shown",
    "CREATE INDEX listing_oldest ON listing (release_date) WHERE shown",
)

# Films in the order of the chart, for browsing. Not an index of `listing`: ranks change all the
# time, and the row of a film whose indexed columns change gets new entries in every index.
RANKING = (
    """
    CREATE TABLE ranking (
        movie_id text PRIMARY KEY,
        shown boolean NOT NULL,
        rank_key double precision,
        popularity double precision NOT NULL
    ) WITH (fillfactor = 80)
    """,
    """
    INSERT INTO ranking (movie_id, shown, rank_key, popularity)
    SELECT movie_id, shown, rank_key, popularity FROM listing ORDER BY movie_id
    """,
    """
    CREATE INDEX ranking_order ON ranking (rank_key DESC NULLS LAST, popularity DESC, movie_id)
    WHERE shown
    """,
)

# How many films a group has is the sum of its rows: each change adds one, so that writers never
# wait for each other, and now and then they are summed up.
FACET_COUNTS = (
    "CREATE TABLE facet_counts (facet_group bigint NOT NULL, films bigint NOT NULL)",
    "INSERT INTO facet_counts SELECT facet_group, count(*) FROM listing WHERE shown GROUP BY 1",
    """
    CREATE FUNCTION count_listed() RETURNS trigger LANGUAGE plpgsql
    SET search_path FROM CURRENT AS $$
    BEGIN
        INSERT INTO facet_counts
        SELECT facet_group, count(*) FROM added WHERE shown GROUP BY facet_group;
        RETURN NULL;
    END $$
    """,
    """
    CREATE FUNCTION count_relisted() RETURNS trigger LANGUAGE plpgsql
    SET search_path FROM CURRENT AS $$
    BEGIN
        INSERT INTO facet_counts
        SELECT * FROM (VALUES
            (CASE WHEN OLD.shown THEN OLD.facet_group END, -1),
            (CASE WHEN NEW.shown THEN NEW.facet_group END, 1)
        ) AS v (facet_group, films)
        WHERE facet_group IS NOT NULL;
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER count_listed AFTER INSERT ON listing
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_listed()
    """,
    """
    CREATE TRIGGER count_relisted AFTER UPDATE ON listing FOR EACH ROW
    WHEN ((OLD.shown, OLD.facet_group) IS DISTINCT FROM (NEW.shown, NEW.facet_group))
    EXECUTE FUNCTION count_relisted()
    """,
)

# Words of plots are known as well; of two corrections, one that names something is likelier.
VOCABULARY = (
    "ALTER TABLE vocabulary ADD COLUMN named boolean NOT NULL DEFAULT true",
    "ALTER TABLE vocabulary ALTER COLUMN named DROP DEFAULT",
    "ALTER TABLE vocabulary DROP CONSTRAINT vocabulary_pkey",
    "ALTER TABLE vocabulary ADD PRIMARY KEY (word, named)",
)


def upgrade() -> None:
    """Moves what is searched from `documents` to `listing`."""
    for statement in (
        *LISTING,
        *GROUP_KEYS,
        FILL,
        DOCUMENTS,
        "ALTER TABLE listing DROP COLUMN genre_keys, DROP COLUMN language",
        *INDEXES,
        *RANKING,
        *FACET_COUNTS,
        *VOCABULARY,
    ):
        op.execute(statement)
