"""A real stack is exported, and another one is made from that, with all services."""

import json
import os
import shutil
import tarfile
from collections.abc import Generator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from local_stack import importing
from local_stack.access import RefusedError
from local_stack.dump import DumpError, Manifest, export_dump, import_dump
from local_stack.dump.messages import copy_messages, depths
from local_stack.ports import free_port
from local_stack.processes import StartError, wait_for
from local_stack.settings import PREFERRED_PORTS, Home, Settings
from local_stack.stack import Stack, UnfinishedRestoreError
from psycopg import sql

ROOT = Path(__file__).parents[4]
SAMPLE = ROOT / "deploy" / "sample-catalogue" / "movies.jsonl"
FILMS = 30
PARKED = [f"not json {number}" for number in range(3)]
WAITING_ROWS = "title,year\nA Film that Waits,1999\nAnother One,2001\n"
FAILED_ROWS = "title\nNo Such Format\n"
# what happens by the clock would depend on the time of day at which the tests run
_NO_CLOCK = {
    f"SCHEDULE_{name}": "off"
    for name in (
        *("INGEST", "TRENDING", "GENRE_STATS", "RATINGS_BY_DECADE"),
        *("INDEX_REBUILD", "RECOMMENDATIONS"),
    )
}
# what changes when the services start: the import that waited is done, and events are claimed;
# looking at the copy takes signing in
CHANGING = {"catalog.jobs", "catalog.inbox", "catalog.outbox", "rating.sessions"}

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Exported:
    """A stack that was exported, and the file."""

    stack: Stack
    file: Path
    manifest: Manifest
    running: set[str]
    failed_job: str
    waiting_job: str


@dataclass(frozen=True)
class Copy:
    """A stack that was made from the file."""

    stack: Stack
    said: list[str]

    def api(self) -> httpx.Client:
        """A client of its gateway."""
        return client_of(self.stack)


