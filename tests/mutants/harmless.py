"""A module laid out otherwise: the same to the loader, and hardly a byte where it was.

A file is taken apart into sections, symbols and relocations, which refer to each other as objects; then the order of
what has no order is changed and all is put together again.  Written from the ELF specification alone.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random

from tests.surgery import RELOCATION_WORDS, SECTION, SECTION_SIZE, SYMBOL, SYMBOL_SIZE, Patient

NULL, PROGBITS, SYMTAB, STRTAB, NOBITS, GROUP = 0, 1, 2, 3, 8, 17
ALLOC, INFO_LINK = 2, 0x40
SPECIAL = 0xFF00
STT_SECTION = 3


class Part:
    """One section."""

    def __init__(self, fields: dict[str, int], name: bytes, data: bytes) -> None:
        self.fields, self.name, self.data = fields, name, data
        self.link: Part | None = None
        self.target: Part | None = None  # of sh_info, where that is a section
        self.members: list[Part] = []  # of a group
        self.signature: Symbol | None = None  # of a group
        self.entries: list[Entry] = []  # of a relocation section

    @property
    def is_relocation(self) -> bool:
        """Whether it holds relocations."""
        return self.fields["type"] in RELOCATION_WORDS


class Symbol:
    """One symbol; its section is a Part or a special index."""

    def __init__(self, fields: dict[str, int], name: bytes, place: Part | int) -> None:
        self.fields, self.name, self.place = fields, name, place

    @property
    def is_local(self) -> bool:
        """Its binding."""
        return self.fields["info"] >> 4 == 0


class Entry:
    """One relocation: its bytes, and the symbol that belongs into them."""

    def __init__(self, data: bytes, symbol: Symbol) -> None:
        self.data, self.symbol = data, symbol


class Module:
    """A module taken apart."""

    def __init__(self, data: bytes) -> None:
        self.patient = Patient(data)
        self.header = data[: 64 if self.patient.is64 else 52]
        self.parts = [self._part(index) for index in range(self.patient.header("shnum"))]
        self.symtab = self.parts[self.patient.symtab]
        self.strtab = self.parts[self.symtab.fields["link"]]
        self.names = self.parts[self.patient.header("shstrndx")]
        self.symbols = [self._symbol(row) for row in range(self.patient.count)]
        for index, part in enumerate(self.parts):
            self._join(index, part)
        # How it will be put together:
        self.table_first = False  # the section headers before the contents
        self.padding: Callable[[], int] = lambda: 0  # further room before a section, in units of its alignment
        self.shuffle: Callable[[list[bytes]], None] = list.sort  # the order of names in string tables

    def _part(self, index: int) -> Part:
        patient = self.patient
        fields = {field: patient.section(index, field) for field in SECTION[patient.is64]}
        data = b"" if fields["type"] in (NULL, NOBITS) else patient.contents(index)
        return Part(fields, patient.names[index].encode("latin-1"), data)

    def _symbol(self, row: int) -> Symbol:
        patient = self.patient
        fields = {field: patient.symbol(row, field) for field in SYMBOL[patient.is64]}
        place = fields["shndx"] if not 0 < fields["shndx"] < SPECIAL else self.parts[fields["shndx"]]
        return Symbol(fields, patient.symbol_name(row).encode("latin-1"), place)

    def _join(self, index: int, part: Part) -> None:
        fields = part.fields
        part.link = self.parts[fields["link"]] if fields["link"] else None
        if fields["type"] == GROUP:
            part.signature = self.symbols[fields["info"]]
            numbers = struct.unpack(f"{self.patient.order}{len(part.data) // 4}I", part.data)
            part.members = [self.parts[number] for number in numbers[1:]]
        elif part.is_relocation:
            part.target = self.parts[fields["info"]]
            size = fields["entsize"]
            for entry in range(len(part.data) // size):
                symbol = self.symbols[self.patient.target(index, entry)]
                part.entries.append(Entry(part.data[entry * size : (entry + 1) * size], symbol))
        elif fields["flags"] & INFO_LINK:
            part.target = self.parts[fields["info"]]

    # --- together again ---

    def render(self) -> bytes:
        """The file."""
        is64, order = self.patient.is64, self.patient.order
        offsets = self._strings()
        rows = {id(symbol): row for row, symbol in enumerate(self.symbols)}
        numbers = {id(part): number for number, part in enumerate(self.parts)}
        self.symtab.data = b"".join(self._symbol_bytes(symbol, offsets, numbers) for symbol in self.symbols)
        out = bytearray(self.header)
        table = len(out) + -len(out) % 8
        if self.table_first:
            out += bytes(table - len(out) + len(self.parts) * SECTION_SIZE[is64])
        places = {}
        for part in self.parts[1:]:
            data = self._contents(part, rows, numbers)
            if data:  # else the room before it might be the end of the file, and belong to nobody
                align = max(part.fields["align"], 8)
                out += bytes(-len(out) % align + self.padding() * align)
            places[id(part)] = len(out)
            out += data
        if not self.table_first:
            out += bytes(-len(out) % 8)
            table = len(out)
            out += bytes(len(self.parts) * SECTION_SIZE[is64])
        patient = Patient(bytes(out))
        patient.set_header(shoff=table, shnum=len(self.parts), shstrndx=numbers[id(self.names)])
        for number, part in enumerate(self.parts):
            fields = {**part.fields, "name": offsets[id(part)]}
            if number:
                fields |= {"offset": places[id(part)], **self._references(part, rows, numbers)}
                fields["size"] = part.fields["size"] if part.fields["type"] == NOBITS else len(part.data)
            patient.set_section(number, **fields)
        assert order == patient.order
        return bytes(patient)

    def _references(self, part: Part, rows: dict[int, int], numbers: dict[int, int]) -> dict[str, int]:
        found = {"link": numbers[id(part.link)] if part.link else 0}
        if part is self.symtab:
            found["info"] = sum(symbol.is_local for symbol in self.symbols)
        elif part.signature:
            found["info"] = rows[id(part.signature)]
        elif part.target:
            found["info"] = numbers[id(part.target)]
        return found

    def _contents(self, part: Part, rows: dict[int, int], numbers: dict[int, int]) -> bytes:
        if part.is_relocation:
            part.data = b"".join(self._relocation_bytes(part, entry, rows) for entry in part.entries)
        elif part.fields["type"] == GROUP:
            members = [numbers[id(member)] for member in part.members]
            part.data = part.data[:4] + struct.pack(f"{self.patient.order}{len(members)}I", *members)
        return part.data

    def _relocation_bytes(self, part: Part, entry: Entry, rows: dict[int, int]) -> bytes:
        """As the original has it, with the symbol's number of now."""
        word = 8 if self.patient.is64 else 4
        data = bytearray(entry.data)
        order = self.patient.order
        (info,) = struct.unpack_from(order + ("Q" if word == 8 else "I"), data, word)
        row = rows[id(entry.symbol)]
        new = row << 32 | info & 0xFFFFFFFF if word == 8 else row << 8 | info & 0xFF
        struct.pack_into(order + ("Q" if word == 8 else "I"), data, word, new)
        assert part.is_relocation
        return bytes(data)

    def _symbol_bytes(self, symbol: Symbol, offsets: dict[int, int], numbers: dict[int, int]) -> bytes:
        place = symbol.place if isinstance(symbol.place, int) else numbers[id(symbol.place)]
        fields = {**symbol.fields, "name": offsets[id(symbol)], "shndx": place}
        data = bytearray(SYMBOL_SIZE[self.patient.is64])
        for field, (at, letter) in SYMBOL[self.patient.is64].items():
            struct.pack_into(self.patient.order + letter, data, at, fields[field])
        return bytes(data)

    def _strings(self) -> dict[int, int]:
        """New string tables; where each name begins."""
        offsets: dict[int, int] = {}
        tables: dict[int, list[Part | Symbol]] = {}
        tables.setdefault(id(self.strtab), []).extend(self.symbols)
        tables.setdefault(id(self.names), []).extend(self.parts)
        for part in {id(self.strtab): self.strtab, id(self.names): self.names}.values():
            named = tables[id(part)]
            names = sorted({each.name for each in named} - {b""})
            self.shuffle(names)
            table, places = bytearray(1), {b"": 0}
            for name in names:
                places[name] = len(table)
                table += name + b"\0"
            part.data = bytes(table)
            offsets |= {id(each): places[each.name] for each in named}
        return offsets


