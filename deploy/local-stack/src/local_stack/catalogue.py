"""Loads the sample catalogue as any producer would: registrations published through the gateway.

The ids of the events are derived from the films, so that loading twice has the effect of once.
"""

import json
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import httpx

from local_stack.processes import wait_for

_BATCH = 500
_SOURCE = "/local-stack/sample-catalogue"
_RETRIES = 5


class CatalogueError(Exception):
    """The gateway did not take the sample catalogue; the message says what it answered."""


def film_ids(catalogue: Path) -> list[int]:
    """The TMDB ids of the films in a catalogue, one JSON object a line."""
    with catalogue.open(encoding="utf-8") as lines:
        return [int(json.loads(line)["tmdb_id"]) for line in lines if line.strip()]


def registrations(ids: Sequence[int], at: datetime) -> Iterator[list[dict[str, object]]]:
    """`movie.register.v1` events for the films, in batches as `POST /events` takes them."""
    events: Iterator[dict[str, object]] = (
        {
            "specversion": "1.0",
            "id": f"sample-catalogue-{tmdb_id}",
            "source": _SOURCE,
            "type": "movie.register.v1",
            "time": at.isoformat(),
            "datacontenttype": "application/json",
            "data": {"tmdb_id": tmdb_id},
        }
        for tmdb_id in ids
    )
    while batch := list(islice(events, _BATCH)):
        yield batch


def total_movies(client: httpx.Client) -> int:
    """How many films the API knows."""
    answer = client.get("/api/v1/movies", params={"limit": 1})
    answer.raise_for_status()
    return int(answer.json()["total"])


def publish(client: httpx.Client, ids: Sequence[int]) -> None:
    """Register the films. Raises CatalogueError when the gateway does not take them."""
    for batch in registrations(ids, datetime.now(UTC)):
        _post(client, json.dumps(batch))


def wait_until_known(client: httpx.Client, count: int, seconds: float) -> int:
    """Wait until the API knows that many films, at most `seconds`; returns how many it knows."""
    known = 0

    def enough() -> bool:
        nonlocal known
        try:
            known = total_movies(client)
        except httpx.HTTPError:
            return False
        return known >= count

    wait_for(enough, seconds, every=0.5)
    return known


def _post(client: httpx.Client, body: str) -> None:
    headers = {"content-type": "application/cloudevents-batch+json"}
    answer = client.post("/api/v1/events", content=body, headers=headers)
    for _ in range(_RETRIES):
        if answer.status_code != 503:
            break
        time.sleep(min(5.0, _seconds(answer.headers.get("retry-after", "1"))))
        answer = client.post("/api/v1/events", content=body, headers=headers)
    if answer.is_error:
        raise CatalogueError(
            f"POST {answer.url} answered {answer.status_code}: {answer.text[:500].strip()}"
        )


def _seconds(retry_after: str) -> float:
    return float(retry_after) if retry_after.isdecimal() else 1.0
