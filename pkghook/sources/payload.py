"""The bytes inside a package: a compressed part of a file as one stream that is read forward, once.

Each kind of compression is a row: the program that undoes it beside us, where that is quicker; otherwise, and where
the program is missing, it is done in process, which saves two copies of all bytes.  Whoever has read to the end of
the archive in it calls `finish`, which shows whether the stream ended as it should: a decompressor that dies looks
like the end.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pkghook import proc
from pkghook.errors import InputError
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import BufferedReader, RawIOBase

BUFFER = 1 << 16  # bytes read ahead, which serve headers and small members
SKIP = 1 << 20  # bytes thrown away at a time
TRAILING = 16 << 20  # bytes behind the archive's end that are looked at
STALL = 120.0  # seconds in which a decompressor must have given something
XZ_MEMORY = "512MiB"  # for all threads; xz takes fewer of them for it, and refuses larger dictionaries


class Part(NamedTuple):
    """Where compressed bytes lie in a file that is open."""

    fd: int
    start: int
    size: int
    path: str  # for messages


class Row(NamedTuple):
    """One kind of compression."""

    magic: bytes
    argv: tuple[str, ...] = ()  # a program that decompresses stdin to stdout
    library: str = ""  # that is quicker than the program


KINDS = {
    "none": Row(b""),
    "gzip": Row(b"\x1f\x8b"),  # zlib needs three quarters of the time of gzip
    "bzip2": Row(b"BZh", ("bzip2", "-dc")),
    "xz": Row(b"\xfd7zXZ\x00", ("xz", "-dc", "--format=xz", "-T0", f"--memlimit={XZ_MEMORY}")),
    "lzma": Row(b"\x5d\x00\x00", ("xz", "-dc", "--format=lzma", f"--memlimit={XZ_MEMORY}")),
    "zstd": Row(b"\x28\xb5\x2f\xfd", ("zstd", "-dc", "-q"), "zstandard"),
}


class Payload:
    """A stream of bytes and the place in it.

    All methods raise InputError, with the path and the reason, where the stream ends too early or is damaged.
    """

    def __init__(self, raw: RawIOBase, path: str, verdict: Callable[[], str]) -> None:
        from io import BufferedReader

        self._stream: BufferedReader = BufferedReader(raw, BUFFER)
        self._path = path
        self._verdict = verdict  # asked at the stream's end: what went wrong, or ""
        self._waste = memoryview(bytearray(0))
        self.offset = 0  # bytes given so far

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        data = self._stream.read(size)
        self.offset += len(data)
        if len(data) != size:
            raise self._cut_short()
        return data

    def readinto(self, buffer: memoryview) -> None:
        """As many bytes as `buffer` has room for."""
        filled = 0
        while filled < len(buffer):
            if not (got := self._stream.readinto(buffer[filled:])):
                self.offset += filled
                raise self._cut_short()
            filled += got
        self.offset += filled

    def skip(self, size: int) -> None:
        """Throw `size` bytes away."""
        end = self.offset + size
        while self.offset < end:
            if not self._throw(end - self.offset):
                raise self._cut_short()

    def align(self, unit: int) -> None:
        """Throw bytes away up to the next multiple of `unit`."""
        self.skip(-self.offset % unit)

    def begins(self) -> bool:
        """Whether there is a byte at all; it is not taken."""
        return bool(self._stream.peek(1))

    def finish(self) -> int:
        """The archive has ended. The number of bytes up to the last one that is not zero; raises as all else does."""
        begin, last = self.offset, 0
        while chunk := self._stream.read(SKIP):
            if used := len(chunk.rstrip(b"\0")):
                last = self.offset - begin + used
            self.offset += len(chunk)
            if self.offset - begin > TRAILING:
                raise damaged(self._path, f"more than {TRAILING} bytes behind the end of its archive")
        if reason := self._verdict():
            raise damaged(self._path, reason)
        return last

    def close(self) -> None:
        """End it, at whatever place; a decompressor that still runs is killed."""
        self._stream.close()

    def _throw(self, size: int) -> int:
        if not self._waste:
            self._waste = memoryview(bytearray(SKIP))
        got = self._stream.readinto(self._waste[: min(size, SKIP)])
        self.offset += got
        return got

    def _cut_short(self) -> InputError:
        return damaged(self._path, self._verdict() or f"its contents end after {self.offset} bytes, in the middle")


def damaged(path: str, reason: str) -> InputError:
    """The error for a package that cannot be read."""
    return InputError(f"{path}: {reason}", hint="the package is cut short or damaged: build or copy it again")


def sniff(part: Part) -> str:
    """The kind of compression that the first bytes tell, `none` where they tell nothing. lzma has no true magic."""
    head = os.pread(part.fd, 8, part.start)
    return next((kind for kind, row in KINDS.items() if row.magic and head.startswith(row.magic)), "none")


def open_part(part: Part, kind: str) -> Payload:
    """The decompressed bytes of `part`, by the kind's program if that is the way and can do it.

    The program needs a part that goes to the end of its file.

    Raises InputError, and MissingDependencyError where neither program nor library is there.
    """
    argv, library = KINDS[kind][1:]
    program = proc.which(argv[0]) if argv and not _is_there(library) else ""
    if not program or part.start + part.size != os.fstat(part.fd).st_size:
        return inside(part, kind)
    os.lseek(part.fd, part.start, os.SEEK_SET)  # the program moves on from there; nobody else asks for the place
    return by_program((program, *argv[1:]), part, stdin=part.fd) or inside(part, kind)


def _is_there(library: str) -> bool:
    if library:
        from importlib.util import find_spec

        return find_spec(library) is not None
    return False


def inside(part: Part, kind: str) -> Payload:
    """The decompressed bytes of `part` without the help of a program. Raises as open_part does."""
    from pkghook.sources import inflate

    return Payload(inflate.open_raw(part, kind), part.path, lambda: "")


def by_program(
    argv: tuple[str, ...], part: Part, *, stdin: int | None = None, pass_fds: tuple[int, ...] = ()
) -> Payload | None:
    """What a program prints; None for one that prints nothing: it is too old, or another of that name."""
    stream = proc.stream(argv, stall=STALL, stdin=stdin, pass_fds=pass_fds)
    if isinstance(stream, proc.Ended):
        return None
    payload = Payload(stream, part.path, lambda: _how_it_failed(argv[0], stream.ended()))
    if payload.begins():
        return payload
    payload.close()
    return None


def _how_it_failed(program: str, ended: proc.Ended) -> str:
    """In words; "" for a program that ended well."""
    if ended.status == 0:
        return ""
    words = ended.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
    if ended.timed_out:
        how = f"gave nothing for {STALL:.0f} seconds"
    else:
        how = f"exit status {ended.status}" if ended.status is not None else f"signal {ended.signal}"
    return f"{program}: {how}" + (f": {words[-1]}" if words else "")
