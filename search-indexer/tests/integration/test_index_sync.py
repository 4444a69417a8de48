"""The external index follows the database, through outages, lost indexes and concurrent changes."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from search_indexer.documents import Document, Trend
from search_indexer.engine import ChangeRefusedError, SearchRequest, SearchResult, Suggestions
from search_indexer.index_sync import IndexSync
from search_indexer.meilisearch_engine import MeilisearchEngine
from search_indexer.subscriptions import SUBSCRIPTIONS
from service_kit import Database, Outage
from service_kit.testing import deliver
from sqlalchemy import text

CATALOGUE, TRENDS = SUBSCRIPTIONS


class RecordingIndex:
    """An external index in memory that can be away, refuse films, and call back while writing."""

    def __init__(self) -> None:
        self.identity = "first"
        self.documents: dict[str, tuple[Document, Trend | None]] = {}
        self.away = False
        self.refused: set[str] = set()
        self.meanwhile: Any = None

    async def ensure_ready(self) -> str:
        self._check()
        return self.identity

    async def index(self, documents: Sequence[tuple[Document, Trend | None]]) -> None:
        self._check(*(document.movie_id for document, _ in documents))
        self.documents.update({document.movie_id: (document, t) for document, t in documents})
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()

    async def remove(self, movie_ids: Sequence[str]) -> None:
        self._check(*movie_ids)
        for movie_id in movie_ids:
            self.documents.pop(movie_id, None)

    async def update_trends(self, trends: Sequence[Trend]) -> None:
        self._check(*(trend.movie_id for trend in trends))
        for trend in trends:
            if trend.movie_id in self.documents:
                self.documents[trend.movie_id] = (self.documents[trend.movie_id][0], trend)

    async def search(self, request: SearchRequest) -> SearchResult:
        raise NotImplementedError

    async def suggest(self, prefix: str, limit: int) -> Suggestions:
        raise NotImplementedError

    async def health(self) -> None:
        self._check()

    async def close(self) -> None: ...

    def _check(self, *movie_ids: str) -> None:
        if self.away:
            raise Outage("index", "away")
        if refused := self.refused.intersection(movie_ids):
            raise ChangeRefusedError("index", f"bad: {sorted(refused)}")

    @property
    def titles(self) -> dict[str, str]:
        return {key: document.title for key, (document, _) in self.documents.items()}


async def _pending(database: Database) -> dict[str, str | None]:
    async with database.reading() as connection:
        rows = await connection.execute(text("SELECT movie_id, error FROM index_changes"))
        return {row.movie_id: row.error for row in rows}


async def test_what_changes_while_the_index_is_away_is_sent_later(
    database: Database, make: Any
) -> None:
    """Nothing is lost, and what is pending says so."""
    index = RecordingIndex()
    sync = IndexSync(database, index, engine="index")
    await deliver(CATALOGUE, database, [make.upserted(make.movie(1, "One"))])
    index.away = True
    with pytest.raises(Outage):
        await sync.run()
    await deliver(CATALOGUE, database, [make.upserted(make.movie(2, "Two"))])
    await deliver(TRENDS, database, [make.trend(1, tmdb_2=(10.0, 1.0, 4))])
    assert set(await _pending(database)) == {"tmdb-1", "tmdb-2"}
    index.away = False
    await sync.run()
    assert index.titles == {"tmdb-1": "One", "tmdb-2": "Two"}
    trend = index.documents["tmdb-2"][1]
    assert trend is not None
    assert trend.views == 4
    assert await _pending(database) == {}


async def test_a_change_made_while_its_film_is_written_is_not_forgotten(
    database: Database, make: Any
) -> None:
    """The row stays, because its version is newer than the one that was sent."""
    index = RecordingIndex()
    sync = IndexSync(database, index, engine="index")
    await deliver(CATALOGUE, database, [make.upserted(make.movie(1, "Old"), 1)])

    async def change() -> None:
        await deliver(CATALOGUE, database, [make.upserted(make.movie(1, "New"), 2)])

    index.meanwhile = change
    await sync.run()
    assert index.titles == {"tmdb-1": "Old"}
    assert set(await _pending(database)) == {"tmdb-1"}
    await sync.run()
    assert index.titles == {"tmdb-1": "New"}
    assert await _pending(database) == {}


async def test_a_refused_film_does_not_hold_up_the_others(database: Database, make: Any) -> None:
    """It waits with its reason, and is tried again when it changes."""
    index = RecordingIndex()
    sync = IndexSync(database, index, engine="index")
    films = [make.movie(number, f"Film {number}") for number in range(1, 31)]
    await deliver(CATALOGUE, database, [make.upserted(film) for film in films])
    index.refused = {"tmdb-7"}
    await sync.run()
    assert set(index.documents) == {film.movie_id for film in films} - {"tmdb-7"}
    assert await _pending(database) == {"tmdb-7": "bad: ['tmdb-7']"}
    index.refused = set()
    await sync.run()
    assert "tmdb-7" not in index.documents
    await deliver(CATALOGUE, database, [make.upserted(make.movie(7, "Better"), 2)])
    await sync.run()
    assert index.titles["tmdb-7"] == "Better"
    assert await _pending(database) == {}


async def test_an_index_that_was_made_anew_gets_everything(database: Database, make: Any) -> None:
    """But nothing that was removed."""
    index = RecordingIndex()
    await deliver(
        CATALOGUE,
        database,
        [make.upserted(make.movie(n, f"Film {n}")) for n in range(1, 2501)]
        + [make.removed("tmdb-3", 2)],
    )
    await IndexSync(database, index, engine="index").run()
    assert len(index.documents) == 2499
    index.documents.clear()
    await IndexSync(database, index, engine="index").run()
    assert index.documents == {}
    index.identity = "second"
    await IndexSync(database, index, engine="index").run()
    assert len(index.documents) == 2499
    assert await _pending(database) == {}


async def test_one_writer_at_a_time(database: Database, make: Any) -> None:
    """A second process leaves a running one alone, and takes over when it is done."""
    index = RecordingIndex()
    first = IndexSync(database, index, engine="index")
    second = IndexSync(database, index, engine="index")
    await deliver(CATALOGUE, database, [make.upserted(make.movie(1, "One"))])

    async def compete() -> None:
        index.away = True  # the second writer would notice
        await second.run()
        index.away = False

    index.meanwhile = compete
    await first.run()
    assert index.titles == {"tmdb-1": "One"}
    await deliver(CATALOGUE, database, [make.removed("tmdb-1", 2)])
    await second.run()
    assert index.titles == {}


async def test_meilisearch_takes_over_from_an_empty_start(
    database: Database, make: Any, meilisearch_server: Any
) -> None:
    """A lost index is created and filled again, with its settings; once more changes nothing."""
    engine: MeilisearchEngine = meilisearch_server.engine(f"test-{uuid4().hex}")
    await deliver(CATALOGUE, database, [make.upserted(make.movie(1, "Inception", genres=["War"]))])
    await IndexSync(database, engine, engine="Meilisearch").run()
    assert (await engine.search(SearchRequest(q="incepton", genres=("war",)))).total == 1
    await engine.drop()
    with pytest.raises(Outage):
        await engine.search(SearchRequest(q="incepton"))
    for _ in range(2):
        await IndexSync(database, engine, engine="Meilisearch").run()
        assert (await engine.search(SearchRequest(q="incepton", genres=("war",)))).total == 1
    await engine.close()


async def test_an_unreachable_meilisearch_is_an_outage(database: Database, make: Any) -> None:
    """For the search, the health check and the writer; what is to be sent stays."""
    engine = MeilisearchEngine(url="http://127.0.0.1:9", key="k")
    await deliver(CATALOGUE, database, [make.upserted(make.movie(1, "One"))])
    with pytest.raises(Outage, match="Meilisearch"):
        await engine.search(SearchRequest(q="one"))
    with pytest.raises(Outage, match="Meilisearch"):
        await engine.health()
    with pytest.raises(Outage, match="Meilisearch"):
        await IndexSync(database, engine, engine="Meilisearch").run()
    assert set(await _pending(database)) == {"tmdb-1"}
    await engine.close()


async def test_a_wrong_meilisearch_key_is_an_outage_that_says_so(
    meilisearch_server: Any,
) -> None:
    """Somebody has to correct the setting; nothing is given up meanwhile."""
    engine = MeilisearchEngine(url=meilisearch_server.url, key="wrong")
    with pytest.raises(Outage, match="API key"):
        await engine.ensure_ready()
    await engine.close()
