"""What the kernel's loader sees of a module: a second opinion, written plainly and apart from `pkghook.ko`.

`view` turns a file into one value in which nothing is left that a strip tool may change: no file offset, no
symbol or section number, no debug information.  Two files are the same module if their views are equal.  It
follows the proof obligations V1-V11, entry by entry, without a thought for speed; the verifier is tested against it.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from typing import Any

DEBUG = re.compile(
    r"\.z?debug_.*|\.line|\.stab(\..*)?|\.stabstr|\.gdb_index|\.gnu\.linkonce\.wi\..*|\.gnu\.debuglto_\.debug_.*",
    re.DOTALL,
)
NULL, SYMTAB, STRTAB, RELA, NOBITS, REL, GROUP, ADDRSIG = 0, 2, 3, 4, 8, 9, 17, 0x6FFF4C03
ALLOC, INFO_LINK, KLP = 2, 0x40, 0x100000
ARC = {45, 93, 195}
SPECIAL = {0xFF20, 0xFFF1, 0xFFF2}


class Broken(Exception):
    """The loader would refuse the file, or could not trust it."""


def need(truth: object, why: str) -> None:
    """Else it is broken."""
    if not truth:
        raise Broken(why)


class Section:
    """One section, all its fields."""

    def __init__(self, index: int, row: tuple[int, ...], name: str, data: bytes) -> None:
        self.index, self.name, self.data = index, name, data
        self.type, self.flags, _, self.offset, self.size, self.link, self.info, self.align, self.entsize = row[1:]

    @property
    def is_alloc(self) -> bool:
        """Whether it is loaded."""
        return bool(self.flags & ALLOC)

    @property
    def is_reloc(self) -> bool:
        """Whether it holds relocations."""
        return self.type in (RELA, REL)

    @property
    def fields(self) -> tuple[object, ...]:
        """What must be equal of every section that stays."""
        return self.name, self.type, self.flags & ~INFO_LINK, self.align, self.entsize, self.size


class File:
    """A module, read from the first byte to the last."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        need(data[:4] == b"\x7fELF" and len(data) >= 52 and data[4] in (1, 2) and data[5] in (1, 2), "ident")
        self.is64, self.order = data[4] == 2, "<" if data[5] == 1 else ">"
        form = self.order + ("HHIQQQIHHHHHH" if self.is64 else "HHIIIIIHHHHHH")
        need(len(data) >= 16 + struct.calcsize(form), "header")
        header = struct.unpack_from(form, data, 16)
        need(header[0] == 1 and header[2] == 1 and data[6] == 1, "type or version")
        self.machine, self.shoff, self.shnum, self.names_at = header[1], header[5], header[11], header[12]
        self.identity = data[:16], *header[:4], header[6]
        need(header[10] == (64 if self.is64 else 40) and 0 < self.names_at < self.shnum < 0xFF00, "section table")
        self.sections = self.read_sections()
        self.symtab, self.strtab = self.find_tables()
        self.debug = self.debug_set()
        self.ids = self.identities()
        self.symbols = self.read_symbols()

    def read_sections(self) -> list[Section]:
        """All of them, inside the file."""
        form = struct.Struct(self.order + ("IIQQQQIIQQ" if self.is64 else "10I"))
        need(0 < self.shoff <= len(self.data) - self.shnum * form.size, "section table outside")
        rows = [form.unpack_from(self.data, self.shoff + i * form.size) for i in range(self.shnum)]
        for row in rows:
            need(row[1] in (NULL, NOBITS) or row[4] + row[5] <= len(self.data), "section outside")
            need(row[8] & (row[8] - 1) == 0, "alignment")
        names = rows[self.names_at]
        table = self.data[names[4] : names[4] + names[5]]
        need(names[1] == STRTAB and table and not table[-1], "section names")
        need(not any((rows[0][1], rows[0][3], rows[0][5])), "section 0")
        return [Section(i, row, self.string(table, row[0]), self.contents(row)) for i, row in enumerate(rows)]

    def contents(self, row: tuple[int, ...]) -> bytes:
        """A section's bytes."""
        return b"" if row[1] in (NULL, NOBITS) else self.data[row[4] : row[4] + row[5]]

    @staticmethod
    def string(table: bytes, start: int) -> str:
        """A name."""
        end = table.find(b"\0", start)
        need(end >= 0, "name outside")
        return table[start:end].decode("latin-1")

    def find_tables(self) -> tuple[Section, Section]:
        """The symbol table and its strings."""
        tables = [s for s in self.sections if s.type == SYMTAB]
        need(len(tables) == 1, "symbol tables")
        symtab = tables[0]
        size = 24 if self.is64 else 16
        need(symtab.entsize == size and symtab.size % size == 0 and symtab.size, "symbol table size")
        need(0 < symtab.link < len(self.sections), "symbol table link")
        strtab = self.sections[symtab.link]
        need(strtab.type == STRTAB and strtab.data and not strtab.data[0] and not strtab.data[-1], "symbol names")
        return symtab, strtab

    def identities(self) -> dict[int, tuple[str, int]]:
        """Section number -> name and ordinal; the three tables by what they are."""
        seen: Counter[str] = Counter()
        found = {}
        tables = {0: "null", self.symtab.index: "symtab", self.strtab.index: "strtab", self.names_at: "names"}
        for s in self.sections:
            if s.index in tables:
                found[s.index] = (f"*{tables[s.index]}", 0)
            elif s.index not in self.debug:
                found[s.index] = (s.name, seen[s.name])
                seen[s.name] += 1
        return found

    def is_debug(self, s: Section) -> bool:
        """Whether the section by itself is debug information, or relocates it."""
        if s.is_alloc or not s.index:
            return False
        if s.is_reloc and 0 < s.info < len(self.sections) and not self.sections[s.info].is_reloc:
            return self.is_debug(self.sections[s.info])
        named = DEBUG.fullmatch(s.name) and not (self.machine in ARC and s.name == ".debug_frame")
        return bool(named) or (self.machine == 8 and s.type == 0x7000001E)

    def members(self, group: Section) -> list[int]:
        """Section numbers in a group."""
        need(len(group.data) >= 4 and len(group.data) % 4 == 0, "group")
        found = list(struct.unpack(f"{self.order}{len(group.data) // 4}I", group.data))[1:]
        need(all(m < len(self.sections) for m in found), "group member")
        return found

    def debug_set(self) -> set[int]:
        """All that goes."""
        going = {s.index for s in self.sections if self.is_debug(s)}
        for s in self.sections:
            if s.type == GROUP and not s.is_alloc and self.members(s) and going.issuperset(self.members(s)):
                going.add(s.index)
        return going

    def read_symbols(self) -> list[tuple[Any, ...]]:
        """(name, info, other, section, value, size) of each; a section by identity, `debug` for those that go."""
        rows = struct.iter_unpack(self.order + ("IBBHQQ" if self.is64 else "IIIBBH"), self.symtab.data)
        stale = {s.index for s in self.sections if s.type == ADDRSIG and not s.is_alloc}  # may go, and its symbols too
        found: list[tuple[Any, ...]] = []
        self.named: list[bool] = []
        for number, row in enumerate(rows):
            name, info, other, index, value, size = row if self.is64 else (row[0], *row[3:6], *row[1:3])
            need(index < len(self.sections) or index in SPECIAL, "symbol's section")
            need((info >> 4 == 0) == (number < self.symtab.info), "locals first")
            place: object = index
            if 0 < index < 0xFF00:
                place = "debug" if index in self.debug | stale else self.ids[index]
            found.append((self.string(self.strtab.data, name), info, other, place, value, size))
            self.named.append(name != 0)  # a name elsewhere that happens to be empty is taken for one
        need(not any(self.symtab.data[: self.symtab.entsize]) and self.symtab.info <= len(found), "first symbol")
        return found

    # --- the view ---

    def view(self) -> dict[str, object]:
        """All that counts."""
        staying = [s for s in self.sections if s.index not in self.debug and not self.ids[s.index][0].startswith("*")]
        plain = [s for s in staying if not s.is_reloc and not s.is_alloc and s.type not in (GROUP, ADDRSIG)]
        return {
            "header": self.identity,
            "null section": self.sections[0].flags,
            "loaded": [(s.fields, b"" if s.is_reloc else s.data) for s in staying if s.is_alloc],
            "others": {self.ids[s.index]: (s.fields, s.data) for s in plain},
            "links": {self.ids[s.index]: self.links(s) for s in staying if not s.is_reloc and s.type != ADDRSIG},
            "groups": {self.ids[s.index]: self.group(s) for s in staying if s.type == GROUP},
            "relocations": self.relocations([s for s in staying if s.is_reloc]),
            "symbols": [s for s, named in zip(self.symbols, self.named, strict=True) if self.counts(s, named=named)][
                1:
            ],
            "tables": [self.table(self.symtab), self.table(self.strtab), self.table(self.sections[self.names_at])[1]],
            "behind": self.data[self.end() :],
        }

    def links(self, s: Section) -> tuple[object, object]:
        """What sh_link and sh_info point at."""
        need(s.link < len(self.sections), "link")
        info = None
        if s.flags & INFO_LINK and s.info and s.type != GROUP:
            need(s.info < len(self.sections), "info")
            info = self.ids.get(s.info, "debug")
        return self.ids.get(s.link, "debug"), info

    def group(self, s: Section) -> tuple[object, ...]:
        """A group's flags, signature and members."""
        need(s.info < len(self.symbols), "signature")
        members = [self.ids.get(m, "debug") for m in self.members(s) if m not in self.debug]
        return s.name, s.flags & ~INFO_LINK, s.align, s.entsize, s.data[:4], self.symbols[s.info], members

    @staticmethod
    def counts(symbol: tuple[Any, ...], *, named: bool) -> bool:
        """V5: undefined or special, or named and in a section that stays."""
        _, info, _, place, _, _ = symbol
        if isinstance(place, int):
            return not (place == 0xFFF1 and info & 15 == 4 and info >> 4 in (0, 1, 2))
        return named and place != "debug"

    def table(self, s: Section) -> tuple[object, ...]:
        """What the loader or kmod sees of the header of a symbol or string table."""
        flags = s.flags & ~(INFO_LINK | 0x30)
        word = 8 if self.is64 else 4
        return s.name, flags, max(s.align, word), s is self.symtab and s.align < word

    def relocations(self, sections: list[Section]) -> dict[object, list[object]]:
        """By target: its relocation sections in order, each with its entries in order."""
        found: dict[object, list[object]] = {}
        for s in sections:
            need(0 < s.info < len(self.sections) and not self.sections[s.info].is_reloc, "target")
            need(s.link == self.symtab.index, "symbol table of relocations")
            entry = (8 if self.is64 else 4) * (3 if s.type == RELA else 2)
            need(s.entsize == entry and s.size % entry == 0, "relocation size")
            entries = [self.relocation(row) for row in struct.iter_unpack(self.form(s.type), s.data)]
            found.setdefault(self.ids.get(s.info, "debug"), []).append((s.fields, entries))
        return found

    def form(self, type: int) -> str:
        """How a relocation is packed."""
        if self.is64 and self.machine == 8:
            return self.order + "QI4s" + "q" * (type == RELA)
        return self.order + ("QQ" if self.is64 else "II") + ("q" if self.is64 else "i") * (type == RELA)

    def relocation(self, row: tuple[Any, ...]) -> tuple[object, ...]:
        """(offset, type, addend, symbol as what it is)."""
        if self.is64 and self.machine == 8:
            offset, number, type, *addend = row
        elif self.is64:
            offset, number, type, *addend = row[0], row[1] >> 32, row[1] & 0xFFFFFFFF, *row[2:]
        else:
            offset, number, type, *addend = row[0], row[1] >> 8, row[1] & 255, *row[2:]
        need(number < len(self.symbols), "relocation's symbol")
        return offset, type, tuple(addend), self.symbols[number]

    @property
    def refused(self) -> set[str]:
        """Names of sections that are writable and executable: kernels may refuse a module for one."""
        return {s.name for s in self.sections if s.flags & 5 == 5}

    @property
    def is_crooked(self) -> bool:
        """Whether the kernel, which reads these where they lie, would find them at odd addresses."""
        read = [s for s in self.sections if s.size and s.type in (SYMTAB, RELA, REL)]
        return any(s.offset % (8 if self.is64 else 4) for s in read)

    def end(self) -> int:
        """Where what belongs to nobody begins."""
        table: int = self.shoff + self.shnum * (64 if self.is64 else 40)
        return max(table, *(s.offset + s.size for s in self.sections if s.type not in (NULL, NOBITS)))


def view(data: bytes) -> dict[str, object]:
    """What the loader sees; Broken where it would refuse the file."""
    return File(data).view()


class Original:
    """A module before it was stripped, seen once and compared often."""

    def __init__(self, data: bytes) -> None:
        self.file = File(data)
        self.view = self.file.view()

    def same(self, after: bytes) -> bool:
        """Whether the stripped `after` is the same to the loader, and nothing of the debug set is left."""
        try:
            new = File(after)
            if new.view() != self.view:
                return False
        except Broken:
            return False
        left = any(new.sections[index].size for index in new.debug)
        worse = new.is_crooked and not self.file.is_crooked
        return not left and not worse and new.refused <= self.file.refused


def same(before: bytes, after: bytes) -> bool:
    """Whether the stripped `after` is `before` to the loader, and nothing of the debug set is left."""
    try:
        return Original(before).same(after)
    except Broken:
        return False
