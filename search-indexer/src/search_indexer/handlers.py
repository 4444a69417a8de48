"""What each event does: it is written to the database, by revision, in the batch's transaction."""

from collections.abc import Sequence

from moviemetric_contracts import (
    Event,
    MovieRemoved,
    MovieUpserted,
    RatingAggregated,
    SearchOpened,
    SearchPerformed,
    TrendUpdated,
)
from service_kit import UnitOfWork

from search_indexer import repository, signals_repository
from search_indexer.documents import catalogue_changes, rating_changes, trend_changes
from search_indexer.signals import count_signals


async def follow_catalogue(
    events: Sequence[Event[MovieUpserted | MovieRemoved]], work: UnitOfWork
) -> None:
    """A film can be found as it now is, or no longer."""
    changes = catalogue_changes(event.data for event in events)
    await repository.store_catalogue_changes(work.connection, changes)


async def follow_trends(events: Sequence[Event[TrendUpdated]], work: UnitOfWork) -> None:
    """Films rank by their new trend, also those whose document has not arrived yet."""
    changes = trend_changes(event.data for event in events)
    await repository.store_trends(work.connection, changes)


async def follow_ratings(events: Sequence[Event[RatingAggregated]], work: UnitOfWork) -> None:
    """Films show what this system's own users think of them; the document may come later."""
    changes = rating_changes(event.data for event in events)
    await repository.store_ratings(work.connection, changes)


async def count_searches(
    events: Sequence[Event[SearchPerformed | SearchOpened]], work: UnitOfWork
) -> None:
    """Searches are counted by day and words, and what was opened from them."""
    counts = count_signals(event.data for event in events)
    await signals_repository.add(work.connection, counts)
