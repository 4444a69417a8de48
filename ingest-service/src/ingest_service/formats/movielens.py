"""MovieLens (GroupLens): films with their ids, and the links from those ids to IMDb and TMDB.

The ids of ml-1m and of all later sets name the same films. ml-100k numbers its films anew, so its
ids would name other films; they are used for its ratings only (see `ratings`), and its films go by
title and year.
"""

from typing import Final

from moviemetric_contracts import movie_id_from_tmdb

from ingest_service.formats import cells
from ingest_service.formats.cells import CellError, Kind
from ingest_service.formats.columns import Column, Fields
from ingest_service.formats.films import FilmSpec
from ingest_service.formats.titles import movielens_title, title_key
from ingest_service.formats.vocabulary import GENRE_NAMES
from ingest_service.records import Source, SourceRecord

_ITEM_GENRES: Final = (
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
_ID_FIELD: Final = "id:movielens"
_ID: Final = Column("movieid", _ID_FIELD, cells.NEEDED_MOVIELENS_ID)


def _titled(fields: Fields) -> int | None:
    title, original_title, year = movielens_title(fields["title"])
    fields["title"] = title
    if original_title is not None and original_title != title:
        fields["original_title"] = original_title
    if year is not None and not cells.FIRST_YEAR <= year <= cells.LAST_YEAR:
        raise CellError(
            f"expected a year from {cells.FIRST_YEAR} to {cells.LAST_YEAR}, got {year}",
            field="title",
        )
    if year is not None and "release_date" not in fields:
        fields["release_date"] = f"{year}-01-01"  # the year is all that is known
    return year


def _film(fields: Fields) -> SourceRecord:
    key = f"movielens-{fields.pop(_ID_FIELD)}"
    _titled(fields)
    return SourceRecord(Source.MOVIELENS, key, (), fields)


def _item(fields: Fields) -> SourceRecord | str:
    genres = [genre for genre in _ITEM_GENRES if fields.pop(f"flag:{genre}", None)]
    unknown = fields.pop("flag:unknown", None)
    del fields[_ID_FIELD]
    if unknown and fields == {"title": "unknown"}:
        return "a film that nobody knows: no title, no date"
    if genres:
        fields["genres"] = [GENRE_NAMES.get(genre, genre) for genre in genres]
    year = _titled(fields)
    return SourceRecord(Source.MOVIELENS, title_key(fields["title"], year), (), fields)


def _links(fields: Fields) -> SourceRecord | str:
    movielens_key = f"movielens-{fields.pop(_ID_FIELD)}"
    keys: list[str] = []
    if (tmdb_id := fields.pop("id:tmdb", None)) is not None:
        keys.append(movie_id_from_tmdb(tmdb_id))
    if (imdb_id := fields.pop("id:imdb", None)) is not None:
        keys.append(f"imdb-{imdb_id}")
    keys.append(movielens_key)
    if len(keys) == 1:
        return "links to no other id"
    return SourceRecord(Source.MOVIELENS_LINKS, keys[0], tuple(keys[1:]), fields)


def _genres() -> Kind:
    listed = cells.names_kind(separator="|", renamed=GENRE_NAMES)

    def read(cell: str) -> object:
        return None if cell.strip() == "(no genres listed)" else listed.text(cell)

    return Kind(read, listed.native)


MOVIES: Final = FilmSpec(
    name="movielens-movies",
    title="MovieLens films",
    description=(
        "movies.csv of MovieLens, movies.dat of ml-1m, and u.item of ml-100k, whose films go by "
        "title and year because its ids are not those of the other sets. The year is taken from "
        "the title; the date is the first of January where no other is given."
    ),
    required=("movieid", "title", "genres"),
    columns=(
        _ID,
        Column("title", "title", cells.TITLE),
        Column("genres", "genres", _genres()),
    ),
    finish=_film,
)
ITEMS: Final = FilmSpec(
    name=MOVIES.name,
    title=MOVIES.title,
    description=MOVIES.description,
    required=("movieid", "title", "release_date", "unknown", "film-noir"),
    columns=(
        _ID,
        Column("title", "title", cells.TITLE),
        Column("release_date", "release_date", cells.ENGLISH_DATE),
        *(
            Column(genre.casefold(), f"flag:{genre}", cells.FLAG)
            for genre in ("unknown", *_ITEM_GENRES)
        ),
    ),
    finish=_item,
    item_field=_ID_FIELD,
)
LINKS: Final = FilmSpec(
    name="movielens-links",
    title="MovieLens links",
    description=(
        "links.csv: which IMDb and TMDB ids are the same film as a MovieLens id. It brings no "
        "films, it joins those that other files bring."
    ),
    required=("movieid", "imdbid", "tmdbid"),
    columns=(
        _ID,
        Column("imdbid", "id:imdb", cells.IMDB_ID),
        Column("tmdbid", "id:tmdb", cells.TMDB_ID),
    ),
    finish=_links,
)
