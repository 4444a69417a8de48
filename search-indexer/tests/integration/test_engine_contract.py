"""One behaviour for both engines, over 2,400 real films.

Expected hits are written out; expected totals and facet counts are counted from the films here.
"""

import asyncio
import html
import json
import unicodedata
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from moviemetric_contracts import Movie
from search_indexer.engine import SearchEngine, SearchRequest, SearchResult
from search_indexer.index_sync import IndexSync, IndexWriter
from search_indexer.postgres_engine import PostgresEngine
from search_indexer.subscriptions import SUBSCRIPTIONS
from service_kit import Database
from service_kit.migrations import upgrade
from service_kit.testing import deliver

CATALOGUE = Path(__file__).parents[3] / "deploy" / "sample-catalogue"

# The sample catalogue has no people, keywords or plots.
PEOPLE = {
    27205: (["Leonardo DiCaprio", "Joseph Gordon-Levitt", "Elliot Page"], ["Christopher Nolan"]),
    155: (["Christian Bale", "Heath Ledger", "Aaron Eckhart"], ["Christopher Nolan"]),
    49026: (["Christian Bale", "Tom Hardy", "Anne Hathaway"], ["Christopher Nolan"]),
    597: (["Leonardo DiCaprio", "Kate Winslet"], ["James Cameron"]),
}
KEYWORDS = {27205: ["subconscious", "heist"], 597: ["shipwreck", "iceberg"]}
OVERVIEWS = {
    27205: "A thief who enters the dreams of others is offered a last job: planting an idea.",
    155: "With a lieutenant and a prosecutor, a masked man fights organised crime in his city.",
}
# Trend rank keys; every other film has none and ranks behind these, by popularity.
RANKS = {27205: 5.0, 597: -3.0, 155: 1.5, 603: 4.0}


def _run(work: Coroutine[Any, Any, None]) -> None:
    # In a thread of its own: the fixture may be asked for inside of a running event loop.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


@pytest.fixture(scope="module")
def films(make: Any) -> list[Movie]:
    """The sample catalogue."""
    genres = {g["id"]: g["name"] for g in json.loads((CATALOGUE / "genres.json").read_text())}
    films: list[Movie] = []
    for line in (CATALOGUE / "movies.jsonl").read_text().splitlines():
        row = json.loads(line)
        cast, directors = PEOPLE.get(row["tmdb_id"], ([], []))
        films.append(
            make.movie(
                row["tmdb_id"],
                row["title"],
                released=row.get("release_date"),
                cast=cast,
                directors=directors,
                original_title=row.get("original_title"),
                language=row.get("original_language"),
                overview=OVERVIEWS.get(row["tmdb_id"]),
                genres=[genres[number] for number in row["genres"]],
                keywords=KEYWORDS.get(row["tmdb_id"], []),
                vote_average=row.get("vote_average"),
                vote_count=row.get("vote_count") or 0,
                popularity=row.get("popularity") or 0.0,
            )
        )
    assert len(films) >= 2000
    return films


@pytest.fixture(scope="module")
def filled_database(postgres_server: Any, films: list[Movie], make: Any) -> Generator[str]:
    """A database that has been told of all films, their trends before their documents."""
    name = f"contract_{uuid4().hex}"
    url = postgres_server.create_database(name)
    upgrade(url, package="search_indexer", schema="search")
    trends = make.trend(
        1, **{f"tmdb_{number}": (50.0 + key, key, 7) for number, key in RANKS.items()}
    )
    catalogue, trending, *_ = SUBSCRIPTIONS

    async def fill() -> None:
        database = Database(url, schema="search")
        await deliver(trending, database, [trends])
        for start in range(0, len(films), 500):
            events = [make.upserted(film) for film in films[start : start + 500]]
            await deliver(catalogue, database, events)
        await database.dispose()

    _run(fill())
    yield url
    postgres_server.drop_database(name)


