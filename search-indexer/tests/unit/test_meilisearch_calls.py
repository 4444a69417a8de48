"""What goes over the wire to Meilisearch."""

import asyncio

from search_indexer.meilisearch_engine import MeilisearchEngine


async def test_answers_are_asked_for_uncompressed() -> None:
    """A compressed answer comes in two parts, 40 ms apart."""
    requests: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        body = b'{"status": "available"}'
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        writer.write(head.encode() + b"\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        engine = MeilisearchEngine(url=f"http://127.0.0.1:{port}", key=None)
        await engine.health()
        await engine.close()
    [request] = requests
    headers = [line.lower() for line in request.split(b"\r\n")]
    assert [line for line in headers if line.startswith(b"accept-encoding")] == [
        b"accept-encoding: identity"
    ]
