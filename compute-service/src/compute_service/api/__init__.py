"""The read API: charts, scores and their explanation, figures, and what is kept of a user."""

from fastapi import APIRouter
from service_kit import Database, jobs_router

from compute_service.api.activity import activity_routes
from compute_service.api.analytics import analytics_routes
from compute_service.api.charts import chart_routes
from compute_service.api.trends import trend_routes
from compute_service.artifacts import KIND
from compute_service.chart_totals import ChartTotals
from compute_service.rising import LEAST_ACTIVITY
from compute_service.trend import TrendFormula

__all__ = ["read_api"]


def read_api(
    database: Database,
    formula: TrendFormula,
    *,
    totals: ChartTotals | None = None,
    least_activity: float = LEAST_ACTIVITY,
) -> APIRouter:
    """The routes of this service.

    Args:
        totals: what is known of the charts' lengths; made here if None.
        least_activity: a film below it is not rising, in views of the last day.
    """
    totals = totals or ChartTotals(database)
    router = APIRouter()
    for part in (
        chart_routes(database, formula, totals, least_activity=least_activity),
        trend_routes(database, formula),
        analytics_routes(database),
        activity_routes(database),
        jobs_router(database, kinds={KIND}),
    ):
        router.routes.extend(part.routes)
    return router
