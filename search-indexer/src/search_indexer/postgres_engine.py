"""The search engine that needs nothing but the database: full-text search in the service's tables.

A document is found when it has every word of the query, as a prefix in names (titles, people,
keywords) or by English stem anywhere, or when the query begins its title written without spaces.
Words of one or two letters, or articles, alone are looked for in titles only.
A word that no name begins with is taken for mistyped, and the nearest words of the vocabulary stand
in for it; when nothing at all is found, the same is done for every word.

Best first: the exact title, titles that begin so, titles with all words, names with all words, the
rest; then, for mistyped queries, the nearest title; then by trend.

Nothing a person types becomes SQL: words are letters and digits only (see `folding`), and they and
all filters are bound parameters.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from service_kit import Database
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from search_indexer.engine import (
    Facets,
    SearchHit,
    SearchRequest,
    SearchResult,
)
from search_indexer.folding import ARTICLES, fold, title_key, typing_errors, typo_budget

_MAX_CORRECTIONS: Final = 12
# In the C collation all texts that begin with a prefix sort before the prefix and this.
_LAST_CHARACTER: Final = "\U0010ffff"

# For each query word: is it the beginning of a known word, and which known words are near it. Those
# with the same first letter come from the index on it; a wrong first letter is found by trigrams.
_LOOK_UP_WORDS: Final = text("""
SELECT q.word, EXISTS (
        SELECT FROM vocabulary v WHERE v.word >= q.word COLLATE "C" AND v.word < q.word || :last
    ) AS known,
    ARRAY(
        SELECT v.word FROM vocabulary v
        WHERE left(v.word, 1) = left(q.word, 1)
            AND length(v.word) BETWEEN length(q.word) - q.budget AND length(q.word) + q.budget
            AND levenshtein_less_equal(v.word, q.word, q.budget + 1) <= q.budget + 1
        UNION
        SELECT v.word FROM vocabulary v
        WHERE v.word % q.word
            AND levenshtein_less_equal(v.word, q.word, q.budget + 1) <= q.budget + 1
    ) AS near
FROM unnest(CAST(:words AS text[]), CAST(:budgets AS integer[])) AS q (word, budget)
""")

_FILTERS: Final = """
    l.shown
    AND (CAST(:genres AS text[]) IS NULL OR l.genre_keys @> CAST(:genres AS text[]))
    AND (CAST(:year AS integer) IS NULL OR l.year = CAST(:year AS integer))
    AND (CAST(:language AS text) IS NULL OR lower(l.language) = lower(CAST(:language AS text)))
    AND (CAST(:min_rating AS double precision) IS NULL
        OR l.vote_average >= CAST(:min_rating AS double precision))
    AND (CAST(:min_votes AS bigint) IS NULL OR l.vote_count >= CAST(:min_votes AS bigint))
"""

_BROWSED: Final = f"""
matched AS MATERIALIZED (
    SELECT l.movie_id, l.facet_group, l.rank_key, l.popularity, 0 AS tier, 0 AS distance
    FROM listing l
    WHERE {_FILTERS}
)"""  # noqa: S608 -- made of constants; values are bound

_FOUND: Final = f"""
found AS MATERIALIZED (
    SELECT d.movie_id,
        CASE
            WHEN d.title_key = :key OR d.original_title_key = :key THEN 0
            WHEN starts_with(d.title_key, :key) OR starts_with(d.original_title_key, :key) THEN 1
            WHEN d.title_words @@ CAST(:words AS tsquery) THEN 2
            WHEN :titles_only OR d.name_words @@ CAST(:words AS tsquery) THEN 3
            ELSE 4
        END AS tier,
        CASE
            WHEN :mistyped AND d.title_words @@ CAST(:words AS tsquery)
            THEN 1 - similarity(d.title_key, :key)
            ELSE 0
        END AS distance
    FROM documents d
    WHERE (d.title_key >= :key AND d.title_key < :key_end)
        OR (d.original_title_key >= :key AND d.original_title_key < :key_end)
        OR (:titles_only AND d.title_words @@ CAST(:words AS tsquery))
        OR (NOT :titles_only AND d.all_words @@ (
            CAST(:words AS tsquery) || plainto_tsquery('pg_catalog.english', :prose)))
),
matched AS MATERIALIZED (
    SELECT l.movie_id, l.facet_group, l.rank_key, l.popularity, f.tier, f.distance
    FROM found f JOIN listing l USING (movie_id)
    WHERE {_FILTERS}
)"""  # noqa: S608 -- made of constants; values are bound

_RESULT: Final = """
, groups AS MATERIALIZED (
    SELECT g.genres, g.decade, g.language, c.films
    FROM (SELECT facet_group, count(*) AS films FROM matched GROUP BY facet_group) AS c
    JOIN facet_groups g ON g.id = c.facet_group
),
page AS MATERIALIZED (
    SELECT * FROM matched
    ORDER BY tier, distance, rank_key DESC NULLS LAST, popularity DESC, movie_id
    LIMIT :limit OFFSET :offset
)
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
    ) AS g) AS language,
    (SELECT jsonb_agg(
        jsonb_build_object(
            'movie_id', d.movie_id, 'tmdb_id', d.tmdb_id, 'imdb_id', d.imdb_id,
            'title', d.title, 'original_title', d.original_title,
            'original_language', d.original_language, 'release_date', d.release_date,
            'genres', d.genres, 'vote_average', d.vote_average, 'vote_count', d.vote_count,
            'popularity', d.popularity, 'poster_path', d.poster_path,
            'final_trend_score', l.score, 'views', l.views,
            'local_ratings', l.local_ratings, 'local_mean', l.local_mean
        )
        ORDER BY p.tier, p.distance, p.rank_key DESC NULLS LAST, p.popularity DESC, p.movie_id
    ) FROM page p JOIN documents d USING (movie_id) JOIN listing l USING (movie_id)) AS hits
