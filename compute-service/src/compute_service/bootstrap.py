"""The one place where the service is wired."""

from collections.abc import Sequence
from typing import Final

from fastapi import APIRouter
from service_kit import Database, JobRunner, Periodic, Service

from compute_service.announcer import TrendAnnouncer
from compute_service.api import read_api
from compute_service.artifacts import (
    KIND,
    Artifact,
    ComputeRuns,
    GenreStatsDaily,
    RatingsByDecade,
    TrendingDaily,
)
from compute_service.chart_totals import ChartTotals
from compute_service.handlers import TrendHandlers
from compute_service.rebuild import FormulaKeeper
from compute_service.recommendation.api import recommendations_api
from compute_service.recommendation.artifact import Recommendations
from compute_service.scheduling import Scheduler, schedules_api
from compute_service.settings import Settings
from compute_service.subscriptions import subscriptions
from compute_service.trend import TrendFormula

NAME: Final = "compute-service"
SCHEMA: Final = "compute"
PACKAGE: Final = "compute_service"


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
    artifacts: Sequence[Artifact] = (
        TrendingDaily(database, formula, size=settings.trend_chart_size),
        GenreStatsDaily(database),
        RatingsByDecade(database),
        Recommendations(settings.database_url, settings.model_settings()),
    )
    runner = JobRunner(database, source=NAME, runs={KIND: ComputeRuns(artifacts).run})
    totals = ChartTotals(database)
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
            Periodic(name="compute artifacts", every=0.2, run=runner.run_pending),
            Periodic(name="schedules", every=1.0, run=scheduler.lead, role="scheduler"),
        ),
        always=schedules_api(database, schedules),
        router=_router(database, formula, totals, settings),
        on_close=[totals.close],
    )


def _router(
    database: Database, formula: TrendFormula, totals: ChartTotals, settings: Settings
) -> APIRouter:
    router = read_api(
        database, formula, totals=totals, least_activity=settings.rising_least_activity
    )
    others = recommendations_api(database, formula, view_weight=settings.recommend_view_weight)
    router.routes.extend(others.routes)
    return router
