"""Blobs in a folder and in an S3 bucket behave the same."""

import asyncio
import gzip
import io
import os
import resource
import socket
import time
from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import boto3  # pyright: ignore[reportMissingTypeStubs]
import pytest
from moto.server import ThreadedMotoServer
from pydantic import SecretStr, ValidationError
from service_kit import (
    BlobNotFoundError,
    BlobSettings,
    BlobStore,
    ForeignBlobError,
    Outage,
    ServiceSettings,
)

MIB = 1024 * 1024
BUCKET = "uploads"


class TornError(Exception):
    """The client has gone."""


@dataclass
class Bucket:
    endpoint: str
    client: Any
    prefixes: list[str] = field(default_factory=list[str])


@pytest.fixture(scope="module")
def bucket() -> Generator[Bucket]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = cast("Any", boto3).client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="someone",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=BUCKET)
    yield Bucket(endpoint, client)
    client.close()
    server.stop()


class Kept:
    """A store, and what it keeps seen from outside."""

    def __init__(self, store: BlobStore, *, folder: Path | None, bucket: Bucket | None) -> None:
        self.store = store
        self._folder = folder
        self._bucket = bucket

    def add_by_hand(self, name: str) -> None:
        """A file or object that no `put` made."""
        if self._folder is not None:
            (self._folder / name).write_bytes(b"x")
            return
        assert self._bucket is not None
        self._bucket.client.put_object(Bucket=BUCKET, Key=f"a/b/{name}", Body=b"x")

    def everything(self) -> list[str]:
        """Names of all files or objects, unfinished ones too."""
        if self._folder is not None:
            return sorted(path.name for path in self._folder.rglob("*"))
        assert self._bucket is not None
        client = self._bucket.client
        return [
            item["Key"].removeprefix("a/b/")
            for listing in (
                client.list_objects_v2(Bucket=BUCKET).get("Contents", []),
                client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []),
            )
            for item in listing
        ]


