"""Deliveries and confirms, taken from the bytes of a connection as they come in.

aiormq reads each frame with three awaits, decodes it field by field into objects, puts it into a
queue for a task of the channel, which gathers method, header and body and starts a task for each
message: most of what receiving costs. `TappedReader` stands between socket and library and takes
out what a channel is tapped for, in the call that brings the bytes; the library reads everything
else as if nothing had been there. The frames: AMQP 0-9-1, 2.3.5 (general), 2.3.5.2 (content).

    socket ─► TappedReader ─► taps: deliveries, confirms, returned messages
                    └───────► aiormq: all else, whole frames in their order
"""

import asyncio
import struct
from collections.abc import Callable
from typing import Any, Final

from aiormq.connection import SSLContextProvider, TransportFactory
from pamqp import decode
from yarl import URL

METHOD: Final = 1
HEADER: Final = 2
BODY: Final = 3
HEARTBEAT: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"

_FRAME: Final = struct.Struct(">BHI")
_FRAME_END: Final = 0xCE
_KINDS: Final = frozenset({METHOD, HEADER, BODY, 8})

# Class and method in one number.
_BASIC: Final = 60 << 16
_RETURN: Final = _BASIC | 50
_DELIVER: Final = _BASIC | 60
_ACK: Final = _BASIC | 80
_NACK: Final = _BASIC | 120
_ID: Final = struct.Struct(">I")
_TAG_AND_BIT: Final = struct.Struct(">QB")
# Class, weight, size of the body, flags of the properties.
_CONTENT: Final = struct.Struct(">HHQH")

# The flags of a message's properties, in the order in which these come.
_CONTENT_TYPE: Final = 0x8000
_CONTENT_ENCODING: Final = 0x4000
_HEADERS: Final = 0x2000
_OCTETS: Final = (0x1000, 0x0800)
_BEFORE_MESSAGE_ID: Final = (0x0400, 0x0200, 0x0100)
_MESSAGE_ID: Final = 0x0080

Headers = dict[str, Any]


def _short(data: bytes, position: int) -> tuple[str, int]:
    """A short string, and where it ends."""
    start = position + 1
    after = start + data[position]
    return data[start:after].decode(errors="surrogateescape"), after


class _Tap:
    """Takes frames of one channel; gathers a method with the header and the body that follow it."""

    def __init__(self) -> None:
        self._gathering = False
        self._header = (0, b"")  # its flags, and the properties
        self._parts: list[bytes] = []
        self._missing = 0

    def take(self, kind: int, data: bytes, start: int, end: int) -> bool:
        """Take the frame whose payload is `data[start:end]`; False: it is for the library."""
        if kind == METHOD:
            # A content that is not whole when the next method comes never will be.
            self._gathering = False
            return self._take_method(_ID.unpack_from(data, start)[0], data, start + 4)
        if not self._gathering:
            return False
        if kind == HEADER:
            _, _, self._missing, flags = _CONTENT.unpack_from(data, start)
            self._header = flags, data[start + _CONTENT.size : end]
        else:
            self._parts.append(data[start:end])
            self._missing -= end - start
        if self._missing <= 0:
            self._gathering = False
            body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._whole(*self._header, body)
        return True

    def _begin(self) -> None:
        self._gathering = True
        self._parts = []
        self._missing = 0

    def _take_method(self, method: int, data: bytes, position: int) -> bool:
        """The arguments begin at `position`."""
        raise NotImplementedError

    def _whole(self, flags: int, properties: bytes, body: bytes) -> None:
        raise NotImplementedError


class DeliveryTap(_Tap):
    """Takes the deliveries of a channel.

    Args:
        on_delivery: gets tag, exchange, routing key, headers and body. It must not raise, or the
            connection ends.
    """

    def __init__(self, on_delivery: Callable[[int, str, str, Headers, bytes], None]) -> None:
        super().__init__()
        self._on_delivery = on_delivery
        self._method = (0, "", "")

    def _take_method(self, method: int, data: bytes, position: int) -> bool:
        if method != _DELIVER:
            return False
        position += 1 + data[position]  # the consumer's tag
        tag, _redelivered = _TAG_AND_BIT.unpack_from(data, position)
        exchange, position = _short(data, position + _TAG_AND_BIT.size)
        routing_key, _ = _short(data, position)
        self._method = tag, exchange, routing_key
        self._begin()
        return True

    def _whole(self, flags: int, properties: bytes, body: bytes) -> None:
        headers = _headers(flags, properties) if flags & _HEADERS else {}
        self._on_delivery(*self._method, headers, body)


