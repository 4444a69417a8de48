"""The run of one import: chunk by chunk, some thousand rows to a transaction.

A transaction holds the effect of its rows, the rejected ones among them, and how far the file has
been read. So an import that is killed goes on behind the last one that was committed, and its
result is that of one that never stopped. The next rows are read while the present ones are written.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

from service_kit import Conflict
from service_kit.jobs import JobFailed, RunningJob, Step

from ingest_service.formats import FilmFormat, RatingFormat
from ingest_service.import_rows import C, Chunk
from ingest_service.records import Rejection
from ingest_service.rejects import MAX_KEPT, MAX_TEXT_KEPT, keep_rejects

C_co = TypeVar("C_co", bound=Chunk, covariant=True)

# A file of which nothing can be used ends early.
_HOPELESS_AFTER: Final = 10_000
_MAX_CONFLICTS: Final = 8
# Chunks: reading and writing take turns at being the slower one.
_READ_AHEAD: Final = 2


@dataclass(slots=True)
class Tally:
    """What has become of the rows so far."""

    rows: int = 0
    rejected: int = 0
    rejected_text: int = 0
    effects: Counter[str] = field(default_factory=Counter[str])
    skipped: Counter[str] = field(default_factory=Counter[str])

    @classmethod
    def from_checkpoint(cls, checkpoint: Mapping[str, Any]) -> "Tally":
        """As it was when the last step was committed."""
        return cls(
            rows=checkpoint.get("rows", 0),
            rejected=checkpoint.get("rejected", 0),
            rejected_text=checkpoint.get("rejected_text", 0),
            effects=Counter(checkpoint.get("effects", {})),
            skipped=Counter(checkpoint.get("skipped", {})),
        )

    def checkpoint(self) -> dict[str, Any]:
        """What `from_checkpoint` reads."""
        return {
            "rows": self.rows,
            "rejected": self.rejected,
            "rejected_text": self.rejected_text,
            "effects": dict(self.effects),
            "skipped": dict(self.skipped),
        }

    def result(self, effects: Iterable[str]) -> dict[str, Any]:
        """For people; `effects` are those that a row may have."""
        return {
            "rows": self.rows,
            **{str(effect): self.effects[effect] for effect in effects},
            "rejected": self.rejected,
            "skipped": dict(self.skipped),
        }

    def plus(self, chunk: Chunk, effects: Counter[str], refused: int) -> "Tally":
        """With the rows of a chunk."""
        return Tally(
            rows=self.rows + chunk.rows,
            rejected=self.rejected + len(chunk.rejections) + refused,
            rejected_text=self.rejected_text,
            effects=self.effects + effects,
            skipped=self.skipped + chunk.skipped,
        )


class ReadAgain(Exception):  # noqa: N818 -- what to do rather than what went wrong
    """The rows behind the last committed one are wanted again, from another reader."""


class Reader(Protocol[C_co]):
    """What brings the chunks; see `ChunkReader`."""

    problem: str | None

    def next_chunk(self) -> C_co | None:
        """The next rows; None at the end, or where the file cannot be read on. It blocks."""
        ...

    def close(self) -> None:
        """Nothing more is wanted; a call that blocks returns soon."""
        ...


class ImportRun(ABC, Generic[C]):
    """One attempt at one file.

    Args:
        effects: what may become of a row that is right.
        size: of the file in bytes, where that is known.
    """

    def __init__(
        self,
        running: RunningJob,
        file_format: FilmFormat | RatingFormat,
        *,
        effects: Sequence[str],
        size: int | None,
    ) -> None:
        self._running = running
        self._effects = effects
        self._size = size
        self._job_id = running.job.job_id
        self._dry_run = bool(running.job.request.get("dry_run"))
        # A dry run keeps nothing, so another attempt at it begins anew.
        self._tally = Tally() if self._dry_run else Tally.from_checkpoint(running.job.checkpoint)
        self._about = {"format": file_format.name, "header": list(file_format.header)}

    @abstractmethod
    def open_reader(self, skip: int) -> Reader[C]:
        """Reads the file behind the first `skip` rows."""

    @abstractmethod
    async def apply(self, chunk: C, step: Step) -> tuple[Counter[str], list[Rejection]]:
        """Let a chunk have its effect; what became of its rows, and those that are refused."""

    async def take(self, chunk: C) -> None:
        """Deal with a chunk, in a transaction that may have to be repeated."""
        for attempt in range(_MAX_CONFLICTS):
            try:
                async with self._running.step() as step:
                    tally = await self._write(chunk, step)
            except Conflict:
                if attempt == _MAX_CONFLICTS - 1:
                    raise
                await asyncio.sleep(0.05 * 2**attempt)
            else:
                self._tally = tally
                return

    async def end(self, step: Step) -> None:
        """Part of the last transaction."""

    async def run(self) -> None:
        """Read the file to its end.

        Raises:
            JobFailed: it cannot be read (on), or nothing in it is right.
        """
        while True:
            reader = self.open_reader(self._tally.rows)
            try:
                await self._take_all(reader)
            except ReadAgain:
                continue
            break
        await self._finish(reader.problem)

    async def _take_all(self, reader: Reader[C]) -> None:
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, "reading")
        ahead = deque(loop.run_in_executor(thread, reader.next_chunk) for _ in range(_READ_AHEAD))
        try:
            while (chunk := await _result(ahead[0])) is not None:
                ahead.popleft()
                ahead.append(loop.run_in_executor(thread, reader.next_chunk))
                await self.take(chunk)
                if self._tally.rejected == self._tally.rows >= _HOPELESS_AFTER:
                    msg = (
                        f"none of the first {self._tally.rows:,} rows could be imported; "
                        "the rejected rows say why"
                    )
                    raise JobFailed(msg)
        finally:
            # A thread cannot be stopped; it ends with its chunk.
            thread.shutdown(wait=False, cancel_futures=True)
            await asyncio.to_thread(reader.close)
            await asyncio.gather(*ahead, return_exceptions=True)

    async def _write(self, chunk: C, step: Step) -> Tally:
        effects, refused = await self.apply(chunk, step)
        tally = self._tally.plus(chunk, effects, len(refused))
        rejections = [*chunk.rejections, *refused][: max(0, MAX_KEPT - self._tally.rejected)]
        if tally.rejected_text < MAX_TEXT_KEPT:
            tally.rejected_text += await keep_rejects(
                step.work.connection, self._job_id, rejections
            )
        step.advance(
            done=tally.rows,
            total=self._estimated_rows(tally, chunk),
            rejected=tally.rejected,
            checkpoint={**self._about, **tally.checkpoint()},
            result=self._result(tally),
        )
        return tally

    async def _finish(self, problem: str | None) -> None:
        tally = self._tally
        async with self._running.step() as step:
            await self.end(step)
            step.advance(
                done=tally.rows,
                total=tally.rows,
                rejected=tally.rejected,
                checkpoint={**self._about, **tally.checkpoint(), "finished": problem is None},
                result=self._result(tally),
            )
        if problem is not None:
            before = f"; the {tally.rows:,} rows before that place were read" if tally.rows else ""
            raise JobFailed(problem + before)

    def _result(self, tally: Tally) -> dict[str, Any]:
        about: dict[str, Any] = {"format": self._about["format"]}
        if self._dry_run:
            about["dry_run"] = True
        return about | tally.result(self._effects)

    def _estimated_rows(self, tally: Tally, chunk: Chunk) -> int | None:
        if not self._size or not chunk.bytes_read:
            return None
        return max(tally.rows, round(tally.rows * self._size / chunk.bytes_read))


async def _result(reading: asyncio.Future[C | None]) -> C | None:
    """As `asyncio.shield`, but without a cycle of references that would keep the chunk alive."""
    await asyncio.wait([reading])
    return reading.result()
