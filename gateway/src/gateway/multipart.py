"""`multipart/form-data` as it arrives: parts are pulled one after the other, nothing is kept.

What is in memory is one chunk of the body at most, whatever the body says. The bounds on a part's
headers and on the number of parts hold while a chunk is being read. RFC 7578.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

MAX_PARTS: Final = 32
MAX_HEADERS: Final = 8
MAX_HEADER_BYTES: Final = 4096
_PLAIN_ENCODINGS: Final = frozenset({"", "7bit", "8bit", "binary"})

# The body's next bytes; empty at its end.
ReadBody = Callable[[], Awaitable[bytes]]


class FormError(ValueError):
    """A body that is no readable form; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Part:
    """The head of a part. `filename` is None for an ordinary field, and else as it was sent."""

    name: str
    filename: str | None


@dataclass(frozen=True, slots=True)
class _PartEnd:
    """The part's last byte was before this."""


@dataclass(frozen=True, slots=True)
class _FormEnd:
    """The closing boundary."""


_Token = Part | bytes | _PartEnd | _FormEnd


def boundary_of(content_type: str) -> bytes:
    """The boundary in a Content-Type.

    Raises:
        FormError: it is another type, or has no usable boundary.
    """
    # Header values are Latin-1; what is not came from somewhere else.
    media_type, options = parse_options_header(content_type.encode("latin-1", "replace"))
    if media_type != b"multipart/form-data":
        sent = media_type.decode("latin-1")[:100] or "no content type"
        msg = f"multipart/form-data is expected, not {sent!a}"
        raise FormError(msg)
    boundary = options.get(b"boundary", b"")
    if not boundary:
        msg = "the Content-Type names no boundary"
        raise FormError(msg)
    return boundary


class MultipartReader:
    """Pulls the parts of a form out of its body.

    `next_part` skips what is left of the part before. A body that ends before its closing boundary
    raises FormError wherever that is noticed.
    """

    def __init__(self, boundary: bytes, read_body: ReadBody) -> None:
        self._read_body = read_body
        self._tokens: deque[_Token] = deque()
        self._headers: dict[str, str] = {}
        self._field = bytearray()
        self._value = bytearray()
        self._parts = 0
        self._in_part = False
        self._complete = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
                max_header_count=MAX_HEADERS,
                max_header_size=MAX_HEADER_BYTES,
            )
        except FormParserError as error:
            raise FormError(str(error)) from None

    async def next_part(self) -> Part | None:
        """The next part, None at the end of the form."""
        while self._in_part:
            await self.read()
        match await self._next():
            case Part() as part:
                self._in_part = True
                return part
            case _FormEnd():
                return None
            case token:
                msg = f"the form is out of order at {token!r}"
                raise FormError(msg)

    async def read(self) -> bytes:
        """The next bytes of the present part, empty at its end."""
        if not self._in_part:
            return b""
        token = await self._next()
        if isinstance(token, bytes):
            return token
        self._in_part = False
        return b""

    async def read_text(self, limit: int) -> str:
        """The present part as text.

        Raises:
            FormError: it is longer than `limit` bytes, or not UTF-8.
        """
        content = bytearray()
        while piece := await self.read():
            content += piece
            if len(content) > limit:
                msg = f"a field is longer than {limit} bytes"
                raise FormError(msg)
        try:
            return content.decode()
        except UnicodeDecodeError:
            msg = "a field is not UTF-8"
            raise FormError(msg) from None

    async def skip_epilogue(self) -> None:
        """Read what follows the form, so that the connection is at the next request."""
        while await self._read_body():
            pass

    async def _next(self) -> _Token:
        while not self._tokens:
            if self._complete:
                return _FormEnd()
            chunk = await self._read_body()
            if not chunk:
                msg = "the body ends in the middle of the form: its closing boundary is missing"
                raise FormError(msg)
            try:
                self._parser.write(chunk)
            except FormParserError as error:
                msg = f"the form cannot be read: {error}"
                raise FormError(msg) from None
        return self._tokens.popleft()

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            msg = f"the form has more than {MAX_PARTS} parts"
            raise FormError(msg)
        self._headers = {}

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        name = self._field.decode("latin-1").lower()
        if name in self._headers:
            msg = f"a part has the header {name[:80]!a} twice"
            raise FormError(msg)
        self._headers[name] = self._value.decode("latin-1")
        self._field.clear()
        self._value.clear()

    def _on_headers_finished(self) -> None:
        self._tokens.append(_part_of(self._headers))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if end > start:
            self._tokens.append(data[start:end])

    def _on_part_end(self) -> None:
        self._tokens.append(_PartEnd())

    def _on_end(self) -> None:
        self._complete = True
        self._tokens.append(_FormEnd())


def _part_of(headers: dict[str, str]) -> Part:
    disposition, options = parse_options_header(headers.get("content-disposition"))
    name = options.get(b"name")
    if disposition != b"form-data" or not name:
        msg = "a part has no Content-Disposition header with a name"
        raise FormError(msg)
    shown = _text(name)[:80]
    encoding = headers.get("content-transfer-encoding", "").strip().lower()
    if encoding not in _PLAIN_ENCODINGS:
        msg = f"the part {shown!a} has the transfer encoding {encoding[:40]!a}; send the bytes"
        raise FormError(msg)
    if headers.get("content-type", "").strip().lower().startswith("multipart/"):
        msg = f"the part {shown!a} is a form of its own; send each file as a part"
        raise FormError(msg)
    filename = options.get(b"filename")
    return Part(_text(name), None if filename is None else _text(filename))


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")
