"""The gateway's queues: what makes cached answers old or is news to those who listen, and messages
that nobody takes.

All replicas share the cache, so one of them handles each event, and tells the others what their
live streams are to say. A message reaches the second queue when no queue is bound for its routing
key; it is parked, to be replayed once the service that handles it runs, and so is what cannot be
read (the runtime does that by itself). Only news of progress, which matters to those who listen at
the time, is done with.
"""

from collections.abc import Sequence
from typing import Any

from moviemetric_contracts import (
    REGISTRY,
    ArtifactComputed,
    Event,
    JobChanged,
    MovieRemoved,
    MovieUpserted,
    RatingAggregated,
    SearchRebuilt,
    TrendUpdated,
    UserErased,
)
from service_kit import Binding, Park, Subscription, UnitOfWork
from service_kit.topology import UNROUTED

from gateway.cache import Cache
from gateway.live import CHANNEL, messages_of
from gateway.reads import CATALOGUE, COMPUTED, LISTS, USERS, movie_tag

CACHE_QUEUE = "gateway.cache"
UNROUTED_QUEUE = "gateway.unrouted"
NEWS = (SearchRebuilt,)


def tags_of(events: Sequence[Event[Any]]) -> set[str]:
    """The tags of all answers that these events make old."""
    tags = set[str]()
    for event in events:
        match event.data:
            case MovieUpserted(movie=movie):
                tags.update(movie_tag(key) for key in (movie.movie_id, *movie.aliases))
                tags |= {LISTS, CATALOGUE}
            case MovieRemoved(movie_id=movie_id):
                tags |= {movie_tag(movie_id), LISTS, CATALOGUE}
            case TrendUpdated(entries=entries) if entries:
                tags.update(movie_tag(entry.movie_id) for entry in entries)
                tags.add(LISTS)
            case RatingAggregated(movie_id=movie_id):
                # Of lists only searches tell what users think of a film, and those are kept for
                # moments; its trend score follows by itself.
                tags.add(movie_tag(movie_id))
            case UserErased():
                tags.add(USERS)
            case ArtifactComputed():
                tags.add(COMPUTED)
            case _:
                pass
    return tags


async def park_what_nobody_takes(events: Sequence[Event[Any]], _work: UnitOfWork) -> None:
    """Parks all but news of progress."""
    for event in events:
        if not isinstance(event.data, NEWS):
            reason = (
                f"no queue takes {event.type!r}: run `migrate` of the service that handles it, "
                "then replay this message"
            )
            raise Park(reason)


def subscriptions(cache: Cache) -> list[Subscription[Event[Any]]]:
    """The table of queues."""

    async def drop_cached_and_tell(events: Sequence[Event[Any]], _work: UnitOfWork) -> None:
        await cache.drop(tags_of(events))
        await cache.broadcast(CHANNEL, messages_of(events))

    return [
        Subscription(
            queue=CACHE_QUEUE,
            accepts=(
                MovieUpserted,
                MovieRemoved,
                TrendUpdated,
                JobChanged,
                RatingAggregated,
                UserErased,
                ArtifactComputed,
            ),
            handle=drop_cached_and_tell,
            # Few at a time: requests wait while a batch is read.
            batch_size=100,
            linger=0.02,
        ),
        Subscription(
            queue=UNROUTED_QUEUE,
            accepts=tuple(REGISTRY.values()),
            bindings=(Binding(UNROUTED, ""),),
            handle=park_what_nobody_takes,
            batch_size=20,
        ),
    ]
