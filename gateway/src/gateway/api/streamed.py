"""Responses whose bytes come bit by bit, and answers to bodies that nobody wants to read."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Final

import httpx
from service_kit.http import ProblemError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

log = logging.getLogger(__name__)

# A client that takes nothing for so long is gone.
_SEND_TIMEOUT: Final = 30.0
_LINGER: Final = 5.0


class Streamed(Response):
    """Sends `chunks` as they come, until they end or the client goes away; then calls `close`.

    Unlike the framework's own, `close` is called and the generator is closed in every case, and
    an error in the middle leaves the answer visibly incomplete.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[bytes],
        *,
        media_type: str,
        headers: Mapping[str, str],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(media_type=media_type, headers=headers)
        # Its length is not known.
        del self.headers["content-length"]
        self._chunks = chunks
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        writing = asyncio.create_task(self._write(send), name=f"stream {scope['path']}")
        leaving = asyncio.create_task(_disconnect(receive))
        try:
            await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            writing.cancel()
            leaving.cancel()
            await asyncio.gather(writing, leaving, return_exceptions=True)
            await self._chunks.aclose()
            await self._close()
        if not writing.cancelled() and (error := writing.exception()) is not None:
            raise error

    async def _write(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        try:
            async for chunk in self._chunks:
                async with asyncio.timeout(_SEND_TIMEOUT):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except (httpx.HTTPError, TimeoutError) as error:
            # The server closes the connection, so the client sees that the end is missing.
            log.warning("a streamed answer broke off", extra={"error": repr(error)})
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Refusal(Response):
    """A problem in answer to a body that is still arriving.

    It is sent at once. Then what arrives from `unread` (None: nothing more) is thrown away for a
    moment before the connection closes, because closing over unread bytes takes the answer away
    from a client that is still sending.
    """

    def __init__(self, problem: ProblemError, unread: Receive | None) -> None:
        response = problem.response()
        super().__init__(response.body, status_code=response.status_code)
        self.raw_headers = [*response.raw_headers, (b"connection", b"close")]
        self._unread = unread

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        if self._unread is not None:
            await _throw_away(self._unread)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _throw_away(receive: Receive) -> None:
    deadline = time.monotonic() + _LINGER
    try:
        async with asyncio.timeout(_LINGER):
            while time.monotonic() < deadline:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        pass


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
