"""Which queue brings which events to which handler."""

from typing import Any

from moviemetric_contracts import (
    CancelJob,
    MovieRated,
    MovieRemoved,
    MovieUnrated,
    MovieUpserted,
    MovieViewed,
    RatingAggregated,
    RunCompute,
    UserErased,
)
from service_kit import Subscription

from compute_service.handlers import TrendHandlers, forget_users, take_job_commands


def subscriptions(handlers: TrendHandlers) -> tuple[Subscription[Any], ...]:
    """The queues of this service."""
    return (
        Subscription(
            queue="compute-service.movie-viewed",
            accepts=(MovieViewed,),
            handle=handlers.count_views,
            batch_size=500,
            # A view may take a tenth of a second to show; larger batches save commits.
            linger=0.02,
        ),
        Subscription(
            queue="compute-service.catalogue",
            accepts=(MovieUpserted, MovieRemoved),
            handle=handlers.follow_catalogue,
            batch_size=500,
        ),
        Subscription(
            queue="compute-service.ratings",
            accepts=(MovieRated, MovieUnrated, RatingAggregated),
            handle=handlers.follow_ratings,
            # An import brings a film's ratings together, so that many change few trends.
            batch_size=1000,
        ),
        Subscription(
            queue="compute-service.jobs",
            accepts=(RunCompute, CancelJob),
            handle=take_job_commands,
            batch_size=20,
            linger=0.005,
        ),
        Subscription(
            queue="compute-service.erasures",
            accepts=(UserErased,),
            handle=forget_users,
            batch_size=100,
        ),
    )
