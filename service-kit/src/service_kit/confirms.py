"""Publishing with confirms on one channel, many messages to a write.

aiormq's own `basic_publish` writes each message to the socket by itself, under a lock and a timeout
of its own; at the gateway that costs more than everything else about a request. Here all messages
published in the same turn of the event loop leave in one write, and share one timeout. Confirms and
returned messages are matched here, too, one confirm that stands for many in one go.

The channel must be used for nothing else, because the delivery tags count its publishes.
"""

import asyncio
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol, cast
from uuid import uuid4

from aiormq.abc import ChannelFrame
from pamqp import frame as amqp_frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from service_kit.broker import Outgoing, PublishError, Unroutable
from service_kit.frames import ConfirmTap, TappedReader

PUBLISH_TIMEOUT: Final = 2.0
# What a broker that confirms nothing may hold in memory here; it has 2 s for each of them.
MAX_UNCONFIRMED: Final = 20_000

_Confirmation = asyncio.Future[None]

_DURABLE: Final = 2
# Of the properties that a content header can have: content type, delivery mode and message id.
_PLAIN_FLAGS: Final = 0x8000 | 0x1000 | 0x0080
_FRAME_HEADER: Final = struct.Struct(">BHI")
_CONTENT_HEADER: Final = struct.Struct(">HHQH")
_HEADER_FRAME: Final = 2
_FRAME_END: Final = b"\xce"


class AmqpChannel(Protocol):
    """What is used of aiormq's channel, in one place to compare with its next version."""

    number: int
    write_queue: asyncio.Queue[Any]
    max_content_size: int

    @property
    def is_closed(self) -> bool:
        """Whether the channel is closed."""
        ...

    def create_future(self) -> asyncio.Future[Any]:
        """A future that fails when the channel closes."""
        ...


@lru_cache(maxsize=256)
def _publish_frame(exchange: str, routing_key: str, channel_number: int) -> bytes:
    method = Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=True)
    return amqp_frame.marshal(method, channel_number)


def header_frame(message: Outgoing, message_id: str, channel_number: int) -> bytes:
    """The content header of a message.

    Raises:
        ValueError, TypeError: the message cannot be encoded.
    """
    if message.headers:
        properties = Basic.Properties(
            content_type=message.content_type,
            headers=cast("dict[str, Any]", message.headers),
            delivery_mode=_DURABLE,
            message_id=message_id,
        )
        header = ContentHeader(properties=properties, body_size=len(message.body))
        return amqp_frame.marshal(header, channel_number)
    # Nearly all are without headers; these few bytes take the library ten times as long.
    content_type, name = message.content_type.encode(), message_id.encode()
    payload = b"".join(
        (
            _CONTENT_HEADER.pack(Basic.frame_id, 0, len(message.body), _PLAIN_FLAGS),
            bytes((len(content_type),)),
            content_type,
            bytes((_DURABLE, len(name))),
            name,
        )
    )
    return _FRAME_HEADER.pack(_HEADER_FRAME, channel_number, len(payload)) + payload + _FRAME_END


@dataclass(slots=True)
class _Pending:
    exchange: str
    routing_key: str
    frames: bytes
    message_id: str
    confirmation: _Confirmation
    timeout: float
    tag: int = 0


