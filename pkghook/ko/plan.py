"""What must go from a module, and the size that must remain, worked out before anything is stripped.

The expected size is, to the byte, the size that the native step writes: the layout is made here
and only rendered there.  Nothing of the debug sections is read.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right, insort
from itertools import compress, repeat
from operator import and_, gt, sub
from typing import TYPE_CHECKING

from pkghook.errors import ModuleError
from pkghook.ko import debugset, lanes
from pkghook.ko.elf import (
    RELOCATIONS,
    SHF_INFO_LINK,
    SHF_RELA_LIVEPATCH,
    SHN_ABS,
    SHN_LIVEPATCH,
    SHN_LORESERVE,
    SHT_GROUP,
    SHT_NOBITS,
    SHT_NULL,
    SHT_SYMTAB,
    picker,
)
from pkghook.ko.reloc import check_relocations, reloc_runs
from pkghook.ko.symtab import FILE_KIND, length, marked, symbol_table, unmarked
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pkghook.ko.elf import Elf, Section
    from pkghook.ko.reloc import RelocRun
    from pkghook.ko.symbols import SymbolList
    from pkghook.ko.symtab import Run, SymbolTable

_LABEL_KIND = re.compile(rb"\x00")  # st_info of a local symbol without type
_NO_CONTENTS = (SHT_NOBITS, SHT_NULL)
FEW = 40  # cuts up to which a pass over all offsets for each of them is cheaper than a search for each offset
MANY = 1000  # cuts in a table of strings from which a table of places pays
MAX_FILE_ALIGN = 1 << 16  # the loader lays sections out anew; a larger alignment would only pad the file


class Drop(NamedTuple):
    """What may go beyond debug information: listed symbols, local labels."""

    symbols: SymbolList | None = None
    labels: bool = False


DEBUG_ONLY = Drop()


class Cut(NamedTuple):
    """A table of strings from which blocks are cut: what stays, and where each offset moves."""

    runs: tuple[Run, ...]  # byte ranges of the old table that stay
    starts: tuple[int, ...]  # offsets at which a new shift begins
    shifts: tuple[int, ...]  # bytes cut before the first, the second ... of them; one more than `starts`
    size: int

    def moved(self, offsets: Iterable[int]) -> array[int]:
        """Where the strings that start at `offsets`, each inside the table, start now."""
        starts, shifts = self.starts, self.shifts
        if len(starts) <= FEW and self.runs[-1][1] < lanes.LIMIT:
            return lanes.lowered(array("I", offsets), starts, list(map(sub, shifts[1:], shifts)))
        return array("I", [offset - shifts[bisect_right(starts, offset)] for offset in offsets])

    def mover(self) -> Callable[[Iterable[int]], array[int]]:
        """`moved`, for many calls: with thousands of cuts every offset's place is worked out beforehand."""
        if len(self.starts) < MANY:
            return self.moved
        table = array("I", bytes(4 * self.runs[-1][1]))
        for start, end in self.runs:
            shift = self.shifts[bisect_right(self.starts, start)]
            table[start:end] = array("I", range(start - shift, end - shift))
        return lambda offsets: array("I", [table[offset] for offset in offsets])


class Stretch(NamedTuple):
    """A section that changes, or neighbours that move by one distance and are alike: no bytes are moved one by one."""

    head: int  # the first of its sections, by the number before
    start: int  # bytes of the file before
    end: int
    place: int  # where it starts in the file after


class Plan(NamedTuple):
    """What goes, what stays and where it will lie. Row and section numbers are those before."""

    unstripped: bool  # something of the debug set is there
    removed: frozenset[int]  # sections that go
    dropped: tuple[Run, ...]  # symbols that go
    listed: tuple[int, ...]  # of these the ones that a symbol list named
    labels: int  # how many of these are labels
    kept: tuple[Run, ...]  # runs of symbols that stay, row 0 included
    strings: Cut  # of the symbol names
    names: Cut  # of the section names
    numbers: dict[int, int]  # section index before -> after
    stretches: tuple[Stretch, ...]  # what of the file stays, in file order
    offsets: dict[int, int]  # section index before -> file offset after
    sizes: dict[int, int]  # section index before -> size after, where it changes
    relocations: tuple[RelocRun, ...]  # all that stay
    shoff: int
    expected: int  # bytes of the file that native writes
    livepatch: bool


