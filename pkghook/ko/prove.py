"""The verifier: whether a module is the same as another to the kernel's loader.

The loader contract's proof obligations V1-V11, each one function below with the finding id it
rejects with.  V12 (residue, size) is at the end; V13 is in `codec`, V14 in `sources`.

What is compared is what the loader would see: never symbol numbers, which move, and never file
offsets.  Equal byte ranges compare as memory, relocations and symbols as columns; only what does
not agree that way is looked at one by one, to name it.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from pkghook.errors import ModuleError
from pkghook.ko import debugset
from pkghook.ko.elf import (
    RELOCATIONS,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_INFO_LINK,
    SHF_RELA_LIVEPATCH,
    SHF_WRITE,
    SHN_LIVEPATCH,
    SHT_GROUP,
    SHT_NOBITS,
    SHT_NULL,
    picker,
)
from pkghook.ko.match import Fault, Pair, fault, partners, same_symbol, symbol_pairs, text
from pkghook.ko.plan import DEBUG_ONLY, is_livepatch
from pkghook.ko.reloc import check_relocations, reloc_run
from pkghook.ko.symtab import LOW, symbol_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pkghook.findings import Evidence
    from pkghook.ko.elf import Elf, Section
    from pkghook.ko.plan import Drop
    from pkghook.ko.reloc import RelocRun

COMPARE = 1 << 22  # bytes compared at a time
PARTNERS = 1 << 16  # symbol numbers looked up at a time


def prove(
    before: Elf, after: Elf, drop: Drop = DEBUG_ONLY, *, debuglink: bool = False, stripped: bool = True
) -> tuple[Fault, ...]:
    """Why `after` is not the same module as `before` to the kernel's loader; empty if it is.

    `drop` is what the step was allowed to remove beyond debug information; `debuglink` whether
    .gnu_debuglink may have been added.  With `stripped` nothing of the debug set may be left; without
    it the question is the loader's alone, and either module may be the one with debug information.
    `before` must be readable (`plan` has succeeded on it); whatever is wrong with `after` is a Fault,
    never an exception.
    """
    try:
        symbol_table(after)
        found = list(header(before, after))
        if before.shape is not after.shape or before.machine != after.machine:
            return tuple(found)  # the tables of two machines cannot be compared row by row
        pair = Pair(before, after, drop, stripped=stripped)
        for obligation in OBLIGATIONS:
            found += obligation(pair)
        if stripped:
            found += residue(pair)
        if not debuglink:
            found += _linked(pair)
    except ModuleError as error:
        return (broken_table(error),)
    return tuple(found)


def broken_table(error: ModuleError) -> Fault:
    """V7: `after` breaks a rule that every module must keep."""
    return fault("table-broken", rule=error.id, **error.evidence)


def header(before: Elf, after: Elf) -> Iterator[Fault]:
    """V1: identification, type, machine, version, flags and entry are equal."""
    if _identity(before) == _identity(after):
        return
    for field, old, new in zip(_IDENTITY, _identity(before), _identity(after), strict=True):
        if old != new:
            yield fault("header-changed", field=field, before=_shown(old), after=_shown(new))


_IDENTITY = ("ident", "type", "machine", "version", "flags", "entry")


def _identity(elf: Elf) -> tuple[bytes | int, ...]:
    return elf.ident, elf.type, elf.machine, elf.version, elf.flags, elf.entry


def _shown(value: bytes | int) -> str | int:
    return value.hex() if isinstance(value, bytes) else value


def tables(pair: Pair) -> Iterator[Fault]:
    """V7: the headers of the symbol table and of the string tables are such that the loader treats them as before.

    What is in the tables was checked when they were read.  kmod looks for the first two by name;
    layout_symtab() in kernel/module/kallsyms.c places both by their alignment, and every loop over all
    sections looks at their flags.
    """
    word = pair.before.shape.word
    for which, (old, new) in enumerate(zip(_tables(pair.before), _tables(pair.after), strict=True)):
        if which < _NAMES and old.name != new.name:
            yield fault("table-broken", rule="table-name", section=text(old.name), after=text(new.name))
        if (old.flags ^ new.flags) & ~_FREE_FLAGS:
            yield fault("table-broken", rule="table-flags", section=text(old.name), before=old.flags, after=new.flags)
        low = min(old.align, word) if which == 0 else 0
        if which < _NAMES and not low <= new.align <= max(old.align, word):
            yield fault("table-broken", rule="table-align", section=text(old.name), before=old.align, after=new.align)
    crooked = _crooked(pair.after)
    if crooked and not _crooked(pair.before):
        yield fault("table-broken", rule="table-offset", section=text(crooked[0].name), offset=crooked[0].offset)


_NAMES = 2  # the section names come third; nobody looks at their header
_FREE_FLAGS = SHF_INFO_LINK | 0x30  # SHF_MERGE and SHF_STRINGS: for linkers


def _crooked(elf: Elf) -> list[Section]:
    """Symbols and relocations that the kernel would read at odd addresses: it takes them where they lie in the file."""
    mask, offsets, sizes = elf.shape.word - 1, elf.columns.offset, elf.columns.size
    read_in_place = sorted([*elf.relocating, symbol_table(elf).section.index])
    return [elf.section(i) for i in read_in_place if offsets[i] & mask and sizes[i]]


def _tables(elf: Elf) -> tuple[Section, Section, Section]:
    table = symbol_table(elf)
    return table.section, table.strtab, elf.section(elf.names_index)


def _same_in_all(pair: Pair) -> bool:
    """True if no section outside the debug set is lost, new, moved or different: V2 and V3 have nothing to name."""
    if pair.same is None:
        both = list(zip(pair.old, pair.new, strict=True))
        pair.same = pair.alike and not any(_differing(pair, _filled(pair, both)))
    return pair.same


def loaded_sections(pair: Pair) -> Iterator[Fault]:
    """V2: the allocated sections are the same, in order, to the byte."""
    if _same_in_all(pair):
        return
    yield from _partners(pair, "alloc-changed", lambda s: bool(s.flags & SHF_ALLOC))
    loaded = _pairs(pair, SHF_ALLOC)
    last = 0
    for _, new in loaded if not pair.in_order else ():
        if new < last:
            yield fault("alloc-changed", section=text(pair.after.section(new).name), moved_to=new)
        last = new
    yield from _same_sections(pair, "alloc-changed", loaded)


def other_sections(pair: Pair) -> Iterator[Fault]:
    """V3: every other section outside the debug set is there, to the byte, and none is new."""
    if _same_in_all(pair):
        return
    yield from _partners(pair, "section-changed", lambda s: not s.flags & SHF_ALLOC and s.type not in RELOCATIONS)
    free = set(debugset.optional_sections(pair.before)), set(debugset.optional_sections(pair.after))
    others = [(old, new) for old, new in _pairs(pair, 0) if not (old in free[0] and new in free[1])]
    yield from _same_sections(pair, "section-changed", others)


def _pairs(pair: Pair, alloc: int) -> list[tuple[int, int]]:
    """The paired sections of which one has SHF_ALLOC, or (`alloc` is 0) of which none has."""
    flags, new_flags = pair.before.columns.flags, pair.after.columns.flags
    both = zip(pair.old, pair.new, strict=True)
    return [(old, new) for old, new in both if (flags[old] | new_flags[new]) & SHF_ALLOC == alloc]


def _partners(pair: Pair, id: str, mine: Callable[[Section], bool]) -> Iterator[Fault]:
    for section in pair.missing:
        if mine(section) and not debugset.is_optional(section) and (pair.stripped or not _is_link(section)):
            yield fault(id, section=text(section.name), lost=section.size)
    for section in pair.added:
        if mine(section) and not _is_link(section) and (pair.stripped or not debugset.is_optional(section)):
            yield fault(id, section=text(section.name), added=section.size)


def _is_link(section: Section) -> bool:
    """True for what a debugger finds split debug information by."""
    return section.name == b".gnu_debuglink" and not section.flags & SHF_ALLOC


def _linked(pair: Pair) -> Iterator[Fault]:
    for section in pair.added:
        if _is_link(section):
            yield fault("section-changed", section=text(section.name), added=section.size)


def _same_sections(pair: Pair, id: str, pairs: list[tuple[int, int]]) -> Iterator[Fault]:
    """Fields and contents of paired sections; relocations and groups are compared by V4 and V9."""
    unlike = set()
    for old, new in pairs if not pair.alike else ():
        one, other = pair.before.section(old), pair.after.section(new)
        bad = next((f for f in _FIELDS if _field(one, f) != _field(other, f)), None)
        if bad is not None:
            unlike.add(old)
            yield fault(id, section=text(one.name), field=bad, before=_field(one, bad), after=_field(other, bad))
    for old, new in _differing(pair, _filled(pair, [both for both in pairs if both[0] not in unlike])):
        one, other = pair.before.section(old), pair.after.section(new)
        yield fault(id, section=text(one.name), first_difference=_first_byte(pair, one, other))


_FIELDS = ("type", "flags", "align", "entsize", "size")
_COMPARED_ELSEWHERE = (SHT_NULL, SHT_NOBITS, SHT_GROUP, *RELOCATIONS)


def _field(section: Section, field: str) -> int:
    value: int = getattr(section, field)
    if field == "flags":
        return value & ~SHF_INFO_LINK
    if field == "size" and section.type == SHT_GROUP:
        return 0  # V9 compares the members
    return value


def _filled(pair: Pair, pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pairs that have contents to compare here."""
    kinds, sizes = pair.before.columns.type, pair.before.columns.size
    return [both for both in pairs if sizes[both[0]] and kinds[both[0]] not in _COMPARED_ELSEWHERE]


