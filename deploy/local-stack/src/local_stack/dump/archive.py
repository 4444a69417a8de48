"""The file of a dump: a gzipped tar that begins with its table of contents.

    manifest.json     what the dump holds, with size and SHA-256 of every other part
    database.dump     pg_dump's custom format
    messages.jsonl    one message a line, see `local_stack.dump.messages`
    uploads/<name>    files whose import has not ended

Reading believes nothing: only parts that the manifest names, each of exactly the size and sum that
it says, are unpacked, under names that cannot lead elsewhere.
"""

import gzip
import io
import os
import re
import tarfile
import zlib
from collections.abc import Mapping
from datetime import datetime
from hashlib import file_digest, sha256
from pathlib import Path
from typing import IO, Annotated, Any, Final, Literal, Protocol

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    StringConstraints,
    ValidationError,
)

from local_stack.dump.errors import DumpError

FORMAT: Final = 1
DATABASE: Final = "database.dump"
MESSAGES: Final = "messages.jsonl"
UPLOADS: Final = "uploads/"
_MANIFEST: Final = "manifest.json"
_MANIFEST_LIMIT: Final = 16 * 1024 * 1024
# headers and padding of the tar around each part
_OVERHEAD: Final = 8 * 1024
_PIECE: Final = 1024 * 1024
_COMPRESSION: Final = 4

_PART_NAME: Final = re.compile(r"database\.dump|messages\.jsonl|uploads/[A-Za-z0-9_-]{1,64}")


def is_part(name: str) -> bool:
    """Whether an archive can have a part of that name."""
    return _PART_NAME.fullmatch(name) is not None


def _checked_name(name: str) -> str:
    if not is_part(name):
        raise ValueError(f"{name!r:.100} is no name of a part")
    return name


PartName = Annotated[str, AfterValidator(_checked_name)]


class Part(BaseModel):
    """A file in the archive; `size` in bytes."""

    model_config = ConfigDict(frozen=True)

    size: NonNegativeInt
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Schema(BaseModel):
    """A schema of the database: its Alembic revision, and the rows of each table."""

    model_config = ConfigDict(frozen=True)

    revision: str | None
    tables: Mapping[str, NonNegativeInt]


