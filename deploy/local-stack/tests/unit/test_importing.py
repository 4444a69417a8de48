"""What `make import` says."""

import io
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from local_stack import importing
from local_stack.importing import ImportingError, Progress
from local_stack.problems import problem_of

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def job(**fields: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "job_id": "import-1",
        "state": "running",
        "done": 0,
        "total": None,
        "rejected": 0,
        "error": None,
        "started_at": None,
        "finished_at": None,
        "rate": None,
        "estimated_end": None,
        "result": {},
    }
    return defaults | fields


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"state": "queued"}, "queued"),
        ({"done": 12000}, "12,000 rows"),
        (
            {
                "done": 12000,
                "total": 100000,
                "rejected": 3,
                "rate": 4567.89,
                "estimated_end": "2026-03-04T05:07:27Z",
            },
            "12,000 of about 100,000 rows, 3 rejected, 4,568 rows/s, 1 min 20 s left",
        ),
        ({"estimated_end": "2026-03-04T05:06:00Z"}, "0 rows, 0.0 s left"),
        ({"error": "upload store: away"}, "0 rows, waits: upload store: away"),
    ],
)
def test_how_far_it_is(fields: dict[str, Any], words: str) -> None:
    assert importing.words_of(job(**fields), NOW) == words


def test_the_outcome() -> None:
    lines = importing.summary(
        job(
            state="succeeded",
            started_at="2026-03-04T05:06:07Z",
            finished_at="2026-03-04T05:06:09.54Z",
            result={
                "format": "imdb-basics",
                "rows": 1234567,
                "new": 1200000,
                "changed": 0,
                "unchanged": 4,
                "linked": 0,
                "waiting": 0,
                "repeated": 2,
                "rejected": 1,
                "skipped": {"a tvSeries": 34560},
            },
        )
    )
    assert lines == [
        "import-1 succeeded after 2.5 s",
        "  1,234,567 rows of the format imdb-basics",
        "   1,200,000  new films",
        "           0  changed films",
        "           4  unchanged",
        "           2  the same as an earlier row",
        "           1  rejected",
        "      34,560  skipped: a tvSeries",
    ]


def test_a_failure_says_why() -> None:
    lines = importing.summary(job(state="failed", error="a quote is never closed"))
    assert lines == ["import-1 failed", "  a quote is never closed"]


def test_the_file_is_looked_at_first(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    (tmp_path / "good.csv").write_text("title")
    importing.check_file(tmp_path / "good.csv")
    for name, what in (
        ("nowhere.csv", "there is no file"),
        ("empty.csv", "is empty"),
        ("", "is a folder"),
    ):
        with pytest.raises(ImportingError, match=what):
            importing.check_file(tmp_path / name)


def test_a_refusal_is_put_into_words() -> None:
    large = httpx.Response(
        413,
        json={
            "title": "File too large",
            "detail": "A file may have 10 bytes at most.",
            "errors": [{"field": "file", "message": "larger than 10 bytes"}],
        },
    )
    assert problem_of(large) == (
        "A file may have 10 bytes at most. (status 413)\n  file: larger than 10 bytes"
    )
    away = httpx.Response(503, json={"title": "Away"}, headers={"Retry-After": "7"})
    assert problem_of(away) == "Away (status 503)\nTry again in 7 s."
    limited = httpx.Response(429, json={"title": "Too many"}, headers={"Retry-After": "60"})
    assert problem_of(limited) == "Too many (status 429)\nTry again in 60 s."
    proxy = httpx.Response(502, text="<html>bad gateway</html>")
    assert problem_of(proxy) == "<html>bad gateway</html> (status 502)"
    assert problem_of(httpx.Response(500, json=["odd"])) == '["odd"] (status 500)'


def test_rows_cannot_command_the_terminal() -> None:
    assert importing.printable("a\x1b[2Jb\tc é") == "a�[2Jb�c é"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    terminal = Terminal()
    progress = Progress(terminal)
    progress.show(25, 100, "25 of 100 rows")
    progress.close()
    assert " 25%|" in terminal.getvalue()
    assert "25 of 100 rows" in terminal.getvalue()


def test_a_file_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    log = io.StringIO()
    progress = Progress(log)
    for step in range(100):
        now = step / 10
        progress.show(step, 100, f"{step} rows")
    progress.close()
    assert log.getvalue().split("\n") == ["30 rows", "60 rows", "90 rows", ""]


@pytest.mark.parametrize("address", ["nonsense", "http://127.0.0.1:99999", "http://127.0.0.1:1"])
def test_a_gateway_that_is_away_is_named(
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ADMIN_PASSWORD", "a long password")
    (tmp_path / "films.csv").write_text("title\n")
    assert importing.main([address, str(tmp_path / "films.csv")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert address in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["http://x"],
        ["http://x", "a.csv", "--job", "import-1"],
        ["http://x", "a.csv", "b.csv"],
        ["http://x", "a.csv", "--cancel"],
        ["http://x", "a.csv", "--rejects", "rejects.csv"],
    ],
)
def test_a_wrong_call_is_no_partial_success(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        importing.main(arguments)
    assert caught.value.code == 1
