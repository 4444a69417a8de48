"""Tables made for upload: the format of the IMDB content system, and the documented generic one."""

from typing import Final

from moviemetric_contracts import KEY_SOURCES, movie_id_from_tmdb, parse_movie_id

from ingest_service.formats import cells
from ingest_service.formats.cells import CellError, Kind
from ingest_service.formats.columns import Column, Fields
from ingest_service.formats.films import FilmSpec
from ingest_service.formats.titles import title_key
from ingest_service.formats.tmdb import GENRES, keep_votes_in_pairs
from ingest_service.records import Source, SourceRecord

_SHORT_TEXT: Final = cells.text_kind(cells.SHORT)
_LONG_TEXT: Final = cells.text_kind(cells.LONG)
_GENRE_ID: Final = cells.id_kind("a genre's TMDB number such as 28")
_COMPANY_ID: Final = cells.id_kind("a production company's TMDB number such as 3")


def _upload(fields: Fields) -> SourceRecord:
    fields.pop("id:company", None)  # a number whose name the table does not hold
    if (genre_id := fields.pop("id:genre", None)) is not None and genre_id in GENRES:
        fields["genres"] = [GENRES[genre_id]]
    keep_votes_in_pairs(fields)
    day = fields.get("release_date")
    key = title_key(fields["title"], int(day[:4]) if day else None)
    return SourceRecord(Source.TABLE, key, (), fields)


UPLOAD: Final = FilmSpec(
    name="imdb-upload",
    title="Upload format of the IMDB content system",
    description=(
        "15 columns without an id, so a film is known by its title and the year of its release "
        "date. languages is a list of names such as ['English', 'Français']; genre_id is a TMDB "
        "genre's number, and one that TMDB does not have is left out."
    ),
    required=("title", "release_date", "languages", "genre_id"),
    columns=(
        Column("title", "title", cells.TITLE),
        Column("original_title", "original_title", _SHORT_TEXT),
        Column("original_language", "original_language", cells.LANGUAGE),
        Column("overview", "overview", _LONG_TEXT),
        Column("release_date", "release_date", cells.DATE),
        Column("budget", "budget", cells.MONEY),
        Column("revenue", "revenue", cells.MONEY),
        Column("runtime", "runtime", cells.RUNTIME),
        Column("status", "status", cells.STATUS),
        Column("vote_average", "vote_average", cells.VOTE_AVERAGE),
        Column("vote_count", "vote_count", cells.VOTE_COUNT),
        Column("languages", "spoken_languages", cells.languages_kind()),
        Column("homepage", "homepage", cells.HOMEPAGE),
        Column("genre_id", "id:genre", _GENRE_ID),
        Column("production_company_id", "id:company", _COMPANY_ID),
    ),
    finish=_upload,
)


# The generic table

ID_COLUMNS: Final = ("movie_id", "tmdb_id", "imdb_id", "movielens_id")


def _key_text(cell: str) -> str | None:
    text = cells.plain(cell)
    if text in cells.UNKNOWN:
        return None
    try:
        return parse_movie_id(text.removesuffix(".0"))
    except ValueError as error:
        raise CellError(str(error)) from None


def _key_native(value: object) -> str | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _key_text(str(value))
    raise cells.expected("a movie id such as tmdb-27205", value)


def _generic(fields: Fields) -> SourceRecord | str:
    keys: dict[str, str] = {}
    for field, key in _given_keys(fields):
        source = key.partition("-")[0]
        if keys.setdefault(source, key) != key:
            raise CellError(f"expected the same film as {keys[source]}, got {key}", field=field)
    keep_votes_in_pairs(fields)
    if (first := fields.pop("year:", None)) is not None:
        fields.setdefault("release_date", first)
    ordered = [keys[source] for source in KEY_SOURCES if source in keys]
    if not ordered:
        if "title" not in fields:
            raise CellError("expected a title or an id, the row has neither", field="title")
        day = fields.get("release_date")
        ordered = [title_key(fields["title"], int(day[:4]) if day else None)]
    links = tuple(key for key in ordered[1:] if not key.startswith("title-"))
    if not fields and not links:
        return "an id and nothing else"
    # A record of its own: it must not take the place of the one that names the film.
    source = Source.TABLE if "title" in fields or not fields else Source.TABLE_ADDITION
    return SourceRecord(source, ordered[0], links, fields)


def _given_keys(fields: Fields) -> list[tuple[str, str]]:
    given: list[tuple[str, str]] = []
    if (key := fields.pop("id:key", None)) is not None:
        given.append(("id:key", key))
    if (tmdb_id := fields.pop("id:tmdb", None)) is not None:
        given.append(("id:tmdb", movie_id_from_tmdb(tmdb_id)))
    if (imdb_id := fields.pop("id:imdb", None)) is not None:
        given.append(("id:imdb", f"imdb-{imdb_id}"))
    if (movielens_id := fields.pop("id:movielens", None)) is not None:
        given.append(("id:movielens", f"movielens-{movielens_id}"))
    return given


_NAMES: Final = cells.names_kind(separator="|")

GENERIC: Final = FilmSpec(
    name="generic",
    title="Generic table of films",
    description=(
        "A title together with an id, a release_date or a year; or an id with anything else, "
        "which is added to the film of that id. movie_id is a key such as tmdb-27205 or a TMDB "
        "number; every other column is named like the film's field. Lists are JSON or separated "
        "by |; languages and countries are ISO codes or names, and those that nobody knows are "
        "left out. Votes count only with both "
        "vote_average and vote_count. Where only a year is given the date is the first of January."
    ),
    required=(),
    columns=(
        Column("movie_id", "id:key", Kind(_key_text, _key_native)),
        Column("tmdb_id", "id:tmdb", cells.TMDB_ID),
        Column("imdb_id", "id:imdb", cells.IMDB_ID),
        Column("movielens_id", "id:movielens", cells.MOVIELENS_ID),
        Column("title", "title", _SHORT_TEXT),
        Column("original_title", "original_title", _SHORT_TEXT),
        Column("original_language", "original_language", cells.LANGUAGE),
        Column("overview", "overview", _LONG_TEXT),
        Column("tagline", "tagline", _SHORT_TEXT),
        Column("status", "status", cells.STATUS),
        Column("release_date", "release_date", cells.DATE),
        Column("year", "year:", cells.YEAR),
        Column("runtime", "runtime", cells.RUNTIME),
        Column("budget", "budget", cells.MONEY),
        Column("revenue", "revenue", cells.MONEY),
        Column("genres", "genres", _NAMES),
        Column("keywords", "keywords", _NAMES),
        Column("cast", "cast", cells.cast_kind(separator="|")),
        Column("crew", "crew", cells.crew_kind(separator="|")),
        Column("spoken_languages", "spoken_languages", cells.languages_kind(separator="|")),
        Column("production_countries", "production_countries", cells.countries_kind(separator="|")),
        Column("production_companies", "production_companies", _NAMES),
        Column("collection", "collection", _SHORT_TEXT),
        Column("homepage", "homepage", cells.HOMEPAGE),
        Column("poster_path", "poster_path", cells.IMAGE_PATH),
        Column("backdrop_path", "backdrop_path", cells.IMAGE_PATH),
        Column("adult", "adult", cells.FLAG),
        Column("vote_average", "vote_average", cells.VOTE_AVERAGE),
        Column("vote_count", "vote_count", cells.VOTE_COUNT),
        Column("popularity", "popularity", cells.POPULARITY),
    ),
    finish=_generic,
)
