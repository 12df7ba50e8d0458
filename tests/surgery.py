"""Byte surgery on module files: one field of one header, symbol or relocation changed, all else left as it is.

Offsets are those of the ELF specification, written down here once more, so that a mistake of `pkghook.ko` cannot
hide in both.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cached_property

from pkghook.chain import native
from pkghook.ko.elf import Elf, parse
from pkghook.ko.file import BytesImage
from pkghook.ko.plan import DEBUG_ONLY, Drop, plan
from pkghook.ko.prove import prove

# name -> (offset, letter of `struct`), by class
HEADER = {
    True: {
        "type": (16, "H"), "machine": (18, "H"), "version": (20, "I"), "entry": (24, "Q"), "phoff": (32, "Q"),
        "shoff": (40, "Q"), "flags": (48, "I"), "ehsize": (52, "H"), "phentsize": (54, "H"), "phnum": (56, "H"),
        "shentsize": (58, "H"), "shnum": (60, "H"), "shstrndx": (62, "H"),
    },
    False: {
        "type": (16, "H"), "machine": (18, "H"), "version": (20, "I"), "entry": (24, "I"), "phoff": (28, "I"),
        "shoff": (32, "I"), "flags": (36, "I"), "ehsize": (40, "H"), "phentsize": (42, "H"), "phnum": (44, "H"),
        "shentsize": (46, "H"), "shnum": (48, "H"), "shstrndx": (50, "H"),
    },
}  # fmt: skip
SECTION = {
    True: {
        "name": (0, "I"), "type": (4, "I"), "flags": (8, "Q"), "addr": (16, "Q"), "offset": (24, "Q"),
        "size": (32, "Q"), "link": (40, "I"), "info": (44, "I"), "align": (48, "Q"), "entsize": (56, "Q"),
    },
    False: {
        "name": (0, "I"), "type": (4, "I"), "flags": (8, "I"), "addr": (12, "I"), "offset": (16, "I"),
        "size": (20, "I"), "link": (24, "I"), "info": (28, "I"), "align": (32, "I"), "entsize": (36, "I"),
    },
}  # fmt: skip
SYMBOL = {
    True: {
        "name": (0, "I"), "info": (4, "B"), "other": (5, "B"), "shndx": (6, "H"), "value": (8, "Q"), "size": (16, "Q"),
    },
    False: {
        "name": (0, "I"), "value": (4, "I"), "size": (8, "I"),
        "info": (12, "B"), "other": (13, "B"), "shndx": (14, "H"),
    },
}  # fmt: skip
RELOCATION = {
    True: {"offset": (0, "Q"), "info": (8, "Q"), "addend": (16, "q")},
    False: {"offset": (0, "I"), "info": (4, "I"), "addend": (8, "i")},
}
SECTION_SIZE = {True: 64, False: 40}
SYMBOL_SIZE = {True: 24, False: 16}
RELOCATION_WORDS = {4: 3, 9: 2}  # SHT_RELA, SHT_REL

Which = int | str  # a section by index or by name (the first of that name)


class Patient:
    """A module file under the knife."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.is64 = data[4] == 2
        self.order = "<" if data[5] == 1 else ">"

    def __bytes__(self) -> bytes:
        return bytes(self.data)

    # --- reading ---

    def get(self, offset: int, form: tuple[int, str]) -> int:
        """One field of something that begins at `offset`."""
        value: int = struct.unpack_from(self.order + form[1], self.data, offset + form[0])[0]
        return value

    def header(self, field: str) -> int:
        """A field of the ELF header."""
        return self.get(0, HEADER[self.is64][field])

    def at(self, which: Which) -> int:
        """Offset of a section's header."""
        index = which if isinstance(which, int) else self.names.index(which)
        return self.header("shoff") + index * SECTION_SIZE[self.is64]

    def section(self, which: Which, field: str) -> int:
        """A field of a section header."""
        return self.get(self.at(which), SECTION[self.is64][field])

    @cached_property
    def names(self) -> list[str]:
        """Of all sections."""
        table = self.contents(self.header("shstrndx"))
        starts = (self.section(index, "name") for index in range(self.header("shnum")))
        return [table[start : table.index(b"\0", start)].decode("latin-1") for start in starts]

    def contents(self, which: Which) -> bytes:
        """A section's bytes."""
        start = self.section(which, "offset")
        return bytes(self.data[start : start + self.section(which, "size")])

    @property
    def symtab(self) -> int:
        """Index of the symbol table."""
        return next(i for i in range(self.header("shnum")) if self.section(i, "type") == 2)

    @property
    def count(self) -> int:
        """Number of symbols."""
        return self.section(self.symtab, "size") // SYMBOL_SIZE[self.is64]

    def symbol(self, row: int, field: str) -> int:
        """A field of a symbol."""
        return self.get(self.symbol_at(row), SYMBOL[self.is64][field])

    def symbol_at(self, row: int) -> int:
        """Offset of a symbol."""
        return self.section(self.symtab, "offset") + row * SYMBOL_SIZE[self.is64]

    def symbol_name(self, row: int) -> str:
        """Its name."""
        strings = self.contents(self.section(self.symtab, "link"))
        start = self.symbol(row, "name")
        return strings[start : strings.index(b"\0", start)].decode("latin-1")

    def row(self, name: str) -> int:
        """The first symbol of that name."""
        return next(row for row in range(1, self.count) if self.symbol_name(row) == name)

    def rows(self) -> Iterator[int]:
        """All symbols but the null symbol."""
        return iter(range(1, self.count))

    def entry_at(self, which: Which, entry: int) -> int:
        """Offset of a relocation."""
        size = RELOCATION_WORDS[self.section(which, "type")] * (8 if self.is64 else 4)
        return self.section(which, "offset") + entry * size

    def relocation(self, which: Which, entry: int, field: str) -> int:
        """A field of a relocation: offset, info (raw) or addend."""
        return self.get(self.entry_at(which, entry), RELOCATION[self.is64][field])

    # --- cutting ---

    def put(self, offset: int, form: tuple[int, str], value: int) -> None:
        """Write one field of something that begins at `offset`."""
        struct.pack_into(self.order + form[1], self.data, offset + form[0], value)

    def set_header(self, **fields: int) -> Patient:
        """Fields of the ELF header."""
        for field, value in fields.items():
            self.put(0, HEADER[self.is64][field], value)
        return self

    def set_section(self, which: Which, **fields: int) -> Patient:
        """Fields of a section header."""
        at = self.at(which)
        for field, value in fields.items():
            self.put(at, SECTION[self.is64][field], value)
        return self

    def set_symbol(self, row: int, **fields: int) -> Patient:
        """Fields of a symbol."""
        for field, value in fields.items():
            self.put(self.symbol_at(row), SYMBOL[self.is64][field], value)
        return self

    def set_relocation(self, which: Which, entry: int, **fields: int) -> Patient:
        """Fields of a relocation."""
        for field, value in fields.items():
            self.put(self.entry_at(which, entry), RELOCATION[self.is64][field], value)
        return self

    def target(self, which: Which, entry: int) -> int:
        """The number of the symbol that a relocation names."""
        at, form = self._number(which, entry)
        return self.get(at, form) >> (0 if self.is64 else 8)

    def set_target(self, which: Which, entry: int, number: int) -> Patient:
        """Let a relocation name another symbol."""
        at, form = self._number(which, entry)
        self.put(at, form, number if self.is64 else number << 8 | self.get(at, form) & 0xFF)
        return self

    def _number(self, which: Which, entry: int) -> tuple[int, tuple[int, str]]:
        """Where the symbol's number lies: of 64 bits of r_info the upper half, but on MIPS the first."""
        first = not self.is64 or self.order == ">" or self.header("machine") == 8
        at = self.entry_at(which, entry) + (8 if self.is64 else 4)
        return at + (0 if first else 4), (0, "I")

    def set_bytes(self, which: Which, offset: int, data: bytes) -> Patient:
        """Bytes of a section's contents."""
        start = self.section(which, "offset") + offset
        self.data[start : start + len(data)] = data
        return self

    def flip(self, offset: int, mask: int = 1) -> Patient:
        """Bits of one byte."""
        self.data[offset] ^= mask
        return self

    def swap_symbols(self, one: int, other: int) -> Patient:
        """Two symbols change places."""
        size = SYMBOL_SIZE[self.is64]
        a, b = self.symbol_at(one), self.symbol_at(other)
        self.data[a : a + size], self.data[b : b + size] = self.data[b : b + size], self.data[a : a + size]
        return self

    def drop_section(self, which: Which) -> Patient:
        """A section becomes an unnamed empty one of type PROGBITS: no number moves, and it is lost."""
        names = self.section(self.header("shstrndx"), "size")
        return self.set_section(which, name=names - 1, type=1, flags=0, size=0, link=0, info=0)

    def append_section(self, name: str, data: bytes, type: int = 1, flags: int = 0) -> Patient:
        """One more section, at the end: contents, a new name table and a new header table behind what is there."""
        names_at = self.header("shstrndx")
        names = self.contents(names_at) + name.encode() + b"\0"
        number, size = self.header("shnum"), SECTION_SIZE[self.is64]
        table = self.header("shoff")
        headers = bytes(self.data[table : table + number * size])
        place = len(self.data)
        self.data += data
        names_place = len(self.data)
        self.data += names
        self.data += bytes(-len(self.data) % 8)
        self.set_header(shoff=len(self.data), shnum=number + 1)
        self.data += headers + bytes(size)
        self.set_section(names_at, offset=names_place, size=len(names))
        fields = {"name": len(names) - len(name) - 1, "type": type, "flags": flags, "offset": place, "size": len(data)}
        self.__dict__.pop("names", None)
        return self.set_section(number, align=1, **fields)


def elf(data: bytes) -> Elf:
    """The module, read by pkghook."""
    return parse(BytesImage(data))


def native_strip(data: bytes, drop: Drop = DEBUG_ONLY) -> bytes:
    """What the native step writes."""
    before = elf(data)
    return b"".join(bytes(memoryview(piece).cast("B")) for piece in native.render(before, plan(before, drop)))


def faults(before: bytes, after: bytes, drop: Drop = DEBUG_ONLY) -> list[str]:
    """The finding ids that the verifier has, each once, in order."""
    return list(dict.fromkeys(fault.id for fault in prove(elf(before), elf(after), drop)))
