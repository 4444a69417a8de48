"""The one place where the service is wired together; tests call it with their own settings."""

from collections.abc import Awaitable, Callable

from service_kit import Database, Periodic, Service

from search_indexer import meilisearch_engine, repository
from search_indexer.api import create_router
from search_indexer.engine import SearchEngine
from search_indexer.index_sync import IndexSync
from search_indexer.meilisearch_engine import MeilisearchEngine
from search_indexer.postgres_engine import PostgresEngine
from search_indexer.settings import SearchSettings
from search_indexer.subscriptions import SUBSCRIPTIONS

NAME = "search-indexer"
SCHEMA = "search"


def bootstrap(settings: SearchSettings) -> Service:
    """The service with the engine that the settings name."""
    database = Database(settings.database_url, schema=SCHEMA, application_name=NAME)
    engine: SearchEngine

    async def sum_up() -> None:
        async with database.transaction() as connection:
            await repository.sum_up_facet_counts(connection)

    periodics = [Periodic(name="facet-counts", every=30.0, run=sum_up)]
    health_checks: dict[str, Callable[[], Awaitable[None]]] = {}
    if settings.search_backend == "meilisearch":
        engine = MeilisearchEngine(
            url=settings.meilisearch_url,
            key=settings.meilisearch_key.get_secret_value() or None,
            index=settings.meilisearch_index,
        )
        sync = IndexSync(database, engine, engine=meilisearch_engine.NAME)
        periodics.append(Periodic(name="index-sync", every=0.5, run=sync.run))
        health_checks["meilisearch"] = engine.health
    else:
        engine = PostgresEngine(database)
    return Service(
        name=NAME,
        settings=settings,
        database=database,
        subscriptions=SUBSCRIPTIONS,
        periodics=periodics,
        router=create_router(engine),
        on_close=[engine.close],
        health_checks=health_checks,
    )
