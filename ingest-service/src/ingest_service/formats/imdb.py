"""IMDb's non-commercial data sets: title.basics and title.ratings, as TSV or made into CSV."""

from typing import Final

from ingest_service.formats import cells
from ingest_service.formats.columns import Column, Fields
from ingest_service.formats.films import FilmSpec
from ingest_service.formats.tmdb import keep_votes_in_pairs
from ingest_service.formats.vocabulary import GENRE_NAMES
from ingest_service.records import Source, SourceRecord

FILM_TYPES: Final = frozenset({"movie", "tvmovie", "short", "tvshort", "video"})

_ID: Final = Column("tconst", "id:imdb", cells.NEEDED_IMDB_ID)
_AVERAGE: Final = Column("averagerating", "vote_average", cells.VOTE_AVERAGE)
_VOTES: Final = Column("numvotes", "vote_count", cells.VOTE_COUNT)


def _basics(fields: Fields) -> SourceRecord | str:
    key = f"imdb-{fields.pop('id:imdb')}"
    title_type = fields.pop("type:")
    if title_type.lower() not in FILM_TYPES:
        return f"titleType {title_type[:40]} is no film"
    return SourceRecord(Source.IMDB_BASICS, key, (), fields)


def _ratings(fields: Fields) -> SourceRecord | str:
    key = f"imdb-{fields.pop('id:imdb')}"
    keep_votes_in_pairs(fields)
    return SourceRecord(Source.IMDB_RATINGS, key, (), fields) if fields else "no votes"


BASICS: Final = FilmSpec(
    name="imdb-basics",
    title="IMDb title.basics",
    description=(
        "Films by their IMDb ids: movie, tvMovie, short, tvShort and video; other types are "
        "passed over. IMDb knows the year only, so the date is the first of January."
    ),
    required=("tconst", "titletype", "primarytitle"),
    columns=(
        _ID,
        Column("titletype", "type:", cells.needed(cells.STATUS, "a type such as movie")),
        Column(
            "primarytitle",
            "title",
            cells.text_kind(cells.SHORT, unknown=cells.UNKNOWN_AT_IMDB, required="a title"),
        ),
        Column(
            "originaltitle",
            "original_title",
            cells.text_kind(cells.SHORT, unknown=cells.UNKNOWN_AT_IMDB),
        ),
        Column("isadult", "adult", cells.FLAG),
        Column("startyear", "release_date", cells.YEAR),
        Column("runtimeminutes", "runtime", cells.RUNTIME),
        Column("genres", "genres", cells.names_kind(separator=",", renamed=GENRE_NAMES)),
    ),
    finish=_basics,
)
RATINGS: Final = FilmSpec(
    name="imdb-ratings",
    title="IMDb title.ratings",
    description="Averages and votes by IMDb id; they are added to the films of those ids.",
    required=("tconst", "averagerating", "numvotes"),
    columns=(_ID, _AVERAGE, _VOTES),
    finish=_ratings,
)
