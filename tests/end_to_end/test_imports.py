"""Files handed in over HTTP end up where films are looked for: lists, pages, charts and search."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from harness import LiveStack, MakeStack, eventually
from harness.clients import cloud_event
from harness.files import write_upload


@pytest.fixture(scope="module")
def stack(make_stack: MakeStack) -> LiveStack:
    return make_stack()


def write(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8", newline="")
    return file


def film_with(stack: LiveStack, key: str, *, views: int) -> dict[str, Any] | None:
    film: dict[str, Any] | None = stack.api.get(f"/movies/{key}")
    return film if film is not None and film["views"] == views else None


def test_a_file_becomes_films_and_its_wrong_rows_can_be_mended(
    stack: LiveStack, tmp_path: Path
) -> None:
    file = tmp_path / "films.csv"
    write_upload(file, 300, wrong_every=100)
    job_id = stack.api.upload(file)
    job = stack.api.ended(job_id)
    assert (job["state"], job["kind"], job["done"], job["rejected"]) == (
        "succeeded",
        "import",
        300,
        5,
    )
    assert job["result"]["new"] == 295
    page = stack.api.get(f"/admin/jobs/{job_id}/rejects")
    assert page["total"] == 5
    assert {row["column"] for row in page["items"]} == {"budget", None}

    answer = stack.api.http.get(f"/admin/jobs/{job_id}/rejects", params={"format": "csv"})
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 5
    mended = [row | {"budget": "0", "title": row["title"] + f" {n}"} for n, row in enumerate(rows)]
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(mended[0]))
    writer.writeheader()
    writer.writerows(mended)
    again = stack.api.ended(stack.api.upload(write(tmp_path / "mended.csv", out.getvalue())))
    assert (again["result"]["new"], again["rejected"]) == (5, 0)

    title = mended[0]["title"]
    hit: Any = eventually(
        "the mended film to be found",
        lambda: next(
            (hit for hit in stack.api.get("/search", q=title)["hits"] if hit["title"] == title),
            None,
        ),
        seconds=20,
    )
    assert stack.api.get(f"/movies/{hit['movie_id']}")["title"] == title
    stack.drain()


def test_the_same_file_twice_changes_nothing(stack: LiveStack, tmp_path: Path) -> None:
    file = tmp_path / "films.csv"
    write_upload(file, 500, seed=8, wrong_every=100)
    stack.api.ended(stack.api.upload(file))
    state = "SELECT movie_id, revision, updated_at FROM catalog.movies ORDER BY 1"
    before = stack.rows(state)
    dry = stack.api.ended(stack.api.upload(file, dry_run="true"))["result"]
    again = stack.api.ended(stack.api.upload(file))["result"]
    for result in (dry, again):
        assert (result["new"], result["changed"], result["rejected"]) == (0, 0, 9)
        assert result["unchanged"] == 491
    assert stack.rows(state) == before


def test_a_dry_run_says_what_would_happen(stack: LiveStack, tmp_path: Path) -> None:
    file = tmp_path / "films.csv"
    write_upload(file, 400, seed=9, wrong_every=100)
    [before] = stack.rows("SELECT count(*) FROM catalog.movies")
    dry = stack.api.ended(stack.api.upload(file, dry_run="true"))
    assert dry["result"]["dry_run"] is True
    assert stack.rows("SELECT count(*) FROM catalog.movies") == [before]
    real = stack.api.ended(stack.api.upload(file))
    # One of the films was there already, with other values.
    for result in (dry["result"], real["result"]):
        assert (result["new"], result["changed"], result["rejected"]) == (392, 1, 7)


def test_a_link_that_comes_late_brings_everything_together(
    stack: LiveStack, tmp_path: Path
) -> None:
    views = [
        cloud_event("movie.viewed.v1", f"late-link-{n}", {"movie_id": key, "viewed_at": at})
        for n, (key, at) in enumerate(
            (key, "2026-01-02T03:04:05Z")
            for key in ["movielens-990001"] * 5 + ["imdb-tt9900001"] * 3 + ["tmdb-990001"] * 2
        )
    ]
    stack.api.send_all(views)
    movielens = write(
        tmp_path / "movies.csv", "movieId,title,genres\n990001,Late Link (1999),Drama\n"
    )
    basics = write(
        tmp_path / "title.basics.tsv",
        "tconst\ttitleType\tprimaryTitle\toriginalTitle\tisAdult\tstartYear\tendYear\t"
        "runtimeMinutes\tgenres\ntt9900001\tmovie\tLate Link\tLate Link\t0\t1999\t\\N\t95\tDrama\n",
    )
    for file in (movielens, basics):
        assert stack.api.ended(stack.api.upload(file))["result"]["new"] == 1
    eventually(
        "the film under MovieLens' id to be counted",
        lambda: film_with(stack, "movielens-990001", views=5),
        seconds=20,
    )
    stack.drain()

    links = write(tmp_path / "links.csv", "movieId,imdbId,tmdbId\n990001,9900001,990001\n")
    assert stack.api.ended(stack.api.upload(links))["result"]["linked"] == 1
    for key in ("tmdb-990001", "990001", "imdb-tt9900001", "movielens-990001"):
        film: Any = eventually(
            f"{key} to be the film with all views",
            lambda key=key: (
                film if (film := stack.api.get(f"/movies/{key}")) and film["views"] == 10 else None
            ),
            seconds=20,
        )
        assert film["movie_id"] == "tmdb-990001"
        assert (film["imdb_id"], film["runtime"]) == ("tt9900001", 95)
        assert stack.api.get(f"/movies/{key}/trend")["views"] == 10
    stack.drain()
    assert [hit["movie_id"] for hit in stack.api.get("/search", q="Late Link")["hits"]] == [
        "tmdb-990001"
    ]
    # What is still counted under an old key belongs to the film as well.
    late = cloud_event(
        "movie.viewed.v1",
        "late-link-last",
        {"movie_id": "movielens-990001", "viewed_at": "2026-01-02T03:04:05Z"},
    )
    stack.api.send_all([late])
    eventually(
        "a view under the old key to be counted",
        lambda: stack.api.get("/movies/tmdb-990001")["views"] == 11,
        seconds=20,
    )


def test_a_file_that_is_no_table_fails_and_says_why(stack: LiveStack, tmp_path: Path) -> None:
    file = write(tmp_path / "notes.csv", "name,colour\nball,red\n")
    job = stack.api.ended(stack.api.upload(file))
    assert job["state"] == "failed"
    assert "colour" in job["error"]
