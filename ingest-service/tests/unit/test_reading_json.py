import gzip
import io
import json

import pytest
from ingest_service.reading import BadRow, JsonRow, Limits, UnreadableFileError, open_table


def read(data: bytes, limits: Limits | None = None) -> list[object]:
    return list(open_table(io.BytesIO(data), limits or Limits()))


def read_until_failure(data: bytes, limits: Limits | None = None) -> tuple[list[object], str]:
    rows: list[object] = []
    table = open_table(io.BytesIO(data), limits or Limits())
    with pytest.raises(UnreadableFileError) as caught:
        rows.extend(table)
    return rows, caught.value.reason


def test_an_array_of_objects() -> None:
    elements: list[dict[str, object]] = [
        {"imdb_id": 0},
        {"id": 862, "vote_average": 7.5, "genres": [{"name": "Drama"}]},
    ]
    table = open_table(io.BytesIO(b"\xef\xbb\xbf\n " + json.dumps(elements, indent=1).encode()))
    assert (table.kind, table.header, table.delimiter) == ("json", (), "")
    rows = list(table)
    assert rows == [JsonRow(1, elements[0]), JsonRow(2, elements[1])]
    assert type(rows[1]) is JsonRow
    assert type(rows[1].body["id"]) is int
    assert type(rows[1].body["vote_average"]) is float


def test_other_encodings_and_gzip() -> None:
    text = '[{"title": "Amélie"}]'
    for data in (gzip.compress(text.encode()), text.encode("utf-16")):
        assert read(data) == [JsonRow(1, {"title": "Amélie"})]


def test_an_empty_array() -> None:
    assert read(b"[]") == []


def test_elements_that_are_no_objects() -> None:
    rows = read(b'[1, {"id": 1}, null, "x", [2], true, 1.5]')
    assert rows == [
        BadRow(1, "a number where an object is expected", ("1",)),
        JsonRow(2, {"id": 1}),
        BadRow(3, "null where an object is expected", ("null",)),
        BadRow(4, "a string where an object is expected", ('"x"',)),
        BadRow(5, "an array where an object is expected", ("[2]",)),
        BadRow(6, "a boolean where an object is expected", ("true",)),
        BadRow(7, "a number where an object is expected", ("1.5",)),
    ]


@pytest.mark.parametrize(
    ("broken", "how"),
    [
        (b"", "no element"),
        (b"]]", "`]` after the end of the array"),
        (b', {"id": 3}]', "no element"),
        (b'{"id": 3', "it ends within the next element"),
        (b'{"id": "3}]', "it ends within the next element"),
        (b'"id', "no element"),
    ],
)
def test_a_broken_array_gives_the_elements_before(broken: bytes, how: str) -> None:
    rows, reason = read_until_failure(b'[{"id": 1}, {"id": 2}, ' + broken)
    assert rows == [JsonRow(1, {"id": 1}), JsonRow(2, {"id": 2})]
    assert reason.startswith("The JSON array is broken after element ")
    assert how in reason


def test_where_an_array_is_broken() -> None:
    rows, reason = read_until_failure(b'[{"id": 1}\n{"id": 2}]')
    assert rows == [JsonRow(1, {"id": 1})]
    assert "broken after element 1, at byte 12: `{` where `,` is expected" in reason
    rows, reason = read_until_failure(b'[{"id": 1}')
    assert "at byte 11: the end of the file where `,` is expected" in reason


@pytest.mark.parametrize(
    "broken",
    [
        b"oops",
        b'{"id": oops}',
        b'{"t": "\xe9"}',
        b'{"n": NaN}',
        b'{"t": "\\ud800"}',
        b"{[}]",
        b"'x'",
    ],
)
def test_a_broken_element_is_a_bad_row(broken: bytes) -> None:
    rows = read(b'[{"id": 1}, ' + broken + b', {"id": 3}]')
    assert (rows[0], rows[2]) == (JsonRow(1, {"id": 1}), JsonRow(3, {"id": 3}))
    assert isinstance(rows[1], BadRow)
    assert rows[1].line == 2
    assert rows[1].reason.startswith("no valid JSON: ")
    assert rows[1].text == (broken.decode("utf-8", "replace"),)


