"""Imports a file: records into films, some thousand rows to a transaction.

A transaction holds the effect of its rows, the rejected ones among them, and how far the file has
been read. So an import that is killed goes on behind the last one that was committed, and its
result is that of one that never stopped. The next rows are read while the present ones are written.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson
from service_kit import Conflict, Database, Outage
from service_kit.blobs import BlobNotFoundError, BlobStore, ForeignBlobError
from service_kit.jobs import Job, JobCancelled, JobFailed, RunningJob, Step, load_job

from ingest_service.announcing import announce_later
from ingest_service.formats import Format, UnknownFormatError
from ingest_service.import_rows import Chunk, ChunkReader, RejectedRows, RowSource, UploadedFile
from ingest_service.ledger import ContradictedError, Effect, Ledger, RefusedError, keys_of
from ingest_service.merging import slot
from ingest_service.reading import UnreadableFileError
from ingest_service.records import Rejection, SourceRecord
from ingest_service.rejects import MAX_KEPT, MAX_TEXT_KEPT, keep_rejects, read_rejects
from ingest_service.repository import (
    forget_unchanged,
    found_unchanged,
    open_ledger,
    remember_unchanged,
    save,
)
from ingest_service.storing import fact_of

_log = logging.getLogger(__name__)

# A file of which nothing can be used ends early.
_HOPELESS_AFTER: Final = 10_000
_MAX_CONFLICTS: Final = 8
# Chunks: reading and writing take turns at being the slower one.
_READ_AHEAD: Final = 2
# A dry run writes nothing, so that it has to remember itself which films the file has named.
_MAX_REMEMBERED: Final = 500_000


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

    def result(self) -> dict[str, Any]:
        """For people."""
        return {
            "rows": self.rows,
            **{str(effect): self.effects[effect] for effect in Effect},
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


class Imports:
    """The run of `import` jobs.

    Args:
        blobs: where uploads are; None: no store is set, so that no file can be imported.
    """

    def __init__(self, database: Database, blobs: BlobStore | None) -> None:
        self._database = database
        self._blobs = blobs
        self._running = 0

    @property
    def busy(self) -> bool:
        """Whether an import runs here."""
        return self._running > 0

    async def run(self, running: RunningJob) -> None:
        """Import the file that the job names.

        Raises:
            JobFailed: the file cannot be read (on); what was good before that place is kept.
            Outage: the store or the database is away.
        """
        self._running += 1
        try:
            if not running.job.checkpoint.get("finished"):
                source = await self._open(running.job)
                size = await self._size(running.job)
                retried = await self._retried(running.job)
                await _Import(running, source, size, retried).run()
        except JobCancelled:
            await self._delete_upload(running.job)
            raise
        finally:
            self._running -= 1
        await self._delete_upload(running.job)

    async def _open(self, job: Job) -> RowSource:
        try:
            if (earlier_id := job.request.get("retry_of")) is not None:
                return await self._open_rejected(str(earlier_id))
            blobs, uri = self._store(), str(job.request["uri"])
            format_name = str(job.request.get("format", "auto"))
            return await asyncio.to_thread(lambda: UploadedFile(blobs.open(uri), format_name))
        except (UnreadableFileError, UnknownFormatError, ForeignBlobError) as error:
            raise JobFailed(str(error)) from None
        except BlobNotFoundError:
            msg = "the uploaded file is no longer there; upload it again"
            raise JobFailed(msg) from None

    async def _open_rejected(self, earlier_id: str) -> RowSource:
        async with self._database.reading() as connection:
            earlier = await load_job(connection, earlier_id)
            rejections = await read_rejects(connection, earlier_id, limit=MAX_KEPT)
        if earlier is None or earlier.kind != "import" or earlier.finished_at is None:
            msg = f"{earlier_id} is no import that has ended"
            raise JobFailed(msg)
        if earlier.request.get("dry_run"):
            msg = f"{earlier_id} was a dry run; upload its file again"
            raise JobFailed(msg)
        if "format" not in earlier.checkpoint:
            msg = f"{earlier_id} read no rows; upload its file again"
            raise JobFailed(msg)
        return RejectedRows(
            rejections,
            header=earlier.checkpoint["header"],
            format_name=earlier.checkpoint["format"],
        )

    async def _retried(self, job: Job) -> list[str]:
        """The import whose rejected rows this job tries, the one that that one tried, and so on."""
        jobs: list[str] = []
        async with self._database.reading() as connection:
            asked = job.request.get("retry_of")
            while asked is not None and asked not in jobs:
                jobs.append(str(asked))
                earlier = await load_job(connection, str(asked))
                asked = earlier.request.get("retry_of") if earlier is not None else None
        return jobs

    async def _size(self, job: Job) -> int | None:
        return await self._store().size(str(job.request["uri"])) if "uri" in job.request else None

    async def _delete_upload(self, job: Job) -> None:
        if self._blobs is None or "uri" not in job.request:
            return
        try:
            await self._blobs.delete(str(job.request["uri"]))
        except (Outage, ForeignBlobError) as error:
            # The purge of old uploads gets it.
            _log.warning("upload not deleted", extra={"job_id": job.job_id, "reason": str(error)})

    def _store(self) -> BlobStore:
        if self._blobs is None:
            msg = "UPLOAD_STORE_URL is not set, so ingest-service cannot read uploads"
            raise JobFailed(msg)
        return self._blobs


class _Import:
    """One attempt at one file."""

    def __init__(
        self, running: RunningJob, source: RowSource, size: int | None, retried: Sequence[str]
    ) -> None:
        self._running = running
        self._source = source
        self._size = size
        job = running.job
        self._job_id = job.job_id
        self._at = job.created_at
        self._tally = Tally.from_checkpoint(job.checkpoint)
        self._retried = retried
        self._seen: dict[int, int] | None = {} if job.request.get("dry_run") else None
        # Whether the last chunk held nothing that was known.
        self._all_new = True
        self._about = {
            "format": source.format.name,
            "header": list(source.format.header),
        }

    async def run(self) -> None:
        # A dry run keeps nothing, so another attempt at it begins anew.
        if self._seen is not None:
            self._tally = Tally()
        reader = ChunkReader(self._source, skip=self._tally.rows, job_id=self._job_id, at=self._at)
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, "reading")
        ahead = deque(loop.run_in_executor(thread, reader.next_chunk) for _ in range(_READ_AHEAD))
        try:
            while (chunk := await _result(ahead[0])) is not None:
                ahead.popleft()
                ahead.append(loop.run_in_executor(thread, reader.next_chunk))
                await self._take(chunk)
                if self._tally.rejected == self._tally.rows >= _HOPELESS_AFTER:
                    msg = (
                        f"none of the first {self._tally.rows:,} rows could be imported; "
                        "the rejected rows say why"
                    )
                    raise JobFailed(msg)
        finally:
            # A thread cannot be stopped; it ends with its chunk.
            thread.shutdown(wait=False, cancel_futures=True)
            await asyncio.wait(ahead)
        await self._finish(reader.problem)

    async def _take(self, chunk: Chunk) -> None:
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

    async def _write(self, chunk: Chunk, step: Step) -> Tally:
        connection = step.work.connection
        refused: list[Rejection] = []
        if await self._add_unseen(chunk, step):
            effects = Counter[str]({Effect.NEW: len(chunk.records)})
        else:
            effects, refused = await self._merge(chunk, step)
        tally = self._tally.plus(chunk, effects, len(refused))
        rejections = [*chunk.rejections, *refused][: max(0, MAX_KEPT - self._tally.rejected)]
        if tally.rejected_text < MAX_TEXT_KEPT:
            tally.rejected_text += await keep_rejects(connection, self._job_id, rejections)
        step.advance(
            done=tally.rows,
            total=self._estimated_rows(tally, chunk),
            rejected=tally.rejected,
            checkpoint={**self._about, **tally.checkpoint()},
            result=self._result(tally),
        )
        return tally

    async def _add_unseen(self, chunk: Chunk, step: Step) -> bool:
        """Add a chunk without looking for its films; False, and nothing done, if one is known.

        Most chunks of a first import: the primary key says all that looking would.
        """
        if self._seen is not None or not self._all_new or not chunk.unlinked:
            return False
        connection = step.work.connection
        ledger = Ledger([], {}, job_id=self._job_id)
        ledger.take_fresh((record for record, _ in chunk.records), self._at)
        try:
            async with connection.begin_nested():
                await save(connection, ledger, step.work.now, lines=chunk.lines)
        except Conflict:
            self._all_new = False
            return False
        await announce_later(connection, list(ledger.fresh), step.work.now)
        return True

    async def _merge(self, chunk: Chunk, step: Step) -> tuple[Counter[str], list[Rejection]]:
        """Bring a chunk together with the films that are known."""
        connection = step.work.connection
        records = [record for record, _ in chunk.records]
        ledger = await open_ledger(
            connection,
            keys_of(records),
            job_id=self._job_id,
            unchanged=await found_unchanged(connection, self._job_id, records)
            if self._tally.effects[Effect.UNCHANGED]
            else frozenset(),
            retried=self._retried,
        )
        self._all_new = not ledger.films
        effects, refused = await asyncio.to_thread(
            _apply, ledger, chunk, self._at, self._source.format, self._seen
        )
        if self._seen is None:
            changes = await save(connection, ledger, step.work.now, lines=chunk.lines)
            present = [change.movie_id for change in changes if change.removed_reason is None]
            await announce_later(connection, [*ledger.fresh, *present], step.work.now)
            await remember_unchanged(connection, self._job_id, ledger.found_unchanged)
            for change in changes:
                if change.removed_reason is not None:
                    step.work.emit(fact_of(change), cause=self._running.cause)
        return effects, refused

    async def _finish(self, problem: str | None) -> None:
        tally = self._tally
        async with self._running.step() as step:
            await forget_unchanged(step.work.connection, self._job_id)
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
        about: dict[str, Any] = {"format": self._source.format.name}
        if self._seen is not None:
            about["dry_run"] = True
        return about | tally.result()

    def _estimated_rows(self, tally: Tally, chunk: Chunk) -> int | None:
        if not self._size or not chunk.bytes_read:
            return None
        return max(tally.rows, round(tally.rows * self._size / chunk.bytes_read))


async def _result(reading: asyncio.Future[Chunk | None]) -> Chunk | None:
    """As `asyncio.shield`, but without a cycle of references that would keep the chunk alive."""
    await asyncio.wait([reading])
    return reading.result()


def _apply(
    ledger: Ledger, chunk: Chunk, at: datetime, file_format: Format, seen: dict[int, int] | None
) -> tuple[Counter[str], list[Rejection]]:
    effects: Counter[str] = Counter()
    refused: list[Rejection] = []
    now_seen: dict[int, int] = {}
    for record, row in chunk.records:
        try:
            if seen is not None:
                name, content = hash(slot(record.source, record.key)), _digest(record)
                if name in seen:
                    if seen[name] != content:
                        raise ContradictedError(record.key)
                    effects[Effect.REPEATED] += 1
                    continue
                now_seen.setdefault(name, content)
            effects[ledger.apply(record, at)] += 1
        except RefusedError as error:
            refused.append(Rejection(row.line, None, str(error), file_format.original(row)))
    # Within a chunk the ledger tells itself which film was named before.
    if seen is not None and len(seen) < _MAX_REMEMBERED:
        seen |= now_seen
    return effects, refused


def _digest(record: SourceRecord) -> int:
    return hash(orjson.dumps(record.fields, option=orjson.OPT_SORT_KEYS))
