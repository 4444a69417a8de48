"""The one place where the service is wired."""

from typing import Final

from fastapi import APIRouter
from service_kit import Database, Periodic, Service

from compute_service.announcer import TrendAnnouncer
from compute_service.api import read_api
from compute_service.handlers import TrendHandlers
from compute_service.rebuild import FormulaKeeper
from compute_service.recommendation.api import recommendations_api
from compute_service.scheduling import Scheduler, schedules_api
from compute_service.settings import Settings
from compute_service.subscriptions import subscriptions

NAME: Final = "compute-service"
SCHEMA: Final = "compute"
PACKAGE: Final = "compute_service"


def _router(database: Database, settings: Settings) -> APIRouter:
    formula = settings.trend_formula()
    router = read_api(database, formula)
    others = recommendations_api(database, formula, view_weight=settings.recommend_view_weight)
    router.routes.extend(others.routes)
    return router


def bootstrap(settings: Settings) -> Service:
    """Everything that runs, made from the settings."""
    formula = settings.trend_formula()
    database = Database(
        settings.database_url,
        schema=SCHEMA,
        application_name=NAME,
        pool_size=settings.database_pool_size,
    )
    announcer = TrendAnnouncer(database, formula, source=NAME)
    keeper = FormulaKeeper(database, formula)
    schedules = settings.schedules()
    scheduler = Scheduler(database, schedules, source=NAME)
    return Service(
        name=NAME,
        settings=settings,
        database=database,
        subscriptions=subscriptions(TrendHandlers(formula)),
        periodics=(
            Periodic(
                name="announce trends", every=settings.trend_announce_seconds, run=announcer.sweep
            ),
            Periodic(name="apply the trend formula", every=1.0, run=keeper.apply_once),
            Periodic(name="schedules", every=1.0, run=scheduler.lead, role="scheduler"),
        ),
        router=_router(database, settings),
        always=schedules_api(database, schedules),
    )
