"""Files too large for a message: kept in a folder or an S3 bucket, named in messages by their URI.

A producer streams a file in with `put` and sends its `uri` (a claim check); the consumer reads it
with `open` and deletes it when it is done with. A blob is there whole or not at all. A URI comes
from a message, so it is believed only when it names a blob of the configured store.
"""

import asyncio
import io
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from service_kit.outcomes import Outage

if TYPE_CHECKING:
    from obstore import ObjectMeta

# The least that S3 accepts as a part of an upload in several parts.
_PART_SIZE: Final = 5 * 1024 * 1024
_PARTS_IN_FLIGHT: Final = 2
_HAND_OVER: Final = 1024 * 1024
_READ_AHEAD: Final = 2 * 1024 * 1024
_ABORT_TIMEOUT: Final = 20.0
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PREFIX: Final = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")
_DEPENDENCY: Final = "upload store"


class BlobNotFoundError(Exception):
    """The store has no such blob (any more)."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        super().__init__(f"{uri} does not exist (any more)")


class ForeignBlobError(Exception):
    """A URI that does not name a blob of this store."""

    def __init__(self, uri: str, store: str) -> None:
        self.uri = uri
        super().__init__(f"{uri[:200]!r} is not in the upload store: expected {store}<name>")


@dataclass(frozen=True, slots=True)
class Blob:
    """What was stored: `size` in bytes, `sha256` in hexadecimal."""

    uri: str
    size: int
    sha256: str


class BlobSettings(BaseSettings):
    """Settings of a process that stores or reads blobs; mixed into its other settings.

    UPLOAD_STORE_URL is `file:///folder` or `s3://bucket/prefix`. Without keys, S3 is asked with
    those of the environment (AWS_ACCESS_KEY_ID, an instance's role and so on).
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    upload_store_url: str | None = None
    upload_s3_endpoint: str | None = None
    upload_s3_region: str | None = None
    upload_s3_access_key_id: str | None = None
    upload_s3_secret_access_key: SecretStr | None = None


class BlobStore:
    """Blobs under one URL. Made by `from_url` or `from_settings`.

    Every method raises `Outage` when the store cannot be reached or refuses.
    """

    def __init__(self, store: LocalStore | S3Store, base: str, folder: Path | None) -> None:
        self._store = store
        self._base = base
        self._folder = folder

    @classmethod
    def from_settings(cls, settings: BlobSettings) -> Self:
        """The store that the settings name; raises ValueError when they do not make sense."""
        if settings.upload_store_url is None:
            msg = "UPLOAD_STORE_URL is not set: expected file:///folder or s3://bucket/prefix"
            raise ValueError(msg)
        endpoint = settings.upload_s3_endpoint
        return cls.from_url(
            settings.upload_store_url,
            s3_endpoint=endpoint,
            s3_region=settings.upload_s3_region,
            s3_access_key_id=settings.upload_s3_access_key_id,
            s3_secret_access_key=settings.upload_s3_secret_access_key,
            allow_http=endpoint is not None and endpoint.startswith("http://"),
        )

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        s3_endpoint: str | None = None,
        s3_region: str | None = None,
        s3_access_key_id: str | None = None,
        s3_secret_access_key: SecretStr | str | None = None,
        allow_http: bool = False,
    ) -> Self:
        """A store in a folder (made if it is missing, for its owner alone) or an S3 bucket.

        Raises:
            ValueError: the URL is of no such form, or the folder cannot be made.
        """
        parts = urlsplit(url)
        if parts.query or parts.fragment:
            msg = f"{url!r} is no upload store: expected neither '?' nor '#'"
            raise ValueError(msg)
        match parts.scheme:
            case "file" if not parts.netloc and parts.path.startswith("/"):
                return cls._in_folder(Path(unquote(parts.path)))
            case "s3" if parts.netloc:
                prefix = parts.path.strip("/")
                if prefix and (not _PREFIX.fullmatch(prefix) or ".." in prefix):
                    msg = f"{url!r}: the prefix may have letters, digits, '.', '_', '-' and '/'"
                    raise ValueError(msg)
                secret = s3_secret_access_key
                if isinstance(secret, SecretStr):
                    secret = secret.get_secret_value()
                store = S3Store(
                    parts.netloc,
                    prefix=prefix or None,
                    client_options={
                        "allow_http": allow_http,
                        "connect_timeout": timedelta(seconds=3),
                        "timeout": timedelta(seconds=60),
                    },
                    retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=20)},
                    **_given(
                        endpoint=s3_endpoint,
                        region=s3_region,
                        access_key_id=s3_access_key_id,
                        secret_access_key=secret,
                    ),
                )
                base = f"s3://{parts.netloc}/{prefix}/" if prefix else f"s3://{parts.netloc}/"
                return cls(store, base, None)
            case _:
                msg = f"{url!r} is no upload store: expected file:///folder or s3://bucket/prefix"
                raise ValueError(msg)

    @classmethod
    def _in_folder(cls, folder: Path) -> Self:
        folder = folder.absolute()
        try:
            if not folder.is_dir():
                folder.parent.mkdir(parents=True, exist_ok=True)
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            msg = f"cannot make the upload store's folder {folder}: {error.strerror}"
            raise ValueError(msg) from error
        return cls(LocalStore(folder), f"{folder.as_uri().rstrip('/')}/", folder)

    def uri_of(self, name: str) -> str:
        """The URI that a blob of this name has; raises ValueError for what is no name."""
        if not _NAME.fullmatch(name):
            msg = f"{name[:80]!r} is no name for a blob: 1 to 64 letters, digits, '_' and '-'"
            raise ValueError(msg)
        return f"{self._base}{name}"

    def _name_in(self, uri: str) -> str:
        name = uri.removeprefix(self._base)
        if name == uri or not _NAME.fullmatch(name):
            raise ForeignBlobError(uri, self._base)
        return name

    async def put(self, name: str, chunks: AsyncIterator[bytes]) -> Blob:
        """Store what `chunks` yields, a few megabytes at a time in memory.

        What `chunks` raises is raised on. Whatever goes wrong, and when the task is cancelled,
        nothing of the blob stays behind.
        """
        uri = self.uri_of(name)
        upload = _Upload()
        storing = asyncio.ensure_future(
            obstore.put_async(
                self._store,
                name,
                upload,
                use_multipart=True,
                chunk_size=_PART_SIZE,
                max_concurrency=_PARTS_IN_FLIGHT,
            )
        )
        digest, size = sha256(), 0
        pending = bytearray()
        try:
            async for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                pending += chunk
                if len(pending) >= _HAND_OVER:
                    await upload.give(bytes(pending), storing)
                    pending.clear()
            await upload.give(bytes(pending), storing)
            await upload.give(None, storing)
            await asyncio.shield(storing)
        except BaseException as error:
            stores_own = isinstance(error, Exception) and _error_of(storing) is error
            await self._abandon(name, upload, storing)
            if stores_own:
                raise _outage(error) from error
            raise
        return Blob(uri, size, digest.hexdigest())

    async def _abandon(self, name: str, upload: "_Upload", storing: "asyncio.Future[Any]") -> None:
        # An error out of its source is what makes the library take back what it has stored.
        upload.abandon()
        await asyncio.wait({storing}, timeout=_ABORT_TIMEOUT)
        if not storing.done():
            storing.cancel()
        elif _error_of(storing) is None:
            with suppress(BaseError, OSError):
                await obstore.delete_async(self._store, name)

    async def size(self, uri: str) -> int:
        """Bytes of a blob.

        Raises:
            BlobNotFoundError, ForeignBlobError
        """
        name = self._name_in(uri)
        try:
            return (await obstore.head_async(self._store, name))["size"]
        except FileNotFoundError:
            raise BlobNotFoundError(uri) from None
        except (BaseError, OSError) as error:
            raise _outage(error) from error

    def open(self, uri: str) -> BinaryIO:
        """A blob for reading and seeking. It blocks, as does every read: for a worker thread.

        Raises:
            BlobNotFoundError, ForeignBlobError
        """
        name = self._name_in(uri)
        try:
            size = obstore.head(self._store, name)["size"]
        except FileNotFoundError:
            raise BlobNotFoundError(uri) from None
        except (BaseError, OSError) as error:
            raise _outage(error) from error
        return io.BufferedReader(_Reader(self._store, name, uri, size), _READ_AHEAD)

    async def delete(self, uri: str) -> None:
        """Delete a blob; one that is missing is fine. Raises `ForeignBlobError`."""
        await self._delete(self._name_in(uri))

    async def _delete(self, name: str) -> None:
        try:
            await obstore.delete_async(self._store, name)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise _outage(error) from error

    async def purge(self, older_than: timedelta) -> int:
        """Delete what was stored longer ago than that and nobody fetched; answers how many.

        In a folder, so are the remains of uploads whose process was killed. In a bucket these are
        invisible here: give it a lifecycle rule that aborts incomplete multipart uploads.
        """
        limit = datetime.now(UTC) - older_than
        try:
            old = [
                item["path"]
                async for items in self._listing()
                for item in items
                if item["last_modified"] < limit and _NAME.fullmatch(item["path"])
            ]
        except (BaseError, OSError) as error:
            raise _outage(error) from error
        for name in old:
            await self._delete(name)
        remains = 0
        if self._folder is not None:
            remains = await asyncio.to_thread(_delete_remains, self._folder, older_than)
        return len(old) + remains

    def _listing(self) -> AsyncIterator[Sequence["ObjectMeta"]]:
        # The library's own type leaves out the Arrow package that is not installed.
        return obstore.list(self._store)  # pyright: ignore[reportUnknownMemberType]

    async def ping(self) -> None:
        """Raises `Outage` when the store cannot be listed; a health check."""
        try:
            async for _ in self._listing():
                break
        except (BaseError, OSError) as error:
            raise _outage(error) from error


