"""What each event does: it is written to the database, by revision, in the batch's transaction."""

from collections.abc import Sequence

from moviemetric_contracts import Event, MovieRemoved, MovieUpserted, TrendUpdated
from service_kit import UnitOfWork

from search_indexer import repository
from search_indexer.documents import catalogue_changes, trend_changes


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
