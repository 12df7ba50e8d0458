"""The native step: renders a plan as the bytes of the stripped module, in process.

No tool, no temporary copy: the kept bytes go from the image to the writer, in file order.
It is trusted no more than a foreign tool: the verifier reads what was written afresh.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING

from pkghook.ko.debugset import group_members
from pkghook.ko.elf import RELOCATIONS, SHF_INFO_LINK, SHT_GROUP, SHT_NOBITS
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
    alone, offsets, numbers = plan.sizes, plan.offsets, plan.numbers
    kind = distance = -1  # of the group: type if relocations, and how far it moves
    for section in elf.in_file:
        index = section.index
        if section.type == SHT_NOBITS:
            continue
        if index not in numbers or index in alone:
            if group:
                yield group
                group = []
            if index in alone and index in numbers:
                yield [section]
            continue
        relocates = section.type if section.type in RELOCATIONS else 0
        moved = offsets[index] - section.offset
        if group and (
            relocates != kind or moved != distance or (kind and section.offset != group[-1].offset + group[-1].size)
        ):
            yield group
            group = []
        group.append(section)
        kind, distance = relocates, moved
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
    row, table = elf.shape.section, symbol_table(elf).section.index
    raw = elf.image.read(elf.shoff, elf.table_end - elf.shoff)
    staying = [elf.sections[i] for i in plan.numbers]
    words = array("I", b"".join([raw[i * row.size : (i + 1) * row.size] for i in plan.numbers]))
    step = row.size // 4
    if elf.shape.foreign:
        words.byteswap()
    numbers = plan.numbers
    words[::step] = array("I", plan.names.moved(words[::step]))
    words[_link(step) :: step] = array("I", [numbers[s.link] for s in staying])
    words[_link(step) + 1 :: step] = array("I", [_info(s, plan, table) for s in staying])
    if elf.shape.foreign:
        words.byteswap()
    wide = array("Q" if elf.is64 else "I", words.tobytes())
    offsets = array(wide.typecode, [plan.offsets[s.index] for s in staying])
    sizes = array(wide.typecode, [plan.sizes.get(s.index, s.size) for s in staying])
    if elf.shape.foreign:
        offsets.byteswap()
        sizes.byteswap()
    at = _OFFSET[elf.is64]
    wide[at :: row.size // wide.itemsize] = offsets
    wide[at + 1 :: row.size // wide.itemsize] = sizes
    return wide


_OFFSET = {True: 3, False: 4}  # of sh_offset in a row, in addresses; sh_size follows it


def _link(step: int) -> int:
    """Where sh_link lies in a row, in 32-bit words; sh_info follows it."""
    return 10 if step == 16 else 6  # noqa: PLR2004 (words of an Elf64_Shdr)


def _info(section: Section, plan: Plan, table: int) -> int:
    info = section.info
    if section.type in RELOCATIONS or section.flags & SHF_INFO_LINK:
        return plan.numbers[info]
    if section.type == SHT_GROUP or section.index == table:
        return info - bisect_left(plan.dropped, info)
    return info
