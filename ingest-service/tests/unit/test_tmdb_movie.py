import gzip
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from ingest_service.tmdb_movie import MAX_CAST, MAX_CREW, MovieDocumentError, movie_from_tmdb
from moviemetric_contracts import Movie

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def mapped(**fields: object) -> Movie:
    body: dict[str, object] = {"id": 5, "title": "Four Rooms", **fields}
    return movie_from_tmdb(body, tmdb_id=5, fetched_at=NOW)


def recorded(shared_data: Path, name: str) -> Any:
    return json.loads((shared_data / "tmdb_api" / "details" / name).read_text("utf-8"))


def test_the_least_document_gives_a_film_of_unknowns() -> None:
    assert mapped() == Movie(
        movie_id="tmdb-5", tmdb_id=5, title="Four Rooms", vote_count=0, popularity=0, fetched_at=NOW
    )


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("runtime", 0, None),
        ("runtime", 98, 98),
        ("runtime", 98.0, 98),
        ("runtime", 98.5, None),
        ("runtime", -1, None),
        ("runtime", "98", None),
        ("runtime", True, None),
        ("runtime", 10**9, None),
        ("budget", 0, None),
        ("budget", 4_000_000, 4_000_000),
        ("budget", -4, None),
        ("budget", 10**400, None),
        ("revenue", float("nan"), None),
        ("revenue", float("inf"), None),
        ("revenue", 2_923_706_026, 2_923_706_026),
        ("overview", "", None),
        ("overview", "  \n ", None),
        ("overview", 7, None),
        ("overview", "a\x00b\ud83d", "ab"),
        ("overview", "\U0001f600", "\U0001f600"),
        ("tagline", None, None),
        ("release_date", "", None),
        ("release_date", None, None),
        ("release_date", "1995-12-09", date(1995, 12, 9)),
        ("release_date", "2004-02-31", None),
        ("release_date", "1995", None),
        ("release_date", "19951209", None),
        ("release_date", "9999-12-31", None),
        ("release_date", "0001-01-01", None),
        ("release_date", "1995-12-0\u0669", None),
        ("vote_average", 0, None),
        ("vote_average", 0.5, 0.5),
        ("vote_average", 11, 10),
        ("vote_average", -3, None),
        ("vote_count", -1, 0),
        ("vote_count", None, 0),
        ("vote_count", 2628, 2628),
        ("popularity", -0.5, 0),
        ("popularity", float("nan"), 0),
        ("popularity", 1e300, 1e6),
        ("popularity", 21.48, 21.48),
        ("original_language", "", None),
        ("original_language", "en", "en"),
        ("original_language", "en; DROP", None),
        ("imdb_id", "tt0113101", "tt0113101"),
        ("imdb_id", "0113101", None),
        ("imdb_id", "tt011310\u0661", None),
        ("imdb_id", 0, None),
        ("homepage", "javascript:alert(1)", None),
        ("homepage", "HTTPS://example.org/", "HTTPS://example.org/"),
        ("poster_path", "", None),
        ("poster_path", "/a.jpg", "/a.jpg"),
        ("poster_path", "a.jpg", None),
        ("adult", "yes", False),
        ("adult", True, True),
        ("belongs_to_collection", None, None),
    ],
)
def test_single_values(field: str, value: object, expected: object) -> None:
    name = "collection" if field == "belongs_to_collection" else field
    assert getattr(mapped(**{field: value}), name) == expected


def test_the_title_may_be_the_original_one() -> None:
    assert mapped(title="", original_title=" Fyra rum ").title == "Fyra rum"


def test_long_texts_are_cut_to_the_contract() -> None:
    film = mapped(title="x" * 5000, genres=[{"name": "g" * 500}], overview="o" * 50_000)
    assert (len(film.title), len(film.genres[0]), len(film.overview or "")) == (1000, 200, 20_000)


def test_lists_keep_their_order_and_name_each_once() -> None:
    film = mapped(
        genres=[
            {"id": 18, "name": " Drama "},
            {"id": 35, "name": "Comedy"},
            {"id": 9, "name": "Drama"},
            {"id": 8, "name": ""},
            {"id": 7},
            None,
            "Crime",
        ],
        keywords={"keywords": [{"name": "hotel"}, {"name": "hotel"}, {"name": "bet"}]},
        spoken_languages=[{"iso_639_1": "en", "name": "English"}, {"iso_639_1": ""}],
        production_countries=[{"iso_3166_1": "US"}, {"iso_3166_1": "Narnia"}],
        production_companies=[{"id": 14, "name": "Miramax"}],
    )
    assert film.genres == ("Drama", "Comedy")
    assert film.keywords == ("hotel", "bet")
    assert film.spoken_languages == ("en",)
    assert film.production_countries == ("US",)
    assert film.production_companies == ("Miramax",)


def test_the_origin_countries_stand_in_for_missing_production_countries() -> None:
    assert mapped(origin_country=["FR", "BE"]).production_countries == ("FR", "BE")
    both = mapped(origin_country=["FR"], production_countries=[{"iso_3166_1": "BE"}])
    assert both.production_countries == ("BE",)


def test_the_cast_is_in_billing_order_and_bounded() -> None:
    people = [{"id": n + 1, "name": f"Actor {n}", "order": n} for n in range(50)]
    film = mapped(credits={"cast": [{"name": "Extra"}, *reversed(people), {"order": 0}]})
    assert len(film.cast) == MAX_CAST
    assert [member.name for member in film.cast[:2]] == ["Actor 0", "Actor 1"]
    assert film.cast[1].tmdb_person_id == 2


