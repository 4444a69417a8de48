"""Keys, comparison and replacement on a Meilisearch server itself."""

from collections.abc import AsyncGenerator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from search_indexer.documents import Figures, Ratings, Stamp, Trend, document_of
from search_indexer.engine import ChangeRefusedError, SearchRequest
from search_indexer.meilisearch_engine import MeilisearchEngine
from search_indexer.meilisearch_index import MeilisearchIndex
from search_indexer.meilisearch_keys import indexing_key, search_key
from service_kit import Outage


@pytest.fixture
def uid() -> str:
    """The name of an index that there is not yet."""
    return f"test-{uuid4().hex}"


@pytest.fixture
async def index(meilisearch_server: Any, uid: str) -> AsyncGenerator[MeilisearchIndex]:
    """An index that is not there yet, with the key for indexing and the master key."""
    index = MeilisearchIndex(
        url=meilisearch_server.url,
        key=indexing_key(uid).derive(meilisearch_server.key),
        index=uid,
        master_key=meilisearch_server.key,
    )
    yield index
    await index.close()


def _entry(make: Any, number: int, title: str, revision: int = 1) -> Any:
    return document_of(make.movie(number, title), revision), Figures()


async def _refused(server: Any, key: str, method: str, path: str, body: Any = None) -> bool:
    async with httpx.AsyncClient(base_url=server.url, timeout=10) as client:
        headers = {"Authorization": f"Bearer {key}"}
        answer = await client.request(method, path, json=body, headers=headers)
    assert answer.status_code in (200, 202, 403), answer.text
    return answer.status_code == 403


async def test_the_keys_can_do_what_they_are_for_and_nothing_else(
    meilisearch_server: Any, index: MeilisearchIndex, uid: str, make: Any
) -> None:
    """They are made when they are missing, and known without being kept."""
    await index.ensure_ready()
    await index.index([_entry(make, 1, "Inception")])
    searching = search_key(uid).derive(meilisearch_server.key)
    indexing = indexing_key(uid).derive(meilisearch_server.key)
    engine = MeilisearchEngine(url=meilisearch_server.url, key=searching, index=uid)
    assert (await engine.search(SearchRequest(q="incepton"))).total == 1
    await engine.close()

    search = f"/indexes/{uid}/search"
    documents = f"/indexes/{uid}/documents"
    fields = [{"movie_id": "tmdb-2", "title": "Bad"}]
    for key, method, path, body, refused in (
        (searching, "POST", search, {"q": ""}, False),
        (searching, "POST", "/indexes/other/search", {"q": ""}, True),
        (searching, "GET", documents, None, True),
        (searching, "POST", documents, fields, True),
        (searching, "DELETE", f"/indexes/{uid}", None, True),
        (searching, "GET", f"/indexes/{uid}/settings", None, True),
        (searching, "GET", "/keys", None, True),
        (indexing, "POST", search, {"q": ""}, True),
        (indexing, "POST", "/indexes/other/documents", fields, True),
        (indexing, "GET", "/keys", None, True),
        (indexing, "POST", "/dumps", None, True),
    ):
        assert await _refused(meilisearch_server, key, method, path, body) is refused, (path, key)
    assert await index.count() == 1
    # Once more finds them there.
    await index.ensure_keys()


async def test_settings_are_written_once(
    meilisearch_server: Any, index: MeilisearchIndex, uid: str
) -> None:
    """Each time costs the server as much as indexing everything, and it is looked at often."""
    for _ in range(3):
        await index.ensure_ready()
    async with httpx.AsyncClient(base_url=meilisearch_server.url, timeout=10) as client:
        headers = {"Authorization": f"Bearer {meilisearch_server.key}"}
        wanted = {"indexUids": uid, "types": "settingsUpdate"}
        answer = await client.get("/tasks", params=wanted, headers=headers)
    assert answer.json()["total"] == 1


async def test_without_the_master_key_nothing_is_made(meilisearch_server: Any, uid: str) -> None:
    """It says what is wrong: somebody has to give the right key."""
    key = indexing_key(uid).derive(meilisearch_server.key)
    index = MeilisearchIndex(url=meilisearch_server.url, key=key, index=uid)
    await index.ensure_keys()
    with pytest.raises(Outage, match="API key is invalid"):
        await index.ensure_ready()
    await index.close()


async def test_figures_change_without_the_document(
    index: MeilisearchIndex, meilisearch_server: Any, uid: str, make: Any
) -> None:
    """Films that are not there are left out; what is not given stays as it is."""
    await index.ensure_ready()
    await index.index([_entry(make, 1, "One", 4)])
    trend = Trend(movie_id="tmdb-1", revision=7, score=50.0, rank_key=1.5, views=12)
    ratings = Ratings(movie_id="tmdb-1", revision=9, count=2, mean=8.5)
    for figures in (Figures(trend=trend), Figures(ratings=ratings)):
        await index.update_figures([("tmdb-1", figures), ("tmdb-2", figures)])
    assert await index.stamps(["tmdb-1", "tmdb-2", "tmdb-3"]) == {
        "tmdb-1": Stamp(revision=4, trend_revision=7, ratings_revision=9)
    }
    engine = meilisearch_server.engine(uid)
    [hit] = (await engine.search(SearchRequest())).hits
    assert (hit.title, hit.views, hit.final_trend_score) == ("One", 12, 50.0)
    assert (hit.local_ratings, hit.local_mean) == (2, 8.5)
    await engine.close()


async def test_a_task_that_fails_after_it_was_accepted_is_told(
    index: MeilisearchIndex, make: Any
) -> None:
    """Whose document it was, the caller finds out by halving."""
    await index.ensure_ready()
    document, figures = _entry(make, 1, "One")
    bad = document_of(make.movie(2, "Two"), 1)
    object.__setattr__(bad, "movie_id", "no such id!")
    with pytest.raises(ChangeRefusedError, match="task"):
        await index.index([(document, figures), (bad, figures)])
    assert await index.count() == 0


async def test_another_index_takes_the_place_at_once(
    index: MeilisearchIndex, make: Any, meilisearch_server: Any, uid: str
) -> None:
    """Asked for again, as after a crash, it stays in place; one that was not filled never comes."""
    await index.ensure_ready()
    await index.index([_entry(make, 1, "Old")])
    successor = index.successor()
    identity = await successor.ensure_ready()
    await successor.index([_entry(make, 1, "New"), _entry(make, 2, "Two")])
    with pytest.raises(Outage, match="not the one that was filled"):
        await index.swap_in_successor("2020-01-01T00:00:00+00:00")
    for _ in range(2):
        await index.swap_in_successor(identity)
        assert await index.identity() == identity
        assert await index.count() == 2
        assert await successor.count() == 1
    engine = meilisearch_server.engine(uid)
    assert {hit.title for hit in (await engine.search(SearchRequest())).hits} == {"New", "Two"}
    await engine.close()
    await successor.drop()
    assert await successor.identity() is None
    assert sorted(await index.page_of_ids(0, 10)) == ["tmdb-1", "tmdb-2"]
    assert await index.page_of_ids(2, 10) == []
