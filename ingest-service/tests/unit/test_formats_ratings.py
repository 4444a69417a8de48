"""Rows of MovieLens' ratings, one by one and as whole files."""

import csv
import gzip
import json
import random
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from ingest_service.formats import RatingFormat, StarRating, recognise
from ingest_service.reading import BadRow, JsonRow, Row, open_table
from ingest_service.records import Rejection

CSV = ("userId", "movieId", "rating", "timestamp")
DAT = ("userId (ml-1m)", "movieId", "rating", "timestamp")
DATA = ("userId (ml-100k)", "itemId (ml-100k)", "rating", "timestamp")


def bound(columns: tuple[str, ...] = CSV) -> RatingFormat:
    form = recognise(columns)
    assert isinstance(form, RatingFormat)
    return form


def read(*cells: str, columns: tuple[str, ...] = CSV) -> Any:
    return bound(columns).read(Row(7, list(cells)))


@pytest.mark.parametrize(
    ("columns", "user", "items"),
    [
        (CSV, "movielens-1", False),
        (DAT, "movielens-1m-1", False),
        (DATA, "movielens-100k-1", True),
    ],
)
def test_each_set_has_users_of_its_own(columns: tuple[str, ...], user: str, items: bool) -> None:
    assert read("1", "31", "4", "978300760", columns=columns) == StarRating(
        user, 31, 8, 978_300_760
    )
    assert bound(columns).items is items


@pytest.mark.parametrize(
    ("stars", "score"),
    [("0.5", 1), ("1", 2), ("1.0", 2), ("2.5", 5), (" 4.5 ", 9), ("5", 10), ("5.000", 10)],
)
def test_a_score_is_twice_the_stars(stars: str, score: int) -> None:
    assert read("1", "31", stars, "978300760").score == score


def test_numbers_may_be_written_as_floats() -> None:
    assert read("1.0", "31.0", "4", "9.78300760e8") == StarRating("movielens-1", 31, 8, 978_300_760)


_STARS = "expected 0.5 to 5 stars in halves, got "
_USER = "expected a user's number such as 1, got "
_FILM = "expected a MovieLens id such as 1, got "
_TIME = "expected seconds since 1970 such as 964982703, got "


@pytest.mark.parametrize(
    ("cells", "column", "reason"),
    [
        (("1", "31", "0", "9"), "rating", _STARS + "'0'"),
        (("1", "31", "0.4", "9"), "rating", _STARS + "'0.4'"),
        (("1", "31", "5.5", "9"), "rating", _STARS + "'5.5'"),
        (("1", "31", "3.7", "9"), "rating", _STARS + "'3.7'"),
        (("1", "31", "-3", "9"), "rating", _STARS + "'-3'"),
        (("1", "31", "nan", "9"), "rating", _STARS + "'nan'"),
        (("1", "31", "inf", "9"), "rating", _STARS + "'inf'"),
        (("1", "31", "good", "9"), "rating", _STARS + "'good'"),
        (("1", "31", "", "9"), "rating", _STARS.removesuffix(" got ") + " the cell is empty"),
        (("0", "31", "4", "9"), "userId", _USER + "'0'"),
        (("-1", "31", "4", "9"), "userId", _USER + "'-1'"),
        (("1.5", "31", "4", "9"), "userId", _USER + "'1.5'"),
        (("ada", "31", "4", "9"), "userId", _USER + "'ada'"),
        (("2147483648", "31", "4", "9"), "userId", _USER + "'2147483648'"),
        (("1", "tmdb-31", "4", "9"), "movieId", _FILM + "'tmdb-31'"),
        (("1", "0", "4", "9"), "movieId", _FILM + "'0'"),
        (("1", "99999999999", "4", "9"), "movieId", _FILM + "'99999999999'"),
        (("1", "31", "4", ""), "timestamp", _TIME.removesuffix(" got ") + " the cell is empty"),
        (("1", "31", "4", "0"), "timestamp", _TIME + "'0'"),
        (("1", "31", "4", "-5"), "timestamp", _TIME + "'-5'"),
        (("1", "31", "4", "964982703000"), "timestamp", _TIME + "'964982703000'"),
        (("1", "31", "4", "2001-01-01"), "timestamp", _TIME + "'2001-01-01'"),
        (("1", "31", "4", "1e400"), "timestamp", _TIME + "'1e400'"),
        (("1", "31", "4", "1_000"), "timestamp", _TIME + "'1_000'"),
        (("1", "31", "4"), None, "expected 4 cells as in the header, got 3"),
    ],
)
def test_a_wrong_row_says_what_was_expected_where(
    cells: tuple[str, ...], column: str | None, reason: str
) -> None:
    assert read(*cells) == Rejection(7, column, reason, cells)


