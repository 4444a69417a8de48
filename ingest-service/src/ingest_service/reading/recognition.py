"""What a file is, by its first bytes: what it looks like, how it is encoded, what its columns are.

Delimited files have a header, except those of MovieLens that never have one; these are known by
the look of their first row, and get the column names that their README gives. Where these would
not tell whose users and films the numbers mean, they say so:

    movies.dat    ::     movieId, title, genres
    ratings.dat   ::     userId (ml-1m), movieId, rating, timestamp
    tags.dat      ::     userId, movieId, tag, timestamp
    u.data        tab    userId (ml-100k), itemId (ml-100k), rating, timestamp
    u.item        |      movieId, title, release_date, video_release_date, imdb_url, and a column
                         of 0 or 1 for each genre, unknown to Western
"""

import codecs
import re
from collections import Counter
from dataclasses import dataclass

from ingest_service.reading.quoting import TextAfterQuoteError, UnclosedQuoteError, parse_row
from ingest_service.reading.values import Limits, UnreadableFileError

_SAVE_AS_CSV = "Save it as CSV (UTF-8) and upload that."
_ZIP = b"PK\x03\x04"
_SIGNATURES = (
    (_ZIP, "a ZIP archive", "Unpack it and upload the CSV file in it, plain or as gzip."),
    (b"\x1f\x8b", "a gzip file within a gzip file", "Pack it once only."),
    (b"BZh", "a bzip2 archive", "Unpack it, or pack it with gzip."),
    (b"\xfd7zXZ\0", "an xz archive", "Unpack it, or pack it with gzip."),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", "Unpack it, or pack it with gzip."),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "Unpack it, or pack it with gzip."),
    (b"Rar!\x1a\x07", "a RAR archive", "Unpack it, or pack it with gzip."),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document (.xls, .doc)", _SAVE_AS_CSV),
    (b"%PDF-", "a PDF document", _SAVE_AS_CSV),
    (b"{\\rtf", "an RTF document", _SAVE_AS_CSV),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture", "Upload a CSV file."),
    (b"\xff\xd8\xff", "a JPEG picture", "Upload a CSV file."),
    (b"GIF8", "a GIF picture", "Upload a CSV file."),
    (b"PAR1", "a Parquet file", _SAVE_AS_CSV),
    (b"SQLite format 3\0", "an SQLite database", "Export the table as CSV and upload that."),
    (b"\x7fELF", "a program", "Upload a CSV file."),
)
_MARKUP = re.compile(rb"\s*+<(?:!doctype|html|\?xml|svg)", re.IGNORECASE)
_UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BLANK = b" \t\r\n\x0b\x0c"
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1f]")
_QUOTED_CELL = re.compile(r'"[^"]*+"')
_DATA = re.compile(r"[+-]?\d+(?:[.,]\d+)?|tt\d+|\d{4}-\d\d-\d\d")

RATINGS_1M = ("userId (ml-1m)", "movieId", "rating", "timestamp")
RATINGS_100K = ("userId (ml-100k)", "itemId (ml-100k)", "rating", "timestamp")
_GENRES = (
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy "
    "Film-Noir Horror Musical Mystery Romance Sci-Fi Thriller War Western"
)
_ITEMS = ("movieId", "title", "release_date", "video_release_date", "imdb_url", *_GENRES.split())
_MOVIELENS = (
    (re.compile(r"\d+::\d+::\d(?:\.\d)?::\d+"), "::", RATINGS_1M),
    (re.compile(r"\d+::\d+::.+::\d+"), "::", ("userId", "movieId", "tag", "timestamp")),
    (re.compile(r"\d+(?:::(?:(?!::).)*){2}"), "::", ("movieId", "title", "genres")),
    (re.compile(r"\d+\t\d+\t\d\t\d+"), "\t", RATINGS_100K),
    (re.compile(r"\d+\|(?:[^|]*\|){4}[01](?:\|[01]){18}"), "|", _ITEMS),
)


def refuse_what_is_no_text(sample: bytes) -> None:
    """Raise UnreadableFileError for what is known by its first bytes, as they are in the file."""
    if sample.startswith(_ZIP) and b"[Content_Types].xml" in sample:
        raise UnreadableFileError(
            f"The file is an Excel workbook (.xlsx) or other Office document. {_SAVE_AS_CSV}"
        )
    for signature, what, advice in _SIGNATURES:
        if sample.startswith(signature):
            raise UnreadableFileError(f"The file is {what}, not a table in text. {advice}")
    if _MARKUP.match(sample):
        raise UnreadableFileError(
            "The file is a web page or XML, not a table in text (perhaps an error page was saved "
            "in place of the file). Upload a CSV file."
        )
    if sample.startswith(_UTF32):
        raise UnreadableFileError("The file is encoded as UTF-32; save it as UTF-8.")
    if not sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        begin = sample[:4096]
        for offset in (0, 1):
            if len(begin) >= 4 and begin[offset::2].count(0) > 0.4 * len(begin):
                raise UnreadableFileError(
                    "The file looks like UTF-16 without a byte order mark (every second byte is "
                    "NUL); save it as UTF-8."
                )
        # One of them spoils its row only, many of them are no text.
        if len(_CONTROL.findall(sample)) > 16 + len(sample) // 20:
            raise _binary()


