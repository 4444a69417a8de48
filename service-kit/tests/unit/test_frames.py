"""What is taken out of a connection's bytes, and that the rest gets through as it was."""

import asyncio
import random
from typing import Any

import pytest
from pamqp import frame as amqp_frame
from pamqp.body import ContentBody
from pamqp.commands import Basic, Channel, Connection
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat
from service_kit.frames import (
    HEARTBEAT,
    ConfirmTap,
    DeliveryTap,
    TappedReader,
    TappedTransport,
)
from yarl import URL

CONSUMING = 3
PUBLISHING = 4
OTHER = 5


def deliver(tag: int, body: bytes, pieces: int = 1, **properties: Any) -> list[Any]:
    """A message that the broker delivers, its body in so many frames."""
    step = -(-len(body) // pieces) or 1
    return [
        Basic.Deliver("consumer", tag, redelivered=tag % 2 == 0, exchange="e", routing_key="k.é"),
        ContentHeader(properties=Basic.Properties(**properties), body_size=len(body)),
        *(ContentBody(body[start : start + step]) for start in range(0, len(body), step)),
    ]


def wire(channel: int, *frames: Any) -> bytes:
    return b"".join(amqp_frame.marshal(frame, channel) for frame in frames)


Delivered = tuple[int, str, str, dict[str, Any], bytes]


def tap_into(taken: list[Delivered]) -> DeliveryTap:
    def take(
        tag: int, exchange: str, routing_key: str, headers: dict[str, Any], body: bytes
    ) -> None:
        taken.append((tag, exchange, routing_key, headers, body))

    return DeliveryTap(take)


class Taken:
    """A reader with both taps, and what they took."""

    def __init__(self) -> None:
        self.deliveries: list[Delivered] = []
        self.confirms: list[tuple[int, bool, bool]] = []
        self.returned: list[str] = []
        self.now = 100.0
        self.reader = TappedReader(asyncio.get_running_loop(), lambda: self.now)
        self.delivery_tap = tap_into(self.deliveries)
        self.reader.tap(CONSUMING, self.delivery_tap)
        self.reader.tap(PUBLISHING, ConfirmTap(self._confirmed, self.returned.append))

    def _confirmed(self, tag: int, multiple: bool, accepted: bool) -> None:
        self.confirms.append((tag, multiple, accepted))

    async def passed(self) -> bytes:
        """All that was passed on until the end of the stream."""
        self.reader.feed_eof()
        return await self.reader.read()


@pytest.fixture
async def taken() -> Taken:
    return Taken()


async def test_deliveries_are_taken_and_all_else_is_passed_on(taken: Taken) -> None:
    other = wire(OTHER, *deliver(1, b"of another channel"))
    cancel = wire(CONSUMING, Basic.Cancel("consumer"))
    got = wire(
        CONSUMING,
        Basic.GetOk(9, exchange="e", routing_key="k", message_count=0),
        ContentHeader(body_size=1),
        ContentBody(b"x"),
    )
    heartbeat = wire(0, Heartbeat())
    taken.reader.feed_data(
        wire(CONSUMING, *deliver(1, b"one"))
        + other
        + wire(CONSUMING, *deliver(2, b"twice two", pieces=3))
        + got
        + wire(CONSUMING, *deliver(3, b""))
        + heartbeat
        + cancel
    )
    assert taken.deliveries == [
        (1, "e", "k.é", {}, b"one"),
        (2, "e", "k.é", {}, b"twice two"),
        (3, "e", "k.é", {}, b""),
    ]
    assert await taken.passed() == other + got + heartbeat + cancel


@pytest.mark.parametrize(
    "properties",
    [
        {"headers": {"x-delivery-count": 2, "x-é": "ü", "table": {"n": 1}, "list": [1, "a"]}},
        {"content_type": "a/b", "content_encoding": "gzip", "headers": {"n": 1}, "priority": 3},
        {"content_type": "a/b", "delivery_mode": 2, "message_id": "id", "app_id": "x"},
        {},
    ],
)
async def test_headers_are_what_the_library_reads(taken: Taken, properties: dict[str, Any]) -> None:
    taken.reader.feed_data(wire(CONSUMING, *deliver(1, b"x", **properties)))
    [(_, _, _, headers, _)] = taken.deliveries
    assert headers == properties.get("headers", {})


@pytest.mark.parametrize(
    "properties",
    [
        {"message_id": "id-7"},
        {"content_type": "a/b", "delivery_mode": 2, "message_id": "id-7"},
        {
            "content_type": "a/b",
            "content_encoding": "gzip",
            "headers": {"n": 1, "s": "x" * 300},
            "delivery_mode": 2,
            "priority": 1,
            "correlation_id": "c",
            "reply_to": "r",
            "expiration": "5",
            "message_id": "id-7",
            "app_id": "a",
        },
    ],
)
async def test_returned_messages_are_known_by_their_id(
    taken: Taken, properties: dict[str, Any]
) -> None:
    header = ContentHeader(properties=Basic.Properties(**properties), body_size=2)
    taken.reader.feed_data(
        wire(PUBLISHING, Basic.Return(312, "NO_ROUTE", "e", "k"), header, ContentBody(b"{}"))
        + wire(PUBLISHING, Basic.Return(312, "NO_ROUTE", "e", "k"), ContentHeader(body_size=0))
    )
    assert taken.returned == ["id-7", ""]


async def test_confirms(taken: Taken) -> None:
    taken.reader.feed_data(
        wire(
            PUBLISHING,
            Basic.Ack(1),
            Basic.Ack(2**40, multiple=True),
            Basic.Nack(3),
            Basic.Nack(4, multiple=True, requeue=False),
        )
    )
    assert taken.confirms == [
        (1, False, True),
        (2**40, True, True),
        (3, False, False),
        (4, True, False),
    ]


async def test_however_the_bytes_are_cut_the_same_is_taken_and_passed_on() -> None:
    chance = random.Random(7)
    deliveries = [chance.randbytes(chance.choice((0, 1, 200, 5_000))) for _ in range(200)]
    data, passed = b"", b""
    for tag, body in enumerate(deliveries):
        frames = deliver(tag, body, pieces=chance.choice((1, 1, 2, 5)), headers={"n": tag})
        for frame in frames:
            data += wire(CONSUMING, frame)
            for between in (
                wire(OTHER, ContentBody(b"x" * 50)),
                wire(PUBLISHING, Basic.Ack(tag)),
                wire(0, Heartbeat()),
            ):
                if chance.random() < 0.2:
                    data += between
                    passed += b"" if between[2] == PUBLISHING else between
    for largest in (1, 3, 50, 1_000, 100_000):
        taken = Taken()
        start = 0
        while start < len(data):
            size = chance.randint(1, largest)
            taken.reader.feed_data(data[start : start + size])
            start += size
        assert [(tag, body) for tag, _, _, _, body in taken.deliveries] == list(
            enumerate(deliveries)
        )
        assert [headers for _, _, _, headers, _ in taken.deliveries] == [
            {"n": tag} for tag in range(len(deliveries))
        ]
        assert await taken.passed() == passed


async def test_a_message_that_is_broken_off_is_none(taken: Taken) -> None:
    close = wire(CONSUMING, Channel.Close(406, "PRECONDITION_FAILED", 0, 0))
    begun = deliver(1, b"abcdef", pieces=2)[:-1]
    taken.reader.feed_data(wire(CONSUMING, *begun) + close + wire(CONSUMING, *deliver(2, b"x")))
    assert [tag for tag, *_ in taken.deliveries] == [2]
    assert await taken.passed() == close


async def test_a_later_tap_takes_the_place_of_the_one_before(taken: Taken) -> None:
    later: list[Delivered] = []
    taken.reader.tap(CONSUMING, tap_into(later))
    taken.reader.feed_data(wire(CONSUMING, *deliver(1, b"x")))
    assert (len(later), taken.deliveries) == (1, [])


async def test_headers_that_cannot_be_read_are_none(taken: Taken) -> None:
    good = wire(CONSUMING, *deliver(1, b"x", headers={"key": 1}))
    taken.reader.feed_data(good.replace(b"key", b"\xff\xfe\xfd") + good)
    assert [headers for _, _, _, headers, _ in taken.deliveries] == [{}, {"key": 1}]


async def test_a_method_that_cannot_be_read_is_the_end_of_the_connection(taken: Taken) -> None:
    cut = b"\x00\x3c\x00\x3c\x20"
    frame = b"\x01" + CONSUMING.to_bytes(2) + len(cut).to_bytes(4) + cut + b"\xce"
    with pytest.raises(ConnectionError, match="cannot be read"):
        taken.reader.feed_data(frame)


async def test_the_end_may_be_told_twice(taken: Taken) -> None:
    """As a transport does: the other side has ended, then the connection is lost."""
    taken.reader.feed_data(wire(OTHER, Basic.Ack(1))[:5])
    taken.reader.feed_eof()
    taken.reader.feed_eof()
    assert await taken.reader.read() == wire(OTHER, Basic.Ack(1))[:5]


async def test_a_peer_that_goes_away_in_good_order_is_noticed() -> None:
    async def leave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(wire(0, Heartbeat()))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(leave, "127.0.0.1", 0)
    transport = TappedTransport()
    url = URL.build(scheme="amqp", host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    async with server, asyncio.timeout(30):
        reader, writer = await transport.create(url, ssl_context_provider=None)
        assert await reader.read() == wire(0, Heartbeat())
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    "wrong",
    [
        b"AMQP\x00\x00\x09\x01",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        wire(CONSUMING, Basic.Cancel("c"))[:-1] + b"\x00" + wire(0, Heartbeat()),
    ],
)
async def test_what_is_not_amqp_is_the_librarys_to_refuse(taken: Taken, wrong: bytes) -> None:
    start = wire(0, Connection.OpenOk())
    taken.reader.feed_data(start + wrong[:5])
    taken.reader.feed_data(wrong[5:])
    taken.reader.feed_data(wire(CONSUMING, *deliver(1, b"x")))
    assert taken.deliveries == []
    assert await taken.passed() == start + wrong + wire(CONSUMING, *deliver(1, b"x"))


async def test_half_a_frame_at_the_end_is_passed_on(taken: Taken) -> None:
    half = wire(CONSUMING, *deliver(1, b"x"))[:20]
    taken.reader.feed_data(half)
    assert await taken.passed() == half


async def test_a_connection_that_only_delivers_is_seen_to_be_alive(taken: Taken) -> None:
    """Or aiormq would close it after some time without heartbeats."""
    taken.reader.feed_data(wire(CONSUMING, *deliver(1, b"x")))
    taken.now += 1.5
    taken.reader.feed_data(wire(CONSUMING, *deliver(2, b"x")))
    taken.reader.feed_data(wire(CONSUMING, *deliver(3, b"x")))
    assert [tag for tag, *_ in taken.deliveries] == [1, 2, 3]
    assert await taken.passed() == HEARTBEAT == wire(0, Heartbeat())
