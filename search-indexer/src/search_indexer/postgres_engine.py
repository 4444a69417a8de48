"""The search engine that needs nothing but the database: full-text search in the service's tables.

A document is found when it has every word of the query: in its titles, people or keywords as it is
written, the last word as a beginning, or by English stem in its prose; or when the query begins its
title written without spaces. Words of one or two letters, or articles, alone are looked for in
titles only. A word that nobody has used is taken for mistyped, and the nearest words that were used
stand in for it; where little is found, and no film has the words as they are in its names, the same
is done for every word, behind what was found.

Best first: the exact title, titles that begin so, titles with all words, names with all words, the
rest; then, for mistyped queries, the nearest title; then by trend.

How it stays fast: the table that is searched has short rows, so that a broad query visits few pages
for its exact counts; films without a query are counted by group beforehand, and come out of an
index in the order of the chart. Nothing a person types becomes SQL: words are letters and digits
only (see `folding` and `tokens`), and they and all filters are bound parameters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

from service_kit import Database
from sqlalchemy import RowMapping, TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from search_indexer import tokens
from search_indexer.engine import (
    Facets,
    Highlights,
    SearchHit,
    SearchRequest,
    SearchResult,
    Sort,
    SuggestedFilm,
    Suggestions,
)
from search_indexer.folding import (
    ARTICLES,
    fold,
    query_words,
    title_key,
    typing_errors,
    typo_budget,
    words,
)
from search_indexer.highlighting import marked, marked_items, snippet
from search_indexer.suggesting import matching_people
from search_indexer.tokens import Term

NAME: Final = "postgres"

_MAX_CORRECTIONS: Final = 24
# With fewer hits, words that are known may be taken for mistyped as well.
_ENOUGH: Final = 10
_FILMS_OF_PEOPLE: Final = 60
# In the C collation all texts that begin with a prefix sort before the prefix and this.
_LAST_CHARACTER: Final = "\U0010ffff"

# For each query word: its English stem, if prose has it; is it known, as it is or as a beginning.
_KNOWN_WORDS: Final = text("""
SELECT q.word, (ts_lexize('pg_catalog.english_stem', q.word))[1] AS stem,
    EXISTS (
        SELECT FROM vocabulary v
        WHERE v.word >= q.word COLLATE "C"
            AND v.word < q.word || CASE WHEN q.unfinished THEN :last ELSE chr(1) END COLLATE "C"
    ) AS known
FROM unnest(CAST(:words AS text[]), CAST(:unfinished AS boolean[]))
    WITH ORDINALITY AS q (word, unfinished, place)
ORDER BY q.place
""")

# Known words, or for an unfinished word beginnings of them, near a word. Those with the same first
# letter come from the index on it; a wrong first letter is found by trigrams.
_NEAR_WORDS: Final = text("""
SELECT q.word, near.word AS near, bool_or(near.named) AS named
FROM unnest(CAST(:words AS text[]), CAST(:budgets AS integer[]), CAST(:unfinished AS boolean[]))
    AS q (word, budget, unfinished)