@pytest.fixture(scope="module")
def meilisearch_index(filled_database: str, meilisearch_server: Any) -> str:
    """The uid of a Meilisearch index that was filled from the database."""
    uid = f"contract-{uuid4().hex}"

    async def fill() -> None:
        database = Database(filled_database, schema="search")
        engine = meilisearch_server.index(uid)
        await IndexSync(database, IndexWriter(database, engine, engine=uid)).run()
        await engine.close()
        await database.dispose()

    _run(fill())
    return uid


@pytest.fixture(params=["postgres", "meilisearch"])
async def engine(
    filled_database: str, request: pytest.FixtureRequest
) -> AsyncGenerator[SearchEngine]:
    """Each engine over the same films."""
    database = Database(filled_database, schema="search")
    engine: SearchEngine = PostgresEngine(database)
    if request.param == "meilisearch":
        uid: str = request.getfixturevalue("meilisearch_index")
        engine = request.getfixturevalue("meilisearch_server").engine(uid)
    yield engine
    await engine.close()
    await database.dispose()


def titles(result: SearchResult) -> list[str]:
    """The titles found, best first."""
    return [hit.title for hit in result.hits]


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("inception", "Inception"),
        ("INCEPTION", "Inception"),
        ("incep", "Inception"),
        ("incepton", "Inception"),
        ("inceptoin", "Inception"),
        ("inxeption", "Inception"),
        ("the dark knight", "The Dark Knight"),
        ("dark knight", "The Dark Knight"),
        ("knight dark", "The Dark Knight"),
        ("the dark knigt", "The Dark Knight"),
        ("dark knight rises", "The Dark Knight Rises"),
        ("amelie", "Amélie"),
        ("Amélie", "Amélie"),
        ("fabuleux destin", "Amélie"),
        ("matrix", "The Matrix"),
        ("matrx", "The Matrix"),
        ("forest gump", "Forrest Gump"),
        ("pulp ficton", "Pulp Fiction"),
        ("godfather", "The Godfather"),
        ("wall-e", "WALL·E"),
        ("terminator", "The Terminator"),
        ("the terminator", "The Terminator"),
        ("finding nemo", "Finding Nemo"),
        ("nemo", "Finding Nemo"),
        ("shipwreck", "Titanic"),
        ("heist dicaprio", "Inception"),
        ("thief dreams", "Inception"),
        ("winslet", "Titanic"),
        ("cristopher nolan", "Inception"),
        ("nolan ledger", "The Dark Knight"),
    ],
)
async def test_the_film_that_was_meant_comes_first(
    engine: SearchEngine, query: str, first: str
) -> None:
    """Despite typing errors, accents, order of words, missing articles and unfinished words."""
    assert titles(await engine.search(SearchRequest(q=query)))[:1] == [first]


async def test_a_person_finds_their_films_by_trend(engine: SearchEngine) -> None:
    """All of them and nothing else."""
    result = await engine.search(SearchRequest(q="christopher nolan"))
    assert titles(result) == ["Inception", "The Dark Knight", "The Dark Knight Rises"]
    assert result.total == 3


async def test_every_word_must_be_there(engine: SearchEngine) -> None:
    """A word that no film has leaves nothing."""
    result = await engine.search(SearchRequest(q="inception zzyzxqwv"))
    assert (result.total, list(result.hits)) == (0, [])


async def test_an_exact_title_comes_before_longer_ones(
    engine: SearchEngine, films: list[Movie]
) -> None:
    """For every film whose title no other film shares, among the first hundred."""
    counted = Counter(film.title.casefold() for film in films)
    checked = [film for film in films if counted[film.title.casefold()] == 1][:100]
    missed = [
        film.title
        for film in checked
        if titles(await engine.search(SearchRequest(q=film.title)))[:1] != [film.title]
    ]
    assert missed == []


