"""Which section and which symbol of the module after is which of the module before.

Sections pair by name and, where names repeat, by ordinal; symbols by their position in the
sequence that the loader sees (obligation V5).
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from itertools import repeat, zip_longest
from typing import TYPE_CHECKING

from pkghook.ko import debugset, lanes
from pkghook.ko.elf import SHN_ABS, SHN_LORESERVE, picker
from pkghook.ko.plan import droppable, is_livepatch
from pkghook.ko.reloc import reloc_runs
from pkghook.ko.symtab import CHUNK, FILE_KIND, LOW, SECTION_KIND, length, symbol_table, unmarked
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pkghook.findings import Evidence
    from pkghook.ko.elf import Elf, Section, Shape
    from pkghook.ko.plan import Drop
    from pkghook.ko.symtab import Run, Symbol, SymbolTable


class Fault(NamedTuple):
    """One way in which the module after is not the module before: a finding id and its evidence."""

    id: str
    evidence: tuple[tuple[str, Evidence], ...]


def fault(id: str, **evidence: Evidence) -> Fault:
    """A Fault from keywords."""
    return Fault(id, tuple(evidence.items()))


def text(name: bytes) -> str:
    """A name from a module as evidence: printable whatever its bytes are, and short."""
    return name[:200].decode("utf-8", "backslashreplace")


class Pair:
    """A module before and after, and how their sections correspond.

    `sections` maps section indices before to those after; `old` and `new` are the indices of the pairs
    outside the debug set without the three tables; `missing` and `added` have no partner.  `in_order`
    says that the pairs have the same order in both, `alike` that also their headers agree where they
    must, so that none has to be looked at alone.
    """

    __slots__ = (
        "added", "after", "alike", "before", "drop", "going", "in_order", "matched", "missing", "new", "old", "residue",
        "same", "sections", "stripped",
    )  # fmt: skip

    def __init__(self, before: Elf, after: Elf, drop: Drop, *, stripped: bool = True) -> None:
        self.before, self.after, self.drop, self.stripped = before, after, drop, stripped
        self.going = debugset.debug_sections(before)
        self.residue = debugset.debug_sections(after)
        self.missing: list[Section] = []
        self.added: list[Section] = []
        self.old, self.new = _comparable(before, self.going), _comparable(after, self.residue)
        picks = picker(self.old), picker(self.new)
        self.in_order = picks[0](before.columns.name) == picks[1](after.columns.name)
        self.alike = self.in_order and _alike(before, after, *picks)
        if not self.in_order:
            kept, self.missing, self.added = _by_ordinal(_those(before, self.old), _those(after, self.new))
            self.old, self.new = [a.index for a, _ in kept], [b.index for _, b in kept]
        self.sections = dict(zip(self.old, self.new, strict=True))
        self.sections.update(zip(_tables(before), _tables(after), strict=True))
        if not stripped:  # what refers to debug information that both have is no difference
            both = _by_ordinal(_those(before, sorted(self.going)), _those(after, sorted(self.residue)))[0]
            self.sections.update((a.index, b.index) for a, b in both)
        self.matched: Matched | None = None
        self.same: bool | None = None  # whether all contents agree too, once that is known

    @property
    def kept(self) -> list[tuple[Section, Section]]:
        """The pairs outside the debug set without the three tables."""
        return list(zip(_those(self.before, self.old), _those(self.after, self.new), strict=True))

    @property
    def symbols(self) -> Matched:
        """The aligned symbol sequences, worked out when first asked for."""
        if self.matched is None:
            self.matched = match_symbols(self)
        return self.matched


def _tables(elf: Elf) -> tuple[int, int, int, int]:
    table = symbol_table(elf)
    return 0, table.section.index, table.strtab.index, elf.names_index


def _comparable(elf: Elf, leave: frozenset[int]) -> list[int]:
    leave = leave.union(_tables(elf))
    return [index for index in range(elf.count) if index not in leave]


def _those(elf: Elf, indices: Iterable[int]) -> list[Section]:
    sections = elf.sections
    return [sections[index] for index in indices]


def _alike(before: Elf, after: Elf, old: Callable[..., object], new: Callable[..., object]) -> bool:
    """True if type, flags, size, alignment and entry size of all pairs agree; to a bit of difference others look."""
    one, other = before.columns, after.columns
    return (
        old(one.type) == new(other.type)
        and old(one.flags) == new(other.flags)
        and old(one.size) == new(other.size)
        and old(one.align) == new(other.align)
        and old(one.entsize) == new(other.entsize)
    )


def _by_ordinal(
    old: list[Section], new: list[Section]
) -> tuple[list[tuple[Section, Section]], list[Section], list[Section]]:
    keyed = dict(_ordinals(new))
    kept, missing = [], []
    for key, section in _ordinals(old):
        partner = keyed.pop(key, None)
        if partner is None:
            missing.append(section)
        else:
            kept.append((section, partner))
    return kept, missing, list(keyed.values())


def _ordinals(sections: list[Section]) -> Iterator[tuple[tuple[bytes, int], Section]]:
    seen: dict[bytes, int] = {}
    for section in sections:
        ordinal = seen[section.name] = seen.get(section.name, -1) + 1
        yield (section.name, ordinal), section


class Matched(NamedTuple):
    """The sequences of V5, aligned: row before -> row after, 0 for rows outside the sequence."""

    rows: Sequence[int]
    faults: tuple[Fault, ...]


def match_symbols(pair: Pair) -> Matched:
    """Aligns the two sequences of symbols that the loader sees and says where they differ (V5)."""
    old, new = symbol_table(pair.before), symbol_table(pair.after)
    lost = pair.going.union(s.index for s in pair.missing)
    new_runs = unmarked(unseen_rows(new, pair.residue))
    unseen = unseen_rows(old, lost)
    runs = unmarked(unseen)
    if length(runs) != length(new_runs) and (pair.drop.symbols or pair.drop.labels):
        runs, faults = _without_dropped(pair, unseen, runs, new_runs)
    else:
        faults = _differences(pair, runs, new_runs)
    return Matched(_partner_rows(old.count, runs, new_runs), tuple(faults))


def _partner_rows(count: int, runs: list[Run], new_runs: list[Run]) -> Sequence[int]:
    # A list is faster to read, an array of millions a tenth of its size.
    rows: list[int] | array[int] = [] if count <= CHUNK else array("I")
    for start, new_start, size in _pieces(runs, new_runs):
        rows.extend(repeat(0, start - len(rows)))
        rows.extend(range(new_start, new_start + size))
    rows.extend(repeat(0, count - len(rows)))
    return rows


def _pieces(runs: list[Run], new_runs: list[Run]) -> Iterator[tuple[int, int, int]]:
    """Row before, row after and length of the stretches in which the sequences have no gap, as far as both go."""
    ahead = iter(new_runs)
    new_start = new_end = 0
    for run_start, end in runs:
        start = run_start
        while start < end:
            if new_start == new_end:
                new_start, new_end = next(ahead, (0, 0))
                if new_start == new_end:
                    return
            size = min(end - start, new_end - new_start)
            yield start, new_start, size
            start, new_start = start + size, new_start + size


def partners(pair: Pair, rows: Iterable[int]) -> Sequence[int] | None:
    """The number after of each symbol, right for `rows` at the least; None if one of these has no plain partner."""
    found = pair.symbols.rows
    strays = [row for row in rows if not found[row] and row]
    if not strays:
        return found
    of_section = _section_symbols(symbol_table(pair.after))
    shndx, sections = symbol_table(pair.before).shndx, pair.sections
    there = [of_section.get(sections.get(shndx[row], 0), 0) for row in strays]
    if not all(there) or not _same_but_section(pair, strays, there):
        return None
    found = found[:]
    for row, partner in zip(strays, there, strict=True):
        found[row] = partner  # type: ignore[index]  # a list or an array
    return found


def _same_but_section(pair: Pair, rows: list[int], new_rows: list[int]) -> bool:
    """True if the symbols agree, row by row, in everything but the section, and have no name."""
    old, new = symbol_table(pair.before), symbol_table(pair.after)
    one = bytearray().join([old.rows(row, row + 1) for row in rows])
    other = b"".join([new.rows(row, row + 1) for row in new_rows])
    size, at = old.shape.symbol_size, old.shape.symbol_shndx
    for byte in (at, at + 1):
        one[byte::size] = other[byte::size]
    return one == other and not any([old.names[row] for row in rows])


def _section_symbols(table: SymbolTable) -> dict[int, int]:
    """The first section symbol of each section."""
    rows = table.of_kind(SECTION_KIND)
    rows.reverse()
    return dict(zip([table.shndx[row] for row in rows], rows, strict=True))


def unseen_rows(table: SymbolTable, lost: Iterable[int]) -> bytearray:
    """A mask of the rows that are not in the sequence, row 0 among them.

    Unnamed symbols in sections, symbols of the sections `lost`, ABS FILE symbols.
    """
    names, shndx = table.names, table.shndx
    mask = table.mask(lost)
    unnamed = 1
    for start, end in table.unnamed:
        mask[start:end] = b"\1" * (end - start)
        unnamed += end - start
    if names.count(0) > unnamed:
        for row, name in enumerate(names):
            if not name and _regular(shndx[row]):
                mask[row] = 1
    for row in table.of_kind(FILE_KIND):
        if shndx[row] == SHN_ABS:
            mask[row] = 1
    mask[0] = 1
    return mask


def _regular(index: int) -> bool:
    return 0 < index < SHN_LORESERVE


def _without_dropped(
    pair: Pair, unseen: bytearray, runs: list[Run], new_runs: list[Run]
) -> tuple[list[Run], list[Fault]]:
    """The old sequence without symbols that the promise allows to be missing and that are missing; how it differs."""
    old = symbol_table(pair.before)
    may_go = droppable(old, runs, pair.drop, livepatch=is_livepatch(pair.before))
    # Most likely all are missing that no relocation names; whether that is so is compared in full.
    likely = _marked(unseen, may_go - _referenced(pair.before, pair.going))
    if length(likely) == length(new_runs) and not _compare(pair, likely, new_runs):
        return likely, []
    there = _identities(symbol_table(pair.after), new_runs, {})
    ahead, gone = next(there, None), []
    for row, symbol in zip(_rows(runs), _identities(old, runs, pair.sections), strict=True):
        if ahead != symbol and row in may_go:
            gone.append(row)
        else:  # where they differ _first_difference tells of it
            ahead = next(there, None)
    runs = _marked(unseen, gone)
    return runs, _differences(pair, runs, new_runs)


def _marked(mask: bytearray, rows: Iterable[int]) -> list[Run]:
    """The runs of `mask` that remain with `rows` marked too."""
    mask = mask[:]
    for row in rows:
        mask[row] = 1
    return unmarked(mask)


def _referenced(elf: Elf, going: frozenset[int]) -> set[int]:
    kept = [i for i in elf.relocating if i not in going]
    return {row for run in reloc_runs(elf, kept) for row in run.symbols()}


def _identities(table: SymbolTable, runs: list[Run], sections: dict[int, int]) -> Iterator[Symbol]:
    """Each symbol as what it is, its section by the number it has after."""
    for row in _rows(runs):
        symbol = table.symbol(row)
        yield symbol._replace(shndx=sections.get(symbol.shndx, symbol.shndx))


def _differences(pair: Pair, runs: list[Run], new_runs: list[Run]) -> list[Fault]:
    same_length = length(runs) == length(new_runs)
    return _compare(pair, runs, new_runs) if same_length else _first_difference(pair, runs, new_runs)


def _first_difference(pair: Pair, runs: list[Run], new_runs: list[Run]) -> list[Fault]:
    old, new = symbol_table(pair.before), symbol_table(pair.after)
    sizes = {"symbols_before": length(runs), "symbols_after": length(new_runs)}
    for row, new_row in zip_longest(_rows(runs), _rows(new_runs), fillvalue=0):  # row 0 is never in a sequence
        if not (row and new_row):
            name = old.name(row) if row else new.name(new_row)
            return [fault("symbol-changed", symbol=text(name), **sizes)]
        if not same_symbol(pair, row, new_row):
            return [fault("symbol-changed", symbol=text(old.name(row)), after=text(new.name(new_row)), **sizes)]
    return [fault("symbol-changed", **sizes)]


def _rows(runs: list[Run]) -> Iterator[int]:
    return (row for start, end in runs for row in range(start, end))


def same_symbol(pair: Pair, row: int, new_row: int) -> bool:
    """True if the two symbols are the same to the loader, whatever their numbers."""
    old, new = symbol_table(pair.before), symbol_table(pair.after)
    index, new_index = old.shndx[row], new.shndx[new_row]
    if old.names[row] == new.names[new_row] == 0 and pair.sections.get(index) == new_index and _regular(index):
        raw, new_raw = old.rows(row, row + 1), new.rows(new_row, new_row + 1)
        at = old.shape.symbol_shndx
        return raw[:at] == new_raw[:at] and raw[at + 2 :] == new_raw[at + 2 :]
    symbol, there = old.symbol(row), new.symbol(new_row)
    if _regular(symbol.shndx):
        symbol = symbol._replace(shndx=pair.sections.get(symbol.shndx, -1))
    return symbol == there


def _compare(pair: Pair, runs: list[Run], new_runs: list[Run]) -> list[Fault]:
    old, new = symbol_table(pair.before), symbol_table(pair.after)
    shape = pair.before.shape
    step = shape.symbol_size // 4
    # None of these symbols is defined in a section without a partner.
    sections, used = pair.sections, old.sections_used
    moved = {n: sections[n] for n in used.intersection(sections) if sections[n] != n}
    at = 0
    for raw, new_raw in zip(_blocks(old, runs), _blocks(new, new_runs), strict=True):
        words, new_words = array("I", raw), array("I", new_raw)
        names, new_names = words[::step], new_words[::step]
        words[::step] = new_names  # names are compared as what they are, not where
        same = _renumber_sections(words, moved, used, shape) if moved else words.tobytes()
        if same != new_raw or not _same_names(old, new, names, new_names, foreign=shape.foreign):
            return _first_difference(pair, _part(runs, at), _part(new_runs, at))
        at += len(names)
    return []


def _part(runs: list[Run], skip: int) -> list[Run]:
    """`runs` without their first `skip` rows."""
    rest = []
    for start, end in runs:
        length = end - start
        if skip < length:
            rest.append((start + skip, end))
        skip = max(0, skip - length)
    return rest


def _blocks(table: SymbolTable, runs: list[Run]) -> Iterator[bytes]:
    """The rows of `runs`, CHUNK rows at a time (the last block may be shorter)."""
    whole = CHUNK * table.shape.symbol_size
    held = b""
    for raw in table.kept_rows(runs):
        held = held + raw if held else raw
        while len(held) >= whole:
            yield held[:whole]
            held = held[whole:]
    if held:
        yield held


def _renumber_sections(words: array[int], moved: dict[int, int], used: frozenset[int], shape: Shape) -> bytearray:
    """The symbols in `words`, whose section numbers are among `used`, with those in `moved` replaced."""
    rows = bytearray(words)
    if len({n % LOW for n in used}) == len(used) and not any([n // LOW != new // LOW for n, new in moved.items()]):
        # Each number is told by its low byte, and only that one changes: so with less than 240 sections.
        table = bytearray(range(LOW))
        for number, new in moved.items():
            table[number % LOW] = new % LOW
        where = slice(shape.symbol_shndx + (shape.order == ">"), None, shape.symbol_size)
        rows[where] = rows[where].translate(table)
        return rows
    halves = memoryview(rows).cast("H")[shape.symbol_shndx // 2 :: shape.symbol_size // 2]
    column = array("H", halves.tobytes())
    if shape.foreign:
        column.byteswap()
    column = array("H", [moved.get(number, number) for number in column])
    if shape.foreign:
        column.byteswap()
    halves[:] = memoryview(column)
    return rows


def _same_names(old: SymbolTable, new: SymbolTable, names: array[int], new_names: array[int], *, foreign: bool) -> bool:
    """True if the strings at the two columns of offsets are equal, row by row.

    Offsets that moved by the same distance point into one stretch of both tables; if the
    stretches are equal as memory, so is every string in them.
    """
    if foreign:
        names, new_names = names[:], new_names[:]
        names.byteswap()
        new_names.byteswap()
    before, after = old.strings, new.strings
    if max(len(before), len(after)) < lanes.LIMIT and _equal_stretches(before, after, names, new_names):
        return True
    both = zip(names, new_names, strict=True)
    return all(_string(before, offset) == _string(after, new_offset) for offset, new_offset in both)


def _equal_stretches(before: bytes, after: bytes, names: array[int], new_names: array[int]) -> bool:
    keys = lanes.by_difference(names, new_names)
    at = 0
    while at < len(keys):
        distance, low = divmod(keys[at], 1 << 32)
        at = bisect_left(keys, distance + 1 << 32, at)
        shift = distance - lanes.LIMIT
        end = before.index(b"\0", keys[at - 1] & 0xFFFFFFFF) + 1
        if before[low:end] != after[low - shift : end - shift]:
            return False
    return True


def _string(strings: bytes, start: int) -> bytes:
    return strings[start : strings.index(b"\0", start)]


def symbol_pairs(column: array[int], new_column: array[int]) -> set[int]:
    """The distinct (before, after) pairs of two columns, each as before | after << 32."""
    both = array("I", bytes(8 * len(column)))
    first = sys.byteorder == "big"
    both[first::2] = column
    both[1 - first :: 2] = new_column
    return set(memoryview(both).cast("B").cast("Q"))
