"""Copies messages out of the queues of a RabbitMQ server, and puts them into those of another.

A line of the file is one message: `{"queue", "headers", "properties", "body"}`, the body in base64.
Messages that wait for another attempt are written down for the queue that they would return to.

A message is read by taking it without acknowledging it, so it goes back to its place whatever
happens. RabbitMQ counts that as a delivery. Work queues allow 50 of them. Queues of parked messages
set no limit of their own, and RabbitMQ 4 would delete a message at the twentieth, so a policy sets
a high one for them.
"""

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, DeliveryMode

from local_stack.dump.errors import DumpError
from local_stack.servers import RabbitServer

_DELAYS: Final = "moviemetric.delay."
_PARKED: Final = ".dead"
# Where a message was first published, as the services write and read it.
_EXCHANGE: Final = "x-original-exchange"
_ROUTING_KEY: Final = "x-original-routing-key"
# Set by the server at each delivery.
_COUNTERS: Final = frozenset({"x-delivery-count", "x-acquired-count"})
_PROPERTIES: Final = ("content_type", "content_encoding", "correlation_id", "type", "app_id")
_IN_FLIGHT: Final = 200
_MANY_DELIVERIES: Final = 1_000_000


def queue_names(server: RabbitServer) -> list[str]:
    """The durable queues: first those of waiting messages, then work queues, then parked messages.

    In this order no message gets past a reader: that is the way in which they move.
    """
    with server.management(timeout=30.0) as client:
        answer = client.get("/api/queues/%2F", params={"columns": "name,durable,exclusive"})
        answer.raise_for_status()
        queues = cast("list[dict[str, Any]]", answer.json())
    names = [str(queue["name"]) for queue in queues if queue["durable"] and not queue["exclusive"]]
    return sorted(names, key=lambda name: (name.endswith(_PARKED), not _waits(name), name))


def unfinished_work(server: RabbitServer, services: Collection[str]) -> int:
    """How many messages wait in the work queues of these services."""
    names = [
        name
        for name in queue_names(server)
        if name.partition(".")[0] in services and not name.endswith(_PARKED)
    ]
    return sum(asyncio.run(_depths(server.url, names)).values())


def depths(server: RabbitServer) -> dict[str, int]:
    """How many messages each queue holds that nobody has taken."""
    return asyncio.run(_depths(server.url, queue_names(server)))


def copy_messages(server: RabbitServer, file: Path) -> dict[str, int]:
    """Write all messages to a file and leave them where they are; returns how many, by queue."""
    _keep_parked_messages(server)
    return asyncio.run(_copy(server.url, queue_names(server), file))


def publish_messages(server: RabbitServer, file: Path, renamed: tuple[str, str]) -> list[str]:
    """Put the messages of a file into their queues.

    `renamed`: what the addresses of uploads begin with, before and now. Returns the queues that did
    not exist. They are made, so that their messages are kept, but no service reads them.
    """
    missing = sorted(_queues_in(file) - set(queue_names(server)))
    with server.management() as client:
        for name in missing:
            body = {"durable": True, "arguments": {"x-queue-type": "quorum"}}
            client.put(f"/api/queues/%2F/{quote(name, safe='')}", json=body).raise_for_status()
    asyncio.run(_publish(server.url, file, renamed))
    return missing


def _waits(queue: str) -> bool:
    return queue.startswith(_DELAYS)


def _keep_parked_messages(server: RabbitServer) -> None:
    policy = {
        "pattern": r"\.dead$",
        "apply-to": "queues",
        "priority": -1,
        "definition": {"delivery-limit": _MANY_DELIVERIES},
    }
    with server.management() as client:
        client.put("/api/policies/%2F/keep-parked-messages", json=policy).raise_for_status()


def _queues_in(file: Path) -> set[str]:
    with file.open(encoding="utf-8") as lines:
        return {str(json.loads(line)["queue"]) for line in lines}


async def _depths(url: str, names: Sequence[str]) -> dict[str, int]:
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        return {name: await _depth(channel, name) for name in names}


async def _depth(channel: AbstractChannel, queue: str) -> int:
    declared = await channel.declare_queue(queue, passive=True)
    return declared.declaration_result.message_count or 0