CROSS JOIN LATERAL (
    SELECT v.word, v.named FROM vocabulary v
    WHERE left(v.word, 1) = left(q.word, 1)
        AND length(v.word) BETWEEN length(q.word) - q.budget AND length(q.word) + q.budget
        AND levenshtein_less_equal(v.word, q.word, q.budget + 1) <= q.budget + 1
    UNION ALL
    SELECT v.word, v.named FROM vocabulary v
    WHERE v.word % q.word
        AND levenshtein_less_equal(v.word, q.word, q.budget + 1) <= q.budget + 1
    UNION ALL
    SELECT left(v.word, length(q.word)), v.named FROM vocabulary v
    WHERE q.unfinished AND left(v.word, 1) = left(q.word, 1) AND length(v.word) > length(q.word)
        AND levenshtein_less_equal(left(v.word, length(q.word)), q.word, q.budget + 1)
            <= q.budget + 1
) AS near
GROUP BY 1, 2
""")

# Counted, because for one row alone the planner would try row after row instead of the index.
_IS_THERE: Final = text("""
SELECT count(*) > 0 FROM listing WHERE shown AND tokens @@ CAST(:query AS tsquery)
""")

_STEMMED: Final = text("""
SELECT word FROM unnest(CAST(:words AS text[])) AS w (word)
WHERE ts_lexize('pg_catalog.english_stem', word) && CAST(:stems AS text[])
""")

# A filter that is not asked for is no part of a statement, so that the planner can use indexes.
_GROUP_FILTERS: Final[Mapping[str, str]] = {
    "all_genres": "g.genre_keys @> CAST(:all_genres AS text[])",
    "any_genre": "g.genre_keys && CAST(:any_genre AS text[])",
    "decade": "g.decade = :decade",
    "language": "lower(g.language) = lower(:language)",
}
_ROW_FILTERS: Final[Mapping[str, str]] = {
    "year_from": "l.year >= :year_from",
    "year_to": "l.year <= :year_to",
    "min_rating": "l.vote_average >= :min_rating",
    "min_votes": "l.vote_count >= :min_votes",
}

_ORDERS: Final[Mapping[Sort, Mapping[str, str]]] = {
    "date": {
        "desc": "release_date DESC NULLS LAST, ",
        "asc": "release_date ASC NULLS LAST, ",
    },
    "rating": {
        "desc": "vote_average DESC NULLS LAST, ",
        "asc": "vote_average ASC NULLS LAST, ",
    },
}
_BY_TREND: Final = "rank_key DESC NULLS LAST, popularity DESC, movie_id"
_BY_TREND_REVERSED: Final = "rank_key ASC NULLS LAST, popularity ASC, movie_id"

_COUNTED: Final = """
SELECT
    (SELECT COALESCE(sum(films), 0)::bigint FROM groups) AS total,
    (SELECT jsonb_object_agg(genre, films) FROM (
        SELECT genre, sum(films) AS films FROM groups, unnest(genres) AS genre GROUP BY genre
    ) AS g) AS genre,
    (SELECT jsonb_object_agg(decade, films) FROM (
        SELECT decade, sum(films) AS films FROM groups WHERE decade <> 0 GROUP BY decade
    ) AS g) AS decade,
    (SELECT jsonb_object_agg(language, films) FROM (
        SELECT language, sum(films) AS films FROM groups WHERE language <> '' GROUP BY language
    ) AS g) AS language
"""

_HITS: Final = """
SELECT jsonb_build_object(
        'movie_id', d.movie_id, 'tmdb_id', d.tmdb_id, 'imdb_id', d.imdb_id,
        'title', d.title, 'original_title', d.original_title,
        'original_language', d.original_language, 'release_date', d.release_date,
        'genres', d.genres, 'vote_average', d.vote_average, 'vote_count', d.vote_count,
        'popularity', d.popularity, 'poster_path', d.poster_path,
        'final_trend_score', l.score, 'views', l.views,
        'local_ratings', l.local_ratings, 'local_mean', l.local_mean
    ) AS fields,
    CASE WHEN :highlight THEN d.people END AS people,
    CASE WHEN :highlight THEN d.keywords END AS keywords,
    CASE WHEN :highlight THEN d.overview END AS overview
FROM unnest(CAST(:movie_ids AS text[])) WITH ORDINALITY AS p (movie_id, place)
JOIN documents d USING (movie_id) JOIN listing l USING (movie_id)
ORDER BY p.place
"""
_SHOW: Final = text(_HITS)

# A plan made without knowing the values could not skip filters; the matches of a broad query are
# kept in memory; and other processes would take longer to start than they save.
_PREPARE: Final = text("""
SELECT set_config('plan_cache_mode', 'force_custom_plan', true),
    set_config('work_mem', '64MB', true), set_config('random_page_cost', '1', true),
    set_config('max_parallel_workers_per_gather', '0', true), set_config('jit', 'off', true)
