"""Loads the sample catalogue as any producer would: registrations published through the gateway.

The ids of the events are derived from the films, so that loading twice has the effect of once.
`python -m local_stack.catalogue GATEWAY_URL FILE` loads one into a stack that runs elsewhere, with
`ADMIN_NAME` and `ADMIN_PASSWORD` or `MOVIEMETRIC_API_KEY` from the environment.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import httpx

from local_stack.access import SignInError, auth_for
from local_stack.processes import wait_for

_BATCH = 500
_SOURCE = "/local-stack/sample-catalogue"
_RETRIES = 5
_KNOWN_SECONDS = 300.0


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


def publish(client: httpx.Client, auth: httpx.Auth, ids: Sequence[int]) -> None:
    """Register the films, as somebody who may publish events.

    Raises CatalogueError when the gateway does not take them, SignInError when it lets nobody in.
    """
    for batch in registrations(ids, datetime.now(UTC)):
        _post(client, auth, json.dumps(batch))


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


def _post(client: httpx.Client, auth: httpx.Auth, body: str) -> None:
    headers = {"content-type": "application/cloudevents-batch+json"}
    answer = client.post("/api/v1/events", content=body, headers=headers, auth=auth)
    for _ in range(_RETRIES):
        if answer.status_code != 503:
            break
        time.sleep(min(5.0, _seconds(answer.headers.get("retry-after", "1"))))
        answer = client.post("/api/v1/events", content=body, headers=headers, auth=auth)
    if answer.is_error:
        raise CatalogueError(
            f"POST {answer.url} answered {answer.status_code}: {answer.text[:500].strip()}"
        )


def _seconds(retry_after: str) -> float:
    return float(retry_after) if retry_after.isdecimal() else 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Register the films of a file and wait until the API knows them; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m local_stack.catalogue",
        description="Register the films of a catalogue and wait until the API knows them all.",
    )
    parser.add_argument("gateway_url", help="for example http://127.0.0.1:8000")
    parser.add_argument("file", type=Path, help="the catalogue, one JSON object a line")
    parser.add_argument(
        "--timeout", type=float, default=_KNOWN_SECONDS, help="seconds to wait (default 300)"
    )
    options = parser.parse_args(arguments)
    try:
        ids = film_ids(options.file)
    except OSError as error:
        return _fail(f"{options.file} cannot be read: {error.strerror}")
    except (ValueError, KeyError, TypeError) as error:
        return _fail(f"{options.file} does not hold one JSON object with tmdb_id a line: {error!r}")
    try:
        with httpx.Client(base_url=options.gateway_url, timeout=30.0, trust_env=False) as client:
            known = total_movies(client)
            if known < len(ids):
                publish(client, auth_for(options.gateway_url, os.environ), ids)
                known = wait_until_known(client, len(ids), options.timeout)
    except (httpx.HTTPError, httpx.InvalidURL, CatalogueError, SignInError) as error:
        return _fail(f"the films could not be registered at {options.gateway_url}: {error}")
    if known < len(ids):
        return _fail(
            f"the API knows {known} of {len(ids)} films after {options.timeout:.0f} s; the others "
            "are queued and follow, or were rejected, as the log of ingest-service tells"
        )
    sys.stdout.write(f"the API knows {known} films\n")
    return 0


def _fail(message: str) -> int:
    sys.stderr.write(f"{message}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