# --- what has no order -----------------------------------------------------------------------------------------------

Change = Callable[[Module, Random], str]


def string_tables(module: Module, random: Random) -> str:
    """Names in another order, without sharing ends."""
    module.shuffle = random.shuffle
    return "names in another order"


def padding(module: Module, random: Random) -> str:
    """Room between sections."""
    module.padding = lambda: random.choice([0, 0, 1, 3])
    return "padding"


def headers_first(module: Module, random: Random) -> str:  # noqa: ARG001  all changes are called alike
    """The section headers before the contents."""
    module.table_first = True
    return "headers first"


def info_link(module: Module, random: Random) -> str:
    """The flag of some relocation sections, which the loader does not read."""
    for part in module.parts:
        if part.is_relocation and random.random() < 0.3:
            part.fields["flags"] ^= INFO_LINK
    return "INFO_LINK"


def section_symbols(module: Module, random: Random) -> str:
    """Unnamed section symbols that no relocation names go anywhere among the locals."""
    held = {id(entry.symbol) for part in module.parts for entry in part.entries}
    held |= {id(part.signature) for part in module.parts}
    free = [s for s in module.symbols[1:] if s.fields["info"] == STT_SECTION and not s.name and id(s) not in held]
    loose = {id(symbol) for symbol in free}
    rest = [symbol for symbol in module.symbols if id(symbol) not in loose]
    locals_ = sum(symbol.is_local for symbol in rest)
    for symbol in free:
        if random.random() < 0.2:
            continue  # nobody needs it at all
        rest.insert(random.randrange(1, locals_ + 1), symbol)
        locals_ += 1
    module.symbols = rest
    return f"{len(free)} section symbols"


