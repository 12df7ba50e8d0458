"""The build-id of a module, by which a debug file is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkghook.ko.elf import SHF_ALLOC, SHT_NOTE

if TYPE_CHECKING:
    from pkghook.ko.elf import Elf

_NT_GNU_BUILD_ID = 3


def build_id(elf: Elf) -> str:
    """The GNU build-id as hex, "" without one: the first allocated note section that holds one.

    Source: init_build_id() in kernel/module/main.c, parse_build_id_buf() in lib/buildid.c.
    """
    order = "little" if elf.shape.order == "<" else "big"
    kinds, flags, offsets, sizes = elf.columns.type, elf.columns.flags, elf.columns.offset, elf.columns.size
    index = -1
    for _ in range(kinds.count(SHT_NOTE)):
        index = kinds.index(SHT_NOTE, index + 1)
        if flags[index] & SHF_ALLOC and sizes[index]:
            found = _build_id_in(elf.image.read(offsets[index], sizes[index]), order)
            if found:
                return found
    return ""


def _build_id_in(notes: bytes, order: str) -> str:
    at = 0
    while at + 12 <= len(notes):
        name_size, size, kind = (int.from_bytes(notes[at + i : at + i + 4], order) for i in (0, 4, 8))  # type: ignore[arg-type]
        start = at + 12 + (name_size + 3 & ~3)
        if kind == _NT_GNU_BUILD_ID and notes[at + 12 : at + 12 + name_size] == b"GNU\0":
            return notes[start : start + size].hex()
        at = start + (size + 3 & ~3)
    return ""