"""

_BROWSE: Final = text(f"WITH {_BROWSED}{_RESULT}")
_FIND: Final = text(f"WITH {_FOUND}{_RESULT}")

# A plan made without knowing the values could not use the indexes on title keys, or skip filters;
# the matches of a broad query are kept in memory; and the index is used for such a query too,
# because the planner does not count what it costs to unpack every document's words.
_PREPARE: Final = text("""
SELECT set_config('plan_cache_mode', 'force_custom_plan', true),
    set_config('work_mem', '32MB', true), set_config('random_page_cost', '1', true)
""")


class PostgresEngine:
    """Searches the documents of this service where they are kept; see the module."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def search(self, request: SearchRequest) -> SearchResult:
        """The films that fit, best first; equally good ones by trend."""
        if request.is_unanswerable:
            return SearchResult()
        async with self._database.reading() as connection:
            await connection.execute(_PREPARE)
            if not request.words:
                return await _result(connection, _BROWSE, _parameters_of(request))
            return await _find(connection, request)

    async def health(self) -> None:
        """Returns when the database answers."""
        await self._database.ping()

    async def close(self) -> None:
        """Nothing to let go of: the database belongs to the service."""


async def _find(connection: AsyncConnection, request: SearchRequest) -> SearchResult:
    corrections, known = await _corrections(connection, request.words)
    unknown = {word: corrections[word] for word in corrections if word not in known}
    result = await _result(connection, _FIND, _find_parameters(request, unknown))
    if result.total == 0 and len(unknown) < len(corrections):
        result = await _result(connection, _FIND, _find_parameters(request, corrections))
    return result


async def _corrections(
    connection: AsyncConnection, words: Sequence[str]
) -> tuple[dict[str, list[str]], set[str]]:
    """The words each query word may have been meant for, and which ones begin a known word."""
    rows = await connection.execute(
        _LOOK_UP_WORDS,
        {
            "words": list(words),
            "budgets": [typo_budget(word) for word in words],
            "last": _LAST_CHARACTER,
        },
    )
    corrections: dict[str, list[str]] = {}
    known: set[str] = set()
    for word, is_known, near in rows:
        ranked = sorted((typing_errors(word, candidate), candidate) for candidate in near)
        meant = [candidate for errors, candidate in ranked if 0 < errors <= typo_budget(word)]
        if meant:
            corrections[word] = meant[:_MAX_CORRECTIONS]
        if is_known:
            known.add(word)
    return corrections, known


async def _result(
    connection: AsyncConnection, statement: TextClause, parameters: Mapping[str, Any]
) -> SearchResult:
    row = (await connection.execute(statement, parameters)).mappings().one()
    return SearchResult(
        hits=[SearchHit.from_json(fields) for fields in row["hits"] or ()],
        total=row["total"],
        facets=Facets(
            genre=_counts(row["genre"]),
            decade=_counts(row["decade"]),
            language=_counts(row["language"]),
        ),
    )


def _counts(counts: Mapping[str, int] | None) -> dict[str, int]:
    return dict(sorted((counts or {}).items(), key=lambda item: (-item[1], item[0])))


def _parameters_of(request: SearchRequest) -> dict[str, Any]:
    return {
        "genres": [fold(genre) for genre in request.genres] or None,
        "year": request.year,
        "language": request.language,
        "min_rating": request.min_rating,
        "min_votes": request.min_votes,
        "limit": request.limit,
        "offset": request.offset,
    }


def _find_parameters(
    request: SearchRequest, corrections: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    alternatives = (
        [f"'{word}':*", *(f"'{correction}'" for correction in corrections.get(word, ()))]
        for word in request.words
    )
    key = title_key(request.q)
    return {
        **_parameters_of(request),
        "words": " & ".join(f"({' | '.join(options)})" for options in alternatives),
        "prose": " ".join(request.words),
        "key": key,
        "key_end": key + _LAST_CHARACTER,
        "mistyped": bool(corrections),
        # What begins a word of nearly every film is looked for in titles only.
        "titles_only": all(len(word) <= 2 or word in ARTICLES for word in request.words),
    }
