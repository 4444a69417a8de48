"""The gateway keeps what its OpenAPI document says: Schemathesis, all of its checks and phases.

It runs as a program of its own, with schemathesis.toml and openapi_answers.py beside this file,
against a stack of its own, because it asks for films and jobs without end.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from harness import LiveStack, MakeStack, eventually

HERE = Path(__file__).parent
EXAMPLE = 27205
# Operations that hardly any made-up request brings to succeed, and what they would need.
NEVER_SUCCEED = {
    "POST /api/v1/admin/jobs/{job_id}/cancel": "a job that has not ended yet",
    "POST /api/v1/admin/jobs/{job_id}/retry": "an import that has ended and rejected rows",
    "DELETE /api/v1/users/me": "the password",
    "PUT /api/v1/users/me/password": "the password",
}
Answers = dict[str, Counter[int]]


@pytest.fixture(scope="module")
def documented(make_stack: MakeStack) -> LiveStack:
    """A stack with the film of the document's examples in it, and what is computed ahead."""
    stack = make_stack(env={"SEARCH_SIGNALS": "true"})
    stack.api.http.post("/movies/register", json={"tmdb_id": EXAMPLE}).raise_for_status()
    eventually("the film", lambda: stack.api.get(f"/movies/{EXAMPLE}/trend"))
    job = stack.api.http.post("/admin/compute/all").raise_for_status().json()
    assert stack.api.ended(job["job_id"])["state"] == "succeeded"
    return stack


def run(stack: LiveStack, folder: Path, *options: str) -> Answers:
    """Test what the document says; how often each operation was answered with each status."""
    gateway = stack.urls["gateway"]
    report = folder / "report.ndjson"
    program = (sys.executable, "-m", "schemathesis.cli")
    config = ("--config-file", str(HERE / "schemathesis.toml"))
    reports = ("--report", "ndjson", "--report-ndjson-path", str(report), "--no-color")
    result = subprocess.run(
        [*program, *config, "run", f"{gateway}/openapi.json", "--url", gateway, *reports, *options],
        cwd=folder,
        env={**os.environ, "SCHEMATHESIS_HOOKS": str(HERE / "openapi_answers.py")},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-20_000:] + result.stderr[-5_000:]
    with report.open(encoding="utf-8") as lines:
        return answers_in(json.loads(line) for line in lines)


def answers_in(events: Iterable[dict[str, Any]]) -> Answers:
    answers: Answers = {}
    for event in events:
        recorder: dict[str, Any] = event.get("ScenarioFinished", {}).get("recorder", {})
        interactions: dict[str, Any] = recorder.get("interactions") or {}
        for case_id, interaction in interactions.items():
            if interaction["response"] is None:
                continue
            case = recorder["cases"][case_id]["value"]
            counts = answers.setdefault(f"{case['method']} {case['path']}", Counter())
            counts[int(interaction["response"]["status_code"])] += 1
    return answers


def operations(stack: LiveStack) -> dict[str, bool]:
    """Every documented operation, and whether it needs credentials."""
    document = stack.api.http.get("/openapi.json").json()
    return {
        f"{method.upper()} {path}": bool(operation.get("security"))
        and {} not in operation["security"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def succeeded(counts: Counter[int]) -> int:
    return sum(count for status, count in counts.items() if 200 <= status < 300)


@pytest.mark.timeout(600)
def test_an_administrator_is_answered_as_documented(documented: LiveStack, tmp_path: Path) -> None:
    token = ("--header", f"Authorization: Bearer {documented.api.token}")
    # Nor any other credentials, beside which these would not count.
    answers = run(documented, tmp_path, *token, "--generation-with-security-parameters", "false")
    # Of operations whose requests are all refused nothing is learnt.
    refused = {name for name in operations(documented) if not succeeded(answers[name])}
    assert refused <= set(NEVER_SUCCEED)
    assert documented.api.http.get("/users/me").json()["role"] == "admin"


@pytest.mark.timeout(300)
def test_nobody_is_answered_as_documented(documented: LiveStack, tmp_path: Path) -> None:
    # What is open has been asked by the administrator already, and means the same for both.
    options = ("--phases", "examples,coverage", "--mode", "positive")
    answers = run(documented, tmp_path, *options)
    closed = {
        name for name, needs_credentials in operations(documented).items() if needs_credentials
    }
    assert "GET /api/v1/users/me" in closed
    for name in closed:
        assert answers[name][401], name
        assert not succeeded(answers[name]), name
