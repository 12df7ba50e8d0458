"""Relocation sections, by columns; neighbours in the file are handled as one table.

Layout: Elf32_Rel, Elf32_Rela, Elf64_Rel, Elf64_Rela of the ELF specification; MIPS64's own r_info
(a 32-bit symbol number first, whatever the byte order) from the MIPS64 ELF specification.
"""

from __future__ import annotations

import sys
from array import array
from itertools import repeat
from operator import mod
from typing import TYPE_CHECKING

from pkghook.errors import ModuleError
from pkghook.ko.elf import EM_MIPS, NATIVE, RELOCATIONS, SHT_RELA, SHT_SYMTAB, picker
from pkghook.ko.symtab import LOW
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pkghook.ko.elf import Elf, Section


_UTF32 = f"utf-32-{sys.byteorder[0]}e"
_CHARACTERS = 0xD800  # the numbers below which every one is a character (ISO/IEC 10646: surrogates begin here)


class RelocShape(NamedTuple):
    """How one kind of relocation section lies in the file. Units: 32-bit words, but for the last two."""

    entry: int  # words per entry
    word: int  # which word holds the symbol number
    shift: int  # 0, or 8 where the word's low byte is the type (32-bit classes)
    foreign: bool  # byte order differs from this machine's
    low: int  # offset of the lowest byte of the symbol number, in bytes
    high: tuple[int, ...]  # offsets of its other bytes


class RelocRun:
    """One or more relocation sections that follow each other without a gap in the file.

    Modules with at most 256 symbols, nine of ten, have symbol numbers of one byte; their tables are
    looked at as bytes and never become numbers.
    """

    __slots__ = ("_column", "_low", "_symbols", "_words", "columns", "data", "indices", "offset", "shape")

    def __init__(self, elf: Elf, indices: tuple[int, ...], shape: RelocShape, data: bytes) -> None:
        # Not the Elf: it holds this run, and what holds each other lives on until the collector comes.
        self.columns = elf.columns
        self.indices = indices  # of the sections
        self.offset = elf.columns.offset[indices[0]]  # in the file
        self.shape = shape
        self.data = data  # the raw contents of all sections
        self._low: bytes | None = None
        self._words: array[int] | None = None
        self._column: array[int] | None = None
        self._symbols: frozenset[int] | None = None

    @property
    def sections(self) -> list[Section]:
        """The section headers."""
        return [self.columns.section(index) for index in self.indices]

    @property
    def size(self) -> int:
        """Bytes of the run."""
        return len(self.data)

    @property
    def low(self) -> bytes:
        """The symbol numbers if they are all of one byte, else b""."""
        if self._low is None:
            step = self.shape.entry * 4
            narrow = not any(self.data[at::step].strip(b"\0") for at in self.shape.high)
            self._low = self.data[self.shape.low :: step] if narrow else b""
        return self._low

    @property
    def words(self) -> array[int]:
        """The raw contents as 32-bit words in file order (not swapped)."""
        if self._words is None:
            self._words = array("I")
            self._words.frombytes(self.data)
        return self._words

    @property
    def column(self) -> array[int]:
        """Of each entry the word with its symbol number, in machine order."""
        if self._column is None:
            self._column = self.words[self.shape.word :: self.shape.entry]
            if self.shape.foreign:
                self._column.byteswap()
        return self._column

    def symbols(self) -> frozenset[int]:
        """The symbol numbers that occur."""
        if self._symbols is None:
            found = set(self.low or self.column)
            self._symbols = frozenset({w >> 8 for w in found} if self.shape.shift and not self.low else found)
        return self._symbols


def reloc_shape(elf: Elf, kind: int) -> RelocShape:
    """The shape of sections of type `kind` (SHT_RELA or SHT_REL) in this module."""
    return _SHAPES[elf.is64, elf.shape.order, elf.machine == EM_MIPS, kind]


def _reloc_shape(*, is64: bool, order: str, mips: bool, kind: int) -> RelocShape:
    addend = kind == SHT_RELA
    foreign = order != NATIVE
    if not is64:
        low, high = (5, (6, 7)) if order == "<" else (6, (5, 4))
        return RelocShape(3 if addend else 2, 1, 8, foreign, low, high)
    word = 2 if order == ">" or mips else 3
    first, *others = sorted(range(4 * word, 4 * word + 4), reverse=order == ">")
    return RelocShape(6 if addend else 4, word, 0, foreign, first, tuple(others))


_SHAPES = {
    (is64, order, mips, kind): _reloc_shape(is64=is64, order=order, mips=mips, kind=kind)
    for is64 in (False, True)
    for order in "<>"
    for mips in (False, True)
    for kind in RELOCATIONS
}


