"""Which format a file is of, by the names of its columns."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from ingest_service.formats import imdb, movielens, ratings, tables, tmdb
from ingest_service.formats.columns import JSON_COLUMN, FormatInfo, normal
from ingest_service.formats.films import FilmFormat, FilmSpec
from ingest_service.formats.ratings import RatingFormat, RatingSpec

AUTO: Final = "auto"

# Of two formats whose columns are all there, the one that stands first is meant.
_SPECS: Final = (
    tables.UPLOAD,
    tmdb.TMDB_CSV,
    tmdb.TMDB_5000,
    tmdb.MOVIES_DATASET,
    tmdb.CREDITS,
    tmdb.CREDITS_BY_ID,
    imdb.BASICS,
    imdb.RATINGS,
    movielens.ITEMS,
    movielens.MOVIES,
    movielens.LINKS,
    ratings.RATINGS,
    ratings.RATINGS_OF_1M,
    ratings.RATINGS_OF_100K,
)
_ALL: Final = (*_SPECS[:4], tmdb.TMDB_JSON, *_SPECS[4:], tables.GENERIC)

# What belongs to a known data set and cannot be imported.
_USELESS: Final = (
    (("titleid", "ordering", "title"), "IMDb's title.akas, titles by country"),
    (("tconst", "ordering", "nconst"), "IMDb's title.principals, people by film"),
    (("tconst", "directors", "writers"), "IMDb's title.crew, people by film"),
    (("tconst", "parenttconst"), "IMDb's title.episode, episodes of television series"),
    (("nconst", "primaryname"), "IMDb's name.basics, people"),
    (
        ("user_id", "movie_id", "rating"),
        "ratings; if users and films are numbered as in MovieLens' ratings.csv, call the columns "
        "userId, movieId, rating and timestamp as they are there",
    ),
    (("userid", "movieid", "tag"), "MovieLens tags, words that users gave to films"),
    (("movieid", "tagid", "relevance"), "MovieLens' genome scores, tags by film"),
    (("tagid", "tag"), "MovieLens' genome tags"),
    (("userid", "gender", "age"), "MovieLens users"),
)
_IDS: Final = frozenset(tables.ID_COLUMNS)
_DATED: Final = frozenset({"release_date", "year"})
_SENTINEL: Final = frozenset({"imdb_id"})  # what the first object of collected bodies may hold
_GENERIC: Final = frozenset(column.name for column in tables.GENERIC.columns)
_SHOWN_COLUMNS: Final = 30
_SHOWN_NAME: Final = 40


class UnknownFormatError(Exception):
    """No format fits the columns; `str()` of it is for people: what was found, what is known."""


def _infos() -> Mapping[str, FormatInfo]:
    infos: dict[str, FormatInfo] = {}
    for spec in _ALL:
        infos.setdefault(spec.name, spec.info())
    return MappingProxyType(infos)


FORMATS: Final = _infos()
"""Every format by its name."""


def recognise(
    header: Sequence[str],
    *,
    json_sample: Mapping[str, object] | None = None,
    name: str = AUTO,
) -> FilmFormat | RatingFormat:
    """The format of a file, ready to read its rows.

    Case, blanks around names, the order of columns and columns that no format knows make no
    difference.

    Args:
        header: the names of the columns; for a JSON file it is not looked at. A single column
            `json` holds one object in each cell: so the rejected rows of a JSON file come back.
        json_sample: the first object of a JSON file.
        name: one of `FORMATS` to insist on it, whose columns must be there.

    Raises:
        UnknownFormatError: no format fits, the one insisted on does not, or a column that is read
            occurs twice.
    """
    boxed = json_sample is None and [normal(column) for column in header] == [JSON_COLUMN]
    objects = json_sample is not None or boxed
    names = tuple(json_sample) if json_sample is not None else () if boxed else tuple(header)
    columns = frozenset(map(normal, names))
    if name != AUTO:
        spec = _insisted(name, columns, names, objects=objects, boxed=boxed)
    else:
        spec = tmdb.TMDB_JSON if boxed else _recognised(columns, names, objects=objects)
    _refuse_doubled(spec, names)
    if isinstance(spec, RatingSpec):
        return RatingFormat(spec, names, objects=objects)
    return FilmFormat(spec, names, objects=objects)


def _recognised(
    columns: frozenset[str], names: Sequence[str], *, objects: bool
) -> FilmSpec | RatingSpec:
    if objects and (columns >= {"id", "title"} or columns == _SENTINEL):
        return tmdb.TMDB_JSON
    for spec in _SPECS:
        if _fits(spec, columns):
            return spec
    for signs, what in _USELESS:
        if columns.issuperset(signs):
            msg = f"The file cannot be imported: it looks like {what}."
            raise UnknownFormatError(msg)
    if _fits_generic(columns):
        if "id" not in columns or columns & _IDS:
            return tables.GENERIC
        msg = (
            f"{_found(names)} It is not clear whose ids are in the column id: call it tmdb_id, "
            "imdb_id or movielens_id (or movie_id, if they are keys such as tmdb-27205)."
        )
        raise UnknownFormatError(msg)
    raise UnknownFormatError(f"{_found(names)} {_nearest(columns)} {_known()}")


def _fits(spec: FilmSpec | RatingSpec, columns: frozenset[str]) -> bool:
    return columns.issuperset(spec.required) and not columns & spec.absent


def _fits_generic(columns: frozenset[str]) -> bool:
    """A title alone may be that of anything; an id alone says nothing of a film."""
    if "title" in columns and columns & (_IDS | _DATED):
        return True
    return bool(columns & _IDS) and len(columns & _GENERIC) > 1


def _insisted(
    name: str, columns: frozenset[str], names: Sequence[str], *, objects: bool, boxed: bool
) -> FilmSpec | RatingSpec:
    candidates = [spec for spec in _ALL if spec.name == name]
    if not candidates:
        msg = f"There is no format {name[:_SHOWN_NAME]!r}. {_known()}"
        raise UnknownFormatError(msg)
    if boxed:
        return candidates[0]
    if name == tmdb.TMDB_JSON.name and not objects:
        msg = f"{_found(names)} The format tmdb-json needs a JSON file."
        raise UnknownFormatError(msg)
    if name == tables.GENERIC.name:
        if "title" in columns or columns & _IDS:
            return tables.GENERIC
        msg = f"{_found(names)} The format generic needs a title or one of {', '.join(_IDS)}."
        raise UnknownFormatError(msg)
    for spec in candidates:
        if columns.issuperset(spec.required) or (objects and columns == _SENTINEL):
            return spec
    missing = [column for column in candidates[0].required if column not in columns]
    msg = f"{_found(names)} The format {name} also needs {', '.join(missing)}."
    raise UnknownFormatError(msg)


def _refuse_doubled(spec: FilmSpec | RatingSpec, names: Sequence[str]) -> None:
    read = {column.name for column in spec.columns}
    seen: dict[str, str] = {}
    for written in names:
        column = normal(written)
        if column in read and column in seen:
            msg = (
                f"The column {column} occurs twice, as {seen[column]!r} and {written!r}: "
                "rename or remove one of them."
            )
            raise UnknownFormatError(msg)
        seen[column] = written


def _found(names: Sequence[str]) -> str:
    if not names:
        return "The file has no columns."
    shown = ", ".join(
        repr(name[:_SHOWN_NAME])[1:-1] or "(unnamed)" for name in names[:_SHOWN_COLUMNS]
    )
    more = len(names) - _SHOWN_COLUMNS
    return f"The file has the columns {shown}{f' and {more:,} more' if more > 0 else ''}."


def _nearest(columns: frozenset[str]) -> str:
    def part(spec: FilmSpec | RatingSpec) -> float:
        return len(columns.intersection(spec.required)) / len(spec.required)

    nearest = max(_SPECS, key=part)
    if part(nearest) < 0.5:
        return (
            "No format has columns like these; a table of your own needs a title together with "
            "release_date, year or an id (the format generic)."
        )
    missing = [column for column in nearest.required if column not in columns]
    return f"The nearest format is {nearest.name}, which also needs {', '.join(missing)}."


def _known() -> str:
    return f"Known are {', '.join(FORMATS)}."
