import csv
import io
import random
from collections.abc import Iterator

import pytest
from ingest_service.reading import BadRow, Limits, Row, UnreadableFileError, open_table

HEADER = b"id,title,year\n"


def read(data: bytes, limits: Limits | None = None) -> list[object]:
    return list(open_table(io.BytesIO(data), limits or Limits()))


def good(rows: list[object]) -> list[tuple[int, list[str]]]:
    return [(row.line, row.cells) for row in rows if isinstance(row, Row)]


def bad(rows: list[object]) -> list[tuple[int, str]]:
    return [(row.line, row.reason) for row in rows if isinstance(row, BadRow)]


class Drips(io.RawIOBase):
    """Gives a file in pieces of random sizes, as a network does."""

    def __init__(self, data: bytes, seed: int, most: int) -> None:
        self._data = memoryview(data)
        self._random = random.Random(seed)
        self._most = most

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        size = min(size, self._random.randint(1, self._most))
        piece, self._data = bytes(self._data[:size]), self._data[size:]
        return piece


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t", "::"])
def test_delimiters_and_line_ends(delimiter: str, end: str) -> None:
    lines = [["id", "title", "year"], ["1", "Heat", "1995"], ["2", "Amélie", "2001"]]
    table = open_table(io.BytesIO(end.join(map(delimiter.join, lines)).encode()))
    assert (table.header, table.kind, table.delimiter, table.encoding, table.compressed) == (
        ("id", "title", "year"),
        "delimited",
        delimiter,
        "utf-8",
        False,
    )
    assert list(table) == [Row(2, ["1", "Heat", "1995"]), Row(3, ["2", "Amélie", "2001"])]


def test_a_single_column() -> None:
    table = open_table(io.BytesIO(b"title\nHeat\n\n"))
    assert (table.header, table.delimiter) == (("title",), ",")
    assert list(table) == [Row(2, ["Heat"])]


def test_header_names_are_stripped_and_may_be_quoted_empty_or_over_two_lines() -> None:
    table = open_table(io.BytesIO(b'\n,"a;b", title ,"two\nlines"\n1,2,3,4\n'))
    assert table.header == ("", "a;b", "title", "two\nlines")
    assert list(table) == [Row(4, ["1", "2", "3", "4"])]


def test_delimiters_within_quotes_of_the_header_do_not_count() -> None:
    assert open_table(io.BytesIO(b'"a,b,c,d";title\n1;2\n')).delimiter == ";"


def test_quoted_cells_hold_quotes_delimiters_and_line_ends() -> None:
    data = b'id,title,year\r\n1,"The ""Heat"", again",1995\r\n2,"two\r\nlines\n",""\r\n3,x,"y"'
    assert read(data) == [
        Row(2, ["1", 'The "Heat", again', "1995"]),
        Row(3, ["2", "two\r\nlines\n", ""]),
        Row(6, ["3", "x", "y"]),
    ]


def test_quotes_within_unquoted_cells_are_characters() -> None:
    assert read(HEADER + b'1,5" disk,1995\n2,a "b" c,1996\n') == [
        Row(2, ["1", '5" disk', "1995"]),
        Row(3, ["2", 'a "b" c', "1996"]),
    ]


def test_blanks_after_a_closing_quote_are_dropped() -> None:
    assert read(HEADER + b'1,"Heat" ,1995\n') == [Row(2, ["1", "Heat", "1995"])]


def test_tab_separated_files_have_no_quotes() -> None:
    assert read(b'id\ttitle\n1\t"Heat\n2\tThe "Room"\n') == [
        Row(2, ["1", '"Heat']),
        Row(3, ["2", 'The "Room"']),
    ]


def test_a_lone_cr_in_an_unquoted_cell_is_a_character() -> None:
    data = HEADER + b'1,He\rat,1995\n2,"quo\rted",1996\r\n3,a\rb,"two\nlines"\n4,Room,2015\n'
    assert read(data) == [
        Row(2, ["1", "He\rat", "1995"]),
        Row(3, ["2", "quo\rted", "1996"]),
        Row(4, ["3", "a\rb", "two\nlines"]),
        Row(6, ["4", "Room", "2015"]),
    ]


def test_other_unicode_line_separators_are_characters() -> None:
    text = "1,a\u2028b\x0bc\x85d\x1ce,1995\n"
    assert read(HEADER + text.encode()) == [Row(2, ["1", "a\u2028b\x0bc\x85d\x1ce", "1995"])]


def test_wrong_numbers_of_cells() -> None:
    rows = read(HEADER + b"1,Heat\n2,Room,2015\n3,a,b,c\n4\n5,Up,2009\n")
    assert good(rows) == [(3, ["2", "Room", "2015"]), (6, ["5", "Up", "2009"])]
    assert bad(rows) == [
        (2, "has 2 cells, the header has 3"),
        (4, "has 4 cells, the header has 3"),
        (5, "has 1 cell, the header has 3"),
    ]
    assert rows[2] == BadRow(4, "has 4 cells, the header has 3", ("3", "a", "b", "c"))


