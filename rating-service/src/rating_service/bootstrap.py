"""Where the service is wired."""

from typing import Final

from service_kit import Database, Service

from rating_service.settings import Settings

NAME: Final = "rating-service"
SCHEMA: Final = "rating"


def bootstrap(settings: Settings) -> Service:
    """Everything that runs, made from the settings."""
    database = Database(
        settings.database_url,
        schema=SCHEMA,
        application_name=NAME,
        pool_size=settings.database_pool_size,
    )
    return Service(name=NAME, settings=settings, database=database)