def _binary() -> UnreadableFileError:
    return UnreadableFileError(
        "The file is not text: it holds control characters. Upload a CSV file."
    )


def encoding_of(sample: bytes) -> tuple[str, bytes]:
    """The encoding and the byte order mark, which may be empty."""
    for bom, encoding in _BOMS:
        if sample.startswith(bom):
            return encoding, bom
    return "utf-8", b""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows of a delimited file are written.

    Attributes:
        names: of the columns, stripped.
        header: the cells of the header as they would come again; empty where the file has none.
        quoted: whether cells may be quoted (RFC 4180); if not, quotes are characters.
        lines: physical lines before the first row.
    """

    names: tuple[str, ...]
    header: list[str]
    delimiter: str
    quoted: bool
    lines: int


def is_json(sample: bytes) -> bool:
    return sample.lstrip(_BLANK).startswith((b"[", b"{"))


def layout_of(sample: bytes, *, whole: bool, limits: Limits) -> Layout:
    """The columns of a delimited file, from its beginning.

    Args:
        sample: UTF-8 by and large, without a byte order mark.
        whole: whether that is all of the file.
        limits: `header_bytes` and `columns` hold here.

    Raises:
        UnreadableFileError: it has no header, or none that can be worked with.
    """
    begin = len(sample) - len(sample.lstrip(_BLANK))
    begin = sample.rfind(b"\n", 0, begin) + 1  # a tab before the first name is an unnamed column
    end = sample.find(b"\n", begin)
    if not sample.strip(_BLANK):
        raise UnreadableFileError(
            "The file is empty." if whole else "The file begins with nothing but blanks."
        )
    if end < 0 and not whole:
        raise UnreadableFileError(
            f"The file has no line end in its first {limits.header_bytes:,} bytes, so it has no "
            "header; upload a CSV file whose first line names the columns."
        )
    first = sample[begin : end if end >= 0 else len(sample)].removesuffix(b"\r")
    if _CONTROL.search(first):
        raise _binary()
    skipped = sample.count(b"\n", 0, begin)
    for pattern, delimiter, names in _MOVIELENS:
        if pattern.fullmatch(first.decode("latin-1")):
            return Layout(names, [], delimiter, quoted=False, lines=skipped)
    return _from_header(sample[begin:], first, skipped, whole=whole, limits=limits)


def _from_header(
    sample: bytes, first: bytes, skipped: int, *, whole: bool, limits: Limits
) -> Layout:
    try:
        line = first.decode()
    except UnicodeDecodeError as error:
        raise UnreadableFileError(
            f"The first line is not UTF-8 (byte 0x{first[error.start]:02x} at position "
            f"{error.start + 1:,}); save the file as UTF-8."
        ) from error
    delimiter = _delimiter(line)
    if _QUOTED_CELL.sub("", line).count(delimiter) >= limits.columns:
        raise UnreadableFileError(
            f"The header has more than {limits.columns:,} columns. Upload a table of films, with "
            "the columns it needs only."
        )
    quoted = delimiter not in ("\t", "::")
    lines = 1
    if quoted:
        text = sample.decode("utf-8", "replace")
        try:
            header, end = parse_row(text, delimiter)
        except (TextAfterQuoteError, UnclosedQuoteError) as error:
            raise UnreadableFileError(
                "A quote in the header is never closed, or has text after it; mend the first line."
            ) from error
        if end == len(text) and not whole:
            raise UnreadableFileError(f"The header is longer than {limits.header_bytes:,} bytes.")
        lines = text.count("\n", 0, end) + 1
    else:
        header = line.split(delimiter)
    names = tuple(name.strip() for name in header)
    _check_names(names, limits)
    return Layout(names, header, delimiter, quoted, skipped + lines)


def _delimiter(line: str) -> str:
    outside = _QUOTED_CELL.sub("", line)
    found = max(("\t", ",", ";", "|", "::"), key=outside.count)
    return found if found in outside else ","  # a single column


def _check_names(names: tuple[str, ...], limits: Limits) -> None:
    if len(names) > limits.columns:
        raise UnreadableFileError(f"The header has more than {limits.columns:,} columns.")
    written = [name for name in names if name]
    if not written:
        raise UnreadableFileError("The first line names no column.")
    if _DATA.fullmatch(written[0]) or all(_DATA.fullmatch(name) for name in written):
        raise UnreadableFileError(
            f"The file has no header: its first line looks like data ({_some(names)}). Put a line "
            "with the names of the columns before it."
        )
    doubled = [name for name, count in Counter(written).items() if count > 1]
    if doubled:
        raise UnreadableFileError(
            f"The header names columns twice: {_some(doubled)}. Rename or remove one of each."
        )


def _some(names: "tuple[str, ...] | list[str]") -> str:
    shown = ", ".join(name[:40] for name in names[:5])
    return shown if len(names) <= 5 else f"{shown}, …"
