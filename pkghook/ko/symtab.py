"""The symbol table of a module, by columns.

A column is one field of all symbols, taken with a strided slice, so that a table of millions of
symbols is looked at in bulk.  Rows are read from the image in chunks, never the whole table at
once: the largest known module has 9.6 million symbols.

Layout: Elf32_Sym and Elf64_Sym of the ELF specification.
"""

from __future__ import annotations

import re
from array import array
from itertools import islice
from typing import TYPE_CHECKING

from pkghook.errors import ModuleError
from pkghook.ko.elf import (
    SHN_ABS,
    SHN_COMMON,
    SHN_LIVEPATCH,
    SHN_LORESERVE,
    SHN_XINDEX,
    SHT_STRTAB,
    SHT_SYMTAB,
    SHT_SYMTAB_SHNDX,
)
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pkghook.ko.elf import Elf, Section

STB_LOCAL = 0
STT_NOTYPE, STT_SECTION, STT_FILE = 0, 3, 4
SPECIAL = frozenset({SHN_ABS, SHN_COMMON, SHN_LIVEPATCH})
# simplify_symbols() in kernel/module/main.c indexes the section headers with every other number.

LOW = 256  # symbol numbers that one byte can hold
CHUNK = 1 << 16  # symbols read at a time
NAME_BLOCK = 1 << 12  # a string without end over this many bytes is no symbol's name; KSYM_NAME_LEN is 512
# st_info of STT_SECTION: local, global, weak; and what else there is. Symbols of a kind mostly stand together.
SECTION_KIND = re.compile(rb"[\x03\x13\x23]+")
FILE_KIND = re.compile(rb"[\x04\x14\x24]+")
_LOCALS = re.compile(rb"[\x00-\x0f]*")
_A_LOCAL = re.compile(rb"[\x00-\x0f]")

Run = tuple[int, int]  # a half-open range of row numbers


class Symbol(NamedTuple):
    """One symbol, all its fields. The name is its bytes, not its offset."""

    name: bytes
    info: int
    other: int
    shndx: int
    value: int
    size: int


class SymbolTable:
    """The columns of one symbol table; `strings` is its string table's contents."""

    __slots__ = (
        "_unnamed", "count", "image", "info", "low", "names", "raw", "section", "sections_used", "shape", "shndx",
        "strings", "strtab",
    )  # fmt: skip

    def __init__(self, elf: Elf, section: Section, strtab: Section) -> None:
        # Not the Elf itself: it holds this table, and what holds each other lives on until the collector comes.
        self.image, self.shape = elf.image, elf.shape
        self.section = section
        self.strtab = strtab
        self.count = section.size // elf.shape.symbol_size
        self.strings = elf.read(strtab)
        self.raw = elf.read(section) if self.count <= CHUNK else b""
        self.info, self.low, self.shndx, self.names = _columns(self)
        self.sections_used = frozenset(self.shndx)
        self._unnamed: list[Run] | None = None

    def rows(self, start: int, end: int) -> bytes:
        """The raw rows start..end."""
        size = self.shape.symbol_size
        if self.raw:
            return self.raw[start * size : end * size]
        return self.image.read(self.section.offset + start * size, (end - start) * size)

    def name(self, row: int) -> bytes:
        """The name of one symbol."""
        start = self.names[row]
        return self.strings[start : self.strings.find(b"\0", start)]

    def names_of(self, rows: Iterable[int]) -> Iterator[bytes]:
        """The names of some symbols that have one each. Raises ModuleError bad-string-table where these share one."""
        room = 2 * len(self.strings)
        for row in rows:
            name = self.name(row)
            room -= len(name)
            if room < 0:
                raise ModuleError("bad-string-table", table="symbol names", bytes=len(self.strings), shared=row)
            yield name

    def symbol(self, row: int) -> Symbol:
        """One symbol with all its fields."""
        raw = self.rows(row, row + 1)
        shape = self.shape
        order = "little" if shape.order == "<" else "big"
        at = 8 if shape.word == 8 else 4
        value = int.from_bytes(raw[at : at + shape.word], order)  # type: ignore[arg-type]
        size = int.from_bytes(raw[at + shape.word : at + 2 * shape.word], order)  # type: ignore[arg-type]
        other = raw[shape.symbol_info + 1]
        return Symbol(self.name(row), self.info[row], other, self.shndx[row], value, size)

    def of_kind(self, kind: re.Pattern[bytes]) -> list[int]:
        """The rows whose st_info, one byte, matches; `kind` may match a run of them at once."""
        return [row for match in kind.finditer(self.info) for row in range(*match.span())]

    @property
    def unnamed(self) -> list[Run]:
        """The runs of section symbols that have no name, and stand for a section by its number."""
        if self._unnamed is None:
            spans = [match.span() for match in SECTION_KIND.finditer(self.info)]
            self._unnamed = [run for start, end in spans for run in self._without_name(start, end)]
        return self._unnamed

    def _without_name(self, start: int, end: int) -> list[Run]:
        names, shndx = self.names[start:end], self.shndx[start:end]
        if not any(names) and min(shndx) and max(shndx) < SHN_LORESERVE:
            return [(start, end)]
        rows = [row for row in range(end - start) if not names[row] and 0 < shndx[row] < SHN_LORESERVE]
        return [(start + row, start + row + 1) for row in rows]

    def mask(self, sections: Iterable[int]) -> bytearray:
        """One byte a row: 1 if the symbol is defined in one of these sections, else 0."""
        used = self.sections_used.intersection(sections)
        if not used:
            return bytearray(self.count)
        table = bytearray(256)
        for number in used:
            table[number & 255] = 1
        if any([table[number & 255] for number in self.sections_used - used]):
            return bytearray([number in used for number in self.shndx])  # two numbers with the same low byte
        return bytearray(self.low.translate(table))

    def chunks(self) -> Iterator[Run]:
        """The whole table cut into runs of at most CHUNK rows."""
        for start in range(0, self.count, CHUNK):
            yield start, min(self.count, start + CHUNK)

    def kept_rows(self, runs: Sequence[Run]) -> Iterator[bytes]:
        """The raw rows of `runs` (sorted), joined, about CHUNK rows at a time."""
        size = self.shape.symbol_size
        first = 0
        for start, end in self.chunks():
            raw = self.rows(start, end)
            parts = []
            for run_start, run_end in islice(runs, first, None):
                if run_start >= end:
                    break
                parts.append(raw[max(run_start - start, 0) * size : (min(run_end, end) - start) * size])
                first += run_end <= end
            yield b"".join(parts)


