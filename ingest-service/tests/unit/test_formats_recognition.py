import random

import pytest
from ingest_service.formats import FORMATS, UnknownFormatError, recognise
from ingest_service.reading import Row
from ingest_service.records import SourceRecord

UPLOAD = (
    "title,original_title,original_language,overview,release_date,budget,revenue,runtime,status,"
    "vote_average,vote_count,languages,homepage,genre_id,production_company_id"
)
TMDB_5000 = (
    "budget,genres,homepage,id,keywords,original_language,original_title,overview,popularity,"
    "production_companies,production_countries,release_date,revenue,runtime,spoken_languages,"
    "status,tagline,title,vote_average,vote_count"
)
MOVIES_DATASET = (
    "adult,belongs_to_collection,budget,genres,homepage,id,imdb_id,original_language,"
    "original_title,overview,popularity,poster_path,production_companies,production_countries,"
    "release_date,revenue,runtime,spoken_languages,status,tagline,title,video,vote_average,"
    "vote_count"
)
U_ITEM = (
    "movieId,title,release_date,video_release_date,imdb_url,unknown,Action,Adventure,Animation,"
    "Children's,Comedy,Crime,Documentary,Drama,Fantasy,Film-Noir,Horror,Musical,Mystery,Romance,"
    "Sci-Fi,Thriller,War,Western"
)
HEADERS = {
    "imdb-upload": UPLOAD,
    "tmdb-csv": MOVIES_DATASET + ",backdrop_path,certification",
    "tmdb-5000": TMDB_5000,
    "movies-dataset": MOVIES_DATASET,
    "tmdb-5000-credits": "movie_id,title,cast,crew",
    "imdb-basics": (
        "tconst,titleType,primaryTitle,originalTitle,isAdult,startYear,endYear,runtimeMinutes,"
        "genres"
    ),
    "imdb-ratings": "tconst,averageRating,numVotes",
    "movielens-movies": "movieId,title,genres",
    "movielens-links": "movieId,imdbId,tmdbId",
    "movielens-ratings": "userId,movieId,rating,timestamp",
    "generic": "title,year",
}


def complaint(header: str, name: str = "auto") -> str:
    with pytest.raises(UnknownFormatError) as caught:
        recognise(header.split(","), name=name)
    return str(caught.value)


@pytest.mark.parametrize(("name", "header"), HEADERS.items())
def test_a_format_is_known_by_its_columns(name: str, header: str) -> None:
    columns = header.split(",")
    assert recognise(columns).name == name
    assert recognise(columns, name=name).name == name
    random.Random(7).shuffle(columns)
    odd = [f" {column.upper()}\t" for column in columns]
    assert recognise(["", "\ufeffrow", *odd, "rating of mine"]).name == name


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("movielens-movies", U_ITEM),
        ("movielens-ratings", "userId (ml-1m),movieId,rating,timestamp"),
        ("movielens-ratings", "userId (ml-100k),itemId (ml-100k),rating,timestamp"),
        ("tmdb-5000-credits", "cast,crew,id"),
        ("generic", "tmdb_id,tagline"),
        ("generic", "imdb_id,tmdb_id"),
        ("generic", "movie_id,title,overview,cast,crew"),
        ("generic", "title,release_date"),
    ],
)
def test_other_columns_of_the_same_formats(name: str, header: str) -> None:
    assert recognise(header.split(",")).name == name


@pytest.mark.parametrize(
    ("sample", "name"),
    [
        ({"imdb_id": 0}, "tmdb-json"),
        ({"id": 862, "title": "Toy Story"}, "tmdb-json"),
        ({"title": "Toy Story", "year": 1995}, "generic"),
        ({"tconst": "tt1", "averageRating": 5, "numVotes": 1}, "imdb-ratings"),
    ],
)
def test_a_json_file_is_known_by_its_first_object(sample: dict[str, object], name: str) -> None:
    assert recognise((), json_sample=sample).name == name


