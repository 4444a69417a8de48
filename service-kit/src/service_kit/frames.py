"""What arrives on a channel, taken in the call that hands over its last frame.

aiormq puts each frame into a queue for a task of the channel, which gathers method, header and body
and starts a task for each message: most of what receiving costs. `TappedFrames` takes the queue's
place; what it is not asked for goes on to the queue.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from pamqp.body import ContentBody
from pamqp.header import ContentHeader

# So many frames are taken in one turn of the event loop at most.
_TURN: Final = 64

OnMethod = Callable[[Any], None]
OnContent = Callable[[Any, ContentHeader, bytes], None]


class TappedFrames:
    """Stands where a channel keeps its queue of frames, which only the connection fills.

    Args:
        queue: the channel's own.
        methods: by type of method, what takes one.
        contents: by type of method, what takes one with the header and the body that follow it.

    What takes them must not raise, or the connection ends.
    """

    def __init__(
        self,
        queue: "asyncio.Queue[Any]",
        *,
        methods: Mapping[type, OnMethod] | None = None,
        contents: Mapping[type, OnContent] | None = None,
    ) -> None:
        self._queue = queue
        self._methods = methods or {}
        self._contents = contents or {}
        self._method: Any = None
        self._header: ContentHeader | None = None
        self._parts: list[bytes] = []
        self._missing = 0
        self._taken = 0

    async def put(self, item: tuple[int, Any]) -> None:
        """Take a frame, with its weight before it."""
        frame = item[1]
        kind: type[object] = frame.__class__
        if self._method is not None and kind in {ContentHeader, ContentBody}:
            self._gather(frame)
        elif kind in self._contents:
            self._begin(frame)
        elif (take := self._methods.get(kind)) is not None:
            take(frame)
        else:
            # Whatever else comes, such as the channel's end, ends a message that is not whole.
            self._begin(None)
            await self._queue.put(item)
            return
        self._taken += 1
        if self._taken % _TURN == 0:
            await asyncio.sleep(0)

    def _begin(self, method: Any) -> None:
        self._method, self._header, self._parts = method, None, []

    def _gather(self, frame: Any) -> None:
        if isinstance(frame, ContentHeader):
            self._header = frame
            self._missing = frame.body_size
        else:
            self._parts.append(frame.value)
            self._missing -= len(frame.value)
        if self._header is not None and self._missing <= 0:
            method, header, parts = self._method, self._header, self._parts
            self._begin(None)
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            self._contents[method.__class__](method, header, body)

    async def get(self) -> Any:
        """What was passed on, for the channel's task."""
        return await self._queue.get()

    def task_done(self) -> None:
        """As of a queue."""
        self._queue.task_done()