def plan(elf: Elf, drop: Drop = DEBUG_ONLY) -> Plan:
    """The plan for one module.

    Raises ModuleError for a module that cannot be read (see `symtab`, `reloc`, `debugset`),
    sections-overlap, and proof-impossible when something that stays refers to something that goes.
    """
    _check_overlap(elf)
    table = symbol_table(elf)
    removed = _removed(elf)
    runs = _kept_relocations(elf, removed, table)
    referenced = _referenced(elf, removed, runs, table)
    livepatch = is_livepatch(elf)
    mask = _unneeded(table, removed, referenced)
    extra = set() if drop == DEBUG_ONLY else droppable(table, unmarked(mask), drop, livepatch=livepatch) - referenced
    for row in extra:
        mask[row] = 1
    listed = _listed(table, extra, drop)
    going = Going(removed, marked(mask), unmarked(mask), listed, len(extra) - len(listed))
    return _layout(elf, going, runs, livepatch=livepatch)


class Going(NamedTuple):
    """What goes, before the layout is known."""

    sections: frozenset[int]
    symbols: list[Run]
    kept: list[Run]
    listed: list[int]
    labels: int


def is_livepatch(elf: Elf) -> bool:
    """True if the module carries livepatch relocations or symbols, or says so in its modinfo.

    Source: Documentation/livepatch/module-elf-format.rst; check_modinfo_livepatch() in kernel/module/main.c.
    """
    found = elf.cache.get("livepatch")
    if found is None:
        found = elf.cache["livepatch"] = (
            SHN_LIVEPATCH in symbol_table(elf).sections_used
            or any([flags & SHF_RELA_LIVEPATCH for flags in set(elf.columns.flags)])
            or any([b"\0livepatch=" in b"\0" + elf.read(s) for s in _named(elf, b".modinfo")])
        )
    return bool(found)


def _named(elf: Elf, name: bytes) -> list[Section]:
    names = elf.columns.name
    if names.count(name) < 2:
        return [elf.section(names.index(name))] if name in names else []
    return [elf.section(i) for i, its in enumerate(names) if its == name]


def _check_overlap(elf: Elf) -> None:
    offsets, sizes, ends = elf.columns.offset, elf.columns.size, elf.ends
    starts, stops = [offsets[i] for i in elf.in_file], [ends[i] for i in elf.in_file]
    if elf.header_end <= starts[0] and max(stops) <= elf.shoff and not any(map(gt, stops, starts[1:])):
        return  # as linkers write it: the header, one section behind the other, the table
    sized = [(offsets[i], ends[i]) for i in elf.in_file if sizes[i] and ends[i]]
    insort(sized, (elf.shoff, elf.table_end))
    last = elf.header_end
    for start, end in sized:
        if start < last:
            raise ModuleError("sections-overlap", offset=start, previous_end=last)
        last = end


def _removed(elf: Elf) -> frozenset[int]:
    going = debugset.debug_sections(elf)
    if not going:
        return going
    return going.union(debugset.optional_sections(elf))


def _kept_relocations(elf: Elf, removed: frozenset[int], table: SymbolTable) -> list[RelocRun]:
    infos = elf.columns.info
    wanted = [i for i in elf.relocating if i not in removed]
    check_relocations(elf, wanted)
    for index in wanted if not removed.isdisjoint([infos[i] for i in wanted]) else ():
        if infos[index] in removed:
            raise ModuleError("proof-impossible", relocations=index, target=infos[index])
    runs = reloc_runs(elf, wanted)
    for run in runs:
        worst = max(run.symbols())
        if worst >= table.count:
            raise ModuleError("bad-relocation", offset=run.offset, symbol=worst, symbols=table.count)
    return runs


def _referenced(elf: Elf, removed: frozenset[int], runs: list[RelocRun], table: SymbolTable) -> set[int]:
    found: set[int] = set()
    for run in runs:
        found.update(run.symbols())
    for group in _groups(elf, removed):
        symbol = elf.columns.info[group]
        if symbol >= table.count:
            raise ModuleError("bad-group", section=group, symbol=symbol, symbols=table.count)
        found.add(symbol)
    return found


def _groups(elf: Elf, removed: frozenset[int]) -> list[int]:
    """The section groups that stay."""
    kinds = elf.columns.type
    return [i for i, kind in enumerate(kinds) if kind == SHT_GROUP and i not in removed] if SHT_GROUP in kinds else []