def test_the_crew_is_the_key_jobs_with_directors_first() -> None:
    crew = [{"id": n, "name": f"Producer {n}", "job": "Producer"} for n in range(1, 60)]
    director = {"id": 99, "name": "A. Rockwell", "job": "Director", "department": "Directing"}
    film = mapped(credits={"crew": [*crew, {"name": "X", "job": "Casting"}, director, director]})
    assert len(film.crew) == MAX_CREW
    assert [member.job for member in film.crew] == ["Director"] + ["Producer"] * (MAX_CREW - 1)


@pytest.mark.parametrize("wrong", [None, [], "text", 7])
def test_appended_parts_of_the_wrong_shape_are_ignored(wrong: object) -> None:
    film = mapped(
        credits=wrong, keywords=wrong, external_ids=wrong, genres=wrong, belongs_to_collection=wrong
    )
    assert film == mapped()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (None, "(body)"),
        ([], "(body)"),
        ({}, "id"),
        ({"id": 6, "title": "Another"}, "id"),
        ({"id": "5", "title": "Four Rooms"}, "id"),
        ({"id": 5}, "title"),
        ({"id": 5, "title": " \x00", "original_title": None}, "title"),
    ],
)
def test_what_is_not_the_film_is_refused_with_the_field_named(body: object, field: str) -> None:
    with pytest.raises(MovieDocumentError, match=r"film 5") as caught:
        movie_from_tmdb(body, tmdb_id=5, fetched_at=NOW)
    assert caught.value.field == field


def test_a_recorded_body_with_credits(shared_data: Path) -> None:
    film = movie_from_tmdb(
        recorded(shared_data, "movie_607__tmdb-kotlin.json"), tmdb_id=607, fetched_at=NOW
    )
    assert film.model_dump(include=set(Movie.model_fields) - {"cast", "crew", "overview"}) == {
        "aliases": (),
        "movie_id": "tmdb-607",
        "tmdb_id": 607,
        "imdb_id": "tt0119654",
        "title": "Men in Black",
        "original_title": "Men in Black",
        "original_language": "en",
        "tagline": "Protecting the Earth from the scum of the universe.",
        "status": "Released",
        "release_date": date(1997, 7, 2),
        "runtime": 98,
        "budget": 90_000_000,
        "revenue": 589_390_539,
        "genres": ("Action", "Adventure", "Comedy", "Science Fiction"),
        "keywords": (),
        "spoken_languages": ("en", "es"),
        "production_countries": ("US",),
        "production_companies": (
            "Columbia Pictures",
            "Amblin Entertainment",
            "Parkes+MacDonald Image Nation",
        ),
        "collection": "Men In Black Collection",
        "homepage": "http://www.sonypictures.com/homevideo/meninblack",
        "poster_path": "/uLOmOF5IzWoyrgIF5MfUnh5pa1X.jpg",
        "backdrop_path": "/iEVZScwA2vy8BlVOFBBCfbU6XxB.jpg",
        "adult": False,
        "vote_average": 7.2,
        "vote_count": 10902,
        "popularity": 34.958,
        "fetched_at": NOW,
    }
    assert [(member.name, member.character) for member in film.cast[:2]] == [
        ("Tommy Lee Jones", "Agent K"),
        ("Will Smith", "James Edwards / Agent J"),
    ]
    assert film.crew[0].model_dump(include={"name", "job"}) == {
        "name": "Barry Sonnenfeld",
        "job": "Director",
    }


def test_the_imdb_id_may_come_from_the_external_ids(shared_data: Path) -> None:
    body = recorded(shared_data, "movie_76__py-themoviedb.json") | {"imdb_id": ""}
    film = movie_from_tmdb(body, tmdb_id=76, fetched_at=NOW)
    assert film.imdb_id == "tt0112471"
    assert film.keywords[0] == "sunrise"


def test_bodies_of_every_age_map(shared_data: Path) -> None:
    files = sorted((shared_data / "tmdb_api").glob("details*/*.json"))
    assert len(files) == 45
    for file in files:
        body = json.loads(file.read_text("utf-8"))
        film = movie_from_tmdb(body, tmdb_id=body["id"], fetched_at=NOW)
        assert film.title == (body["title"] or body["original_title"]).strip(), file.name


def bulk_bodies(shared_data: Path) -> Iterator[dict[str, Any]]:
    for file in sorted((shared_data / "tmdb_bulk" / "json").glob("*.json.gz")):
        # The first element of each file is no film.
        yield from json.loads(gzip.decompress(file.read_bytes()))[1:]


def test_every_body_of_the_bulk_maps_and_survives_its_event(shared_data: Path) -> None:
    films = without_date = without_genres = without_runtime = 0
    for body in bulk_bodies(shared_data):
        film = movie_from_tmdb(body, tmdb_id=body["id"], fetched_at=NOW)
        films += 1
        without_date += film.release_date is None
        without_genres += not film.genres
        without_runtime += film.runtime is None
        if films % 10 == 0:
            assert Movie.model_validate_json(film.model_dump_json()) == film
    # As counted in the data's own description, by other means.
    assert (films, without_date, without_genres, without_runtime) == (27_495, 405, 3_082, 1_868)