def test_the_rejected_rows_of_a_json_file_come_back_as_one_column() -> None:
    assert recognise(["json"]).name == "tmdb-json"
    assert recognise(["JSON"], name="generic").name == "generic"


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (",titleId,ordering,title,region,language,types,attributes,isOriginalTitle", "title.akas"),
        ("user_id,movie_id,rating,timestamp,user_seq", "call the columns userId, movieId,"),
        ("userId,movieId,tag,timestamp", "MovieLens tags"),
        ("nconst,primaryName,birthYear", "name.basics"),
        ("tconst,ordering,nconst,category,job,characters", "title.principals"),
        ("tconst,directors,writers", "title.crew"),
        ("tconst,parentTconst,seasonNumber,episodeNumber", "title.episode"),
    ],
)
def test_files_of_known_data_sets_that_cannot_be_imported(header: str, words: str) -> None:
    text = complaint(header)
    assert text.startswith("The file cannot be imported: it looks like")
    assert words in text


def test_the_complaint_names_the_nearest_format_and_what_is_missing() -> None:
    assert complaint("title,release_date_of_film,languages,genre_id") == (
        "The file has the columns title, release_date_of_film, languages, genre_id. "
        "The nearest format is imdb-upload, which also needs release_date. "
        "Known are imdb-upload, tmdb-csv, tmdb-5000, movies-dataset, tmdb-json, "
        "tmdb-5000-credits, imdb-basics, imdb-ratings, movielens-movies, movielens-links, "
        "movielens-ratings, generic."
    )


def test_the_complaint_is_of_bounded_length() -> None:
    text = complaint(",".join("c" * 1_000 + str(n) for n in range(10_000)))
    assert "and 9,970 more" in text
    assert len(text) < 2_500


@pytest.mark.parametrize("header", ["title", "name,price", "", "title,price", "tmdb_id", "json,x"])
def test_a_table_of_something_else_is_not_taken_for_films(header: str) -> None:
    assert "a title together with" in complaint(header)


def test_an_id_of_nobody_knows_what_is_not_guessed_at() -> None:
    assert "call it tmdb_id, imdb_id or movielens_id" in complaint("id,title,release_date")
    assert recognise(["id", "tmdb_id", "title"]).name == "generic"


def test_a_column_that_is_read_must_not_occur_twice() -> None:
    text = complaint("movieId,title,genres, TITLE ")
    assert "The column title occurs twice, as 'title' and ' TITLE '" in text
    assert recognise(["movieId", "title", "genres", "note", "Note"]).name == "movielens-movies"


def test_a_format_that_is_insisted_on_needs_its_columns() -> None:
    text = complaint("id,title,genres", name="tmdb-5000")
    assert "The format tmdb-5000 also needs keywords, release_date." in text
    assert "There is no format 'excel'. Known are imdb-upload" in complaint("title", name="excel")
    assert "needs a JSON file" in complaint("id,title", name="tmdb-json")
    assert "needs a title or one of" in complaint("name", name="generic")
    assert recognise(["title"], name="generic").name == "generic"


def test_every_format_is_described() -> None:
    assert list(FORMATS) == [
        "imdb-upload",
        "tmdb-csv",
        "tmdb-5000",
        "movies-dataset",
        "tmdb-json",
        "tmdb-5000-credits",
        "imdb-basics",
        "imdb-ratings",
        "movielens-movies",
        "movielens-links",
        "movielens-ratings",
        "generic",
    ]
    for info in FORMATS.values():
        assert info.title
        assert info.description.endswith(".")
        assert not set(info.required) & set(info.optional)
    assert set(FORMATS["imdb-upload"].required + FORMATS["imdb-upload"].optional) == set(
        UPLOAD.split(",")
    )


def test_the_order_of_columns_does_not_change_what_is_read() -> None:
    values = {"movieId": "1", "title": "Toy Story (1995)", "genres": "Comedy"}
    read = [
        recognise(columns).read(Row(2, [values.get(column, "x") for column in columns]))
        for columns in (["movieId", "title", "genres"], ["", "genres", "x", "movieId", "title"])
    ]
    assert isinstance(read[0], SourceRecord)
    assert read[0] == read[1]
