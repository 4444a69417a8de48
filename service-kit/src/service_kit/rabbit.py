"""RabbitMQ behind the `Broker` port, on aio-pika.

Publishing and consuming use a connection each, because a broker in memory alarm stops reading from
connections that publish, acknowledgements included. A lost connection is made again by whoever
needs it next, with growing, jittered pauses in which publishing fails at once; streams end, so that
their consumers open new ones. Nothing is replayed from memory: what was not confirmed was reported
to the caller, what was not acknowledged the broker delivers again.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final, cast

import aio_pika
import aiormq.channel
from aio_pika.abc import AbstractChannel, ExchangeType
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import AMQPError

from service_kit.broker import (
    Delivery,
    DeliveryBuffer,
    DeliveryStream,
    Outgoing,
    PublishError,
    StreamClosed,
)
from service_kit.confirms import PUBLISH_TIMEOUT, AmqpChannel, ConfirmChannel
from service_kit.frames import DeliveryTap, Headers, TappedReader, TappedTransport
from service_kit.topology import DELAY_QUEUES, EXCHANGES, QueueSpec

log = logging.getLogger(__name__)

CONNECT_TIMEOUT: Final = 5.0
DECLARE_TIMEOUT: Final = 30.0
# Enough in flight to keep the broker busy.
WINDOW: Final = 512
_LOST: Final = (AMQPError, OSError, TimeoutError, RuntimeError, asyncio.InvalidStateError)


@contextmanager
def _loss_as_connection_error() -> Generator[None]:
    """Makes one kind of error of the many in which a lost connection shows.

    The client library also cancels whatever waits for an answer on a connection that ends. That is
    not a cancellation of the caller, who would take it for one.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        msg = f"the connection to RabbitMQ was lost: {error}"
        raise ConnectionError(msg) from error
    except ConnectionError:
        raise
    except _LOST as error:
        msg = f"RabbitMQ: {type(error).__name__}: {error}"
        raise ConnectionError(msg) from error