""")

# Words are always looked for in the index. By itself the planner would compare them with the tokens
# of every row where the query is broad or the table small, because it takes an operator for cheap,
# and does not count that the tokens have to be fetched and unpacked first.
_PREFER_INDEXES: Final = text("""
SELECT set_config('enable_seqscan', 'off', true), set_config('cpu_operator_cost', '1', true)
""")


@dataclass(frozen=True, slots=True)
class _Counts:
    total: int
    facets: Facets


class PostgresEngine:
    """Searches the documents of this service where they are kept; see the module."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def search(self, request: SearchRequest) -> SearchResult:
        """The films that fit, best first; equally good ones by trend."""
        if request.is_unanswerable:
            return SearchResult(engine=NAME)
        async with self._database.reading() as connection:
            await connection.execute(_PREPARE)
            terms: Sequence[Term] = ()
            if request.words:
                await connection.execute(_PREFER_INDEXES)
                counts, movie_ids, terms = await _find(connection, request)
            else:
                counts, movie_ids = await _browse(connection, request)
            hits = await _hits(connection, movie_ids, terms, highlight=request.highlight)
        return SearchResult(hits=hits, total=counts.total, facets=counts.facets, engine=NAME)

    async def suggest(self, prefix: str, limit: int) -> Suggestions:
        """Titles and people that begin so, likeliest first."""
        asked = query_words(prefix)
        if not asked:
            return Suggestions(engine=NAME)
        async with self._database.reading() as connection:
            await connection.execute(_PREPARE)
            await connection.execute(_PREFER_INDEXES)
            terms, _ = await _terms(connection, asked)
            key = title_key(prefix)
            rows = await connection.execute(
                _SUGGEST_FILMS,
                {
                    "key": tokens.title_begins(key),
                    "title": tokens.in_title(terms),
                    "limit": limit,
                },
            )
            films = [
                SuggestedFilm(movie_id=id_, title=title, year=year) for id_, title, year in rows
            ]
            people: list[str] = []
            if len(key) > 1:
                casts = await connection.execute(
                    _SUGGEST_PEOPLE,
                    {"people": tokens.in_people(terms), "films": _FILMS_OF_PEOPLE},
                )
                people = matching_people(prefix, casts.scalars(), limit)
        return Suggestions(films=films, people=people, engine=NAME)

    async def health(self) -> None:
        """Returns when the database answers."""
        await self._database.ping()

    async def close(self) -> None:
        """Nothing to let go of: the database belongs to the service."""


_SUGGEST_FILMS: Final = text(f"""
WITH page AS (
    SELECT l.movie_id, l.rank_key, l.popularity,
        l.number IN (
            SELECT number FROM listing WHERE shown AND tokens @@ CAST(:key AS tsquery)
        ) AS begins
    FROM listing l
    WHERE l.shown AND (l.tokens @@ CAST(:key AS tsquery) OR l.tokens @@ CAST(:title AS tsquery))
    ORDER BY begins DESC, {_BY_TREND}
    LIMIT :limit
)
SELECT d.movie_id, d.title, l.year
FROM page p JOIN documents d USING (movie_id) JOIN listing l USING (movie_id)
ORDER BY p.begins DESC, p.rank_key DESC NULLS LAST, p.popularity DESC, p.movie_id
""")  # noqa: S608 -- made of constants; values are bound

_SUGGEST_PEOPLE: Final = text(f"""
WITH page AS (
    SELECT l.movie_id, l.rank_key, l.popularity FROM listing l
    WHERE l.shown AND l.tokens @@ CAST(:people AS tsquery)
    ORDER BY {_BY_TREND}
    LIMIT :films
)
SELECT d.people FROM page p JOIN documents d USING (movie_id)
ORDER BY p.rank_key DESC NULLS LAST, p.popularity DESC, p.movie_id
""")  # noqa: S608 -- made of constants; values are bound


