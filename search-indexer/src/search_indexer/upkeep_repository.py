"""SQL of rebuilding the tables that PostgreSQL searches, and of comparing an index with the films.

The tables of `INDEXED` hold what was told (the truth) and what was derived from it to be searched.
A rebuild derives all of it again into tables of the same names in a second schema, which statements
write to because it stands first in their search path. So there is one way to derive, however often
it changes. Then the tables change places by changing schemas; indexes and constraints keep their
names.
"""

# ruff: noqa: S608 -- the statements are made of constants and quoted names; values are bound

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol, cast

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from search_indexer import repository
from search_indexer.documents import CatalogueChange, Document, Figures, Removal
from search_indexer.repository import FACTS, derivation, document_from, figures_from

# In the order in which writers lock them.
INDEXED: Final = ("facet_groups", "documents", "listing", "facet_counts", "ranking", "vocabulary")
# Nearly as searches lock them, so that those under way end before the next table is asked for.
_EXCLUSIVE_ORDER: Final = (
    "vocabulary",
    "facet_counts",
    "facet_groups",
    "ranking",
    "listing",
    "documents",
)
_NEXT: Final = "_next"
_PAST: Final = "_past"
# Building an index over half a million films takes minutes on a slow disk.
_BUILD_SECONDS: Final = 1800.0
_SWAP_LOCK_TIMEOUT: Final = "150ms"

