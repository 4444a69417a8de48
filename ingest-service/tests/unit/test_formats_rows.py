import csv
import io
import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from ingest_service.formats import FORMATS, FilmFormat, RatingFormat, escaped_cell, recognise
from ingest_service.reading import JsonRow, Row
from ingest_service.records import Rejection, Skipped, Source, SourceRecord
from moviemetric_contracts import Movie

NOW = datetime(2026, 1, 2, tzinfo=UTC)

UPLOADED = {
    "title": "Jumanji",
    "original_title": "Jumanji",
    "original_language": "en",
    "overview": "When siblings …",
    "release_date": "1995-12-15",
    "budget": "65000000.0",
    "revenue": "262797249.0",
    "runtime": "104",
    "status": "Released",
    "vote_average": "6.9",
    "vote_count": "2413.0",
    "languages": "['English', 'Français']",
    "homepage": "",
    "genre_id": "12",
    "production_company_id": "559",
}
FILM = {
    "id": "862",
    "imdb_id": "tt0114709",
    "title": "Toy Story",
    "genres": "[{'id': 16, 'name': 'Animation'}]",
    "release_date": "1995-10-30",
    "adult": "False",
    "budget": "30000000",
    "runtime": "81.0",
    "vote_average": "7.7",
    "vote_count": "5415",
}
BODY: dict[str, object] = {
    "id": 862,
    "imdb_id": "tt0114709",
    "title": "Toy Story",
    "genres": [{"id": 16, "name": "Animation"}],
    "runtime": 81,
    "budget": 0,
    "adult": False,
    "release_date": "",
    "belongs_to_collection": None,
}


def films(form: FilmFormat | RatingFormat) -> FilmFormat:
    assert isinstance(form, FilmFormat)
    return form


def read(cells: dict[str, str], name: str = "auto") -> SourceRecord | Rejection | Skipped:
    return films(recognise(list(cells), name=name)).read(Row(7, list(cells.values())))


def record(cells: dict[str, str], name: str = "auto") -> SourceRecord:
    made = read(cells, name)
    assert isinstance(made, SourceRecord), made
    return made


def rejection(cells: dict[str, str], name: str = "auto") -> Rejection:
    made = read(cells, name)
    assert isinstance(made, Rejection), made
    assert made.line == 7
    assert made.text == tuple(cells.values())
    return made


def read_body(body: dict[str, object]) -> SourceRecord | Rejection | Skipped:
    return films(recognise((), json_sample=BODY)).read(JsonRow(7, body))


# The upload format


def test_a_row_of_the_upload_format() -> None:
    assert record(UPLOADED) == SourceRecord(
        Source.TABLE,
        "title-jumanji-1995",
        (),
        {
            "title": "Jumanji",
            "original_title": "Jumanji",
            "original_language": "en",
            "overview": "When siblings …",
            "release_date": "1995-12-15",
            "budget": 65_000_000,
            "revenue": 262_797_249,
            "runtime": 104,
            "status": "Released",
            "vote_average": 6.9,
            "vote_count": 2413,
            "spoken_languages": ["en", "fr"],
            "genres": ["Adventure"],
        },
    )


def test_what_is_unknown_is_absent() -> None:
    empty = dict.fromkeys(UPLOADED, "") | {"title": "X"}
    assert record(empty) == SourceRecord(Source.TABLE, "title-x-0000", (), {"title": "X"})
    zero = UPLOADED | {"budget": "0.0", "revenue": "0", "runtime": "0", "vote_count": "0.0"}
    fields = record(zero).fields
    absent = {"budget", "revenue", "runtime", "vote_count", "vote_average"}
    assert absent.isdisjoint(fields)


@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [
        ("title", "", "a title, the cell is empty"),
        ("release_date", "2001-02-30", "a day that exists"),
        ("release_date", "15/12/1995", "YYYY-MM-DD"),
        ("budget", "-5", "US dollars from 0"),
        ("revenue", "much", "US dollars"),
        ("runtime", "-3", "minutes"),
        ("runtime", "1000000000", "minutes"),
        ("vote_average", "11", "from 0 to 10"),
        ("vote_count", "-1", "votes"),
        ("languages", "English", "a list of languages"),
        ("genre_id", "Adventure", "a genre's TMDB number"),
        ("production_company_id", "TriStar", "a production company's TMDB number"),
        ("original_language", "not a code", "a language's code"),
    ],
)
def test_a_wrong_cell_rejects_its_row(column: str, cell: str, words: str) -> None:
    rejected = rejection(UPLOADED | {column: cell})
    assert rejected.column == column
    assert words in rejected.reason


