"""The CloudEvents 1.0 envelope in structured JSON, and how a message body is read.

`decode` never raises anything but `UndecodableEventError`, whose `reason` is written for the person
who finds the message among the dead letters.
"""

import json
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    JsonValue,
    StringConstraints,
    ValidationError,
)

from moviemetric_contracts.fields import Moment
from moviemetric_contracts.ids import new_id
from moviemetric_contracts.messages import REGISTRY, Message

M = TypeVar("M", bound=Message)
N = TypeVar("N", bound=Message)


def _printable(text: str) -> str:
    if not text.isprintable():
        msg = "must not contain control characters"
        raise ValueError(msg)
    return text


EventId = Annotated[
    str, StringConstraints(min_length=1, max_length=200), AfterValidator(_printable)
]
EventType = Annotated[
    str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*\.[a-z][a-z0-9_-]*\.v[0-9]{1,4}$")
]
Extension = Annotated[str, StringConstraints(max_length=512), AfterValidator(_printable)]


class Event(BaseModel, Generic[M]):
    """A CloudEvent with a typed payload.

    `id` identifies the event for ever: the same id twice has one effect. Extension attributes that
    are not named here are allowed by CloudEvents and ignored.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    specversion: Literal["1.0"] = "1.0"
    id: EventId
    source: Annotated[
        str, StringConstraints(min_length=1, max_length=500), AfterValidator(_printable)
    ]
    type: EventType
    time: Moment | None = None
    subject: Annotated[str, StringConstraints(max_length=500)] | None = None
    datacontenttype: Literal["application/json"] = "application/json"
    correlationid: Extension | None = None
    causationid: Extension | None = None
    traceparent: Extension | None = None
    data: M

    @classmethod
    def of(
        cls,
        data: N,
        *,
        source: str,
        time: Moment,
        id: str | None = None,
        cause: "Event[Any] | None" = None,
        correlationid: str | None = None,
        traceparent: str | None = None,
    ) -> "Event[N]":
        """A new event that carries `data`; `cause` is the event that led to it, if any."""
        return Event[N].model_construct(
            id=id or new_id(),
            source=source,
            type=data.TYPE,
            time=time,
            subject=data.subject(),
            data=data,
            correlationid=correlationid or ((cause.correlationid or cause.id) if cause else None),
            causationid=cause.id if cause else None,
            traceparent=traceparent or (cause.traceparent if cause else None),
        )

    def to_bytes(self) -> bytes:
        """The message body: structured JSON without absent attributes."""
        return self.model_dump_json(exclude_none=True).encode()


class UndecodableEventError(ValueError):
    """A message body that no retry can make readable. `reason` says what is wrong and where."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class MalformedEventError(UndecodableEventError):
    """Not JSON, not a CloudEvent, or a payload that does not fit its type."""

    def __init__(self, detail: str, *, problems: list[tuple[str, str]] | None = None) -> None:
        self.problems = problems or []
        super().__init__(f"malformed event: {detail}")

    @classmethod
    def from_validation(cls, error: ValidationError) -> Self:
        """Names each field that is wrong (at most ten)."""
        problems = [
            (".".join(str(part) for part in item["loc"]) or "(body)", item["msg"])
            for item in error.errors(include_url=False, include_context=False, include_input=False)
        ][:10]
        return cls("; ".join(f"{where}: {what}" for where, what in problems), problems=problems)


class UnknownTypeError(UndecodableEventError):
    """A type that no contract names."""

    def __init__(self, event_type: str) -> None:
        self.event_type = event_type
        super().__init__(f"unknown event type {event_type!r}")


class UnknownVersionError(UndecodableEventError):
    """A known type in a version that this program was not built with."""

    def __init__(self, event_type: str, known: list[str]) -> None:
        self.event_type = event_type
        self.known = known
        super().__init__(
            f"unknown version of an event type: {event_type!r}; known: {', '.join(known)}"
        )


class UnexpectedTypeError(UndecodableEventError):
    """A known type that does not belong on the queue it arrived on."""

    def __init__(self, event_type: str, accepted: list[str]) -> None:
        self.event_type = event_type
        super().__init__(
            f"event type {event_type!r} is not handled here; handled: {', '.join(accepted)}"
        )


_envelopes: dict[str, type[Event[Message]]] = {
    event_type: Event[cls] for event_type, cls in REGISTRY.items()
}


def _class_for(event_type: str) -> type[Event[Message]]:
    envelope = _envelopes.get(event_type)
    if envelope is not None:
        return envelope
    stem, _, _ = event_type.rpartition(".")
    siblings = sorted(known for known in _envelopes if known.rpartition(".")[0] == stem)
    if siblings:
        raise UnknownVersionError(event_type, siblings)
    raise UnknownTypeError(event_type)


def _type_of(fields: object) -> str:
    if not isinstance(fields, dict):
        detail = f"expected a JSON object, got {type(fields).__name__}"
        raise MalformedEventError(detail)
    event_type: object = fields.get("type")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if not isinstance(event_type, str):
        detail = "type: a CloudEvent has a string attribute 'type'"
        raise MalformedEventError(detail, problems=[("type", "a string is required")])
    return event_type[:200]


def _parse_json(body: bytes) -> object:
    try:
        fields: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        detail = f"the body is not JSON ({error})"
        raise MalformedEventError(detail) from None
    return fields


def decode(body: bytes, *, hint: str = "") -> Event[Message]:
    """Read a message body.

    Args:
        body: structured CloudEvents JSON in UTF-8.
        hint: the type it most likely has (a routing key); makes the usual case one parse.

    Raises:
        UndecodableEventError: one of its subclasses, with a reason a person can act on.
    """
    likely = _envelopes.get(hint)
    if likely is not None:
        try:
            event = likely.model_validate_json(body)
        except ValidationError:
            pass  # the slow path below finds out what exactly is wrong
        else:
            if event.type == hint:
                return event
    envelope = _class_for(_type_of(_parse_json(body)))
    try:
        return envelope.model_validate_json(body)
    except ValidationError as error:
        raise MalformedEventError.from_validation(error) from None


def decode_fields(fields: JsonValue) -> Event[Message]:
    """Read an event that is already parsed JSON, such as one item of a batch.

    Raises:
        UndecodableEventError: as `decode`.
    """
    envelope = _class_for(_type_of(fields))
    try:
        return envelope.model_validate_json(json.dumps(fields))
    except (ValidationError, ValueError) as error:
        if isinstance(error, ValidationError):
            raise MalformedEventError.from_validation(error) from None
        raise MalformedEventError(str(error)) from None


__all__ = [
    "Event",
    "EventId",
    "EventType",
    "MalformedEventError",
    "UndecodableEventError",
    "UnexpectedTypeError",
    "UnknownTypeError",
    "UnknownVersionError",
    "decode",
    "decode_fields",
]
