"""Uploads through the whole application into a real folder, with a recording publisher."""

import gzip
import io
import zipfile
from collections.abc import AsyncGenerator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import pytest
from gateway.uploads import label_of, unlike_text
from moviemetric_contracts import ImportCatalog
from service_kit import PublishError

CSV = b"title,release_date\nHeat,1995-12-15\n"
BOUNDARY = "b0und"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def form(*parts: tuple[str, bytes]) -> bytes:
    """A form of (disposition after form-data, content)."""
    written = [
        b"--b0und\r\nContent-Disposition: form-data; "
        + disposition.encode()
        + b"\r\n\r\n"
        + content
        + b"\r\n"
        for disposition, content in parts
    ]
    return b"".join(written) + b"--b0und--\r\n"


FILE = 'name="file"; filename="films.csv"'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "uploads"


@pytest.fixture
async def client(api_with: Any, signer: Any, folder: Path) -> AsyncGenerator[httpx.AsyncClient]:
    async with api_with(
        headers=signer.bearer("user-admin", "admin"),
        upload_store_url=folder.as_uri(),
        upload_max_bytes=100_000,
    ) as client:
        yield client


def stored(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def check_problem(response: httpx.Response, status: int, words: str, folder: Path) -> None:
    """A problem that says `words`, after which nothing is left in the store."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["connection"] == "close"
    assert words in response.json()["detail"], response.text
    assert stored(folder) == []


@pytest.mark.parametrize("prefix", ["/api/v1", "/api", ""])
async def test_a_file_is_stored_and_its_import_asked_for(
    client: httpx.AsyncClient, publisher: Any, folder: Path, prefix: str
) -> None:
    response = await client.post(f"{prefix}/upload", files={"file": ("films.csv", CSV)})
    assert response.status_code == 202, response.text
    [event] = publisher.events
    assert isinstance(event.data, ImportCatalog)
    job_id = "import-" + event.id.replace("-", "")
    assert response.json() == {
        "event_id": event.id,
        "job_id": job_id,
        "status_url": f"/api/v1/admin/jobs/{job_id}",
    }
    assert event.data.job_id == job_id
    assert event.data.format == "auto"
    assert event.data.filename == "films.csv"
    assert event.data.dry_run is False
    [path] = stored(folder)
    assert path.read_bytes() == CSV
    assert Path(unquote(urlsplit(event.data.uri).path)) == path


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        CSV,
        gzip.compress(CSV, mtime=0),
        b"\xef\xbb\xbf" + CSV,
        CSV.decode().encode("utf-16"),
        b'[{"title": "Heat"}]',
        b"title\x00,year\n",
        b"\n\r\n" * 300,
        "\u30bf\u30a4\u30c8\u30eb,\u5e74\n".encode() * 100,
        "caf\u00e9;1999\n".encode("latin-1"),
        bytes(CSV * 2000)[:100_000],
    ],
)
async def test_text_and_gzip_are_taken_byte_for_byte(
    client: httpx.AsyncClient, folder: Path, content: bytes
) -> None:
    response = await client.post("/upload", files={"file": ("f", content)})
    assert response.status_code == 202, response.text
    [path] = stored(folder)
    assert sha256(path.read_bytes()).digest() == sha256(content).digest()


@pytest.mark.parametrize(
    ("query", "fields", "format_name", "dry_run"),
    [
        ("?format=tmdb5000&dry_run=true", {}, "tmdb5000", True),
        ("", {"format": "imdb-basics", "dry_run": "1"}, "imdb-basics", True),
        ("?format=auto", {"format": "auto", "dry_run": "false"}, "auto", False),
        ("?dry_run=yes", {"dry_run": "on"}, "auto", True),
    ],
)
async def test_options_in_the_query_or_in_the_form(
    client: httpx.AsyncClient,
    publisher: Any,
    query: str,
    fields: dict[str, str],
    format_name: str,
    dry_run: bool,
) -> None:
    before = [(f'name="{name}"', value.encode()) for name, value in fields.items()]
    for body in (form(*before, (FILE, CSV)), form((FILE, CSV), *before)):
        response = await client.post(f"/upload{query}", content=body, headers=FORM)
        assert response.status_code == 202, response.text
        command = publisher.events[-1].data
        assert (command.format, command.dry_run) == (format_name, dry_run)


async def pieces(body: bytes, size: int) -> AsyncGenerator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


@pytest.mark.parametrize("size", [1, 10, 1000])
async def test_a_body_in_pieces_without_a_length(
    client: httpx.AsyncClient, folder: Path, size: int
) -> None:
    content = CSV * 20 + b"\r\n--b0un\r\n--b0und2" + b"\r\n--b0und "[:-1].replace(b"d", b"")
    body = form((FILE, content))
    response = await client.post("/upload", content=pieces(body, size), headers=FORM)
    assert response.status_code == 202, response.text
    assert stored(folder)[0].read_bytes() == content


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("films.csv", CSV)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (zipped(), "ZIP archive or an Excel workbook"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG image"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"\xff\xd8\xff\xe0", "a JPEG image"),
        (b"PAR1" + bytes(50), "a Parquet file"),
        (b"SQLite format 3\x00", "a SQLite database"),
        (b"films.csv".ljust(257, b"\x00") + b"ustar\x0000" + bytes(300), "a tar archive"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (bytes(range(1, 32)) * 20, "binary data"),
    ],
)
async def test_what_is_no_table_is_refused(
    client: httpx.AsyncClient, publisher: Any, folder: Path, content: bytes, words: str
) -> None:
    for size in (3, 10_000):
        body = form((FILE, content))
        response = await client.post("/upload", content=pieces(body, size), headers=FORM)
        check_problem(response, 400, words, folder)
        assert response.json()["errors"][0]["field"] == "file"
    assert publisher.events == []


BAD_FORMS: list[tuple[str, bytes, str]] = [
    ("no file", form(('name="format"', b"auto")), "no part named 'file'"),
    ("no parts", b"--b0und--\r\n", "no part named 'file'"),
    ("two files", form((FILE, CSV), (FILE, CSV)), "more than one file"),
    ("a file elsewhere", form((FILE, CSV), ('name="csv"; filename="x"', CSV)), "'csv'"),
    ("the name instead of the file", form(('name="file"', b"films.csv")), "no file name"),
    ("cut short", form((FILE, CSV * 100))[:1000], "closing boundary"),
    ("cut after the file", form((FILE, CSV))[:-8], "closing boundary"),
    ("a bad part after the file", form((FILE, CSV), ("x=y", b"")), "no Content-Disposition"),
    ("a long field", form((FILE, CSV), ('name="format"', b"x" * 300)), "longer than"),
    ("not a form", CSV, "cannot be read"),
]


@pytest.mark.parametrize(
    ("body", "words"), [case[1:] for case in BAD_FORMS], ids=[case[0] for case in BAD_FORMS]
)
async def test_a_bad_form_leaves_nothing_behind(
    client: httpx.AsyncClient, publisher: Any, folder: Path, body: bytes, words: str
) -> None:
    response = await client.post("/upload", content=body, headers=FORM)
    check_problem(response, 400, words, folder)
    assert publisher.events == []


@pytest.mark.parametrize(
    "content_type", [None, "text/csv", "application/json", "multipart/form-data", "multipart/mixed"]
)
async def test_another_content_type(
    client: httpx.AsyncClient, folder: Path, content_type: str | None
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    response = await client.post("/upload", content=form((FILE, CSV)), headers=headers)
    assert response.status_code == 400
    assert stored(folder) == []


@pytest.mark.parametrize(
    ("query", "field", "content", "named"),
    [
        ("", "format", b"../../etc", "format"),
        ("", "format", b"", "format"),
        ("", "dry_run", b"perhaps", "dry_run"),
        ("", "dryrun", b"true", "dryrun"),
        ("?format=a", "format", b"b", "format"),
        ("?dry_run=true", "dry_run", b"false", "dry_run"),
    ],
)
async def test_a_bad_option_is_named(
    client: httpx.AsyncClient, folder: Path, query: str, field: str, content: bytes, named: str
) -> None:
    body = form((FILE, CSV), (f'name="{field}"', content))
    response = await client.post(f"/upload{query}", content=body, headers=FORM)
    check_problem(response, 422, "", folder)
    assert response.json()["errors"][0]["field"] == named


async def test_options_in_a_bad_query(client: httpx.AsyncClient, folder: Path) -> None:
    for query in ("format=%00", "format=" + "x" * 51, "dry_run=maybe"):
        response = await client.post(f"/upload?{query}", files={"file": ("f", CSV)})
        assert response.status_code == 422
        assert stored(folder) == []


async def test_a_file_above_the_limit(
    client: httpx.AsyncClient, publisher: Any, folder: Path
) -> None:
    """100,000 bytes are the limit in these tests, with 64 KiB for the form around the file."""
    exact = await client.post("/upload", files={"file": ("f", b"x" * 100_000)})
    assert exact.status_code == 202
    for path in stored(folder):
        path.unlink()
    publisher.published.clear()
    one_more = form((FILE, b"x" * 100_001))
    check_problem(
        await client.post("/upload", content=one_more, headers=FORM), 413, "100000 bytes", folder
    )
    announced = await client.post(
        "/upload", content=form((FILE, b"x" * 200_000)), headers={**FORM, "content-length": "1"}
    )
    check_problem(announced, 413, "100000 bytes", folder)
    epilogue = form((FILE, CSV)) + b"x" * 200_000
    check_problem(
        await client.post("/upload", content=pieces(epilogue, 5000), headers=FORM),
        413,
        "100000 bytes",
        folder,
    )
    # By its announced length, before anything is read.
    read: list[bytes] = []

    async def body() -> AsyncGenerator[bytes]:
        read.append(b"")
        yield form((FILE, CSV))

    headers = {**FORM, "content-length": "1000000"}
    check_problem(
        await client.post("/upload", content=body(), headers=headers), 413, "100000 bytes", folder
    )
    assert publisher.events == []


async def test_an_import_that_is_not_confirmed_leaves_no_file(
    client: httpx.AsyncClient, publisher: Any, folder: Path
) -> None:
    publisher.error = PublishError("no confirm")
    response = await client.post("/upload", files={"file": ("f", CSV)})
    check_problem(response, 503, "did not confirm", folder)
    assert int(response.headers["Retry-After"]) >= 1


async def test_without_a_store(admin_api: httpx.AsyncClient, publisher: Any) -> None:
    response = await admin_api.post("/upload", files={"file": ("f", CSV)})
    assert response.status_code == 503
    assert "UPLOAD_STORE_URL" in response.json()["detail"]
    assert publisher.events == []


async def test_a_store_that_is_away(
    api_with: Any, signer: Any, publisher: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "uploads"
    headers = signer.bearer("user-admin", "admin")
    async with api_with(headers=headers, upload_store_url=folder.as_uri()) as client:
        folder.rmdir()
        folder.write_text("a file where the folder should be")
        response = await client.post("/upload", files={"file": ("f", CSV)})
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    assert publisher.events == []


async def test_the_same_request_with_the_same_key_is_the_same_job(
    client: httpx.AsyncClient, publisher: Any
) -> None:
    headers = {"Idempotency-Key": "k"}

    async def upload(content: bytes, **fields: str) -> str:
        answer = await client.post(
            "/upload", files={"file": ("f", content)}, data=fields, headers=headers
        )
        return answer.json()["job_id"]

    first = await upload(CSV)
    assert await upload(CSV) == first
    assert await upload(CSV + b"x") != first
    assert await upload(CSV, dry_run="true") != first
    ids = [event.id for event in publisher.events]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    ("filename", "label"),
    [
        ("films.csv", "films.csv"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\films.csv", "films.csv"),
        ("/", None),
        ("", None),
        ("..", None),
        ("a\x00b\n\u202ec.csv", "abc.csv"),
        ("e\u0301.csv", "\u00e9.csv"),
        ("x" * 300, "x" * 200),
    ],
)
def test_a_file_name_is_only_a_label(filename: str, label: str | None) -> None:
    assert label_of(filename) == label


def test_gzip_and_marked_text_pass_whatever_follows() -> None:
    for start in (b"\x1f\x8b", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf"):
        assert unlike_text(start + bytes(range(1, 32)) * 16) is None
