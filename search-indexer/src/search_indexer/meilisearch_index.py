"""The index in Meilisearch: created, configured, written to, compared, and replaced by another.

A rebuild fills a second index, `<index>-next`, with settings of its own, and swaps the two: from
one search to the next the name means the new one. Swapping twice would bring the old one back, so
whoever goes on with a rebuild waits until a swap that is still to come has ended before looking
which index it finds under the name; an index is known by its date of creation, which moves with it.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from meilisearch_python_sdk import AsyncClient, AsyncIndex
from meilisearch_python_sdk.errors import MeilisearchApiError
from meilisearch_python_sdk.models.settings import MeilisearchSettings
from meilisearch_python_sdk.models.task import TaskInfo
from service_kit import Outage

from search_indexer.documents import Document, Figures, Ratings, Stamp, Trend
from search_indexer.engine import DocumentIndex
from search_indexer.folding import bare_title, fold
from search_indexer.meilisearch_calls import NAME, connect, finish, outages
from search_indexer.meilisearch_keys import ensure_keys, indexing_key, search_key
from search_indexer.meilisearch_search import SETTINGS

logger = logging.getLogger(__name__)

_KEY: Final = "movie_id"
# Settings whose order says nothing; the server gives them back in its own.
_SETS: Final = frozenset({"filterableAttributes", "sortableAttributes", "stopWords"})
_STAMP: Final = ["movie_id", "revision", "trend_revision", "ratings_revision"]


class MeilisearchIndex:
    """One index of a Meilisearch server. Create it within the event loop that it is used in.

    Args:
        url: where the server listens, such as `http://127.0.0.1:7700`.
        key: one with `meilisearch_keys.INDEXING`, or the master key; None for a server without.
        index: the uid of the index, made when it does not exist.
        master_key: where it is known, the keys of this service are made with it when they are
            missing.
        settings: of the index.
        task_timeout: seconds that a write may take before it counts as an outage.
    """

    def __init__(
        self,
        *,
        url: str,
        key: str | None,
        index: str = "movies",
        master_key: str | None = None,
        settings: MeilisearchSettings = SETTINGS,
        task_timeout: float = 60.0,
    ) -> None:
        self._url = url
        self._master_key = master_key
        self._settings = settings
        self._client = connect(url, key)
        self._uid = index
        self._live = _Documents(self._client, index, settings, task_timeout)
        self._next = _Documents(self._client, f"{index}-next", settings, task_timeout)
        self._task_timeout = task_timeout

    async def ensure_ready(self) -> str:
        """Creates the keys and the index and sets it up where needed; when it was created."""
        try:
            return await self._live.ensure_ready()
        except Outage as outage:
            cause = outage.__cause__
            refused = isinstance(cause, MeilisearchApiError) and cause.code == "invalid_api_key"
            if not (refused and self._master_key):
                raise
        await self.ensure_keys()
        return await self._live.ensure_ready()

    async def ensure_keys(self) -> None:
        """Makes this service's keys with the master key; nothing where that is not known."""
        if not self._master_key:
            return
        specs = (search_key(self._uid), indexing_key(self._uid))
        async with connect(self._url, self._master_key) as client:
            await ensure_keys(client, specs)

    async def identity(self) -> str | None:
        """When the index was created; None while there is none."""
        return await self._live.identity()

    async def index(self, documents: Sequence[tuple[Document, Figures]]) -> None:
        """Adds documents, or replaces them whole."""
        await self._live.index(documents)

    async def remove(self, movie_ids: Sequence[str]) -> None:
        """Takes documents out; unknown ones are no error."""
        await self._live.remove(movie_ids)

    async def update_figures(self, figures: Sequence[tuple[str, Figures]]) -> None:
        """Changes figures of documents that are there; others are left out, not created."""
        await self._live.update_figures(figures)

    async def apply(
        self,
        *,
        removed: Sequence[str],
        documents: Sequence[tuple[Document, Figures]],
        figures: Sequence[tuple[str, Figures]],
    ) -> None:
        """All three in one go, about different films."""
        await self._live.apply(removed=removed, documents=documents, figures=figures)

    async def count(self) -> int:
        """How many documents there are."""
        return await self._live.count()

    async def stamps(self, movie_ids: Sequence[str]) -> dict[str, Stamp]:
        """Which state of these films the index holds; those it does not hold are left out."""
        return await self._live.stamps(movie_ids)

    async def page_of_ids(self, offset: int, limit: int) -> list[str]:
        """Keys of the documents, in an order of the index's own."""
        return await self._live.page_of_ids(offset, limit)

    async def drop(self) -> None:
        """Deletes the index, if there is one."""
        await self._live.drop()

    def successor(self) -> DocumentIndex:
        """The index that a rebuild fills."""
        return self._next

    async def swap_in_successor(self, identity: str) -> None:
        """Puts the successor in this index's place, unless the index has this identity already."""
        if await self._live.identity_once_settled() == identity:
            return
        if await self._next.identity() != identity:
            raise Outage(NAME, f"the index {self._uid}-next is not the one that was filled")
        async with outages():
            await self._client.swap_indexes([(self._uid, f"{self._uid}-next")])
        if await self._live.identity_once_settled() != identity:
            raise Outage(NAME, f"the index {self._uid} was not replaced")

    async def health(self) -> None:
        """Returns when the server answers."""
        async with outages():
            await self._client.health()

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()