_FILMS: Final = f"""
SELECT k.movie_id, d.movie_id IS NOT NULL AS told, {FACTS}
FROM keys k LEFT JOIN documents d USING (movie_id) LEFT JOIN listing l USING (movie_id)
ORDER BY k.movie_id
"""
# Each half stops after a page, so that the union sorts two pages and not all films.
_PAGE: Final = text(f"""
WITH keys AS MATERIALIZED (
    (SELECT movie_id FROM documents WHERE movie_id > :after ORDER BY movie_id LIMIT :limit)
    UNION
    (SELECT movie_id FROM listing WHERE movie_id > :after ORDER BY movie_id LIMIT :limit)
    ORDER BY movie_id LIMIT :limit
)
{_FILMS}""")
_NAMED: Final = text(f"""
WITH keys AS MATERIALIZED (SELECT movie_id FROM unnest(CAST(:movie_ids AS text[])) AS k (movie_id))
{_FILMS}""")
_COUNT: Final = text("""
SELECT (SELECT count(*) FROM documents)
    + (SELECT count(*) FROM listing l WHERE NOT EXISTS (
        SELECT FROM documents d WHERE d.movie_id = l.movie_id))
""")
_SHOWN: Final = text("SELECT count(*) FROM listing WHERE shown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """Everything that was told about a film; `change` is None while only figures are known."""

    movie_id: str
    change: CatalogueChange | None
    figures: Figures

    @property
    def document(self) -> Document | None:
        """What can be found; None for a film that is gone or not known yet."""
        return self.change if isinstance(self.change, Document) else None


async def films_after(connection: AsyncConnection, after: str, limit: int) -> list[Film]:
    """The films whose keys follow, in the order of their keys."""
    rows = await connection.execute(_PAGE, {"after": after, "limit": limit})
    return [_film(row) for row in rows.mappings()]


async def films_named(connection: AsyncConnection, movie_ids: Sequence[str]) -> list[Film]:
    """The films with these keys, also such as nothing is known of."""
    rows = await connection.execute(_NAMED, {"movie_ids": list(movie_ids)})
    return [_film(row) for row in rows.mappings()]


async def count_films(connection: AsyncConnection) -> int:
    """How many keys anything is known of."""
    return int((await connection.execute(_COUNT)).scalar_one())


async def count_shown(connection: AsyncConnection) -> int:
    """How many films can be found."""
    return int((await connection.execute(_SHOWN)).scalar_one())


async def store_films(connection: AsyncConnection, films: Sequence[Film]) -> None:
    """Writes everything that was told about films, with all that is derived from it."""
    await repository.store_catalogue_changes(
        connection, [film.change for film in films if film.change is not None]
    )
    await repository.store_trends(
        connection, [film.figures.trend for film in films if film.figures.trend is not None]
    )
    await repository.store_ratings(
        connection, [film.figures.ratings for film in films if film.figures.ratings is not None]
    )


def _film(row: RowMapping) -> Film:
    change: CatalogueChange | None = None
    if row["told"]:
        change = (
            Removal(movie_id=row["movie_id"], revision=row["revision"])
            if row["removed"]
            else document_from(row)
        )
    return Film(movie_id=row["movie_id"], change=change, figures=figures_from(row))


# --- the second set of tables -------------------------------------------------------------------


class _Executing(Protocol):
    async def execute(self, query: str, *, timeout: float) -> object: ...  # noqa: ASYNC109 -- the driver's


_DEFINITIONS: Final = text("""
SELECT c.relname AS table_name, quote_ident(c.relname) AS quoted,
    array_to_string(c.reloptions, ', ') AS options,
    ARRAY(
        SELECT format('ALTER TABLE %I.%I ADD CONSTRAINT %I %s',
            CAST(:next AS text), c.relname, k.conname, pg_get_constraintdef(k.oid))
        FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype IN ('p', 'u')
        ORDER BY k.conname
    ) AS keys,
    ARRAY(
        SELECT replace(pg_get_indexdef(i.indexrelid),
            format(' ON %I.%I ', CAST(:live AS text), c.relname),
            format(' ON %I.%I ', CAST(:next AS text), c.relname))
        FROM pg_index i
        WHERE i.indrelid = c.oid
            AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
        ORDER BY i.indexrelid
    ) AS indexes,
    ARRAY(
        SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t
        WHERE t.tgrelid = c.oid AND NOT t.tgisinternal
        ORDER BY t.tgname
    ) AS triggers
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = :live AND c.relname = ANY(CAST(:tables AS text[]))
ORDER BY c.relname
""")
_BEHIND: Final = """
SELECT movie_id FROM (
    SELECT d.movie_id FROM {live}.documents d
    LEFT JOIN {next}.documents n USING (movie_id)
    WHERE n.revision IS DISTINCT FROM d.revision
    UNION
    SELECT l.movie_id FROM {live}.listing l LEFT JOIN {next}.listing n USING (movie_id)
    WHERE (n.trend_revision, n.ratings_revision)
        IS DISTINCT FROM (l.trend_revision, l.ratings_revision)
) AS behind
LIMIT :limit
"""

_LAYOUT: Final = text("SELECT version_num FROM alembic_version")

# Triggers keep the counts up to date, but write to the live tables wherever they fire; so the
# second set gets them, and its counts, when it is swapped in.
_COUNT_GROUPS: Final = """
INSERT INTO {next}.facet_counts (facet_group, films)
SELECT facet_group, count(*) FROM {next}.listing WHERE shown GROUP BY facet_group
"""


@dataclass(frozen=True, slots=True)
class _Definition:
    table: str
    options: str | None
    keys: Sequence[str]
    indexes: Sequence[str]
    triggers: Sequence[str]


class NextTables:
    """The tables that will take the place of the live ones.

    Args:
        schema: the service's own; the second set lies in `<schema>_next`, the replaced tables in
            `<schema>_past` until they are dropped.
    """

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._live = f'"{schema}"'
        self._next = f'"{schema}{_NEXT}"'
        self._past = f'"{schema}{_PAST}"'
        self._count = text(_COUNT_GROUPS.format(next=self._next))
        self._behind = text(_BEHIND.format(live=self._live, next=self._next))

    async def exist(self, connection: AsyncConnection) -> bool:
        """Whether there is a second set."""
        found = await connection.execute(
            text("SELECT to_regclass(:name)"), {"name": f"{self._next}.documents"}
        )
        return found.scalar_one() is not None

    async def made_by(self, connection: AsyncConnection) -> str:
        """Names the rules and the layout of tables that are made now."""
        layout = (await connection.execute(_LAYOUT)).scalar_one()
        return f"{derivation()} {layout}"

    async def create(self, connection: AsyncConnection) -> None:
        """An empty second set, with keys and without any other index."""
        await self.drop(connection)
        await connection.execute(text(f"CREATE SCHEMA {self._next}"))
        for table in (*INDEXED, "index_changes"):
            await connection.execute(
                text(
                    f"CREATE TABLE {self._next}.{table} "
                    f"(LIKE {self._live}.{table} INCLUDING ALL EXCLUDING INDEXES)"
                )
            )
        # Writers note what changed; what they note here, nobody reads.
        await connection.execute(text(f"CREATE SEQUENCE {self._next}.index_change_versions"))
        for definition in await self._definitions(connection, (*INDEXED, "index_changes")):
            for key in definition.keys:
                await connection.execute(text(_literal(key)))
            if definition.options:
                await connection.execute(
                    text(f"ALTER TABLE {self._next}.{definition.table} SET ({definition.options})")
                )

    @asynccontextmanager
    async def first(self, connection: AsyncConnection) -> AsyncGenerator[None]:
        """Within the block, statements that name a table mean the second set."""
        await self._set_path(connection, f"{self._next}, {self._live}, public")
        yield
        # After an error the transaction is lost, and the path with it.
        await self._set_path(connection, f"{self._live}, public")

    async def build_indexes(self, connection: AsyncConnection) -> None:
        """The other indexes, which are built faster over rows that are there, and statistics."""
        raw = await connection.get_raw_connection()
        driver = cast("_Executing", raw.driver_connection)
        await connection.execute(text("SET LOCAL statement_timeout = 0"))
        await connection.execute(text("SET LOCAL maintenance_work_mem = '128MB'"))
        for definition in await self._definitions(connection, INDEXED):
            for statement in definition.indexes:
                await driver.execute(statement, timeout=_BUILD_SECONDS)
            await driver.execute(f"ANALYZE {self._next}.{definition.table}", timeout=_BUILD_SECONDS)

    async def behind(self, connection: AsyncConnection, limit: int) -> list[str]:
        """Films of which the second set has an older state, or none."""
        return list((await connection.execute(self._behind, {"limit": limit})).scalars())

    async def stop_writers(self, connection: AsyncConnection) -> None:
        """Until the end of the transaction nobody else changes the live tables."""
        tables = ", ".join(f"{self._live}.{table}" for table in INDEXED)
        await connection.execute(text(f"LOCK TABLE {tables} IN SHARE ROW EXCLUSIVE MODE"))

    async def swap(self, connection: AsyncConnection) -> None:
        """Puts the second set in the place of the live tables, at the end of the transaction.

        Raises whatever `Database.transaction` makes a `Conflict` of when searches that take long
        are in the way; others wait a moment.
        """
        await connection.execute(text(f"SET LOCAL lock_timeout = '{_SWAP_LOCK_TIMEOUT}'"))
        # Nobody else writes the second set, so it is counted while the live tables are still read.
        await connection.execute(self._count)
        locked = ", ".join(f"{self._live}.{table}" for table in _EXCLUSIVE_ORDER)
        await connection.execute(text(f"LOCK TABLE {locked} IN ACCESS EXCLUSIVE MODE"))
        triggers = [
            trigger
            for definition in await self._definitions(connection, INDEXED)
            for trigger in definition.triggers
        ]
        await connection.execute(text(f"CREATE SCHEMA {self._past}"))
        for table in INDEXED:
            await connection.execute(
                text(f"ALTER TABLE {self._live}.{table} SET SCHEMA {self._past}")
            )
            await connection.execute(
                text(f"ALTER TABLE {self._next}.{table} SET SCHEMA {self._live}")
            )
        for trigger in triggers:
            await connection.execute(text(_literal(trigger)))

    async def drop(self, connection: AsyncConnection) -> None:
        """Deletes the second set and replaced tables, whatever there is of them."""
        for schema in (self._next, self._past):
            await connection.execute(text(f"DROP SCHEMA IF EXISTS {schema} CASCADE"))

    async def left_over(self, connection: AsyncConnection) -> bool:
        """Whether there is anything to drop."""
        found = await connection.execute(
            text("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = ANY(:names))"),
            {"names": [self._schema + _NEXT, self._schema + _PAST]},
        )
        return bool(found.scalar_one())

    async def _set_path(self, connection: AsyncConnection, path: str) -> None:
        await connection.execute(text(f"SET LOCAL search_path = {path}"))

    async def _definitions(
        self, connection: AsyncConnection, tables: Sequence[str]
    ) -> list[_Definition]:
        rows = await connection.execute(
            _DEFINITIONS,
            {"live": self._schema, "next": self._schema + _NEXT, "tables": list(tables)},
        )
        return [
            _Definition(row.table_name, row.options, row.keys, row.indexes, row.triggers)
            for row in rows
        ]


def _literal(statement: str) -> str:
    # A colon would begin the name of a parameter.
    return statement.replace(":", "\\:")


# --- comparing ----------------------------------------------------------------------------------

_TRUTH: Final = """
SELECT d.movie_id, d.revision, COALESCE(l.trend_revision, 0) AS trend_revision,
    COALESCE(l.ratings_revision, 0) AS ratings_revision,
    EXISTS (
        SELECT FROM index_changes c WHERE c.movie_id = d.movie_id AND c.error IS NULL
    ) AS pending
FROM documents d LEFT JOIN listing l USING (movie_id)
WHERE NOT d.removed AND {condition}
"""
_TRUTH_AFTER: Final = text(
    _TRUTH.format(condition="d.movie_id > :after ORDER BY d.movie_id LIMIT :limit")
)
_TRUTH_NAMED: Final = text(
    _TRUTH.format(condition="d.movie_id = ANY(CAST(:movie_ids AS text[])) ORDER BY d.movie_id")
)
_PENDING_AMONG: Final = text("""
SELECT movie_id FROM index_changes
WHERE movie_id = ANY(CAST(:movie_ids AS text[])) AND error IS NULL
""")

# What is searched, beside what it was derived from. Facts that are listed a second time must be the
# same; what folding makes of titles and names is known by the rules that were applied.
_LISTED: Final = text("""
WITH keys AS MATERIALIZED (
    (SELECT movie_id FROM documents WHERE movie_id > :after ORDER BY movie_id LIMIT :limit)
    UNION
    (SELECT movie_id FROM listing WHERE movie_id > :after ORDER BY movie_id LIMIT :limit)
    ORDER BY movie_id LIMIT :limit
)
SELECT k.movie_id,
    CASE
        WHEN d.movie_id IS NULL OR d.removed
            THEN CASE
                WHEN COALESCE(l.shown, false) OR COALESCE(r.shown, false) THEN 'surplus'
            END
        WHEN NOT COALESCE(l.shown, false) THEN 'missing'
        WHEN d.derived_by <> :derived_by OR l.tokens = '' AND d.title_key <> ''
            OR (l.year, l.release_date, l.vote_average, l.vote_count, l.popularity)
                IS DISTINCT FROM (CAST(extract(year FROM d.release_date) AS integer),
                    d.release_date, d.vote_average, d.vote_count, d.popularity)
            OR (r.shown, r.rank_key, r.popularity)
                IS DISTINCT FROM (true, l.rank_key, l.popularity)
            OR g.genres IS DISTINCT FROM d.genres
            OR g.decade IS DISTINCT FROM
                COALESCE(CAST(floor(extract(year FROM d.release_date) / 10) AS integer) * 10, 0)
            OR g.language IS DISTINCT FROM COALESCE(d.original_language, '')
            THEN 'outdated'
    END AS fault
FROM keys k
LEFT JOIN documents d USING (movie_id)
LEFT JOIN listing l USING (movie_id)
LEFT JOIN ranking r USING (movie_id)
LEFT JOIN facet_groups g ON g.id = l.facet_group
ORDER BY k.movie_id
""")
_LOCK_FILMS: Final = text("""
SELECT movie_id FROM documents WHERE movie_id = ANY(CAST(:movie_ids AS text[]))
ORDER BY movie_id FOR UPDATE
""")
_DELETE_DOCUMENTS: Final = text("""
DELETE FROM documents WHERE movie_id = ANY(CAST(:movie_ids AS text[]))
""")
_UNLIST: Final = text("""
UPDATE listing l SET shown = false
WHERE l.movie_id = ANY(CAST(:movie_ids AS text[])) AND l.shown
    AND NOT EXISTS (SELECT FROM documents d WHERE d.movie_id = l.movie_id)
""")
_UNRANK: Final = text("""
UPDATE ranking r SET shown = false
WHERE r.movie_id = ANY(CAST(:movie_ids AS text[])) AND r.shown
    AND NOT EXISTS (SELECT FROM documents d WHERE d.movie_id = r.movie_id)
""")
_WRONG_COUNTS: Final = text("""
SELECT count(*) FROM (
    SELECT facet_group, sum(films) AS films FROM facet_counts
    GROUP BY facet_group HAVING sum(films) <> 0
) AS c
FULL JOIN (
    SELECT facet_group, count(*) AS films FROM listing WHERE shown GROUP BY facet_group
) AS l USING (facet_group)
WHERE c.films IS DISTINCT FROM l.films
""")
_STOP_COUNTING: Final = text("LOCK TABLE listing, facet_counts IN SHARE ROW EXCLUSIVE MODE")
_FORGET_COUNTS: Final = text("DELETE FROM facet_counts")
_COUNT_AGAIN: Final = text("""
INSERT INTO facet_counts (facet_group, films)
SELECT facet_group, count(*) FROM listing WHERE shown GROUP BY facet_group
""")
_OTHER_RULES: Final = text("""
SELECT EXISTS (SELECT FROM documents WHERE NOT removed AND derived_by <> :derived_by)
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """The state of a film that can be found, by its revisions.

    `pending`: the external index has still to be told, and did not refuse it before.
    """

    movie_id: str
    revision: int
    trend_revision: int
    ratings_revision: int
    pending: bool


async def truth_after(connection: AsyncConnection, after: str, limit: int) -> list[Truth]:
    """Films that can be found, in the order of their keys."""
    rows = await connection.execute(_TRUTH_AFTER, {"after": after, "limit": limit})
    return [Truth(**row) for row in rows.mappings()]


async def truth_named(connection: AsyncConnection, movie_ids: Sequence[str]) -> list[Truth]:
    """Those of these films that can be found."""
    rows = await connection.execute(_TRUTH_NAMED, {"movie_ids": list(movie_ids)})
    return [Truth(**row) for row in rows.mappings()]


async def pending_among(connection: AsyncConnection, movie_ids: Sequence[str]) -> set[str]:
    """Those of these films that the external index has still to be told of, for the first time."""
    rows = await connection.execute(_PENDING_AMONG, {"movie_ids": list(movie_ids)})
    return set(rows.scalars())


async def listed_after(
    connection: AsyncConnection, after: str, limit: int
) -> list[tuple[str, str | None]]:
    """Films of the tables that PostgreSQL searches, each with what is wrong with it, if anything.

    `missing`, `surplus` or `outdated`; in the order of their keys.
    """
    rows = await connection.execute(
        _LISTED, {"after": after, "limit": limit, "derived_by": derivation()}
    )
    return [(row.movie_id, row.fault) for row in rows]


async def derive_again(connection: AsyncConnection, movie_ids: Sequence[str]) -> None:
    """Writes what is searched of these films anew; others may change them before or after."""
    ids = {"movie_ids": sorted(movie_ids)}
    await connection.execute(_LOCK_FILMS, ids)
    films = await films_named(connection, sorted(movie_ids))
    # To a document that is not there every one is news; figures and counts stay as they are.
    await connection.execute(_DELETE_DOCUMENTS, ids)
    await repository.store_catalogue_changes(
        connection, [film.change for film in films if film.change is not None]
    )
    await connection.execute(_UNLIST, ids)
    await connection.execute(_UNRANK, ids)


async def wrong_counts(connection: AsyncConnection) -> int:
    """How many groups of films are counted wrongly."""
    return int((await connection.execute(_WRONG_COUNTS)).scalar_one())


async def count_again(connection: AsyncConnection) -> None:
    """Counts the films of all groups anew; nobody else changes films meanwhile."""
    await connection.execute(_STOP_COUNTING)
    await connection.execute(_FORGET_COUNTS)
    await connection.execute(_COUNT_AGAIN)


async def has_other_rules(connection: AsyncConnection) -> bool:
    """Whether any film was derived by other rules than this program's."""
    return bool((await connection.execute(_OTHER_RULES, {"derived_by": derivation()})).scalar_one())