def test_a_genre_that_tmdb_does_not_have_is_left_out() -> None:
    assert "genres" not in record(UPLOADED | {"genre_id": "999999"}).fields
    assert record(UPLOADED | {"genre_id": "10769.0"}).fields["genres"] == ["Foreign"]


def test_the_column_of_a_rejection_is_named_as_in_the_header() -> None:
    named = {f" {name.title()} ": cell for name, cell in UPLOADED.items()}
    assert rejection(named | {" Budget ": "-1"}).column == " Budget "


def test_rejected_rows_go_out_and_come_back_mended() -> None:
    cells = UPLOADED | {"title": "-If", "overview": "=cmd()", "budget": "-1"}
    form = recognise(list(cells))
    rejected = form.read(Row(2, list(cells.values())))
    assert isinstance(rejected, Rejection)
    out = io.StringIO()
    csv.writer(out).writerows([map(escaped_cell, row) for row in (form.header, rejected.text)])
    assert "'=cmd()" in out.getvalue()
    header, row = csv.reader(io.StringIO(out.getvalue().replace("'-1", "1000")))
    mended = recognise(header).read(Row(2, row))
    assert isinstance(mended, SourceRecord)
    assert mended.fields["title"] == "-If"
    assert mended.fields["overview"] == "=cmd()"
    assert mended.fields["budget"] == 1000


def test_a_row_of_another_width_is_rejected() -> None:
    made = recognise(list(UPLOADED)).read(Row(7, ["Jumanji", "x"]))
    assert made == Rejection(7, None, "expected 15 cells as in the header, got 2", ("Jumanji", "x"))


def test_an_empty_line_is_passed_over() -> None:
    assert read(dict.fromkeys(UPLOADED, " ")) == Skipped(7, "an empty line")


def test_the_text_of_a_rejection_is_storable_and_bounded() -> None:
    made = read(UPLOADED | {"overview": "x" * 200_000, "title": "\x00\ud83d"})
    assert isinstance(made, Rejection)
    assert max(map(len, made.text)) == 131_073
    assert made.text[0] == ""


# TMDB


@pytest.mark.parametrize("genres", ['[{"name": "Animation"}]', FILM["genres"]])
def test_lists_are_json_or_python_literals(genres: str) -> None:
    made = record(FILM | {"genres": genres})
    assert made.fields["genres"] == ["Animation"]


def test_a_film_of_the_movies_dataset_has_two_keys() -> None:
    made = record(FILM)
    assert (made.source, made.key, made.links) == (
        Source.TMDB_FILE,
        "tmdb-862",
        ("imdb-tt0114709",),
    )
    assert "adult" not in made.fields
    assert record(FILM | {"imdb_id": "", "adult": "True"}).links == ()
    assert record(FILM | {"adult": "True"}).fields["adult"] is True


def test_ids_may_be_written_as_floats() -> None:
    assert record(FILM | {"id": "862.0", "imdb_id": "114709.0"}) == record(FILM)


def test_a_shifted_row_is_rejected_at_its_id() -> None:
    shifted = FILM | {"id": "1997-08-20", "imdb_id": "0", "adult": " - Written by Ørnås"}
    rejected = rejection(shifted)
    assert rejected.column == "id"
    assert rejected.reason == "expected a TMDB id such as 862, got '1997-08-20'"


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("id", ""),
        ("title", ""),
        ("imdb_id", "0"),
        ("genres", "Animation"),
        ("adult", "perhaps"),
        ("vote_average", "10.1"),
    ],
)
def test_wrong_cells_of_a_film(column: str, cell: str) -> None:
    assert rejection(FILM | {column: cell}).column == column


def test_an_average_without_votes_is_absent() -> None:
    fields = record(FILM | {"vote_count": "0"}).fields
    assert {"vote_average", "vote_count"}.isdisjoint(fields)


@pytest.mark.parametrize("sentinel", ["0", "0.0"])
def test_a_sentinel_row_is_passed_over(sentinel: str) -> None:
    row = dict.fromkeys(FILM | {"backdrop_path": ""}, "") | {"imdb_id": sentinel}
    assert isinstance(read(row), Skipped)
    assert isinstance(read(row | {"budget": "5"}), Rejection)