@dataclass(frozen=True, slots=True)
class _Filters:
    """The filters that are asked for, by name, and their values."""

    names: tuple[str, ...]
    values: Mapping[str, Any]

    @classmethod
    def of(cls, request: SearchRequest) -> "_Filters":
        """Those of a request."""
        genres = [fold(genre) for genre in request.genres] or None
        possible = {
            "all_genres": genres if request.genre_mode == "all" else None,
            "any_genre": genres if request.genre_mode == "any" else None,
            "decade": request.decade,
            "language": request.language,
            "year_from": request.year_from,
            "year_to": request.year_to,
            "min_rating": request.min_rating,
            "min_votes": request.min_votes,
        }
        values = {name: value for name, value in possible.items() if value is not None}
        return cls(tuple(values), values)


@cache
def _passes(names: tuple[str, ...]) -> str:
    """A row `l` of `listing` passes these filters."""
    conditions = ["l.shown", *(sql for name, sql in _ROW_FILTERS.items() if name in names)]
    if of_groups := _of_groups(names):
        conditions.append(
            f"l.facet_group IN (SELECT g.id FROM facet_groups g WHERE {of_groups})"  # noqa: S608
        )
    return " AND ".join(conditions)


def _of_groups(names: tuple[str, ...]) -> str:
    return " AND ".join(sql for name, sql in _GROUP_FILTERS.items() if name in names)


async def _browse(
    connection: AsyncConnection, request: SearchRequest
) -> tuple[_Counts, Sequence[str]]:
    """All films that pass the filters."""
    filters = _Filters.of(request)
    counts = await _counts(connection, _count_listed(filters.names), filters.values)
    if request.offset >= counts.total:
        return counts, []
    by_chart = request.sort == "relevance" or (request.sort, request.order) == ("trend", "desc")
    along = by_chart and (
        not filters.names or await _is_shorter_along_the_chart(connection, request, counts.total)
    )
    statement = _browse_statement(
        "trend" if by_chart else request.sort, request.order, filters.names, along=along
    )
    page = {"limit": request.limit, "offset": request.offset}
    found = await connection.execute(statement, {**filters.values, **page})
    return counts, found.scalars().all()


# Looking a film of the chart up takes as long as sorting this many.
_FILMS_A_STEP: Final = 3

_COUNT_ALL: Final = text("SELECT COALESCE(sum(films), 0)::bigint FROM facet_counts")


async def _is_shorter_along_the_chart(
    connection: AsyncConnection, request: SearchRequest, total: int
) -> bool:
    """Whether looking at films in the order of the chart, until the page is full of those that pass
    filters, is less work than finding and sorting all that do: every (all / total)th passes."""
    films: int = (await connection.execute(_COUNT_ALL)).scalar_one()
    steps = (request.offset + request.limit) * films / total
    return steps * _FILMS_A_STEP < total


@cache
def _count_listed(names: tuple[str, ...]) -> TextClause:
    """Counts of all films that pass filters; from sums by group where groups decide."""
    if any(name in _ROW_FILTERS for name in names):
        return _counting(f"""
            SELECT l.facet_group, count(*) AS films FROM listing l WHERE {_passes(names)}
            GROUP BY l.facet_group
        """)  # noqa: S608 -- made of constants; values are bound
    return _counting(
        "SELECT facet_group, sum(films) AS films FROM facet_counts GROUP BY facet_group",
        _of_groups(names),
    )


def _counting(by_group: str, condition: str = "") -> TextClause:
    """Total and facets of what a statement counts by group."""
    return text(f"""
        WITH groups AS MATERIALIZED (
            SELECT g.genres, g.decade, g.language, c.films
            FROM ({by_group}) AS c JOIN facet_groups g ON g.id = c.facet_group
            WHERE c.films > 0 {"AND " + condition if condition else ""}
        )
        {_COUNTED}
    """)  # noqa: S608 -- made of constants; values are bound


