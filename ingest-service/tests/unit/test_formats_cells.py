import json
from typing import cast

import pytest
from ingest_service.formats import cells, escaped_cell
from ingest_service.formats.cells import CellError, Kind
from ingest_service.formats.countries import country_code
from ingest_service.formats.languages import language_code
from ingest_service.formats.literals import MAX_LENGTH, parse_literal

UNKNOWN = ("", "  ", "\\N", "nan", "NaN", "None", "null", "N/A")


def refusal(kind: Kind, cell: str) -> str:
    with pytest.raises(CellError) as caught:
        kind.text(cell)
    return str(caught.value)


@pytest.mark.parametrize(
    ("cell", "given_out"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-196", "'-196"),
        ("@urFRENZ", "'@urFRENZ"),
        ("\tx", "'\tx"),
        ("\rx", "'\rx"),
        ("", ""),
        ("Toy Story", "Toy Story"),
        ("'Round Midnight", "'Round Midnight"),
        ("a=b", "a=b"),
    ],
)
def test_a_cell_that_is_given_out_is_no_formula_and_comes_back_as_it_was(
    cell: str, given_out: str
) -> None:
    assert escaped_cell(cell) == given_out
    assert cells.plain(given_out) == cell.strip()
    assert escaped_cell(given_out) == given_out


def test_only_the_escape_is_taken_off() -> None:
    assert cells.TITLE.text("'=Untitled=") == "=Untitled="
    assert cells.TITLE.text("'Round Midnight") == "'Round Midnight"
    assert cells.TITLE.text("''=") == "''="
    assert cells.TITLE.text("'") == "'"


def test_a_number_that_was_escaped_is_still_the_number() -> None:
    assert "-5" in refusal(cells.MONEY, "'-5")
    assert cells.MONEY.text("'+5") == 5


@pytest.mark.parametrize("cell", UNKNOWN)
@pytest.mark.parametrize(
    "kind",
    [
        cells.text_kind(20),
        cells.LANGUAGE,
        cells.STATUS,
        cells.HOMEPAGE,
        cells.IMAGE_PATH,
        cells.RUNTIME,
        cells.MONEY,
        cells.VOTE_AVERAGE,
        cells.VOTE_COUNT,
        cells.POPULARITY,
        cells.YEAR,
        cells.TMDB_ID,
        cells.IMDB_ID,
        cells.MOVIELENS_ID,
        cells.FLAG,
        cells.DATE,
        cells.ENGLISH_DATE,
        cells.names_kind(),
        cells.languages_kind(),
        cells.countries_kind(),
        cells.COLLECTION,
        cells.cast_kind(),
        cells.crew_kind(),
    ],
)
def test_what_means_unknown_is_absent(kind: Kind, cell: str) -> None:
    assert kind.text(cell) is None


