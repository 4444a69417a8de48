"""Searches while the engine is away, hangs or is being filled, and their way back."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from search_indexer.engine import SearchRequest, SearchResult, Suggestions
from search_indexer.fallback import NOTE, FallbackEngine
from search_indexer.meilisearch_engine import MeilisearchEngine
from service_kit import Outage

HEAT = SearchRequest(q="heat")
PATIENCE = 1.0


class Engine:
    """Answers with its name; can be away, and counts what it is asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.away = False
        self.asked = 0
        self.slow: set[str] = set()

    async def search(self, request: SearchRequest) -> SearchResult:
        self._ask()
        if request.q in self.slow:
            await asyncio.sleep(60)
        return SearchResult(engine=self.name)

    async def suggest(self, prefix: str, limit: int) -> Suggestions:
        del prefix, limit
        self._ask()
        return Suggestions(engine=self.name)

    async def health(self) -> None:
        self._ask()

    async def close(self) -> None: ...

    def _ask(self) -> None:
        self.asked += 1
        if self.away:
            raise Outage(self.name, "away")


class Filled:
    """Whether the engine's index has everything."""

    def __init__(self) -> None:
        self.answer = True

    async def __call__(self) -> bool:
        return self.answer


@pytest.fixture
def engine() -> Engine:
    return Engine("meilisearch")


@pytest.fixture
def filled() -> Filled:
    return Filled()


@pytest.fixture
async def fallback(engine: Engine, filled: Filled) -> AsyncGenerator[FallbackEngine]:
    fallback = FallbackEngine(
        engine, Engine("postgres"), is_filled=filled, patience=PATIENCE, probe_every=0.02
    )
    yield fallback
    await fallback.close()


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await holds():  # noqa: ASYNC110 -- a background task sets no event
            await asyncio.sleep(0.01)


def _answered_by(fallback: FallbackEngine, engine: str) -> Callable[[], Awaitable[bool]]:
    async def answered() -> bool:
        return (await fallback.search(HEAT)).engine == engine

    return answered


async def test_the_engine_answers_while_it_can(fallback: FallbackEngine) -> None:
    assert await fallback.search(HEAT) == SearchResult(engine="meilisearch")
    assert await fallback.suggest("hea", 5) == Suggestions(engine="meilisearch")


async def test_the_database_answers_while_the_engine_is_away(
    fallback: FallbackEngine, engine: Engine
) -> None:
    """It says so; the engine comes back by itself."""
    engine.away = True
    assert await fallback.search(HEAT) == SearchResult(engine="postgres", degraded=True, note=NOTE)
    assert (await fallback.suggest("hea", 5)).degraded
    engine.away = False
    await _until(_answered_by(fallback, "meilisearch"))
    assert not (await fallback.search(HEAT)).degraded


async def test_an_engine_that_failed_is_not_asked_by_those_who_search(
    engine: Engine, filled: Filled
) -> None:
    """But by one probe at a time."""
    fallback = FallbackEngine(engine, Engine("postgres"), is_filled=filled, probe_every=60)
    engine.away = True
    for _ in range(10):
        assert (await fallback.search(HEAT)).engine == "postgres"
    assert engine.asked == 1
    await fallback.close()


async def test_a_search_that_is_slow_by_itself_falls_back_alone(
    engine: Engine, filled: Filled
) -> None:
    """The engine is asked at once whether it is well, not after the pause between two probes."""
    fallback = FallbackEngine(
        engine, Engine("postgres"), is_filled=filled, patience=PATIENCE, probe_every=60
    )
    engine.slow = {"aaa bbb ccc"}
    assert (await fallback.search(SearchRequest(q="aaa bbb ccc"))).degraded
    await _until(_answered_by(fallback, "meilisearch"))
    await fallback.close()


async def test_an_engine_that_is_slow_again_is_left_alone(engine: Engine, filled: Filled) -> None:
    """It answers its probe, but not those who search."""
    fallback = FallbackEngine(
        engine, Engine("postgres"), is_filled=filled, patience=PATIENCE, probe_every=60
    )
    engine.slow = {"heat"}
    assert (await fallback.search(HEAT)).degraded
    cold = SearchRequest(q="cold")

    async def answered() -> bool:
        return (await fallback.search(cold)).engine == "meilisearch"

    await _until(answered)
    assert (await fallback.search(HEAT)).degraded
    asked = engine.asked
    await asyncio.sleep(2 * PATIENCE)
    assert (await fallback.search(cold)).degraded
    assert engine.asked == asked
    await fallback.close()


async def test_an_index_that_is_being_filled_is_not_asked(
    fallback: FallbackEngine, filled: Filled
) -> None:
    """It would answer, and leave out half of the films."""
    filled.answer = False
    assert (await fallback.search(HEAT)).degraded
    await asyncio.sleep(0.1)
    assert (await fallback.search(HEAT)).degraded
    filled.answer = True
    await _until(_answered_by(fallback, "meilisearch"))


async def test_an_index_that_was_lost_is_noticed_while_it_answers(
    fallback: FallbackEngine, filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search_indexer.fallback._FILLED_FOR", 0.05)
    assert not (await fallback.search(HEAT)).degraded
    filled.answer = False
    await _until(_answered_by(fallback, "postgres"))


async def test_an_outage_of_both_is_told(engine: Engine, filled: Filled) -> None:
    """Nobody is left to answer."""
    makeshift = Engine("postgres")
    fallback = FallbackEngine(engine, makeshift, is_filled=filled)
    engine.away = makeshift.away = True
    with pytest.raises(Outage, match="postgres"):
        await fallback.search(HEAT)
    await fallback.close()


@asynccontextmanager
async def hanging_server() -> AsyncGenerator[str]:
    """Takes connections and requests, and never answers."""
    writers: list[asyncio.StreamWriter] = []

    async def take(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await server.wait_closed()


async def test_a_hanging_server_costs_a_moment_once(filled: Filled) -> None:
    """However many search: those who come later do not wait at all."""
    async with hanging_server() as url:
        fallback = FallbackEngine(
            MeilisearchEngine(url=url, key="k"),
            Engine("postgres"),
            is_filled=filled,
            patience=PATIENCE,
            probe_every=60,
        )
        began = time.monotonic()
        first = await asyncio.gather(*(fallback.search(HEAT) for _ in range(20)))
        together = time.monotonic() - began
        began = time.monotonic()
        later = [await fallback.search(HEAT) for _ in range(20)]
        afterwards = time.monotonic() - began
        await fallback.close()
    assert {result.engine for result in (*first, *later)} == {"postgres"}
    # One after the other the first would have waited for 20 times as long, and so would the rest.
    assert PATIENCE <= together < 10
    assert afterwards < 10
