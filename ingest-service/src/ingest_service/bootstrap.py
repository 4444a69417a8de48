"""Wires the ingest-service."""

import logging
import sys
from datetime import timedelta
from typing import Final

from fastapi import APIRouter
from service_kit import Database, Periodic, RabbitBroker, Service
from service_kit.blobs import BlobStore
from service_kit.jobs import JobRunner, jobs_router

from ingest_service import api, jobs_api
from ingest_service.announcing import Announcer
from ingest_service.bulk_run import BulkRun
from ingest_service.handlers import KINDS, Intake
from ingest_service.housekeeping import Housekeeping
from ingest_service.importing import Imports
from ingest_service.rating_commands import RatingCommands
from ingest_service.settings import IngestSettings
from ingest_service.storing import TmdbCatalogue
from ingest_service.subscriptions import subscriptions
from ingest_service.tmdb_client import TmdbClient

NAME = "ingest-service"
SCHEMA = "catalog"

_log = logging.getLogger(__name__)

# Imports read on a thread. Whenever the event loop has something to do it waits so long for that
# thread to pause; the usual 5 ms made reads slow and imports a third slower.
_THREAD_SWITCH_SECONDS: Final = 0.0005


def tmdb_client(settings: IngestSettings) -> TmdbClient:
    """The client that the settings describe."""
    key = settings.tmdb_api_key.get_secret_value().strip() if settings.tmdb_api_key else ""
    if not key:
        _log.warning(
            "TMDB_API_KEY is not set: the catalogue is served, but no film can be registered"
        )
    return TmdbClient(
        str(settings.tmdb_base_url),
        key or None,
        requests_per_second=settings.tmdb_requests_per_second,
        max_concurrency=settings.tmdb_max_concurrency,
        connect_timeout=settings.tmdb_connect_timeout,
        first_read_timeout=settings.tmdb_first_read_timeout,
        read_timeout=settings.tmdb_read_timeout,
        total_timeout=settings.tmdb_total_timeout,
        max_attempts=settings.tmdb_max_attempts,
        retry_delay=settings.tmdb_retry_delay,
        max_body_bytes=settings.tmdb_max_body_bytes,
    )


def bootstrap(settings: IngestSettings) -> Service:
    """The service as it runs."""
    sys.setswitchinterval(_THREAD_SWITCH_SECONDS)
    database = Database(
        settings.database_url,
        schema=SCHEMA,
        application_name=NAME,
        pool_size=settings.database_pool_size,
    )
    broker = RabbitBroker(settings.amqp_url, name=NAME)
    client = tmdb_client(settings)
    blobs = BlobStore.from_settings(settings) if settings.upload_store_url else None
    intake = Intake(client, database, fresh_for=timedelta(seconds=settings.register_fresh_seconds))
    bulk_run = BulkRun(
        client, TmdbCatalogue(), fresh_for=timedelta(seconds=settings.bulk_fresh_seconds)
    )
    commands = RatingCommands(broker, most_behind=settings.ratings_most_behind)
    imports = Imports(database, blobs, commands, sorted_together=settings.ratings_sorted_together)
    # A bulk run takes minutes, so an import does not wait for it.
    runners = [
        JobRunner(database, source=NAME, runs={kind: run})
        for kind, run in (("import", imports.run), ("ingest", bulk_run.run))
    ]
    announcer = Announcer(
        database,
        broker,
        is_busy=lambda: imports.busy,
        watched=settings.announce_watches,
        most_behind=settings.announce_most_behind,
    )
    housekeeping = Housekeeping(
        database,
        blobs,
        rejects_kept=timedelta(days=settings.rejects_kept_days),
        uploads_kept=timedelta(days=settings.uploads_kept_days),
    )
    router = APIRouter()
    for part in (
        api.router(database),
        jobs_api.router(database),
        jobs_router(database, kinds=KINDS),
    ):
        router.include_router(part)
    return Service(
        name=NAME,
        settings=settings,
        database=database,
        broker=broker,
        subscriptions=subscriptions(intake),
        periodics=[
            Periodic(name="imports", every=0.2, run=runners[0].run_pending),
            Periodic(name="bulk runs", every=0.2, run=runners[1].run_pending),
            Periodic(name="announcements", every=0.2, run=announcer.publish_waiting),
            Periodic(name="housekeeping", every=3600, run=housekeeping.tidy),
        ],
        router=router,
        health_checks={"tmdb": client.check},
        on_close=[client.aclose],
    )
