"""Deletes the search index in Meilisearch, so that search-indexer makes and fills a new one."""

from collections.abc import Mapping
from typing import Any, Final

import httpx

from local_stack.dump.errors import DumpError
from local_stack.processes import wait_for

_TASK_SECONDS: Final = 120.0
_ABSENT: Final = "index_not_found"


def delete_index(environ: Mapping[str, str]) -> None:
    """Delete the index that these settings of search-indexer name; none is fine.

    Raises DumpError, or httpx.HTTPError when the server is away or refuses.
    """
    key = environ.get("MEILISEARCH_KEY") or environ.get("MEILISEARCH_INDEX_KEY")
    index = environ.get("MEILISEARCH_INDEX") or "movies"
    with httpx.Client(
        base_url=environ.get("MEILISEARCH_URL") or "http://127.0.0.1:7700",
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=30.0,
        trust_env=False,
    ) as client:
        answer = client.delete(f"/indexes/{index}")
        if answer.status_code == 404:
            return
        number = answer.raise_for_status().json()["taskUid"]
        task: dict[str, Any] = {}

        def ended() -> bool:
            task.update(client.get(f"/tasks/{number}").raise_for_status().json())
            return task["status"] not in {"enqueued", "processing"}

        if not wait_for(ended, _TASK_SECONDS, every=0.1):
            raise DumpError(
                f"Meilisearch has not deleted the index {index} within {_TASK_SECONDS:.0f} s"
            )
        error: dict[str, Any] = task.get("error") or {}
        if task["status"] != "succeeded" and error.get("code") != _ABSENT:
            raise DumpError(
                f"Meilisearch did not delete the index {index}: {error.get('message', task)}"
            )
