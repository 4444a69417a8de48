"""Forms in pieces of every size, and forms that mean harm."""

from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest
from gateway.multipart import MAX_PARTS, FormError, MultipartReader, Part, boundary_of

BOUNDARY = b"b0und"


def fed_by(pieces: list[bytes]) -> Callable[[], Awaitable[bytes]]:
    """A body that arrives in these pieces; empty ones are left out, as they would mean its end."""
    waiting = [piece for piece in pieces if piece][::-1]

    async def read() -> bytes:
        return waiting.pop() if waiting else b""

    return read


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[start : start + size] for start in range(0, len(body), size)]


def part(content: bytes, disposition: bytes, *headers: bytes) -> bytes:
    lines = [b"Content-Disposition: form-data; " + disposition, *headers]
    return b"--" + BOUNDARY + b"\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + content + b"\r\n"


END = b"--" + BOUNDARY + b"--\r\n"


async def read_all(pieces: list[bytes], boundary: bytes = BOUNDARY) -> list[tuple[Part, bytes]]:
    reader = MultipartReader(boundary, fed_by(pieces))
    found: list[tuple[Part, bytes]] = []
    while (head := await reader.next_part()) is not None:
        content = b""
        while piece := await reader.read():
            content += piece
        found.append((head, content))
    await reader.skip_epilogue()
    return found


# Everything that nearly is the boundary.
TRICKY = (
    b"\r\n--b0un\r\n--b0un\r\r\n--\r\n-\r\n\r\r\n--b0unx\r\n--B0UND\r\n--b0und"[:-1]
    + b"--b0und without its line end\r\n\n--b0und--\x00\xff"
)


@pytest.mark.parametrize("size", [*range(1, 41), 1000])
async def test_a_form_is_read_the_same_in_pieces_of_any_size(size: int) -> None:
    body = (
        part(TRICKY, b'name="file"; filename="a b.csv"', b"Content-Type: text/csv")
        + part(b"", b'name="format"')
        + part(b"true", b"name=dry_run")
        + END
        + b"epilogue --b0und\r\n"
    )
    assert await read_all(cut(body, size)) == [
        (Part("file", "a b.csv"), TRICKY),
        (Part("format", None), b""),
        (Part("dry_run", None), b"true"),
    ]


async def test_a_form_is_read_the_same_wherever_it_is_cut_in_two_places() -> None:
    body = part(b"1\r\n--b0un2", b'name="file"; filename="x"') + END
    cuts = range(0, len(body) + 1, 3)
    for first in cuts:
        for second in range(first, len(body) + 1, 7):
            places = [0, first, second, len(body)]
            pieces = [body[start:end] for start, end in pairwise(places)]
            assert await read_all(pieces) == [(Part("file", "x"), b"1\r\n--b0un2")]


async def test_what_is_left_of_a_part_is_skipped() -> None:
    body = part(b"x" * 5000, b'name="a"') + part(b"y", b'name="b"') + END
    reader = MultipartReader(BOUNDARY, fed_by(cut(body, 100)))
    assert await reader.next_part() == Part("a", None)
    assert await reader.next_part() == Part("b", None)
    assert await reader.read_text(1) == "y"
    assert await reader.read() == b""
    assert await reader.next_part() is None
    assert await reader.next_part() is None


async def test_a_form_without_parts() -> None:
    assert await read_all([END]) == []


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data; charset=utf-8; boundary="a b;c"', b"a b;c"),
        ("multipart/form-data;boundary=----WebKitFormBoundaryX", b"----WebKitFormBoundaryX"),
    ],
)
def test_the_boundary_of_a_content_type(content_type: str, boundary: bytes) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/csv",
        "application/x-www-form-urlencoded",
        "multipart/mixed; boundary=a",
        "multipart/form-data",
        "multipart/form-data; boundary",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/form-data; boundary*=utf-8''abc",
        "multipart/form-data\u20ac",
    ],
)
def test_a_content_type_without_a_usable_boundary(content_type: str) -> None:
    with pytest.raises(FormError):
        boundary_of(content_type)


async def skip_all(reader: MultipartReader) -> None:
    while await reader.next_part() is not None:
        pass


