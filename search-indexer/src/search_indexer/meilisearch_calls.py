"""What every call to Meilisearch has in common: its client, which errors pass, how tasks end.

Writes in Meilisearch are tasks that succeed or fail after they were accepted, so each is followed
to its end before a change counts as done.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from httpx2 import HTTPError
from meilisearch_python_sdk import AsyncClient
from meilisearch_python_sdk.errors import MeilisearchApiError, MeilisearchError
from meilisearch_python_sdk.models.task import TaskInfo
from service_kit import Outage

from search_indexer.engine import ChangeRefusedError

NAME: Final = "Meilisearch"

_REQUEST_TIMEOUT: Final = 10
_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 0.5


def connect(url: str, key: str | None) -> AsyncClient:
    """A client of the server at `url`; its answers come uncompressed.

    What it compresses Meilisearch sends in two parts, the second of which waits (Nagle's algorithm)
    until this side acknowledges the first, which takes Linux 40 ms: many times the search itself.
    """
    headers = {"Accept-Encoding": "identity"}
    return AsyncClient(url, key, timeout=_REQUEST_TIMEOUT, custom_headers=headers)


@asynccontextmanager
async def outages() -> AsyncGenerator[None]:
    """Turns what the SDK raises into what the service knows.

    Raises:
        Outage: it may work later, once the server is back or somebody has corrected a setting.
        ChangeRefusedError: the request is wrong, whoever repeats it.
    """
    try:
        yield
    except MeilisearchApiError as error:
        passing = error.status_code in {401, 403, 404, 408, 429} or error.status_code >= 500
        if passing:
            raise Outage(NAME, str(error)) from error
        raise ChangeRefusedError(NAME, str(error)) from error
    except (MeilisearchError, HTTPError) as error:
        raise Outage(NAME, str(error) or type(error).__name__) from error


async def finish(client: AsyncClient, task: TaskInfo, *, within: float) -> None:
    """Waits until a task has ended well.

    Args:
        within: seconds it may take.

    Raises:
        ChangeRefusedError: it failed because what it was given is wrong.
        Outage: it failed otherwise, was cancelled, or has not ended in time.
    """
    started = time.monotonic()
    while True:
        result = await client.get_task(task.task_uid)
        if result.status == "succeeded":
            return
        if result.status in {"failed", "canceled"}:
            error = result.error or {}
            reason = f"task {task.task_uid} {result.status}: {error.get('message', '')}"
            if error.get("type") == "invalid_request" and error.get("code") != "index_not_found":
                raise ChangeRefusedError(NAME, reason)
            raise Outage(NAME, reason)
        waited = time.monotonic() - started
        if waited > within:
            raise Outage(NAME, f"task {task.task_uid} is still {result.status}")
        # Soon after its end, however long it takes: the next changes wait for it.
        await asyncio.sleep(min(_LONGEST_PAUSE, max(_FIRST_PAUSE, waited / 10)))