@pytest.mark.parametrize(
    ("kind", "cell", "value"),
    [
        (cells.RUNTIME, "81", 81),
        (cells.RUNTIME, "81.0", 81),
        (cells.RUNTIME, " 81 ", 81),
        (cells.RUNTIME, "0", None),
        (cells.RUNTIME, "0.0", None),
        (cells.RUNTIME, "-0", None),
        (cells.RUNTIME, "100000", 100_000),
        (cells.MONEY, "30000000.0", 30_000_000),
        (cells.MONEY, "3e7", 30_000_000),
        (cells.MONEY, "0", None),
        (cells.MONEY, "2923706026", 2_923_706_026),
        (cells.VOTE_COUNT, "5415.0", 5415),
        (cells.VOTE_AVERAGE, "7.7", 7.7),
        (cells.VOTE_AVERAGE, "10", 10.0),
        (cells.VOTE_AVERAGE, "0.0", None),
        (cells.POPULARITY, "21.946943", 21.946943),
        (cells.POPULARITY, "1.5e-05", 1.5e-05),
        (cells.TMDB_ID, "862", 862),
        (cells.TMDB_ID, "862.0", 862),
        (cells.TMDB_ID, "2147483647", 2_147_483_647),
        (cells.IMDB_ID, "tt0114709", "tt0114709"),
        (cells.IMDB_ID, "0114709", "tt0114709"),
        (cells.IMDB_ID, "114709", "tt0114709"),
        (cells.IMDB_ID, "114709.0", "tt0114709"),
        (cells.IMDB_ID, "TT114709", "tt0114709"),
        (cells.IMDB_ID, "tt10872600", "tt10872600"),
        (cells.YEAR, "2001.0", "2001-01-01"),
        (cells.YEAR, "1894", "1894-01-01"),
        (cells.DATE, "1995-10-30", "1995-10-30"),
        (cells.DATE, "2000-02-29", "2000-02-29"),
        (cells.ENGLISH_DATE, "01-Jan-1995", "1995-01-01"),
        (cells.ENGLISH_DATE, "4-Feb-1971", "1971-02-04"),
        (cells.FLAG, "True", True),
        (cells.FLAG, "1.0", True),
        (cells.FLAG, "False", None),
        (cells.FLAG, "0.0", None),
        (cells.LANGUAGE, "en", "en"),
        (cells.LANGUAGE, "EN", "en"),
        (cells.LANGUAGE, "cn", "cn"),
        (cells.LANGUAGE, "English", "en"),
        (cells.LANGUAGE, "pt-BR", "pt-BR"),
        (cells.HOMEPAGE, "HTTP://WWW.WHIPLASHFILM.COM", "HTTP://WWW.WHIPLASHFILM.COM"),
        (cells.HOMEPAGE, "javascript:alert(1)", None),
        (cells.HOMEPAGE, "http://" + "x" * 2_000, None),
        (cells.IMAGE_PATH, "/a.jpg", "/a.jpg"),
        (cells.IMAGE_PATH, "a.jpg", None),
        (cells.names_kind(), '[{"id": 1, "name": "Action"}, {"name": "Action"}]', ["Action"]),
        (cells.names_kind(), "[{'id': 1, 'name': \"Ocean's\"}]", ["Ocean's"]),
        (cells.names_kind(), "['Action', ' Drama ']", ["Action", "Drama"]),
        (cells.names_kind(), "('Action',)", ["Action"]),
        (cells.names_kind(), "[{'name': None}, {'name': ''}, {}]", None),
        (cells.names_kind(), "[]", None),
        (cells.names_kind(separator="|"), "Comedy| Drama||Comedy", ["Comedy", "Drama"]),
        (cells.names_kind(separator="|"), '["A|B"]', ["A|B"]),
        (cells.languages_kind(), "['English', 'Français', 'Klingon']", ["en", "fr"]),
        (cells.languages_kind(), "['日本語', '广州话 / 廣州話', 'Pусский']", ["ja", "cn", "ru"]),  # noqa: RUF001
        (cells.languages_kind(), "[{'iso_639_1': 'en', 'name': 'English'}]", ["en"]),
        (cells.languages_kind(), "[{'iso_639_1': 'gd', 'name': ''}]", ["gd"]),
        (cells.countries_kind(), "[{'iso_3166_1': 'US', 'name': 'x'}]", ["US"]),
        (cells.countries_kind(), "['United States of America', 'fr', 'Atlantis']", ["US", "FR"]),
        (cells.COLLECTION, "{'id': 10194, 'name': 'Toy Story Collection'}", "Toy Story Collection"),
        (cells.COLLECTION, '{"name": null}', None),
    ],
)
def test_cells(kind: Kind, cell: str, value: object) -> None:
    assert kind.text(cell) == value


