"""A bulk run against a TMDB that limits, fails and hangs, beside what its limit allows."""

import json
import time
from dataclasses import dataclass
from typing import Any

import httpx
from harness import LiveStack
from harness.live_stack import ROOT

LIMIT = 40
FILMS = 2_000
FAULTS = {
    "seed": 3,
    "requests_per_second": LIMIT,
    "latency": [0.03, 0.15],
    "fractions": {"429": 0.05, "500": 0.02, "timeout": 0.01},
}


@dataclass
class BulkRun:
    """`seconds` that the run took; `needed` requests if none had failed; TMDB's own log."""

    seconds: float
    needed: int
    missing: int
    log: dict[str, Any]


def bulk_run(stack: LiveStack) -> BulkRun:
    """Fetch 2,000 films by their ids."""
    lines = (ROOT / "deploy/sample-catalogue/movies.jsonl").read_text(encoding="utf-8").splitlines()
    films = [json.loads(line)["tmdb_id"] for line in lines[:FILMS]]
    control = f"{stack.urls['tmdb-standin']}/_control"
    with httpx.Client(trust_env=False) as client:
        client.delete(f"{control}/requests").raise_for_status()
        client.post(f"{control}/faults", json=FAULTS).raise_for_status()
        started = time.perf_counter()
        answer = stack.api.http.post("/admin/ingest/run", json={"tmdb_ids": films, "force": True})
        job = stack.api.ended(answer.json()["job_id"], seconds=600)
        seconds = time.perf_counter() - started
        log = client.get(f"{control}/requests").json()
        client.delete(f"{control}/faults").raise_for_status()
    assert (job["state"], job["rejected"]) == ("succeeded", 0), job
    known = {row["movie_id"] for row in stack.rows("SELECT movie_id FROM catalog.movies")}
    missing = sum(f"tmdb-{film}" not in known for film in films)
    return BulkRun(seconds, FILMS, missing, log)
