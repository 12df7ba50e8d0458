"""Modules under names that are no module's: seen by their contents.

What the walk takes for a module goes by name, as for depmod and modprobe.  A package may hold one all the same that
has another name, and nobody would have stripped or looked at it.  The other way round `README.ko` is no module, but
Korean.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from pkghook.errors import MissingDependencyError, ModuleError
from pkghook.ko import codec
from pkghook.ko.elf import SHT_SYMTAB, parse
from pkghook.ko.file import BytesImage, unwrap
from pkghook.ko.look import what_is_lost
from pkghook.model import Compression

if TYPE_CHECKING:
    from pkghook.ko.file import Image

HEAD = 64
_ELF = b"\x7fELF"
_TEXT = 4096  # bytes that tell a text
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")
_RELOCATABLE = (b"\1\0", b"\0\1")  # e_type ET_REL in either byte order
_LIKE_A_MODULE = re.compile(r"\.ko([._-]|$)", re.IGNORECASE)
# Compressions that neither the kernel nor kmod reads: bzip2, LZMA alone, LZ4 in its frame and as `lz4 -l` (the form of
# the kernel's own images), lzip. What is inside stays unknown.
_FOREIGN = {
    b"BZh": "bzip2",
    b"\x5d\0\0": "lzma",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x02\x21\x4c\x18": "lz4",
    b"LZIP": "lzip",
}


class Reader(Protocol):
    """What gives the bytes of a file forward."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, all that are left by default."""


class Stranger:
    """A regular file that has no module's name: `module` is all of it if it is a module, else None."""

    def __init__(self, reader: Reader, size: int, name: str, limit: int) -> None:
        """Reads no more than a head of what cannot be a module.  `limit` is in bytes, decompressed.

        Raises MissingDependencyError without the library for the compression.
        """
        head = reader.read(HEAD)
        how = codec.sniff(head)
        self.is_elf = head.startswith(_ELF)
        self.module: BytesImage | None = None
        begin = head
        if how is not Compression.NONE:
            head += reader.read(codec.PEEK - HEAD)
            begin = codec.first_bytes(head, how)
        self.too_large = size > limit and _relocatable(begin)  # to be read: what it is stays unknown
        if size <= limit and _relocatable(begin):
            self.module = _if_module(head, reader, how, limit)
        # a compression that nobody looks into
        self.closed = (_foreign(head) or _twice(begin, how)) if _LIKE_A_MODULE.search(name) else ""

    @property
    def program(self) -> bool:
        """Whether it is another kind of ELF file: the kernel, the vdso, a program."""
        return self.is_elf and self.module is None


def _relocatable(head: bytes) -> bool:
    return head[:4] == _ELF and head[16:18] in _RELOCATABLE


def _foreign(head: bytes) -> str:
    return next((name for magic, name in _FOREIGN.items() if head.startswith(magic)), "")


def _twice(begin: bytes, how: Compression) -> str:
    """The compression inside of another; kernel and kmod undo one. Of a plain file `begin` is its own head."""
    if how is Compression.NONE:
        return ""
    again = codec.sniff(begin)
    inner = _foreign(begin) if again is Compression.NONE else again.value
    return f"{inner} inside {how.value}" if inner else ""


def _if_module(head: bytes, reader: Reader, how: Compression, limit: int) -> BytesImage | None:
    whole = BytesImage(head + reader.read())
    if how is Compression.NONE:
        return whole if is_module(whole) else None
    try:
        image = unwrap(whole, "", limit=limit).image
    except ModuleError:
        return whole  # it begins like one; that it is damaged will be told of it
    return whole if is_module(image) else None


def is_text(whole: Image) -> bool:
    """Whether a file, compressed or not, begins like a text in any encoding that has ASCII in it."""
    try:
        head = whole.read(0, min(whole.size, codec.PEEK))
        how = codec.sniff(head)
        text = (head if how is Compression.NONE else codec.first_bytes(head, how))[:_TEXT]
    except (ModuleError, MissingDependencyError):
        return False  # who looks at it as a module will say what is wrong
    return bool(text) and not _CONTROL.search(text)


def is_module(image: Image) -> bool:
    """Whether a file is a module, whatever its name: what is split off from one, or not yet one, is none."""
    try:
        elf = parse(image)
    except ModuleError:
        return False
    return SHT_SYMTAB in elf.columns.type and not any(id == "no-this-module" for id, _ in what_is_lost(elf))