def test_a_body() -> None:
    assert read_body(BODY) == SourceRecord(
        Source.TMDB_FILE,
        "tmdb-862",
        ("imdb-tt0114709",),
        {"title": "Toy Story", "genres": ["Animation"], "runtime": 81},
    )


def test_a_body_with_appended_responses() -> None:
    made = read_body(
        {
            "id": 5,
            "title": "X",
            "imdb_id": None,
            "external_ids": {"imdb_id": "tt0000005"},
            "keywords": {"keywords": [{"name": "hotel"}]},
            "credits": {
                "cast": [{"name": "A", "character": "B", "order": 0, "id": 1}],
                "crew": [{"name": "C", "job": "Director", "department": "Directing", "id": 2}],
            },
            "origin_country": ["US"],
        }
    )
    assert isinstance(made, SourceRecord)
    assert made.links == ("imdb-tt0000005",)
    assert made.fields["keywords"] == ["hotel"]
    assert [member["name"] for member in made.fields["cast"]] == ["A"]
    assert [member["job"] for member in made.fields["crew"]] == ["Director"]
    assert made.fields["production_countries"] == ["US"]


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"id": "1997-08-20"}, "id"),
        ({"id": None}, "id"),
        ({"title": ""}, "title"),
        ({"runtime": -1}, "runtime"),
        ({"genres": "Animation"}, "genres"),
        ({"genres": {"name": "Animation"}}, "genres"),
        ({"release_date": "2001-02-30"}, "release_date"),
        ({"credits": {"cast": 5}}, "cast"),
    ],
)
def test_a_wrong_body(change: dict[str, object], column: str) -> None:
    body = BODY | change
    made = read_body(body)
    assert isinstance(made, Rejection)
    assert made.column == column
    [text] = made.text
    assert json.loads(text) == body


def test_a_body_that_lacks_its_id_or_is_a_sentinel() -> None:
    made = read_body({"title": "X"})
    assert isinstance(made, Rejection)
    assert made.column == "id"
    assert isinstance(read_body({"imdb_id": 0}), Skipped)


def test_a_rejected_body_comes_back_in_a_column_of_its_own() -> None:
    form = recognise((), json_sample=BODY)
    assert form.header == ("json",)
    rejected = form.read(JsonRow(3, BODY | {"runtime": -1}))
    assert isinstance(rejected, Rejection)
    again = recognise(form.header, name=form.name)
    assert again.read(Row(2, [rejected.text[0].replace("-1", "81")])) == read_body(BODY)
    assert isinstance(again.read(Row(2, list(rejected.text))), Rejection)
    for broken in ("{", "5", "[" * 10_000):
        made = again.read(Row(2, [broken]))
        assert isinstance(made, Rejection)
        assert made.column == "json"


def test_credits() -> None:
    cells = {
        "movie_id": "19995",
        "title": "Avatar",
        "cast": '[{"name": "Sam Worthington", "order": 0, "character": "Jake", "id": 65731}]',
        "crew": "[]",
    }
    made = record(cells)
    assert (made.source, made.key) == (Source.TMDB_CREDITS, "tmdb-19995")
    assert set(made.fields) == {"title", "cast"}
    assert rejection(cells | {"movie_id": ""}).column == "movie_id"
    assert read(cells | {"cast": ""}) == Skipped(7, "no cast and no crew")


# IMDb


BASICS = {
    "": "34792",
    "tconst": "tt0035423",
    "titleType": "movie",
    "primaryTitle": "Kate & Leopold",
    "originalTitle": "Kate & Leopold",
    "isAdult": "0",
    "startYear": "2001.0",
    "endYear": "",
    "runtimeMinutes": "118",
    "genres": "Comedy,Sci-Fi",
}


def test_a_title_of_imdb() -> None:
    assert record(BASICS) == SourceRecord(
        Source.IMDB_BASICS,
        "imdb-tt0035423",
        (),
        {
            "title": "Kate & Leopold",
            "original_title": "Kate & Leopold",
            "release_date": "2001-01-01",
            "runtime": 118,
            "genres": ["Comedy", "Science Fiction"],
        },
    )
    unknown = BASICS | dict.fromkeys(("startYear", "runtimeMinutes", "genres"), "\\N")
    assert set(record(unknown).fields) == {"title", "original_title"}
    assert record(BASICS | {"isAdult": "1"}).fields["adult"] is True
    assert record(BASICS | {"primaryTitle": "None"}).fields["title"] == "None"