class Manifest(BaseModel):
    """What a dump holds.

    Attributes:
        postgresql: the server's major version.
        messages: how many, by queue.
        upload_store_url: where uploads were kept; their addresses begin with it.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = FORMAT
    created_at: AwareDatetime
    postgresql: Annotated[int, Field(ge=10)]
    schemas: Mapping[str, Schema]
    messages: Mapping[str, NonNegativeInt]
    upload_store_url: str
    parts: Mapping[PartName, Part]

    @property
    def uploads(self) -> list[str]:
        """The names of the uploads."""
        return [name.removeprefix(UPLOADS) for name in self.parts if name.startswith(UPLOADS)]


def part_of(file: Path) -> Part:
    """Size and sum of a file."""
    with file.open("rb") as content:
        digest = file_digest(content, "sha256")
        return Part(size=content.tell(), sha256=digest.hexdigest())


def write(file: Path, manifest: Manifest, sources: Mapping[str, Path], at: datetime) -> None:
    """Write the archive, which only its owner can read: all of it or nothing.

    `sources` names the file of every part. Raises OSError.
    """
    unfinished = file.with_name(f".{file.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with (
            os.fdopen(descriptor, "wb") as raw,
            gzip.GzipFile("", "wb", _COMPRESSION, raw, at.timestamp()) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            contents = manifest.model_dump_json(indent=2).encode()
            tar.addfile(_entry(_MANIFEST, len(contents), at.timestamp()), io.BytesIO(contents))
            for name, part in manifest.parts.items():
                source = sources[name]
                entry = _entry(name, part.size, source.stat().st_mtime)
                with source.open("rb") as content:
                    tar.addfile(entry, content)
        with unfinished.open("rb") as written:
            os.fsync(written.fileno())
        unfinished.replace(file)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def read(file: Path, into: Path | None = None) -> Manifest:
    """Check the whole archive, and unpack its parts into the folder `into` if there is one.

    Raises DumpError, also for a file that cannot be read; what has been unpacked until then stays
    in the folder.
    """
    try:
        with gzip.open(file, "rb") as unpacked:
            bounded = _Bounded(unpacked, _MANIFEST_LIMIT + _OVERHEAD)
            with tarfile.open(fileobj=bounded, mode="r|") as tar:
                manifest = _read_manifest(file, tar)
                sizes = [part.size for part in manifest.parts.values()]
                bounded.allow(sum(sizes) + _OVERHEAD * (len(sizes) + 2))
                _read_parts(file, tar, manifest, into)
            # the sum at the end of a gzip file is only looked at by who reads that far
            while bounded.read(_PIECE):
                pass
    except FileNotFoundError:
        raise DumpError(f"there is no file {file}") from None
    except IsADirectoryError:
        raise DumpError(f"{file} is a folder; the file of a dump is expected") from None
    except gzip.BadGzipFile as error:
        raise _damaged(file, str(error)) from None
    except (tarfile.TarError, EOFError, zlib.error, _TooLongError) as error:
        raise _damaged(file, str(error) or type(error).__name__) from None
    except OSError as error:
        raise DumpError(f"{error.filename or file}: {error.strerror}") from None
    return manifest


def _read_manifest(file: Path, tar: tarfile.TarFile) -> Manifest:
    entry = tar.next()
    if entry is None or entry.name != _MANIFEST or not entry.isreg():
        raise _damaged(file, f"it does not begin with {_MANIFEST}")
    if entry.size > _MANIFEST_LIMIT:
        raise _damaged(file, f"{_MANIFEST} is too long")
    text = _content(tar, entry).read()
    try:
        said = _Format.model_validate_json(text)
        if said.format > FORMAT:
            raise DumpError(
                f"{file} has format {said.format}; this version reads up to {FORMAT}. "
                "Restore it with the version that made it, or a newer one."
            )
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise _damaged(file, f"{_MANIFEST}: {where}: {first['msg']}") from None
    missing = {DATABASE, MESSAGES} - set(manifest.parts)
    if missing:
        raise _damaged(file, f"{_MANIFEST} does not name {', '.join(sorted(missing))}")
    return manifest


def _read_parts(
    file: Path,
    tar: tarfile.TarFile,
    manifest: Manifest,
    into: Path | None,
) -> None:
    missing = dict(manifest.parts)
    while (entry := tar.next()) is not None:
        part = missing.pop(entry.name, None)
        if part is None:
            raise _damaged(file, f"it holds {entry.name!r:.100}, which is not in its manifest")
        if not entry.isreg() or entry.size != part.size:
            raise _damaged(file, f"{entry.name} is not a file of {part.size} bytes")
        target = None if into is None else into / entry.name
        if _copy(_content(tar, entry), target) != part.sha256:
            raise _damaged(file, f"the content of {entry.name} has changed")
        if target is not None:
            os.utime(target, (entry.mtime, entry.mtime))
    if missing:
        raise _damaged(file, f"it lacks {', '.join(sorted(missing))}")


def _copy(content: IO[bytes], target: Path | None) -> str:
    digest = sha256()
    sink = None
    try:
        if target is not None:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            sink = os.fdopen(os.open(target, flags, 0o600), "wb")
        while piece := content.read(_PIECE):
            digest.update(piece)
            if sink is not None:
                sink.write(piece)
    finally:
        if sink is not None:
            sink.close()
    return digest.hexdigest()


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(entry)
    if content is None:
        raise AssertionError("a regular file has a content")
    return content


def _entry(name: str, size: int, mtime: float) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size
    entry.mode = 0o600
    entry.mtime = int(mtime)
    return entry


def _damaged(file: Path, what: str) -> DumpError:
    return DumpError(f"{file} is no dump of a stack, or it is damaged: {what}. Nothing was done.")


class _Format(BaseModel):
    format: NonNegativeInt


class _TooLongError(Exception):
    """More came out of the file than it may hold."""


class _Readable(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


class _Bounded(io.RawIOBase):
    """Reads no more than it was allowed to: a small file can unpack to any size."""

    def __init__(self, source: _Readable, limit: int) -> None:
        super().__init__()
        self._source = source
        self._left = limit

    def allow(self, more: int) -> None:
        self._left += more

    def read(self, size: int = -1, /) -> Any:
        wanted = self._left + 1 if size < 0 else min(size, self._left + 1)
        piece = self._source.read(wanted)
        self._left -= len(piece)
        if self._left < 0:
            raise _TooLongError("it unpacks to more than it says")
        return piece