def test_the_complaint_names_the_column_of_the_set() -> None:
    refused = read("1", "x", "4", "978300760", columns=DATA)
    assert (refused.column, refused.text) == ("itemId (ml-100k)", ("1", "x", "4", "978300760"))


@pytest.mark.parametrize(
    "text",
    ["1e400", "NaN", "{}", "[]", '"\\u0000"', "true", "null", '"x"', "-1", "1.25", '"\\uff11"'],
)
def test_no_value_breaks_the_reading(text: str) -> None:
    names = list(CSV)
    value: object = json.loads(text)
    form = recognise((), json_sample=dict.fromkeys(CSV, "1"))
    for name in names:
        body: dict[str, object] = dict(zip(names, (1, 31, 4.5, 978_300_760), strict=True))
        assert form.read(JsonRow(1, body)) == StarRating("movielens-1", 31, 9, 978_300_760)
        made = form.read(JsonRow(1, body | {name: value}))
        assert isinstance(made, Rejection)
        assert made.column == name
        cells = [str(body[other]) if other != name else str(value) for other in names]
        assert isinstance(bound().read(Row(1, cells)), Rejection)


def whole(path: Path) -> tuple[RatingFormat, list[StarRating], Counter[str]]:
    ratings: list[StarRating] = []
    wrong: Counter[str] = Counter()
    with path.open("rb") as stream:
        table = open_table(stream)
        form = recognise(table.header)
        assert isinstance(form, RatingFormat)
        for row in table:
            made = row if isinstance(row, BadRow) else form.read(row)
            if isinstance(made, StarRating):
                ratings.append(made)
            else:
                wrong[made.reason] += 1
    return form, ratings, wrong


@pytest.mark.parametrize(
    ("name", "delimiter", "users", "rows", "distinct"),
    [
        ("movielens/ml-latest-small/ratings.csv.gz", ",", "movielens-", 100_836, 610),
        (
            "the_movies_dataset/ratings_small_first80pct_per_user.csv.gz",
            ",",
            "movielens-",
            80_251,
            671,
        ),
        ("movielens/ml-100k/u.data.gz", "\t", "movielens-100k-", 100_000, 943),
        ("movielens/ml-1m/ratings_first487650.dat.gz", "::", "movielens-1m-", 487_650, 2_999),
    ],
)
def test_whole_files(
    shared_data: Path, name: str, delimiter: str, users: str, rows: int, distinct: int
) -> None:
    form, ratings, wrong = whole(shared_data / name)
    assert (form.name, len(ratings), wrong) == ("movielens-ratings", rows, Counter())
    assert len({rating.user_id for rating in ratings}) == distinct
    with gzip.open(shared_data / name, "rt", newline="") as file:
        lines = [line.split(delimiter) for line in file.read().splitlines()]
    if delimiter == ",":
        assert tuple(lines.pop(0)) == CSV
    for index in random.Random(name).sample(range(rows), 2_000):
        user, film, stars, at = lines[index]
        assert ratings[index] == (f"{users}{user}", int(film), 2 * float(stars), int(at))


def test_ratings_without_a_time_are_rejected(shared_data: Path) -> None:
    form = bound((*CSV, "user_seq"))
    with gzip.open(
        shared_data / "movielens/ml-1m/ratings_all_rebuilt.csv.gz", "rt", newline=""
    ) as file:
        # Where the first ones without a time are.
        rows = list(islice(csv.reader(file), 487_000, 490_000))
    made = [form.read(Row(line, row)) for line, row in enumerate(rows)]
    refused = [one for one in made if isinstance(one, Rejection)]
    assert {one.column for one in refused} == {"timestamp"}
    assert [list(one.text) for one in refused] == [row for row in rows if not row[3]]
    assert 0 < len(refused) < 3_000
