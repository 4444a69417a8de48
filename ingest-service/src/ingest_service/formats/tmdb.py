"""Data sets made from TMDB's API: TMDB 5000, The Movies Dataset, and bodies kept as CSV or JSON."""

from collections.abc import Mapping
from typing import Final, cast

from moviemetric_contracts import movie_id_from_tmdb

from ingest_service.formats import cells
from ingest_service.formats.columns import Column, Fields
from ingest_service.formats.films import FilmSpec
from ingest_service.records import Source, SourceRecord

# The films' genres at TMDB by their ids, and "Foreign", which it had before 2016.
GENRES: Final = {
    12: "Adventure",
    14: "Fantasy",
    16: "Animation",
    18: "Drama",
    27: "Horror",
    28: "Action",
    35: "Comedy",
    36: "History",
    37: "Western",
    53: "Thriller",
    80: "Crime",
    99: "Documentary",
    878: "Science Fiction",
    9648: "Mystery",
    10402: "Music",
    10749: "Romance",
    10751: "Family",
    10752: "War",
    10769: "Foreign",
    10770: "TV Movie",
}


def keep_votes_in_pairs(fields: Fields) -> None:
    """An average without its count says nothing, nor does a count without its average."""
    if ("vote_average" in fields) != ("vote_count" in fields):
        fields.pop("vote_average", None)
        fields.pop("vote_count", None)


def _film(fields: Fields) -> SourceRecord:
    tmdb_id, imdb_id = fields.pop("id:tmdb"), fields.pop("id:imdb", None)
    links = (f"imdb-{imdb_id}",) if imdb_id is not None else ()
    keep_votes_in_pairs(fields)
    return SourceRecord(Source.TMDB_FILE, movie_id_from_tmdb(tmdb_id), links, fields)


def _credits(fields: Fields) -> SourceRecord | str:
    key = movie_id_from_tmdb(fields.pop("id:tmdb"))
    if "cast" not in fields and "crew" not in fields:
        return "no cast and no crew"
    return SourceRecord(Source.TMDB_CREDITS, key, (), fields)


def _flat(body: Mapping[str, object]) -> Mapping[str, object]:
    """A body with what the responses that were appended to it hold, where it has not got it."""
    inner = {name: body.get(name) for name in ("credits", "external_ids")}
    if not any(inner.values()) and "origin_country" not in body:
        return body
    flat = dict(body)
    for wrapper in inner.values():
        if isinstance(wrapper, dict):
            for name, value in cast("dict[str, object]", wrapper).items():
                if name in ("cast", "crew", "imdb_id") and not flat.get(name):
                    flat[name] = value
    if not flat.get("production_countries"):
        flat["production_countries"] = flat.get("origin_country")
    return flat


def _sentinel(row: Mapping[str, object]) -> str | None:
    """The first row of collected bodies is `{"imdb_id": 0}`, everything else in it empty."""
    if str(row.get("imdb_id")).strip() not in ("0", "0.0"):
        return None
    empty = all(
        value is None or not str(value).strip() for name, value in row.items() if name != "imdb_id"
    )
    return "a sentinel without a film: imdb_id 0 and nothing else" if empty else None


_NAMES: Final = cells.names_kind()
_LONG_TEXT: Final = cells.text_kind(cells.LONG)
_SHORT_TEXT: Final = cells.text_kind(cells.SHORT)
_CAST: Final = Column("cast", "cast", cells.cast_kind())
_CREW: Final = Column("crew", "crew", cells.crew_kind())

_COLUMNS: Final = (
    Column("id", "id:tmdb", cells.NEEDED_TMDB_ID),
    Column("title", "title", cells.TITLE),
    Column("imdb_id", "id:imdb", cells.IMDB_ID),
    Column("original_title", "original_title", _SHORT_TEXT),
    Column("original_language", "original_language", cells.LANGUAGE),
    Column("overview", "overview", _LONG_TEXT),
    Column("tagline", "tagline", _SHORT_TEXT),
    Column("status", "status", cells.STATUS),
    Column("release_date", "release_date", cells.DATE),
    Column("runtime", "runtime", cells.RUNTIME),
    Column("budget", "budget", cells.MONEY),
    Column("revenue", "revenue", cells.MONEY),
    Column("genres", "genres", _NAMES),
    Column("keywords", "keywords", _NAMES),
    _CAST,
    _CREW,
    Column("spoken_languages", "spoken_languages", cells.languages_kind()),
    Column("production_countries", "production_countries", cells.countries_kind()),
    Column("production_companies", "production_companies", _NAMES),
    Column("belongs_to_collection", "collection", cells.COLLECTION),
    Column("homepage", "homepage", cells.HOMEPAGE),
    Column("poster_path", "poster_path", cells.IMAGE_PATH),
    Column("backdrop_path", "backdrop_path", cells.IMAGE_PATH),
    Column("adult", "adult", cells.FLAG),
    Column("vote_average", "vote_average", cells.VOTE_AVERAGE),
    Column("vote_count", "vote_count", cells.VOTE_COUNT),
    Column("popularity", "popularity", cells.POPULARITY),
)


def _spec(name: str, title: str, required: tuple[str, ...], description: str) -> FilmSpec:
    return FilmSpec(
        flat=_flat,
        name=name,
        title=title,
        description=description,
        required=required,
        columns=_COLUMNS,
        finish=_film,
        sentinel=_sentinel,
    )


TMDB_CSV: Final = _spec(
    "tmdb-csv",
    "TMDB bodies as CSV",
    ("id", "imdb_id", "title", "genres", "release_date", "backdrop_path"),
    "Bodies of TMDB's /movie/{id} written as CSV: lists as JSON or Python literals, ids and "
    "numbers also as floats. A first row with imdb_id 0 and nothing else is passed over.",
)
MOVIES_DATASET: Final = _spec(
    "movies-dataset",
    "The Movies Dataset, movies_metadata.csv",
    ("id", "imdb_id", "title", "genres", "release_date"),
    "Films by their TMDB ids, with IMDb ids; lists as Python literals or JSON.",
)
TMDB_5000: Final = _spec(
    "tmdb-5000",
    "TMDB 5000, tmdb_5000_movies.csv",
    ("id", "title", "genres", "keywords", "release_date"),
    "Films by their TMDB ids; lists as JSON or Python literals.",
)
TMDB_JSON: Final = _spec(
    "tmdb-json",
    "TMDB bodies as JSON",
    ("id", "title"),
    "An array (or lines) of bodies of TMDB's /movie/{id}. An object with imdb_id 0 and nothing "
    "else is passed over.",
)


def _credits_spec(id_column: str) -> FilmSpec:
    return FilmSpec(
        name="tmdb-5000-credits",
        title="TMDB 5000, tmdb_5000_credits.csv",
        description=(
            "Cast and crew by TMDB id, as JSON or Python literals, for the films that other files "
            "or TMDB bring. In The Movies Dataset the id's column is called id."
        ),
        required=(id_column, "cast", "crew"),
        absent=frozenset({"genres", "overview", "release_date", "vote_average"}),
        columns=(
            Column(id_column, "id:tmdb", cells.NEEDED_TMDB_ID),
            Column("title", "title", _SHORT_TEXT),
            _CAST,
            _CREW,
        ),
        finish=_credits,
    )


CREDITS: Final = _credits_spec("movie_id")
CREDITS_BY_ID: Final = _credits_spec("id")