@cache
def _browse_statement(sort: Sort, order: str, names: tuple[str, ...], *, along: bool) -> TextClause:
    if not along:
        return text(f"""
            SELECT l.movie_id FROM listing l WHERE {_passes(names)}
            ORDER BY {_order_by(sort, order)} LIMIT :limit OFFSET :offset
        """)  # noqa: S608 -- made of constants; values are bound
    # OFFSET 0 keeps the planner from turning this into a join of everything.
    passes = f"""AND EXISTS (
        SELECT FROM listing l WHERE l.movie_id = r.movie_id AND {_passes(names)} OFFSET 0
    )"""
    return text(f"""
        SELECT r.movie_id FROM ranking r WHERE r.shown {passes if names else ""}
        ORDER BY {_BY_TREND} LIMIT :limit OFFSET :offset
    """)  # noqa: S608 -- made of constants; values are bound


def _order_by(sort: Sort, order: str) -> str:
    if (sort, order) == ("trend", "asc"):
        return _BY_TREND_REVERSED
    return _ORDERS.get(sort, {}).get(order, "") + _BY_TREND


async def _find(
    connection: AsyncConnection, request: SearchRequest
) -> tuple[_Counts, Sequence[str], Sequence[Term]]:
    """All films that the words find; with the terms that they were found by."""
    terms, doubtful = await _terms(connection, request.words)
    counts, movie_ids = await _matched(connection, request, terms)
    if not doubtful or counts.total >= _ENOUGH or await _is_right(connection, terms, request.q):
        return counts, movie_ids, terms
    corrected = await _corrected(connection, terms, doubtful)
    if corrected == terms:
        return counts, movie_ids, terms
    counts, movie_ids = await _matched(connection, request, terms, corrected)
    return counts, movie_ids, corrected


async def _is_right(connection: AsyncConnection, terms: Sequence[Term], q: str) -> bool:
    """Whether some film has all words in names as they are, or a title that begins so."""
    as_it_is = [replace(term, corrections=()) for term in terms]
    names = tokens.in_names(as_it_is, finished=True)
    query = f"({names}) | {tokens.title_begins(title_key(q))}"
    return (await connection.execute(_IS_THERE, {"query": query})).scalar_one()


async def _terms(
    connection: AsyncConnection, asked: Sequence[str]
) -> tuple[Sequence[Term], set[str]]:
    """What each word stands for, and which words are known and could be mistyped all the same."""
    unfinished = [number == len(asked) for number, _ in enumerate(asked, start=1)]
    rows = await connection.execute(
        _KNOWN_WORDS, {"words": list(asked), "unfinished": unfinished, "last": _LAST_CHARACTER}
    )
    terms: list[Term] = []
    doubtful: set[str] = set()
    unknown: set[str] = set()
    for (word, stem, known), is_unfinished in zip(rows, unfinished, strict=True):
        terms.append(Term(word=word, unfinished=is_unfinished, stem=stem))
        if typo_budget(word):
            (doubtful if known else unknown).add(word)
    return await _corrected(connection, terms, unknown), doubtful


async def _corrected(
    connection: AsyncConnection, terms: Sequence[Term], mistyped: set[str]
) -> Sequence[Term]:
    """The terms with what those words may have been meant for."""
    looked_up = [term for term in terms if term.word in mistyped]
    if not looked_up:
        return terms
    rows = await connection.execute(
        _NEAR_WORDS,
        {
            "words": [term.word for term in looked_up],
            "budgets": [typo_budget(term.word) for term in looked_up],
            "unfinished": [term.unfinished for term in looked_up],
        },
    )
    near: dict[str, list[tuple[int, bool, str]]] = {}
    for word, candidate, named in rows:
        errors = typing_errors(word, candidate)
        if 0 < errors <= typo_budget(word):
            near.setdefault(word, []).append((errors, not named, candidate))
    return [
        Term(
            word=term.word,
            unfinished=term.unfinished,
            stem=term.stem,
            corrections=tuple(
                candidate for _, _, candidate in sorted(near[term.word])[:_MAX_CORRECTIONS]
            ),
        )
        if term.word in near
        else term
        for term in terms
    ]