@pytest.mark.parametrize("most", [1, 2, 3, 7, 100])
def test_pieces_of_any_size(most: int) -> None:
    texts = ["", "[", '"', "\\", '\\"]}', "é映😀", "}{", "\n", "x" * 50]
    elements = [{"t": text, text: [text, {"n": [1, 2.5, None, True]}]} for text in texts] * 3

    class Pieces(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(most if size is None else min(most, size))

    for indent in (None, 1):
        rows = list(open_table(Pieces(json.dumps(elements, indent=indent).encode())))
        assert rows == [JsonRow(number, dict(body)) for number, body in enumerate(elements, 1)]


def test_a_truncated_archive_gives_the_elements_before() -> None:
    elements = [{"id": number, "noise": str(number**9)} for number in range(50_000)]
    packed = gzip.compress(json.dumps(elements).encode())
    rows, reason = read_until_failure(packed[: len(packed) // 2])
    assert 15_000 < len(rows) < 35_000
    assert rows == [JsonRow(n + 1, dict(elements[n])) for n in range(len(rows))]
    assert "ends in the middle" in reason


def test_json_lines() -> None:
    rows = read(b'{"id": 1}\r\n\n{"id": 2,}\n[3]\n{"id": "\xff"}\n{"id": 4.0}')
    assert rows[0] == JsonRow(1, {"id": 1})
    assert isinstance(rows[1], BadRow)
    assert (rows[1].line, rows[1].text) == (3, ('{"id": 2,}',))
    assert rows[1].reason.startswith("no valid JSON: ")
    assert rows[2] == BadRow(4, "an array where an object is expected", ("[3]",))
    assert isinstance(rows[3], BadRow)
    assert (rows[3].line, rows[3].text) == (5, ('{"id": "\ufffd"}',))
    assert rows[4:] == [JsonRow(6, {"id": 4.0})]


def test_a_line_that_is_too_long() -> None:
    long = b'{"id": "' + b"x" * 400_000 + b'"}\n'
    rows = read(b'{"id": 1}\n' + long + b'{"id": 2}\n', Limits(row_characters=100_000))
    assert [row.line for row in rows if isinstance(row, JsonRow)] == [1, 3]
    assert isinstance(rows[1], BadRow)
    assert rows[1].reason == "the line is longer than 100,000 bytes"


def test_one_object_over_several_lines() -> None:
    with pytest.raises(UnreadableFileError, match="one JSON object over several lines"):
        open_table(io.BytesIO(b'{\n  "id": 1\n}\n'))


def test_what_cannot_be_stored() -> None:
    deep = b'{"a": ' + b"[" * 70 + b"]" * 70 + b"}"
    for data in (
        b'[{"t": "\\u0000"}, ' + deep + b', {"id": 1}]',
        b'{"t": "\\u0000"}\n' + deep + b'\n{"id": 1}\n',
    ):
        nul, nested, good = read(data)
        assert nul == BadRow(1, "a NUL character in a string: remove it", ('{"t": "\\u0000"}',))
        assert isinstance(nested, BadRow)
        assert nested.reason == "nested more than 64 levels deep"
        assert good == JsonRow(3, {"id": 1})


def test_nesting_beyond_all_measure() -> None:
    deep = b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    nested, good = read(b"[" + deep + b', {"id": 1}]')
    assert isinstance(nested, BadRow)
    assert good == JsonRow(2, {"id": 1})
    nested, good = read(deep + b'\n{"id": 1}\n')
    assert isinstance(nested, BadRow)
    assert good == JsonRow(2, {"id": 1})


def test_an_element_that_is_too_large() -> None:
    data = b'[{"id": 1}, {"t": "' + b"x" * 1_000_000 + b'"}]'
    rows, reason = read_until_failure(data, Limits(row_characters=100_000))
    assert rows == [JsonRow(1, {"id": 1})]
    assert reason.startswith("Element 2 of the JSON array is larger than 100,000 bytes")
