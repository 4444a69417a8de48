"""Everything that is published, seen beside the queues that it is for."""

import json
import time
import uuid
from dataclasses import dataclass
from typing import Any, Self, cast

import pika
from pika.adapters.blocking_connection import BlockingChannel

TAP = "tap-"
_MARKER = "tap.marker."
EXCHANGES = ("moviemetric.events", "moviemetric.commands")


@dataclass(frozen=True)
class Published:
    """A message, as it was published."""

    exchange: str
    routing_key: str
    body: dict[str, Any]


class Tap:
    """A queue of its own, bound to both exchanges from entering to leaving; by default to all."""

    def __init__(self, amqp_url: str, *keys: str) -> None:
        self._url = amqp_url
        self._keys = (*(keys or ("#",)), f"{_MARKER}*")

    def __enter__(self) -> Self:
        """Begin."""
        self._connection = pika.BlockingConnection(pika.URLParameters(self._url))
        self._channel: BlockingChannel = self._connection.channel()
        self._queue = f"{TAP}{uuid.uuid4().hex}"
        self._channel.queue_declare(self._queue, exclusive=True)
        for exchange in EXCHANGES:
            for key in self._keys:
                self._channel.queue_bind(self._queue, exchange, key)
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._connection.close()

    def taken(self, seconds: float = 10.0) -> list[Published]:
        """What has been published since the last time, up to a marker that is published now."""
        marker = f"{_MARKER}{uuid.uuid4().hex}"
        self._channel.basic_publish(EXCHANGES[0], marker, b"{}")
        found: list[Published] = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            method, _, body = cast("Any", self._channel).basic_get(self._queue, auto_ack=True)
            if method is None:
                time.sleep(0.02)
            elif method.routing_key == marker:
                return found
            else:
                found.append(Published(method.exchange, method.routing_key, json.loads(body)))
        msg = "the tap's own marker did not come"
        raise AssertionError(msg)