@pytest.mark.parametrize("kind", ["movie", "tvMovie", "short", "tvShort", "video"])
def test_types_of_titles_that_are_films(kind: str) -> None:
    assert record(BASICS | {"titleType": kind})


@pytest.mark.parametrize("kind", ["tvSeries", "tvEpisode", "videoGame", "tvMiniSeries", "mo"])
def test_types_of_titles_that_are_none(kind: str) -> None:
    assert read(BASICS | {"titleType": kind}) == Skipped(7, f"titleType {kind} is no film")


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("tconst", "0035423x"),
        ("tconst", "\\N"),
        ("titleType", "\\N"),
        ("primaryTitle", "\\N"),
        ("isAdult", "1981"),
        ("startYear", "20011"),
        ("runtimeMinutes", "Comedy"),
    ],
)
def test_wrong_cells_of_a_title(column: str, cell: str) -> None:
    assert rejection(BASICS | {column: cell}).column == column


def test_ratings_of_imdb() -> None:
    cells = {"tconst": "tt0000001", "averageRating": "5.7", "numVotes": "2150"}
    assert record(cells) == SourceRecord(
        Source.IMDB_RATINGS, "imdb-tt0000001", (), {"vote_average": 5.7, "vote_count": 2150}
    )
    assert read(cells | {"numVotes": "0"}) == Skipped(7, "no votes")
    assert rejection(cells | {"averageRating": "57"}).column == "averageRating"


# MovieLens


def test_a_film_of_movielens() -> None:
    cells = {
        "movieId": "29",
        "title": "City of Lost Children, The (Cité des enfants perdus, La) (1995)",
        "genres": "Adventure|Children|Sci-Fi",
    }
    assert record(cells) == SourceRecord(
        Source.MOVIELENS,
        "movielens-29",
        (),
        {
            "title": "The City of Lost Children",
            "original_title": "La Cité des enfants perdus",
            "release_date": "1995-01-01",
            "genres": ["Adventure", "Family", "Science Fiction"],
        },
    )
    bare = record(cells | {"title": "Moonlight", "genres": "(no genres listed)"})
    assert bare.fields == {"title": "Moonlight"}
    assert rejection(cells | {"movieId": "x"}).column == "movieId"
    assert rejection(cells | {"title": ""}).column == "title"
    assert rejection(cells | {"title": "X (1066)"}).column == "title"


def item(**cells: str) -> dict[str, str]:
    genres = (
        "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy "
        "Film-Noir Horror Musical Mystery Romance Sci-Fi Thriller War Western"
    )
    row = {
        "movieId": "1",
        "title": "Toy Story (1995)",
        "release_date": "01-Jan-1995",
        "video_release_date": "",
        "imdb_url": "http://us.imdb.com/M/title-exact?Toy%20Story%20(1995)",
    }
    return row | dict.fromkeys(genres.split(), "0") | cells


def test_the_ids_of_ml_100k_are_not_taken_for_those_of_movielens() -> None:
    made = record(item(Animation="1", Comedy="1") | {"Children's": "1"})
    assert made == SourceRecord(
        Source.MOVIELENS,
        "title-toy-story-1995",
        (),
        {
            "title": "Toy Story",
            "release_date": "1995-01-01",
            "genres": ["Animation", "Family", "Comedy"],
        },
    )


def test_items_of_ml_100k() -> None:
    dated = record(item(title="Star Kid (1997)", release_date="16-Jan-1998"))
    assert dated.key == "title-star-kid-1997"
    assert dated.fields["release_date"] == "1998-01-16"
    assert isinstance(read(item(title="unknown", release_date="", unknown="1")), Skipped)
    assert rejection(item(release_date="31-Feb-1995")).column == "release_date"
    assert rejection(item(War="2")).column == "War"
    assert rejection(item(movieId="")).column == "movieId"


