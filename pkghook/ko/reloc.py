"""Relocation sections, by columns; neighbours in the file are handled as one table.

Layout: Elf32_Rel, Elf32_Rela, Elf64_Rel, Elf64_Rela of the ELF specification; MIPS64's own r_info
(a 32-bit symbol number first, whatever the byte order) from the MIPS64 ELF specification.
"""

from __future__ import annotations

from array import array
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from pkghook.errors import ModuleError
from pkghook.ko.elf import EM_MIPS, RELOCATIONS, SHT_RELA, SHT_SYMTAB

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pkghook.ko.elf import Elf, Section


class RelocShape(NamedTuple):
    """How one kind of relocation section lies in the file. Units: 32-bit words."""

    entry: int  # words per entry
    word: int  # which word holds the symbol number
    shift: int  # 0, or 8 where the word's low byte is the type (32-bit classes)
    foreign: bool  # byte order differs from this machine's


class RelocRun(NamedTuple):
    """One or more relocation sections that follow each other without a gap in the file."""

    sections: tuple[Section, ...]
    shape: RelocShape
    words: array[int]  # the raw contents as 32-bit words in file order (not swapped)
    column: array[int]  # of each entry the word with its symbol number, in machine order

    @property
    def offset(self) -> int:
        """Offset of the run in the file."""
        return self.sections[0].offset

    @property
    def size(self) -> int:
        """Bytes of the run."""
        return len(self.words) * 4

    def symbols(self) -> set[int]:
        """The symbol numbers that occur."""
        return {w >> 8 for w in set(self.column)} if self.shape.shift else set(self.column)


def reloc_shape(elf: Elf, kind: int) -> RelocShape:
    """The shape of sections of type `kind` (SHT_RELA or SHT_REL) in this module."""
    addend = kind == SHT_RELA
    foreign = elf.shape.foreign
    if not elf.is64:
        return RelocShape(3 if addend else 2, 1, 8, foreign)
    symbol_first = elf.shape.order == ">" or elf.machine == EM_MIPS
    return RelocShape(6 if addend else 4, 2 if symbol_first else 3, 0, foreign)


def reloc_runs(elf: Elf, wanted: Iterable[Section]) -> list[RelocRun]:
    """The relocation sections `wanted` in file order, neighbours joined; empty ones left out.

    Raises ModuleError bad-relocation.
    """
    runs: list[RelocRun] = []
    group: list[Section] = []
    for section in sorted([s for s in wanted if s.size], key=_BY_OFFSET):
        if group and (section.offset != group[-1].offset + group[-1].size or section.type != group[0].type):
            runs.append(_read(elf, group))
            group = []
        group.append(section)
    if group:
        runs.append(_read(elf, group))
    return runs


def check_relocations(elf: Elf, sections: Sequence[Section]) -> None:
    """Raises ModuleError bad-relocation unless each section has entries, a target and the symbol table."""
    every, count = elf.sections, len(elf.sections)
    sizes = {kind: reloc_shape(elf, kind).entry * 4 for kind in RELOCATIONS}
    for section in sections:
        entry = sizes[section.type]
        if section.entsize != entry or section.size % entry:
            raise ModuleError("bad-relocation", section=section.index, entry_size=section.entsize, bytes=section.size)
        info, link = section.info, section.link
        if not 0 < info < count or every[info].type in RELOCATIONS:
            raise ModuleError("bad-relocation", section=section.index, target=info)
        if not 0 < link < count or every[link].type != SHT_SYMTAB:
            raise ModuleError("bad-relocation", section=section.index, link=link)


_BY_OFFSET = itemgetter(5, 1)  # offset, index


def _read(elf: Elf, sections: list[Section]) -> RelocRun:
    start = sections[0].offset
    size = sections[-1].offset + sections[-1].size - start
    found = elf.cache.get((start, size))
    if found is None:
        shape = reloc_shape(elf, sections[0].type)
        words = array("I")
        words.frombytes(elf.image.read(start, size))
        column = words[shape.word :: shape.entry]
        if shape.foreign:
            column.byteswap()
        found = elf.cache[start, size] = RelocRun(tuple(sections), shape, words, column)
    return found  # type: ignore[return-value]


def renumbered(run: RelocRun, numbers: dict[int, int]) -> array[int]:
    """The run's words with each symbol number replaced; `numbers` has every number that occurs."""
    shift = run.shape.shift
    low = (1 << shift) - 1
    if shift:
        numbers = {w: numbers[w >> shift] << shift | w & low for w in set(run.column)}
    column = array("I", map(numbers.__getitem__, run.column))
    if run.shape.foreign:
        column.byteswap()
    out = run.words[:]
    out[run.shape.word :: run.shape.entry] = column
    return out
