"""What one module is to the kernel's loader, as digests: all that the proof obligations compare.

A record keeps these facts, so that a module can be proven to be the same after another tool has
rewritten it and its bytes before are gone.  No number that a strip tool moves is among them:
sections go by name and ordinal, symbols by what they are.  The build-id is a fact, but in no digest,
because debugedit writes a new one.  Digests are BLAKE2b of the bytes as they
lie in the file, so a record means the same on a machine of the other byte order.

The obligations are those of the loader contract; `compare` holds two such facts against each other.
"""

from __future__ import annotations

import sys
from array import array
from hashlib import blake2b, sha256
from typing import TYPE_CHECKING

from pkghook.errors import ModuleError
from pkghook.ko import debugset
from pkghook.ko.buildid import build_id
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
    SHT_NOTE,
    SHT_NULL,
)
from pkghook.ko.match import unseen_rows
from pkghook.ko.plan import saved_at_least
from pkghook.ko.symtab import symbol_table, unmarked
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pkghook.ko.elf import Elf, Section
    from pkghook.ko.plan import Plan
    from pkghook.ko.reloc import RelocRun
    from pkghook.ko.symtab import Run, SymbolTable

DIGEST = 16  # bytes; what is guarded against is tools that go wrong, not somebody who looks for collisions
STREAM = 1 << 22  # bytes hashed at a time
CHUNK = 1 << 10  # symbols whose names are in memory at a time
NAMES_LIMIT = 1 << 20  # bytes of symbol names kept to name what was lost
_TABLES = ("\0symbols", "\0strings", "\0names")  # their keys
_BARE = (SHT_NULL, SHT_NOBITS, SHT_GROUP, *RELOCATIONS)  # no contents, or such as are facts of their own
_LABELS = (b".L", b"$")
ID_AT = 16  # where the id starts in .note.gnu.build-id: behind three words and "GNU"


_WX = SHF_WRITE | SHF_EXECINSTR


class Header(NamedTuple):
    """What V1 compares of the ELF header."""

    ident: str  # hex
    type: int
    machine: int
    version: int
    flags: int
    entry: int


class Table(NamedTuple):
    """The section header of the symbol table, of its strings or of the section names; see `prove.tables`."""

    name: str
    flags: int
    align: int


class Part(NamedTuple):
    """One section that stays, neither a table nor, unless it is loaded, relocations."""

    name: str
    type: int
    flags: int  # without SHF_INFO_LINK, which tools set and clear as they like
    align: int
    entsize: int
    size: int  # bytes; 0 for a group, whose members are facts of their own
    refers: str  # keys of what sh_link and, with SHF_INFO_LINK, sh_info name
    digest: str  # of the contents but the build-id; "" where there are none, and for relocations and groups


class Relocs(NamedTuple):
    """One relocation section, its entries in order."""

    name: str
    type: int
    flags: int  # without SHF_INFO_LINK
    align: int
    target: str  # key of the section that it applies to
    total: int  # entries
    unnamed: int  # entries with symbol number 0
    entries: str  # digest of offsets, types and addends
    symbols: str  # digest of the symbol of each entry as what it is


class Symbols(NamedTuple):
    """The symbols that the loader sees, in order (obligation V5)."""

    total: int
    names: str  # digest of the names
    sections: str  # digest of the sections, by key
    rest: str  # digest of binding, type, visibility, value and size
    listing: str  # the names for people, one a line, labels and mapping symbols left out; "" where they are too many


class Group(NamedTuple):
    """One section group that stays, with the members that stay."""

    name: str  # its key
    flags: str  # its first word, hex
    signature: str  # digest of the symbol that names it
    members: str  # keys, one a line


class KlpSection(NamedTuple):
    """A section with SHF_RELA_LIVEPATCH."""

    name: str
    flags: int  # without SHF_INFO_LINK
    size: int


