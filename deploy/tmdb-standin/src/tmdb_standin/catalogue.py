"""The films a stand-in answers from, and their order in lists.

A film's detail body is kept as JSON text and parsed when asked for; only what lists filter and sort
by is held as values. So 27,000 films fit into well under 400 MB.
"""

import gzip
import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

from tmdb_standin.shapes import Body

_UPCOMING_DAYS: Final = 21


class CatalogueError(Exception):
    """The catalogue cannot be read; the message says where and what to do."""


@dataclass(frozen=True, slots=True)
class Film:
    """One film: its detail body as JSON text, and what lists filter and sort by."""

    id: int
    text: bytes
    imdb_id: str | None
    title: str
    original_title: str
    original_language: str
    release_date: str
    genre_ids: tuple[int, ...]
    popularity: float
    vote_average: float
    vote_count: int
    revenue: int
    runtime: int
    adult: bool
    video: bool

    @property
    def body(self) -> Body:
        return json.loads(self.text)


def film_from_body(body: Body) -> Film:
    """A film from a TMDB detail body. A value of another type than TMDB's counts as empty in
    lists; the body still shows it as it is."""
    genres: list[Body] = body.get("genres") or []
    return Film(
        id=int(body["id"]),
        text=json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(),
        imdb_id=_text(body.get("imdb_id")) or None,
        title=_text(body.get("title")),
        original_title=_text(body.get("original_title")),
        original_language=_text(body.get("original_language")),
        release_date=_text(body.get("release_date")),
        genre_ids=tuple(genre["id"] for genre in genres),
        popularity=_number(body.get("popularity")),
        vote_average=_number(body.get("vote_average")),
        vote_count=int(_number(body.get("vote_count"))),
        revenue=int(_number(body.get("revenue"))),
        runtime=int(_number(body.get("runtime"))),
        adult=body.get("adult") is True,
        video=body.get("video") is True,
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else 0.0


def words(text: str) -> list[str]:
    """The words of a title in lower case without accents."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(
        " " if not (char.isalnum() or unicodedata.combining(char)) else char
        for char in plain
        if not unicodedata.combining(char)
    ).split()


_SORT_FIELDS: Final[dict[str, Callable[[Film], Any]]] = {
    "popularity": lambda film: film.popularity,
    "vote_average": lambda film: (film.vote_average, film.vote_count),
    "vote_count": lambda film: film.vote_count,
    "revenue": lambda film: film.revenue,
    "primary_release_date": lambda film: film.release_date,
    "release_date": lambda film: film.release_date,
    "title": lambda film: film.title.casefold(),
    "original_title": lambda film: film.original_title.casefold(),
}
SORT_ORDERS: Final = frozenset(
    f"{field}.{way}" for field in _SORT_FIELDS for way in ("asc", "desc")
)


class Catalogue:
    """Films by id, unchangeable; `edited` gives another one."""

    def __init__(self, films: Mapping[int, Film], genres: list[Body]) -> None:
        self.films = films
        self.genres = genres
        self._by_imdb = {film.imdb_id: film for film in films.values() if film.imdb_id}
        self._orders: dict[str, list[Film]] = {}
        self._words: list[tuple[Film, list[str], list[str]]] = []

    def __len__(self) -> int:
        return len(self.films)

    def find(self, key: str) -> Film | None:
        """A film by TMDB id (``27205``, ``27205-inception``) or IMDb id (``tt1375666``)."""
        film_id = self.id_of(key)
        return None if film_id is None else self.films.get(film_id)

    def id_of(self, key: str) -> int | None:
        """The TMDB id that a path segment names, whether or not there is such a film."""
        if key.startswith("tt"):
            film = self._by_imdb.get(key)
            return film.id if film else None
        digits = key.partition("-")[0]
        return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 16 else None

    def ordered(self, order: str) -> list[Film]:
        """All films by one of `SORT_ORDERS`; equals stand in the order of their ids."""
        if order not in self._orders:
            field, _, way = order.partition(".")
            films = sorted(self.films.values(), key=lambda film: film.id)
            films.sort(key=_SORT_FIELDS[field], reverse=way == "desc")
            self._orders[order] = films
        return self._orders[order]

    def search(self, query: str) -> list[Film]:
        """The films whose title or original title has a word that starts with each word of the
        query, by popularity."""
        asked = words(query)
        if not asked:
            return []
        if not self._words:
            self._words = [
                (film, words(film.title), words(film.original_title))
                for film in self.ordered("popularity.desc")
            ]
        return [
            film
            for film, title, original in self._words
            if _starts_all(asked, title) or _starts_all(asked, original)
        ]

    def day(self) -> date:
        """A day on which both now_playing and upcoming have films."""
        dated = (
            film.release_date
            for film in self.films.values()
            if film.vote_count and film.release_date
        )
        newest = max(dated, default=None)
        if newest is None:
            return date(2000, 1, 1)
        return date.fromisoformat(newest) - timedelta(days=_UPCOMING_DAYS)

    def edited(self, overrides: Mapping[int, Body], removed: Iterable[int]) -> "Catalogue":
        """This catalogue with some fields of some films replaced and some films taken out."""
        films = dict(self.films)
        for film_id, fields in overrides.items():
            films[film_id] = film_from_body({**films[film_id].body, **fields})
        for film_id in removed:
            films.pop(film_id, None)
        return Catalogue(films, self.genres)


def _starts_all(asked: list[str], title: list[str]) -> bool:
    return all(any(word.startswith(start) for word in title) for start in asked)


def load_catalogue(path: Path | None) -> Catalogue:
    """Read a catalogue: a JSONL file in the sample's format, or a folder of ``*.json`` and
    ``*.json.gz`` files, each an array of TMDB detail bodies.

    Raises CatalogueError where there is none, or it cannot be read.
    """
    if path is None:
        raise CatalogueError(
            "No catalogue: the sample catalogue was not found. Set TMDB_STANDIN_CATALOGUE to a "
            "movies.jsonl or to a folder of TMDB detail bodies."
        )
    if path.is_dir():
        return _load_folder(path)
    if path.is_file():
        return _load_jsonl(path)
    raise CatalogueError(
        f"TMDB_STANDIN_CATALOGUE={path}: no such file or folder. Give a movies.jsonl or a folder "
        "of TMDB detail bodies."
    )


def _load_jsonl(path: Path) -> Catalogue:
    genres = _side_table(path, "genres.json")
    genre_names = {item["id"]: item for item in genres}
    languages = {
        item["iso_639_1"]: {
            "english_name": item["english_name"],
            "iso_639_1": item["iso_639_1"],
            "name": item["name"],
        }
        for item in _side_table(path, "languages.json")
    }
    countries = {item["iso_3166_1"]: item for item in _side_table(path, "countries.json")}
    films: dict[int, Film] = {}
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row: Body = json.loads(line)
                body = {
                    "id": row.pop("tmdb_id"),
                    **row,
                    "genres": [genre_names[code] for code in row["genres"]],
                    "spoken_languages": [languages[code] for code in row["spoken_languages"]],
                    "production_countries": [
                        countries[code] for code in row["production_countries"]
                    ],
                }
                film = film_from_body(body)
            except (ValueError, KeyError, TypeError, AttributeError) as problem:
                raise CatalogueError(
                    f"{path}, line {number}: not a film of the sample's format ({problem!r})."
                ) from problem
            films[film.id] = film
    return Catalogue(films, genres)


def _side_table(path: Path, name: str) -> list[Body]:
    beside = path.with_name(name)
    try:
        return json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise CatalogueError(f"{beside} is needed beside {path.name}: {problem}") from problem


def _load_folder(folder: Path) -> Catalogue:
    files = sorted([*folder.glob("*.json"), *folder.glob("*.json.gz")])
    films: dict[int, Film] = {}
    genres: dict[int, Body] = {}
    for file in files:
        try:
            for body in _array_items(file):
                # The first element of collected files is a mark of the collector, not a film.
                if isinstance(body.get("id"), int):
                    film = film_from_body(body)
                    films[film.id] = film
                    named: list[Body] = body.get("genres") or []
                    genres.update((genre["id"], genre) for genre in named)
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as problem:
            raise CatalogueError(
                f"{file}: not an array of TMDB detail bodies ({problem!r})."
            ) from problem
    if not films:
        raise CatalogueError(f"{folder}: no film in any *.json or *.json.gz file.")
    return Catalogue(films, sorted(genres.values(), key=lambda genre: genre["name"]))


def _array_items(file: Path) -> Iterator[Body]:
    """The items of a JSON array one at a time, so that only the text of one file is held."""
    raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    text = raw.decode("utf-8")
    del raw
    decoder = json.JSONDecoder()
    at = _skip(text, 0, " \t\r\n")
    if text[at : at + 1] != "[":
        raise ValueError("does not begin with [")
    at = _skip(text, at + 1, " \t\r\n")
    while text[at : at + 1] != "]":
        item, at = decoder.raw_decode(text, at)
        yield item
        at = _skip(text, at, " \t\r\n,")


def _skip(text: str, at: int, chars: str) -> int:
    while text[at : at + 1] and text[at] in chars:
        at += 1
    return at