@pytest.fixture(params=["folder", "s3"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Kept]:
    if request.param == "folder":
        folder = tmp_path / "some where" / "uploads"
        yield Kept(BlobStore.from_url(folder.as_uri()), folder=folder, bucket=None)
        return
    bucket: Bucket = request.getfixturevalue("bucket")
    store = BlobStore.from_url(
        f"s3://{BUCKET}/a/b",
        s3_endpoint=bucket.endpoint,
        s3_region="us-east-1",
        s3_access_key_id="someone",
        s3_secret_access_key=SecretStr("secret"),
        allow_http=True,
    )
    yield Kept(store, folder=None, bucket=bucket)
    for item in bucket.client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        bucket.client.delete_object(Bucket=BUCKET, Key=item["Key"])


async def chunks_of(content: bytes, size: int = 65536) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def zeros(megabytes: int) -> AsyncIterator[bytes]:
    chunk = bytes(65536)
    for _ in range(megabytes * 16):
        yield chunk


async def torn(megabytes: int) -> AsyncIterator[bytes]:
    async for chunk in zeros(megabytes):
        yield chunk
    raise TornError


async def endless(megabytes: int, reached: asyncio.Event) -> AsyncIterator[bytes]:
    async for chunk in zeros(megabytes):
        yield chunk
    reached.set()
    await asyncio.sleep(60)


async def read(store: BlobStore, uri: str) -> bytes:
    def read_all() -> bytes:
        with store.open(uri) as file:
            return file.read()

    return await asyncio.to_thread(read_all)


async def test_what_was_put_is_read_again(kept: Kept) -> None:
    content = os.urandom(12 * MIB + 1)
    blob = await kept.store.put("import-1", chunks_of(content))
    assert blob.size == len(content)
    assert blob.sha256 == sha256(content).hexdigest()
    assert blob.uri.endswith("/import-1")
    assert await kept.store.size(blob.uri) == len(content)
    assert await read(kept.store, blob.uri) == content
    assert kept.everything() == ["import-1"]


async def test_an_empty_blob(kept: Kept) -> None:
    blob = await kept.store.put("empty", chunks_of(b""))
    assert (blob.size, await kept.store.size(blob.uri)) == (0, 0)
    assert await read(kept.store, blob.uri) == b""


async def test_a_blob_takes_the_place_of_one_with_the_same_name(kept: Kept) -> None:
    await kept.store.put("import-1", chunks_of(b"old and longer"))
    blob = await kept.store.put("import-1", chunks_of(b"new"))
    assert await read(kept.store, blob.uri) == b"new"


async def test_a_reader_serves_gzip_lines_and_seeking(kept: Kept) -> None:
    lines = [f"{n},{os.urandom(20).hex()}\n".encode() for n in range(60_000)]
    plain = await kept.store.put("plain", chunks_of(b"".join(lines)))
    packed = await kept.store.put("packed", chunks_of(gzip.compress(b"".join(lines), 1)))

    def check() -> None:
        with kept.store.open(plain.uri) as file:
            assert list(file) == lines
            file.seek(sum(map(len, lines[:40_000])))
            assert file.readline() == lines[40_000]
            assert file.seek(-len(lines[-1]), io.SEEK_END) == plain.size - len(lines[-1])
            assert file.read() == lines[-1]
            assert file.read() == b""
        with kept.store.open(packed.uri) as file, gzip.GzipFile(fileobj=file) as unpacked:
            assert list(unpacked) == lines

    await asyncio.to_thread(check)


async def test_fifty_megabytes_pass_through_little_memory(kept: Kept) -> None:
    # The S3 server lives in this process and holds what it was given.
    held_by_server = 50 if kept.store.uri_of("x").startswith("s3:") else 0
    await kept.store.put("warm-up", zeros(12))
    before = resident()
    peak = before

    async def watched() -> AsyncIterator[bytes]:
        nonlocal peak
        async for chunk in zeros(50):
            yield chunk
            peak = max(peak, resident())

    blob = await kept.store.put("large", watched())
    assert blob.size == 50 * MIB
    assert (peak - before) / MIB < held_by_server + 45


def resident() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def test_a_source_that_fails_leaves_nothing_behind(kept: Kept) -> None:
    with pytest.raises(TornError):
        await kept.store.put("torn", torn(12))
    assert kept.everything() == []


async def test_a_source_that_fails_like_a_disk_is_not_taken_for_the_store(kept: Kept) -> None:
    async def reset() -> AsyncIterator[bytes]:
        yield bytes(2 * MIB)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await kept.store.put("torn", reset())
    assert kept.everything() == []


@pytest.mark.parametrize("megabytes", [0, 2, 12])
async def test_a_cancelled_put_leaves_nothing_behind(kept: Kept, megabytes: int) -> None:
    reached = asyncio.Event()
    putting = asyncio.create_task(kept.store.put("cancelled", endless(megabytes, reached)))
    await asyncio.wait_for(reached.wait(), 20)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert kept.everything() == []


async def test_a_put_cancelled_at_any_moment_leaves_nothing_behind(kept: Kept) -> None:
    for delay in (0.0, 0.001, 0.005, 0.01, 0.02, 0.04, 0.08):
        putting = asyncio.create_task(kept.store.put("cancelled", zeros(12)))
        await asyncio.sleep(delay)
        if putting.cancel():
            with pytest.raises(asyncio.CancelledError):
                await putting
            assert kept.everything() == []


async def test_deleting_what_is_missing_is_fine(kept: Kept) -> None:
    blob = await kept.store.put("import-1", chunks_of(b"x"))
    await kept.store.delete(blob.uri)
    await kept.store.delete(blob.uri)
    assert kept.everything() == []


async def test_a_missing_blob_is_said_to_be_missing(kept: Kept) -> None:
    uri = kept.store.uri_of("nowhere")
    with pytest.raises(BlobNotFoundError, match="nowhere does not exist"):
        await kept.store.size(uri)
    with pytest.raises(BlobNotFoundError):
        await read(kept.store, uri)


async def test_a_blob_deleted_while_it_is_read(kept: Kept) -> None:
    blob = await kept.store.put("import-1", chunks_of(os.urandom(5 * MIB)))
    file = await asyncio.to_thread(kept.store.open, blob.uri)
    assert len(await asyncio.to_thread(file.read, 10)) == 10
    await kept.store.delete(blob.uri)
    with pytest.raises(BlobNotFoundError):
        await asyncio.to_thread(file.read)
    file.close()


@pytest.mark.parametrize(
    "foreign",
    [
        "file:///etc/passwd",
        "/etc/passwd",
        "s3://elsewhere/a/b/import-1",
        "https://example.org/import-1",
        "",
        "{base}",
        "{base}../import-1",
        "{base}..",
        "{base}deeper/import-1",
        "{base}%2e%2e%2fimport-1",
        "{base}import-1\n",
        "{base}import-1?versionId=1",
        "{base}import-1#1",
        "{base}/etc/passwd",
    ],
)
async def test_only_blobs_of_the_store_itself_are_touched(kept: Kept, foreign: str) -> None:
    await kept.store.put("import-1", chunks_of(b"x"))
    uri = foreign.replace("{base}", kept.store.uri_of("x")[:-1])
    for touch in (kept.store.size, kept.store.delete):
        with pytest.raises(ForeignBlobError, match="is not in the upload store: expected"):
            await touch(uri)
    with pytest.raises(ForeignBlobError):
        kept.store.open(uri)
    assert kept.everything() == ["import-1"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "a" * 65, "ä", "a.csv", "a#1"])
async def test_names_are_checked(kept: Kept, name: str) -> None:
    with pytest.raises(ValueError, match="is no name for a blob"):
        await kept.store.put(name, chunks_of(b"x"))
    assert kept.everything() == []


