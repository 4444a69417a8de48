"""The queues of this service: which events, handled by what."""

from typing import Any

from moviemetric_contracts import (
    CancelJob,
    MovieRemoved,
    MovieUpserted,
    RatingAggregated,
    RebuildSearch,
    RepairSearch,
    SearchOpened,
    SearchPerformed,
    TrendUpdated,
)
from service_kit import Subscription

from search_indexer.handlers import (
    count_searches,
    follow_catalogue,
    follow_ratings,
    follow_trends,
)
from search_indexer.jobs import take_job_commands

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
    Subscription(
        queue="search-indexer.ratings",
        accepts=(RatingAggregated,),
        handle=follow_ratings,
        batch_size=500,
        # Figures beside a hit may be a little older; larger batches save commits.
        linger=0.2,
    ),
    Subscription(
        queue="search-indexer.jobs",
        accepts=(RebuildSearch, RepairSearch, CancelJob),
        handle=take_job_commands,
        batch_size=20,
        linger=0.005,
    ),
    # Nobody waits for these counts; larger batches save commits.
    Subscription(
        queue="search-indexer.signals",
        accepts=(SearchPerformed, SearchOpened),
        handle=count_searches,
        batch_size=500,
        linger=0.2,
    ),
)
