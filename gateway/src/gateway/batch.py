"""`POST /events`: CloudEvents from outside, each judged on its own.

Only types that an outside producer may say are taken; the facts that services derive are theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

from moviemetric_contracts import (
    Event,
    Message,
    MovieViewed,
    RefreshMovie,
    RegisterMovie,
    UndecodableEventError,
    decode_fields,
    parse_movie_id,
)
from moviemetric_contracts.envelope import MalformedEventError

from gateway.bodies import find_unusable, require_not_far_ahead, require_timestamp

ACCEPTED: Final[tuple[type[Message], ...]] = (MovieViewed, RegisterMovie, RefreshMovie)
_ACCEPTED_TYPES: Final = frozenset(cls.TYPE for cls in ACCEPTED)


class RejectedItemError(ValueError):
    """An item that cannot be taken; `field` is a path within the item."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        self.message = message
        super().__init__(f"{field}: {message}")


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a batch after it was read: an event, or why it is none."""

    index: int
    id: str | None
    event: Event[Message] | None = None
    error: RejectedItemError | None = None


def read_item(index: int, fields: object, now: datetime) -> Item:
    """Judge one item; never raises."""
    try:
        event = _decode(fields)
        _check_times(event, fields, now)
        if isinstance(event.data, MovieViewed):
            _check_movie_id(event.data)
    except RejectedItemError as error:
        return Item(index, _id_of(fields), error=error)
    return Item(index, event.id, event=event)


def _decode(fields: object) -> Event[Message]:
    if isinstance(fields, dict):
        event_type = cast("dict[str, object]", fields).get("type")
        if isinstance(event_type, str) and event_type not in _ACCEPTED_TYPES:
            accepted = ", ".join(sorted(_ACCEPTED_TYPES))
            # Known and unknown types get the same answer: what others may say is no secret.
            message = f"type not accepted here: {event_type[:100]!a}; accepted: {accepted}"
            raise RejectedItemError("type", message)
    if (unusable := find_unusable(cast("object", fields))) is not None:
        raise RejectedItemError(*unusable)
    try:
        return decode_fields(cast("Any", fields))
    except MalformedEventError as error:
        if error.problems:
            field, message = error.problems[0]
            raise RejectedItemError(field, message.removeprefix("Value error, ")) from None
        raise RejectedItemError("(item)", error.reason) from None
    except UndecodableEventError as error:
        raise RejectedItemError("type", error.reason) from None


def _check_times(event: Event[Message], fields: object, now: datetime) -> None:
    attributes = cast("dict[str, Any]", fields)
    if event.time is not None:
        _check_time("time", attributes.get("time"), event.time, now)
    if isinstance(event.data, MovieViewed):
        written = cast("dict[str, object]", attributes["data"]).get("viewed_at")
        _check_time("data.viewed_at", written, event.data.viewed_at, now)


def _check_time(field: str, written: object, moment: datetime, now: datetime) -> None:
    try:
        require_timestamp(written)
        require_not_far_ahead(moment, now)
    except ValueError as error:
        raise RejectedItemError(field, str(error)) from None


def _check_movie_id(data: MovieViewed) -> None:
    try:
        parse_movie_id(data.movie_id)
    except ValueError as error:
        raise RejectedItemError("data.movie_id", str(error)) from None


def _id_of(fields: object) -> str | None:
    value = cast("dict[str, object]", fields).get("id") if isinstance(fields, dict) else None
    return value[:200].encode(errors="replace").decode() if isinstance(value, str) else None


def results(items: Sequence[Item], failures: dict[int, str]) -> list[dict[str, Any]]:
    """What became of each item; `failures` says by index what the broker did not confirm."""
    answers: list[dict[str, Any]] = []
    for item in items:
        answer: dict[str, Any] = {"index": item.index, "id": item.id, "status": "accepted"}
        if item.error is not None:
            answer["status"] = "rejected"
            answer["error"] = str(item.error)
        elif item.index in failures:
            answer["status"] = "failed"
            answer["error"] = failures[item.index]
        answers.append(answer)
    return answers
