"""A module file without its wrappings: compression, then the appended signature, then the image.

A plain module costs one fstat and two short reads here; its bytes are read by those who need them.
"""

from __future__ import annotations

import os
from stat import S_ISREG
from typing import TYPE_CHECKING, Protocol

from pkghook.errors import ModuleError
from pkghook.ko import codec, signature
from pkghook.model import Compression
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from mmap import mmap

    from pkghook.ko.signature import Signature
    from pkghook.ko.wrapping import Wrapping

_ELF = b"\x7fELF"
# Bytes read at once for a look: the ELF header and the notes; the section headers and their names, and a signature.
_HEAD, _TAIL = 4 << 10, 8 << 10


class Image(Protocol):
    """The bytes of the ELF file, without compression and signature."""

    size: int

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes from `offset`. Raises ModuleError `truncated`, `unreadable`."""


class FdImage:
    """The first `size` bytes of an open file; nothing is kept in memory, the file offset stays."""

    __slots__ = ("fd", "size")

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes from `offset`. Raises ModuleError `truncated`, `unreadable`."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise _truncated(offset, size, self.size)
        try:
            data = os.pread(self.fd, size, offset)
            if len(data) != size:  # one call gives no more than 2 GiB
                data = self._rest(data, offset, size)
        except OSError as error:
            raise ModuleError("unreadable", error=error.strerror or str(error), offset=offset, size=size) from error
        return data

    def first(self, size: int) -> FdImage:
        """An image of no more than the first `size` bytes."""
        return FdImage(self.fd, size)

    def _rest(self, data: bytes, offset: int, size: int) -> bytes:
        whole = bytearray(data)
        while len(whole) < size:
            more = os.pread(self.fd, size - len(whole), offset + len(whole))
            if not more:  # the file became shorter since its size was asked for
                raise _truncated(offset, size, offset + len(whole))
            whole += more
        return bytes(whole)


class Ends(FdImage):
    """An open file of which the first and the last bytes are in memory: most of what a look at the headers reads."""

    __slots__ = ("begin", "head", "tail")

    def __init__(self, fd: int, size: int, head: bytes, tail: bytes, begin: int) -> None:
        super().__init__(fd, size)
        self.head = head
        self.tail = tail
        self.begin = begin  # of `tail`

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes from `offset`. Raises ModuleError `truncated`, `unreadable`."""
        end = offset + size
        if size >= 0 and end <= self.size:
            if offset >= self.begin:
                return self.tail[offset - self.begin : end - self.begin]
            if offset >= 0 and end <= len(self.head):
                return self.head[offset:end]
        return super().read(offset, size)

    def first(self, size: int) -> Ends:
        """An image of no more than the first `size` bytes."""
        return Ends(self.fd, size, self.head, self.tail, self.begin)


class BytesImage:
    """The first `size` bytes of `data`, by default all; nothing is copied before it is read."""

    __slots__ = ("data", "size")

    def __init__(self, data: bytes, size: int | None = None) -> None:
        self.data = data
        self.size = len(data) if size is None else size

    def first(self, size: int) -> BytesImage:
        """An image of no more than the first `size` bytes."""
        return BytesImage(self.data, size)

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes from `offset`. Raises ModuleError `truncated`."""
        end = offset + size
        if offset < 0 or size < 0 or end > self.size:
            raise _truncated(offset, size, self.size)
        return self.data[offset:end]


class Window:
    """`size` bytes of `data` from `start` on; nothing is copied before it is read."""

    __slots__ = ("data", "size", "start")

    def __init__(self, data: mmap, start: int, size: int) -> None:
        self.data = data
        self.start = start
        self.size = size

    def first(self, size: int) -> Window:
        """An image of no more than the first `size` bytes."""
        return Window(self.data, self.start, size)

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes from `offset`. Raises ModuleError `truncated`."""
        end = offset + size
        if offset < 0 or size < 0 or end > self.size:
            raise _truncated(offset, size, self.size)
        return self.data[self.start + offset : self.start + end]


