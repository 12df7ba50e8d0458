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
    from collections.abc import Iterable, Iterator

    from pkghook.ko.elf import Elf, Section
    from pkghook.ko.plan import Plan
    from pkghook.ko.symtab import SymbolTable

    Piece = bytes | array[int]

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
    alone = plan.sizes.keys()
    for section in sorted(elf.sections[1:], key=lambda s: (s.offset, s.index)):
        if section.type == SHT_NOBITS:
            continue
        joins = (
            group
            and section.index in plan.numbers
            and section.index not in alone
            and group[0].index not in alone
            and (section.type == group[0].type and section.offset == group[-1].end or not _relocates(section, group[0]))
            and plan.offsets[section.index] - section.offset == plan.offsets[group[0].index] - group[0].offset
        )
        if not joins and group:
            yield group
            group = []
        if section.index in plan.numbers:
            group.append(section)
    if group:
        yield group


def _relocates(*sections: Section) -> bool:
    return any(s.type in RELOCATIONS for s in sections)


def _contents(elf: Elf, plan: Plan, group: list[Section]) -> Iterator[Piece]:
    table = symbol_table(elf)
    head = group[0]
    if head.type in RELOCATIONS:
        yield _relocations(plan, group)
    elif head.index == table.section.index:
        yield from _symbols(table, plan)
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
            out = renumbered(run, _numbers(run.symbols(), plan))
            return out if run.size == end - start else out[(start - run.offset) // 4 : (end - run.offset) // 4]
    return b""  # only empty sections


def _numbers(rows: Iterable[int], plan: Plan) -> dict[int, int]:
    """The number after of each symbol number before."""
    dropped = plan.dropped
    return {row: row - bisect_left(dropped, row) for row in rows}


def _symbols(table: SymbolTable, plan: Plan) -> Iterator[Piece]:
    """The symbol rows that stay, with the names and sections they have afterwards."""
    shape = table.elf.shape
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
        yield _resectioned(words, numbers, table.elf) if moved else words


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


def _section_headers(elf: Elf, plan: Plan) -> bytes:
    raw = elf.image.read(elf.shoff, elf.table_end - elf.shoff)
    rows = list(elf.shape.section.iter_unpack(raw))
    table = symbol_table(elf)
    starts = dict(zip(plan.numbers, plan.names.moved(rows[i][0] for i in plan.numbers), strict=True))
    out = bytearray()
    for old in plan.numbers:
        section = elf.sections[old]
        info = section.info
        if section.type in RELOCATIONS or section.flags & SHF_INFO_LINK:
            info = plan.numbers[info]
        elif section.type == SHT_GROUP:
            info = _numbers((info,), plan)[info]
        elif old == table.section.index:
            info = _numbers((info,), plan)[info]
        out += elf.shape.section.pack(
            starts[old],
            section.type,
            section.flags,
            section.addr,
            plan.offsets[old],
            plan.sizes.get(old, section.size),
            plan.numbers[section.link],
            info,
            section.align,
            section.entsize,
        )
    return bytes(out)