def test_blank_rows_and_empty_cells_after_the_last_are_no_errors() -> None:
    assert read(HEADER + b"\n1,Heat,1995,,\n\r\n  \n,,\n,,,,\n2,Up,\n\n") == [
        Row(3, ["1", "Heat", "1995"]),
        Row(8, ["2", "Up", ""]),
    ]


@pytest.mark.parametrize("again", [b"id,title,year\n", b'"id","title","year"\r\n'])
def test_the_header_again(again: bytes) -> None:
    rows = read(HEADER + b"1,Heat,1995\n" + again + b"2,Up,2009\n")
    assert bad(rows) == [(3, "the header again")]
    assert [line for line, _ in good(rows)] == [2, 4]


def test_the_header_of_an_appended_file_with_its_byte_order_mark() -> None:
    rows = read(b"\xef\xbb\xbf" + HEADER + b"1,Heat,1995\n\xef\xbb\xbf" + HEADER + b"2,Up,2009\n")
    assert bad(rows) == [(3, "the header again")]


def test_bytes_that_are_no_utf8_spoil_their_row_only() -> None:
    rows = read(HEADER + b"1,Am\xe9lie,2001\n2,Am\xc3\xa9lie,2001\n3,\xed\xa0\x80,2001\n4,a,b\n")
    assert good(rows) == [(3, ["2", "Amélie", "2001"]), (5, ["4", "a", "b"])]
    assert bad(rows) == [
        (2, 'not UTF-8: byte 0xe9 in column "title"; save the file as UTF-8'),
        (4, 'not UTF-8: byte 0xed in column "title"; save the file as UTF-8'),
    ]
    assert rows[0] == BadRow(2, bad(rows)[0][1], ("1", "Am\ufffdlie", "2001"))


def test_nul_spoils_its_row_only() -> None:
    rows = read(HEADER + b"1,He\0at,1995\n2,Up,2009\n")
    assert rows == [
        BadRow(2, 'a NUL character in column "title": remove it', ("1", "He\ufffdat", "1995")),
        Row(3, ["2", "Up", "2009"]),
    ]


def test_a_bad_byte_in_a_later_line_of_a_row() -> None:
    rows = read(HEADER + b'1,"two\nl\xefnes",1995\n2,Up,2009\n')
    assert bad(rows) == [(2, 'not UTF-8: byte 0xef in column "title"; save the file as UTF-8')]
    assert good(rows) == [(4, ["2", "Up", "2009"])]


@pytest.mark.parametrize(
    ("after", "lines"),
    [
        (b'2,"Up",2009\n3,Room,2015\n', [3, 4]),  # the next quote has text after it
        (b'2,Up,2009\n"3","Ro""om",2015\n', [3, 4]),
        (b"2,Up,2009\n3,Room,2015\n", [3, 4]),  # there is no other quote
        (b'2,"",2009\n3,Room,2015\n', [3, 4]),  # the next quotes are doubled
        (b'2,Up,",",\n3,Room,2015\n', [3, 4]),
        (b'2,Up,","\n3,Room,2015\n', [3, 4]),  # closed by chance, on a line that is a row
        (b'2,"two\nlines",2009\n3,Room,2015\n', [3, 5]),
    ],
)
def test_a_quote_never_closed_costs_its_line_only(after: bytes, lines: list[int]) -> None:
    rows = read(HEADER + b'1,"Heat,1995\n' + after)
    assert [line for line, _ in good(rows)] == lines
    line, reason = bad(rows)[0]
    assert line == 2
    assert "never closed" in reason
    first = next(row for row in rows if isinstance(row, BadRow))
    assert first.text == ('1,"Heat,1995',)


def test_a_quote_never_closed_in_the_last_line() -> None:
    rows = read(HEADER + b'1,Heat,1995\n2,"Up')
    assert good(rows) == [(2, ["1", "Heat", "1995"])]
    assert bad(rows) == [(3, 'a quote in column "title" is never closed')]


def test_text_after_a_closing_quote() -> None:
    rows = read(HEADER + b'1,"Heat"s,1995\n2,Up,2009\n')
    assert good(rows) == [(3, ["2", "Up", "2009"])]
    assert bad(rows) == [
        (
            2,
            'text after the closing quote in column "title": a quote within a quoted cell is '
            "doubled",
        )
    ]


def test_a_row_over_several_lines_with_too_few_cells_is_one_bad_row() -> None:
    rows = read(HEADER + b'1,"two\nlines"\n2,Up,2009\n')
    assert bad(rows) == [(2, "has 2 cells, the header has 3")]
    assert good(rows) == [(4, ["2", "Up", "2009"])]


