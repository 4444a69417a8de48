"""What an uploaded file must look like before anybody reads it. Pure."""

import re
import unicodedata
from typing import Final

# Enough for every signature below.
HEAD_BYTES: Final = 512
MAX_LABEL: Final = 200
GZIP: Final = b"\x1f\x8b"

_SIGNATURES: Final[tuple[tuple[bytes, str], ...]] = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook (.xlsx)"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word document"),
    (b"%PDF-", "a PDF document"),
    (b"\x89PNG\r\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"RIFF", "a picture, sound or film"),
    (b"OggS", "a sound or film"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"PAR1", "a Parquet file"),
    (b"SQLite format 3\x00", "a SQLite database"),
    (b"\x7fELF", "a program"),
)
_BYTE_ORDER_MARKS: Final = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_MARKUP: Final = re.compile(rb"\s*<(!doctype|html|head|body|\?xml)\b", re.IGNORECASE)
# NUL is not among them: text in UTF-16 is full of it.
_CONTROLS: Final = bytes(set(range(1, 32)) - set(b"\t\n\r\f\x1b"))
_SEPARATORS: Final = re.compile(r"[/\\]")


def unlike_text(head: bytes) -> str | None:
    """What a file that begins with `head` looks like if it is neither text nor gzip, else None.

    Wrong encodings and broken rows are not judged here: the import explains them line by line.
    """
    if head.startswith((GZIP, *_BYTE_ORDER_MARKS)):
        return None
    for signature, description in _SIGNATURES:
        if head.startswith(signature):
            return description
    if head[257:262] == b"ustar":
        return "a tar archive"
    if _MARKUP.match(head):
        return "a web page or XML"
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return "binary data" if controls > len(head) // 10 else None


def label_of(filename: str) -> str | None:
    """The name as people may read it: without folders and control characters, cut to 200.

    It is never part of a path. None when nothing is left of it.
    """
    last = _SEPARATORS.split(unicodedata.normalize("NFC", filename))[-1]
    shown = "".join(letter for letter in last if letter.isprintable()).strip(" .")
    return shown[:MAX_LABEL] or None
