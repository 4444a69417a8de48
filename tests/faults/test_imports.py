"""An import whose service is killed in the middle has the result of one that was left alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from harness import LiveStack, MakeStack, eventually
from harness.files import write_upload

ROWS = 40_000
# Imports are for administrators, who sign in at rating-service.
PARTS = ("ingest-service", "rating-service", "gateway")


def catalogue(stack: LiveStack) -> list[dict[str, Any]]:
    """All films, without what differs between two imports of the same file: times and job ids."""
    films = stack.rows(
        "SELECT movie_id, revision, records, aliases, title, sort_title, original_title,"
        " original_language, release_date, genres, vote_average, vote_count, popularity"
        " FROM catalog.movies ORDER BY movie_id"
    )
    for film in films:
        film["records"] = json.loads(film["records"])
        for record in film["records"].values():
            del record["at"], record["job"]
    return films


def rejects(stack: LiveStack) -> list[dict[str, Any]]:
    return stack.rows(
        "SELECT line, column_name, reason, cells FROM catalog.import_rejects ORDER BY 1"
    )


@pytest.mark.timeout(300)
def test_an_import_killed_twice_is_an_import(make_stack: MakeStack, tmp_path: Path) -> None:
    file = tmp_path / "films.csv"
    write_upload(file, ROWS, wrong_every=500)
    undisturbed, disturbed = (make_stack(only=PARTS) for _ in range(2))

    expected = undisturbed.api.ended(undisturbed.api.upload(file))
    assert (expected["state"], expected["done"]) == ("succeeded", ROWS)
    assert expected["rejected"] == 2 * ROWS // 500 - 1  # one of the repeated films is the first

    job_id = disturbed.api.upload(file)
    for share in (0.3, 0.6):
        eventually(
            f"{share:.0%} of the file to be imported",
            lambda share=share: disturbed.api.job(job_id)["done"] >= share * ROWS,
            seconds=60,
            every=0.02,
        )
        assert disturbed.api.job(job_id)["state"] == "running", "it was over before the kill"
        disturbed.processes["ingest-service"].kill()
        disturbed.processes["ingest-service"].start()
    result = disturbed.api.ended(job_id)

    assert result["state"] == "succeeded"
    assert json.dumps(result["result"]) == json.dumps(expected["result"])
    assert catalogue(disturbed) == catalogue(undisturbed)
    assert rejects(disturbed) == rejects(undisturbed)
