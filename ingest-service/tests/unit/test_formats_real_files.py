"""Real files of every format: what is counted here is what their README counts in them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from ingest_service.formats import FilmFormat, RatingFormat, UnknownFormatError, recognise
from ingest_service.reading import BadRow, JsonRow, Row, open_table
from ingest_service.records import Rejection, Skipped, Source, SourceRecord
from moviemetric_contracts import Movie, parse_movie_id

NOW = datetime(2026, 1, 2, tzinfo=UTC)
# Languages that have an empty name at TMDB.
NAMELESS = set("as bo cr gd gn iu km kw lo mi mk mn ne nv sh si tl ty xh yi".split())  # noqa: SIM905
SENTINEL = "a sentinel without a film: imdb_id 0 and nothing else"


NONE: Mapping[Any, int] = MappingProxyType({})


class Told(NamedTuple):
    """What a file told: how many records and distinct keys, and what else."""

    format: str
    records: int
    keys: int
    unreadable: Mapping[str, int] = NONE
    rejected: Mapping[tuple[str | None, str], int] = NONE
    skipped: Mapping[str, int] = NONE


class Reading(NamedTuple):
    told: Told
    records: list[SourceRecord]

    def without(self, field: str) -> int:
        return sum(field not in record.fields for record in self.records)


def opened(path: Path) -> Iterator[tuple[FilmFormat | RatingFormat, Row | JsonRow | BadRow]]:
    with path.open("rb") as stream:
        table = open_table(stream)
        rows = iter(table)
        first = next(rows)
        sample = first.body if isinstance(first, JsonRow) else None
        form = recognise(table.header, json_sample=sample)
        yield form, first
        for row in rows:
            yield form, row


def reading(path: Path) -> Reading:
    """Reads a file; every record is looked at as the film that it would make alone."""
    records: list[SourceRecord] = []
    unreadable: Counter[str] = Counter()
    rejected: Counter[tuple[str | None, str]] = Counter()
    skipped: Counter[str] = Counter()
    name = ""
    for form, row in opened(path):
        name = form.name
        if isinstance(row, BadRow):
            unreadable[row.reason] += 1
            continue
        made = form.read(row)
        if isinstance(made, SourceRecord):
            records.append(made)
            judge(made)
        elif isinstance(made, Rejection):
            rejected[made.column, made.reason] += 1
        else:
            assert isinstance(made, Skipped)
            skipped[made.reason] += 1
    keys = len({record.key for record in records})
    told = Told(name, len(records), keys, dict(unreadable), dict(rejected), dict(skipped))
    return Reading(told, records)


def judge(record: SourceRecord) -> None:
    assert parse_movie_id(record.key) == record.key
    assert record.key not in record.links
    for link in record.links:
        assert not parse_movie_id(link).startswith("title-")
    fields = record.fields
    assert all(value not in (None, "", [], 0, False) for value in fields.values()), record
    assert ("vote_average" in fields) == ("vote_count" in fields)
    own = {"movie_id", "tmdb_id", "imdb_id", "aliases", "fetched_at"}
    assert own.isdisjoint(fields)
    if "title" in fields:
        movie = Movie.model_validate({**fields, "movie_id": record.key, "fetched_at": NOW})
        again = movie.model_dump(mode="json")
        assert {name: again[name] for name in fields} == fields


BULK_JSON = {
    2000: 1207,
    2001: 1290,
    2002: 1234,
    2003: 1280,
    2004: 1427,
    2005: 1614,
    2006: 1811,
    2007: 1852,
    2008: 2091,
    2009: 2379,
    2010: 2604,
    2011: 2914,
    2012: 3213,
    2019: 2579,
}
BULK_CSV = {
    2013: 3454,
    2015: 3716,
    2016: 3957,
    2017: 4324,
    2018: 4545,
    2020: 3826,
    2021: 3706,
}
TOLD = {
    "dailyrounds/movies_sample_10rows.csv": Told("imdb-upload", 10, 10),
    # One row occurs twice.
    "dailyrounds/movies_data_assignment_shape_first5000.csv.gz": Told("imdb-upload", 5000, 4999),
    "tmdb5000/tmdb_5000_movies.csv.gz": Told("tmdb-5000", 4803, 4803),
    "tmdb5000/tmdb_5000_credits_first198.csv.gz": Told(
        "tmdb-5000-credits",
        197,
        197,
        rejected={("movie_id", "expected a TMDB id such as 862, the cell is empty"): 1},
    ),
    # The film 105045 occurs twice.
    "the_movies_dataset/movies_metadata_first5000.csv.gz": Told("movies-dataset", 5000, 4999),
    "the_movies_dataset/movies_metadata_sample2995.csv.gz": Told("movies-dataset", 2995, 2995),
    # 30 rows name a TMDB id that another row names too.
    "the_movies_dataset/links.csv.gz": Told("movielens-links", 45843, 45813),
    "imdb/title.basics.head.tsv.gz": Told(
        "imdb-basics", 29885, 29885, unreadable={"has 2 cells, the header has 9": 1}
    ),
    "imdb/title.ratings.head.tsv.gz": Told(
        "imdb-ratings", 132011, 132011, unreadable={"has 1 cell, the header has 3": 1}
    ),
    "imdb/movies_2000_2022_basics.csv.gz": Told("imdb-basics", 82697, 82697),
    "imdb/movies_2000_2022_ratings.csv.gz": Told("imdb-ratings", 67942, 67942),
    "movielens/ml-latest-small/movies.csv": Told("movielens-movies", 9742, 9742),
    "movielens/ml-latest-small/links.csv": Told("movielens-links", 9742, 9741),
    "movielens/ml-1m/movies.dat": Told("movielens-movies", 3883, 3883),
    # 18 titles occur twice; item 267 is "unknown".
    "movielens/ml-100k/u.item": Told(
        "movielens-movies",
        1681,
        1663,
        skipped={"a film that nobody knows: no title, no date": 1},
    ),
    **{
        f"tmdb_bulk/json/tmdb_api_results_{year}.json.gz": Told(
            "tmdb-json", count, count, skipped={SENTINEL: 1}
        )
        for year, count in BULK_JSON.items()
    },
    **{
        f"tmdb_bulk/csv/final_tmdb_data_{year}.csv.gz": Told(
            "tmdb-csv", count, count, skipped={SENTINEL: 1}
        )
        for year, count in BULK_CSV.items()
    },
}


@pytest.mark.parametrize("name", TOLD)
def test_every_row_of_a_file_is_accounted_for(shared_data: Path, name: str) -> None:
    assert reading(shared_data / name).told == TOLD[name]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("imdb/movies_2000_2022_akas.csv.gz", "title.akas"),
        ("movielens/ml-latest-small/tags.csv", "tags"),
        ("movielens/ml-1m/ratings_all_rebuilt.csv.gz", "call the columns userId"),
        ("movielens/ml-100k/u.genre", "No format has columns like these"),
    ],
)
def test_files_without_films_are_refused(shared_data: Path, name: str, words: str) -> None:
    with pytest.raises(UnknownFormatError, match=words):
        next(opened(shared_data / name))


def test_what_is_unknown_in_tmdb_5000(shared_data: Path) -> None:
    read = reading(shared_data / "tmdb5000" / "tmdb_5000_movies.csv.gz")
    assert read.without("overview") == 3 + 1  # one is a blank
    assert read.without("release_date") == 1
    assert read.without("genres") == 28
    assert read.without("runtime") == 37
    assert read.without("budget") == 1_037
    assert read.without("revenue") == 1_427
    assert read.without("vote_count") == 62 + 1  # one has votes and the average 0
    assert sum("\r" in record.fields.get("overview", "") for record in read.records) == 3


def test_what_is_unknown_in_the_movies_dataset(shared_data: Path) -> None:
    folder = shared_data / "the_movies_dataset"
    first = reading(folder / "movies_metadata_first5000.csv.gz")
    assert first.without("overview") == 21 + 2  # two are blanks
    assert first.without("release_date") == 3
    assert first.without("genres") == 105
    sample = reading(folder / "movies_metadata_sample2995.csv.gz")
    assert sample.without("overview") == 90
    assert sample.without("release_date") == 11
    assert sample.without("genres") == 197
    assert sum(not record.links for record in sample.records) == 2
    ids = [{record.key for record in read.records} for read in (first, sample)]
    assert len(ids[0] & ids[1]) == 598
    assert len(ids[0] | ids[1]) == 7_396


def test_what_is_unknown_in_the_bodies(shared_data: Path) -> None:
    known: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    keys: set[str] = set()
    for path in sorted((shared_data / "tmdb_bulk" / "json").iterdir()):
        for form, row in opened(path):
            assert isinstance(row, JsonRow)
            made = form.read(row)
            if isinstance(made, SourceRecord):
                assert len(made.links) == 1
                keys.add(made.key)
                known.update(list(made.fields))
                languages[made.fields["original_language"]] += 1
    assert len(keys) == 27_495
    unknown = {name: 27_495 - count for name, count in known.items()}
    assert unknown["overview"] == 679 + 3  # three are blanks
    assert unknown["runtime"] == 1_868
    assert unknown["genres"] == 3_082
    assert unknown["vote_count"] == unknown["vote_average"] == 4_942 + 17  # 17 have the average 0
    assert unknown["release_date"] == 405
    assert known["adult"] == 57
    assert len(languages) == 97
    assert languages["en"] == 17_120


def test_links_without_tmdb_ids(shared_data: Path) -> None:
    for name, without in (
        ("the_movies_dataset/links.csv.gz", 219),
        ("movielens/ml-latest-small/links.csv", 8),
    ):
        records = reading(shared_data / name).records
        assert sum(not record.key.startswith("tmdb-") for record in records) == without
        assert all(record.links[-1].startswith("movielens-") for record in records)


def test_what_is_unknown_in_movielens(shared_data: Path) -> None:
    read = reading(shared_data / "movielens" / "ml-latest-small" / "movies.csv")
    assert read.without("genres") == 34
    assert read.without("release_date") == 13 - 1  # one has two years, "(2006–2007)"  # noqa: RUF003
    titles = Counter(record.fields["title"] for record in read.records)
    assert titles["The American President"] == 1


def test_the_upload_format_tells_what_the_movies_dataset_tells(shared_data: Path) -> None:
    """The upload file was made from the other one: names of languages there, codes here."""
    upload = reading(
        shared_data / "dailyrounds" / "movies_data_assignment_shape_first5000.csv.gz"
    ).records
    source = reading(
        shared_data / "the_movies_dataset" / "movies_metadata_first5000.csv.gz"
    ).records
    nameless: Counter[str] = Counter()
    for uploaded, full in zip(upload, source, strict=True):
        assert uploaded.source is Source.TABLE
        fields = dict(uploaded.fields)
        assert fields.pop("genres", []) == full.fields.get("genres", [])[:1]
        codes, names = full.fields.get("spoken_languages", []), fields.pop("spoken_languages", [])
        assert [code for code in codes if code in names] == names
        nameless.update(code for code in codes if code not in names)
        assert fields == {name: full.fields[name] for name in fields}
    assert set(nameless) <= NAMELESS


def test_skipped_rows_keep_their_line(shared_data: Path) -> None:
    path = shared_data / "tmdb_bulk" / "csv" / "final_tmdb_data_2013.csv.gz"
    form, row = next(opened(path))
    assert isinstance(row, Row)
    assert form.read(row) == Skipped(2, SENTINEL)