class ConfirmTap(_Tap):
    """Takes what becomes of the messages that were published on a channel.

    Args:
        on_confirm: gets a delivery tag, whether all before it are meant, too, and whether the
            broker has accepted them.
        on_return: gets the message id of what no queue takes.

    Both must not raise, or the connection ends.
    """

    def __init__(
        self, on_confirm: Callable[[int, bool, bool], None], on_return: Callable[[str], None]
    ) -> None:
        super().__init__()
        self._on_confirm = on_confirm
        self._on_return = on_return

    def _take_method(self, method: int, data: bytes, position: int) -> bool:
        if method in {_ACK, _NACK}:
            tag, bits = _TAG_AND_BIT.unpack_from(data, position)
            self._on_confirm(tag, bool(bits & 1), method == _ACK)
            return True
        if method == _RETURN:
            self._begin()
            return True
        return False

    def _whole(self, flags: int, properties: bytes, body: bytes) -> None:
        del body
        self._on_return(_message_id(flags, properties))


def _headers_at(flags: int, properties: bytes) -> int:
    position = 0
    for flag in (_CONTENT_TYPE, _CONTENT_ENCODING):
        if flags & flag:
            position += 1 + properties[position]
    return position


def _headers(flags: int, properties: bytes) -> Headers:
    """Those that can be read: a table that is malformed must not come again and again."""
    try:
        _, table = decode.field_table(properties[_headers_at(flags, properties) :])
    except Exception:  # noqa: BLE001 -- the library raises whatever comes of it
        return {}
    return table


def _message_id(flags: int, properties: bytes) -> str:
    position = _headers_at(flags, properties)
    if flags & _HEADERS:
        position += 4 + int.from_bytes(properties[position : position + 4])
    position += sum(1 for flag in _OCTETS if flags & flag)
    for flag in _BEFORE_MESSAGE_ID:
        if flags & flag:
            position += 1 + properties[position]
    return _short(properties, position)[0] if flags & _MESSAGE_ID else ""


class TappedReader(asyncio.StreamReader):
    """A connection's stream, without the frames for which a channel is tapped."""

    # aiormq takes a connection for dead on which it has seen nothing for long; and the broker sends
    # no heartbeats while it sends anything else.
    _HEARTBEAT_EVERY: Final = 1.0

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] | None = None
    ) -> None:
        super().__init__(loop=loop)
        self._clock = clock or loop.time
        self._passed_at = self._clock()
        self._taps: dict[int, _Tap] = {}
        self._rest = b""
        self._is_amqp = True

    def tap(self, channel: int, tap: _Tap) -> None:
        """Frames of this channel go to `tap` first, from now on.

        Also once the channel is closed here, until another tap takes the place with the number: the
        broker may not know of it yet, and nobody in the library would take what still comes.
        """
        self._taps[channel] = tap

    def feed_data(self, data: bytes) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] -- it gets nothing else
        """Called by the transport with whatever has come in."""
        if not self._is_amqp:
            self._pass_on(data)
            return
        if self._rest:
            data = self._rest + data
        passed: list[bytes] = []
        taps, size_of_all = self._taps, len(data)
        start = 0
        while size_of_all - start >= _FRAME.size:
            kind, channel, size = _FRAME.unpack_from(data, start)
            after = start + _FRAME.size + size + 1
            if kind not in _KINDS or (after <= size_of_all and data[after - 1] != _FRAME_END):
                # The library says what is wrong with it.
                self._is_amqp = False
                passed.append(data[start:])
                start = size_of_all
                break
            if after > size_of_all:
                break
            tap = taps.get(channel)
            if tap is None or not self._taken(tap, kind, data, start, after):
                passed.append(data[start:after])
            start = after
        self._rest = data[start:]
        if passed:
            self._pass_on(b"".join(passed))
        elif self._clock() - self._passed_at >= self._HEARTBEAT_EVERY:
            self._pass_on(HEARTBEAT)

    def _taken(self, tap: _Tap, kind: int, data: bytes, start: int, after: int) -> bool:
        try:
            return tap.take(kind, data, start + _FRAME.size, after - 1)
        except Exception as error:
            # The transport ends with it, and tells everybody who waits: as the loss that it is.
            msg = f"a frame from RabbitMQ cannot be read: {type(error).__name__}: {error}"
            raise ConnectionError(msg) from error

    def feed_eof(self) -> None:
        """Called at the end, and once more when the connection is lost."""
        rest, self._rest = self._rest, b""
        if rest:
            super().feed_data(rest)
        super().feed_eof()

    def _pass_on(self, data: bytes) -> None:
        self._passed_at = self._clock()
        super().feed_data(data)


class TappedTransport(TransportFactory):
    """Makes the streams of one connection; `reader` is there once it has."""

    reader: TappedReader

    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises OSError."""
        provider: SSLContextProvider = kwargs.pop("ssl_context_provider")
        context = await provider.get_context() if url.scheme == "amqps" else None
        loop = asyncio.get_running_loop()
        self.reader = reader = TappedReader(loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.create_connection(
            lambda: protocol, str(url.host), int(url.port or 0), ssl=context, **kwargs
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