@pytest.mark.parametrize(
    ("kind", "cell", "words"),
    [
        (cells.RUNTIME, "-3", "a whole number of minutes from 0 to 100,000, got '-3'"),
        (cells.RUNTIME, "1000000000", "minutes"),
        (cells.RUNTIME, "81.5", "whole number"),
        (cells.RUNTIME, "1_000", "whole number"),
        (cells.RUNTIME, "٨١", "whole number"),
        (cells.RUNTIME, "inf", "whole number"),
        (cells.RUNTIME, "0" * 1_000 + "81", "whole number"),
        (cells.MONEY, "-1", "US dollars from 0 to 1,000,000,000,000, got '-1'"),
        (cells.MONEY, "1,000", "US dollars"),
        (cells.MONEY, "$5", "US dollars"),
        (cells.MONEY, "1e400", "US dollars"),
        (cells.MONEY, "/a.jpg", "got '/a.jpg'"),
        (cells.VOTE_AVERAGE, "11", "an average from 0 to 10, got '11'"),
        (cells.VOTE_AVERAGE, "-0.1", "an average"),
        (cells.VOTE_COUNT, "many", "votes"),
        (cells.POPULARITY, "1e7", "a popularity"),
        (cells.TMDB_ID, "1997-08-20", "a TMDB id such as 862, got '1997-08-20'"),
        (cells.TMDB_ID, "0", "a TMDB id"),
        (cells.TMDB_ID, "862.5", "a TMDB id"),
        (cells.TMDB_ID, "2147483648", "a TMDB id"),
        (cells.IMDB_ID, "0", "an IMDb id such as tt0114709, got '0'"),
        (cells.IMDB_ID, "nm0000001", "an IMDb id"),
        (cells.IMDB_ID, "tt12345678901", "an IMDb id"),
        (cells.YEAR, "1492", "a year from 1870 to 2200, got '1492'"),
        (cells.YEAR, "2001.5", "a year"),
        (cells.DATE, "2001-02-30", "a day that exists, as YYYY-MM-DD"),
        (cells.DATE, "10/30/1995", "YYYY-MM-DD"),
        (cells.DATE, "19951030", "YYYY-MM-DD"),
        (cells.DATE, "1995-W44-1", "YYYY-MM-DD"),
        (cells.DATE, "1995", "YYYY-MM-DD"),
        (cells.DATE, "9999-12-31", "1870 to 2200"),
        (cells.ENGLISH_DATE, "31-Feb-1995", "01-Jan-1995"),
        (cells.ENGLISH_DATE, "1995-01-01", "01-Jan-1995"),
        (cells.FLAG, "perhaps", "True or False, got 'perhaps'"),
        (cells.LANGUAGE, "104.0", "a language's code"),
        (cells.TITLE, " ", "a title, the cell is empty"),
        (cells.TITLE, "nan", "a title, got 'nan'"),
        (cells.names_kind(), "English", "a list of names"),
        (cells.names_kind(), "[1, 2]", "a list of names"),
        (cells.names_kind(), "{'name': 'Action'}", "a list of names"),
        (cells.names_kind(), "['Action'", "a list of names"),
        (cells.languages_kind(), "English", "a list of languages such as ['English', 'Français']"),
        (cells.COLLECTION, "0.065736", "an object with a name"),
        (cells.cast_kind(), "5", "a list of objects"),
    ],
)
def test_cells_that_cannot_be_right(kind: Kind, cell: str, words: str) -> None:
    assert words in refusal(kind, cell)


def test_a_refusal_shows_the_beginning_of_a_long_cell() -> None:
    reason = refusal(cells.TMDB_ID, "x" * 1_000)
    assert reason == f"expected a TMDB id such as 862, got '{'x' * 80}'…"


def test_texts_are_cut_and_cleaned() -> None:
    assert cells.text_kind(5).text("  abc defg ") == "abc d"
    assert cells.text_kind(4).text("abc defg") == "abc"
    assert cells.text_kind(50).text("a\x00b\ud83dc\U0001f600") == "abc\U0001f600"
    assert cells.text_kind(50).text("\ud83d\x00") is None


def test_names_are_cut_to_the_contract() -> None:
    assert cells.names_kind().text(json.dumps(["x" * 500])) == ["x" * 200]


def test_a_list_can_be_changed_without_changing_the_next_one() -> None:
    kind = cells.names_kind()
    first = kind.text("['Drama']")
    assert first == ["Drama"]
    cast("list[str]", first).append("Comedy")
    assert kind.text("['Drama']") == ["Drama"]


def test_the_cast_is_in_billing_order_and_bounded() -> None:
    people = [{"name": f"P{n}", "order": 40 - n, "id": n, "character": "C"} for n in range(1, 41)]
    members = cells.cast_kind().text(str(people))
    assert len(cast("list[object]", members)) == 30
    assert cast("list[object]", members)[0] == {
        "name": "P40",
        "character": "C",
        "order": 0,
        "tmdb_person_id": 40,
    }


