"""Imports of files: opened, run by what they hold, and deleted when they are done with."""

import asyncio
import logging
from collections.abc import Mapping

from service_kit import Database, Outage
from service_kit.blobs import BlobNotFoundError, BlobStore, ForeignBlobError
from service_kit.jobs import Job, JobCancelled, JobFailed, RunningJob, load_job

from ingest_service.film_imports import FilmImport
from ingest_service.formats import FilmFormat, RatingFormat, UnknownFormatError
from ingest_service.import_rows import RejectedRows, RowSource, UploadedFile
from ingest_service.items import known_items
from ingest_service.rating_commands import RatingCommands
from ingest_service.rating_imports import SORTED_TOGETHER, RatingImport
from ingest_service.reading import UnreadableFileError
from ingest_service.rejects import MAX_KEPT, read_rejects

_log = logging.getLogger(__name__)


class Imports:
    """The run of `import` jobs.

    Args:
        blobs: where uploads are; None: no store is set, so that no file can be imported.
        commands: where ratings go.
        sorted_together: ratings of a file that are published a film after the other.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore | None,
        commands: RatingCommands,
        *,
        sorted_together: int = SORTED_TOGETHER,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._commands = commands
        self._sorted_together = sorted_together
        self._running = 0

    @property
    def busy(self) -> bool:
        """Whether films are being imported here."""
        return self._running > 0

    async def run(self, running: RunningJob) -> None:
        """Import the file that the job names.

        Raises:
            JobFailed: the file cannot be read (on); what was good before that place is kept.
            Outage: the store, the database or, for ratings, the broker is away.
        """
        try:
            if not running.job.checkpoint.get("finished"):
                source = await self._open(running.job)
                size = await self._size(running.job)
                if isinstance(source.format, RatingFormat):
                    await self._import_ratings(running, source, source.format, size)
                else:
                    await self._import_films(running, source, source.format, size)
        except JobCancelled:
            await self._delete_upload(running.job)
            raise
        await self._delete_upload(running.job)

    async def _import_films(
        self, running: RunningJob, source: RowSource, file_format: FilmFormat, size: int | None
    ) -> None:
        retried = await self._retried(running.job)
        self._running += 1
        try:
            await FilmImport(running, source, file_format, size=size, retried=retried).run()
        finally:
            self._running -= 1

    async def _import_ratings(
        self, running: RunningJob, source: RowSource, file_format: RatingFormat, size: int | None
    ) -> None:
        items: Mapping[int, str] | None = None
        if file_format.items:
            async with self._database.reading() as connection:
                items = await known_items(connection)
        await RatingImport(
            running,
            source,
            file_format,
            size=size,
            items=items,
            commands=self._commands,
            sorted_together=self._sorted_together,
        ).run()

    async def _open(self, job: Job) -> RowSource:
        try:
            if (earlier_id := job.request.get("retry_of")) is not None:
                return await self._open_rejected(str(earlier_id))
            blobs, uri = self._store(), str(job.request["uri"])
            format_name = str(job.request.get("format", "auto"))
            return await asyncio.to_thread(
                lambda: UploadedFile(lambda: blobs.open(uri), format_name)
            )
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
