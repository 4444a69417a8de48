"""The public data sets, whole: every row of them, as their README counts them."""

import csv
import gzip
import io
from pathlib import Path

import pytest
from ingest_service.reading import BadRow, JsonRow, Row, Table, open_table

COUNTS = {
    "tmdb5000/tmdb_5000_movies.csv.gz": 4_803,
    "tmdb5000/tmdb_5000_credits_first198.csv.gz": 198,
    "the_movies_dataset/movies_metadata_first5000.csv.gz": 5_000,
    "the_movies_dataset/movies_metadata_sample2995.csv.gz": 2_995,
    "the_movies_dataset/links.csv.gz": 45_843,
    "the_movies_dataset/ratings_small_first80pct_per_user.csv.gz": 80_251,
    "movielens/ml-latest-small/movies.csv": 9_742,
    "movielens/ml-latest-small/links.csv": 9_742,
    "movielens/ml-latest-small/tags.csv": 3_683,
    "movielens/ml-latest-small/ratings.csv.gz": 100_836,
    "movielens/ml-100k/u.data.gz": 100_000,
    "movielens/ml-100k/u.item": 1_682,
    "movielens/ml-1m/movies.dat": 3_883,
    "movielens/ml-1m/ratings_first487650.dat.gz": 487_650,
    "imdb/title.basics.head.tsv.gz": 29_885,
    "imdb/title.ratings.head.tsv.gz": 132_011,
    "imdb/movies_2000_2022_basics.csv.gz": 82_697,
    "imdb/movies_2000_2022_ratings.csv.gz": 67_942,
    "imdb/movies_2000_2022_akas.csv.gz": 92_230,
    "dailyrounds/movies_sample_10rows.csv": 10,
    "dailyrounds/movies_data_assignment_shape_first5000.csv.gz": 5_000,
    "search/meilisearch_test_movies_1688.json.gz": 1_688,
    "search/elastic_workshop_movies_2277.json.gz": 2_277,
}
# Both were cut in the middle of a line by their source.
FRAGMENTS = {
    "imdb/title.basics.head.tsv.gz": (29_887, "has 2 cells, the header has 9", ("tt0030427", "mo")),
    "imdb/title.ratings.head.tsv.gz": (132_013, "has 1 cell, the header has 3", ("tt019323",)),
}
BULK_CSV = {2013: 3454, 2015: 3716, 2016: 3957, 2017: 4324, 2018: 4545, 2020: 3826, 2021: 3706}
BULK_JSON = dict(
    zip(
        [*range(2000, 2013), 2019],
        [1207, 1290, 1234, 1280, 1427, 1614, 1811, 1852, 2091, 2379, 2604, 2914, 3213, 2579],
        strict=True,
    )
)


def rows_of(path: Path) -> tuple[Table, list[Row | JsonRow | BadRow]]:
    with path.open("rb") as stream:
        table = open_table(stream)
        rows = list(table)
    assert table.bytes_read == path.stat().st_size
    return table, rows


@pytest.mark.parametrize("name", COUNTS)
def test_each_row_of_a_data_set(shared_data: Path, name: str) -> None:
    _, rows = rows_of(shared_data / name)
    bad = [tuple(row) for row in rows if isinstance(row, BadRow)]
    assert bad == ([FRAGMENTS[name]] if name in FRAGMENTS else [])
    assert len(rows) - len(bad) == COUNTS[name]


@pytest.mark.parametrize("year", BULK_CSV)
def test_bulk_csv_with_lone_crs(shared_data: Path, year: int) -> None:
    path = shared_data / "tmdb_bulk" / "csv" / f"final_tmdb_data_{year}.csv.gz"
    table, rows = rows_of(path)
    assert len(table.header) == 26
    assert len(rows) == BULK_CSV[year] + 1
    assert all(isinstance(row, Row) for row in rows)
    assert isinstance(rows[0], Row)
    assert rows[0].cells[0] == "0"  # the sentinel


@pytest.mark.parametrize("year", BULK_JSON)
def test_bulk_json(shared_data: Path, year: int) -> None:
    path = shared_data / "tmdb_bulk" / "json" / f"tmdb_api_results_{year}.json.gz"
    _, rows = rows_of(path)
    assert len(rows) == BULK_JSON[year] + 1
    assert rows[0] == JsonRow(1, {"imdb_id": 0})
    assert all(isinstance(row, JsonRow) and row.body["imdb_id"] for row in rows[1:])


@pytest.mark.parametrize(
    "name",
    [name for name in COUNTS if name.endswith((".csv", ".csv.gz"))]
    + ["tmdb_bulk/csv/final_tmdb_data_2016.csv.gz"],  # has no lone CR, on which csv would stumble
)
def test_cells_are_those_the_csv_module_reads(shared_data: Path, name: str) -> None:
    data = (shared_data / name).read_bytes()
    text = (gzip.decompress(data) if name.endswith(".gz") else data).decode("utf-8-sig")
    header, *wanted = csv.reader(io.StringIO(text, newline=""))
    table, rows = rows_of(shared_data / name)
    assert table.header == tuple(header)
    assert [row.cells for row in rows if isinstance(row, Row)] == wanted


def test_latin1_titles_of_movielens(shared_data: Path) -> None:
    folder = shared_data / "movielens"
    table, rows = rows_of(folder / "ml-1m" / "movies.dat")
    assert (table.header, table.encoding) == (("movieId", "title", "genres"), "latin-1")
    titles = {row.cells[0]: row.cells[1] for row in rows if isinstance(row, Row)}
    assert titles["73"] == "Misérables, Les (1995)"
    table, rows = rows_of(folder / "ml-100k" / "u.item")
    assert table.header[:5] == (
        "movieId",
        "title",
        "release_date",
        "video_release_date",
        "imdb_url",
    )
    genres = (folder / "ml-100k" / "u.genre").read_text().split()
    assert table.header[5:] == tuple(line.partition("|")[0] for line in genres)
    titles = {row.cells[0]: row.cells[1] for row in rows if isinstance(row, Row)}
    assert titles["543"] == "Misérables, Les (1995)"
