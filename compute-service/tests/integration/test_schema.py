"""The tables: as the models say, and closed to states that cannot be."""

from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from compute_service.models import metadata
from service_kit import Database
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError


def differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "compare_server_default": True}
    )
    kit = {"inbox", "outbox", "erased_users", "alembic_version"}
    found = compare_metadata(context, metadata)
    return [item for item in found if getattr(item[1], "name", None) not in kit]


async def test_models_and_migrations_agree(database: Database) -> None:
    async with database.transaction() as connection:
        assert await connection.run_sync(differences) == []


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO trends (movie_id, views) VALUES ('tmdb-1', -1)",
        "INSERT INTO trends (movie_id, log_activity_day) VALUES ('tmdb-1', 'NaN')",
        "INSERT INTO trends (movie_id, log_activity_week) VALUES ('tmdb-1', '-Infinity')",
        "INSERT INTO trends (movie_id, rank_key_day, rank_key_week) VALUES ('tmdb-1', 1, 1)",
        "INSERT INTO trends (movie_id, log_quality, rank_key_day) VALUES ('tmdb-1', 2, 1)",
        "INSERT INTO trends (movie_id, dirty) VALUES ('tmdb-1', true)",
        "INSERT INTO trends (movie_id, ratings_count, ratings_sum) VALUES ('tmdb-1', 2, 20.5)",
        "INSERT INTO trends (movie_id, log_prior_day) VALUES ('tmdb-1', 3)",
        "INSERT INTO movies (movie_id, revision, removed) VALUES ('tmdb-1', 1, false)",
        "INSERT INTO movies (movie_id, revision, removed, title) VALUES ('tmdb-1', 1, true, 'T')",
        "INSERT INTO activity (movie_id, kind, occurred_at) VALUES ('tmdb-1', 'like', now())",
        "INSERT INTO activity (movie_id, kind, occurred_at) VALUES ('tmdb-1', 'view', '-infinity')",
        "INSERT INTO trends (movie_id, film) VALUES ('tmdb-1', 'tmdb-1')",
        "INSERT INTO trends (movie_id, film, alias_views) VALUES ('tmdb-1', 'tmdb-2', 1)",
        "INSERT INTO trends (movie_id, film, log_quality) VALUES ('tmdb-1', 'tmdb-2', 1)",
        "INSERT INTO trends (movie_id, alias_ratings_count) VALUES ('tmdb-1', 1)",
        "INSERT INTO trends (movie_id, alias_log_activity_day) VALUES ('tmdb-1', 'Infinity')",
        "INSERT INTO aliases (alias, movie_id) VALUES ('tmdb-1', 'tmdb-1')",
        "INSERT INTO movies (movie_id, revision, removed, aliases_revision) "
        "VALUES ('tmdb-1', 1, true, 2)",
        "INSERT INTO applied_formula (one_row, fingerprint) VALUES (false, 'x')",
        "INSERT INTO schedules (name, done_until) VALUES ('Trending', now())",
        "INSERT INTO schedules (name, cron, done_until) VALUES ('trending', '', now())",
        "INSERT INTO schedules (name, done_until) VALUES ('trending', 'infinity')",
        "INSERT INTO schedules (name, done_until, last_due) VALUES ('trending', now(), now())",
    ],
)
async def test_impossible_states_cannot_be_stored(database: Database, statement: str) -> None:
    with pytest.raises(IntegrityError, match="violates check constraint"):
        async with database.transaction() as connection:
            await connection.execute(text(statement))