def test_directors_come_first_and_unknown_jobs_are_left_out() -> None:
    crew = [
        {"name": "A", "job": "Editor", "department": "Editing", "id": 1},
        {"name": "B", "job": "Director", "department": "Directing", "id": 2},
        {"name": "C", "job": "Catering", "department": "Crew", "id": 3},
        {"name": "B", "job": "Director", "department": "Directing", "id": 2},
    ]
    assert cells.crew_kind().text(json.dumps(crew)) == [
        {"name": "B", "job": "Director", "department": "Directing", "tmdb_person_id": 2},
        {"name": "A", "job": "Editor", "department": "Editing", "tmdb_person_id": 1},
    ]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (cells.RUNTIME, 81, 81),
        (cells.RUNTIME, 81.0, 81),
        (cells.RUNTIME, 0, None),
        (cells.RUNTIME, float("nan"), None),
        (cells.VOTE_AVERAGE, 6.5, 6.5),
        (cells.TITLE, 1776, "1776"),
        (cells.FLAG, True, True),
        (cells.FLAG, False, None),
        (cells.IMDB_ID, 114709, "tt0114709"),
        (cells.names_kind(), [{"name": "Action"}, "Drama"], ["Action", "Drama"]),
        (cells.names_kind(), {"keywords": [{"name": "toy"}]}, ["toy"]),
        (cells.COLLECTION, {"name": "X"}, "X"),
    ],
)
def test_values_of_json(kind: Kind, value: object, expected: object) -> None:
    assert kind.native(value) == expected


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (cells.RUNTIME, -3),
        (cells.RUNTIME, True),
        (cells.RUNTIME, [81]),
        (cells.MONEY, float("inf")),
        (cells.MONEY, 10**400),
        (cells.TITLE, ["x"]),
        (cells.TITLE, True),
        (cells.DATE, 1995),
        (cells.FLAG, 2),
        (cells.IMDB_ID, True),
        (cells.names_kind(), 5),
        (cells.names_kind(), [["x"]]),
        (cells.names_kind(), {"other": []}),
        (cells.COLLECTION, ["x"]),
        (cells.cast_kind(), [1]),
    ],
)
def test_values_of_json_that_cannot_be_right(kind: Kind, value: object) -> None:
    with pytest.raises(CellError, match=r"^expected "):
        kind.native(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('[{"a": null}]', [{"a": None}]),
        ("[{'a': None, 'b': True, 'c': -1.5e3}]", [{"a": None, "b": True, "c": -1500.0}]),
        (r"['it\'s', 'a\\b', 'é']", ["it's", "a\\b", "é"]),
        ("['[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[']", ["[" * 30]),
    ],
)
def test_literals(text: str, value: object) -> None:
    assert parse_literal(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "English",
        "[English]",
        "__import__('os').system('true')",
        "[print(1)]",
        "['a' for a in (1,)]",
        "'a' * 1000000000",
        "9**9**9",
        "f'{1}'",
        "b'x'",
        "[" * 100_000,
        "[" * 21 + "]" * 21 + "'",
        "[(" * 15 + ")]" * 15 + ",",
        "{'a':" * 30 + "1" + "}" * 30,
        "[" + "-" * 100_000 + "1]",
        "1" + "+1" * 100_000,
        "['never closed]",
        '["\\ud800',
        "{[]: 1}",
        "[" + " " * MAX_LENGTH + "]",
    ],
)
def test_what_is_no_literal_is_refused_without_evaluating_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|deep|longer"):
        parse_literal(text)


def test_names_of_languages_and_countries() -> None:
    assert language_code("français") == "fr"
    assert language_code("No Language") == "xx"
    assert language_code("yi") == "yi"
    assert language_code("Yi") == "ii"  # Yiddish has this code, and another language this name
    assert language_code("Lao") == "lo"
    assert language_code("?????") is None
    assert country_code("us") == "US"
    assert country_code("South Korea") == "KR"
    assert country_code("Atlantis") is None
