"""What operators ask: whether the indexes are as they should be, and what was searched for."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from service_kit import Database, Outage, ProblemError

from search_indexer import signals_repository
from search_indexer.drift import Drift, compare_index, compare_tables, measure
from search_indexer.engine import DocumentIndex
from search_indexer.rebuild import POSTGRES

MOST_DAYS: Final = 366


class DriftCheck:
    """Compares every index with the films; callers at the same time share one comparison."""

    def __init__(
        self, database: Database, index: DocumentIndex | None, *, engine: str | None
    ) -> None:
        self._database = database
        self._index = index
        self._engine = engine
        self._running: asyncio.Task[dict[str, Any]] | None = None

    async def run(self) -> dict[str, Any]:
        """Counts and samples of each index.

        Raises:
            Outage: the database is away. Of an engine that is away, the answer says so.
        """
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._compare(), name="drift")
        # Shielded: a client that goes away must not take the others' answer with it.
        return await asyncio.shield(self._running)

    async def close(self) -> None:
        """Gives up what is under way."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _compare(self) -> dict[str, Any]:
        began = datetime.now(UTC)
        indexes = {POSTGRES: _shown(await measure(compare_tables(self._database)))}
        if self._index is not None and self._engine is not None:
            try:
                drift = await measure(compare_index(self._database, self._index))
                indexes[self._engine] = _shown(drift)
            except Outage as outage:
                if outage.dependency == "PostgreSQL":
                    raise
                indexes[self._engine] = {"error": str(outage)}
        known = [index["drift"] for index in indexes.values() if "drift" in index]
        return {
            "indexes": indexes,
            "drift": sum(known) if len(known) == len(indexes) else None,
            "duration_seconds": round((datetime.now(UTC) - began).total_seconds(), 3),
            "as_of": began,
        }


def _shown(drift: Drift) -> dict[str, Any]:
    return {
        "checked": drift.checked,
        "drift": drift.total,
        **{
            kind: {"count": count, "sample": drift.samples[kind]}
            for kind, count in drift.counts.items()
        },
        "miscounted_groups": drift.miscounted,
    }


def upkeep_router(database: Database, check: DriftCheck) -> APIRouter:
    """`GET /drift` and `GET /top-searches`."""
    router = APIRouter()

    @router.get("/drift")
    async def get_drift() -> dict[str, Any]:
        """What is missing, surplus or outdated in each index."""
        return await check.run()

    @router.get("/top-searches")
    async def get_top_searches(
        date_from: date | None = None,
        date_to: date | None = None,
        days: Annotated[int | None, Query(ge=1, le=MOST_DAYS)] = None,
        no_results: bool = False,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        offset: Annotated[int, Query(ge=0, le=100_000)] = 0,
    ) -> dict[str, Any]:
        """The last week, unless days are named."""
        first, last = period(date_from, date_to, days, datetime.now(UTC).date())
        async with database.reading() as connection:
            items, total = await signals_repository.top_searches(
                connection,
                date_from=first,
                date_to=last,
                no_results=no_results,
                limit=limit,
                offset=offset,
            )
        return {
            "items": items,
            "total": total,
            "limit": limit,
            "offset": offset,
            "date_from": first,
            "date_to": last,
            "as_of": datetime.now(UTC),
        }

    # FastAPI refers to them; nothing else does.
    _ = (get_drift, get_top_searches)
    return router


def period(
    date_from: date | None, date_to: date | None, days: int | None, today: date
) -> tuple[date, date]:
    """The first and the last day that are asked for.

    Raises:
        ProblemError: 422, they contradict each other or are too many.
    """
    if days is not None and (date_from is not None or date_to is not None):
        raise _invalid("days", "excludes date_from and date_to")
    last = date_to or (today if date_from is None or date_from <= today else date_from)
    try:
        first = date_from or last - timedelta(days=(days or 7) - 1)
    except OverflowError:
        raise _invalid("date_to", "is before all days") from None
    if first > last:
        raise _invalid("date_from", "must not be after date_to")
    if (last - first).days >= MOST_DAYS:
        raise _invalid("date_from", f"at most {MOST_DAYS} days at a time")
    return first, last


def _invalid(field: str, message: str) -> ProblemError:
    return ProblemError(
        422,
        "Invalid request",
        f"{field}: {message}",
        errors=[{"field": field, "message": message}],
    )
