"""What a channel's frames mean for those who wait for confirms, and the header of a message."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pamqp import frame as amqp_frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader
from service_kit import Unroutable
from service_kit.broker import Outgoing, PublishError
from service_kit.confirms import ConfirmChannel, header_frame
from service_kit.frames import TappedReader

MESSAGE = Outgoing("moviemetric.events", "movie.viewed.v1", b"{}")


class Channel:
    """As much of aiormq's channel as is used."""

    def __init__(self) -> None:
        self.number = 3
        self.reader = TappedReader(asyncio.get_running_loop())
        self.write_queue: asyncio.Queue[Any] = asyncio.Queue(maxsize=4)
        self.max_content_size = 131_064
        self.is_closed = False
        self.guard: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def create_future(self) -> asyncio.Future[Any]:
        return self.guard

    def receive(self, *frames: Any) -> None:
        self.reader.feed_data(b"".join(amqp_frame.marshal(frame, self.number) for frame in frames))

    async def written(self) -> list[Any]:
        await asyncio.sleep(0)
        data, found = b"".join(f.payload for f in drained(self.write_queue)), list[Any]()
        while data:
            size, _, frame = amqp_frame.unmarshal(data)
            found.append(frame)
            data = data[size:]
        return found


def drained(queue: "asyncio.Queue[Any]") -> list[Any]:
    return [queue.get_nowait() for _ in range(queue.qsize())]


@pytest.fixture
async def channel() -> Channel:
    return Channel()


@pytest.mark.parametrize("size", [0, 1, 70_000])
@pytest.mark.parametrize("content_type", ["application/cloudevents+json", "text/plain", "ä/ö"])
@pytest.mark.parametrize("headers", [{}, {"x-attempt": 2, "x-reason": "é"}])
def test_the_header_is_what_the_library_makes_of_it(
    size: int, content_type: str, headers: dict[str, Any]
) -> None:
    message = Outgoing("e", "k", b"x" * size, headers, content_type)
    properties = Basic.Properties(
        content_type=content_type, headers=headers or None, delivery_mode=2, message_id="id-7"
    )
    library = amqp_frame.marshal(ContentHeader(properties=properties, body_size=size), 9)
    assert header_frame(message, "id-7", 9) == library


def test_a_content_type_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="range"):
        header_frame(Outgoing("e", "k", b"", {}, "x" * 256), "id", 1)


async def test_what_is_published_in_one_turn_is_one_write(channel: Channel) -> None:
    confirms = ConfirmChannel(channel, channel.reader)
    for _ in range(3):
        confirms.publish(MESSAGE)
    await asyncio.sleep(0)
    assert channel.write_queue.qsize() == 1
    kinds = [frame.__class__.__name__ for frame in await channel.written()]
    assert kinds == ["Publish", "ContentHeader", "ContentBody"] * 3


Confirm = Callable[[], Any]


@pytest.mark.parametrize(
    ("frames", "settled"),
    [
        ([Basic.Ack(2)], [None, True, None, None]),
        ([Basic.Ack(3, multiple=True)], [True, True, True, None]),
        ([Basic.Ack(0, multiple=True)], [True, True, True, True]),
        ([Basic.Ack(9, multiple=True)], [True, True, True, True]),
        ([Basic.Nack(2)], [None, False, None, None]),
        ([Basic.Nack(2, multiple=True)], [False, False, None, None]),
        ([Basic.Ack(1), Basic.Ack(1), Basic.Nack(1), Basic.Ack(77)], [True, None, None, None]),
        ([Basic.Ack(2), Basic.Nack(3, multiple=True)], [False, True, False, None]),
    ],
)
async def test_confirms(channel: Channel, frames: list[Any], settled: list[bool | None]) -> None:
    confirms = ConfirmChannel(channel, channel.reader)
    waiting = [confirms.publish(MESSAGE) for _ in range(4)]
    await channel.written()
    channel.receive(*frames)
    assert [
        None if not future.done() else future.exception() is None for future in waiting
    ] == settled
    for future in waiting:
        if future.done() and (error := future.exception()):
            assert str(error) == "the broker refused the message"


async def test_a_returned_message_is_unroutable_though_it_is_confirmed(channel: Channel) -> None:
    confirms = ConfirmChannel(channel, channel.reader)
    first, second = confirms.publish(MESSAGE), confirms.publish(MESSAGE)
    ids = [
        frame.properties.message_id
        for frame in await channel.written()
        if isinstance(frame, ContentHeader)
    ]
    assert len(set(ids)) == 2
    header = ContentHeader(properties=Basic.Properties(message_id=ids[1]), body_size=2)
    channel.receive(
        Basic.Return(312, "NO_ROUTE", "e", "k"), header, ContentBody(b"{}"), Basic.Ack(2, True)
    )
    assert first.exception() is None
    assert isinstance(second.exception(), Unroutable)
    channel.reader.feed_eof()
    assert await channel.reader.read() == b""


async def test_who_waits_too_long_is_told_and_owes_nothing(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service_kit.confirms.MAX_UNCONFIRMED", 2)
    confirms = ConfirmChannel(channel, channel.reader)
    late = [confirms.publish(MESSAGE, 0.01) for _ in range(2)]
    refused = confirms.publish(MESSAGE)
    assert str(refused.exception()) == "the broker owes 2 confirms already"
    await asyncio.wait(late)
    assert {str(future.exception()) for future in late} == {"the broker did not confirm in time"}
    another = confirms.publish(MESSAGE)
    await channel.written()
    channel.receive(Basic.Ack(2, multiple=True))
    assert not another.done()
    channel.receive(Basic.Ack(3))
    assert another.exception() is None


@pytest.mark.parametrize("flushed", [True, False])
async def test_the_end_of_the_channel_is_told(channel: Channel, flushed: bool) -> None:
    confirms = ConfirmChannel(channel, channel.reader)
    waiting = confirms.publish(MESSAGE)
    if flushed:
        await channel.written()
    channel.is_closed = True
    channel.guard.set_exception(ConnectionResetError("gone"))
    await asyncio.wait([waiting])
    assert isinstance(waiting.exception(), PublishError)
    assert "the connection to the broker was lost" in str(waiting.exception())
    afterwards = confirms.publish(MESSAGE)
    await asyncio.wait([afterwards])
    assert isinstance(afterwards.exception(), PublishError)


async def test_a_socket_that_is_full_is_told(channel: Channel) -> None:
    confirms = ConfirmChannel(channel, channel.reader)
    for _ in range(4):
        confirms.publish(MESSAGE)
        await asyncio.sleep(0)
    full = confirms.publish(MESSAGE)
    await asyncio.sleep(0)
    assert str(full.exception()) == "the broker reads nothing"
