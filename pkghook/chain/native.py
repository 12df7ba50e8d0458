"""The native step: renders a plan as the bytes of the stripped module, in process.

No tool, no temporary copy: the kept bytes go from the image to the writer, in file order.
It is trusted no more than a foreign tool: the verifier reads what was written afresh.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from pkghook.ko.debugset import group_members
from pkghook.ko.elf import RELOCATIONS, SHF_INFO_LINK, SHT_GROUP, SHT_NOBITS, SHT_NULL, SHT_SYMTAB
from pkghook.ko.reloc import renumbered
from pkghook.ko.symtab import CHUNK, length, symbol_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pkghook.ko.elf import Elf, Section
    from pkghook.ko.plan import Plan

    Piece = bytes | bytearray | memoryview | array[int]

COPY = 1 << 20  # bytes copied at a time


def render(elf: Elf, plan: Plan) -> Iterator[Piece]:
    """The stripped module as consecutive pieces, `plan.expected` bytes in all."""
    yield _header(elf, plan)
    at = elf.header_end
    for group in _groups(elf, plan):
        start, last = plan.offsets[group[0]], group[-1]
        if start > at:
            yield bytes(start - at)
        at = plan.offsets[last] + (plan.sizes[last] if last in plan.sizes else elf.columns.size[last])
        yield from _contents(elf, plan, group)
    if plan.shoff > at:
        yield bytes(plan.shoff - at)
    yield _section_headers(elf, plan)
    if elf.image.size > elf.end:
        yield elf.image.read(elf.end, elf.image.size - elf.end)


def _groups(elf: Elf, plan: Plan) -> Iterator[list[int]]:
    """The sections that stay, in file order; those that move together and are alike share a list."""
    group: list[int] = []
    alone, offsets, numbers = plan.sizes, plan.offsets, plan.numbers
    kinds, before, sizes = elf.columns.type, elf.columns.offset, elf.columns.size
    shift = relocates = end = 0  # of the group: how far it moves; its type if it relocates; where it ends now
    for index in elf.in_file:
        kind = kinds[index]
        if kind in (SHT_NOBITS, SHT_NULL):
            continue
        if index not in numbers or index in alone:
            if group:
                yield group
                group = []
            if index in numbers:
                yield [index]
            continue
        at = before[index]
        its = kind if kind in RELOCATIONS else 0
        if group and (offsets[index] - at != shift or its != relocates or (its and at != end)):
            yield group
            group = []
        if not group:
            shift, relocates = offsets[index] - at, its
        group.append(index)
        end = at + sizes[index]
    if group:
        yield group


def _contents(elf: Elf, plan: Plan, group: list[int]) -> Iterator[Piece]:
    table = symbol_table(elf)
    head, last = group[0], group[-1]
    kind, start = elf.columns.type[head], elf.columns.offset[head]
    end = elf.columns.offset[last] + elf.columns.size[last]
    if kind in RELOCATIONS:
        yield _relocations(plan, start, end)
    elif head == table.section.index:
        yield from _symbols(elf, plan)
    elif head == table.strtab.index:
        yield from [table.strings[a:b] for a, b in plan.strings.runs]
    elif head == elf.names_index:
        yield from [elf.names[a:b] for a, b in plan.names.runs]
    elif kind == SHT_GROUP:
        yield _group(elf, plan, elf.section(head))
    else:
        for at in range(start, end, COPY):
            yield elf.image.read(at, min(COPY, end - at))


def _relocations(plan: Plan, start: int, end: int) -> Piece:
    """The relocation sections from `start` to `end`: neighbours of one type, so all of one run."""
    for run in plan.relocations:
        if run.offset <= start and end <= run.offset + run.size:
            out = renumbered(run, _symbol_numbers(plan))
            if run.size == end - start:
                return out
            return memoryview(out).cast("B")[start - run.offset : end - run.offset]
    return b""  # only empty sections


def _symbol_numbers(plan: Plan) -> Sequence[int]:
    """The number after of each symbol up to the last that stays; of those that go, that of the next."""
    # A list is faster to read, an array of millions a tenth of its size.
    numbers: list[int] | array[int] = [] if plan.kept[-1][1] <= CHUNK else array("I")
    at = 0
    for start, end in plan.kept:
        numbers.extend([at] * (start - len(numbers)))
        numbers.extend(range(at, at + end - start))
        at += end - start
    return numbers


def _symbols(elf: Elf, plan: Plan) -> Iterator[Piece]:
    """The symbol rows that stay, with the names and sections they have afterwards."""
    table, shape = symbol_table(elf), elf.shape
    numbers = {n: plan.numbers.get(n, n) for n in table.sections_used}
    moved = any(n != new for n, new in numbers.items())
    move_names = plan.strings.mover()
    for raw in table.kept_rows(plan.kept):
        words = array("I", raw)
        step = shape.symbol_size // 4
        names = words[::step]
        if shape.foreign:
            names.byteswap()
        names = move_names(names)
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
    fields = list(elf.fields)
    fields[4] = 0  # e_phoff
    fields[5] = plan.shoff
    fields[9] = 0  # e_phnum
    fields[11] = len(plan.numbers)
    fields[12] = plan.numbers[elf.names_index]
    return elf.ident + elf.shape.header.pack(*fields)


def _section_headers(elf: Elf, plan: Plan) -> Piece:
    """The rows of the sections that stay; most of each row is as it was."""
    size, foreign = elf.shape.section.size, elf.shape.foreign
    raw = elf.table
    words = array("I")
    words.frombytes(b"".join([raw[i * size : (i + 1) * size] for i in plan.numbers]))
    if foreign:
        words.byteswap()
    step = size // 4
    link = 10 if elf.is64 else 6  # where sh_link lies in a row, in 32-bit words; sh_info follows it
    columns, offsets, sizes = elf.columns, plan.offsets, plan.sizes
    words[::step] = plan.names.moved(words[::step])
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
    numbers = plan.numbers
    kinds, flags, infos = elf.columns.type, elf.columns.flags, elf.columns.info
    return [
        0
        if not infos[i]
        else numbers[infos[i]]
        if kinds[i] in RELOCATIONS or flags[i] & SHF_INFO_LINK
        else infos[i] - _gone_before(plan, infos[i])
        if kinds[i] in _COUNTS_SYMBOLS
        else infos[i]
        for i in numbers
    ]


def _gone_before(plan: Plan, row: int) -> int:
    """How many of the symbols before `row` go."""
    return length([(start, min(end, row)) for start, end in plan.dropped if start < row])


_COUNTS_SYMBOLS = (SHT_SYMTAB, SHT_GROUP)