async def test_without_words_films_come_by_trend_then_popularity(
    engine: SearchEngine, films: list[Movie]
) -> None:
    """Films with a trend first; the hit carries what is shown."""
    ranked = sorted(
        films,
        key=lambda film: (
            -RANKS.get(film.tmdb_id or 0, float("-inf")),
            -film.popularity,
            film.movie_id,
        ),
    )
    result = await engine.search(SearchRequest(limit=50))
    assert [hit.movie_id for hit in result.hits] == [film.movie_id for film in ranked[:50]]
    assert result.total == len(films)
    first, film = result.hits[0], ranked[0]
    assert (first.title, first.final_trend_score, first.views) == ("Inception", 55.0, 7)
    assert (first.tmdb_id, first.release_date, tuple(first.genres)) == (
        film.tmdb_id,
        film.release_date,
        film.genres,
    )
    assert (result.hits[10].final_trend_score, result.hits[10].views) == (None, 0)


FILTERS: list[tuple[dict[str, Any], Callable[[Movie], bool]]] = [
    ({"genres": ("drama",)}, lambda f: "Drama" in f.genres),
    ({"genres": ("SCIENCE FICTION",)}, lambda f: "Science Fiction" in f.genres),
    ({"genres": ("Drama", "Comedy")}, lambda f: {"Drama", "Comedy"} <= set(f.genres)),
    (
        {"year_from": 1999, "year_to": 1999},
        lambda f: f.release_date is not None and f.release_date.year == 1999,
    ),
    ({"language": "fr"}, lambda f: f.original_language == "fr"),
    ({"language": "FR"}, lambda f: f.original_language == "fr"),
    ({"min_rating": 7.9}, lambda f: f.vote_average is not None and f.vote_average >= 7.9),
    ({"min_rating": 0.0}, lambda f: f.vote_average is not None),
    ({"min_votes": 2000}, lambda f: f.vote_count >= 2000),
    (
        {"genres": ("comedy",), "language": "en", "min_votes": 300, "min_rating": 6.5},
        lambda f: (
            "Comedy" in f.genres
            and f.original_language == "en"
            and f.vote_count >= 300
            and (f.vote_average or 0) >= 6.5
        ),
    ),
    (
        {"genres": ("war", "WESTERN"), "genre_mode": "any"},
        lambda f: bool({"War", "Western"} & set(f.genres)),
    ),
    ({"decade": 1990}, lambda f: f.release_date is not None and 1990 <= f.release_date.year < 2000),
    ({"year_from": 2005}, lambda f: f.release_date is not None and f.release_date.year >= 2005),
    ({"year_to": 1989}, lambda f: f.release_date is not None and f.release_date.year <= 1989),
    (
        {"year_from": 1985, "year_to": 1994, "decade": 1980, "genres": ("Action",)},
        lambda f: (
            f.release_date is not None
            and 1985 <= f.release_date.year <= 1989
            and "Action" in f.genres
        ),
    ),
    ({"year_from": 2000, "year_to": 1990}, lambda _: False),
]