class ConfirmChannel:
    """Publishes on a channel that is in confirm mode and reports returned messages as errors."""

    def __init__(self, channel: AmqpChannel, reader: TappedReader) -> None:
        self._channel = channel
        self._pending: list[_Pending] = []
        # By delivery tag, in the order of publishing.
        self._unsettled: dict[int, _Pending] = {}
        self._by_message_id: dict[str, _Pending] = {}
        self._published = 0
        self._tag = 0
        self._prefix = uuid4().hex
        self._loop = asyncio.get_running_loop()
        reader.tap(channel.number, ConfirmTap(self._on_confirm, self._on_return))
        channel.create_future().add_done_callback(self._on_close)

    @property
    def closed(self) -> bool:
        """Whether nothing can be published on it any more."""
        return self._channel.is_closed

    def publish(self, message: Outgoing, timeout: float = PUBLISH_TIMEOUT) -> _Confirmation:
        """A future that is done when the broker has confirmed the message.

        It raises PublishError: the message cannot be sent, was returned (`Unroutable`) or refused,
        was not confirmed within `timeout` seconds, or the channel was closed.
        """
        confirmation = self._loop.create_future()
        if (owed := len(self._unsettled) + len(self._pending)) >= MAX_UNCONFIRMED:
            msg = f"the broker owes {owed} confirms already"
            confirmation.set_exception(PublishError(msg))
            return confirmation
        # Returned messages are matched by it, so every attempt needs a fresh one.
        self._published += 1
        message_id = f"{self._prefix}-{self._published}"
        try:
            frames = self._encode(message, message_id)
        except Exception as error:  # noqa: BLE001 -- whatever is wrong is wrong with this message
            msg = f"the message cannot be encoded: {type(error).__name__}: {error}"
            confirmation.set_exception(PublishError(msg))
            return confirmation
        self._pending.append(
            _Pending(
                message.exchange, message.routing_key, frames, message_id, confirmation, timeout
            )
        )
        if len(self._pending) == 1:
            self._loop.call_soon(self._flush)
        return confirmation

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        waiting = [item for item in pending if not item.confirmation.done()]
        if not waiting:
            return
        if self._channel.is_closed:
            _fail(waiting, "the connection to the broker was lost")
            return
        frame = ChannelFrame(
            b"".join(item.frames for item in waiting),
            should_close=False,
            # Makes the writer wait for a socket that is full, so that the queue before it fills.
            drain_future=self._loop.create_future(),
        )
        try:
            self._channel.write_queue.put_nowait(frame)
        except asyncio.QueueFull:
            _fail(waiting, "the broker reads nothing")
            return
        for item in waiting:
            self._tag += 1
            item.tag = self._tag
            item.frames = b""  # the timer below holds the items until the timeout
            self._unsettled[item.tag] = item
            self._by_message_id[item.message_id] = item
        for timeout in {item.timeout for item in waiting}:
            group = [item for item in waiting if item.timeout == timeout]
            self._loop.call_later(timeout, self._expire, group)

    def _encode(self, message: Outgoing, message_id: str) -> bytes:
        channel = self._channel
        step = channel.max_content_size - 1
        return b"".join(
            (
                _publish_frame(message.exchange, message.routing_key, channel.number),
                header_frame(message, message_id, channel.number),
                *(
                    amqp_frame.marshal(
                        ContentBody(message.body[start : start + step]), channel.number
                    )
                    for start in range(0, len(message.body), step)
                ),
            )
        )

    def _on_confirm(self, tag: int, multiple: bool, accepted: bool) -> None:
        settled = self._settled_by(tag, multiple=multiple)
        if not accepted:
            _fail(settled, "the broker refused the message")
            return
        for item in settled:
            if not item.confirmation.done():
                item.confirmation.set_result(None)

    def _settled_by(self, tag: int, *, multiple: bool) -> list[_Pending]:
        tags: list[int]
        if not multiple:
            tags = [tag] if tag in self._unsettled else []
        elif tag == 0:  # all that there are
            tags = list(self._unsettled)
        else:
            tags = []
            for unsettled in self._unsettled:
                if unsettled > tag:
                    break
                tags.append(unsettled)
        items = [self._unsettled.pop(settled) for settled in tags]
        for item in items:
            del self._by_message_id[item.message_id]
        return items

    def _on_return(self, message_id: str) -> None:
        # The broker confirms it afterwards, as it does any other.
        item = self._by_message_id.get(message_id)
        if item is not None and not item.confirmation.done():
            _reject(item.confirmation, Unroutable(item.exchange, item.routing_key))

    def _expire(self, items: Sequence[_Pending]) -> None:
        late = [item for item in items if self._unsettled.pop(item.tag, None) is not None]
        for item in late:
            del self._by_message_id[item.message_id]
        _fail(late, "the broker did not confirm in time")

    def _on_close(self, guard: asyncio.Future[Any]) -> None:
        error = None if guard.cancelled() else guard.exception()
        waiting = [*self._unsettled.values(), *self._pending]
        self._unsettled.clear()
        self._by_message_id.clear()
        self._pending = []
        reason = "the connection to the broker was lost"
        _fail(waiting, reason if error is None else f"{reason}: {type(error).__name__}")


def _fail(items: Sequence[_Pending], reason: str) -> None:
    for item in items:
        if not item.confirmation.done():
            _reject(item.confirmation, PublishError(reason))


def _reject(confirmation: _Confirmation, error: PublishError) -> None:
    confirmation.set_exception(error)
    # Looked at once, so that asyncio says nothing of those for which nobody waits any more.
    confirmation.exception()
