"""The file of a dump, as it should be and as it may come."""

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from local_stack.dump import DumpError, Manifest
from local_stack.dump.archive import is_part, part_of, read, write

AT = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
CONTENTS = {
    "database.dump": b"PGDMP" + bytes(range(256)) * 100,
    "messages.jsonl": b'{"queue": "a"}\n',
    "uploads/upload-1": "title\nAmélie\n".encode(),
}


def manifest_for(contents: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "format": 1,
        "created_at": "2026-03-04T05:06:00Z",
        "postgresql": 15,
        "schemas": {"catalog": {"revision": "0002", "tables": {"movies": 3}}},
        "messages": {"a": 1},
        "upload_store_url": "file:///old/uploads/",
        "parts": {
            name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in contents.items()
        },
    }


def entry(name: str, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info, content


def pack(
    file: Path,
    manifest: Mapping[str, Any] | bytes,
    entries: list[tuple[tarfile.TarInfo, bytes]],
) -> Path:
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    with tarfile.open(file, "w:gz") as tar:
        for info, content in [entry("manifest.json", text), *entries]:
            tar.addfile(info, io.BytesIO(content))
    return file


def good(folder: Path) -> Path:
    entries = [entry(name, content) for name, content in CONTENTS.items()]
    return pack(folder / "good.tar.gz", manifest_for(CONTENTS), entries)


def refuse(file: Path, what: str, into: Path) -> None:
    for target in (None, into):
        with pytest.raises(DumpError, match=what) as caught:
            read(file, target)
        assert str(file) in str(caught.value)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    sources: dict[str, Path] = {}
    for number, (name, content) in enumerate(CONTENTS.items()):
        sources[name] = tmp_path / str(number)
        sources[name].write_bytes(content)
    os.utime(sources["uploads/upload-1"], (1_700_000_000, 1_700_000_000))
    manifest = Manifest.model_validate(
        manifest_for({}) | {"parts": {name: part_of(path) for name, path in sources.items()}}
    )
    file = tmp_path / "dump.tar.gz"
    write(file, manifest, sources, AT)

    assert file.stat().st_mode & 0o777 == 0o600
    assert read(file) == manifest
    unpacked = tmp_path / "unpacked"
    assert read(file, unpacked) == manifest
    assert {name: (unpacked / name).read_bytes() for name in CONTENTS} == CONTENTS
    assert (unpacked / "uploads/upload-1").stat().st_mtime == 1_700_000_000
    assert manifest.uploads == ["upload-1"]
    with tarfile.open(file) as tar:
        assert tar.getnames() == ["manifest.json", *CONTENTS]


def test_an_archive_that_cannot_be_finished_leaves_nothing(tmp_path: Path) -> None:
    manifest = Manifest.model_validate(manifest_for(CONTENTS))
    folder = tmp_path / "there"
    folder.mkdir()
    with pytest.raises(KeyError):
        write(folder / "dump.tar.gz", manifest, {}, AT)
    assert list(folder.iterdir()) == []


def test_sums_are_those_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"abc")
    part = part_of(tmp_path / "part")
    assert part.size == 3
    assert part.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    "name",
    [
        "../escape",
        "uploads/../../escape",
        "/etc/escape",
        "uploads/",
        "uploads/a/b",
        "uploads/a\n",
        "uploads/.hidden",
        "database.dump\n",
        "messages.jsonl/x",
        "",
    ],
)
def test_a_part_has_no_name_that_leads_elsewhere(tmp_path: Path, name: str) -> None:
    assert not is_part(name)
    contents = {**CONTENTS, name: b"gotcha"}
    named = pack(
        tmp_path / "named.tar.gz",
        manifest_for(contents),
        [entry(key, content) for key, content in contents.items()],
    )
    unnamed = pack(
        tmp_path / "unnamed.tar.gz",
        manifest_for(CONTENTS),
        [entry(key, content) for key, content in contents.items()],
    )
    into = tmp_path / "deep" / "into"
    refuse(named, "is no name of a part", into)
    refuse(unnamed, "not in its manifest|has changed", into)
    assert not list(tmp_path.rglob("*escape*"))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE]
)
def test_a_part_is_a_plain_file(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("database.dump")
    info.type = kind
    info.linkname = "/etc/passwd"
    file = pack(tmp_path / "x.tar.gz", manifest_for(CONTENTS), [(info, b"")])
    refuse(file, "is not a file of", tmp_path / "into")


def test_what_has_changed_or_is_missing_is_named(tmp_path: Path) -> None:
    entries = {name: entry(name, content) for name, content in CONTENTS.items()}
    missing = [entries["database.dump"], entries["uploads/upload-1"]]
    file = pack(tmp_path / "missing.tar.gz", manifest_for(CONTENTS), missing)
    refuse(file, "it lacks messages.jsonl", tmp_path / "a")

    other = entry("database.dump", bytes(len(CONTENTS["database.dump"])))
    changed = [other, entries["messages.jsonl"], entries["uploads/upload-1"]]
    file = pack(tmp_path / "changed.tar.gz", manifest_for(CONTENTS), changed)
    refuse(file, "the content of database.dump has changed", tmp_path / "b")

    shorter = [entry("database.dump", b"PGDMP"), *changed[1:]]
    file = pack(tmp_path / "shorter.tar.gz", manifest_for(CONTENTS), shorter)
    refuse(file, "database.dump is not a file of 25605 bytes", tmp_path / "c")

    twice = [*entries.values(), entries["messages.jsonl"]]
    file = pack(tmp_path / "twice.tar.gz", manifest_for(CONTENTS), twice)
    refuse(file, "holds 'messages.jsonl', which is not in its manifest", tmp_path / "d")


def test_a_file_that_was_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    whole = good(tmp_path).read_bytes()
    assert read(tmp_path / "good.tar.gz").uploads == ["upload-1"]
    for number, length in enumerate(
        [0, 1, 9, 100, len(whole) // 2, len(whole) - 9, len(whole) - 1]
    ):
        file = tmp_path / f"cut-{number}.tar.gz"
        file.write_bytes(whole[:length])
        refuse(file, "damaged", tmp_path / f"into-{number}")


def test_every_flipped_byte_of_the_content_is_noticed(tmp_path: Path) -> None:
    whole = good(tmp_path).read_bytes()
    # the ten bytes in front are gzip's header: a time and a name that nobody reads
    for position in range(30, len(whole), max(1, len(whole) // 40)):
        file = tmp_path / "flipped.tar.gz"
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :])
        with pytest.raises(DumpError):
            read(file)


@pytest.mark.parametrize(
    ("manifest", "what"),
    [
        (b"not json", "manifest.json"),
        (b"[]", "manifest.json"),
        (b'{"format": 1}', "manifest.json: created_at"),
        (manifest_for({}), "does not name database.dump, messages.jsonl"),
        (manifest_for(CONTENTS) | {"postgresql": "fifteen"}, "postgresql"),
        (manifest_for(CONTENTS) | {"format": 2}, "has format 2; this version reads up to 1"),
        (manifest_for(CONTENTS) | {"format": 0}, "format"),
        (
            manifest_for(CONTENTS) | {"parts": {"database.dump": {"size": -1, "sha256": "0" * 64}}},
            "size",
        ),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(
    tmp_path: Path, manifest: Mapping[str, Any] | bytes, what: str
) -> None:
    refuse(pack(tmp_path / "x.tar.gz", manifest, []), what, tmp_path / "into")


def test_other_files_are_refused_in_words(tmp_path: Path) -> None:
    refuse(tmp_path / "nowhere.tar.gz", "there is no file", tmp_path)
    refuse(tmp_path, "is a folder", tmp_path)
    plain = tmp_path / "plain.tar.gz"
    plain.write_bytes(b"title\n" * 1000)
    refuse(plain, "is no dump", tmp_path)
    other = tmp_path / "other.tar.gz"
    with tarfile.open(other, "w:gz") as tar:
        info, content = entry("readme", b"hi")
        tar.addfile(info, io.BytesIO(content))
    refuse(other, "does not begin with manifest.json", tmp_path)
    with gzip.open(plain, "wb") as empty:
        empty.write(b"")
    refuse(plain, "damaged", tmp_path)


@pytest.mark.parametrize("after_the_manifest", [False, True])
def test_a_small_file_cannot_unpack_to_any_size(tmp_path: Path, after_the_manifest: bool) -> None:
    # a name of a gigabyte, which tarfile would read into memory
    long_name = tarfile.TarInfo("././@LongLink")
    long_name.type = tarfile.GNUTYPE_LONGNAME
    long_name.size = 2**30
    manifest = json.dumps(manifest_for(CONTENTS)).encode()
    file = tmp_path / "bomb.tar.gz"
    with gzip.open(file, "wb", 1) as packed:
        if after_the_manifest:
            packed.write(entry("manifest.json", manifest)[0].tobuf())
            packed.write(manifest + bytes(-len(manifest) % 512))
        packed.write(long_name.tobuf(tarfile.GNU_FORMAT))
        for _ in range(64):
            packed.write(bytes(2**20))
    refuse(file, "unpacks to more than it says", tmp_path / "into")
