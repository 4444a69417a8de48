"""Wires the ingest-service."""

import logging
from datetime import timedelta

from service_kit import Database, Service

from ingest_service.api import router
from ingest_service.handlers import Intake
from ingest_service.settings import IngestSettings
from ingest_service.subscriptions import subscriptions
from ingest_service.tmdb_client import TmdbClient

NAME = "ingest-service"
SCHEMA = "catalog"

_log = logging.getLogger(__name__)


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
        read_timeout=settings.tmdb_read_timeout,
        total_timeout=settings.tmdb_total_timeout,
        max_attempts=settings.tmdb_max_attempts,
        retry_delay=settings.tmdb_retry_delay,
        max_body_bytes=settings.tmdb_max_body_bytes,
    )


def bootstrap(settings: IngestSettings) -> Service:
    """The service as it runs."""
    database = Database(
        settings.database_url,
        schema=SCHEMA,
        application_name=NAME,
        pool_size=settings.database_pool_size,
    )
    client = tmdb_client(settings)
    intake = Intake(client, database, fresh_for=timedelta(seconds=settings.register_fresh_seconds))
    return Service(
        name=NAME,
        settings=settings,
        database=database,
        subscriptions=subscriptions(intake),
        router=router(database),
        health_checks={"tmdb": client.check},
        on_close=[client.aclose],
    )
