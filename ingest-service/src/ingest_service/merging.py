"""One film out of all that is known of it. Pure.

A film's content is a function of the set of its records and its keys, so it does not matter in
which order they came. Field by field the best source that knows it is believed (`Source`, in its
order), and of two records of one source the one that was seen last.
"""

import unicodedata
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from moviemetric_contracts import KEY_SOURCES, tmdb_id_of

from ingest_service.records import Source

Content = dict[str, Any]
"""A film's fields as JSON values; what is unknown is absent."""

_RANK: Final = {str(source): rank for rank, source in enumerate(Source)}
_KEY_RANK: Final = {source: rank for rank, source in enumerate(KEY_SOURCES)}
_VOTES: Final = ("vote_average", "vote_count")
_IMDB: Final = "imdb-"
_MAX_ALIASES: Final = 100
_SORTED_BY: Final = 100


class Kept(NamedTuple):
    """A record as the catalogue keeps it.

    Attributes:
        at: when the source was asked, or the file was handed in.
        job_id: the import that brought it, if one did.
        repeated: a file had several different rows for it; see `ledger`.
    """

    at: datetime
    fields: Mapping[str, Any]
    job_id: str | None = None
    repeated: bool = False


def slot(source: Source, key: str) -> str:
    """Names a record among those of its film: a source may know a film under several keys."""
    return f"{source}/{key}"


def rank_of_key(key: str) -> int:
    """0 for the best kind of key."""
    return _KEY_RANK[key.partition("-")[0]]


def merge(records: Mapping[str, Kept]) -> Mapping[str, Any]:
    """The fields of a film that has these records, without what follows from its keys."""
    if len(records) == 1:
        [only] = records.values()
        return only.fields
    content: Content = {}
    for _, kept in _by_belief(records):
        fields = kept.fields
        for name, value in fields.items():
            if name not in content and name not in _VOTES:
                content[name] = value
        # An average belongs to its count.
        if "vote_count" in fields and "vote_count" not in content:
            content |= {name: fields[name] for name in _VOTES if name in fields}
    return content


def with_keys(fields: Mapping[str, Any], movie_id: str, aliases: Collection[str]) -> Content:
    """`fields` with the ids that the film's keys hold."""
    content: Content = {**fields, "movie_id": movie_id}
    if (tmdb_id := tmdb_id_of(movie_id)) is not None:
        content["tmdb_id"] = tmdb_id
    if (imdb_id := imdb_id_of(fields, movie_id, aliases)) is not None:
        content["imdb_id"] = imdb_id
    if aliases:
        content["aliases"] = sorted(aliases)[:_MAX_ALIASES]
    return content


def imdb_id_of(fields: Mapping[str, Any], movie_id: str, aliases: Collection[str]) -> str | None:
    """The film's id at IMDb.

    A source may say of two films that they are the same one there; only one of them gets the key.
    """
    if movie_id.startswith(_IMDB):
        return movie_id.removeprefix(_IMDB)
    if (said := fields.get("imdb_id")) is not None:
        return str(said)
    keys = [key for key in aliases if key.startswith(_IMDB)]
    return min(keys).removeprefix(_IMDB) if keys else None


def known_since(records: Mapping[str, Kept]) -> datetime:
    """The age of what is most perishable: when the popularity was read, else the newest record."""
    for _, kept in _by_belief(records):
        if "popularity" in kept.fields:
            return kept.at
    return max(kept.at for kept in records.values())


def sort_title(title: str) -> str:
    """What titles are ordered by: without case, accents and what stands before the first letter."""
    if not title.isascii():
        folded = unicodedata.normalize("NFKD", title)
        title = "".join(letter for letter in folded if not unicodedata.combining(letter))
    lowered = title.casefold()
    return (lowered.lstrip("\"'([{.¡¿«…- ") or lowered)[:_SORTED_BY]


def _by_belief(records: Mapping[str, Kept]) -> Iterable[tuple[str, Kept]]:
    return sorted(
        records.items(),
        key=lambda item: (
            _RANK[item[0].partition("/")[0]],
            -item[1].at.timestamp(),
            item[0],
        ),
    )
