"""The queues of this service: which events, handled by what."""

from typing import Any

from moviemetric_contracts import MovieRemoved, MovieUpserted, TrendUpdated
from service_kit import Subscription

from search_indexer.handlers import follow_catalogue, follow_trends

SUBSCRIPTIONS: tuple[Subscription[Any], ...] = (
    Subscription(
        queue="search-indexer.catalogue",
        accepts=(MovieUpserted, MovieRemoved),
        handle=follow_catalogue,
        batch_size=500,
    ),
    # One event carries up to 5,000 films.
    Subscription(
        queue="search-indexer.trends",
        accepts=(TrendUpdated,),
        handle=follow_trends,
        batch_size=20,
    ),
)