async def test_purging_deletes_only_what_is_old(kept: Kept) -> None:
    old = await kept.store.put("old", chunks_of(b"x"))
    assert await kept.store.purge(timedelta(hours=1)) == 0
    await asyncio.sleep(8.1)  # S3 tells the time in whole seconds
    new = await kept.store.put("new", chunks_of(b"x"))
    assert await kept.store.purge(timedelta(seconds=7)) == 1
    assert kept.everything() == ["new"]
    assert await kept.store.size(new.uri) == 1
    with pytest.raises(BlobNotFoundError):
        await kept.store.size(old.uri)


async def test_what_is_not_of_the_store_is_never_purged(kept: Kept) -> None:
    await kept.store.put("old", chunks_of(b"x"))
    await asyncio.sleep(1.1)
    kept.add_by_hand("notes.txt")
    assert await kept.store.purge(timedelta(0)) == 1
    assert kept.everything() == ["notes.txt"]


async def test_a_store_that_is_there_answers_a_ping(kept: Kept) -> None:
    await kept.store.ping()


async def test_purging_deletes_the_remains_of_killed_uploads(tmp_path: Path) -> None:
    store = BlobStore.from_url(tmp_path.as_uri())
    for name, age in (("import-1#1", 7200), ("import-2#1", 10)):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (time.time() - age, time.time() - age))
    assert await store.purge(timedelta(hours=1)) == 1
    assert os.listdir(tmp_path) == ["import-2#1"]  # noqa: PTH208


def test_a_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "uploads"
    BlobStore.from_url(folder.as_uri())
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.fixture
def small_disk() -> Generator[None]:
    """No file of this process may grow beyond 6 MB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6 * MIB, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_disk")
async def test_a_full_disk_is_an_outage(tmp_path: Path) -> None:
    store = BlobStore.from_url(tmp_path.as_uri())
    with pytest.raises(Outage, match=r"upload store is not available: .*File too large"):
        await store.put("import-1", zeros(12))
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_an_unreachable_bucket_is_an_outage() -> None:
    store = BlobStore.from_settings(
        BlobSettings(
            upload_store_url=f"s3://{BUCKET}",
            upload_s3_endpoint=f"http://127.0.0.1:{unused_port()}",
            upload_s3_region="us-east-1",
            upload_s3_access_key_id="someone",
            upload_s3_secret_access_key=SecretStr("secret"),
        )
    )
    uri = store.uri_of("import-1")
    with pytest.raises(Outage, match="upload store is not available"):
        await store.put("import-1", zeros(12))
    for touch in (store.size, store.delete):
        with pytest.raises(Outage):
            await touch(uri)
    with pytest.raises(Outage):
        await asyncio.to_thread(store.open, uri)
    with pytest.raises(Outage):
        await store.purge(timedelta(0))
    with pytest.raises(Outage) as outage:
        await store.ping()
    assert "secret" not in str(outage.value)
    assert "Debug source" not in str(outage.value)


async def test_a_missing_bucket_is_an_outage(bucket: Bucket) -> None:
    store = BlobStore.from_url(
        "s3://no-such-bucket",
        s3_endpoint=bucket.endpoint,
        s3_region="us-east-1",
        s3_access_key_id="someone",
        s3_secret_access_key="secret",
        allow_http=True,
    )
    with pytest.raises(Outage, match="NoSuchBucket"):
        await store.put("import-1", zeros(12))
    with pytest.raises(Outage, match="NoSuchBucket"):
        await store.ping()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "is no upload store"),
        ("uploads", "is no upload store"),
        ("file://host/folder", "is no upload store"),
        ("file:folder", "is no upload store"),
        ("s3:///prefix", "is no upload store"),
        ("s3://bucket/../other", "the prefix may have"),
        ("s3://bucket/a b", "the prefix may have"),
        ("s3://bucket/a?x=y", "neither"),
        ("gs://bucket", "is no upload store"),
        ("file:///proc/uploads", "cannot make the upload store's folder /proc/uploads"),
    ],
)
def test_urls_that_are_no_store(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BlobStore.from_url(url)


class _Settings(ServiceSettings, BlobSettings):
    pass


def test_settings_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {
        "AMQP_URL": "amqp://x",
        "DATABASE_URL": "postgresql://x",
        "UPLOAD_STORE_URL": tmp_path.as_uri(),
        "UPLOAD_S3_SECRET_ACCESS_KEY": "very secret",
        "UPLOAD_S3_ENDPOINT": "",
    }.items():
        monkeypatch.setenv(name, value)
    settings = _Settings()  # pyright: ignore[reportCallIssue] -- the environment fills it
    assert settings.upload_s3_endpoint is None
    assert "very secret" not in repr(settings)
    assert BlobStore.from_settings(settings).uri_of("a") == f"{tmp_path.as_uri()}/a"
    with pytest.raises(ValidationError, match="frozen"):
        settings.upload_store_url = None


def test_a_store_must_be_set() -> None:
    with pytest.raises(ValueError, match="UPLOAD_STORE_URL is not set"):
        BlobStore.from_settings(BlobSettings())
