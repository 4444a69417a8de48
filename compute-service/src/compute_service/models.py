"""The tables of the schema `compute`, as SQLAlchemy Core sees them.

The migrations say the same in SQL together with the CHECK constraints and why they are there; a
test holds the two against each other.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Computed,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, REAL

metadata = MetaData()

# Keys are ASCII: the collation "C" compares bytes, which is fast and sorts as Python does.
_MovieId = Text(collation="C")

movies = Table(
    "movies",
    metadata,
    Column("movie_id", _MovieId, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("removed", Boolean, nullable=False),
    Column("tmdb_id", Integer),
    Column("imdb_id", Text),
    Column("title", Text),
    Column("original_title", Text),
    Column("original_language", Text),
    Column("release_date", Date),
    Column(
        "release_year",
        SmallInteger,
        Computed("(EXTRACT(year FROM release_date))::smallint", persisted=True),
    ),
    Column("genres", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("genre_keys", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("vote_average", Double),
    Column("vote_count", BigInteger),
    Column("popularity", Double),
    Column("poster_path", Text),
    Column("fetched_at", DateTime(timezone=True)),
    Column("aliases_revision", BigInteger, nullable=False, server_default=text("0")),
    Index("movies_genre_keys", "genre_keys", postgresql_using="gin"),
)
Index(
    "movies_vote_count",
    movies.c.vote_count,
    postgresql_where=movies.c.vote_count > 0,
)
Index(
    "movies_release_year",
    movies.c.release_year,
    func.lower(movies.c.original_language),
    postgresql_include=["movie_id"],
)
Index("movies_language", func.lower(movies.c.original_language))

aliases = Table(
    "aliases",
    metadata,
    Column("alias", _MovieId, primary_key=True),
    Column("movie_id", _MovieId, primary_key=True),
    Index("aliases_movie_id", "movie_id"),
)

trends = Table(
    "trends",
    metadata,
    Column("movie_id", _MovieId, primary_key=True),
    Column("views", BigInteger, nullable=False, server_default=text("0")),
    Column("ratings_count", BigInteger, nullable=False, server_default=text("0")),
    Column("ratings_sum", Double, nullable=False, server_default=text("0")),
    Column("ratings_revision", BigInteger, nullable=False, server_default=text("0")),
    Column("log_activity_day", Double),
    Column("log_activity_week", Double),
    Column("log_prior_day", Double),
    Column("log_prior_week", Double),
    Column("log_quality", Double),
    Column("rank_key_day", Double),
    Column("rank_key_week", Double),
    Column("dirty", Boolean, nullable=False, server_default=text("false")),
    Column("film", _MovieId),
    Column("alias_views", BigInteger, nullable=False, server_default=text("0")),
    Column("alias_ratings_count", BigInteger, nullable=False, server_default=text("0")),
    Column("alias_ratings_sum", Double, nullable=False, server_default=text("0")),
    Column("alias_log_activity_day", Double),
    Column("alias_log_activity_week", Double),
    Column("facet_year", SmallInteger),
    Column("facet_language", Text),
    Column("facet_votes", BigInteger, nullable=False, server_default=text("0")),
    Column("facet_genres", BigInteger, nullable=False, server_default=text("0")),
)
_FACETS = ["facet_year", "facet_language", "facet_votes", "facet_genres"]
Index(
    "trends_rank_day",
    trends.c.rank_key_day.desc(),
    trends.c.movie_id,
    postgresql_include=_FACETS,
    postgresql_where=trends.c.rank_key_day.is_not(None),
)
Index(
    "trends_rank_week",
    trends.c.rank_key_week.desc(),
    trends.c.movie_id,
    postgresql_include=_FACETS,
    postgresql_where=trends.c.rank_key_week.is_not(None),
)
Index("trends_dirty", trends.c.movie_id, postgresql_where=trends.c.dirty)
Index("trends_film", trends.c.film, postgresql_where=trends.c.film.is_not(None))

activity = Table(
    "activity",
    metadata,
    Column("movie_id", _MovieId, nullable=False),
    Column("kind", String, nullable=False),
    Column("occurred_at", DateTime(timezone=True), nullable=False),
    Column("user_id", Text),
    Column("session_id", Text),
)
Index(
    "activity_of_user",
    activity.c.user_id,
    activity.c.occurred_at,
    postgresql_where=activity.c.user_id.is_not(None),
)
Index(
    "activity_occurred_at",
    activity.c.occurred_at,
    postgresql_using="brin",
    postgresql_with={"pages_per_range": 32, "autosummarize": "on"},
)

applied_formula = Table(
    "applied_formula",
    metadata,
    Column("one_row", Boolean, primary_key=True, server_default=text("true")),
    Column("fingerprint", Text, nullable=False),
)

schedules = Table(
    "schedules",
    metadata,
    Column("name", Text, primary_key=True),
    Column("cron", Text),
    Column("done_until", DateTime(timezone=True), nullable=False),
    Column("last_due", DateTime(timezone=True)),
    Column("published_at", DateTime(timezone=True)),
    Column("event_id", Text),
    Column("job_id", Text),
)

artifact_runs = Table(
    "artifact_runs",
    metadata,
    Column("artifact", Text, primary_key=True),
    Column("as_of", Date, primary_key=True),
    Column("computed_at", DateTime(timezone=True), nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("job_id", Text, nullable=False),
)

movie_trending_daily = Table(
    "movie_trending_daily",
    metadata,
    Column("chart_window", Text, primary_key=True),
    Column("date", Date, primary_key=True),
    Column("movie_id", _MovieId, primary_key=True),
    Column("rank", Integer, nullable=False),
    Column("score", Double, nullable=False),
    Column("movement", Integer),
    Column("days_on_chart", Integer, nullable=False),
    Column("peak_rank", Integer, nullable=False),
    UniqueConstraint("chart_window", "date", "rank", name="movie_trending_daily_one_film_per_rank"),
    Index("movie_trending_daily_of_movie", "movie_id", "date"),
)

genre_stats_daily = Table(
    "genre_stats_daily",
    metadata,
    Column("date", Date, primary_key=True),
    Column("genre", Text, primary_key=True),
    Column("volume", BigInteger, nullable=False),
    Column("views", BigInteger, nullable=False),
    Column("avg_rating", Double),
    Column("rated_films", BigInteger, nullable=False),
    Column("local_ratings", BigInteger, nullable=False),
    Column("local_avg", Double),
)

ratings_by_decade = Table(
    "ratings_by_decade",
    metadata,
    Column("date", Date, primary_key=True),
    Column("decade", Integer, primary_key=True),
    Column("movie_count", BigInteger, nullable=False),
    Column("rated_films", BigInteger, nullable=False),
    Column("avg_rating", Double),
    Column("local_ratings", BigInteger, nullable=False),
    Column("local_avg", Double),
)

user_ratings = Table(
    "user_ratings",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("movie_id", _MovieId, primary_key=True),
    Column("half_steps", SmallInteger),
    Column("rated_at", DateTime(timezone=True), nullable=False),
)

movie_content = Table(
    "movie_content",
    metadata,
    Column("movie_id", _MovieId, primary_key=True),
    Column("keywords", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("people", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("overview", Text, nullable=False, server_default=text("''")),
    Index("movie_content_keywords_people", "keywords", "people", postgresql_using="gin"),
)

recommendation_models = Table(
    "recommendation_models",
    metadata,
    Column("model_id", BigInteger, Identity(always=True), primary_key=True),
    Column("as_of", Date, nullable=False),
    Column("computed_at", DateTime(timezone=True), nullable=False),
    Column("serving", Boolean, nullable=False, server_default=text("false")),
    Column("films", Integer, nullable=False),
    Column("users", Integer, nullable=False),
    Column("interactions", BigInteger, nullable=False),
    Column("half_life_short", Double, nullable=False),
    Column("half_life_long", Double, nullable=False),
    Column("scale", Double, nullable=False),
    Column("popularity", LargeBinary, nullable=False),
)
Index(
    "recommendation_models_one_serves",
    recommendation_models.c.serving,
    unique=True,
    postgresql_where=recommendation_models.c.serving,
)

recommendation_films = Table(
    "recommendation_films",
    metadata,
    Column(
        "model_id",
        BigInteger,
        ForeignKey(recommendation_models.c.model_id, ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("movie_id", _MovieId, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("linear", Boolean, nullable=False),
    Column("targets", LargeBinary, nullable=False),
    Column("short", LargeBinary, nullable=False),
    Column("long", LargeBinary, nullable=False),
    Column("near", LargeBinary, nullable=False),
    Column("closeness", LargeBinary, nullable=False),
    Index("recommendation_films_number", "model_id", "number", unique=True),
)

movie_recommendations = Table(
    "movie_recommendations",
    metadata,
    Column(
        "model_id",
        BigInteger,
        ForeignKey(recommendation_models.c.model_id, ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("movie_id", _MovieId, primary_key=True),
    Column("similar_ids", ARRAY(Text), nullable=False),
    Column("scores", ARRAY(REAL), nullable=False),
    Column("audience", ARRAY(REAL), nullable=False),
)