def symbol_table(elf: Elf) -> SymbolTable:
    """The module's one symbol table, with its string table, checked.

    Raises ModuleError: no-symbol-table, bad-symbol-table (two, odd sizes), bad-string-table, bad-symbol,
    too-many-sections (SHT_SYMTAB_SHNDX).
    """
    found = elf.cache.get("symtab")
    if found is None:
        found = elf.cache["symtab"] = _find(elf)
    return found  # type: ignore[return-value]


def _find(elf: Elf) -> SymbolTable:
    kinds = elf.columns.type
    if SHT_SYMTAB_SHNDX in kinds:
        raise ModuleError("too-many-sections", extended="SHT_SYMTAB_SHNDX")
    if SHT_SYMTAB not in kinds:
        raise ModuleError("no-symbol-table", sections=elf.count)
    if kinds.count(SHT_SYMTAB) != 1:
        raise ModuleError("bad-symbol-table", tables=kinds.count(SHT_SYMTAB))
    section = elf.section(kinds.index(SHT_SYMTAB))
    size = elf.shape.symbol_size
    if section.entsize != size or section.size % size or not section.size:
        raise ModuleError("bad-symbol-table", entry_size=section.entsize, bytes=section.size)
    if not 0 < section.link < elf.count or kinds[section.link] != SHT_STRTAB:
        raise ModuleError("bad-symbol-table", link=section.link)
    table = SymbolTable(elf, section, elf.section(section.link))
    _check(table, elf.count)
    return table


def _check(table: SymbolTable, sections: int) -> None:
    strings = table.strings
    if not strings or strings[0] or strings[-1]:
        edges = {"first": strings[:1].hex(), "last": strings[-1:].hex()} if strings else {}  # NUL is wanted
        raise ModuleError("bad-string-table", table="symbol names", bytes=len(strings), **edges)
    if max(table.names) >= len(strings):
        raise ModuleError("bad-string-table", table="symbol names", name_offset=max(table.names), bytes=len(strings))
    for start in range(0, len(strings) - NAME_BLOCK, NAME_BLOCK):
        if strings.find(b"\0", start, start + NAME_BLOCK) < 0:  # names that all share it would take all memory
            raise ModuleError("bad-string-table", table="symbol names", unended=start, bytes=NAME_BLOCK)
    strangers = [n for n in table.sections_used if n >= sections and n not in SPECIAL]
    if strangers:
        worst = max(strangers)
        if worst == SHN_XINDEX:
            raise ModuleError("too-many-sections", symbol=table.shndx.index(worst))
        raise ModuleError("bad-symbol", symbol=table.shndx.index(worst), section_index=worst, sections=sections)
    if any(table.rows(0, 1)):
        raise ModuleError("bad-symbol-table", symbol=0, contents=table.rows(0, 1).hex())
    locals_end = _LOCALS.match(table.info).end()  # type: ignore[union-attr]
    first = table.section.info
    if first > table.count or locals_end < first or _A_LOCAL.search(table.info, first):
        raise ModuleError("bad-symbol-table", first_global=first, found=locals_end)


def _columns(table: SymbolTable) -> tuple[bytes, bytes, array[int], array[int]]:
    shape = table.shape
    size, at_info, at_shndx = shape.symbol_size, shape.symbol_info, shape.symbol_shndx
    at_low = at_shndx + (shape.order == ">")
    info: list[bytes] = []
    low: list[bytes] = []
    shndx, names = array("H"), array("I")
    for start, end in table.chunks():
        raw = table.rows(start, end)
        info.append(raw[at_info::size])
        low.append(raw[at_low::size])
        shndx += array("H", raw)[at_shndx // 2 :: size // 2]
        names += array("I", raw)[:: size // 4]
    if shape.foreign:
        shndx.byteswap()
        names.byteswap()
    return b"".join(info), b"".join(low), shndx, names


_MARKED, _UNMARKED = re.compile(rb"\x01+"), re.compile(rb"\x00+")


def marked(mask: bytearray) -> list[Run]:
    """The runs of rows whose byte in `mask` is 1."""
    return [match.span() for match in _MARKED.finditer(mask)]


def unmarked(mask: bytearray) -> list[Run]:
    """The runs of rows whose byte in `mask` is 0."""
    return [match.span() for match in _UNMARKED.finditer(mask)]


def length(runs: Iterable[Run]) -> int:
    """How many rows the runs have."""
    return sum([end - start for start, end in runs])
