"""Derives the sample catalogue from public copies of TMDB data.

Reads the movies file of the "TMDB 5000 Movie Dataset" (CSV, gzip), the ``links.csv`` of "The Movies
Dataset" (TMDB id to IMDb id, gzip) and the body of TMDB's ``/3/configuration/languages``. Writes
``movies.jsonl``, ``genres.json``, ``languages.json`` and ``countries.json``. Only facts are
taken; descriptive text, keywords and pictures stay behind. The same input gives the same bytes.

    python derive.py tmdb_5000_movies.csv.gz links.csv.gz configuration_languages.json
"""

import argparse
import csv
import gzip
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FILMS = 2400


def read_csv(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def imdb_ids(links: Path) -> dict[int, str]:
    """TMDB id to IMDb id. Where a film has several, the lowest (the oldest entry) is kept."""
    found: dict[int, int] = {}
    for row in read_csv(links):
        if not row["tmdbId"]:
            continue
        tmdb_id, imdb_number = int(float(row["tmdbId"])), int(row["imdbId"])
        found[tmdb_id] = min(imdb_number, found.get(tmdb_id, imdb_number))
    return {tmdb_id: f"tt{number:07d}" for tmdb_id, number in found.items()}


def named(rows: list[dict[str, str]], column: str, code: str) -> dict[Any, str]:
    """Every code of a JSON list column with its name."""
    return {item[code]: item["name"] for row in rows for item in json.loads(row[column])}


def film(row: dict[str, str], imdb_id: str | None) -> dict[str, Any]:
    return {
        "tmdb_id": int(row["id"]),
        "imdb_id": imdb_id,
        "title": row["title"],
        "original_title": row["original_title"],
        "original_language": row["original_language"],
        "release_date": row["release_date"],
        "genres": [item["id"] for item in json.loads(row["genres"])],
        "runtime": int(float(row["runtime"])),
        "vote_average": float(row["vote_average"]),
        "vote_count": int(row["vote_count"]),
        "popularity": float(row["popularity"]),
        "budget": int(row["budget"]),
        "revenue": int(row["revenue"]),
        "status": row["status"],
        "spoken_languages": [item["iso_639_1"] for item in json.loads(row["spoken_languages"])],
        "production_countries": [
            item["iso_3166_1"] for item in json.loads(row["production_countries"])
        ],
        "adult": False,
        "video": False,
    }


def lines(items: list[dict[str, Any]]) -> str:
    compact = (json.dumps(item, ensure_ascii=False, separators=(",", ":")) for item in items)
    return "".join(f"{line}\n" for line in compact)


def table(items: list[dict[str, Any]]) -> str:
    """A JSON array with one item a line."""
    return "[\n" + lines(items).rstrip("\n").replace("\n", ",\n") + "\n]\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Derive the sample catalogue.")
    parser.add_argument("movies", type=Path, help="tmdb_5000_movies.csv.gz")
    parser.add_argument("links", type=Path, help="links.csv.gz of The Movies Dataset")
    parser.add_argument("languages", type=Path, help="a body of /3/configuration/languages")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to")
    options = parser.parse_args()

    rows = read_csv(options.movies)
    rows.sort(key=lambda row: (-int(row["vote_count"]), int(row["id"])))
    rows = sorted(rows[:FILMS], key=lambda row: int(row["id"]))
    imdb = imdb_ids(options.links)

    genres = named(rows, "genres", "id")
    spoken = named(rows, "spoken_languages", "iso_639_1")
    countries = named(rows, "production_countries", "iso_3166_1")
    known: list[dict[str, str]] = json.loads(options.languages.read_text(encoding="utf-8"))

    files = {
        "movies.jsonl": lines([film(row, imdb.get(int(row["id"]))) for row in rows]),
        "genres.json": table(
            [{"id": code, "name": genres[code]} for code in sorted(genres, key=genres.__getitem__)]
        ),
        "languages.json": table(
            sorted(
                (item for item in known if item["iso_639_1"] in spoken),
                key=lambda item: item["iso_639_1"],
            )
        ),
        "countries.json": table(
            [{"iso_3166_1": code, "name": countries[code]} for code in sorted(countries)]
        ),
    }
    missing = sorted(set(spoken) - {item["iso_639_1"] for item in known})
    if missing:
        sys.exit(f"{options.languages} does not name these spoken languages: {', '.join(missing)}")

    options.out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (options.out / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