def test_links() -> None:
    cells = {"movieId": "1", "imdbId": "0114709", "tmdbId": "862"}
    assert record(cells) == SourceRecord(
        Source.MOVIELENS_LINKS, "tmdb-862", ("imdb-tt0114709", "movielens-1"), {}
    )
    assert record(cells | {"tmdbId": ""}) == SourceRecord(
        Source.MOVIELENS_LINKS, "imdb-tt0114709", ("movielens-1",), {}
    )
    assert record(cells | {"tmdbId": "862.0"}).key == "tmdb-862"
    assert isinstance(read(cells | {"tmdbId": "", "imdbId": "nan"}), Skipped)
    assert rejection(cells | {"imdbId": "x"}).column == "imdbId"
    assert rejection(cells | {"movieId": ""}).column == "movieId"


# The generic table


def generic(**cells: str) -> dict[str, str]:
    return cells


def test_a_row_with_every_column_of_the_generic_table() -> None:
    made = record(
        generic(
            movie_id="862",
            imdb_id="114709",
            movielens_id="1",
            title="Toy Story",
            original_title="Toy Story",
            original_language="English",
            overview="o",
            tagline="t",
            status="Released",
            release_date="1995-10-30",
            year="1994",
            runtime="81",
            budget="30000000",
            revenue="373554033",
            genres="Animation|Comedy",
            keywords='["toy"]',
            cast="Tom Hanks|Tim Allen",
            crew='[{"name": "John Lasseter", "job": "Director"}]',
            spoken_languages="en|Français",
            production_countries="US|France",
            production_companies="Pixar",
            collection="Toy Story Collection",
            homepage="http://x.org",
            poster_path="/p.jpg",
            backdrop_path="/b.jpg",
            adult="yes",
            vote_average="7.7",
            vote_count="5415",
            popularity="21.9",
        )
    )
    person: dict[str, Any] = {"character": "", "tmdb_person_id": None}
    assert made == SourceRecord(
        Source.TABLE,
        "tmdb-862",
        ("imdb-tt0114709", "movielens-1"),
        {
            "title": "Toy Story",
            "original_title": "Toy Story",
            "original_language": "en",
            "overview": "o",
            "tagline": "t",
            "status": "Released",
            "release_date": "1995-10-30",
            "runtime": 81,
            "budget": 30_000_000,
            "revenue": 373_554_033,
            "genres": ["Animation", "Comedy"],
            "keywords": ["toy"],
            "cast": [
                {"name": "Tom Hanks", "order": 0, **person},
                {"name": "Tim Allen", "order": 1, **person},
            ],
            "crew": [
                {
                    "name": "John Lasseter",
                    "job": "Director",
                    "department": "",
                    "tmdb_person_id": None,
                }
            ],
            "spoken_languages": ["en", "fr"],
            "production_countries": ["US", "FR"],
            "production_companies": ["Pixar"],
            "collection": "Toy Story Collection",
            "homepage": "http://x.org",
            "poster_path": "/p.jpg",
            "backdrop_path": "/b.jpg",
            "adult": True,
            "vote_average": 7.7,
            "vote_count": 5415,
            "popularity": 21.9,
        },
    )


@pytest.mark.parametrize(
    ("cells", "key", "links"),
    [
        (generic(title="X", year="1995"), "title-x-1995", ()),
        (generic(title="X", release_date="1995-10-30"), "title-x-1995", ()),
        (generic(title="X", year=""), "title-x-0000", ()),
        (generic(title="X", movie_id="imdb-tt0114709"), "imdb-tt0114709", ()),
        (generic(title="X", movie_id="862.0"), "tmdb-862", ()),
        (generic(title="X", movie_id="title-y-1995"), "title-y-1995", ()),
        (generic(title="X", movie_id="title-y-1995", tmdb_id="5"), "tmdb-5", ()),
        (generic(title="X", movielens_id="1", tmdb_id="862"), "tmdb-862", ("movielens-1",)),
        (generic(tmdb_id="862", imdb_id="tt0114709"), "tmdb-862", ("imdb-tt0114709",)),
    ],
)
def test_keys_of_the_generic_table(cells: dict[str, str], key: str, links: tuple[str, ...]) -> None:
    made = record(cells)
    assert (made.key, made.links) == (key, links)