class Facts(NamedTuple):
    """All that is compared of one module, and what its plan says. Sizes are bytes."""

    header: Header
    tables: tuple[Table, ...]
    loaded: tuple[Part, ...]  # the sections with SHF_ALLOC
    others: tuple[Part, ...]  # those without, outside the debug set
    relocations: tuple[Relocs, ...]
    groups: tuple[Group, ...]
    symbols: Symbols
    klp_sections: tuple[KlpSection, ...]
    null_flags: int  # of section 0
    risky: str  # names of the sections that are writable and executable, one a line
    klp_symbols: str  # names of the symbols with SHN_LIVEPATCH, one a line
    trailing: int  # bytes behind the ELF file
    trailing_digest: str
    livepatch: bool
    unstripped: bool
    size: int  # of the ELF file
    expected: int  # what it must become: see `plan`
    saving: int  # what any step must save at the least
    signature: int  # size of the signature trailer, 0 without one
    signature_digest: str  # its SHA-256
    build_id: str  # hex


def facts(elf: Elf, found: Plan, trailer: bytes = b"") -> Facts:
    """The facts of a module: `found` is its plan, `trailer` its signature (see `file.ModuleFile`).

    Raises ModuleError bad-string-table, bad-group, and what reading the image raises.
    """
    view = _View(elf, found)
    behind = elf.image.size - elf.end
    loaded = (s for s in view.staying if s.flags & SHF_ALLOC)
    others = (s for s in view.staying if not s.flags & SHF_ALLOC and s.type not in RELOCATIONS)
    marked = (s for s in elf.sections if s.flags & SHF_RELA_LIVEPATCH)
    return Facts(
        header=Header(elf.ident.hex(), elf.type, elf.machine, elf.version, elf.flags, elf.entry),
        tables=tuple(Table(_text(s.name), s.flags, s.align) for s in view.tables),
        loaded=tuple(_part(view, s) for s in loaded),
        others=tuple(_part(view, s) for s in others),
        relocations=_relocations(view, found),
        groups=tuple(_group(view, s) for s in view.groups),
        symbols=_symbols(view),
        klp_sections=tuple(KlpSection(_text(s.name), s.flags & ~SHF_INFO_LINK, s.size) for s in marked),
        null_flags=elf.columns.flags[0],
        risky="\n".join(sorted({_text(s.name) for s in elf.sections if s.flags & _WX == _WX})),
        klp_symbols=_klp_symbols(view.table),
        trailing=behind,
        trailing_digest=_digest(elf, elf.end, elf.image.size) if behind else "",
        livepatch=found.livepatch,
        unstripped=found.unstripped,
        size=elf.image.size,
        expected=found.expected,
        saving=saved_at_least(elf, found),
        signature=len(trailer),
        signature_digest=sha256(trailer).hexdigest() if trailer else "",
        build_id=view.build_id,
    )


class _View:
    """A module with the keys by which its sections go here.

    A key is the section's name; where names repeat, NUL and an ordinal follow.
    """

    __slots__ = ("build_id", "elf", "going", "groups", "idents", "keys", "staying", "table", "tables")

    def __init__(self, elf: Elf, found: Plan) -> None:
        self.elf = elf
        self.build_id = build_id(elf)
        self.table = table = symbol_table(elf)
        self.tables = (table.section, table.strtab, elf.sections[elf.names_index])
        self.going = debugset.debug_sections(elf)
        self.keys, self.staying = _keys(self)
        self.groups = [s for s in self.staying if s.type == SHT_GROUP]
        self.idents = _idents(self, found)


def _keys(view: _View) -> tuple[dict[int, str], list[Section]]:
    """The key of each section by index, and the sections that stay, without the tables."""
    keys = {0: "", **{table.index: key for table, key in zip(view.tables, _TABLES, strict=True)}}
    staying: list[Section] = []
    seen: dict[bytes, int] = {}
    for section in view.elf.sections:
        index, name = section.index, section.name
        if index in view.going or debugset.is_optional(section):
            keys[index] = f"\0{_text(name)}"
        elif index not in keys:
            ordinal = seen[name] = seen.get(name, -1) + 1
            keys[index] = f"{_text(name)}\0{ordinal}" if ordinal else _text(name)
            staying.append(section)
    return keys, staying