FILE = b'name="file"; filename="x"'
HOSTILE: list[tuple[str, bytes]] = [
    ("nothing", b""),
    ("no boundary at all", b"title,year\r\nHeat,1995\r\n"),
    ("another boundary", part(b"x", FILE).replace(b"b0und", b"b1und")),
    ("a preamble", b"This is a message\r\n" + part(b"x", FILE) + END),
    ("only the opening boundary", b"--b0und\r\n"),
    ("cut within the headers", part(b"x", FILE)[:30]),
    ("cut within the data", part(b"x" * 100, FILE)[:-20]),
    ("cut before the closing boundary", part(b"x", FILE)),
    ("cut within the closing boundary", part(b"x", FILE) + b"--b0und"),
    ("cut within the last hyphens", part(b"x", FILE) + b"--b0und-"),
    ("no headers", b"--b0und\r\n\r\nx\r\n" + END),
    ("no disposition", b"--b0und\r\nContent-Type: text/csv\r\n\r\nx\r\n" + END),
    ("no name", part(b"x", b'filename="x"') + END),
    ("an empty name", part(b"x", b'name=""; filename="x"') + END),
    ("an attachment", part(b"x", FILE).replace(b"form-data", b"attachment") + END),
    ("a header twice", part(b"x", FILE, b'Content-Disposition: form-data; name="y"') + END),
    ("a form in the form", part(b"x", FILE, b"Content-Type: Multipart/Mixed; boundary=i") + END),
    ("base64", part(b"eA==", FILE, b"Content-Transfer-Encoding: BASE64") + END),
    ("nine headers", part(b"x", FILE, *(b"X-%d: y" % n for n in range(8))) + END),
    ("a header of 5000 bytes", part(b"x", FILE, b"X-Long: " + b"y" * 5000) + END),
    ("a header's name of 5000 bytes", part(b"x", FILE, b"X" * 5000 + b": y") + END),
    ("a header that never ends", b"--b0und\r\nX-Long: " + b"y" * 1_000_000),
    ("spaces that never end", b"--b0und\r\nX-Long:" + b" " * 300_000),
    ("a header without a colon", part(b"x", FILE, b"nonsense") + END),
    ("a header without a name", part(b"x", FILE, b": y") + END),
    ("a folded header", part(b"x", FILE, b"X-Folded: a\r\n b") + END),
    ("NUL in a header's name", part(b"x", FILE, b"X\x00: y") + END),
    ("line feeds alone", part(b"x", FILE).replace(b"\r\n", b"\n") + b"--b0und--\n"),
    ("too many parts", part(b"", b'name="a"') * (MAX_PARTS + 1) + END),
    ("thousands of empty parts", b"--b0und\r\n\r\n\r\n" * 50_000),
]


@pytest.mark.parametrize("body", [case[1] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
@pytest.mark.parametrize("size", [1, 7, 65_536])
async def test_a_hostile_form_is_refused(body: bytes, size: int) -> None:
    taken = 0
    feed = fed_by(cut(body if size > 10 else body[:20_000], size))

    async def read() -> bytes:
        nonlocal taken
        piece = await feed()
        taken += len(piece)
        return piece

    reader = MultipartReader(BOUNDARY, read)
    with pytest.raises(FormError):
        await skip_all(reader)
    # Refused where it is wrong, not after having been read to its end.
    assert taken <= 5_000 + max(size, len(TRICKY)) + 4 * 1024


def test_a_boundary_that_is_too_long() -> None:
    with pytest.raises(FormError):
        MultipartReader(b"b" * 257, fed_by([]))


async def test_a_field_that_is_too_long_or_no_text() -> None:
    for content in (b"x" * 201, b"\xff"):
        reader = MultipartReader(BOUNDARY, fed_by([part(content, b'name="a"') + END]))
        await reader.next_part()
        with pytest.raises(FormError):
            await reader.read_text(200)


async def test_names_of_any_bytes_are_text() -> None:
    disposition = 'name="fi\u00e9"; filename="\u30d5\u30a1.csv"'.encode() + b'; x="\xff"'
    assert await read_all([part(b"", disposition) + END]) == [
        (Part("fi\u00e9", "\u30d5\u30a1.csv"), b"")
    ]
    [(head, _)] = await read_all([part(b"", b'name="\xff"; filename=""') + END])
    assert head == Part("\ufffd", "")