class _Documents:
    """The documents of one index."""

    def __init__(
        self, client: AsyncClient, uid: str, settings: MeilisearchSettings, task_timeout: float
    ) -> None:
        self._client = client
        self._uid = uid
        self._index = client.index(uid)
        self._settings = settings
        self._task_timeout = task_timeout

    async def ensure_ready(self) -> str:
        async with outages():
            identity = await self.identity() or await self._create()
            wanted = self._settings.model_dump(by_alias=True, exclude_none=True)
            current = (await self._index.get_settings()).model_dump(by_alias=True)
            if not includes(current, wanted):
                await self._finish(await self._index.update_settings(self._settings))
            return identity

    async def identity(self) -> str | None:
        async with outages():
            try:
                info = await self._client.get_index(self._uid)
            except MeilisearchApiError as error:
                if error.code != "index_not_found":
                    raise
                return None
        return _identity_of(info)

    async def identity_once_settled(self) -> str | None:
        """The identity when everything has ended that was asked for until now.

        A key that is for some indexes only cannot look at the task of a swap. But tasks end in the
        order in which they were asked for, so when one that changes nothing has ended, all have.
        """
        async with outages():
            await self._finish(await self._index.delete_documents([]))
        return await self.identity()

    async def index(self, documents: Sequence[tuple[Document, Figures]]) -> None:
        await self.apply(removed=(), documents=documents, figures=())

    async def remove(self, movie_ids: Sequence[str]) -> None:
        await self.apply(removed=movie_ids, documents=(), figures=())

    async def update_figures(self, figures: Sequence[tuple[str, Figures]]) -> None:
        await self.apply(removed=(), documents=(), figures=figures)

    async def apply(
        self,
        *,
        removed: Sequence[str],
        documents: Sequence[tuple[Document, Figures]],
        figures: Sequence[tuple[str, Figures]],
    ) -> None:
        # All are asked for before the first is waited for: together they are one batch there, and
        # every batch takes as long as a hundred documents do.
        tasks: list[TaskInfo] = []
        async with outages():
            if removed:
                tasks.append(await self._index.delete_documents(list(removed)))
            if documents:
                fields = [_fields_of(document, known) for document, known in documents]
                tasks.append(await self._index.add_documents(fields, _KEY))
            if figures:
                parts = [{"movie_id": key, **_figure_fields(known)} for key, known in figures]
                tasks.append(await self._index.update_documents(parts, _KEY, skip_creation=True))
            for task in tasks:
                await self._finish(task)

    async def count(self) -> int:
        async with outages():
            return (await self._index.get_stats()).number_of_documents

    async def stamps(self, movie_ids: Sequence[str]) -> dict[str, Stamp]:
        if not movie_ids:
            return {}
        async with outages():
            found = await self._index.get_documents(
                ids=list(movie_ids), limit=len(movie_ids), fields=_STAMP
            )
        return {
            row["movie_id"]: Stamp(
                revision=row.get("revision") or 0,
                trend_revision=row.get("trend_revision") or 0,
                ratings_revision=row.get("ratings_revision") or 0,
            )
            for row in found.results
        }

    async def page_of_ids(self, offset: int, limit: int) -> list[str]:
        async with outages():
            found = await self._index.get_documents(offset=offset, limit=limit, fields=["movie_id"])
        return [row["movie_id"] for row in found.results]

    async def drop(self) -> None:
        async with outages():
            await self._client.delete_index_if_exists(self._uid)
        # It says the same of a deletion that failed and of one that was not needed.
        if await self.identity() is not None:
            raise Outage(NAME, f"the index {self._uid!r} could not be deleted")

    async def _create(self) -> str:
        timeout = int(self._task_timeout * 1000)
        created = await self._client.create_index(self._uid, _KEY, timeout_in_ms=timeout)
        return _identity_of(created)

    async def _finish(self, task: TaskInfo) -> None:
        await finish(self._client, task, within=self._task_timeout)


def _identity_of(index: AsyncIndex) -> str:
    if index.created_at is None:
        raise Outage(NAME, f"the index {index.uid!r} has no date of creation")
    return index.created_at.isoformat()


def includes(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether settings are as wanted; a server may have more of them than this program knows.

    If it said no where nothing differs, every look at the index would index all of it anew.
    """
    for key, value in wanted.items():
        if isinstance(value, Mapping):
            inner = cast("Mapping[str, Any]", value)
            if not includes(current.get(key) or {}, inner):
                return False
        elif key in _SETS:
            if set(current.get(key) or ()) != set(value):
                return False
        elif current.get(key) != value:
            return False
    return True


def _fields_of(document: Document, figures: Figures) -> dict[str, Any]:
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
        **_figure_fields(figures),
    }


def _figure_fields(figures: Figures) -> dict[str, Any]:
    return {**_trend_fields(figures.trend), **_ratings_fields(figures.ratings)}


def _trend_fields(trend: Trend | None) -> dict[str, Any]:
    if trend is None:
        return {}
    return {
        "trend_revision": trend.revision,
        "final_trend_score": trend.score,
        "rank_key": trend.rank_key,
        "views": trend.views,
    }


def _ratings_fields(ratings: Ratings | None) -> dict[str, Any]:
    if ratings is None:
        return {}
    return {
        "ratings_revision": ratings.revision,
        "local_ratings": ratings.count,
        "local_mean": ratings.mean,
    }