def stack_in(folder: Path, name: str, sample: Path | None, said: list[str]) -> Stack:
    """A stack on ports of its own."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("TMDB_")}
    environ = {**inherited, **_NO_CLOCK}
    home = Home(folder / name)
    home.create()
    settings = Settings.load(home, {})
    settings.ports = {port: free_port() for port in PREFERRED_PORTS}
    settings.save(home)
    return Stack(ROOT, home, environ, say=said.append, sample=sample)


def client_of(stack: Stack) -> httpx.Client:
    settings = stack.settings()
    base, auth = settings.http("GATEWAY"), stack.administrator(settings)
    return httpx.Client(base_url=base, auth=auth, timeout=30.0, trust_env=False)


def rows(stack: Stack) -> dict[str, list[str]]:
    """Every table with all its rows as text, in an order that does not depend on storage."""
    with psycopg.connect(stack.settings().connections()["DATABASE_URL"]) as connection:
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables"
            " WHERE schemaname IN ('catalog', 'rating', 'compute', 'search') ORDER BY 1, 2"
        ).fetchall()
        return {
            f"{schema}.{table}": [
                str(row[0])
                for row in connection.execute(
                    sql.SQL("SELECT t::text FROM {} AS t ORDER BY 1").format(
                        sql.Identifier(schema, table)
                    )
                )
            ]
            for schema, table in tables
        }


def parked(stack: Stack, folder: Path) -> list[dict[str, Any]]:
    """The parked messages, which stay."""
    file = folder / "parked.jsonl"
    copy_messages(stack.servers(stack.settings()).rabbit, file)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [line for line in lines if line["queue"].endswith(".dead")]


def publish_nonsense(stack: Stack) -> None:
    servers = stack.servers(stack.settings())
    with servers.rabbit.management() as client:
        for payload in PARKED:
            message = {
                "routing_key": "movie.viewed.v1",
                "payload": payload,
                "payload_encoding": "string",
                "properties": {"headers": {"x-note": "é"}},
            }
            answer = client.post("/api/exchanges/%2F/moviemetric.events/publish", json=message)
            assert answer.json() == {"routed": True}
    queue = "compute-service.movie-viewed.dead"
    assert wait_for(lambda: depths(servers.rabbit)[queue] == len(PARKED), 20.0, every=0.2)


@pytest.fixture(scope="module")
def exported(guarded_folder: Path) -> Exported:
    sample = guarded_folder / "sample.jsonl"
    with SAMPLE.open() as films, sample.open("w") as some:
        some.writelines(line for line, _ in zip(films, range(FILMS), strict=False))
    stack = stack_in(guarded_folder, "first", sample, [])
    stack.up()
    publish_nonsense(stack)
    failed = guarded_folder / "failed.csv"
    failed.write_text(FAILED_ROWS)
    waiting = guarded_folder / "waiting.csv"
    waiting.write_text(WAITING_ROWS)
    with client_of(stack) as client:
        client.post("/api/v1/movies/view", json={"tmdb_id": 27205}).raise_for_status()
        failed_job = importing.upload(client, failed, format="nonsense", dry_run=False)
        assert importing.follow(client, failed_job)["state"] == "failed"
        stack.stop_services(["ingest-service"])
        waiting_job = importing.upload(client, waiting, format="auto", dry_run=True)
    before = set(stack.running_services())
    file = guarded_folder / "dump.tar.gz"
    manifest = export_dump(stack, file, say=lambda _: None, drain_seconds=5.0)
    running = set(stack.running_services())
    assert running == before
    stack.stop_services()
    return Exported(stack, file, manifest, running, failed_job, waiting_job)


@pytest.fixture(scope="module")
def copy(exported: Exported, guarded_folder: Path) -> Generator[Copy]:
    said: list[str] = []
    stack = stack_in(guarded_folder, "second", None, said)
    import_dump(stack, exported.file, say=said.append)
    with client_of(stack) as client, pytest.raises(RefusedError, match="ADMIN_PASSWORD"):
        client.get("/api/v1/admin/jobs")
    # as the output of the command says
    settings = stack.settings()
    settings.admin_password = exported.stack.settings().admin_password
    settings.save(stack.home)
    yield Copy(stack, said)
    stack.reset()


def test_the_services_run_on_as_before(exported: Exported) -> None:
    assert exported.running == {
        "tmdb-standin",
        "rating-service",
        "compute-service",
        "scheduler",
        "search-indexer",
        "gateway",
    }


def test_the_manifest_counts_what_is_there(exported: Exported) -> None:
    there = rows(exported.stack)
    counted = {
        f"{name}.{table}": count
        for name, schema in exported.manifest.schemas.items()
        for table, count in schema.tables.items()
    }
    assert {table: len(found) for table, found in there.items()} == counted
    assert counted["catalog.movies"] == counted["compute.movies"] == FILMS
    assert exported.manifest.messages["compute-service.movie-viewed.dead"] == len(PARKED)
    assert exported.manifest.messages["ingest-service.jobs"] == 1
    assert len(exported.manifest.uploads) == 2
    assert exported.file.stat().st_mode & 0o777 == 0o600


def test_every_table_has_the_same_rows(exported: Exported, copy: Copy) -> None:
    with copy.api() as client:
        assert importing.follow(client, exported.waiting_job)["state"] == "succeeded"
    before, after = rows(exported.stack), rows(copy.stack)
    assert before.keys() == after.keys()
    differing = {table for table in before if before[table] != after[table]}
    assert differing <= CHANGING
    assert set(before["catalog.inbox"]) < set(after["catalog.inbox"])


def test_accounts_are_the_dumps_and_keys_the_stacks_own(exported: Exported, copy: Copy) -> None:
    first, second = exported.stack.home.token_keys, copy.stack.home.token_keys
    assert {file.suffix for file in second.iterdir()} == {".pem"}
    assert not {file.name for file in first.iterdir()} & {file.name for file in second.iterdir()}
    with tarfile.open(exported.file) as tar:
        assert not [name for name in tar.getnames() if "pem" in name or "key" in name]
    _, _, token = exported.stack.home.admin_token.read_text().split()
    with copy.api() as client:
        assert client.get("/api/v1/users/me").json()["role"] == "admin"
        old = httpx.get(
            f"{copy.stack.settings().http('GATEWAY')}/api/v1/users/me",
            headers={"authorization": f"Bearer {token}"},
            trust_env=False,
        )
    assert old.status_code == 401


def test_the_films_are_served(copy: Copy) -> None:
    with copy.api() as client:
        films = client.get("/api/v1/movies", params={"limit": 100}).json()
        chart = client.get("/api/v1/movies/trending", params={"limit": 1}).json()
        title = films["items"][0]["title"]
        hits = client.get("/api/v1/search", params={"q": title}).json()["hits"]
    assert films["total"] == FILMS
    assert chart["total"] == FILMS
    assert title in {hit["title"] for hit in hits}


def test_parked_messages_are_parked_in_both(exported: Exported, copy: Copy, tmp_path: Path) -> None:
    first, second = parked(exported.stack, tmp_path), parked(copy.stack, tmp_path)
    assert first == second
    assert len(first) == len(PARKED)
    assert all(line["headers"]["x-reason"].startswith("malformed event") for line in first)
    assert {line["headers"]["x-original-routing-key"] for line in first} == {"movie.viewed.v1"}


def test_an_import_that_waited_is_done_in_the_copy(exported: Exported, copy: Copy) -> None:
    with copy.api() as client:
        job = importing.follow(client, exported.waiting_job)
    assert job["state"] == "succeeded"
    assert job["result"]["new"] == 2


def test_uploads_that_are_kept_move_into_the_new_home(exported: Exported, copy: Copy) -> None:
    uploads = copy.stack.home.uploads
    with psycopg.connect(copy.stack.settings().connections()["DATABASE_URL"]) as connection:
        found = connection.execute(
            "SELECT request->>'uri' FROM catalog.jobs WHERE job_id = %s", [exported.failed_job]
        ).fetchone()
    assert found is not None
    name = found[0].removeprefix(f"{uploads.as_uri()}/")
    assert (uploads / name).read_text() == FAILED_ROWS
    assert (uploads / name).stat().st_mode & 0o777 == 0o600
    assert uploads.stat().st_mode & 0o777 == 0o700
    # the other one was imported, and is deleted
    assert wait_for(lambda: [path.name for path in uploads.iterdir()] == [name], 20.0, every=0.2)


def test_a_stack_with_data_is_not_overwritten(exported: Exported, copy: Copy) -> None:
    pids = {name: process.pid for name, process in copy.stack.running_services().items()}
    before = rows(copy.stack)
    with pytest.raises(DumpError, match=r"has data in the database.*FORCE=1.*Nothing was done"):
        import_dump(copy.stack, exported.file, say=copy.said.append)
    assert {name: p.pid for name, p in copy.stack.running_services().items()} == pids
    assert rows(copy.stack) == before


def test_an_existing_file_is_not_overwritten(exported: Exported) -> None:
    before = exported.file.read_bytes()
    with pytest.raises(DumpError, match="exists already"):
        export_dump(exported.stack, exported.file, say=lambda _: None)
    assert exported.file.read_bytes() == before


def repacked(exported: Exported, file: Path, *, revision: str, database: bytes | None) -> Path:
    """The dump with another revision of a schema, or another content with the right sums."""
    parts = file.with_suffix("")
    with tarfile.open(exported.file) as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is not None:
                unpacked = parts / member.name
                unpacked.parent.mkdir(parents=True, exist_ok=True)
                unpacked.write_bytes(content.read())
    manifest = json.loads((parts / "manifest.json").read_text())
    manifest["schemas"]["compute"]["revision"] = revision
    if database is not None:
        (parts / "database.dump").write_bytes(database)
        sums = {"size": len(database), "sha256": sha256(database).hexdigest()}
        manifest["parts"]["database.dump"] = sums
    (parts / "manifest.json").write_text(json.dumps(manifest))
    with tarfile.open(file, "w:gz") as tar:
        for name in ("manifest.json", *manifest["parts"]):
            tar.add(parts / name, name)
    shutil.rmtree(parts)
    return file


def test_a_dump_that_is_newer_than_the_code_is_refused(exported: Exported, tmp_path: Path) -> None:
    newer = repacked(exported, tmp_path / "newer.tar.gz", revision="9999", database=None)
    stack = Stack(ROOT, Home(tmp_path / "home"), os.environ, say=lambda _: None)
    with pytest.raises(DumpError, match="does not know revision 9999 of the schema compute"):
        import_dump(stack, newer, force=True, say=lambda _: None)
    assert not stack.home.folder.exists()


def test_a_restore_that_fails_leaves_a_stack_that_does_not_start(
    exported: Exported, copy: Copy, guarded_folder: Path, tmp_path: Path
) -> None:
    revision = exported.manifest.schemas["compute"].revision
    assert revision is not None
    broken = repacked(
        exported, tmp_path / "broken.tar.gz", revision=revision, database=b"PGDMP nonsense"
    )
    stack = copy.stack
    with pytest.raises(StartError, match="pg_restore failed"):
        import_dump(stack, broken, force=True, say=copy.said.append)
    assert copy.said[-1] == str(UnfinishedRestoreError())
    assert any("FORCE=1" in line and "deleting all data" in line for line in copy.said)
    with pytest.raises(UnfinishedRestoreError):
        stack.up()
    with pytest.raises(UnfinishedRestoreError):
        import_dump(stack, exported.file, say=copy.said.append)
    with pytest.raises(UnfinishedRestoreError):
        export_dump(stack, guarded_folder / "half.tar.gz", say=copy.said.append)
    assert stack.running_services() == {}


def test_a_forced_restore_keeps_the_administrators_password(exported: Exported, copy: Copy) -> None:
    stack = copy.stack
    password = stack.settings().admin_password
    import_dump(stack, exported.file, force=True, say=copy.said.append)
    assert stack.settings().admin_password == password
    with copy.api() as client:
        assert client.get("/api/v1/admin/jobs").status_code == 200