async def _matched(
    connection: AsyncConnection,
    request: SearchRequest,
    terms: Sequence[Term],
    corrected: Sequence[Term] = (),
) -> tuple[_Counts, Sequence[str]]:
    """Counts and the page, of what the terms find and, behind it, what the corrected ones find."""
    key = title_key(request.q)
    tiers = _tiers(terms, key)
    if corrected:
        before = tiers[-1].query
        tiers += [
            replace(tier, query=f"({before}) | ({tier.query})") for tier in _tiers(corrected, key)
        ]
    widest = tiers[-1].query
    filters = _Filters.of(request)
    parameters: dict[str, Any] = {**filters.values, "widest": widest}
    counts = await _counts(connection, _count_found(filters.names), parameters)
    if request.offset >= counts.total:
        return counts, []
    parameters |= {"limit": request.limit, "offset": request.offset}
    if request.sort == "relevance":
        mistyped = any(term.corrections for term in (*terms, *corrected))
        statement = _best_statement(
            tuple(mistyped and tier.of_title for tier in tiers), filters.names
        )
        parameters |= {f"query_{n}": tier.query for n, tier in enumerate(tiers)}
        parameters["key"] = key
    else:
        statement = _sorted_statement(request.sort, request.order, filters.names)
    return counts, (await connection.execute(statement, parameters)).scalars().all()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tier:
    """Films that come behind those of the tiers before it, all of which its query finds as well.

    Attributes:
        of_title: it is about titles; so the nearest title comes first where a word is mistyped.
    """

    query: str
    of_title: bool = False


def _tiers(terms: Sequence[Term], key: str) -> list[_Tier]:
    """Best first: the exact title, …, anywhere."""
    begins = tokens.title_begins(key)
    finished, in_title = tokens.in_title(terms, finished=True), tokens.in_title(terms)
    # What begins a word of nearly every film is looked for in titles only.
    titles_only = all(len(term.word) <= 2 or term.word in ARTICLES for term in terms)
    tiers = [
        _Tier(query=tokens.exact_title(key), of_title=True),
        _Tier(query=begins, of_title=True),
        _Tier(query=f"({finished}) | {begins}", of_title=True),
        _Tier(query=f"({in_title}) | {begins}", of_title=True),
    ]
    if titles_only:
        return tiers
    names, in_names = tokens.in_names(terms, finished=True), tokens.in_names(terms)
    return [
        *tiers,
        _Tier(query=f"({names}) | ({in_title}) | {begins}"),
        _Tier(query=f"({in_names}) | {begins}"),
        _Tier(query=tokens.anywhere(terms, key)),
    ]


@cache
def _count_found(names: tuple[str, ...]) -> TextClause:
    return _counting(f"""
        SELECT l.facet_group, count(*) AS films FROM listing l
        WHERE l.tokens @@ CAST(:widest AS tsquery) AND {_passes(names)}
        GROUP BY l.facet_group
    """)  # noqa: S608 -- made of constants; values are bound


@cache
def _best_statement(by_distance: tuple[bool, ...], names: tuple[str, ...]) -> TextClause:
    """A page of all tiers, one after the other: those behind the page are never looked for.

    Args:
        by_distance: for each tier whether the nearest title comes first.
        names: of the filters.
    """
    tiers = "\nUNION ALL\n".join(
        f"""(
            SELECT l.movie_id FROM listing l
            WHERE l.tokens @@ CAST(:query_{n} AS tsquery) AND {_passes(names)}
            {_NOT_BEFORE.format(before=n - 1) if n else ""}
            ORDER BY {_DISTANCE if near else ""} {_BY_TREND}
        )"""  # noqa: S608 -- made of constants; values are bound
        for n, near in enumerate(by_distance)
    )
    return text(f"SELECT movie_id FROM ({tiers}) AS t LIMIT :limit OFFSET :offset")  # noqa: S608