def reloc_runs(elf: Elf, wanted: Iterable[int]) -> list[RelocRun]:
    """The relocation sections with the indices `wanted` in file order, neighbours joined; empty ones left out."""
    kinds, offsets, sizes, ends = elf.columns.type, elf.columns.offset, elf.columns.size, elf.ends
    order = sorted([i for i in wanted if sizes[i]], key=offsets.__getitem__)
    if not order:
        return []
    starts, stops = [offsets[i] for i in order], [ends[i] for i in order]
    if starts[1:] == stops[:-1] and len({kinds[i] for i in order}) == 1:
        return [reloc_run(elf, order)]  # as linkers write them
    runs: list[RelocRun] = []
    group: list[int] = []
    end = kind = -1
    for index in order:
        if group and (offsets[index] != end or kinds[index] != kind):
            runs.append(reloc_run(elf, group))
            group = []
        group.append(index)
        end, kind = ends[index], kinds[index]
    return [*runs, reloc_run(elf, group)]


def check_relocations(elf: Elf, indices: Sequence[int]) -> None:
    """Raises ModuleError bad-relocation unless each section has entries, a target and the symbol table."""
    if not indices or _all_sound(elf, indices):
        return
    kinds, count = elf.columns.type, elf.count
    sizes, links, infos, entsizes = elf.columns.size, elf.columns.link, elf.columns.info, elf.columns.entsize
    entries = {kind: reloc_shape(elf, kind).entry * 4 for kind in RELOCATIONS}
    for index in indices:
        size, entsize, info, link = sizes[index], entsizes[index], infos[index], links[index]
        if entsize != entries[kinds[index]] or size % entsize:
            raise ModuleError("bad-relocation", section=index, entry_size=entsize, bytes=size)
        if not 0 < info < count or kinds[info] in RELOCATIONS:
            raise ModuleError("bad-relocation", section=index, target=info)
        if not 0 < link < count or kinds[link] != SHT_SYMTAB:
            raise ModuleError("bad-relocation", section=index, link=link)


def _all_sound(elf: Elf, indices: Sequence[int]) -> bool:
    """The rules of `check_relocations` for all at once; False also where only one by one can tell."""
    columns, pick = elf.columns, picker(indices)
    kinds, links, infos = set(pick(columns.type)), set(pick(columns.link)), set(pick(columns.info))
    if len(kinds) > 1 or len(links) > 1:
        return False
    entry, link = reloc_shape(elf, kinds.pop()).entry * 4, links.pop()
    return (
        set(pick(columns.entsize)) == {entry}
        and not any(map(mod, pick(columns.size), repeat(entry)))
        and min(infos) > 0
        and max(infos) < elf.count
        and infos.isdisjoint(elf.relocating)
        and 0 < link < elf.count
        and columns.type[link] == SHT_SYMTAB
    )


def reloc_run(elf: Elf, indices: Sequence[int]) -> RelocRun:
    """Sections of one type that follow each other without a gap, as one run."""
    start, end = elf.columns.offset[indices[0]], elf.ends[indices[-1]]
    kind = elf.columns.type[indices[0]]
    found = elf.cache.get((start, end, kind))
    if found is None:
        data = elf.image.read(start, end - start)
        found = elf.cache[start, end, kind] = RelocRun(elf, tuple(indices), reloc_shape(elf, kind), data)
    return found  # type: ignore[return-value]


def renumbered(run: RelocRun, numbers: Sequence[int]) -> bytearray | array[int]:
    """The run's contents with each symbol number replaced by the one that `numbers` has at its place, no larger one."""
    shape = run.shape
    if run.low:
        out = bytearray(run.data)
        table = bytes(numbers[:LOW]).ljust(LOW, b"\0")
        out[shape.low :: shape.entry * 4] = run.low.translate(table)
        return out
    if shape.shift:
        low = (1 << shape.shift) - 1
        words = {w: numbers[w >> shape.shift] << shape.shift | w & low for w in set(run.column)}
        column = array("I", [words[w] for w in run.column])
    elif len(numbers) <= _CHARACTERS:
        # As text, whose characters are the numbers: str.translate looks them up twice as fast as a loop does.
        column = array("I", str(run.column, _UTF32).translate(numbers).encode(_UTF32))
    else:
        column = array("I", [numbers[w] for w in run.column])
    if shape.foreign:
        column.byteswap()
    wide = run.words[:]
    wide[shape.word :: shape.entry] = column
    return wide