def _symbol_keys(view: _View) -> dict[int, bytes]:
    """The key for each section index that symbols have, special ones by their number."""
    keys = {n: view.keys.get(n, f"\0#{n:x}") for n in view.table.sections_used}
    return {n: key.encode("utf-8", "surrogateescape") for n, key in keys.items()}


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


# --- sections --------------------------------------------------------------------------------------------------------


def _part(view: _View, section: Section) -> Part:
    return Part(
        _text(section.name),
        section.type,
        section.flags & ~SHF_INFO_LINK,
        section.align,
        section.entsize,
        0 if section.type == SHT_GROUP else section.size,
        "" if section.type in RELOCATIONS else _refers(view, section),
        "" if section.type in _BARE or not section.size else _contents(view, section),
    )


def _contents(view: _View, section: Section) -> str:
    """The digest of a section's contents, without the build-id: that of the facts may become another."""
    own = bytes.fromhex(view.build_id)
    if section.name == b".note.gnu.build-id" and section.type == SHT_NOTE and own:
        data = view.elf.read(section)
        end = ID_AT + len(own)
        if data[ID_AT:end] == own:
            return blake2b(data[:ID_AT] + bytes(len(own)) + data[end:], digest_size=DIGEST).hexdigest()
    return _digest(view.elf, section.offset, section.end)


def _refers(view: _View, section: Section) -> str:
    info = view.keys.get(section.info, "?") if section.flags & SHF_INFO_LINK else ""
    link = view.keys.get(section.link, "?") if section.link else ""
    return f"{link}\n{info}" if info else link


def _digest(elf: Elf, start: int, end: int) -> str:
    digest = blake2b(digest_size=DIGEST)
    for at in range(start, end, STREAM):
        digest.update(elf.image.read(at, min(STREAM, end - at)))
    return digest.hexdigest()


def _group(view: _View, section: Section) -> Group:
    elf = view.elf
    if section.info >= view.table.count:
        raise ModuleError("bad-group", section=section.index, symbol=section.info)
    members = (view.keys[m] for m in debugset.group_members(elf, section) if m not in view.going)
    signature = f"{view.idents[section.info]:016x}"
    return Group(view.keys[section.index], elf.read(section)[:4].hex(), signature, "\n".join(members))


# --- symbols ---------------------------------------------------------------------------------------------------------


def _symbols(view: _View) -> Symbols:
    table = view.table
    # Of what may go or stay the symbols may too, as the direct verifier has it.
    runs = unmarked(unseen_rows(table, view.going.union(debugset.optional_sections(view.elf))))
    names, sections, rest = (blake2b(digest_size=DIGEST) for _ in range(3))
    keys = {index: key + b"\0\0" for index, key in _symbol_keys(view).items()}
    listing: list[bytes] = []
    room = NAMES_LIMIT
    for start, end in _pieces(runs):
        here = list(_names(table, table.names[start:end]))
        names.update(b"\0".join(here) + b"\0")
        sections.update(b"".join(map(keys.__getitem__, table.shndx[start:end])))
        told = [name for name in here if not name.startswith(_LABELS)] if room > 0 else []
        listing += told
        room -= sum(map(len, told))
    for raw in table.kept_rows(runs):
        rest.update(_rest(table, raw))
    shown = b"\n".join(listing).decode("utf-8", "surrogateescape") if room > 0 else ""
    total = sum(end - start for start, end in runs)
    return Symbols(total, names.hexdigest(), sections.hexdigest(), rest.hexdigest(), shown)


