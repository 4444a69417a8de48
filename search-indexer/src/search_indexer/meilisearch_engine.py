"""The search engine for production: Meilisearch, through its Python SDK.

What is asked of it is in `meilisearch_search`; its index is kept by `meilisearch_index`.
"""

from search_indexer.engine import SearchRequest, SearchResult, Suggestions
from search_indexer.meilisearch_calls import connect, outages
from search_indexer.meilisearch_search import complete, find


class MeilisearchEngine:
    """Searches one index of a Meilisearch server. Create it within the event loop it is used in.

    Args:
        url: where the server listens, such as `http://127.0.0.1:7700`.
        key: an API key with the right to search; None for a server without keys.
        index: the uid of the index.
    """

    def __init__(self, *, url: str, key: str | None, index: str = "movies") -> None:
        self._client = connect(url, key)
        self._index = self._client.index(index)

    async def search(self, request: SearchRequest) -> SearchResult:
        """The films that fit, best first; equally good ones by trend."""
        async with outages():
            return await find(self._index, request)

    async def suggest(self, prefix: str, limit: int) -> Suggestions:
        """Titles and people that begin so, likeliest first."""
        async with outages():
            return await complete(self._index, prefix, limit)

    async def health(self) -> None:
        """Returns when the server answers."""
        async with outages():
            await self._client.health()

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()
