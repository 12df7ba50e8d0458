"""The size model applied (V12), and the digests that a receipt carries."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pkghook.ko import debugset
from pkghook.ko.elf import SHF_ALLOC, SHT_NOBITS
from pkghook.ko.file import BytesImage
from pkghook.ko.match import Fault, fault
from pkghook.ko.plan import saved_at_least
from pkghook.ko.symtab import length, symbol_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pkghook.ko.elf import Elf, Section
    from pkghook.ko.plan import Plan
    from pkghook.ko.symbols import SymbolList

# How far tools are known to differ from the expected size: bytes a section, and per file.
PER_SECTION, PER_FILE = 8, 64
KEEP_SYMBOLS = ("eu-strip", "llvm-strip")
_STREAM = 1 << 22


def account(before: Elf, plan: Plan, size: int, tool: str, added: int = 0) -> Iterator[Fault]:
    """V12: did the module shrink as its section table says? `tool` is "" for the native steps, which differ by 0.

    `added` are the bytes of `plan.expected` that a debuglink takes.
    """
    floor = before.image.size - saved_at_least(before, plan) + added
    slack = PER_SECTION * len(plan.numbers) + PER_FILE if tool else 0
    most = plan.expected + slack + _left_by(tool, before, plan)
    if size > most or (size > floor and plan.removed):
        yield fault("shrink-below-expected", bytes=size, expected=plan.expected, at_most=min(floor, most))
    elif size < plan.expected - slack:
        yield fault("overstripped", bytes=size, expected=plan.expected, at_least=plan.expected - slack)


def _left_by(tool: str, before: Elf, plan: Plan) -> int:
    """Bytes of symbols, names and sections that a tool leaves although nothing needs them.

    All leave .llvm_addrsig.  eu-strip and llvm-strip keep section symbols that no relocation names;
    eu-strip keeps FILE symbols too and the string table as it was.
    """
    stays = [before.sections[i] for i in debugset.optional_sections(before) if tool and i in plan.removed]
    left = sum([s.size + len(s.name) + 1 + before.shape.section.size for s in stays])
    if tool not in KEEP_SYMBOLS:
        return left
    table = symbol_table(before)
    unneeded = length(plan.dropped) - table.mask(plan.removed).count(1)
    names = table.strtab.size - plan.strings.size if tool == "eu-strip" else 0
    return left + unneeded * before.shape.symbol_size + names


def named_by(elf: Elf, wanted: SymbolList) -> int:
    """How many symbols that the module defines a list names, those that a relocation holds included."""
    table = symbol_table(elf)
    rows = zip(table.names, table.shndx, strict=True)
    return sum(wanted.matches(table.name(row)) for row, (name, index) in enumerate(rows) if name and index)


def kept_digest(elf: Elf) -> str:
    """SHA-256 over the contents of the sections that the kernel loads, in order, relocations not applied.

    Equal before and after by V2, so it tells which module the bytes before were.
    """
    kinds, offsets, sizes, flags = elf.columns.type, elf.columns.offset, elf.columns.size, elf.columns.flags
    loaded = [i for i, flag in enumerate(flags) if flag & SHF_ALLOC and sizes[i] and kinds[i] != SHT_NOBITS]
    if isinstance(elf.image, BytesImage):
        # Small and in memory: one digest over a copy costs less than a call for every section.
        data = elf.image.data
        return hashlib.sha256(b"".join([data[offsets[i] : offsets[i] + sizes[i]] for i in loaded])).hexdigest()
    digest = hashlib.sha256()
    for index in loaded:
        for part in _parts(elf, elf.section(index)):
            digest.update(part)
    return digest.hexdigest()


def _parts(elf: Elf, section: Section) -> Iterator[bytes]:
    for at in range(section.offset, section.end, _STREAM):
        yield elf.image.read(at, min(_STREAM, section.end - at))
