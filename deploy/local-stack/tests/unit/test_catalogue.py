import json
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import chain
from pathlib import Path
from threading import Thread

import pytest
from local_stack.catalogue import film_ids, main, registrations

KEY = "mm_0123456789ab_secret"
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


@contextmanager
def gateway(known_after: int) -> Generator[tuple[str, list[int]]]:
    """An HTTP server that takes registrations with the key; it knows the films some lists later."""
    taken: list[int] = []
    lists = 0

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers["x-api-key"] != KEY:
                self._answer(401, {"title": "Not signed in"})
                return
            taken.extend(event["data"]["tmdb_id"] for event in json.loads(body))
            self._answer(202, {})

        def do_GET(self) -> None:
            nonlocal lists
            lists += 1
            self._answer(200, {"total": len(taken) if lists > known_after else 0})

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

        def _answer(self, status: int, body: object) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", taken
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOVIEMETRIC_API_KEY", KEY)


@pytest.fixture
def films(tmp_path: Path) -> str:
    catalogue = tmp_path / "movies.jsonl"
    catalogue.write_text('{"tmdb_id":5}\n{"tmdb_id":11}\n')
    return str(catalogue)


def test_the_command_registers_and_waits(films: str, capsys: pytest.CaptureFixture[str]) -> None:
    with gateway(known_after=2) as (url, taken):
        assert main([url, films]) == 0
    assert taken == [5, 11]
    assert capsys.readouterr().out == "the API knows 2 films\n"


def test_what_is_known_already_is_not_registered_again(
    films: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with gateway(known_after=0) as (url, taken):
        assert main([url, films]) == 0
        assert main([url, films]) == 0
    assert taken == [5, 11]
    assert capsys.readouterr().out == "the API knows 2 films\n" * 2


def test_the_command_says_that_it_was_not_let_in(
    films: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOVIEMETRIC_API_KEY", "mm_0123456789ab_wrong")
    with gateway(known_after=2) as (url, taken):
        assert main([url, films]) == 1
    assert taken == []
    message = capsys.readouterr().err
    assert "answered 401" in message
    assert "mm_" not in message


def test_the_command_fails_when_the_films_do_not_come(
    films: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with gateway(known_after=1000) as (url, taken):
        assert main([url, films, "--timeout", "0.1"]) == 1
    assert taken == [5, 11]
    assert "the API knows 0 of 2 films after" in capsys.readouterr().err


def test_the_command_names_a_gateway_that_is_not_there(
    films: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with gateway(known_after=0) as (url, _):
        pass
    assert main([url, films]) == 1
    assert url in capsys.readouterr().err


def test_the_command_names_a_file_that_is_no_catalogue(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "other.jsonl"
    empty.write_text('{"title":"Heat"}\n')
    assert main(["http://127.0.0.1:1", str(empty)]) == 1
    assert main(["http://127.0.0.1:1", str(tmp_path / "missing.jsonl")]) == 1
    message = capsys.readouterr().err
    assert "other.jsonl does not hold one JSON object with tmdb_id a line" in message
    assert "missing.jsonl cannot be read: No such file or directory" in message
