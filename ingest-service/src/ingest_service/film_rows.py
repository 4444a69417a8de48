"""A film as a line of COPY's text format: its records, and the columns that are computed from them.

Written out here rather than by the driver from values, which takes twice as long: an import writes
tens of thousands of films a second, and this is what it does most.

A line ends with a newline and holds the columns separated by tabs; backslash, tab, newline and
carriage return are escaped by a backslash, and `\\N` is null (PostgreSQL's documentation of COPY).
"""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import orjson

from ingest_service.ledger import Film
from ingest_service.merging import Kept, imdb_id_of, merge, slot, sort_title
from ingest_service.records import SourceRecord

COLUMNS: Final = (
    "movie_id",
    "revision",
    "updated_at",
    "fetched_at",
    "removed_at",
    "removed_reason",
    "records",
    "aliases",
    "title",
    "sort_title",
    "imdb_id",
    "original_title",
    "original_language",
    "release_date",
    "genres",
    "genre_keys",
    "vote_average",
    "vote_count",
    "popularity",
    "poster_path",
)
_NULL: Final = "\\N"
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def line_of(film: Film) -> str:
    """The film's row."""
    fields: Mapping[str, Any] = merge(film.records) if film.records else {}
    head = (
        f"{film.movie_id}\t{film.revision}\t{_moment(film.updated_at)}\t{_moment(film.fetched_at)}"
        f"\t{_moment(film.removed_at)}\t{_text(film.removed_reason)}"
    )
    records = orjson.dumps({name: _kept(kept) for name, kept in film.records.items()}).decode()
    aliases = _array(tuple(sorted(film.aliases)))
    return _line(head, records, aliases, fields, imdb_id_of(fields, film.movie_id, film.aliases))


def line_of_new(record: SourceRecord, at: datetime, job_id: str, updated_at: datetime) -> str:
    """The row of a film of which this record is all that is known."""
    fields = record.fields
    head = f"{record.key}\t1\t{_moment(updated_at)}\t\\N\t\\N\t\\N"
    # Neither a key nor a job's id holds anything that JSON escapes.
    records = (
        f'{{"{slot(record.source, record.key)}":{{"at":"{_moment(at)}",'
        f'"fields":{orjson.dumps(fields).decode()},"job":"{job_id}"}}}}'
    )
    return _line(head, records, "{}", fields, imdb_id_of(fields, record.key, ()))


def _line(
    head: str, records: str, aliases: str, fields: Mapping[str, Any], imdb_id: str | None
) -> str:
    get = fields.get
    title = get("title")
    released = get("release_date")
    genres, genre_keys = _genres(tuple(get("genres", ())))
    votes = get("vote_average")
    if "\\" in records:
        # JSON has escaped everything else that COPY would take for something.
        records = records.replace("\\", "\\\\")
    return (
        f"{head}\t{records}\t{aliases}\t{_text(title)}"
        f"\t{_text(sort_title(title)) if title else _NULL}\t{imdb_id or _NULL}"
        f"\t{_text(get('original_title'))}\t{_text(get('original_language'))}"
        f"\t{released or _NULL}\t{genres}\t{genre_keys}"
        f"\t{_NULL if votes is None else votes}\t{get('vote_count', 0)}\t{get('popularity', 0)}"
        f"\t{_text(get('poster_path'))}\n"
    )


def _kept(kept: Kept) -> dict[str, Any]:
    fields: dict[str, Any] = {"at": _moment(kept.at), "fields": kept.fields}
    if kept.job_id is not None:
        fields["job"] = kept.job_id
    if kept.repeated:
        fields["repeated"] = True
    return fields


def _text(text: str | None) -> str:
    if text is None:
        return _NULL
    return text if text.isprintable() and "\\" not in text else text.translate(_ESCAPES)


@lru_cache(maxsize=256)
def _moment(at: datetime | None) -> str:
    # All films of an import have the same one.
    return _NULL if at is None else at.astimezone(UTC).isoformat()


@lru_cache(maxsize=10_000)
def _genres(names: tuple[str, ...]) -> tuple[str, str]:
    return _array(names), _array(tuple(name.lower() for name in names))


def _array(texts: Collection[str]) -> str:
    quoted = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return _text("{" + ",".join(f'"{text}"' for text in quoted) + "}")
