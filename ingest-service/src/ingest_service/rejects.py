"""The rows of imported files that were wrong: kept for people, given out as a file to mend."""

import csv
import io
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest_service.formats import escaped_cell
from ingest_service.records import Rejection

MAX_KEPT: Final = 100_000
"""Rejected rows of one import that are kept; further ones are counted only."""
MAX_TEXT_KEPT: Final = 128 * 1024 * 1024
"""Characters of them."""
_MAX_ROW: Final = 131_072

_ADD: Final = text("""
    INSERT INTO import_rejects (job_id, line, column_name, reason, cells, whole)
    VALUES (:job_id, :line, :column_name, :reason, CAST(:cells AS text[]), :whole)
    ON CONFLICT (job_id, line) DO NOTHING
""")
_PAGE: Final = text("""
    SELECT line, column_name, reason, cells, whole FROM import_rejects
    WHERE job_id = :job_id AND line > :after ORDER BY line LIMIT :limit OFFSET :offset
""")
_COUNT: Final = text("SELECT count(*) FROM import_rejects WHERE job_id = :job_id")
_LAST_LINE: Final = text("""
    SELECT coalesce(max(line), 0) FROM import_rejects WHERE job_id = :job_id
""")
_PURGE: Final = text("""
    DELETE FROM import_rejects WHERE job_id IN (
        SELECT job_id FROM jobs WHERE finished_at < now() - make_interval(days => :days))
""")
_AT_A_TIME: Final = 100


@dataclass(frozen=True, kw_only=True)
class RejectPage:
    """Some of an import's rejected rows, in the order of the file."""

    items: list[Rejection]
    total: int


async def keep_rejects(
    connection: AsyncConnection, job_id: str, rejections: Sequence[Rejection]
) -> int:
    """Part of the transaction that stores the good rows beside them; how many characters it is."""
    kept = [_cut(rejection) for rejection in rejections]
    if kept:
        await connection.execute(
            _ADD,
            [
                {
                    "job_id": job_id,
                    "line": rejection.line,
                    "column_name": _storable(rejection.column) if rejection.column else None,
                    "reason": _storable(rejection.reason),
                    "cells": [_storable(cell) for cell in rejection.text],
                    "whole": rejection.whole,
                }
                for rejection in kept
            ],
        )
    return sum(len(cell) for rejection in kept for cell in rejection.text)


async def add_rejects(
    connection: AsyncConnection, job_id: str, rejections: Sequence[Rejection]
) -> None:
    """As `keep_rejects` for what has no lines: they are numbered as they come."""
    last = (await connection.execute(_LAST_LINE, {"job_id": job_id})).scalar_one()
    await keep_rejects(
        connection,
        job_id,
        [
            replace(rejection, line=line)
            for line, rejection in enumerate(rejections, start=last + 1)
        ],
    )


async def read_rejects(
    connection: AsyncConnection, job_id: str, *, limit: int, offset: int = 0, after: int = -1
) -> list[Rejection]:
    """Rejected rows that begin after line `after`."""
    rows = await connection.execute(
        _PAGE, {"job_id": job_id, "limit": limit, "offset": offset, "after": after}
    )
    return [
        Rejection(row.line, row.column_name, row.reason, tuple(row.cells), row.whole)
        for row in rows
    ]


async def reject_page(
    connection: AsyncConnection, job_id: str, *, limit: int, offset: int
) -> RejectPage:
    """One page of them, and how many are kept."""
    total = (await connection.execute(_COUNT, {"job_id": job_id})).scalar_one()
    items = await read_rejects(connection, job_id, limit=limit, offset=offset)
    return RejectPage(items=items, total=total)


async def purge_rejects(connection: AsyncConnection, *, days: int) -> int:
    """Forget the rejected rows of imports that ended so long ago; how many."""
    return (await connection.execute(_PURGE, {"days": days})).rowcount


class ReadAfter(Protocol):
    """Answers rejects that begin after a line, in the order of the file, at most `limit`."""

    async def __call__(self, after: int, limit: int) -> Sequence[Rejection]: ...


async def as_csv(read: ReadAfter, header: Sequence[str]) -> AsyncGenerator[bytes]:
    """The rejected rows as they came, under their header, to be mended and handed in again.

    A cell that a spreadsheet would take for a formula is escaped; an import undoes that.
    """
    after = -1
    if header:
        yield _csv_line(header)
    while page := await read(after, _AT_A_TIME):
        for rejection in page:
            yield _csv_line(rejection.text)
        after = page[-1].line


def _csv_line(cells: Sequence[str]) -> bytes:
    line = io.StringIO()
    # With this line end, and no other, a cell that holds a carriage return is quoted.
    csv.writer(line, lineterminator="\r\n").writerow([escaped_cell(cell) for cell in cells])
    return line.getvalue().encode()


def _cut(rejection: Rejection) -> Rejection:
    """A row that is too long to be kept is kept in part, to be found in its file by its line."""
    if sum(map(len, rejection.text)) <= _MAX_ROW:
        return rejection
    each = max(100, _MAX_ROW // max(1, len(rejection.text)) // 2)
    cells = tuple(f"{cell[:each]}…" if len(cell) > each else cell for cell in rejection.text[:1000])
    reason = f"{rejection.reason}; the row is too long to be kept whole, mend it in its file"
    return replace(rejection, text=cells, reason=reason, whole=False)


def _storable(cell: str) -> str:
    # PostgreSQL's text holds neither.
    return cell.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
