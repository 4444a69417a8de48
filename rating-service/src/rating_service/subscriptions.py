"""Which queue brings which events to which handler."""

from typing import Any

from moviemetric_contracts import AdminActed, UserErased
from service_kit import Subscription

from rating_service.audit import record_actions
from rating_service.erasure import follow_erasures
from rating_service.ratings.handlers import RatingHandlers


def subscriptions(ratings: RatingHandlers) -> tuple[Subscription[Any], ...]:
    """The queues of this service."""
    return (
        *ratings.subscriptions(),
        Subscription(
            queue="rating-service.erasures",
            accepts=(UserErased,),
            handle=follow_erasures,
            # All of a user's ratings go in one transaction, which nobody may rate meanwhile.
            batch_size=20,
        ),
        Subscription(
            queue="rating-service.audit",
            accepts=(AdminActed,),
            handle=record_actions,
            batch_size=200,
        ),
    )
