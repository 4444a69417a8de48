"""Forgets what nobody will ask for any more."""

import logging
from datetime import timedelta
from typing import Final

from service_kit import Database
from service_kit.blobs import BlobStore
from sqlalchemy import text

from ingest_service.rejects import purge_rejects

# An import that was cancelled or failed has no step any more in which to clear up.
_FORGET_ENDED: Final = text("""
    DELETE FROM import_unchanged AS noted USING jobs
    WHERE jobs.job_id = noted.job_id AND jobs.finished_at IS NOT NULL
""")
_log = logging.getLogger(__name__)


class Housekeeping:
    """Deletes old rejected rows, and uploads whose import failed or never began."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore | None,
        *,
        rejects_kept: timedelta,
        uploads_kept: timedelta,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._rejects_kept = rejects_kept
        self._uploads_kept = uploads_kept

    async def tidy(self) -> None:
        """Raises Outage when the database or the store is away."""
        async with self._database.transaction() as connection:
            rows = await purge_rejects(connection, days=self._rejects_kept.days)
            await connection.execute(_FORGET_ENDED)
        uploads = 0
        if self._blobs is not None:
            uploads = await self._blobs.purge(self._uploads_kept)
        if rows or uploads:
            _log.info("tidied up", extra={"rejected_rows": rows, "uploads": uploads})