def _klp_symbols(table: SymbolTable) -> str:
    if SHN_LIVEPATCH not in table.sections_used:
        return ""
    rows = (row for row, index in enumerate(table.shndx) if index == SHN_LIVEPATCH)
    return "\n".join(map(_text, table.names_of(rows)))


def _pieces(runs: list[Run]) -> Iterator[Run]:
    for first, last in runs:
        for start in range(first, last, CHUNK):
            yield start, min(last, start + CHUNK)


def _names(table: SymbolTable, offsets: array[int]) -> Iterator[bytes]:
    strings, find = table.strings, table.strings.find
    return (strings[offset : find(b"\0", offset)] for offset in offsets)


def _rest(table: SymbolTable, raw: bytes) -> array[int]:
    """Rows of the table without the two numbers that move: the name's offset and the section's index."""
    shape = table.shape
    halves = array("H", raw)
    step = shape.symbol_size // 2
    blank = array("H", bytes(2 * (len(halves) // step)))
    for at in (0, 1, shape.symbol_shndx // 2):
        halves[at::step] = blank
    return halves


def _idents(view: _View, found: Plan) -> array[int]:
    """For each symbol that a relocation or group names, by row: 64 bits of a digest of what it is; 0 for row 0."""
    table = view.table
    wanted: set[int] = {s.info for s in view.groups}
    for run in found.relocations:
        wanted.update(run.symbols())
    rows = sorted(row for row in wanted if 0 < row < table.count)
    idents = array("Q", bytes(8 * table.count))
    size = table.shape.symbol_size
    keys = _symbol_keys(view)
    at = 0
    for start, end in table.chunks():
        rest = _rest(table, table.rows(start, end)).tobytes()
        first = at
        while at < len(rows) and rows[at] < end:
            at += 1
        here = rows[first:at]
        for row, name in zip(here, _names(table, array("I", map(table.names.__getitem__, here))), strict=True):
            what = b"%b\0%b\0%b" % (name, keys[table.shndx[row]], rest[(row - start) * size : (row - start + 1) * size])
            idents[row] = int.from_bytes(blake2b(what, digest_size=8).digest(), "little")
    return idents


# --- relocations -----------------------------------------------------------------------------------------------------

Entries = tuple[int, int, str, str]  # the fields `total` to `symbols` of Relocs


def _relocations(view: _View, found: Plan) -> tuple[Relocs, ...]:
    digests: dict[int, Entries] = {}
    for run in found.relocations:
        digests.update(_entries(view, run))
    empty = blake2b(digest_size=DIGEST).hexdigest()
    return tuple(
        Relocs(
            _text(s.name),
            s.type,
            s.flags & ~SHF_INFO_LINK,
            s.align,
            view.keys[s.info],
            *digests.get(s.index, (0, 0, empty, empty)),
        )
        for s in view.staying
        if s.type in RELOCATIONS
    )


def _entries(view: _View, run: RelocRun) -> Iterator[tuple[int, Entries]]:
    """The entries of each section of a run, by its index, counted and digested."""
    entry, shift = run.shape.entry, run.shape.shift
    words = run.words[:]
    words[run.shape.word :: entry] = array("I", bytes(4 * len(run.column)))
    types = bytes([w & 255 for w in run.column]) if shift else b""
    rows = [w >> shift for w in run.column] if shift else run.column
    symbols = array("Q", map(view.idents.__getitem__, rows))
    some_unnamed = 0 in run.symbols()
    if sys.byteorder == "big":
        symbols.byteswap()
    all_words, all_symbols = memoryview(words), memoryview(symbols)
    at = 0
    for section in run.sections:
        end = at + section.size // (entry * 4)
        others = blake2b(all_words[at * entry : end * entry], digest_size=DIGEST)
        others.update(types[at:end])
        named = blake2b(all_symbols[at:end], digest_size=DIGEST)
        unnamed = symbols[at:end].count(0) if some_unnamed else 0
        yield section.index, (end - at, unnamed, others.hexdigest(), named.hexdigest())
        at = end
