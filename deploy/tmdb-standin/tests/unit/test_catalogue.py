import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tmdb_standin import CatalogueError, load_catalogue
from tmdb_standin.shapes import part

ACTION = {"id": 28, "name": "Action"}


def body(film_id: int, **fields: Any) -> dict[str, Any]:
    return {"id": film_id, "title": f"Film {film_id}", "genres": [ACTION], **fields}


def test_a_folder_of_arrays_plain_and_compressed(tmp_path: Path) -> None:
    sentinel = {"imdb_id": 0}
    plain = json.dumps([sentinel, body(1), body(2, genres=None)], indent=1)
    (tmp_path / "a.json").write_text(plain, encoding="utf-8")
    with gzip.open(tmp_path / "b.json.gz", "wt", encoding="utf-8") as file:
        json.dump([sentinel, body(3, title="Ünï\u2028")], file, ensure_ascii=False)
    catalogue = load_catalogue(tmp_path)
    assert sorted(catalogue.films) == [1, 2, 3]
    assert catalogue.films[3].body == body(3, title="Ünï\u2028")
    assert catalogue.genres == [ACTION]


def test_a_recorded_part_is_answered_as_recorded(tmp_path: Path) -> None:
    credits = {"cast": [{"id": 9, "name": "Someone"}], "crew": []}
    (tmp_path / "a.json").write_text(json.dumps([body(1, credits=credits)]), encoding="utf-8")
    assert part("credits", load_catalogue(tmp_path).films[1].body) == credits


def test_a_collected_certificate_is_a_us_release(tmp_path: Path) -> None:
    film = body(1, certification="PG-13", release_date="2010-07-15")
    (tmp_path / "a.json").write_text(json.dumps([film]), encoding="utf-8")
    dates = part("release_dates", load_catalogue(tmp_path).films[1].body)
    assert dates is not None
    (us,) = dates["results"]
    assert us["iso_3166_1"] == "US"
    assert us["release_dates"][0]["certification"] == "PG-13"


@pytest.mark.parametrize("text", ["", "{}", "[", "[{]", '[{"id": 1}', "[1]", "nonsense"])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "broken.json").write_text(text, encoding="utf-8")
    with pytest.raises(CatalogueError, match=r"broken\.json"):
        load_catalogue(tmp_path)


def test_a_cut_off_gzip_file_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(json.dumps([body(1)]).encode())
    (tmp_path / "cut.json.gz").write_bytes(whole[:-10])
    with pytest.raises(CatalogueError, match=r"cut\.json\.gz"):
        load_catalogue(tmp_path)


def test_a_broken_line_is_named(tmp_path: Path, sample_folder: Path) -> None:
    for name in ("genres.json", "languages.json", "countries.json"):
        (tmp_path / name).write_bytes((sample_folder / name).read_bytes())
    first = (sample_folder / "movies.jsonl").read_text(encoding="utf-8").splitlines()[0]
    movies = tmp_path / "movies.jsonl"
    movies.write_text(f'{first}\n{{"tmdb_id": 2}}\n', encoding="utf-8")
    with pytest.raises(CatalogueError, match=r"movies\.jsonl, line 2"):
        load_catalogue(movies)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="no film in any"):
        load_catalogue(tmp_path)
    with pytest.raises(CatalogueError, match="no such file or folder"):
        load_catalogue(tmp_path / "nowhere")
    with pytest.raises(CatalogueError, match="TMDB_STANDIN_CATALOGUE"):
        load_catalogue(None)
    (tmp_path / "movies.jsonl").touch()
    with pytest.raises(CatalogueError, match=r"genres\.json"):
        load_catalogue(tmp_path / "movies.jsonl")
