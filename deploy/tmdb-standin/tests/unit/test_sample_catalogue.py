import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FIELDS = [
    "tmdb_id",
    "imdb_id",
    "title",
    "original_title",
    "original_language",
    "release_date",
    "genres",
    "runtime",
    "vote_average",
    "vote_count",
    "popularity",
    "budget",
    "revenue",
    "status",
    "spoken_languages",
    "production_countries",
    "adult",
    "video",
]


@pytest.fixture(scope="module")
def films(sample_folder: Path) -> list[dict[str, Any]]:
    text = (sample_folder / "movies.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_holds_facts_only_of_at_least_2000_films(films: list[dict[str, Any]]) -> None:
    assert len(films) == 2400
    assert all(list(film) == FIELDS for film in films)


def test_is_sorted_by_unique_id_and_holds_the_well_known(films: list[dict[str, Any]]) -> None:
    ids = [film["tmdb_id"] for film in films]
    assert ids == sorted(set(ids))
    assert {27205, 603, 550, 278, 238, 155, 13, 680} <= set(ids)


def test_inception(films: list[dict[str, Any]]) -> None:
    assert next(film for film in films if film["tmdb_id"] == 27205) == {
        "tmdb_id": 27205,
        "imdb_id": "tt1375666",
        "title": "Inception",
        "original_title": "Inception",
        "original_language": "en",
        "release_date": "2010-07-14",
        "genres": [28, 53, 878, 9648, 12],
        "runtime": 148,
        "vote_average": 8.1,
        "vote_count": 13752,
        "popularity": 167.58371,
        "budget": 160000000,
        "revenue": 825532764,
        "status": "Released",
        "spoken_languages": ["en", "ja", "fr"],
        "production_countries": ["GB", "US"],
        "adult": False,
        "video": False,
    }


def test_is_small_enough_to_commit(sample_folder: Path) -> None:
    assert (sample_folder / "movies.jsonl").stat().st_size < 1_200_000


def test_genres_are_tmdbs_film_genres(sample_folder: Path, shared_data: Path) -> None:
    recorded = shared_data / "tmdb_api" / "genres" / "movie_list__tmdblib.json"
    ours = json.loads((sample_folder / "genres.json").read_text(encoding="utf-8"))
    assert ours == json.loads(recorded.read_text(encoding="utf-8"))["genres"]
    assert len(ours) == 19


def test_is_derived_byte_for_byte(sample_folder: Path, shared_data: Path, tmp_path: Path) -> None:
    subprocess.run(
        [
            sys.executable,
            sample_folder / "derive.py",
            shared_data / "tmdb5000" / "tmdb_5000_movies.csv.gz",
            shared_data / "the_movies_dataset" / "links.csv.gz",
            shared_data / "tmdb_api" / "other" / "configuration_languages__tmdblib.json",
            "--out",
            tmp_path,
        ],
        check=True,
    )
    for name in ("movies.jsonl", "genres.json", "languages.json", "countries.json"):
        assert (tmp_path / name).read_bytes() == (sample_folder / name).read_bytes(), name
