"""The native step: renders a plan as the bytes of the stripped module, in process.

No tool, no temporary copy: the kept bytes go from the image to the writer, in file order.
It is trusted no more than a foreign tool: the verifier reads what was written afresh.
"""

from __future__ import annotations

from array import array
from itertools import starmap
from typing import TYPE_CHECKING

from pkghook.ko.debugset import group_members
from pkghook.ko.elf import RELOCATIONS, SHF_INFO_LINK, SHT_GROUP, SHT_SYMTAB, picker
from pkghook.ko.reloc import renumbered
from pkghook.ko.symtab import CHUNK, LOW, length, symbol_table

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from pkghook.ko.elf import Elf, Section, Shape
    from pkghook.ko.plan import Plan, Stretch

    Piece = bytes | bytearray | memoryview | array[int]

COPY = 1 << 20  # bytes copied at a time


def render(elf: Elf, plan: Plan) -> Iterator[Piece]:
    """The stripped module as consecutive pieces, `plan.expected` bytes in all."""
    yield _header(elf, plan)
    at = elf.header_end
    for stretch in plan.stretches:
        head, start, end, place = stretch
        if place > at:
            yield bytes(place - at)
        at = place + (plan.sizes[head] if head in plan.sizes else end - start)
        yield from _contents(elf, plan, stretch)
    if plan.shoff > at:
        yield bytes(plan.shoff - at)
    yield _section_headers(elf, plan)
    if elf.image.size > elf.end:
        yield elf.image.read(elf.end, elf.image.size - elf.end)


def _contents(elf: Elf, plan: Plan, stretch: Stretch) -> Iterable[Piece]:
    table = symbol_table(elf)
    head, start, end, _ = stretch
    if elf.columns.type[head] in RELOCATIONS:
        return [_relocations(plan, start, end)]
    if head not in plan.sizes:
        return (elf.image.read(at, min(COPY, end - at)) for at in range(start, end, COPY))
    if head == table.section.index:
        return _symbols(elf, plan)
    if head == table.strtab.index:
        return [table.strings[a:b] for a, b in plan.strings.runs]
    if head == elf.names_index:
        return [elf.names[a:b] for a, b in plan.names.runs]
    return [_group(elf, plan, elf.section(head))]


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
    used, numbers = table.sections_used, plan.numbers
    moved = {n: numbers[n] for n in used.intersection(numbers) if numbers[n] != n}
    low = _byte_table(moved, used) if moved else bytearray()
    move_names = plan.strings.mover()
    step = shape.symbol_size // 4
    for raw in table.kept_rows(plan.kept):
        words = array("I", raw)
        names = words[::step]
        if shape.foreign:
            names.byteswap()
        names = move_names(names)
        if shape.foreign:
            names.byteswap()
        words[::step] = names
        yield _resectioned(words, moved, low, shape) if moved else words


def _resectioned(words: array[int], moved: dict[int, int], table: bytearray, shape: Shape) -> Piece:
    if table:
        rows = bytearray(words)
        low = slice(shape.symbol_shndx + (shape.order == ">"), None, shape.symbol_size)
        rows[low] = rows[low].translate(table)
        return rows
    halves = array("H", words.tobytes())
    where = slice(shape.symbol_shndx // 2, None, shape.symbol_size // 2)
    column = halves[where]
    if shape.foreign:
        column.byteswap()
    column = array("H", [moved.get(number, number) for number in column])
    if shape.foreign:
        column.byteswap()
    halves[where] = column
    return halves


def _byte_table(moved: dict[int, int], used: Collection[int]) -> bytearray:
    """What the low byte of each of the numbers `used` becomes; empty where that does not tell: fine up to 240."""
    table = bytearray(range(LOW))
    if len({number % LOW for number in used}) < len(used):
        return bytearray()
    for number, new in moved.items():
        if number // LOW != new // LOW:
            return bytearray()
        table[number % LOW] = new % LOW
    return table


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
    """The rows of the sections that stay."""
    numbers, columns = plan.numbers, elf.columns
    pick = picker(list(numbers))
    kinds, flags, sizes = pick(columns.type), pick(columns.flags), list(pick(columns.size))
    for index, size in plan.sizes.items():
        sizes[numbers[index]] = size
    rows = zip(
        plan.names.moved(pick(elf.name_offsets)),
        kinds,
        flags,
        pick(columns.addr),
        map(plan.offsets.__getitem__, numbers),
        sizes,
        map(numbers.__getitem__, pick(columns.link)),
        _infos(plan, pick(columns.info), kinds, flags),
        pick(columns.align),
        pick(columns.entsize),
        strict=True,
    )
    return b"".join(starmap(elf.shape.section.pack, rows))


def _infos(plan: Plan, infos: Iterable[int], kinds: Iterable[int], flags: Iterable[int]) -> list[int]:
    """sh_info of the sections that stay: a section, a symbol, or anything else."""
    numbers = plan.numbers
    return [
        0
        if not info
        else numbers[info]
        if kind in RELOCATIONS or flag & SHF_INFO_LINK
        else info - _gone_before(plan, info)
        if kind in _COUNTS_SYMBOLS
        else info
        for info, kind, flag in zip(infos, kinds, flags, strict=True)
    ]


def _gone_before(plan: Plan, row: int) -> int:
    """How many of the symbols before `row` go."""
    return length([(start, min(end, row)) for start, end in plan.dropped if start < row])


_COUNTS_SYMBOLS = (SHT_SYMTAB, SHT_GROUP)
