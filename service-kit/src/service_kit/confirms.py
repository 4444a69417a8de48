"""Publishing with confirms on one channel, many messages to a write.

aiormq's own `basic_publish` writes each message to the socket by itself, under a lock and a timeout
of its own; at the gateway that costs more than everything else about a request. Here all messages
published in the same turn of the event loop leave in one write, and share one timeout. Confirms and
returned messages are still matched by aiormq, through the two tables that its channel keeps for
that: delivery tag → future, and message id → delivery tag.

The channel must be used for nothing else, because the delivery tags count its publishes.
"""

import asyncio
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol, cast
from uuid import uuid4

from aiormq.abc import ChannelFrame
from pamqp import frame as amqp_frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from service_kit.broker import Outgoing, PublishError

PUBLISH_TIMEOUT: Final = 2.0
# What a broker that confirms nothing may hold in memory here; it has 2 s for each of them.
MAX_UNCONFIRMED: Final = 20_000

_Confirmation = asyncio.Future[Any]


class AmqpChannel(Protocol):
    """What is used of aiormq's channel, in one place to compare with its next version."""

    number: int
    delivery_tag: int
    confirmations: dict[int, Any]
    message_id_delivery_tag: dict[str, int]
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


@dataclass(frozen=True, slots=True)
class _Pending:
    frames: bytes
    message_id: str
    confirmation: _Confirmation
    timeout: float


class ConfirmChannel:
    """Publishes on a channel that is in confirm mode and reports returned messages as errors."""

    def __init__(self, channel: AmqpChannel) -> None:
        self._channel = channel
        self._pending: list[_Pending] = []
        self._unconfirmed = 0
        self._loop = asyncio.get_running_loop()

    @property
    def closed(self) -> bool:
        """Whether nothing can be published on it any more."""
        return self._channel.is_closed

    def publish(self, message: Outgoing, timeout: float = PUBLISH_TIMEOUT) -> _Confirmation:
        """A future that is done when the broker has confirmed the message.

        It raises what aiormq does: its PublishError for a returned message, DeliveryError for a
        refused one, the channel's error when that closes; TimeoutError after `timeout` seconds;
        PublishError where the message cannot be sent at all.
        """
        confirmation = self._channel.create_future()
        if self._unconfirmed >= MAX_UNCONFIRMED:
            msg = f"the broker owes {self._unconfirmed} confirms already"
            confirmation.set_exception(PublishError(msg))
            return confirmation
        # Returned messages are matched by it, so every attempt needs a fresh one.
        message_id = uuid4().hex
        try:
            frames = self._encode(message, message_id)
        except Exception as error:  # noqa: BLE001 -- whatever is wrong is wrong with this message
            msg = f"the message cannot be encoded: {type(error).__name__}: {error}"
            confirmation.set_exception(PublishError(msg))
            return confirmation
        self._unconfirmed += 1
        confirmation.add_done_callback(self._settled)
        self._pending.append(_Pending(frames, message_id, confirmation, timeout))
        if len(self._pending) == 1:
            self._loop.call_soon(self._flush)
        return confirmation

    def _settled(self, _confirmation: _Confirmation) -> None:
        self._unconfirmed -= 1

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        waiting = [item for item in pending if not item.confirmation.done()]
        if not waiting:
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
            for item in waiting:
                item.confirmation.set_exception(PublishError("the broker reads nothing"))
            return
        for item in waiting:
            self._expect(item)
        for timeout in {item.timeout for item in waiting}:
            group = [item.confirmation for item in waiting if item.timeout == timeout]
            self._loop.call_later(timeout, _expire, group)

    def _expect(self, item: _Pending) -> None:
        channel = self._channel
        channel.delivery_tag += 1
        channel.confirmations[channel.delivery_tag] = item.confirmation
        channel.message_id_delivery_tag[item.message_id] = channel.delivery_tag
        # Also when it was given up: a message that comes back after that finds nobody.
        item.confirmation.add_done_callback(
            lambda _: channel.message_id_delivery_tag.pop(item.message_id, None)
        )

    def _encode(self, message: Outgoing, message_id: str) -> bytes:
        channel = self._channel
        properties = Basic.Properties(
            content_type=message.content_type,
            headers=cast("dict[str, Any]", message.headers) or None,
            delivery_mode=2,
            message_id=message_id,
        )
        header = ContentHeader(properties=properties, body_size=len(message.body))
        step = channel.max_content_size - 1
        return b"".join(
            (
                _publish_frame(message.exchange, message.routing_key, channel.number),
                amqp_frame.marshal(header, channel.number),
                *(
                    amqp_frame.marshal(
                        ContentBody(message.body[start : start + step]), channel.number
                    )
                    for start in range(0, len(message.body), step)
                ),
            )
        )


def _expire(futures: list[_Confirmation]) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(TimeoutError())
