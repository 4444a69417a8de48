"""Publishing with confirms on one channel, many messages to a write.

aiormq's own `basic_publish` writes each message to the socket by itself, under a lock and a timeout
of its own; at the gateway that costs more than everything else about a request. Here all messages
published in the same turn of the event loop leave in one write, and share one timeout. Confirms and
returned messages are still matched by aiormq, through the two tables that its channel keeps for
that: delivery tag → future, and message id → delivery tag.

The channel must be used for nothing else, because the delivery tags count its publishes.
"""

import asyncio
from functools import lru_cache
from typing import Any, Final, Protocol, cast
from uuid import uuid4

from aiormq.abc import ChannelFrame
from pamqp import frame as amqp_frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from service_kit.broker import Outgoing

PUBLISH_TIMEOUT: Final = 2.0

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


class ConfirmChannel:
    """Publishes on a channel that is in confirm mode and reports returned messages as errors."""

    def __init__(self, channel: AmqpChannel) -> None:
        self._channel = channel
        self._pending: list[tuple[Outgoing, _Confirmation]] = []
        self._loop = asyncio.get_running_loop()
        self._broken = False

    @property
    def closed(self) -> bool:
        """Whether nothing can be published on it any more."""
        return self._broken or self._channel.is_closed

    def publish(self, message: Outgoing) -> _Confirmation:
        """A future that is done when the broker has confirmed the message.

        It raises what aiormq does: its PublishError for a returned message, DeliveryError for a
        refused one, the channel's error when that closes; and TimeoutError.
        """
        confirmation = self._channel.create_future()
        self._pending.append((message, confirmation))
        if len(self._pending) == 1:
            self._loop.call_soon(self._flush)
        return confirmation

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        waiting = [(message, future) for message, future in pending if not future.done()]
        if not waiting:
            return
        payload = bytearray()
        for message, future in waiting:
            self._append(payload, message, future)
        try:
            self._channel.write_queue.put_nowait(ChannelFrame(bytes(payload), should_close=False))
        except asyncio.QueueFull:
            # The broker reads nothing. The tags are spent, so the numbering is off from here on.
            self._broken = True
            _expire([future for _, future in waiting])
            return
        self._loop.call_later(PUBLISH_TIMEOUT, _expire, [future for _, future in waiting])

    def _append(self, payload: bytearray, message: Outgoing, future: _Confirmation) -> None:
        channel = self._channel
        # Returned messages are matched by it, so every attempt needs a fresh one.
        message_id = uuid4().hex
        channel.delivery_tag += 1
        tag = channel.delivery_tag
        channel.confirmations[tag] = future
        channel.message_id_delivery_tag[message_id] = tag
        future.add_done_callback(lambda _: channel.message_id_delivery_tag.pop(message_id, None))
        properties = Basic.Properties(
            content_type=message.content_type,
            headers=cast("dict[str, Any]", message.headers) or None,
            delivery_mode=2,
            message_id=message_id,
        )
        payload += _publish_frame(message.exchange, message.routing_key, channel.number)
        header = ContentHeader(properties=properties, body_size=len(message.body))
        payload += amqp_frame.marshal(header, channel.number)
        step = channel.max_content_size - 1
        for start in range(0, len(message.body), step):
            body = ContentBody(message.body[start : start + step])
            payload += amqp_frame.marshal(body, channel.number)


def _expire(futures: list[_Confirmation]) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(TimeoutError())
