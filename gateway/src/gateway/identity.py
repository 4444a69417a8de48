"""Who an event is and what it belongs to, from the headers of the request that asked for it.

An `Idempotency-Key` determines the event's id without anything being stored: the same request with
the same key is the same event for ever, and consumers give an id one effect.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid5

from moviemetric_contracts.ids import new_id
from service_kit.http import ProblemError

MAX_KEY_LENGTH: Final = 200
MAX_CORRELATION_LENGTH: Final = 200
_NAMESPACE: Final = UUID("6f0c2f0a-5f0e-4d5a-9f57-0f7f4f0f6c11")
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """The headers that matter to an event; absent or unusable ones are None."""

    idempotency_key: str | None = None
    correlation_id: str | None = None
    traceparent: str | None = None

    @classmethod
    def from_headers(cls, headers: Iterable[tuple[bytes, bytes]]) -> "RequestIdentity":
        """Read ASGI headers (lower-case names).

        Raises:
            ProblemError: 422 for an `Idempotency-Key` that is empty, too long or not printable.
        """
        key = correlation = request_id = traceparent = None
        for name, value in headers:
            if name == b"idempotency-key":
                key = _checked_key(value)
            elif name == b"x-correlation-id":
                correlation = _label(value)
            elif name == b"x-request-id":
                request_id = _label(value)
            elif name == b"traceparent":
                traceparent = _traceparent(value)
        return cls(key, correlation or request_id, traceparent)

    def event_id(self, route: str, asked: str = "") -> str:
        """The id of the event that this request asks for on `route`.

        `asked` is what it asks for: a key that is used again for something else, once nothing
        remembers its first use, must not make another event's id.
        """
        if self.idempotency_key is None:
            return new_id()
        return str(uuid5(_NAMESPACE, f"{route} {self.idempotency_key} {asked}".rstrip()))


def _checked_key(value: bytes) -> str:
    text = value.decode("latin-1").strip()
    if not text or len(text) > MAX_KEY_LENGTH or not text.isascii() or not text.isprintable():
        message = f"must be 1 to {MAX_KEY_LENGTH} printable ASCII characters, such as a UUID"
        raise ProblemError(
            422,
            "Unusable Idempotency-Key",
            f"Idempotency-Key {message}",
            errors=[{"field": "Idempotency-Key", "message": message}],
        )
    return text


def _label(value: bytes) -> str | None:
    text = value.decode("latin-1").strip()
    usable = text.isascii() and text.isprintable() and len(text) <= MAX_CORRELATION_LENGTH
    return text if text and usable else None


def _traceparent(value: bytes) -> str | None:
    # The trace context specification asks to ignore a value that cannot be parsed.
    text = value.decode("latin-1").strip().lower()
    return text if _TRACEPARENT.fullmatch(text) else None
