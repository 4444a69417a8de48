"""What is computed ahead for a day: charts, figures of genres and decades; and the jobs for it."""

from alembic import op
from service_kit.migrations import create_job_table

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TABLES = (
    # Which artifact of which day is there, and since when.
    """
    CREATE TABLE artifact_runs (
        artifact    text,
        as_of       date,
        computed_at timestamptz NOT NULL,
        rows        bigint NOT NULL CHECK (rows >= 0),
        seconds     double precision NOT NULL CHECK (seconds >= 0),
        job_id      text NOT NULL,
        PRIMARY KEY (artifact, as_of)
    )
    """,
    # movement: places won since the day before (lost: below 0); NULL when not in that day's chart.
    """
    CREATE TABLE movie_trending_daily (
        chart_window  text CHECK (chart_window IN ('day', 'week')),
        date          date,
        movie_id      text COLLATE "C",
        rank          integer NOT NULL CHECK (rank >= 1),
        score         double precision NOT NULL CHECK (score BETWEEN 0 AND 100),
        movement      integer,
        days_on_chart integer NOT NULL CHECK (days_on_chart >= 1),
        peak_rank     integer NOT NULL,
        PRIMARY KEY (chart_window, date, movie_id),
        CONSTRAINT movie_trending_daily_one_film_per_rank UNIQUE (chart_window, date, rank),
        CONSTRAINT movie_trending_daily_peak_is_the_best CHECK (peak_rank BETWEEN 1 AND rank)
    )
    """,
    "CREATE INDEX movie_trending_daily_of_movie ON movie_trending_daily (movie_id, date)",
    # A mean is there exactly where something was counted for it.
    """
    CREATE TABLE genre_stats_daily (
        date          date,
        genre         text,
        volume        bigint NOT NULL CHECK (volume >= 1),
        views         bigint NOT NULL CHECK (views >= 0),
        avg_rating    double precision CHECK (avg_rating BETWEEN 0 AND 10),
        rated_films   bigint NOT NULL CHECK (rated_films BETWEEN 0 AND volume),
        local_ratings bigint NOT NULL CHECK (local_ratings >= 0),
        local_avg     double precision CHECK (local_avg BETWEEN 0.5 AND 10),
        PRIMARY KEY (date, genre),
        CONSTRAINT genre_stats_daily_means CHECK (
            (avg_rating IS NULL) = (rated_films = 0)
            AND (local_avg IS NULL) = (local_ratings = 0))
    )
    """,
    """
    CREATE TABLE ratings_by_decade (
        date          date,
        decade        integer CHECK (decade % 10 = 0),
        movie_count   bigint NOT NULL CHECK (movie_count >= 1),
        rated_films   bigint NOT NULL CHECK (rated_films BETWEEN 0 AND movie_count),
        avg_rating    double precision CHECK (avg_rating BETWEEN 0 AND 10),
        local_ratings bigint NOT NULL CHECK (local_ratings >= 0),
        local_avg     double precision CHECK (local_avg BETWEEN 0.5 AND 10),
        PRIMARY KEY (date, decade),
        CONSTRAINT ratings_by_decade_means CHECK (
            (avg_rating IS NULL) = (rated_films = 0)
            AND (local_avg IS NULL) = (local_ratings = 0))
    )
    """,
)

_INDEXES = (
    # Of one day's views: events come nearly in the order of their time, so an index of a few pages
    # finds them, and costs the views nothing.
    "CREATE INDEX activity_occurred_at ON activity USING brin (occurred_at)"
    " WITH (pages_per_range = 32, autosummarize = on)",
    # The other keys of a film.
    "CREATE INDEX trends_film ON trends (film) WHERE film IS NOT NULL",
    "CREATE INDEX movies_language ON movies (lower(original_language))",
)


def upgrade() -> None:
    """Create the tables and indexes above."""
    create_job_table(op)
    for statement in (*_TABLES, *_INDEXES):
        op.execute(statement)