def _differing(pair: Pair, pairs: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The pairs whose bytes differ. Neighbours that lie alike in both files compare in one go."""
    offsets, new_offsets, sizes = pair.before.columns.offset, pair.after.columns.offset, pair.before.columns.size
    shift = start = end = size = first = 0
    for which, (old, new) in enumerate(pairs):
        at = offsets[old]
        if at - new_offsets[new] != shift or at < end or not which:
            yield from _differing_in(pair, pairs[first:which], start, start - shift, end - start, size)
            first, start, shift, size = which, at, at - new_offsets[new], 0
        size += sizes[old]
        end = at + sizes[old]
    yield from _differing_in(pair, pairs[first:], start, start - shift, end - start, size)


def _differing_in(
    pair: Pair, group: list[tuple[int, int]], start: int, new_start: int, size: int, filled: int
) -> list[tuple[int, int]]:
    """Of a group that takes up `size` bytes from `start` and `new_start`, `filled` of them its own."""
    # What lies between two sections may differ, so a range that differs is no verdict yet.
    if size <= filled + PADDING * len(group) and _same_bytes(pair, start, new_start, size):
        return []
    offsets, new_offsets, sizes = pair.before.columns.offset, pair.after.columns.offset, pair.before.columns.size
    return [(old, new) for old, new in group if not _same_bytes(pair, offsets[old], new_offsets[new], sizes[old])]


PADDING = 64


def _same_bytes(pair: Pair, start: int, new_start: int, size: int) -> bool:
    old, new = pair.before.image, pair.after.image
    for at in range(0, size, COMPARE):
        step = min(COMPARE, size - at)
        if old.read(start + at, step) != new.read(new_start + at, step):
            return False
    return True


def _first_byte(pair: Pair, old: Section, new: Section) -> int:
    both = zip(pair.before.read(old), pair.after.read(new), strict=True)
    return next(at for at, (a, b) in enumerate(both) if a != b)


def relocations(pair: Pair) -> Iterator[Fault]:
    """V4 and V6: the relocations are the same, entry by entry, and none lost its symbol."""
    old = [i for i in pair.before.relocating if i not in pair.going]
    new = [i for i in pair.after.relocating if i not in pair.residue]
    check_relocations(pair.after, new)
    if not pair.in_order or len(old) != len(new):
        old, new, faults = _by_target(pair, old, new)
        yield from faults
    if not pair.alike or not _same_ends(pair, old, new):
        for a, b in zip(old, new, strict=True):
            yield from _same_relocation_header(pair, pair.before.section(a), pair.after.section(b))
    one, other = pair.before.columns, pair.after.columns
    alike = [
        (a, b)
        for a, b in zip(old, new, strict=True)
        if one.size[a] == other.size[b] and one.type[a] == other.type[b] and one.size[a]
    ]
    for olds, news in _runs(pair, alike):
        yield from _same_relocations(pair, olds, news)


def _same_ends(pair: Pair, old: list[int], new: list[int]) -> bool:
    """True if each relocation section has the same target and symbol table as before."""
    one, other, partner = pair.before.columns, pair.after.columns, pair.sections.get
    ends = [(partner(one.info[i]), partner(one.link[i])) for i in old]
    return ends == [(other.info[i], other.link[i]) for i in new]


def _by_target(pair: Pair, old: list[int], new: list[int]) -> tuple[list[int], list[int], list[Fault]]:
    """Pairs the relocation sections of each target, in their order; the rest are faults."""
    waiting: dict[int, list[int]] = {}
    for index in new:
        waiting.setdefault(pair.after.columns.info[index], []).append(index)
    olds, news, lost = [], [], []
    for index in old:
        partners = waiting.get(pair.sections.get(pair.before.columns.info[index], -1))
        if partners:
            olds.append(index)
            news.append(partners.pop(0))
        else:
            lost.append(pair.before.section(index))
    added = [pair.after.section(index) for partners in waiting.values() for index in partners]
    faults = [fault("relocation-changed", section=text(s.name), lost=s.size) for s in lost]
    faults += [fault("relocation-changed", section=text(s.name), added=s.size) for s in added]
    return olds, news, faults


def _header_of(section: Section, target: int | None, link: int | None) -> tuple[object, ...]:
    name, _, kind, flags, _, _, size, _, _, align, entsize = section
    return name, kind, flags & ~SHF_INFO_LINK, size, align, entsize, target, link


def _same_relocation_header(pair: Pair, old: Section, new: Section) -> Iterator[Fault]:
    if _header_of(old, pair.sections.get(old.info), pair.sections.get(old.link)) == _header_of(new, new.info, new.link):
        return
    if old.name != new.name:
        yield fault("relocation-changed", section=text(old.name), after=text(new.name))
    for field in _FIELDS:
        if _field(old, field) != _field(new, field):
            before, after = _field(old, field), _field(new, field)
            yield fault("relocation-changed", section=text(old.name), field=field, before=before, after=after)
    if pair.sections.get(old.info) != new.info:
        yield fault("relocation-changed", section=text(old.name), field="target", after=new.info)
    if pair.sections.get(old.link) != new.link:
        yield fault("relocation-changed", section=text(old.name), field="link", after=new.link)


def _runs(pair: Pair, pairs: list[tuple[int, int]]) -> Iterator[tuple[list[int], list[int]]]:
    """The sections before and after, in runs of one type that have no gap in either file."""
    one, other, ends, new_ends = pair.before.columns, pair.after.columns, pair.before.ends, pair.after.ends
    olds: list[int] = []
    news: list[int] = []
    end = new_end = kind = 0
    for old, new in pairs:
        if olds and (one.offset[old] != end or other.offset[new] != new_end or one.type[old] != kind):
            yield olds, news
            olds, news = [], []
        olds.append(old)
        news.append(new)
        end, new_end, kind = ends[old], new_ends[new], one.type[old]
    if olds:
        yield olds, news


def _same_relocations(pair: Pair, olds: list[int], news: list[int]) -> Iterator[Fault]:
    run, new_run = reloc_run(pair.before, olds), reloc_run(pair.after, news)
    if max(run.symbols()) >= symbol_table(pair.before).count:
        raise ModuleError("bad-relocation", offset=run.offset, symbol=max(run.symbols()))
    if _as_expected(pair, run, new_run):
        return
    entry, word, shift = run.shape[:3]
    words, new_words = run.words[:], new_run.words[:]
    blank = array("I", bytes(4 * len(run.column)))
    words[word::entry] = blank
    new_words[word::entry] = blank
    if words != new_words:
        yield _named(run, _first_entry(words, new_words, entry), "relocation-changed", field="offset or addend")
    if shift:
        types, new_types = (array("B", [w & 255 for w in c]) for c in (run.column, new_run.column))
        if types != new_types:
            yield _named(run, _first_entry(types, new_types, 1), "relocation-changed", field="type")
    yield from _same_targets(pair, run, new_run)


def _as_expected(pair: Pair, run: RelocRun, new_run: RelocRun) -> bool:
    """True if `new_run` is, to the byte, `run` with the partner of each symbol in its place."""
    numbers = partners(pair, run.symbols())
    if numbers is None:
        return False
    entry, word, shift, foreign = run.shape[:4]
    if run.low and max(numbers[:LOW]) < LOW:
        table = bytes(numbers[:LOW]).ljust(LOW, b"\0")
        expected = bytearray(run.data)
        expected[run.shape.low :: 4 * entry] = run.low.translate(table)
        return expected == new_run.data
    # With the symbol number in one word with the type, what becomes of each such word.
    of_word = {w: numbers[w >> shift] << shift | w & 255 for w in set(run.column)} if shift else numbers
    column = array("I")
    for at in range(0, len(run.column), PARTNERS):
        column.extend(array("I", picker(run.column[at : at + PARTNERS])(of_word)))
    if foreign:
        column.byteswap()
    expected = bytearray(run.data)
    memoryview(expected).cast("I")[word::entry] = memoryview(column)
    return expected == new_run.data


def _same_targets(pair: Pair, run: RelocRun, new_run: RelocRun) -> Iterator[Fault]:
    """Each entry's symbol is the same symbol; V6: it exists, and is number 0 only where it was."""
    shift = run.shape.shift
    partner, count = pair.symbols.rows, symbol_table(pair.after).count
    wrong = set()
    for both in symbol_pairs(run.column, new_run.column):
        row, new_row = (both & 0xFFFFFFFF) >> shift, both >> 32 + shift
        if partner[row] == new_row and row and new_row:
            continue
        if row == new_row == 0 or (row and 0 < new_row < count and same_symbol(pair, row, new_row)):
            continue
        wrong.add(both)
    for at, (a, b) in enumerate(zip(run.column, new_run.column, strict=True)) if wrong else ():
        if a | b << 32 in wrong:
            wrong.remove(a | b << 32)
            yield _retargeted(pair, run, at, a >> shift, b >> shift)


def _retargeted(pair: Pair, run: RelocRun, at: int, row: int, new_row: int) -> Fault:
    old, new = symbol_table(pair.before), symbol_table(pair.after)
    name = text(old.name(row))
    if new_row == 0 or new_row >= new.count:
        return _named(run, at, "relocation-symbol-lost", symbol=name, number=new_row)
    return _named(run, at, "relocation-changed", symbol=name, after=text(new.name(new_row)))


def _first_entry(words: array[int], new_words: array[int], entry: int) -> int:
    return next(i for i, (a, b) in enumerate(zip(words, new_words, strict=True)) if a != b) // entry


def _named(run: RelocRun, at: int, id: str, **evidence: Evidence) -> Fault:
    """A fault about entry number `at` of a run, told as section and entry."""
    for section in run.sections:
        entries = section.size // (run.shape.entry * 4)
        if at < entries:
            return fault(id, section=text(section.name), entry=at, **evidence)
        at -= entries
    raise IndexError(at)


def symbols(pair: Pair) -> Iterator[Fault]:
    """V5: the sequence of symbols that the loader sees is equal, in order."""
    yield from pair.symbols.faults


def protection(pair: Pair) -> Iterator[Fault]:
    """V8: nothing became writable and executable, section 0 is as it was (more of it is checked when it is read).

    Source: module_enforce_rwx_sections() in kernel/module/strict_rwx.c.
    """
    null, new_null = pair.before.columns.flags[0], pair.after.columns.flags[0]
    if null != new_null:
        yield fault("section-rule", section=0, before=null, after=new_null)
    before = {name for name, _ in _writable_code(pair.before)}
    for name, flags in _writable_code(pair.after):
        if name not in before:
            yield fault("section-rule", section=text(name), flags=flags)


def _writable_code(elf: Elf) -> list[tuple[bytes, int]]:
    """Name and flags of the sections that are both writable and executable."""
    both = SHF_WRITE | SHF_EXECINSTR
    if not any([flags & both == both for flags in set(elf.columns.flags)]):
        return []
    named = zip(elf.columns.name, elf.columns.flags, strict=True)
    return [(name, flags) for name, flags in named if flags & both == both]


def references(pair: Pair) -> Iterator[Fault]:
    """V9: no group or link that stayed points at what went, and no group was left empty."""
    one, new_links = pair.before.columns, pair.after.columns.link
    refer = [
        (pair.before.section(a), pair.after.section(b))
        for a, b in zip(pair.old, pair.new, strict=True)
        if one.type[a] not in RELOCATIONS and (one.link[a] or new_links[b] or one.flags[a] & SHF_INFO_LINK)
    ]  # relocations are for V4
    for old, new in refer:
        if old.type != new.type or debugset.is_optional(old):
            continue  # V3, and what is stale anyway
        if pair.sections.get(old.link, -1) != new.link:
            yield fault("dangling-reference", section=text(old.name), link=new.link)
        if old.type == SHT_GROUP:
            yield from _same_group(pair, old, new)
        elif old.flags & SHF_INFO_LINK and pair.sections.get(old.info, -1) != new.info:
            yield fault("dangling-reference", section=text(old.name), info=new.info)


def _same_group(pair: Pair, old: Section, new: Section) -> Iterator[Fault]:
    contents, new_contents = pair.before.read(old), pair.after.read(new)
    if contents[:4] != new_contents[:4]:
        yield fault("dangling-reference", group=old.index, field="flags")
    if old.flags & SHF_ALLOC and contents != new_contents:
        yield fault("alloc-changed", section=text(old.name))  # then the kernel has its numbers in memory
    counts = symbol_table(pair.before).count, symbol_table(pair.after).count
    if old.info >= counts[0] or new.info >= counts[1] or not same_symbol(pair, old.info, new.info):
        yield fault("dangling-reference", group=old.index, signature=new.info)
    left = [m for m in debugset.group_members(pair.after, new) if m not in pair.residue]
    stayed = [pair.sections.get(m, -1) for m in debugset.group_members(pair.before, old) if m not in pair.going]
    if left != stayed:
        yield fault("dangling-reference", group=old.index, members=len(left), expected=len(stayed))


def trailing_bytes(pair: Pair) -> Iterator[Fault]:
    """V10: the bytes behind the ELF file are the same; normally there are none."""
    before, after = pair.before, pair.after
    size, new_size = before.image.size - before.end, after.image.size - after.end
    if size != new_size or (size and not _same_bytes(pair, before.end, after.end, size)):
        yield fault("trailing-bytes", before=size, after=new_size)


def livepatch(pair: Pair) -> Iterator[Fault]:
    """V11: every klp relocation section and symbol is there with its flag and name.

    V4 and V5 compare their contents; this one says what was lost when a livepatch module is ruined.
    """
    if not is_livepatch(pair.before):
        return
    wanted = {(s.name, s.flags & ~SHF_INFO_LINK, s.size) for s in pair.before.sections if s.flags & SHF_RELA_LIVEPATCH}
    there = {(s.name, s.flags & ~SHF_INFO_LINK, s.size) for s in pair.after.sections if s.flags & SHF_RELA_LIVEPATCH}
    for name, _, size in sorted(wanted - there):
        yield fault("livepatch-changed", section=text(name), size=size)
    names, new_names = _livepatch_symbols(pair.before), _livepatch_symbols(pair.after)
    if names != new_names:
        lost = sorted(set(names) - set(new_names)) or names or new_names
        yield fault("livepatch-changed", symbol=text(lost[0]), before=len(names), after=len(new_names))


def _livepatch_symbols(elf: Elf) -> list[bytes]:
    table = symbol_table(elf)
    return list(table.names_of(row for row, index in enumerate(table.shndx) if index == SHN_LIVEPATCH))


def residue(pair: Pair) -> Iterator[Fault]:
    """V12: nothing of the debug set is left. Sizes: see `measure.account`."""
    for index in sorted(pair.residue):
        section = pair.after.sections[index]
        if section.size and debugset.is_debug(section, pair.after.machine):
            yield fault("residue", section=text(section.name), bytes=section.size)
        elif section.type in RELOCATIONS or section.type == SHT_GROUP:
            yield fault("dangling-reference", section=text(section.name), left=section.size)


OBLIGATIONS: tuple[Callable[[Pair], Iterator[Fault]], ...] = (
    tables,
    loaded_sections,
    other_sections,
    relocations,
    symbols,
    protection,
    references,
    trailing_bytes,
    livepatch,
)
