"""The gateway's one queue: changes that make cached answers old.

All replicas share the cache, so one of them handles each event.
"""

from collections.abc import Sequence
from typing import Any

from moviemetric_contracts import Event, MovieRemoved, MovieUpserted, TrendUpdated
from service_kit import Subscription, UnitOfWork

from gateway.cache import Cache
from gateway.reads import LISTS, movie_tag

QUEUE = "gateway.cache"


def tags_of(events: Sequence[Event[Any]]) -> set[str]:
    """The tags of all answers that these events make old."""
    tags = {LISTS} if events else set[str]()
    for event in events:
        match event.data:
            case MovieUpserted(movie=movie):
                tags.add(movie_tag(movie.movie_id))
            case MovieRemoved(movie_id=movie_id):
                tags.add(movie_tag(movie_id))
            case TrendUpdated(entries=entries):
                tags.update(movie_tag(entry.movie_id) for entry in entries)
            case _:
                pass
    return tags


def subscriptions(cache: Cache) -> list[Subscription[Event[Any]]]:
    """The table of queues."""

    async def drop_cached(events: Sequence[Event[Any]], _work: UnitOfWork) -> None:
        await cache.drop(tags_of(events))

    return [
        Subscription(
            queue=QUEUE,
            accepts=(MovieUpserted, MovieRemoved, TrendUpdated),
            handle=drop_cached,
            batch_size=100,
            linger=0.005,
        )
    ]