_NOT_BEFORE: Final = """AND l.number NOT IN (
    SELECT number FROM listing WHERE shown AND tokens @@ CAST(:query_{before} AS tsquery)
)"""
_DISTANCE: Final = """(
    SELECT 1 - similarity(d.title_key, :key) FROM documents d WHERE d.movie_id = l.movie_id
),"""


@cache
def _sorted_statement(sort: Sort, order: str, names: tuple[str, ...]) -> TextClause:
    # First what is found: along an index on dates the tokens of every row would be unpacked.
    return text(f"""
        WITH l AS MATERIALIZED (
            SELECT l.movie_id, l.release_date, l.vote_average, l.rank_key, l.popularity
            FROM listing l
            WHERE l.tokens @@ CAST(:widest AS tsquery) AND {_passes(names)}
        )
        SELECT movie_id FROM l ORDER BY {_order_by(sort, order)} LIMIT :limit OFFSET :offset
    """)  # noqa: S608 -- made of constants; values are bound


async def _hits(
    connection: AsyncConnection,
    movie_ids: Sequence[str],
    terms: Sequence[Term],
    *,
    highlight: bool,
) -> list[SearchHit]:
    if not movie_ids:
        return []
    rows = (
        (await connection.execute(_SHOW, {"movie_ids": list(movie_ids), "highlight": highlight}))
        .mappings()
        .all()
    )
    if not highlight:
        return [SearchHit.from_json(row["fields"]) for row in rows]
    stemmed = await _stemmed(connection, [row["overview"] or "" for row in rows], terms)
    return [SearchHit.from_json(row["fields"], _highlights(row, terms, stemmed)) for row in rows]


async def _stemmed(
    connection: AsyncConnection, overviews: Sequence[str], terms: Sequence[Term]
) -> frozenset[str]:
    """The words of plots that share their stem with a word of the query."""
    stems = [term.stem for term in terms if term.stem is not None]
    if not stems:
        return frozenset()
    used = sorted({word for overview in overviews for word in words(overview)})
    found = await connection.execute(_STEMMED, {"words": used, "stems": stems})
    return frozenset(found.scalars())


def _highlights(row: RowMapping, terms: Sequence[Term], stemmed: frozenset[str]) -> Highlights:
    whole = {term.word for term in terms} | {
        word for term in terms if not term.unfinished for word in term.corrections
    }
    beginnings = tuple(
        word for term in terms if term.unfinished for word in (term.word, *term.corrections)
    )

    def in_names(word: str) -> bool:
        return word in whole or (bool(beginnings) and word.startswith(beginnings))

    fields: Mapping[str, Any] = row["fields"]
    found: dict[str, str | Sequence[str] | None] = {
        "title": marked(fields["title"], in_names),
        "original_title": marked(fields["original_title"] or "", in_names),
        "people": marked_items(row["people"], in_names),
        "keywords": marked_items(row["keywords"], in_names),
        "overview": snippet(row["overview"] or "", lambda word: word in stemmed),
    }
    return {name: html for name, html in found.items() if html}


async def _counts(
    connection: AsyncConnection, statement: TextClause, parameters: Mapping[str, Any]
) -> _Counts:
    return _counts_from((await connection.execute(statement, parameters)).mappings().one())


def _counts_from(row: RowMapping) -> _Counts:
    return _Counts(
        row["total"],
        Facets(
            genre=_ordered(row["genre"]),
            decade=_ordered(row["decade"]),
            language=_ordered(row["language"]),
        ),
    )


def _ordered(counts: Mapping[str, int] | None) -> dict[str, int]:
    return dict(sorted((counts or {}).items(), key=lambda item: (-item[1], item[0])))
