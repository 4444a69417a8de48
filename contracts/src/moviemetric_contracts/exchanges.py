"""Names that every producer and consumer must agree on: exchanges and routing keys.

A command asks for something and goes to `COMMANDS`; a fact says what happened and goes to `EVENTS`.
The routing key of a message is its type, `<noun>.<verb>.v<version>`. A queue binds
`<noun>.<verb>.*`, so that a version it does not know reaches it and is parked with a reason.
"""

from enum import StrEnum
from typing import Final

CLOUDEVENTS_JSON: Final = "application/cloudevents+json"
CLOUDEVENTS_BATCH_JSON: Final = "application/cloudevents-batch+json"


class Exchange(StrEnum):
    """The two durable topic exchanges that producers publish to."""

    COMMANDS = "moviemetric.commands"
    EVENTS = "moviemetric.events"


def binding_key(event_type: str) -> str:
    """`movie.viewed.v1` → `movie.viewed.*`: every version of a type."""
    stem, _, _ = event_type.rpartition(".")
    return f"{stem}.*"
