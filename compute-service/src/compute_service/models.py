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
    Index("movies_release_year", "release_year"),
)
Index(
    "movies_vote_count",
    movies.c.vote_count,
    postgresql_where=movies.c.vote_count > 0,
)

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
)
Index(
    "trends_rank_day",
    trends.c.rank_key_day.desc(),
    trends.c.movie_id,
    postgresql_where=trends.c.rank_key_day.is_not(None),
)
Index(
    "trends_rank_week",
    trends.c.rank_key_week.desc(),
    trends.c.movie_id,
    postgresql_where=trends.c.rank_key_week.is_not(None),
)
Index("trends_dirty", trends.c.movie_id, postgresql_where=trends.c.dirty)

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

applied_formula = Table(
    "applied_formula",
    metadata,
    Column("one_row", Boolean, primary_key=True, server_default=text("true")),
    Column("fingerprint", Text, nullable=False),
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
