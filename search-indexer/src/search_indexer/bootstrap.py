"""The one place where the service is wired together; tests call it with their own settings."""

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from fastapi import APIRouter
from service_kit import Database, JobRunner, Outage, Periodic, Service, jobs_router

from search_indexer import meilisearch_search, repository, signals_repository
from search_indexer.api import create_router
from search_indexer.engine import SearchEngine
from search_indexer.fallback import FallbackEngine
from search_indexer.index_sync import IndexSync, IndexWriter
from search_indexer.jobs import KIND, SearchJobs
from search_indexer.meilisearch_engine import MeilisearchEngine
from search_indexer.meilisearch_index import MeilisearchIndex
from search_indexer.postgres_engine import PostgresEngine
from search_indexer.settings import SearchSettings
from search_indexer.subscriptions import SUBSCRIPTIONS
from search_indexer.upkeep_api import DriftCheck, upkeep_router

NAME = "search-indexer"
SCHEMA = "search"

_log = logging.getLogger(__name__)


def bootstrap(settings: SearchSettings) -> Service:
    """The service with the engine that the settings name."""
    database = Database(settings.database_url, schema=SCHEMA, application_name=NAME)
    engine: SearchEngine = PostgresEngine(database)
    writer: IndexWriter | None = None
    periodics: list[Periodic] = []
    health_checks: dict[str, Callable[[], Awaitable[None]]] = {}
    on_close: list[Callable[[], Awaitable[None]]] = []
    on_migrate: list[Callable[[], Awaitable[None]]] = []
    if settings.search_backend == "meilisearch":
        index = _index(settings)
        writer = IndexWriter(database, index, engine=meilisearch_search.NAME)
        engine = _with_fallback(settings, database, engine)
        sync = IndexSync(database, writer)
        # Together with what the engine takes to index, the time until a change is found.
        periodics.append(Periodic(name="index-sync", every=0.1, run=sync.run))
        health_checks["meilisearch"] = engine.health
        on_close.append(index.close)
        on_migrate.append(lambda: _make_keys(index))
    jobs = SearchJobs(database, writer, source=NAME)
    runner = JobRunner(database, source=NAME, runs={KIND: jobs.run})
    periodics += [
        Periodic(name="jobs", every=0.2, run=runner.run_pending),
        Periodic(name="rules", every=1.0, run=jobs.follow_rules),
        Periodic(name="left-overs", every=60.0, run=jobs.tidy),
        Periodic(name="facet counts", every=30.0, run=lambda: _sum_up(database)),
        Periodic(name="old searches", every=600.0, run=lambda: _forget(settings, database)),
    ]
    check = DriftCheck(
        database,
        writer.index if writer else None,
        engine=writer.engine if writer else None,
    )
    router = APIRouter()
    for part in (
        create_router(engine),
        upkeep_router(database, check),
        jobs_router(database, kinds=(KIND,)),
    ):
        router.include_router(part)
    return Service(
        name=NAME,
        settings=settings,
        database=database,
        subscriptions=SUBSCRIPTIONS,
        periodics=periodics,
        router=router,
        on_close=[check.close, engine.close, *on_close],
        on_migrate=on_migrate,
        health_checks=health_checks,
    )


def _index(settings: SearchSettings) -> MeilisearchIndex:
    return MeilisearchIndex(
        url=settings.meilisearch_url,
        key=settings.index_key,
        index=settings.meilisearch_index,
        master_key=settings.master_key,
    )


def _with_fallback(
    settings: SearchSettings, database: Database, makeshift: SearchEngine
) -> FallbackEngine:
    async def is_filled() -> bool:
        async with database.reading() as connection:
            return await repository.is_filled(connection, meilisearch_search.NAME)

    engine = MeilisearchEngine(
        url=settings.meilisearch_url, key=settings.search_key, index=settings.meilisearch_index
    )
    return FallbackEngine(engine, makeshift, is_filled=is_filled)


async def _make_keys(index: MeilisearchIndex) -> None:
    try:
        await index.ensure_keys()
    except Outage as outage:
        # They are made once the server is there; nothing else waits for it either.
        _log.warning("the keys of Meilisearch are made later", extra={"reason": str(outage)})


async def _sum_up(database: Database) -> None:
    async with database.transaction() as connection:
        await repository.sum_up_facet_counts(connection)


async def _forget(settings: SearchSettings, database: Database) -> None:
    before = datetime.now(UTC).date() - timedelta(days=settings.search_signals_kept_days)
    async with database.transaction() as connection:
        await signals_repository.forget(connection, before=before)
