"""Blocks of bytes: out of a stream, out of gzip, out of UTF-16. A block is bounded, a file is not.

Whatever fails raises UnreadableFileError from the iteration, after the blocks that stand before.
"""

import codecs
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from ingest_service.reading.values import Limits, UnreadableFileError

BLOCK_BYTES = 256 * 1024
_PACKED_BYTES = 64 * 1024
_RATIO_HOLDS_FROM = 16 * 1024**2
_GZIP = b"\x1f\x8b"


class Source:
    """The bytes of a stream, unpacked where they are gzip. Iterated once."""

    def __init__(self, stream: BinaryIO, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self.bytes_read = 0
        self._first = self._read(_PACKED_BYTES)
        while 0 < len(self._first) < len(_GZIP) and (more := self._read(_PACKED_BYTES)):
            self._first += more
        self.compressed = self._first.startswith(_GZIP)

    def __iter__(self) -> Iterator[bytes]:
        return (
            _gunzip(self._blocks(_PACKED_BYTES), self._limits)
            if self.compressed
            else (self._blocks(BLOCK_BYTES))
        )

    def _blocks(self, size: int) -> Iterator[bytes]:
        block, self._first = self._first, b""
        while block:
            yield block
            block = self._read(size)

    def _read(self, size: int) -> bytes:
        block = self._stream.read(size)
        self.bytes_read += len(block)
        return block


def _gunzip(pieces: Iterable[bytes], limits: Limits) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(wbits=31)
    taken = given = members = 0
    for whole_piece in pieces:
        piece = whole_piece
        taken += len(piece)
        while piece:
            if unpacker.eof:  # members may follow each other, with padding between them
                piece = piece.lstrip(b"\0")
                if not piece:
                    break
                unpacker = zlib.decompressobj(wbits=31)
                members += 1
                # Each costs time and says nothing when it is empty: a bomb of another kind.
                if members > 10_000 + given // 1024:
                    raise UnreadableFileError(
                        "The gzip file consists of too many almost empty parts; "
                        "pack the file again in one piece."
                    )
            try:
                block = unpacker.decompress(piece, BLOCK_BYTES)
            except zlib.error as error:
                raise UnreadableFileError(
                    f"The gzip file is damaged near byte {taken - len(piece):,} (after "
                    f"{given:,} unpacked bytes): {error}. Pack and upload it again."
                ) from error
            piece = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            given += len(block)
            if given > limits.unpacked_bytes:
                raise UnreadableFileError(
                    f"The gzip file is larger than {limits.unpacked_bytes:,} bytes when unpacked; "
                    "upload it in several parts."
                )
            if given > _RATIO_HOLDS_FROM and given > limits.ratio * (taken - len(piece)):
                raise UnreadableFileError(
                    f"The gzip file unpacks to more than {limits.ratio} times its size, which no "
                    "table of films does; upload it unpacked."
                )
            if block:
                yield block
    if not unpacker.eof:
        raise UnreadableFileError(
            f"The gzip file ends in the middle, after {taken:,} bytes ({given:,} unpacked): it was "
            "not copied completely. Upload the whole file."
        )


class Peekable:
    """Blocks whose beginning can be looked at before they are iterated, once."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._seen: list[bytes] = []
        self.ended = False
        self.failure: UnreadableFileError | None = None

    def peek(self, size: int) -> bytes:
        """At least `size` bytes from the beginning; less, where `ended` or `failure` is set."""
        seen = sum(map(len, self._seen))
        while seen < size and not self.ended and self.failure is None:
            try:
                self._seen.append(block := next(self._blocks))
                seen += len(block)
            except StopIteration:
                self.ended = True
            except UnreadableFileError as error:
                self.failure = error
        self._seen = [b"".join(self._seen)]
        return self._seen[0]

    def __iter__(self) -> Iterator[bytes]:
        while self._seen:
            yield self._seen.pop(0)
        if self.failure is not None:
            raise self.failure
        yield from self._blocks


def without_bom(blocks: Iterable[bytes], bom: bytes) -> Iterator[bytes]:
    """Blocks of which the first begins with `bom`, without it."""
    blocks = iter(blocks)
    yield next(blocks)[len(bom) :]
    yield from blocks


def utf8_from(encoding: str, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Text in another encoding as UTF-8; halves of surrogate pairs as three bytes that are not."""
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
    for block in blocks:
        yield decoder.decode(block).encode("utf-8", "surrogatepass")
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise UnreadableFileError(
            f"The file ends in the middle of a character ({encoding}): it was not copied "
            "completely. Upload the whole file."
        ) from error


def lf_for_cr(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines that end with a lone CR, as old Macintosh programs write them, ending with LF."""
    for block in blocks:
        yield block.replace(b"\r", b"\n")