class ModuleFile(NamedTuple):
    """One module file, unwrapped."""

    image: Image
    compression: Compression
    signature: Signature | None
    file_size: int  # bytes of the file as it lies on disk
    trailer: bytes  # the signature trailer, b"" if there is none
    wrapping: Wrapping | None = None  # how exactly it is compressed; only where something asks for it


def load(fd: int, name: str, *, limit: int, look: bool = False) -> ModuleFile:
    """Unwrap the module open as `fd` and named `name`; the image has ELF's magic, more is not known of it.

    A name that is no module's name says nothing about compression.  `limit` (bytes) bounds both the file
    and what it unfolds to.  `look` tells the wrapping, and takes what the kernel takes: bytes may follow the
    compressed module, which are no part of it.  Raises ModuleError `not-regular`, `empty-file`, `too-large`, `not-elf`,
    `name-content-mismatch`, `corrupt-compression`, `trailing-garbage`, `bad-signature`, `truncated`,
    `unreadable`; MissingDependencyError where the library for the compression is not installed.
    """
    size = _size(fd, limit)
    raw = FdImage(fd, size)
    head = raw.read(0, min(size, _HEAD if look else codec.MAGIC_SIZE))
    how = _compression(head[: codec.MAGIC_SIZE], name)
    if how is not Compression.NONE:
        return _unfolded(raw.read(0, size), how, limit, look=look)
    if look:
        begin = max(0, size - _TAIL)
        raw = Ends(fd, size, head, raw.read(begin, size - begin), begin)
    return _unsign(raw, head[: codec.MAGIC_SIZE], how, size)


def unwrap(whole: BytesImage | Window, name: str, *, limit: int, look: bool = False) -> ModuleFile:
    """As `load`, for a file whose contents are in memory; those of a plain one are not copied."""
    if not whole.size:
        raise ModuleError("empty-file")
    if whole.size > limit:
        raise ModuleError("too-large", size=whole.size, limit=limit)
    head = whole.read(0, min(whole.size, codec.MAGIC_SIZE))
    how = _compression(head, name)
    if how is Compression.NONE:
        return _unsign(whole, head, how, whole.size)
    return _unfolded(whole.read(0, whole.size), how, limit, look=look)


def _unfolded(data: bytes, how: Compression, limit: int, *, look: bool) -> ModuleFile:
    image, end = codec.unfold(data, how, limit) if look else (codec.decompress(data, how, limit), len(data))
    file = _unsign(BytesImage(image), image[: codec.MAGIC_SIZE], how, len(data))
    if not look or how is Compression.NONE:
        return file
    from pkghook.ko import wrapping

    return file._replace(wrapping=wrapping.read(data, how, end))


def _size(fd: int, limit: int) -> int:
    status = os.fstat(fd)
    if not S_ISREG(status.st_mode):
        raise ModuleError("not-regular", mode=oct(status.st_mode))
    if status.st_size == 0:
        raise ModuleError("empty-file")
    if status.st_size > limit:
        raise ModuleError("too-large", size=status.st_size, limit=limit)
    return status.st_size


def _compression(head: bytes, name: str) -> Compression:
    """What the contents say, provided that the name agrees."""
    found = codec.sniff(head)
    named = codec.by_name(name)
    if named is None or found is named:
        return found
    if found is Compression.NONE and not head.startswith(_ELF):
        # not a module under a wrong name, but a compressed one whose first bytes are damaged
        raise ModuleError("corrupt-compression", compression=named.value, reason="no magic", starts_with=head.hex(" "))
    raise ModuleError("name-content-mismatch", name=named.value, contents=found.value)


def _unsign(whole: FdImage | BytesImage | Window, head: bytes, how: Compression, file_size: int) -> ModuleFile:
    if not head.startswith(_ELF):
        raise ModuleError("not-elf", starts_with=head.hex(" "), compression=how.value)
    length = min(whole.size, signature.TAIL)
    found = signature.find(whole.read(whole.size - length, length), whole.size)
    if found is None:
        return ModuleFile(whole, how, None, file_size, b"")
    trailer = whole.read(found.offset, found.size)
    return ModuleFile(whole.first(found.offset), how, found, file_size, trailer)


def _truncated(offset: int, size: int, available: int) -> ModuleError:
    return ModuleError("truncated", offset=offset, size=size, available=available)