def _unneeded(table: SymbolTable, removed: frozenset[int], referenced: set[int]) -> bytearray:
    """A mask of the symbols that go with the debug sections, and of FILE and section symbols that nothing names."""
    if not removed:
        # A tree without debug information is not rewritten for the sake of FILE and section symbols.
        return bytearray(table.count)
    shndx = table.shndx
    mask = table.mask(removed)
    for start, end in table.unnamed:
        for row in set(range(start, end)) - referenced:
            mask[row] = 1
    for row in table.of_kind(FILE_KIND):
        if shndx[row] == SHN_ABS and row not in referenced:
            mask[row] = 1
    wanted = [row for row in referenced if mask[row]]
    if wanted:
        raise ModuleError("proof-impossible", symbol=min(wanted), section=shndx[min(wanted)])
    return mask


def droppable(table: SymbolTable, runs: list[Run], drop: Drop, *, livepatch: bool) -> set[int]:
    """The rows of `runs` that a symbol list or --discard-labels allows to go, if no relocation names them.

    Only what is defined in a section. A label is a local symbol without type named `.L*`;
    is_mapping_symbol() in the kernel ignores these. Livepatch modules keep theirs.
    """
    found: set[int] = set()
    names, shndx, strings = table.names, table.shndx, table.strings
    if drop.symbols is not None:
        matches = drop.symbols.matches
        found.update(
            [row for start, end in runs for row in range(start, end) if names[row] and matches(table.name(row))]
        )
    if drop.labels and not livepatch:
        for start, end in runs:
            rows = [start + match.start() for match in _LABEL_KIND.finditer(table.info[start:end])]
            found.update([row for row in rows if strings.startswith(b".L", names[row])])
    return {row for row in found if 0 < shndx[row] < SHN_LORESERVE}


def has_labels(elf: Elf, found: Plan) -> bool:
    """Whether --discard-labels, beside what `found` drops, would drop anything: much quicker than another plan."""
    table = symbol_table(elf)
    if not found.livepatch and b"\0.L" in table.strings:
        labels = droppable(table, list(found.kept), Drop(labels=True), livepatch=False)
        return bool(labels) and not labels <= _referenced(elf, found.removed, list(found.relocations), table)
    return False


def _listed(table: SymbolTable, rows: set[int], drop: Drop) -> list[int]:
    if drop.symbols is None:
        return []
    return sorted(row for row in rows if drop.symbols.matches(table.name(row)))


def cut(strings: bytes, gone: set[int], stay: set[int]) -> Cut:
    """Which blocks of a string table go with the names at the offsets `gone`, when those at `stay` stay.

    A block is what lies between two NUL bytes. Linkers let short names share the end of long
    ones, so of a block only the bytes in front of the first name that stays are cut.
    """
    runs: list[Run] = []
    starts: list[int] = []
    shifts = [0]
    at = total = 0
    for block in sorted({strings.rfind(b"\0", 0, offset) + 1 for offset in gone if offset}):
        stop = _first(stay, block, strings.find(b"\0", block) + 1)
        if stop == block:
            continue
        if block > at:
            runs.append((at, block))
        at = stop
        total += stop - block
        starts.append(stop)
        shifts.append(total)
    if at < len(strings):
        runs.append((at, len(strings)))
    return Cut(tuple(runs), tuple(starts), tuple(shifts), len(strings) - total)


def _first(offsets: set[int], start: int, end: int) -> int:
    """The smallest of `offsets` from `start` on, `end` if there is none before it."""
    if end - start > len(offsets):
        return min([offset for offset in offsets if start <= offset < end], default=end)
    if offsets.isdisjoint(range(start, end)):
        return end
    return next(offset for offset in range(start, end) if offset in offsets)


def _cut_symbol_names(table: SymbolTable, going: Going) -> Cut:
    gone: set[int] = set()
    stay: set[int] = set()
    for start, end in going.symbols:
        gone.update(table.names[start:end])
    for start, end in going.kept:
        stay.update(table.names[start:end])
    return cut(table.strings, gone, stay)


def _uncut(strings: bytes) -> Cut:
    return cut(strings, set(), set())


