"""How the tests talk to the gateway and to RabbitMQ's management API."""

import base64
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl, quote, urlsplit

import httpx
from local_stack.access import SignedIn

from harness.waiting import eventually

BATCH_JSON = "application/cloudevents-batch+json"


def cloud_event(event_type: str, event_id: str, data: dict[str, Any]) -> dict[str, Any]:
    """An event as an outside producer writes it."""
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": "/test",
        "type": event_type,
        "datacontenttype": "application/json",
        "data": data,
    }


def claims_of(token: str) -> dict[str, Any]:
    """What a token says, whoever signed it."""
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


class Secrets:
    """Passwords, tokens, keys and reviews that were sent and received."""

    _FIELDS = frozenset(
        {
            *("password", "current_password", "new_password", "review"),
            *("access_token", "refresh_token", "token", "key"),
        }
    )
    _SHORTEST = 8

    def __init__(self) -> None:
        self.values: set[str] = set()

    def see(self, request: httpx.Request) -> None:
        """Take them out of a request."""
        self._take(request.headers.get("authorization", "").removeprefix("Bearer "))
        self._take(request.headers.get("x-api-key"))
        kind = request.headers.get("content-type", "")
        if kind.startswith("application/json"):
            self._read_json(request.content)
        elif kind.startswith("application/x-www-form-urlencoded"):
            self._fields(dict(parse_qsl(request.content.decode())))

    def hear(self, answer: httpx.Response) -> None:
        """Take them out of an answer."""
        if answer.request.url.path.endswith(("/auth/token", "/api-keys")):
            answer.read()
            self._read_json(answer.content)

    def found_in(self, text: str) -> set[str]:
        """Those that a text holds."""
        return {value for value in self.values if value in text}

    def _read_json(self, content: bytes) -> None:
        try:
            body = json.loads(content)
        except ValueError:
            return
        if isinstance(body, dict):
            self._fields(cast("dict[str, Any]", body))

    def _fields(self, fields: dict[str, Any]) -> None:
        for name in self._FIELDS & fields.keys():
            self._take(fields[name])

    def _take(self, value: object) -> None:
        if isinstance(value, str) and len(value) >= self._SHORTEST:
            self.values.add(value)


class Api:
    """The public API, as it answers to somebody: by default to nobody in particular.

    Args:
        secrets: gets what the requests and answers hold that no log may hold.
    """

    def __init__(
        self, url: str, auth: httpx.Auth | None = None, *, secrets: Secrets | None = None
    ) -> None:
        self.url = url
        self.secrets = Secrets() if secrets is None else secrets
        self.http = httpx.Client(
            base_url=f"{url}/api/v1",
            auth=auth,
            timeout=10,
            trust_env=False,
            event_hooks={"request": [self.secrets.see], "response": [self.secrets.hear]},
        )

    def get(self, path: str, **params: Any) -> Any:
        """The JSON of a 200, or None for any other answer."""
        answer = self.http.get(path, params=params)
        return answer.json() if answer.status_code == 200 else None

    def send(self, events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """One batch, once; the events that were not accepted."""
        try:
            answer = self.http.post(
                "/events", content=json.dumps(list(events)), headers={"content-type": BATCH_JSON}
            )
        except httpx.TransportError:
            return list(events)
        if answer.status_code not in {202, 503}:
            msg = f"unexpected answer {answer.status_code}: {answer.text[:500]}"
            raise AssertionError(msg)
        if answer.status_code == 503 and "results" not in answer.json():
            return list(events)
        return [
            events[item["index"]]
            for item in answer.json()["results"]
            if item["status"] != "accepted"
        ]

    def send_all(
        self, events: Iterable[dict[str, Any]], *, batch: int = 500, seconds: float = 60
    ) -> None:
        """Send until every event got its 202, the same event with the same id each time."""
        left = list(events)
        deadline = time.monotonic() + seconds
        while left:
            assert time.monotonic() < deadline, f"{len(left)} events were never accepted"
            refused = self.send(left[:batch])
            left = refused + left[batch:]
            if refused:
                time.sleep(0.1)

    def upload(self, file: Path, **options: Any) -> str:
        """Hand a file in; the id of its job."""
        with file.open("rb") as content:
            answer = self.http.post(
                "/upload", files={"file": (file.name, content)}, params=options, timeout=120
            )
        assert answer.status_code == 202, answer.text
        return answer.json()["job_id"]

    def job(self, job_id: str) -> dict[str, Any]:
        """Where a job stands."""
        answer = self.http.get(f"/admin/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ended(self, job_id: str, *, seconds: float = 100, every: float = 0.1) -> dict[str, Any]:
        """The job, once it has ended."""
        return eventually(
            f"{job_id} to end",
            lambda: (
                job if (job := self.job(job_id))["state"] not in {"queued", "running"} else None
            ),
            seconds=seconds,
            every=every,
        )

    def close(self) -> None:
        """Close the connections."""
        self.http.close()


class User(Api):
    """The API for a user with an account, who signs in with the first request."""

    def __init__(self, url: str, name: str, password: str, secrets: Secrets | None = None) -> None:
        self.auth = SignedIn(url, name, password, source="the test")
        super().__init__(url, self.auth, secrets=secrets)
        self.name = name
        self.password = password

    @property
    def token(self) -> str:
        """The present access token."""
        return self.auth.header(self.http).removeprefix("Bearer ")

    @property
    def user_id(self) -> str:
        """As the services know them."""
        return claims_of(self.token)["sub"]

    def rate(
        self, film: str, score: float, review: str | None = None, *, wait: float = 5
    ) -> dict[str, Any]:
        """Rate a film; the answer after its effect, if it has one soon enough."""
        answer = self.http.put(
            f"/movies/{film}/rating", json={"score": score, "review": review}, params={"wait": wait}
        )
        assert answer.status_code == 202, answer.text
        return answer.json()


class Management:
    """RabbitMQ's management API, seen from one virtual host."""

    def __init__(self, management_url: str, amqp_url: str) -> None:
        parts = urlsplit(amqp_url)
        self.vhost = quote(parts.path.removeprefix("/"), safe="") or "%2F"
        self.http = httpx.Client(
            base_url=f"{management_url}/api",
            auth=(parts.username or "", parts.password or ""),
            timeout=10,
            trust_env=False,
        )

    def publish(self, exchange: str, routing_key: str, payload: str) -> bool:
        """As a person does in the management UI; answers whether a queue took it."""
        answer = self.http.post(
            f"/exchanges/{self.vhost}/{exchange}/publish",
            json={
                "properties": {},
                "routing_key": routing_key,
                "payload": payload,
                "payload_encoding": "string",
            },
        )
        answer.raise_for_status()
        return bool(answer.json()["routed"])

    def parked(self, queue: str) -> list[dict[str, Any]]:
        """The messages in a dead-letter queue, which stay there."""
        answer = self.http.post(
            f"/queues/{self.vhost}/{queue}.dead/get",
            json={"count": 1000, "ackmode": "ack_requeue_true", "encoding": "auto"},
        )
        answer.raise_for_status()
        return answer.json()

    def depths(self) -> dict[str, int]:
        """Messages in each queue, unacknowledged ones included."""
        answer = self.http.get(
            f"/queues/{self.vhost}", params={"disable_stats": "true", "enable_queue_totals": "true"}
        )
        answer.raise_for_status()
        return {queue["name"]: queue.get("messages", 0) for queue in answer.json()}

    def close(self) -> None:
        """Close the connections."""
        self.http.close()
