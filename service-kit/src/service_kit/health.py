"""`/health`, `/ready` and `/metrics` of a process.

`/health` always answers 200 while the process can answer, with what it knows of each dependency:
restarting a service does not bring its database back. `/ready` answers 503 with the reasons while
the process cannot do its work. A queue that waits for somebody else's system (TMDB refuses the key)
is told there too, but the process is ready: its reads are not to be taken away for that.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import JSONResponse, Response

from service_kit.consumer import ConsumerStatus

CHECK_TIMEOUT: Final = 1.0

Check = Callable[[], Awaitable[object]]


class Health:
    """What a process knows of itself.

    Args:
        required: checks without which the process cannot work.
        optional: checks whose failure only makes it worse.
        consumers: answers the state of every consumer.
    """

    def __init__(
        self,
        service: str,
        *,
        required: Mapping[str, Check],
        optional: Mapping[str, Check],
        consumers: Callable[[], Sequence[ConsumerStatus]],
    ) -> None:
        self._service = service
        self._required = required
        self._optional = optional
        self._consumers = consumers
        self.stopping = False

    async def report(self) -> dict[str, Any]:
        """Each dependency with its state and latency, and the consumers."""
        checks = {**self._required, **self._optional}
        results = await asyncio.gather(*(_probe(check) for check in checks.values()))
        dependencies = dict(zip(checks, results, strict=True))
        consumers = self._consumers()
        down = any(dependencies[name]["status"] != "ok" for name in self._required)
        degraded = any(dependencies[name]["status"] != "ok" for name in self._optional) or any(
            consumer.state != "consuming" for consumer in consumers
        )
        return {
            "service": self._service,
            "status": "down" if down else "degraded" if degraded else "ok",
            "dependencies": dependencies,
            "consumers": [
                {"queue": consumer.queue, "state": consumer.state, "reason": consumer.reason}
                for consumer in consumers
            ],
        }

    def waiting(self) -> list[str]:
        """Which queues wait for a dependency, and for which."""
        return [
            f"{consumer.queue} is paused: {consumer.reason}"
            for consumer in self._consumers()
            if consumer.state == "paused"
        ]

    async def problems(self) -> list[str]:
        """Why the process is not ready; empty when it is."""
        if self.stopping:
            return ["the service is shutting down"]
        names = list(self._required)
        results = await asyncio.gather(*(_probe(self._required[name]) for name in names))
        problems = [
            f"{name}: {result['error']}"
            for name, result in zip(names, results, strict=True)
            if result["status"] != "ok"
        ]
        problems += [
            f"{consumer.queue} is {consumer.state}"
            + (f": {consumer.reason}" if consumer.reason else "")
            for consumer in self._consumers()
            if consumer.state not in {"consuming", "paused"}
        ]
        return problems


async def _probe(check: Check) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        await asyncio.wait_for(check(), CHECK_TIMEOUT)
    except TimeoutError:
        return {"status": "down", "error": f"no answer within {CHECK_TIMEOUT:g} s"}
    except Exception as error:  # noqa: BLE001 -- whatever a dependency does, the page answers
        return {"status": "down", "error": f"{error}"[:500] or type(error).__name__}
    return {"status": "ok", "latency_ms": round((time.perf_counter() - started) * 1000, 2)}


def health_router(health: Health) -> APIRouter:
    """The routes of every process."""
    router = APIRouter(tags=["operations"])

    @router.get("/health", summary="Each dependency with its state and latency")
    async def get_health() -> JSONResponse:
        return JSONResponse(await health.report())

    @router.get("/ready", summary="200 when the process can do its work, else 503 with reasons")
    async def get_ready() -> JSONResponse:
        problems = await health.problems()
        return JSONResponse(
            {"ready": not problems, "problems": problems, "waiting": health.waiting()},
            status_code=503 if problems else 200,
        )

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def get_metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    # FastAPI refers to them; nothing else does.
    _ = (get_health, get_ready, get_metrics)
    return router
