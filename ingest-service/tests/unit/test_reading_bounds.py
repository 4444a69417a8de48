"""Memory stays bounded, whatever the size of the file."""

import io
import random
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, repeat

import pytest
from ingest_service.reading import BadRow, JsonRow, Row, UnreadableFileError, open_table

MIB = 1024**2
HEADER = b"id,title,year\n"
ROW = b"1,Heat,1995\n"


class Generated(io.RawIOBase):
    """A file that is made as it is read, and held nowhere."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._left = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._left = piece
        data, self._left = self._left[:size], self._left[size:]
        return data


class Counts:
    """What came of a file: how many rows, which were the bad ones, and the peak of memory."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.good = 0
        self.bad: list[tuple[int, str]] = []
        self.last: Row | BadRow | JsonRow | None = None
        self.failure = ""
        tracemalloc.start()
        try:
            for row in open_table(Generated(pieces)):  # pyright: ignore[reportArgumentType]
                if isinstance(row, BadRow):
                    if len(self.bad) < 5:
                        self.bad.append((row.line, row.reason))
                    assert sum(map(len, row.text)) < 70_000
                else:
                    self.good += 1
                self.last = row
        except UnreadableFileError as error:
            self.failure = error.reason
        finally:
            self.peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()


def blocks(unit: bytes, size: int) -> Iterator[bytes]:
    count = max(1, MIB // len(unit))
    return repeat(unit * count, size // (count * len(unit)))


def gzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(level=9, wbits=31)
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()


@pytest.mark.parametrize("pack", [iter, gzipped])
def test_a_large_file(pack: Callable[[Iterable[bytes]], Iterator[bytes]]) -> None:
    noise = random.Random(1).randbytes(MIB).hex().encode()
    rows = b"".join(b"7,%b,1995\n" % noise[at : at + 2_000] for at in range(0, MIB, 2_000))
    counts = Counts(pack(chain([HEADER], repeat(rows, 40))))
    assert (counts.good, counts.bad, counts.failure) == (40 * 525, [], "")
    assert counts.peak < 8 * MIB


@pytest.mark.parametrize("quote", [b"", b'"'])
def test_a_cell_of_10_mb(quote: bytes) -> None:
    cell = chain([b"7," + quote], blocks(b"x", 10 * MIB), [quote + b",1995\n"])
    counts = Counts(chain([HEADER, ROW], cell, [ROW]))
    assert counts.good == 2
    assert counts.bad == [(3, "the line is longer than 4,000,000 characters")]
    assert counts.last == Row(4, ["1", "Heat", "1995"])
    assert counts.peak < 20 * MIB


def test_a_cell_of_2_mb_is_too_long_and_one_of_900_kb_is_not() -> None:
    counts = Counts(
        [HEADER, b"7,", 2_000_000 * b"x", b",1995\n8,", 900_000 * b"x", b",1995\n", ROW]
    )
    assert counts.good == 2
    assert counts.bad == [
        (2, 'column "title" holds 2,000,000 characters, at most 1,000,000 are read')
    ]
    assert counts.peak < 20 * MIB


def test_a_quoted_cell_of_10_mb_with_line_ends() -> None:
    line = b"x" * 999 + b"\n"
    lines = 10 * MIB // len(line)
    counts = Counts(chain([HEADER, b'7,"'], repeat(line, lines), [b'",1995\n', ROW]))
    assert counts.good == 1
    assert counts.bad[0] == (2, 'a quote in column "title" is never closed')
    assert counts.last == Row(lines + 3, ["1", "Heat", "1995"])
    assert counts.peak < 20 * MIB


def test_a_quote_never_closed_before_many_rows() -> None:
    row = b"1," + b"x" * 500 + b",1995\n"
    count = 20 * (MIB // len(row))
    counts = Counts(chain([HEADER, b'7,"Up,2009\n'], blocks(row, 20 * MIB)))
    assert counts.good >= count
    assert counts.bad == [(2, 'a quote in column "title" is never closed')]
    assert counts.peak < 8 * MIB


def test_a_line_without_end() -> None:
    counts = Counts(chain([HEADER, ROW], blocks(b"x,", 64 * MIB)))
    assert counts.good == 1
    assert counts.bad == [(3, "the line is longer than 4,000,000 characters")]
    assert counts.peak < 20 * MIB


def test_a_million_columns_in_the_header() -> None:
    names = (b"c%d," % number for number in range(1_000_000))
    counts = Counts(chain(names, [b"end\n"], [ROW]))
    assert "no line end in its first 65,536 bytes" in counts.failure
    assert counts.peak < 4 * MIB


def test_a_million_cells_in_a_row() -> None:
    counts = Counts(chain([HEADER], repeat(b"ab," * 1_000, 1_000), [b"ab\n", ROW]))
    assert counts.good == 1
    assert counts.bad == [(2, "has far more cells than the header, which has 3")]
    assert counts.peak < 30 * MIB


def test_a_million_cells_in_a_row_over_many_lines() -> None:
    line = b"ab," * 5_000 + b'"\n",'
    counts = Counts(chain([HEADER, b"1,"], repeat(line, 240), [b"ab\n", ROW]))
    assert counts.bad[0] == (2, "has far more cells than the header, which has 3")
    assert isinstance(counts.last, Row)
    assert counts.good == 1
    assert counts.peak < 40 * MIB


@pytest.mark.parametrize("begin", [b"", HEADER + ROW])
def test_a_gzip_bomb(begin: bytes) -> None:
    counts = Counts(gzipped(chain([begin], blocks(b"x" * 5_000 + b"\n", 64 * MIB))))
    assert "unpacks to more than 200 times its size" in counts.failure
    assert counts.peak < 20 * MIB


def test_a_gzip_bomb_of_a_single_line() -> None:
    counts = Counts(gzipped(chain([HEADER + ROW], blocks(b"x", 64 * MIB))))
    assert "unpacks to more than 200 times its size" in counts.failure
    assert counts.good == 1
    assert counts.peak < 20 * MIB


def test_a_large_array() -> None:
    element = b'{"id": 862, "title": "%b", "genres": [{"name": "Comedy"}]},\n' % (b"x" * 2_000)
    counts = Counts(chain([b"["], repeat(element, 20_000), [b'{"id": 1}]']))
    assert (counts.good, counts.failure) == (20_001, "")
    assert counts.peak < 4 * MIB


def test_nesting_without_end() -> None:
    counts = Counts(chain([b'[{"id": 1}, '], repeat(b'{"a":[', 50_000)))
    assert counts.good == 1
    assert "it ends within the next element" in counts.failure
    assert counts.peak < 4 * MIB


def test_an_element_without_end() -> None:
    counts = Counts(chain([b'[{"id": 1}, {"t": "'], blocks(b"x", 64 * MIB)))
    assert counts.good == 1
    assert counts.failure.startswith("Element 2 of the JSON array is larger than 4,000,000 bytes")
    assert counts.peak < 30 * MIB


def test_a_json_line_without_end() -> None:
    counts = Counts(chain([b'{"id": 1}\n{"t": "'], blocks(b"x", 64 * MIB)))
    assert counts.good == 1
    assert counts.bad == [(2, "the line is longer than 4,000,000 bytes")]
    assert counts.peak < 20 * MIB
