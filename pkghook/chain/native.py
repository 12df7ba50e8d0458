"""The native step: renders a plan as the bytes of the stripped module, in process.

No tool, no temporary copy: the kept bytes go from the image to the writer, in file order.
It is trusted no more than a foreign tool: the verifier reads what was written afresh.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from pkghook.ko.debugset import group_members
from pkghook.ko.elf import RELOCATIONS, SHF_INFO_LINK, SHT_GROUP, SHT_NOBITS, SHT_SYMTAB
from pkghook.ko.reloc import renumbered
from pkghook.ko.symtab import symbol_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pkghook.ko.elf import Elf, Section
    from pkghook.ko.plan import Plan
    from pkghook.ko.symtab import SymbolTable

    Piece = bytes | bytearray | memoryview | array[int]

COPY = 1 << 20  # bytes copied at a time


def render(elf: Elf, plan: Plan) -> Iterator[Piece]:
    """The stripped module as consecutive pieces, `plan.expected` bytes in all."""
    yield _header(elf, plan)
    at = elf.header_end
    for group in _groups(elf, plan):
        start = plan.offsets[group[0].index]
        if start > at:
            yield bytes(start - at)
        at = plan.offsets[group[-1].index] + plan.sizes.get(group[-1].index, group[-1].size)
        yield from _contents(elf, plan, group)
    if plan.shoff > at:
        yield bytes(plan.shoff - at)
    yield _section_headers(elf, plan)
    if elf.image.size > elf.end:
        yield elf.image.read(elf.end, elf.image.size - elf.end)


def _groups(elf: Elf, plan: Plan) -> Iterator[list[Section]]:
    """The sections that stay, in file order; those that move together and are alike share a list."""
    group: list[Section] = []
    sections, alone, offsets, numbers = elf.sections, plan.sizes, plan.offsets, plan.numbers
    kinds, before, sizes = elf.columns.type, elf.columns.offset, elf.columns.size
    alike = end = None  # of the group: kind and how far it moves; where it ends now
    for index in elf.in_file:
        kind = kinds[index]
        if kind == SHT_NOBITS:
            continue
        if index not in numbers or index in alone:
            if group:
                yield group
                group = []
            if index in numbers:
                yield [sections[index]]
            continue
        relocates = kind if kind in RELOCATIONS else 0
        its = (relocates, offsets[index] - before[index])
        if group and (its != alike or (relocates and before[index] != end)):
            yield group
            group = []
        group.append(sections[index])
        alike, end = its, before[index] + sizes[index]
    if group:
        yield group


def _contents(elf: Elf, plan: Plan, group: list[Section]) -> Iterator[Piece]:
    table = symbol_table(elf)
    head = group[0]
    if head.type in RELOCATIONS:
        yield _relocations(plan, group)
    elif head.index == table.section.index:
        yield from _symbols(elf, plan)
    elif head.index == table.strtab.index:
        yield from (table.strings[a:b] for a, b in plan.strings.runs)
    elif head.index == elf.names_index:
        names = elf.read(head)
        yield from (names[a:b] for a, b in plan.names.runs)
    elif head.type == SHT_GROUP:
        yield _group(elf, plan, head)
    else:
        for at in range(head.offset, group[-1].end, COPY):
            yield elf.image.read(at, min(COPY, group[-1].end - at))


def _relocations(plan: Plan, group: list[Section]) -> Piece:
    """A group of relocation sections: neighbours of one type, so all of one run."""
    start, end = group[0].offset, group[-1].end
    for run in plan.relocations:
        if run.offset <= start and end <= run.offset + run.size:
            out = renumbered(run, plan.rows)
            if run.size == end - start:
                return out
            return memoryview(out).cast("B")[start - run.offset : end - run.offset]
    return b""  # only empty sections


def _symbols(elf: Elf, plan: Plan) -> Iterator[Piece]:
    """The symbol rows that stay, with the names and sections they have afterwards."""
    table, shape = symbol_table(elf), elf.shape
    numbers = {n: plan.numbers.get(n, n) for n in table.sections_used}
    moved = any(n != new for n, new in numbers.items())
    for raw in table.kept_rows(plan.kept):
        words = array("I", raw)
        step = shape.symbol_size // 4
        names = words[::step]
        if shape.foreign:
            names.byteswap()
        names = array("I", plan.strings.moved(names))
        if shape.foreign:
            names.byteswap()
        words[::step] = names
        yield _resectioned(words, numbers, elf) if moved else words


def _resectioned(words: array[int], numbers: dict[int, int], elf: Elf) -> array[int]:
    shape = elf.shape
    halves = array("H", words.tobytes())
    where = slice(shape.symbol_shndx // 2, None, shape.symbol_size // 2)
    column = halves[where]
    if shape.foreign:
        column.byteswap()
    column = array("H", map(numbers.__getitem__, column))
    if shape.foreign:
        column.byteswap()
    halves[where] = column
    return halves


def _group(elf: Elf, plan: Plan, section: Section) -> Piece:
    """A section group without the members that go."""
    words = array("I", elf.read(section)[:4])
    members = array("I", [plan.numbers[m] for m in group_members(elf, section) if m in plan.numbers])
    if elf.shape.foreign:
        members.byteswap()
    return words + members


def _header(elf: Elf, plan: Plan) -> bytes:
    """The ELF header: as it was, but for the table it points at. Program headers are not for modules."""
    fields = list(elf.shape.header.unpack(elf.image.read(16, elf.shape.header.size)))
    fields[4] = 0  # e_phoff
    fields[5] = plan.shoff
    fields[9] = 0  # e_phnum
    fields[11] = len(plan.numbers)
    fields[12] = plan.numbers[elf.names_index]
    return elf.ident + elf.shape.header.pack(*fields)


def _section_headers(elf: Elf, plan: Plan) -> Piece:
    """The rows of the sections that stay; most of each row is as it was."""
    size, foreign = elf.shape.section.size, elf.shape.foreign
    raw = elf.image.read(elf.shoff, elf.table_end - elf.shoff)
    words = array("I")
    words.frombytes(b"".join([raw[i * size : (i + 1) * size] for i in plan.numbers]))
    if foreign:
        words.byteswap()
    step = size // 4
    link = 10 if elf.is64 else 6  # where sh_link lies in a row, in 32-bit words; sh_info follows it
    columns, offsets, sizes = elf.columns, plan.offsets, plan.sizes
    words[::step] = array("I", plan.names.moved(words[::step]))
    words[link::step] = array("I", [plan.numbers[columns.link[i]] for i in plan.numbers])
    words[link + 1 :: step] = array("I", _infos(elf, plan))
    if foreign:
        words.byteswap()
    wide = array("Q" if elf.is64 else "I")
    wide.frombytes(words.tobytes())
    places = array(wide.typecode, [offsets[i] for i in plan.numbers])
    lengths = array(wide.typecode, [sizes.get(i, columns.size[i]) for i in plan.numbers])
    if foreign:
        places.byteswap()
        lengths.byteswap()
    at, step = (3, 8) if elf.is64 else (4, 10)  # where sh_offset lies in a row, in addresses; sh_size follows it
    wide[at::step] = places
    wide[at + 1 :: step] = lengths
    return wide


def _infos(elf: Elf, plan: Plan) -> list[int]:
    """sh_info of the sections that stay: a section, a symbol, or anything else."""
    numbers, rows = plan.numbers, plan.rows
    kinds, flags, infos = elf.columns.type, elf.columns.flags, elf.columns.info
    return [
        numbers[infos[i]]
        if kinds[i] in RELOCATIONS or flags[i] & SHF_INFO_LINK
        else rows[infos[i]]
        if kinds[i] in _COUNTS_SYMBOLS
        else infos[i]
        for i in numbers
    ]


_COUNTS_SYMBOLS = (SHT_SYMTAB, SHT_GROUP)