async def _copy(url: str, names: Sequence[str], file: Path) -> dict[str, int]:
    counts: Counter[str] = Counter()
    with file.open("w", encoding="utf-8") as lines:
        async with await aio_pika.connect(url) as connection:
            for name in names:
                # closing the channel gives everything back
                async with connection.channel() as channel:
                    queue = await channel.declare_queue(name, passive=True)
                    for _ in range(queue.declaration_result.message_count or 0):
                        message = await queue.get(no_ack=False, fail=False)
                        if message is None:
                            break
                        line = _line_of(name, message)
                        counts[line["queue"]] += 1
                        lines.write(json.dumps(line) + "\n")
    return dict(counts)


def _line_of(queue: str, message: AbstractIncomingMessage) -> dict[str, Any]:
    headers = {
        key: to_json(value) for key, value in message.headers.items() if key not in _COUNTERS
    }
    if not queue.endswith(_PARKED):
        headers.setdefault(_EXCHANGE, message.exchange or "")
        headers.setdefault(_ROUTING_KEY, message.routing_key or "")
    properties = {name: getattr(message, name) for name in _PROPERTIES}
    return {
        "queue": (message.routing_key or queue) if _waits(queue) else queue,
        "headers": headers,
        "properties": {name: value for name, value in properties.items() if value is not None},
        "body": base64.b64encode(message.body).decode(),
    }


async def _publish(url: str, file: Path, renamed: tuple[str, str]) -> None:
    async with (
        await aio_pika.connect(url) as connection,
        connection.channel(publisher_confirms=True, on_return_raises=True) as channel,
    ):
        with file.open(encoding="utf-8") as lines:
            batch: list[str] = []
            for line in lines:
                batch.append(line)
                if len(batch) == _IN_FLIGHT:
                    await _publish_lines(channel, batch, renamed)
                    batch.clear()
            await _publish_lines(channel, batch, renamed)


async def _publish_lines(
    channel: AbstractChannel, lines: Sequence[str], renamed: tuple[str, str]
) -> None:
    publishing: list[Any] = []
    for text in lines:
        line = cast("dict[str, Any]", json.loads(text))
        message = aio_pika.Message(
            with_address(base64.b64decode(line["body"]), renamed),
            headers={key: from_json(value) for key, value in line["headers"].items()},
            delivery_mode=DeliveryMode.PERSISTENT,
            message_id=uuid4().hex,
            **line["properties"],
        )
        publishing.append(channel.default_exchange.publish(message, line["queue"], timeout=30.0))
    for result in await asyncio.gather(*publishing, return_exceptions=True):
        if isinstance(result, BaseException):
            raise DumpError(f"RabbitMQ did not take a message of the dump: {result!r}")


def with_address(body: bytes, renamed: tuple[str, str]) -> bytes:
    """The body of an event, with the address of an upload as it is now."""
    before, now = renamed
    try:
        event = json.loads(body)
        address = event["data"]["uri"]
    except (ValueError, TypeError, LookupError):
        return body
    if before == now or not isinstance(address, str) or not address.startswith(before):
        return body
    event["data"]["uri"] = now + address.removeprefix(before)
    return json.dumps(event, ensure_ascii=False).encode()


def to_json(value: object) -> object:
    """A header's value as JSON has it."""
    match value:
        case bytes():
            return {"bytes": base64.b64encode(value).decode()}
        case datetime():
            moment = value if value.tzinfo else value.replace(tzinfo=UTC)
            return {"time": moment.isoformat()}
        case Mapping():
            table = cast("Mapping[str, object]", value)
            return {"table": {key: to_json(inner) for key, inner in table.items()}}
        case list() | tuple():
            return [to_json(inner) for inner in cast("Sequence[object]", value)]
        case str() | bool() | int() | float() | None:
            return value
        case _:
            return str(value)


def from_json(plain: Any) -> Any:
    """What `to_json` was given."""
    match plain:
        case {"bytes": str(text)}:
            return base64.b64decode(text)
        case {"time": str(text)}:
            return datetime.fromisoformat(text)
        case {"table": dict()}:
            return {key: from_json(inner) for key, inner in plain["table"].items()}
        case list():
            return [from_json(inner) for inner in cast("list[object]", plain)]
        case _:
            return plain