@pytest.mark.parametrize(("filters", "passes"), FILTERS)
async def test_filters_totals_and_facets_are_exact(
    engine: SearchEngine,
    films: list[Movie],
    filters: dict[str, Any],
    passes: Callable[[Movie], bool],
) -> None:
    """Counted over all pages; a filter is data, whatever is in it."""
    expected = [film for film in films if passes(film)]
    result = await engine.search(SearchRequest(limit=100, **filters))
    assert result.total == len(expected)
    assert {hit.movie_id for hit in result.hits} <= {film.movie_id for film in expected}
    assert len(result.hits) == min(100, len(expected))
    assert dict(result.facets.genre) == Counter(g for f in expected for g in f.genres)
    assert dict(result.facets.decade) == Counter(
        str(f.release_date.year // 10 * 10) for f in expected if f.release_date
    )
    assert dict(result.facets.language) == Counter(
        f.original_language for f in expected if f.original_language
    )


@pytest.mark.parametrize("query", ["", "love", "s"])
async def test_pages_are_windows_of_one_list(engine: SearchEngine, query: str) -> None:
    """Aligned or not, and beyond the end."""
    whole: list[str] = []
    total = (await engine.search(SearchRequest(q=query, limit=1))).total
    while len(whole) < total:
        page = await engine.search(SearchRequest(q=query, limit=100, offset=len(whole)))
        assert page.total == total
        assert page.hits
        whole.extend(hit.movie_id for hit in page.hits)
    assert len(set(whole)) == len(whole) == total
    for offset, limit in ((0, 5), (3, 4), (7, 5), (total - 2, 10), (total, 5), (100_000, 100)):
        window = await engine.search(SearchRequest(q=query, limit=limit, offset=offset))
        assert [hit.movie_id for hit in window.hits] == whole[offset : offset + limit]
        assert window.total == total


def _trend(film: Movie) -> tuple[float, float]:
    return RANKS.get(film.tmdb_id or 0, float("-inf")), film.popularity


ORDERS: dict[str, Callable[[Movie], Any]] = {
    "date": lambda f: f.release_date,
    "rating": lambda f: f.vote_average,
    "trend": lambda f: RANKS.get(f.tmdb_id or 0),
}


@pytest.mark.parametrize("q", ["", "star"])
@pytest.mark.parametrize("order", ["desc", "asc"])
@pytest.mark.parametrize("sort", list(ORDERS))
async def test_a_list_comes_in_the_order_that_was_asked_for(
    engine: SearchEngine, films: list[Movie], sort: Any, order: Any, q: str
) -> None:
    """What has no date, rating or trend comes last either way; equals come by trend."""
    by_key = {film.movie_id: film for film in films}
    wanted = SearchRequest(q=q, sort=sort, order=order, limit=100)
    first = await engine.search(wanted)
    last = await engine.search(replace(wanted, offset=max(0, first.total - 100)))
    value = ORDERS[sort]
    for page in (first, last):
        found = [by_key[hit.movie_id] for hit in page.hits]
        known = [film for film in found if value(film) is not None]
        assert found[: len(known)] == known
        values = [value(film) for film in known]
        assert values == sorted(values, reverse=order == "desc")
        if sort != "trend":
            by_value = [list(group) for _, group in groupby(found, value)]
            trends = [[_trend(film) for film in group] for group in by_value]
            assert trends == [sorted(group, reverse=True) for group in trends]
    if not q:
        best = (max if order == "desc" else min)(v for f in films if (v := value(f)) is not None)
        assert value(by_key[first.hits[0].movie_id]) == best


async def test_words_and_filters_go_together(engine: SearchEngine) -> None:
    """A filter narrows what the words found."""
    found = await engine.search(SearchRequest(q="nolan", year_from=2008, year_to=2008))
    assert titles(found) == ["The Dark Knight"]
    assert dict(found.facets.decade) == {"2000": 1}


HOSTILE: list[str] = json.loads((Path(__file__).parents[1] / "hostile.json").read_text())


async def test_hostile_text_is_only_text(engine: SearchEngine, films: list[Movie]) -> None:
    """No error, no film too many, and the list is what its total says."""
    for query in HOSTILE:
        result = await engine.search(SearchRequest(q=query, limit=100, highlight=True))
        assert len(result.hits) == min(100, result.total), query
        listed = not query.strip()
        assert (result.total == len(films)) is listed, query
        await engine.suggest(query, 5)
    assert (await engine.search(SearchRequest())).total == len(films)


def _names_drama(text: str) -> bool:
    letters = [c for c in unicodedata.normalize("NFKC", text) if c.isalnum()]
    return "".join(letters).casefold() == "drama"


async def test_a_hostile_filter_is_only_a_value(engine: SearchEngine, films: list[Movie]) -> None:
    """`{Drama}` may be taken for the genre; nothing else is anything that a film has."""
    dramas = sum("Drama" in film.genres for film in films)
    for value in HOSTILE:
        expected = dramas if _names_drama(value) else 0
        assert (await engine.search(SearchRequest(genres=(value,)))).total == expected, value
        both = SearchRequest(genres=(value, value), genre_mode="any")
        assert (await engine.search(both)).total == expected, value
        assert (await engine.search(SearchRequest(language=value))).total == 0, value
    beside = SearchRequest(genres=("Drama", 'x" OR year > 0'), genre_mode="any")
    assert (await engine.search(beside)).total == dramas


@pytest.mark.parametrize(
    ("query", "film", "expected"),
    [
        ("dark knight", "The Dark Knight", {"title": "The <mark>Dark</mark> <mark>Knight</mark>"}),
        ("amelie", "Amélie", {"title": "<mark>Amélie</mark>"}),
        ("incep", "Inception", {"title": "<mark>Inception</mark>"}),
        ("incepton", "Inception", {"title": "<mark>Inception</mark>"}),
        (
            "nolan heist",
            "Inception",
            {"people": ["Christopher <mark>Nolan</mark>"], "keywords": ["<mark>heist</mark>"]},
        ),
    ],
)
async def test_what_was_found_is_marked(
    engine: SearchEngine, query: str, film: str, expected: dict[str, Any]
) -> None:
    """Whole words, as they are written; of people and keywords only those that match."""
    result = await engine.search(SearchRequest(q=query, highlight=True))
    marked = next(hit.highlights for hit in result.hits if hit.title == film)
    assert marked is not None
    assert {name: marked.get(name) for name in expected} == expected
    plain = await engine.search(SearchRequest(q=query))
    assert all(hit.highlights is None for hit in plain.hits)


async def test_a_plot_is_shown_where_it_matches(engine: SearchEngine) -> None:
    """By its own words."""
    result = await engine.search(SearchRequest(q="thief dreams", highlight=True))
    marked = result.hits[0].highlights
    assert marked is not None
    assert str(marked["overview"]).startswith(
        "A <mark>thief</mark> who enters the <mark>dreams</mark>"
    )


async def test_marked_text_is_safe_to_show(engine: SearchEngine, films: list[Movie]) -> None:
    """Whatever is not `<mark>` is escaped."""
    wanted = {film.movie_id for film in films if "&" in film.title or "'" in film.title}
    assert wanted
    for query in ("fast furious", "mr and mrs smith", "ocean's eleven", "schindler's list"):
        result = await engine.search(SearchRequest(q=query, highlight=True))
        for hit in result.hits:
            for text in (hit.highlights or {}).values():
                for part in [text] if isinstance(text, str) else text:
                    bare = part.replace("<mark>", "").replace("</mark>", "")
                    assert not set(bare) & set("<>\"'")
                    assert html.escape(html.unescape(bare)) == bare


@pytest.mark.parametrize(
    ("prefix", "film", "person"),
    [
        ("incep", "Inception", None),
        ("the dark kn", "The Dark Knight", None),
        ("dark kn", "The Dark Knight", None),
        ("fabuleux", "Amélie", None),
        ("amel", "Amélie", None),
        ("leonardo di", None, "Leonardo DiCaprio"),
        ("dicap", None, "Leonardo DiCaprio"),
        ("nolan", None, "Christopher Nolan"),
        ("elliot pa", None, "Elliot Page"),
    ],
)
async def test_suggestions_for_what_is_being_typed(
    engine: SearchEngine, prefix: str, film: str | None, person: str | None
) -> None:
    """Titles, and people of films."""
    found = await engine.suggest(prefix, 5)
    if film is not None:
        assert film in [suggestion.title for suggestion in found.films]
    if person is not None:
        assert found.people[0] == person
    assert len(found.films) <= 5
    assert len(found.people) <= 5


async def test_a_suggested_film_can_be_opened(engine: SearchEngine) -> None:
    """It has its key and year."""
    [film] = (await engine.suggest("inception", 1)).films
    assert (film.movie_id, film.title, film.year) == ("tmdb-27205", "Inception", 2010)
    assert not (await engine.suggest("???", 5)).films


async def test_text_without_letters_finds_nothing(engine: SearchEngine) -> None:
    """Rather than everything."""
    for query in ("???", "💥", "%", "--"):
        assert (await engine.search(SearchRequest(q=query))).total == 0


async def test_health(engine: SearchEngine) -> None:
    """An engine that answers is healthy."""
    await engine.health()
