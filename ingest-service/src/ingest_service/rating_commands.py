"""Ratings as commands, published straight to the broker.

The outbox would hold each of millions for a moment. It is not needed: a rating's command has an id
that follows from the rating, so that whoever is not sure whether it was published does it again.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid5

import orjson
from moviemetric_contracts import Event, RateMovie
from service_kit import Broker, Outage, Outgoing

from ingest_service.formats import StarRating

QUEUE: Final = "rating-service.ratings"

_NAMESPACE: Final = UUID("5b0a2c86-6f0d-4e43-9a57-0a6f2f6a1b64")
_SOURCE: Final = "/ingest-service"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BROKER: Final = "RabbitMQ"


class RatingEnvelope:
    """What the commands of one import have in common.

    Args:
        cause: the event that asked for the import.
    """

    def __init__(self, cause: Event[Any] | None) -> None:
        any_rating = RateMovie(movie_id="movielens-1", user_id="movielens-1", score=1)
        event = Event.of(any_rating, source=_SOURCE, time=_EPOCH, cause=cause)
        self._common: dict[str, Any] = event.model_dump(mode="json", exclude_none=True)

    def message_of(self, rating: StarRating, movie_id: str) -> Outgoing:
        """The command to record a rating; always the same id for the same rating."""
        user_id, _, score, rated_at = rating
        # Written out rather than through the contract's classes, which cost four times as much.
        envelope = {
            **self._common,
            "id": str(uuid5(_NAMESPACE, f"{user_id}/{movie_id}/{rated_at}/{score}")),
            "time": datetime.fromtimestamp(rated_at, UTC),
            "subject": movie_id,
            "data": {"movie_id": movie_id, "user_id": user_id, "score": score},
        }
        body = orjson.dumps(envelope, option=orjson.OPT_UTC_Z)
        return Outgoing(RateMovie.EXCHANGE, RateMovie.TYPE, body)


class RatingCommands:
    """Publishes ratings.

    Args:
        most_behind: messages that may wait in rating-service's queue before more are published.
    """

    def __init__(self, broker: Broker, *, most_behind: int = 2_000) -> None:
        self._broker = broker
        self._most_behind = most_behind

    async def waiting(self) -> int:
        """How many ratings rating-service has still to take, if those are too many; else 0.

        Raises:
            Outage: the broker is away.
        """
        try:
            depth = await self._broker.depth(QUEUE)
        except ConnectionError as error:
            raise Outage(_BROKER, str(error)) from error
        return depth if depth is not None and depth > self._most_behind else 0

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Returns when the broker holds all of them durably.

        Raises:
            Outage: it does not confirm them; some may have been taken.
        """
        for error in await self._broker.publish_many(messages, confirm_within=10):
            if error is not None:
                raise Outage(_BROKER, str(error)) from error