def _layout(elf: Elf, going: Going, runs: list[RelocRun], *, livepatch: bool) -> Plan:
    table = symbol_table(elf)
    removed = going.sections
    # A table that serves both kinds of names (LLVM writes such) stays whole.
    shared = elf.names_index == table.strtab.index
    strings = _uncut(table.strings) if shared else _cut_symbol_names(table, going)
    staying = [i for i in range(elf.count) if i not in removed]
    names = _cut_names(elf, staying, removed)
    sizes = {
        table.section.index: length(going.kept) * elf.shape.symbol_size,
        table.strtab.index: strings.size,
    }
    sizes[elf.names_index] = names.size
    _check_references(elf, staying, removed)
    for group in _groups(elf, removed):
        sizes[group] = 4 + 4 * sum(m not in removed for m in debugset.group_members(elf, elf.section(group)))
    stretches, offsets, end = _places(elf, removed, sizes)
    shoff = -(-end // elf.shape.word) * elf.shape.word
    return Plan(
        unstripped=debugset.is_unstripped(elf),
        removed=removed,
        dropped=tuple(going.symbols),
        listed=tuple(going.listed),
        labels=going.labels,
        kept=tuple(going.kept),
        strings=strings,
        names=names,
        numbers=dict(zip(staying, range(len(staying)), strict=True)),
        stretches=stretches,
        offsets=offsets,
        sizes=sizes,
        relocations=tuple(runs),
        shoff=shoff,
        expected=shoff + len(staying) * elf.shape.section.size + elf.image.size - elf.end,
        livepatch=livepatch,
    )


def _cut_names(elf: Elf, staying: list[int], removed: frozenset[int]) -> Cut:
    if elf.names_index == symbol_table(elf).strtab.index:
        return _uncut(elf.names)
    offsets = elf.name_offsets
    return cut(elf.names, {offsets[i] for i in removed}, {offsets[i] for i in staying})


def _check_references(elf: Elf, staying: list[int], removed: frozenset[int]) -> None:
    """Nothing that stays may point at what goes, or outside the table."""
    flags, links, infos, count = elf.columns.flags, elf.columns.link, elf.columns.info, elf.count
    pick = picker(staying)
    targets = set(pick(links))
    targets.update(compress(pick(infos), map(and_, pick(flags), repeat(SHF_INFO_LINK))))
    if max(targets) < count and removed.isdisjoint(targets):
        return
    for index in staying:
        target = infos[index] if flags[index] & SHF_INFO_LINK else 0
        link = links[index]
        if link in removed or target in removed:
            raise ModuleError("proof-impossible", section=index, link=link, info=infos[index])
        if link >= count or target >= count:
            raise ModuleError("bad-section", section=index, link=link, info=infos[index])


def _places(
    elf: Elf, removed: frozenset[int], sizes: dict[int, int]
) -> tuple[tuple[Stretch, ...], dict[int, int], int]:
    """What stays in file order, the offset after of each section that stays, and the end of the last.

    Sections whose size is in `sizes` make a stretch of their own, as do relocation sections with no gap between them.
    """
    offsets = {0: 0}
    found: list[list[int]] = []
    at = elf.header_end
    kinds, before, ends, aligns = elf.columns.type, elf.columns.offset, elf.ends, _aligns(elf)
    shift = end = relocates = 0
    joined = False  # whether there is a stretch that may go on
    for index in elf.in_file:
        if index in removed:
            joined = False
            continue
        align, kind, start = aligns[index], kinds[index], before[index]
        place = offsets[index] = (at + align - 1) & -align if align > 1 else at
        if kind in _NO_CONTENTS:
            continue
        its = kind if kind in RELOCATIONS else 0
        if index in sizes:
            found.append([index, start, ends[index], place])
            at, joined = place + sizes[index], False
            continue
        if not joined or place - start != shift or its != relocates or (its and start != end):
            found.append([index, start, start, place])
            shift, relocates, joined = place - start, its, True
        end = found[-1][2] = ends[index]
        at = end + shift
    return tuple(map(Stretch._make, found)), offsets, at


def _aligns(elf: Elf) -> list[int]:
    """The alignment of each section in the file after."""
    aligns = list(elf.columns.align)
    symbols = elf.columns.type.index(SHT_SYMTAB)
    aligns[symbols] = max(aligns[symbols], elf.shape.word)  # the loader reads it as an array of structures
    return aligns if max(aligns) <= MAX_FILE_ALIGN else [min(align, MAX_FILE_ALIGN) for align in aligns]


def saved_at_least(elf: Elf, found: Plan) -> int:
    """Bytes of the removed sections alone, but for those that may stay: what any step must save (V12)."""
    kinds, sizes = elf.columns.type, elf.columns.size
    must = found.removed.difference(debugset.optional_sections(elf))
    return sum([sizes[i] for i in must if kinds[i] not in _NO_CONTENTS])