def other_sections(module: Module, random: Random) -> str:
    """Sections that are not loaded go anywhere; relocation sections for one target keep their order."""
    loaded = [part for part in module.parts[1:] if part.fields["flags"] & ALLOC]
    livepatched = {id(part.target) for part in loaded if part.is_relocation}
    bound = [part for part in module.parts[1:] if part.is_relocation and id(part.target) in livepatched]
    fixed = [part for part in module.parts[1:] if part in loaded or part in bound]
    loose = [part for part in module.parts[1:] if part not in fixed]
    order = sorted(loose, key=lambda _: random.random())
    by_target: dict[int, list[Part]] = {}
    for part in loose:
        if part.is_relocation:
            by_target.setdefault(id(part.target), []).append(part)
    order = [by_target[id(part.target)].pop(0) if part.is_relocation else part for part in order]
    # Names may repeat: sections of one name keep their order too, since that is how they are told apart.
    by_name: dict[bytes, list[Part]] = {}
    for part in loose:
        by_name.setdefault(part.name, []).append(part)
    order = [by_name[part.name].pop(0) for part in order]
    module.parts = [module.parts[0], *_merge(fixed, order, random)]
    return f"{len(loose)} sections in another order"


def _merge(one: list[Part], other: list[Part], random: Random) -> list[Part]:
    """Both in their own order, mixed."""
    merged, left, right = [], list(one), list(other)
    while left or right:
        take = left if not right or (left and random.random() < len(left) / (len(left) + len(right))) else right
        merged.append(take.pop(0))
    return merged


KINDS: tuple[Change, ...] = (string_tables, padding, headers_first, info_link, section_symbols, other_sections)


def relaid(data: bytes, random: Random) -> tuple[bytes, str]:
    """The module with some of these changes, and what they are."""
    module = Module(data)
    chosen = random.sample(KINDS, random.choice([1, 1, 2, 3, len(KINDS)]))
    told = [change(module, random) for change in chosen]
    return module.render(), ", ".join(told)
