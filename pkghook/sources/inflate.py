"""Decompression in process, as a stream: little is held at a time, whatever the input claims.

Several gzip members, bzip2 streams, xz streams (with zero padding between) and zstd frames one after another count
as one stream, as they do for the programs.  Anything else behind the last one is an error.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Protocol

from pkghook.errors import InputError, MissingDependencyError
from pkghook.sources.payload import damaged

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pkghook.sources.payload import Part

_PIECE = 1 << 16  # compressed bytes given to a decoder at once
_ZSTD_PIECE = 1 << 10  # the same for zstd, whose decoder has no limit on what one call gives: 128 KiB for 4 bytes
_CHUNK = 1 << 18  # decompressed bytes taken from a decoder at once
_XZ_MEMORY = 512 << 20
_ZSTD_WINDOW = 1 << 27  # bytes; libzstd's own limit, hence rpm's and dpkg's
_GZIP = 31  # zlib's number for: window of 32 KiB, gzip header and trailer


class _Decoder(Protocol):
    """One gzip member, bzip2 stream, xz stream or zstd frame."""

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
    make, piece, error = _decoders(part, kind)
    return _Inflated(part, make, piece, error)


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
        try:
            got = os.preadv(self._fd, [room], self._next) if room else 0
        except OSError as error:
            raise InputError(f"{self._path}: {error.strerror}") from error
        self._next += got
        return got


class _Inflated(io.RawIOBase):
    """The decompressed bytes of a part."""

    def __init__(
        self, part: Part, make: Callable[[], _Decoder], piece: int, error: type[Exception] | tuple[type[Exception], ...]
    ) -> None:
        self._source = _Plain(part)
        self._path = part.path
        self._make = make
        self._piece = piece
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
            data = self._source.read(self._piece) or b""
            if not data:
                if self._fresh:
                    return None
                raise damaged(self._path, "its compressed contents are cut short")
        self._fresh = False
        return self._decoder.take(data)

    def _next_stream(self, rest: bytes) -> bytes | None:
        """One stream has ended: begin the next, with padding before it left out."""
        while not (rest := rest.lstrip(b"\0")):
            rest = self._source.read(self._piece) or b""
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


class _Zstd:
    """One zstd frame; a skippable one gives nothing."""

    hungry = True

    def __init__(self) -> None:
        import zstandard

        self._decoder = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()

    def take(self, data: bytes) -> bytes:
        return self._decoder.decompress(data)

    @property
    def rest(self) -> bytes | None:
        return self._decoder.unused_data if self._decoder.eof else None


def _decoders(
    part: Part, kind: str
) -> tuple[Callable[[], _Decoder], int, type[Exception] | tuple[type[Exception], ...]]:
    """How to make a decoder, how much it gets at once, and what it raises."""
    match kind:
        case "gzip":
            import zlib

            return _Gzip, _PIECE, zlib.error
        case "bzip2":
            import bz2

            return lambda: _Limited(bz2.BZ2Decompressor()), _PIECE, OSError
        case "xz" | "lzma":
            import lzma

            form = lzma.FORMAT_XZ if kind == "xz" else lzma.FORMAT_ALONE
            return lambda: _Limited(lzma.LZMADecompressor(form, memlimit=_XZ_MEMORY)), _PIECE, lzma.LZMAError
        case _:
            return _Zstd, _ZSTD_PIECE, _need_zstandard(part.path)


def _need_zstandard(path: str) -> type[Exception]:
    try:
        import zstandard
    except ImportError as error:
        message = (
            f"{path}: compressed with zstd, and neither the program zstd nor the Python library zstandard is there"
        )
        raise MissingDependencyError(message, hint="apt install zstd, or pip install zstandard") from error
    return zstandard.ZstdError