class _Connection(aio_pika.Connection):
    """A connection whose frames can be tapped.

    It is closed when it cannot be made: the library would do that when the object is collected, as
    a task of whatever loop runs by then.
    """

    reader: TappedReader

    async def connect(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- the library's
        made_by = TappedTransport()
        self.kwargs["transport_factory"] = made_by
        try:
            await super().connect(timeout)
        except BaseException:
            await self.close()
            raise
        self.reader = made_by.reader


class _Link:
    """One connection that is made again whenever it is lost."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self._connection: _Connection | None = None
        self._lock = asyncio.Lock()
        self._retry_at = 0.0
        self._failures = 0
        self._closing = False

    def _open(self) -> _Connection | None:
        # After an orderly shutdown of the broker `is_closed` stays false; `connected` tells.
        connection = self._connection
        if connection is None or connection.is_closed or not connection.connected.is_set():
            return None
        return connection

    async def connection(self) -> _Connection:
        """The open connection, made now if there is none.

        Raises:
            ConnectionError: it cannot be made now. Asking again soon fails at once, so that
                callers do not queue up behind a broker that is away.
        """
        if (connection := self._open()) is not None:
            return connection
        async with self._lock:
            if (connection := self._open()) is not None:
                return connection
            if self._closing:
                msg = "the connection to RabbitMQ is being closed"
                raise ConnectionError(msg)
            wait = self._retry_at - time.monotonic()
            if wait > 0:
                msg = f"RabbitMQ is not reachable; next try in {wait:.1f} s"
                raise ConnectionError(msg)
            self._connection = await self._connect()
            return self._connection

    async def _connect(self) -> _Connection:
        try:
            with _loss_as_connection_error():
                connection = await asyncio.wait_for(
                    aio_pika.connect(
                        self._url,
                        client_properties={"connection_name": self._name},
                        heartbeat=10,
                        connection_class=_Connection,
                    ),
                    CONNECT_TIMEOUT,
                )
        except ConnectionError:
            self._failures += 1
            self._retry_at = time.monotonic() + min(2.0, 0.1 * 2**self._failures) * random.uniform(  # noqa: S311 -- jitter
                0.5, 1.0
            )
            raise
        if self._failures:
            log.info("connected to RabbitMQ again", extra={"attempts": self._failures})
        self._failures = 0
        return connection

    async def close(self) -> None:
        self._closing = True
        if self._connection is not None:
            with suppress(*_LOST):
                await asyncio.wait_for(self._connection.close(), 5)


class RabbitStream:
    """Deliveries of one queue on one channel."""

    def __init__(
        self, channel: AbstractChannel, underlay: aiormq.channel.Channel, reader: TappedReader
    ) -> None:
        self._channel = channel
        self._underlay = underlay
        self._reader = reader
        self._buffer = DeliveryBuffer()
        self._consumer_tag: str | None = None

    async def start(self, queue: str, prefetch: int) -> None:
        await self._channel.set_qos(prefetch_count=prefetch)
        self._channel.close_callbacks.add(self._on_close)
        self._underlay.on_consumer_cancel_callbacks.add(self._on_cancelled_by_broker)
        # aio-pika's own consume wraps each message twice and runs two tasks for each; here its
        # frames never get there.
        self._reader.tap(self._underlay.number, DeliveryTap(self._on_delivery))
        answer = await self._underlay.basic_consume(queue, _never_called)
        self._consumer_tag = answer.consumer_tag

    def _on_close(self, _sender: object, error: BaseException | None = None) -> None:
        self._buffer.close(f"the channel closed: {error}")

    async def _on_cancelled_by_broker(self, _frame: object) -> None:
        self._buffer.close("the broker cancelled the consumer: was its queue deleted?")

    def _on_delivery(
        self, tag: int, exchange: str, routing_key: str, headers: Headers, body: bytes
    ) -> None:
        redeliveries = headers.get("x-delivery-count", 0)
        self._buffer.add(
            Delivery(
                tag=tag,
                exchange=exchange,
                routing_key=routing_key,
                body=body,
                headers=headers,
                redeliveries=redeliveries if isinstance(redeliveries, int) else 0,
            )
        )

    @property
    def closed(self) -> bool:
        return self._buffer.closed or self._channel.is_closed

    async def take(self, size: int, linger: float) -> list[Delivery]:
        return await self._buffer.take(size, linger)

    async def acknowledge_through(self, delivery: Delivery) -> None:
        try:
            await self._underlay.basic_ack(delivery.tag, multiple=True, wait=False)
        except _LOST as error:
            msg = f"too late to acknowledge: {error}"
            raise StreamClosed(msg) from error

    async def cancel(self) -> None:
        if self._consumer_tag is not None and not self._channel.is_closed:
            with suppress(*_LOST):
                await asyncio.wait_for(self._underlay.basic_cancel(self._consumer_tag), 5)
        self._buffer.close("the consumer was cancelled")
        self._buffer.discard()


class RabbitBroker:
    """Publishes with confirms and consumes with acknowledgements on a RabbitMQ server.

    Args:
        url: `amqp://user:password@host:port/vhost`.
        name: shown for the connections in the management UI.
    """

    def __init__(self, url: str, *, name: str) -> None:
        self._publishing = _Link(url, f"{name} publishing")
        self._consuming = _Link(url, f"{name} consuming")
        self._channel: AbstractChannel | None = None
        self._confirms: ConfirmChannel | None = None
        self._channel_lock = asyncio.Lock()

    async def declare(self, queues: Sequence[QueueSpec]) -> None:
        with _loss_as_connection_error():
            await self._declare(queues)

    async def _declare(self, queues: Sequence[QueueSpec]) -> None:
        connection = await self._consuming.connection()
        async with asyncio.timeout(DECLARE_TIMEOUT), connection.channel() as channel:
            for exchange in EXCHANGES:
                await channel.declare_exchange(
                    exchange.name,
                    ExchangeType(exchange.kind),
                    durable=True,
                    arguments=dict(exchange.arguments),
                )
            for spec in (*DELAY_QUEUES, *queues):
                queue = await channel.declare_queue(
                    spec.name, durable=True, arguments=dict(spec.arguments)
                )
                for binding in spec.bindings:
                    await queue.bind(binding.exchange, binding.routing_key)

    async def publish(self, message: Outgoing) -> None:
        channel = await self._publishing_channel()
        await channel.publish(message)

    async def publish_many(
        self, messages: Sequence[Outgoing], *, confirm_within: float = PUBLISH_TIMEOUT
    ) -> list[PublishError | None]:
        errors: list[PublishError | None] = []
        for start in range(0, len(messages), WINDOW):
            window = await self._publish_window(messages[start : start + WINDOW], confirm_within)
            errors += window
            if all(window):
                # The broker confirms nothing: asking for the rest would only take longer.
                errors += [window[-1]] * (len(messages) - len(errors))
                break
        return errors

    async def _publish_window(
        self, messages: Sequence[Outgoing], confirm_within: float
    ) -> list[PublishError | None]:
        try:
            channel = await self._publishing_channel()
        except PublishError as error:
            return [error] * len(messages)
        confirmations = [channel.publish(message, confirm_within) for message in messages]
        await asyncio.wait(confirmations)
        return [_failure_of(confirmation) for confirmation in confirmations]

    async def _publishing_channel(self) -> ConfirmChannel:
        if self._confirms is not None and not self._confirms.closed:
            return self._confirms
        async with self._channel_lock:
            if self._confirms is not None and not self._confirms.closed:
                return self._confirms
            try:
                with _loss_as_connection_error():
                    connection = await self._publishing.connection()
                    self._channel = await asyncio.wait_for(
                        connection.channel(publisher_confirms=True, on_return_raises=True),
                        CONNECT_TIMEOUT,
                    )
                    self._confirms = ConfirmChannel(
                        cast("AmqpChannel", await self._channel.get_underlay_channel()),
                        connection.reader,
                    )
            except ConnectionError as error:
                raise PublishError(str(error)) from error
            return self._confirms

    @asynccontextmanager
    async def consume(self, queue: str, prefetch: int) -> AsyncGenerator[DeliveryStream]:
        with _loss_as_connection_error():
            connection = await self._consuming.connection()
            channel = await asyncio.wait_for(
                connection.channel(publisher_confirms=False), CONNECT_TIMEOUT
            )
        try:
            with _loss_as_connection_error():
                stream = RabbitStream(channel, await _underlay(channel), connection.reader)
                await asyncio.wait_for(stream.start(queue, prefetch), CONNECT_TIMEOUT)
            yield stream
        finally:
            with suppress(*_LOST):
                await asyncio.wait_for(channel.close(), 5)

    async def depth(self, queue: str) -> int | None:
        with _loss_as_connection_error():
            connection = await self._consuming.connection()
            channel = await asyncio.wait_for(
                connection.channel(publisher_confirms=False), CONNECT_TIMEOUT
            )
        try:
            with _loss_as_connection_error():
                underlay = await _underlay(channel)
                declared = await asyncio.wait_for(
                    underlay.queue_declare(queue, passive=True), CONNECT_TIMEOUT
                )
        except ConnectionError as error:
            # Asking for a queue that is not there closes the channel.
            if isinstance(error.__cause__, aiormq.exceptions.ChannelNotFoundEntity):
                return None
            raise
        finally:
            with suppress(*_LOST):
                await asyncio.wait_for(channel.close(), 5)
        return declared.message_count

    async def ping(self) -> float:
        started = time.perf_counter()
        with _loss_as_connection_error():
            connection = await self._publishing.connection()
            channel = await asyncio.wait_for(connection.channel(publisher_confirms=False), 2)
            await asyncio.wait_for(channel.close(), 2)
        return time.perf_counter() - started

    async def close(self) -> None:
        await self._consuming.close()
        await self._publishing.close()


async def _never_called(_message: DeliveredMessage) -> None:
    msg = "a delivery was not taken by the frames"
    raise AssertionError(msg)


def _failure_of(confirmation: asyncio.Future[None]) -> PublishError | None:
    error = confirmation.exception()
    if error is None or isinstance(error, PublishError):
        return error
    raise error


async def _underlay(channel: AbstractChannel) -> aiormq.channel.Channel:
    return cast("aiormq.channel.Channel", await channel.get_underlay_channel())
