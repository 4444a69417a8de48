"""Says which trends changed, at most once an interval for each film: `trend.updated.v1`.

Handlers only mark a film as changed. A sweep takes all marked films once, in the order of their
keys, in pages of one transaction each: lock, unmark, emit, commit. So a film that is viewed a
thousand times between two sweeps is one entry, whatever is marked behind the sweep waits for the
next one, and nothing that was committed stays unannounced. Any number of replicas may sweep; one
at a time does.
"""

from typing import Final

from moviemetric_contracts import TrendBreakdown, TrendEntry, TrendUpdated
from service_kit import Database, UnitOfWork, unit_of_work

from compute_service import repository
from compute_service.projection import TrendState
from compute_service.trend import TrendFormula, Window, log2_add

PAGE: Final = 1000


class TrendAnnouncer:
    """Announces the films whose trend changed since they were announced last.

    Args:
        source: the service's name.
        page: most films in an event.
    """

    def __init__(
        self, database: Database, formula: TrendFormula, *, source: str, page: int = PAGE
    ) -> None:
        self._database = database
        self._formula = formula
        self._source = source
        self._page = page

    async def sweep(self) -> None:
        """Announce every film that is marked as changed, once."""
        after: str | None = ""
        while after is not None:
            async with unit_of_work(self._database, source=self._source) as work:
                after = await self._announce_page(work, after)

    async def _announce_page(self, work: UnitOfWork, after: str) -> str | None:
        """Answers where the next page begins, None when this was the last."""
        if not await repository.try_to_be_the_announcer(work.connection):
            return None
        states = await repository.take_dirty(work.connection, after=after, limit=self._page)
        if not states:
            return None
        revision = await repository.next_revision(work.connection)
        entries = tuple(entry for state in states if (entry := self._entry(state, work)))
        if entries:
            work.emit(TrendUpdated(as_of=work.now, revision=revision, entries=entries))
        return states[-1].movie_id if len(states) == self._page else None

    def _entry(self, state: TrendState, work: UnitOfWork) -> TrendEntry | None:
        day = state.day
        if day.rank_key is None or state.log_quality is None:
            return None
        formula = self._formula
        log_total = log2_add(day.log_events, day.log_prior)
        return TrendEntry(
            movie_id=state.movie_id,
            score=formula.score(Window.DAY, day.rank_key, work.now),
            rank_key=day.rank_key,
            views=state.all_views,
            breakdown=TrendBreakdown(
                activity=formula.activity(Window.DAY, log_total, work.now),
                quality=min(2.0**state.log_quality, 10.0),
            ),
        )
