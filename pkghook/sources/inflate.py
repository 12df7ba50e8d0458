"""Decompression in process, as a stream: little is held at a time, whatever the input claims.

Several gzip members, bzip2 streams, xz streams (with zero padding between) and zstd frames one after another count
as one stream, as they do for the programs.  Anything else behind the last one is an error.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from pkghook.errors import InputError, MissingDependencyError
from pkghook.sources.payload import KINDS, damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Any

    from pkghook.sources.payload import Part

T = TypeVar("T")
R = TypeVar("R")

_PIECE = 1 << 16  # compressed bytes given to a decoder at once
_CHUNK = 1 << 18  # decompressed bytes taken from a decoder at once
_XZ_MEMORY = 512 << 20
_ZSTD_WINDOW = 1 << 27  # bytes; libzstd's own limit, hence rpm's and dpkg's
_ZSTD_RLE = 1  # type of a block that is one byte and a count
_ZSTD_HEADER = 14  # bytes of the longest header, of a frame
_GZIP = 31  # zlib's number for: window of 32 KiB, gzip header and trailer


class _Decoder(Protocol):
    """One gzip member, bzip2 stream or xz stream."""

    def take(self, data: bytes) -> bytes:
        """What comes out for `data`, or more of what came in before for b""."""

    @property
    def hungry(self) -> bool:
        """Whether nothing comes out without more going in."""

    @property
    def rest(self) -> bytes | None:
        """What lay behind the end; None before the end."""


def open_raw(part: Part, kind: str) -> io.RawIOBase:
    """The bytes of `part`, decompressed. Its `readinto` raises InputError; this MissingDependencyError."""
    if kind == "none":
        return _Plain(part)
    if kind == "zstd":
        return _Zstd(part, _need_zstandard(part.path))
    return _Inflated(part, *_decoders(kind))


class _Plain(io.RawIOBase):
    """The bytes of a part as they are."""

    def __init__(self, part: Part) -> None:
        self._fd = part.fd
        self._path = part.path
        self._next = part.start
        self._end = part.start + part.size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 as in proc.Stream
        room = memoryview(buffer)[: self._end - self._next]
        got = self._asked(os.preadv, [room]) if room else 0
        self._next += got
        return got

    def take(self, size: int) -> bytes:
        """The next `size` bytes at the most, not copied once more as by `read`; b"" at the end."""
        data = self._asked(os.pread, min(size, self._end - self._next))
        self._next += len(data)
        return data

    def _asked(self, read: Callable[[int, T, int], R], what: T) -> R:
        try:
            return read(self._fd, what, self._next)
        except OSError as error:
            raise InputError(f"{self._path}: {error.strerror}") from error


class _Inflated(io.RawIOBase):
    """The decompressed bytes of a part."""

    def __init__(self, part: Part, make: Callable[[], _Decoder], error: type[Exception]) -> None:
        self._source = _Plain(part)
        self._path = part.path
        self._make = make
        self._error = error
        self._decoder = make()
        self._fresh = True  # whether nothing went into this decoder yet
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 as in proc.Stream
        while not self._ready:
            try:
                chunk = self._more()
            except self._error as error:
                raise damaged(self._path, f"its contents cannot be decompressed: {error}") from error
            if chunk is None:
                return 0
            self._ready = memoryview(chunk)
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _more(self) -> bytes | None:
        """Some decompressed bytes, perhaps none; None at the end."""
        rest = self._decoder.rest
        if rest is not None:
            return self._next_stream(rest)
        data = b""
        if self._decoder.hungry:
            data = self._source.take(_PIECE)
            if not data:
                if self._fresh:
                    return None
                raise damaged(self._path, "its compressed contents are cut short")
        self._fresh = False
        return self._decoder.take(data)

    def _next_stream(self, rest: bytes) -> bytes | None:
        """One stream has ended: begin the next, with padding before it left out."""
        rest = _behind_padding(self._source, rest)
        if not rest:
            return None
        self._decoder = self._make()
        return self._decoder.take(rest)


class _Limited:
    """The decoders of lzma and bz2, which have one interface."""

    def __init__(self, decoder: Any) -> None:  # noqa: ANN401 two types of two C modules
        self._decoder = decoder

    def take(self, data: bytes) -> bytes:
        chunk: bytes = self._decoder.decompress(data, _CHUNK)
        return chunk

    @property
    def hungry(self) -> bool:
        return bool(self._decoder.needs_input)

    @property
    def rest(self) -> bytes | None:
        return self._decoder.unused_data if self._decoder.eof else None


class _Gzip:
    """One gzip member."""

    def __init__(self) -> None:
        import zlib

        self._decoder = zlib.decompressobj(_GZIP)
        self.hungry = True

    def take(self, data: bytes) -> bytes:
        chunk = self._decoder.decompress(data or self._decoder.unconsumed_tail, _CHUNK)
        # output may be waiting in the decoder after its last byte of input: until nothing comes
        self.hungry = not chunk and not self._decoder.unconsumed_tail
        return chunk

    @property
    def rest(self) -> bytes | None:
        return self._decoder.unused_data if self._decoder.eof else None


class _Zstd(io.RawIOBase):
    """The decompressed bytes of a part with zstd frames; skippable ones give nothing.

    zstandard decompresses into the buffer itself, no more than there is room for, and takes the end of its input for
    that of a frame.  So it is given each frame alone, by a `_Frame`, which knows whether that was all of it.
    """

    def __init__(self, part: Part, error: type[Exception]) -> None:
        self._source = _Plain(part)
        self._path = part.path
        self._error = error
        self._next_frame(self._source.take(_PIECE))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 as in proc.Stream
        while not (got := self._decompress(buffer)) and not self._frame.empty:
            if not self._frame.ended:
                raise damaged(self._path, "its compressed contents are cut short")
            self._next_frame(_behind_padding(self._source, self._frame.data))
        return got

    def _decompress(self, buffer: Any) -> int:  # noqa: ANN401 as above
        try:
            return int(self._reader.readinto(buffer))
        except self._error as error:
            raise damaged(self._path, f"its contents cannot be decompressed: {error}") from error

    def _next_frame(self, data: bytes) -> None:
        import zstandard

        self._frame = _Frame(self._source, data)
        decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        self._reader = decompressor.stream_reader(cast("IO[bytes]", self._frame))


class _Frame:
    """The bytes of one zstd frame, as a file, and whether all of them were there."""

    def __init__(self, source: _Plain, data: bytes) -> None:
        self.data = data  # what has been read from the source and not been given
        self.empty = not data  # there is no frame any more
        self.ended = self.empty  # whether all of it has been given, or is in `data`
        self._source = source
        self._end = 0  # in `data`, or behind it: where the parts end whose sizes are known
        self._sizes = self._find_sizes()

    def read(self, _: int, /) -> bytes:
        """Some more of its bytes; b"" at the end."""
        while not self._look() and (more := self._source.take(_PIECE)):
            self.data += more
        size = self._end if self.ended else len(self.data)
        given, self.data = self.data[:size], self.data[size:]  # most often all of it, which copies nothing
        self._end -= size
        return given

    def _look(self) -> bool:
        """Find the ends of parts as far as there is data. Whether what there is can be given, or is the end."""
        while not self.ended and self._end <= len(self.data):
            size = next(self._sizes, None)
            self.ended = size is None
            self._end += size or 0
        return self.ended or (self.data != b"" and self._end - len(self.data) >= _ZSTD_HEADER)

    def _find_sizes(self) -> Iterator[int]:
        """The sizes of what the frame consists of; whoever asks for one has the end of the part before in `data`.

        Source: RFC 8878, sections 3.1.1 and 3.1.2.
        """
        yield 5
        flags = self.data[4]
        if self.data.startswith(KINDS["zstd"].magic):
            single = flags >> 5 & 1
            yield 1 - single + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]
            last = 0
            while not last:
                yield 3
                block = int.from_bytes(self.data[self._end - 3 : self._end], "little")
                last = block & 1
                yield 1 if block >> 1 & 3 == _ZSTD_RLE else block >> 3
            yield 4 if flags & 4 else 0
        else:  # a frame to be skipped, or nothing that zstandard knows
            yield 3
            yield int.from_bytes(self.data[self._end - 4 : self._end], "little")


def _behind_padding(source: _Plain, data: bytes) -> bytes:
    """What comes behind zero bytes in `data` and in what follows; b"" where nothing does."""
    while not (data := data.lstrip(b"\0")):
        if not (data := source.take(_PIECE)):
            break
    return data


def _decoders(kind: str) -> tuple[Callable[[], _Decoder], type[Exception]]:
    """How to make a decoder, and what it raises."""
    match kind:
        case "gzip":
            import zlib

            return _Gzip, zlib.error
        case "bzip2":
            import bz2

            return lambda: _Limited(bz2.BZ2Decompressor()), OSError
        case _:
            import lzma

            form = lzma.FORMAT_XZ if kind == "xz" else lzma.FORMAT_ALONE
            return lambda: _Limited(lzma.LZMADecompressor(form, memlimit=_XZ_MEMORY)), lzma.LZMAError


def _need_zstandard(path: str) -> type[Exception]:
    try:
        import zstandard
    except ImportError as error:
        message = (
            f"{path}: compressed with zstd, and neither the program zstd nor the Python library zstandard is there"
        )
        raise MissingDependencyError(message, hint="apt install zstd, or pip install zstandard") from error
    return zstandard.ZstdError