def test_the_generic_table_without_titles_adds_to_films() -> None:
    cells = generic(tmdb_id="862", tagline="To infinity")
    assert record(cells).fields == {"tagline": "To infinity"}
    assert isinstance(read(cells | {"tagline": ""}), Skipped)
    assert rejection(cells | {"tmdb_id": ""}).reason == (
        "expected a title or an id, the row has neither"
    )


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"movie_id": "tmdb-1", "tmdb_id": "2"}, "tmdb_id"),
        ({"movie_id": "tt0114709"}, "movie_id"),
        ({"title": ""}, "title"),
        ({"genres": "['never closed"}, "genres"),
        ({"genres": "[1]"}, "genres"),
        ({"cast": "[1]"}, "cast"),
        ({"year": "95"}, "year"),
        ({"adult": "x"}, "adult"),
        ({"popularity": "-1"}, "popularity"),
    ],
)
def test_wrong_rows_of_the_generic_table(change: dict[str, str], column: str) -> None:
    assert rejection(generic(title="X", year="1995") | change).column == column


def test_objects_of_the_generic_table() -> None:
    form = recognise((), json_sample={"title": "X", "year": 1995})
    body: dict[str, object] = {"title": "X", "year": 1995, "genres": ["A"], "cast": ["B"]}
    made = form.read(JsonRow(1, body))
    assert isinstance(made, SourceRecord)
    assert made.key == "title-x-1995"
    assert made.fields["genres"] == ["A"]
    rejected = form.read(JsonRow(1, {"overview": "x"}))
    assert isinstance(rejected, Rejection)
    rejected = form.read(JsonRow(1, body | {"movie_id": True}))
    assert isinstance(rejected, Rejection)
    assert rejected.column == "movie_id"


# Whatever is in a row

NASTY = (
    "",
    " ",
    "0",
    "-0.0",
    "-1",
    "1e999",
    "9" * 5_000,
    "nan",
    "inf",
    "1_0",
    "\u0663",
    "tt",
    "tt0",
    "862",
    "862.0",
    "tmdb-1",
    "title-a-1995",
    "1995",
    "1995-02-29",
    "01-Jan-1995",
    "True",
    "a|b",
    "[]",
    "{}",
    "[1]",
    "['a']",
    "[['a']]",
    "{(1,): 2}",
    "[{(1,): 2}]",
    "{1, 2}",
    "[{'name': 5}]",
    '[{"name": "\\ud800"}]',
    '[{"name": "a", "order": 1e999, "id": -1, "job": []}]',
    "[" * 2_000,
    "[{'name': 'b', 'job': 'Director', 'id': True, 'order': None}]",
    "{'name': ['x']}",
    "None",
    "x" * 30_000,
    "\ud83d",
    "\x00",
    "'=1",
    "'",
    "(1995)",
    "a, The (b, La) (1995)",
    "/p",
    "http://x",
    "movie",
    "日本語",
    "null",
    '"a"',
    "-" * 3_000,
    "{'keywords': 5}",
    "a\rb",
)
"""Cells that are not what anyone expects."""


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - {"movielens-ratings"}))
def test_no_row_breaks_the_reading_and_every_record_makes_a_film(name: str) -> None:
    info = FORMATS[name]
    columns = [*info.required, *info.optional]
    rnd = random.Random(name)
    sample = dict.fromkeys(columns, "x")
    tables = [recognise((), json_sample=sample, name=name)]
    if name != "tmdb-json":
        tables.append(recognise(columns, name=name))
    good = {
        "id": "862",
        "movie_id": "862",
        "tconst": "tt0000001",
        "movieid": "1",
        "title": "X",
        "primarytitle": "X",
        "titletype": "movie",
        "averagerating": "5",
        "numvotes": "10",
    }
    made_films = 0
    for _ in range(4_000):
        cells = [good.get(column, "") for column in columns]
        for index in rnd.sample(range(len(cells)), k=rnd.randint(1, 2)):
            cells[index] = rnd.choice(NASTY)
        body: dict[str, object] = {}
        for column, cell in zip(columns, cells, strict=True):
            try:
                body[column] = json.loads(cell)
            except (ValueError, RecursionError):
                body[column] = cell
        for form in tables:
            row = JsonRow(1, body) if form is tables[0] else Row(1, cells)
            made = form.read(row)
            if isinstance(made, Rejection):
                assert made.column is None or made.column in columns or made.column in body
                assert len(made.reason) < 1_000
                "".join((made.reason, *made.text)).encode()
            elif isinstance(made, SourceRecord):
                made_films += 1
                film = {"title": "X", **made.fields, "movie_id": made.key, "fetched_at": NOW}
                Movie.model_validate(film)
    assert made_films > 100
