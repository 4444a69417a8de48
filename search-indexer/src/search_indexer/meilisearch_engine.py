"""The search engine for production: Meilisearch, through its Python SDK.

Writes in Meilisearch are tasks that succeed or fail later, so each is followed to its end before
the change counts as done. What is asked of it is in `meilisearch_search`.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from httpx2 import HTTPError
from meilisearch_python_sdk import AsyncClient, AsyncIndex
from meilisearch_python_sdk.errors import (
    MeilisearchApiError,
    MeilisearchError,
)
from meilisearch_python_sdk.models.task import TaskInfo
from service_kit import Outage

from search_indexer.documents import Document, Trend
from search_indexer.engine import (
    ChangeRefusedError,
    SearchRequest,
    SearchResult,
    Suggestions,
)
from search_indexer.folding import bare_title, fold
from search_indexer.meilisearch_search import SETTINGS, complete, find

NAME: Final = "Meilisearch"

_REQUEST_TIMEOUT: Final = 10


class MeilisearchEngine:
    """One index of a Meilisearch server. Create it within the event loop that it is used in.

    Args:
        url: where the server listens, such as `http://127.0.0.1:7700`.
        key: an API key with the rights to search, write documents, settings and indexes, and read
            tasks; None for a server without keys.
        index: the uid of the index, made when it does not exist.
        task_timeout: seconds that a write may take before it counts as an outage.
    """

    def __init__(
        self, *, url: str, key: str | None, index: str = "movies", task_timeout: float = 60.0
    ) -> None:
        self._client = AsyncClient(url, key, timeout=_REQUEST_TIMEOUT)
        self._uid = index
        self._index = self._client.index(index)
        self._task_timeout = task_timeout

    async def ensure_ready(self) -> str:
        """Creates the index and sets it up where needed; returns when it was created."""
        async with _outages():
            info = await self._get_or_create()
            if info.created_at is None:
                raise Outage(NAME, f"the index {self._uid!r} has no date of creation")
            wanted = SETTINGS.model_dump(by_alias=True, exclude_none=True)
            current = (await self._index.get_settings()).model_dump(by_alias=True)
            if not _includes(current, wanted):
                await self._finish(await self._index.update_settings(SETTINGS))
            return info.created_at.isoformat()

    async def search(self, request: SearchRequest) -> SearchResult:
        """The films that fit, best first; equally good ones by trend."""
        async with _outages():
            return await find(self._index, request)

    async def suggest(self, prefix: str, limit: int) -> Suggestions:
        """Titles and people that begin so, likeliest first."""
        async with _outages():
            return await complete(self._index, prefix, limit)

    async def index(self, documents: Sequence[tuple[Document, Trend | None]]) -> None:
        """Adds documents, or replaces them whole."""
        await self._write_documents([_fields_of(*pair) for pair in documents])

    async def remove(self, movie_ids: Sequence[str]) -> None:
        """Takes documents out; unknown ones are no error."""
        async with _outages():
            await self._finish(await self._index.delete_documents(list(movie_ids)))

    async def update_trends(self, trends: Sequence[Trend]) -> None:
        """Changes the trend of documents that are there; others are left out, not created."""
        fields = [{"movie_id": trend.movie_id, **_trend_fields(trend)} for trend in trends]
        async with _outages():
            await self._finish(await self._index.update_documents(fields, skip_creation=True))

    async def drop(self) -> None:
        """Deletes the index, if there is one."""
        async with _outages():
            await self._client.delete_index_if_exists(self._uid)

    async def health(self) -> None:
        """Returns when the server answers."""
        async with _outages():
            await self._client.health()

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def _get_or_create(self) -> AsyncIndex:
        try:
            return await self._client.get_index(self._uid)
        except MeilisearchApiError as error:
            if error.code != "index_not_found":
                raise
        timeout = int(self._task_timeout * 1000)
        return await self._client.create_index(self._uid, "movie_id", timeout_in_ms=timeout)

    async def _write_documents(self, fields: Sequence[dict[str, Any]]) -> None:
        async with _outages():
            await self._finish(await self._index.add_documents(fields))

    async def _finish(self, task: TaskInfo) -> None:
        """Waits until a task has ended well."""
        deadline = time.monotonic() + self._task_timeout
        pause = 0.005
        while True:
            result = await self._client.get_task(task.task_uid)
            if result.status == "succeeded":
                return
            if result.status in {"failed", "canceled"}:
                error = result.error or {}
                reason = f"task {task.task_uid} {result.status}: {error.get('message', '')}"
                if error.get("type") == "invalid_request":
                    raise ChangeRefusedError(NAME, reason)
                raise Outage(NAME, reason)
            if time.monotonic() > deadline:
                raise Outage(NAME, f"task {task.task_uid} is still {result.status}")
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.5)


@asynccontextmanager
async def _outages() -> AsyncGenerator[None]:
    try:
        yield
    except MeilisearchApiError as error:
        # 4xx other than these says that the request is wrong, whoever repeats it.
        passing = error.status_code in {401, 403, 404, 408, 429} or error.status_code >= 500
        if passing:
            raise Outage(NAME, str(error)) from error
        raise ChangeRefusedError(NAME, str(error)) from error
    except (MeilisearchError, HTTPError) as error:
        raise Outage(NAME, str(error)) from error


def _includes(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether settings are as wanted; a server may have more of them than this program knows."""
    for key, value in wanted.items():
        if isinstance(value, Mapping):
            inner = cast("Mapping[str, Any]", value)
            if not _includes(current.get(key) or {}, inner):
                return False
        elif current.get(key) != value:
            return False
    return True


def _fields_of(document: Document, trend: Trend | None) -> dict[str, Any]:
    return {
        "movie_id": document.movie_id,
        "revision": document.revision,
        "tmdb_id": document.tmdb_id,
        "imdb_id": document.imdb_id,
        "title": document.title,
        "bare_title": bare_title(document.title),
        "original_title": document.original_title,
        "original_language": document.original_language,
        "overview": document.overview,
        "people": document.people,
        "keywords": document.keywords,
        "genres": document.genres,
        "genre_keys": [fold(genre) for genre in document.genres],
        "release_date": document.release_date.isoformat() if document.release_date else None,
        "year": document.year,
        "decade": document.decade,
        "vote_average": document.vote_average,
        "vote_count": document.vote_count,
        "popularity": document.popularity,
        "poster_path": document.poster_path,
        **(_trend_fields(trend) if trend else {}),
    }


def _trend_fields(trend: Trend) -> dict[str, Any]:
    return {
        "final_trend_score": trend.score,
        "rank_key": trend.rank_key,
        "views": trend.views,
    }
