import gzip
import io
import random
import zlib

import pytest
from ingest_service.reading import BadRow, Limits, Row, Table, UnreadableFileError, open_table

TABLE = b"id,title,year\n1,Heat,1995\n2,Up,2009\n"
ROWS = [Row(2, ["1", "Heat", "1995"]), Row(3, ["2", "Up", "2009"])]


def open_bytes(data: bytes, limits: Limits | None = None) -> Table:
    return open_table(io.BytesIO(data), limits or Limits())


def why_not(data: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(UnreadableFileError) as caught:
        open_bytes(data, limits)
    assert str(caught.value) == caught.value.reason
    return caught.value.reason


def read_until_failure(data: bytes, limits: Limits | None = None) -> tuple[list[object], str]:
    rows: list[object] = []
    table = open_bytes(data, limits)
    with pytest.raises(UnreadableFileError) as caught:
        rows.extend(table)
    return rows, caught.value.reason


def many_rows(count: int) -> bytes:
    source = random.Random(1)
    lines = (f"{number},{source.random()},1995\n" for number in range(count))
    return b"id,title,year\n" + "".join(lines).encode()


# --- gzip


def test_gzip_of_several_members_with_padding() -> None:
    table = open_bytes(gzip.compress(TABLE[:20]) + b"\0" * 600 + gzip.compress(TABLE[20:]) + b"\0")
    assert table.compressed
    assert list(table) == ROWS


def test_bytes_read_counts_compressed_bytes() -> None:
    packed = gzip.compress(many_rows(200_000))
    table = open_bytes(packed)
    assert 0 < table.bytes_read < len(packed) / 2
    assert sum(1 for _ in table) == 200_000
    assert table.bytes_read == len(packed)


def test_truncated_gzip_gives_the_rows_before_its_end() -> None:
    data = many_rows(50_000)
    packed = gzip.compress(data)
    rows, reason = read_until_failure(packed[: len(packed) // 2])
    assert 20_000 < len(rows) < 30_000
    assert [row.line for row in rows if isinstance(row, Row)] == list(range(2, len(rows) + 2))
    lines = data.decode().split("\n")
    last = rows[-1]
    assert isinstance(last, Row)
    assert ",".join(last.cells) == lines[len(rows)]
    assert "ends in the middle" in reason


def test_small_truncated_gzip() -> None:
    unpacker = zlib.compressobj(level=0, wbits=31)
    packed = unpacker.compress(TABLE) + unpacker.flush()
    rows, reason = read_until_failure(packed[:-10])
    assert rows == ROWS[:1]
    assert "ends in the middle" in reason
    assert "ends in the middle" in why_not(packed[:14])
    assert "ends in the middle" in why_not(b"\x1f\x8b")


def test_damaged_gzip() -> None:
    packed = bytearray(gzip.compress(many_rows(50_000)))
    packed[-6] ^= 1
    rows, reason = read_until_failure(bytes(packed))
    assert len(rows) > 30_000
    assert "damaged" in reason
    assert "damaged" in why_not(b"\x1f\x8b\x08\0" + bytes(range(100)))


def test_garbage_after_gzip() -> None:
    rows, reason = read_until_failure(gzip.compress(TABLE) + b"garbage")
    assert rows == ROWS
    assert "damaged" in reason


def test_gzip_of_gzip() -> None:
    assert "gzip file within a gzip file" in why_not(gzip.compress(gzip.compress(TABLE)))


def test_gzip_of_too_many_empty_members() -> None:
    rows, reason = read_until_failure(gzip.compress(TABLE) + 20_000 * gzip.compress(b""))
    assert rows == ROWS
    assert "too many almost empty parts" in reason


def test_gzip_larger_than_the_limit() -> None:
    packed = gzip.compress(many_rows(50_000))
    rows, reason = read_until_failure(packed, Limits(unpacked_bytes=500_000))
    assert 1_000 < len(rows) < 50_000
    assert "larger than 500,000 bytes when unpacked" in reason


# --- encodings


@pytest.mark.parametrize(
    ("encoding", "bom", "name"),
    [
        ("utf-8", b"\xef\xbb\xbf", "utf-8"),
        ("utf-16-le", b"\xff\xfe", "utf-16-le"),
        ("utf-16-be", b"\xfe\xff", "utf-16-be"),
    ],
)
def test_byte_order_marks(encoding: str, bom: bytes, name: str) -> None:
    text = "id,title,year\r\n1,Amélie 😀,2001\r\n"
    for data in (bom + text.encode(encoding), gzip.compress(bom + text.encode(encoding))):
        table = open_bytes(data)
        assert (table.header, table.encoding) == (("id", "title", "year"), name)
        assert list(table) == [Row(2, ["1", "Amélie 😀", "2001"])]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark(encoding: str) -> None:
    assert "UTF-16 without a byte order mark" in why_not(TABLE.decode().encode(encoding))


def test_utf32() -> None:
    assert "UTF-32" in why_not(TABLE.decode().encode("utf-32"))


def test_utf16_with_half_a_surrogate_pair() -> None:
    data = b"\xff\xfe" + "a,b\n1,x\n2,\ud83d\n3,y\n".encode("utf-16-le", "surrogatepass")
    rows = list(open_bytes(data))
    assert [row.line for row in rows if isinstance(row, Row)] == [2, 4]
    assert isinstance(rows[1], BadRow)
    assert "UTF-8" in rows[1].reason


def test_utf16_that_ends_in_a_character() -> None:
    rows, reason = read_until_failure(b"\xff\xfe" + TABLE.decode().encode("utf-16-le") + b"x")
    assert rows == ROWS
    assert "ends in the middle of a character" in reason


def test_a_latin1_header() -> None:
    reason = why_not("id,título\n1,x\n".encode("latin-1"))
    assert reason.startswith("The first line is not UTF-8 (byte 0xed at position 5)")


def test_a_latin1_file_keeps_the_rows_that_are_ascii() -> None:
    data = "id,title\n1,Amélie\n2,Heat\n3,Señor\n".encode("latin-1")
    rows = list(open_bytes(data))
    assert rows[1] == Row(3, ["2", "Heat"])
    assert [row.line for row in rows if isinstance(row, BadRow)] == [2, 4]


# --- MovieLens files without a header


@pytest.mark.parametrize(
    ("line", "header"),
    [
        ("1::Amélie (2001)::Comedy|Romance", ("movieId", "title", "genres")),
        ("1::1193::5::978300760", ("userId (ml-1m)", "movieId", "rating", "timestamp")),
        ("15::4973::excellent!::1215184630", ("userId", "movieId", "tag", "timestamp")),
        (
            "196\t242\t3\t881250949",
            ("userId (ml-100k)", "itemId (ml-100k)", "rating", "timestamp"),
        ),
    ],
)
def test_movielens(line: str, header: tuple[str, ...]) -> None:
    data = f"{line}\r\n{line}\r\n".encode("latin-1")
    table = open_bytes(data)
    assert (table.header, table.encoding) == (header, "latin-1")
    cells = line.split(table.delimiter)
    assert list(table) == [Row(1, cells), Row(2, cells)]


def test_movielens_in_utf8() -> None:
    data = "1::Amélie::Comedy\n".encode() + "2::Señor::Drama\n".encode("latin-1")
    rows = list(open_bytes(data))
    assert rows == [Row(1, ["1", "Amélie", "Comedy"]), Row(2, ["2", "Señor", "Drama"])]


def test_movielens_items() -> None:
    flags = "|".join(["0"] * 18 + ["1"])
    table = open_bytes(f"1|Kolya (1996)|24-Jan-1997||http://x|{flags}\n".encode())
    names = ["movieId", "title", "release_date", "video_release_date", "imdb_url", "unknown"]
    assert list(table.header[:6]) == names
    assert (len(table.header), table.header[-1]) == (24, "Western")
    assert [row.line for row in table] == [1]


# --- what is no table


@pytest.mark.parametrize("data", [b"", b" ", b"\n\n\r\n \t\n", b"\xef\xbb\xbf", b"\xff\xfe"])
def test_empty_files(data: bytes) -> None:
    assert why_not(data) == "The file is empty."
    assert why_not(gzip.compress(data)) == "The file is empty."


def test_a_header_alone_is_an_empty_table() -> None:
    assert list(open_bytes(b"id,title")) == []


@pytest.mark.parametrize(
    ("begin", "what"),
    [
        (b"PK\x03\x04\x14\0\0\0", "ZIP archive"),
        (b"PK\x03\x04\x14\0\x06\0" + b"\0" * 22 + b"[Content_Types].xml", "Excel workbook"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "PNG picture"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "JPEG picture"),
        (b"%PDF-1.7\n%\xe2\xe3", "PDF document"),
        (b"BZh91AY&SY", "bzip2 archive"),
        (b"\xfd7zXZ\0\0\x04", "xz archive"),
        (b"\x28\xb5\x2f\xfd\x24\0", "Zstandard archive"),
        (b"PAR1\x15\x04", "Parquet file"),
        (b"SQLite format 3\0\x10\0", "SQLite database"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0", "old Office document"),
        (b"\n<!DOCTYPE html>\n<html>", "web page or XML"),
        (b'<?xml version="1.0"?>', "web page or XML"),
        (b"id,ti\x01tle\n", "control characters"),
        (b"id,title\0\n1,2\n", "control characters"),
        (bytes(range(256)) * 20, "control characters"),
    ],
)
def test_what_is_no_text_is_named(begin: bytes, what: str) -> None:
    assert what in why_not(begin + b"\0\x01\x02\x03" * 5)


@pytest.mark.parametrize("seed", range(30))
def test_noise_is_refused(seed: int) -> None:
    noise = random.Random(seed).randbytes(300_000)
    assert why_not(noise)


@pytest.mark.parametrize(
    "data",
    [
        b"1,Toy Story,1995\n2,Heat,1995\n",
        b"tt0114709\t8.3\t900000\n",
        b"1::F::1::10::48067\n",
        b"1|24|M|technician|85711\n",
        b",1995-01-01,7.5\n",
    ],
)
def test_data_without_a_header(data: bytes) -> None:
    assert "no header" in why_not(data)


def test_columns_named_twice() -> None:
    reason = why_not(b"id,title,year, title ,id,,\n1,2,3,4,5,,\n")
    assert reason.startswith("The header names columns twice: id, title.")


def test_a_header_of_empty_names() -> None:
    assert why_not(b",,,\n1,2,3,4\n") == "The first line names no column."


def test_a_quote_in_the_header_that_is_never_closed() -> None:
    assert "quote in the header" in why_not(b'id,"title,year\n1,Heat,1995\n')


def test_too_many_columns() -> None:
    names = ",".join(f"c{number}" for number in range(1_001)).encode()
    assert "more than 1,000 columns" in why_not(names + b"\n")
    assert len(open_bytes(names.rpartition(b",")[0] + b"\n").header) == 1_000


def test_a_first_line_that_does_not_end() -> None:
    assert "no line end in its first 65,536 bytes" in why_not(b"x" * 70_000 + b"\n")


def test_a_failing_stream_is_no_bad_file() -> None:
    class Broken(io.BytesIO):
        def read(self, _size: int | None = -1, /) -> bytes:
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        open_table(Broken())
