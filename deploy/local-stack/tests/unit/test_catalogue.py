from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from local_stack.catalogue import film_ids, registrations

AT = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_ids_are_read_line_by_line(tmp_path: Path) -> None:
    catalogue = tmp_path / "movies.jsonl"
    catalogue.write_text('{"tmdb_id":5,"title":"Four Rooms"}\n{"tmdb_id":11,"title":"x"}\n\n')
    assert film_ids(catalogue) == [5, 11]


def test_a_registration_is_a_cloudevent_whose_id_stays_the_same() -> None:
    assert list(registrations([27205], AT)) == [
        [
            {
                "specversion": "1.0",
                "id": "sample-catalogue-27205",
                "source": "/local-stack/sample-catalogue",
                "type": "movie.register.v1",
                "time": "2025-01-02T03:04:05+00:00",
                "datacontenttype": "application/json",
                "data": {"tmdb_id": 27205},
            }
        ]
    ]


def test_batches_stay_below_the_limit_and_hold_every_film_once() -> None:
    batches = list(registrations(range(1, 1203), AT))
    assert [len(batch) for batch in batches] == [500, 500, 202]
    ids = [event["id"] for event in chain.from_iterable(batches)]
    assert ids == [f"sample-catalogue-{n}" for n in range(1, 1203)]
