"""The films that search is measured over, as documents: real ones, and more made from them.

They are read from MOVIEMETRIC_SHARED_DATA, or shared/data beside the checkout.
"""

import ast
import csv
import gzip
import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, Final

from harness.live_stack import ROOT
from search_indexer.documents import MAX_CAST, MAX_KEYWORDS, MAX_OVERVIEW, Document, Trend

TMDB_5000: Final = 4_803
BULK: Final = 55_000

csv.field_size_limit(2**24)


def data_folder() -> Path | None:
    """Where the films are, if they are."""
    named = os.environ.get("MOVIEMETRIC_SHARED_DATA")
    folder = Path(named) if named else ROOT.parent / "shared/data"
    return folder if (folder / "tmdb5000").is_dir() else None


def tmdb_5000(folder: Path) -> list[Document]:
    """The TMDB 5000 films, with people and more keywords from the other sets that know them."""
    people = _people(folder)
    keywords = _keywords(folder)
    films: list[Document] = []
    with gzip.open(folder / "tmdb5000/tmdb_5000_movies.csv.gz", "rt", newline="") as file:
        for row in csv.DictReader(file):
            number = int(row["id"])
            own = [keyword["name"] for keyword in json.loads(row["keywords"])]
            films.append(
                _document(
                    number,
                    title=row["title"],
                    original_title=row["original_title"],
                    language=row["original_language"],
                    overview=row["overview"],
                    people=people.get(number, ()),
                    keywords=list(dict.fromkeys([*own, *keywords.get(number, ())])),
                    genres=[genre["name"] for genre in json.loads(row["genres"])],
                    released=row["release_date"],
                    vote_average=float(row["vote_average"]),
                    vote_count=int(row["vote_count"]),
                    popularity=float(row["popularity"]),
                )
            )
    return films


def bulk(folder: Path) -> Iterator[Document]:
    """The 55,023 films of TMDB's API that one project had fetched; without people and keywords."""
    for path in sorted((folder / "tmdb_bulk").rglob("*.json*")):
        for body in json.loads(_text(path)):
            if "title" in body:
                yield _from_body(body)
    for path in sorted((folder / "tmdb_bulk").rglob("*.csv*")):
        # A carriage return within an unquoted field is part of it.
        for row in csv.DictReader(_text(path).replace("\r", " ").split("\n")):
            if row["title"]:
                yield _from_row(row)


def many(films: Sequence[Document], count: int) -> Iterator[Document]:
    """Films until there are `count`, all of them findable: the given ones, then altered ones.

    An altered film has a number of its own, a title in which a word is another film's, and an
    overview made of two.
    """
    draw = random.Random(5)
    for number in range(count):
        film = films[number % len(films)]
        if number < len(films):
            yield film
            continue
        other = draw.choice(films)
        title = film.title.split(" ")
        title[draw.randrange(len(title))] = draw.choice(other.title.split(" "))
        half = (film.overview or "")[: len(film.overview or "") // 2]
        rest = (other.overview or "")[len(other.overview or "") // 2 :]
        yield replace(
            film,
            movie_id=f"tmdb-{10_000_000 + number}",
            tmdb_id=10_000_000 + number,
            imdb_id=None,
            title=" ".join(title),
            original_title=" ".join(title),
            overview=half + rest,
            popularity=film.popularity * draw.random(),
        )


def trends(films: Sequence[Document]) -> list[Trend]:
    """A trend for each film, as its popularity gives one before anybody has viewed it."""
    return [
        Trend(
            movie_id=film.movie_id,
            revision=1,
            score=min(100.0, film.popularity),
            rank_key=film.popularity,
            views=0,
        )
        for film in films
    ]


def _people(folder: Path) -> dict[int, list[str]]:
    people: dict[int, list[str]] = {}
    for film in _json(folder / "search/meilisearch_test_movies_1688.json.gz"):
        cast = [entry.split(" as ")[0] for entry in film.get("cast") or ()]
        director = film.get("director")
        people[int(film["id"])] = [*cast[:MAX_CAST], *([director] if director else [])]
    for film in _json(folder / "search/elastic_workshop_movies_2277.json.gz"):
        cast: list[str] = film.get("cast") or []
        people.setdefault(int(film["id"]), cast[:MAX_CAST])
    credits = folder / "tmdb5000/tmdb_5000_credits_first198.csv.gz"
    with gzip.open(credits, "rt", newline="") as file:
        for row in csv.DictReader(file):
            if row["movie_id"]:
                cast = [member["name"] for member in json.loads(row["cast"])][:MAX_CAST]
                crew = json.loads(row["crew"] or "[]")
                directors = [member["name"] for member in crew if member["job"] == "Director"]
                people[int(row["movie_id"])] = [*cast, *directors]
    return {number: list(dict.fromkeys(names)) for number, names in people.items()}


def _keywords(folder: Path) -> dict[int, list[str]]:
    films = _json(folder / "search/elastic_workshop_movies_2277.json.gz")
    return {int(film["id"]): film.get("keywords") or [] for film in films}


def _json(path: Path) -> list[dict[str, Any]]:
    return json.loads(_text(path))


def _text(path: Path) -> str:
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            return file.read()
    with path.open(encoding="utf-8", newline="") as file:
        return file.read()


def _from_body(body: dict[str, Any]) -> Document:
    return _document(
        int(body["id"]),
        title=body["title"],
        original_title=body["original_title"],
        language=body["original_language"],
        overview=body["overview"] or "",
        people=(),
        keywords=(),
        genres=[genre["name"] for genre in body["genres"]],
        released=body.get("release_date") or "",
        vote_average=body["vote_average"],
        vote_count=body["vote_count"],
        popularity=body["popularity"],
    )


def _from_row(row: dict[str, str]) -> Document:
    genres: list[dict[str, Any]] = ast.literal_eval(row["genres"] or "[]")
    return _document(
        int(float(row["id"])),
        title=row["title"],
        original_title=row["original_title"],
        language=row["original_language"],
        overview=row["overview"],
        people=(),
        keywords=(),
        genres=[genre["name"] for genre in genres],
        released=row["release_date"],
        vote_average=float(row["vote_average"]),
        vote_count=int(float(row["vote_count"])),
        popularity=float(row["popularity"]),
    )


def _document(
    number: int,
    *,
    title: str,
    original_title: str,
    language: str,
    overview: str,
    people: Sequence[str],
    keywords: Sequence[str],
    genres: Sequence[str],
    released: str,
    vote_average: float,
    vote_count: int,
    popularity: float,
) -> Document:
    return Document(
        movie_id=f"tmdb-{number}",
        revision=1,
        tmdb_id=number,
        imdb_id=None,
        title=title,
        original_title=original_title or None,
        original_language=language or None,
        overview=overview[:MAX_OVERVIEW] or None,
        people=tuple(people),
        keywords=tuple(keywords)[:MAX_KEYWORDS],
        genres=tuple(dict.fromkeys(genres)),
        release_date=date.fromisoformat(released) if released else None,
        vote_average=vote_average if vote_count else None,
        vote_count=vote_count,
        popularity=popularity,
        poster_path=None,
    )
