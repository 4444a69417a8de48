"""The artifact `recommendations`: a model, fitted by a process of its own (`fitting`).

The process writes the whole model beside the one that serves; what `prepare` answers turns readers
to it. So a run that ends in whatever way before that leaves the old model as it was, and the next
run deletes what it left. One model serves at a time: of the latest day, and of that day the one
that was computed last. What is known of an earlier day is what is still stored: of a rating that
was changed since, only the newest score and its time.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError
from service_kit import JobFailed, Outage
from sqlalchemy.ext.asyncio import AsyncConnection

from compute_service.artifacts import Day, Write
from compute_service.recommendation import repository
from compute_service.recommendation.orders import AWAY, Fitted, ModelSettings, Order

log = logging.getLogger(__name__)

_MODULE: Final = "compute_service.recommendation.fitting"
_THREADS: Final = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_TOLD: Final = 4000  # bytes of what a failed process said that are kept


class Recommendations:
    """See the module."""

    def __init__(self, database_url: str, settings: ModelSettings) -> None:
        self._database_url = database_url
        self._settings = settings

    @property
    def name(self) -> str:
        """As `compute.run` names it."""
        return "recommendations"

    async def prepare(self, day: Day) -> Write:
        """Fit a model of what happened before `day.until`; raises as `fit`."""
        fitted = await self.fit(day)

        async def write(connection: AsyncConnection) -> int:
            films = await repository.serve(connection, fitted.model_id)
            # None: a run that began later has replaced the recommendations meanwhile, which is
            # as good.
            return fitted.films if films is None else films

        return write

    async def fit(self, day: Day) -> Fitted:
        """A new model of what happened before `day.until`, which does not serve yet.

        Raises:
            JobFailed: the process failed; the reason is what it said last.
            Outage: the database was away.
        """
        settings = self._settings
        order = Order(
            as_of=day.date,
            until=day.until,
            films=settings.films,
            dense_films=settings.dense_films,
            view_weight=settings.view_weight,
        )
        fitted = await self._run(order)
        log.info("recommendations fitted", extra=fitted.model_dump())
        return fitted

    async def _run(self, order: Order) -> Fitted:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            _MODULE,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment(),
        )
        assert process.stdin and process.stdout and process.stderr  # noqa: S101, PT018 -- pipes
        try:
            process.stdin.write(order.model_dump_json().encode() + b"\n")
            # it stays open: where it closes, the process ends
            with contextlib.suppress(ConnectionError):
                await process.stdin.drain()
            answer, said = await asyncio.gather(process.stdout.read(), _last_of(process.stderr))
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            process.stdin.close()
        if code != 0:
            log.warning(
                "fitting failed", extra={"code": code, "said": said.decode(errors="replace")}
            )
        if code == AWAY:
            raise Outage("PostgreSQL", _reason(said))
        if code != 0:
            raise JobFailed(f"fitting {_ended(code)}: {_reason(said)}")
        try:
            return Fitted.model_validate_json(answer)
        except ValidationError:
            raise JobFailed(f"fitting said nothing of its model: {_reason(said)}") from None

    def _environment(self) -> Mapping[str, str]:
        threads = dict.fromkeys(_THREADS, str(self._settings.threads))
        return {**os.environ, **threads, "DATABASE_URL": self._database_url}


async def _last_of(stream: asyncio.StreamReader) -> bytes:
    last = b""
    while piece := await stream.read(4096):
        last = (last + piece)[-_TOLD:]
    return last


def _reason(said: bytes) -> str:
    """The last line: `fitting` ends with what went wrong, and so do Python and the C library."""
    lines = said.decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def _ended(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"failed with {code}"
