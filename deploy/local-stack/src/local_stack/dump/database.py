"""What a dump says of a database: its schemas, their revisions, and the rows of each table."""

import json
from collections.abc import Iterable
from typing import Any, Final, cast

from local_stack.dump.archive import Schema
from local_stack.servers import PostgresServer

_VERSIONS: Final = "alembic_version"
_COUNT_SECONDS: Final = 1800.0
# What services write about themselves when they start.
_BOOKKEEPING: Final = frozenset({_VERSIONS, "applied_formula", "index_state"})
_TABLES: Final = """
SELECT coalesce(json_agg(json_build_array(schemaname, tablename) ORDER BY schemaname, tablename),
    '[]')
FROM pg_catalog.pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
"""


def describe(server: PostgresServer) -> dict[str, Schema]:
    """Every schema that has tables. Raises RuntimeError."""
    tables = [(str(schema), str(table)) for schema, table in json.loads(server.execute(_TABLES))]
    counts = _counts(server, tables)
    return {
        schema: Schema(
            revision=_revision(server, schema) if (schema, _VERSIONS) in counts else None,
            tables={table: rows for (owner, table), rows in counts.items() if owner == schema},
        )
        for schema in sorted({schema for schema, _ in tables})
    }


def holds_data(schemas: Iterable[Schema]) -> bool:
    """Whether there is more than what a start writes."""
    return any(
        rows and table not in _BOOKKEEPING
        for schema in schemas
        for table, rows in schema.tables.items()
    )


def move_uploads(server: PostgresServer, before: str, now: str) -> None:
    """Tell the jobs where their uploads are: addresses that began with `before`."""
    for schema, table in json.loads(server.execute(_TABLES)):
        if table != "jobs":
            continue
        server.execute(
            f"UPDATE {_name(schema)}.jobs SET request = jsonb_set(request, '{{uri}}', "  # noqa: S608 - quoted
            f"to_jsonb({_text(now)} || substr(request->>'uri', {len(before) + 1}))) "
            f"WHERE starts_with(request->>'uri', {_text(before)})"
        )


def _counts(server: PostgresServer, tables: list[tuple[str, str]]) -> dict[tuple[str, str], int]:
    if not tables:
        return {}
    counting = " UNION ALL ".join(
        f"SELECT {number} AS number, count(*) AS rows FROM {_name(schema)}.{_name(table)}"  # noqa: S608 - quoted
        for number, (schema, table) in enumerate(tables)
    )
    sql = f"SELECT json_object_agg(number, rows) FROM ({counting}) AS counts"  # noqa: S608 - as above
    rows = cast("dict[str, Any]", json.loads(server.execute(sql, seconds=_COUNT_SECONDS)))
    return {table: int(rows[str(number)]) for number, table in enumerate(tables)}


def _revision(server: PostgresServer, schema: str) -> str | None:
    sql = f"SELECT version_num FROM {_name(schema)}.{_VERSIONS}"  # noqa: S608 - quoted
    return server.execute(sql) or None


def _name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _text(literal: str) -> str:
    return "'" + literal.replace("'", "''") + "'"