def test_a_row_has_so_many_lines_at_most() -> None:
    limits = Limits(row_lines=3)
    three = b'1,"a\nb\nc",1995\n'
    assert read(HEADER + three, limits) == [Row(2, ["1", "a\nb\nc", "1995"])]
    rows = read(HEADER + b'1,"a\nb\nc\nd",1995\n2,Up,2009\n', limits)
    assert bad(rows)[0] == (2, 'a quote in column "title" is never closed')
    assert good(rows) == [(6, ["2", "Up", "2009"])]


def test_limits_of_a_cell_and_of_a_row() -> None:
    limits = Limits(cell_characters=10, row_characters=30)
    long_row = b"1," + 20 * b"x" + b"," + 8 * b"y" + b"\n"
    data = (
        HEADER + b"1,0123456789,x\n1,0123456789a,x\n" + long_row + b'1,"01234\n567890",z\n2,Up,1\n'
    )
    rows = read(data, limits)
    assert good(rows) == [(2, ["1", "0123456789", "x"]), (7, ["2", "Up", "1"])]
    assert bad(rows) == [
        (3, 'column "title" holds 11 characters, at most 10 are read'),
        (4, "longer than 30 characters; perhaps a quote is never closed"),
        (5, 'column "title" holds 12 characters, at most 10 are read'),
    ]


def test_the_text_of_a_bad_row_is_cut() -> None:
    rows = read(HEADER + b"1,abcdefgh,1995,x,y\n", Limits(text_characters=6))
    assert rows == [BadRow(2, "has 5 cells, the header has 3", ("1", "abcd…", "…"))]


def test_a_file_of_quotes_never_closed_is_not_read_over_and_over() -> None:
    # Within a quoted cell and outside of one, such a line leaves a quoted cell open.
    lines = 5_000
    rows = read(b"a,b\n" + lines * b'b","""\n' + b"1,2\n")
    assert len(rows) == lines + 1
    assert rows[-1] == Row(lines + 2, ["1", "2"])
    assert all(isinstance(row, BadRow) for row in rows[:-1])
    assert "not read any more" in bad(rows)[-1][1]


def cells(seed: int, rows: int, columns: int) -> Iterator[list[str]]:
    source = random.Random(seed)
    alphabet = ["a", "Z", "0", " ", '"', '""', ",", ";", "\n", "\r\n", "\r", "é", "映", "😀", "'"]
    for number in range(rows):
        row = ["".join(source.choices(alphabet, k=source.randint(0, 12))) for _ in range(columns)]
        row[0] = f"{number}{row[0]}"
        if source.random() < 0.02:
            row[1] = source.choice('a",é😀') * source.randint(1_000, 200_000)
        yield row


@pytest.mark.parametrize("seed", range(40))
def test_what_a_writer_writes_is_read(seed: int) -> None:
    source = random.Random(seed)
    columns = source.randint(2, 20)
    delimiter = source.choice(",;|")
    encoding = source.choice(["utf-8", "utf-8-sig", "utf-16"])
    end = source.choice(["\r\n", "\n"])
    # Not quoting what ends with CR before LF would make it CR LF.
    quoting = csv.QUOTE_ALL if end == "\n" else csv.QUOTE_MINIMAL
    wanted = list(cells(seed, source.randint(0, 200), columns))
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow([f"column {number}" for number in range(columns)])
    begins: list[int] = []
    for row in wanted:
        begins.append(file.getvalue().count("\n") + 1 if len(begins) < 20 else 0)
        writer.writerow(row)
    data = file.getvalue().encode(encoding)
    stream = Drips(
        data, seed, source.choice([7, 1_000, 1_000_000]) if len(data) < 100_000 else 10**6
    )
    rows = list(open_table(stream))  # pyright: ignore[reportArgumentType]
    assert bad(list(rows)) == []
    assert [row.cells for row in rows if isinstance(row, Row)] == wanted
    assert [row.line for row in rows][:20] == begins[:20]


@pytest.mark.parametrize("seed", range(60))
def test_whatever_the_bytes_reading_ends_and_says_why(seed: int) -> None:
    source = random.Random(seed)
    data = bytearray(HEADER + b"".join(b'%d,"T ""%d""\nx",1995\r\n' % (n, n) for n in range(300)))
    for _ in range(source.randint(1, 60)):
        at = source.randrange(len(HEADER), len(data))
        data[at : at + source.randint(0, 2)] = source.choice(
            [b'"', b"\n", b"\r", b",", b"\0", b"\xff", b"\xc3", bytes(source.randbytes(3)), b""]
        )
    try:
        rows = list(open_table(Drips(bytes(data), seed, 500)))  # pyright: ignore[reportArgumentType]
    except UnreadableFileError as error:
        pytest.fail(f"a spoilt row is no spoilt file: {error}")
    lines = [row.line for row in rows]
    assert lines == sorted(set(lines))
    assert all(len(row.cells) == 3 for row in rows if isinstance(row, Row))
    untouched = [row for row in rows if isinstance(row, Row) and row.cells[2] == "1995"]
    assert len(untouched) > 150
