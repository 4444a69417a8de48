"""The command that is written out by hand is the one that the contract's classes make."""

import random
from datetime import UTC, datetime
from uuid import UUID

import orjson
import pytest
from ingest_service.formats import StarRating
from ingest_service.rating_commands import RatingCommands, RatingEnvelope
from moviemetric_contracts import Event, ImportCatalog, RateMovie, decode
from service_kit import Outage, PublishError
from service_kit.testing import InMemoryBroker

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CAUSE = Event.of(
    ImportCatalog(job_id="import-1", uri="file:///x"),
    source="/gateway",
    time=NOON,
    id="the-command",
    correlationid="the-request",
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)
RATING = StarRating("movielens-1", 31, 9, 978_300_760)


@pytest.mark.parametrize("cause", [None, CAUSE])
def test_the_envelope_is_that_of_the_contract(cause: Event[ImportCatalog] | None) -> None:
    envelope = RatingEnvelope(cause)
    rnd = random.Random(1)
    for _ in range(500):
        film = rnd.randrange(1, 2**31)
        rating = StarRating(
            f"movielens-1m-{rnd.randrange(1, 2**31)}",
            film,
            rnd.randint(1, 10),
            rnd.randrange(1, 253_402_300_800),
        )
        movie_id = rnd.choice([f"movielens-{film}", "title-heat-1995"])
        message = envelope.message_of(rating, movie_id)
        event = decode(message.body, hint=message.routing_key)
        expected = Event.of(
            RateMovie(movie_id=movie_id, user_id=rating.user_id, score=rating.score),
            source="/ingest-service",
            time=datetime.fromtimestamp(rating.rated_at, UTC),
            id=event.id,
            cause=cause,
        )
        assert event == expected
        assert orjson.loads(message.body) == orjson.loads(expected.to_bytes())
        assert (message.exchange, message.routing_key) == ("moviemetric.commands", "movie.rate.v1")
        assert UUID(event.id).version == 5


def test_the_same_rating_is_the_same_event_for_ever() -> None:
    def event_id(rating: StarRating, movie_id: str, cause: Event[ImportCatalog] | None) -> str:
        return decode(RatingEnvelope(cause).message_of(rating, movie_id).body).id

    known = event_id(RATING, "movielens-31", None)
    # Must never change: what was imported once would be imported again.
    assert known == "674f27d7-11ad-5e36-a8da-10b852e8bb40"
    assert event_id(RATING, "movielens-31", CAUSE) == known
    others = {
        event_id(RATING, "movielens-32", None),
        event_id(RATING._replace(user_id="movielens-2"), "movielens-31", None),
        event_id(RATING._replace(score=8), "movielens-31", None),
        event_id(RATING._replace(rated_at=978_300_761), "movielens-31", None),
    }
    assert len(others | {known}) == 5


async def test_a_broker_that_does_not_confirm_is_an_outage() -> None:
    broker = InMemoryBroker()
    commands = RatingCommands(broker)
    message = RatingEnvelope(None).message_of(RATING, "movielens-31")
    with pytest.raises(Outage, match="no queue takes messages"):
        await commands.publish([message])
    broker.refuse_publishing = True
    with pytest.raises(Outage) as caught:
        await commands.publish([message])
    assert isinstance(caught.value.__cause__, PublishError)
    assert await commands.waiting() == 0, "there is no queue to wait for"