class _AbandonedError(Exception):
    """Ends an upload from the side of its source."""


class _Upload:
    """The library's source of chunks, fed by the task that has them.

    The library pulls in tasks of its own. Were it to pull from the caller's iterator, a cancelled
    caller would leave that iterator running, and the upload unfinished for ever.
    """

    def __init__(self) -> None:
        self._chunks: asyncio.Queue[bytes | _AbandonedError | None] = asyncio.Queue(maxsize=1)

    async def give(self, chunk: bytes | None, storing: "asyncio.Future[Any]") -> None:
        """Hand a chunk over (None: there is no more), or raise what has ended the upload."""
        giving = asyncio.ensure_future(self._chunks.put(chunk))
        try:
            await asyncio.wait({giving, storing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            giving.cancel()
        if storing.done():
            storing.result()

    def abandon(self) -> None:
        """Make the upload fail as soon as the library asks for more."""
        while not self._chunks.empty():
            self._chunks.get_nowait()
        self._chunks.put_nowait(_AbandonedError())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        match await self._chunks.get():
            case None:
                raise StopAsyncIteration
            case _AbandonedError() as abandoned:
                raise abandoned
            case chunk:
                return chunk


class _Reader(io.RawIOBase):
    """Reads ranges of a blob."""

    def __init__(self, store: LocalStore | S3Store, name: str, uri: str, size: int) -> None:
        super().__init__()
        self._store = store
        self._name = name
        self._uri = uri
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            msg = f"cannot seek to {start + offset}"
            raise ValueError(msg)
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        length = min(len(view), self._size - self._position)
        if length <= 0:
            return 0
        try:
            chunk = obstore.get_range(self._store, self._name, start=self._position, length=length)
        except FileNotFoundError:
            raise BlobNotFoundError(self._uri) from None
        except (BaseError, OSError) as error:
            raise _outage(error) from error
        view[: len(chunk)] = memoryview(chunk)
        self._position += len(chunk)
        return len(chunk)


def _error_of(future: "asyncio.Future[Any]") -> BaseException | None:
    return future.exception() if future.done() and not future.cancelled() else None


def _given(**options: str | None) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value}


def _outage(error: BaseException) -> Outage:
    reason = str(error).partition("\n\nDebug source")[0].strip() or type(error).__name__
    return Outage(_DEPENDENCY, " ".join(reason.split())[:500])


def _delete_remains(folder: Path, older_than: timedelta) -> int:
    """Parts of uploads are named `<name>#<number>`, which the library does not list."""
    limit = time.time() - older_than.total_seconds()
    deleted = 0
    for path in folder.glob("*#*"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < limit:
                path.unlink()
                deleted += 1
    return deleted
