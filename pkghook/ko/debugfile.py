"""The debug file of a module: its debug information, its symbols and the outline of all the rest.

It has the section headers of the unstripped module, number for number, so that nothing in it has to be
renumbered: relocations of the DWARF keep their symbols, symbols their sections.  What the stripped module
has is there as an outline only, SHT_NOBITS.  That is what `eu-strip -f` writes, but for small differences
that no reader sees; debuggers lay out the sections with SHF_ALLOC of both files by their order (libdwfl:
dwfl_offline_section_address()) and check the build-id, which is why notes keep their bytes.

No byte of the debug information is looked at here: whole spans of the image are copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkghook.errors import ModuleError
from pkghook.ko import debugset
from pkghook.ko.elf import SHT_GROUP, SHT_NOBITS, SHT_NOTE, SHT_NULL, parse
from pkghook.ko.match import text
from pkghook.ko.plan import MAX_FILE_ALIGN
from pkghook.ko.symtab import symbol_table
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pkghook.ko.elf import Elf, Section
    from pkghook.ko.file import Image

COMPARE = 1 << 20  # bytes compared at a time
_NO_CONTENTS = (SHT_NOBITS, SHT_NULL)
# Which file has the other half of the DWARF, where dwz took one: both files need it.
_ALTLINK = b".gnu_debugaltlink"


class Span(NamedTuple):
    """Bytes of the module's image that go into the debug file as they are."""

    offset: int
    size: int


class Outline(NamedTuple):
    """How the debug file of a module will lie. Section numbers are those of the module."""

    held: frozenset[int]  # sections whose bytes it has
    offsets: dict[int, int]  # of every section but 0
    shoff: int
    size: int  # of the whole file, in bytes


def outline(elf: Elf, removed: frozenset[int]) -> Outline:
    """The debug file of a module from which the sections `removed` go."""
    held = frozenset(i for i in range(1, elf.count) if i in removed or _in_both(elf, i))
    offsets: dict[int, int] = {}
    at = elf.header_end
    kinds, sizes, aligns = elf.columns.type, elf.columns.size, elf.columns.align
    symbols = symbol_table(elf).section.index
    for index in elf.in_file:
        align = max(1, min(aligns[index], MAX_FILE_ALIGN), elf.shape.word if index == symbols else 1)
        start = offsets[index] = -(-at // align) * align
        if index in held and kinds[index] not in _NO_CONTENTS:
            at = start + sizes[index]
    shoff = -(-at // elf.shape.word) * elf.shape.word
    return Outline(held, offsets, shoff, shoff + elf.count * elf.shape.section.size)


def _in_both(elf: Elf, index: int) -> bool:
    """True for what both files have: the tables by which the rest is understood."""
    table = symbol_table(elf)
    tables = (table.section.index, table.strtab.index, elf.names_index)
    kind = elf.columns.type[index]
    return index in tables or kind in (SHT_NOTE, SHT_GROUP) or elf.columns.name[index] == _ALTLINK


def render(elf: Elf, plan: Outline) -> Iterator[bytes | Span]:
    """The debug file as consecutive pieces, `plan.size` bytes in all."""
    yield _header(elf, plan)
    at = elf.header_end
    for start, span in _spans(elf, plan):
        if start > at:
            yield bytes(start - at)
        yield span
        at = start + span.size
    yield bytes(plan.shoff - at) + _section_headers(elf, plan)


def _spans(elf: Elf, plan: Outline) -> Iterator[tuple[int, Span]]:
    """Where in the debug file each span goes; neighbours without a gap are one."""
    kinds, sizes, before = elf.columns.type, elf.columns.size, elf.columns.offset
    start = offset = size = 0
    for index in elf.in_file:
        if index not in plan.held or kinds[index] in _NO_CONTENTS or not sizes[index]:
            continue
        at = plan.offsets[index]
        if size and (at != start + size or before[index] != offset + size):
            yield start, Span(offset, size)
            size = 0
        if not size:
            start, offset = at, before[index]
        size += sizes[index]
    if size:
        yield start, Span(offset, size)


def _header(elf: Elf, plan: Outline) -> bytes:
    fields = list(elf.fields)
    fields[4] = fields[9] = 0  # e_phoff, e_phnum: what they would point at is not there
    fields[5] = plan.shoff
    return elf.ident + elf.shape.header.pack(*fields)


def _section_headers(elf: Elf, plan: Outline) -> bytes:
    row = elf.shape.section
    rows = [list(fields) for fields in row.iter_unpack(elf.table)]
    for index in range(1, elf.count):
        fields = rows[index]
        if index not in plan.held and fields[1] != SHT_NULL:
            fields[1] = SHT_NOBITS
        fields[4] = plan.offsets[index]
    return b"".join([row.pack(*fields) for fields in rows])


# --- the proof -------------------------------------------------------------------------------------------------------


def check(before: Elf, written: Image) -> None:
    """Whether the file that was written is the debug file of the module `before`, whoever wrote it.

    It has the same header and section headers; each section has its bytes, or is an outline and does not
    have to be there: debug information with its relocations, symbols, names and notes have to.  Raises
    ModuleError debug-file-broken with the first thing that is not so.
    """
    try:
        after = parse(written)
    except ModuleError as error:
        raise ModuleError("debug-file-broken", rule=error.id, **error.evidence) from error
    _same_headers(before, after)
    needed = _needed(before)
    last = after.header_end
    for index in after.in_file:
        section = after.section(index)
        if section.type in _NO_CONTENTS:
            if index in needed and before.columns.type[index] not in _NO_CONTENTS:
                raise ModuleError("debug-file-broken", section=text(section.name), lost=section.size)
            continue
        if section.size and section.offset < last:
            raise ModuleError("debug-file-broken", section=text(section.name), offset=section.offset, previous_end=last)
        last = max(last, section.end)
        _same_bytes(before.section(index), before, section, after)
    if max(last, after.table_end) != written.size:
        raise ModuleError("debug-file-broken", end=max(last, after.table_end), size=written.size)


def _needed(elf: Elf) -> set[int]:
    table = symbol_table(elf)
    notes = [i for i, kind in enumerate(elf.columns.type) if kind == SHT_NOTE]
    return {*debugset.debug_sections(elf), *notes, table.section.index, table.strtab.index, elf.names_index}


# In the header: e_phoff, e_shoff and e_phnum are its own.
_OWN = (4, 5, 9)


def _same_headers(before: Elf, after: Elf) -> None:
    if before.ident != after.ident:
        raise ModuleError("debug-file-broken", field="ident", before=before.ident.hex(), after=after.ident.hex())
    for at, (old, new) in enumerate(zip(before.fields, after.fields, strict=True)):
        if old != new and at not in _OWN:
            raise ModuleError("debug-file-broken", header_field=at, before=old, after=new)
    for name, column in before.columns._asdict().items():
        if name == "offset":
            continue
        for index, (old, new) in enumerate(zip(column, getattr(after.columns, name), strict=True)):
            if old != new and not (name == "type" and index and new == SHT_NOBITS):
                raise ModuleError(
                    "debug-file-broken", section=text(before.columns.name[index]), field=name, after=_shown(new)
                )


def _shown(value: bytes | int) -> str | int:
    return text(value) if isinstance(value, bytes) else value


def _same_bytes(old: Section, before: Elf, new: Section, after: Elf) -> None:
    for at in range(0, old.size, COMPARE):
        size = min(COMPARE, old.size - at)
        if before.image.read(old.offset + at, size) != after.image.read(new.offset + at, size):
            raise ModuleError("debug-file-broken", section=text(old.name), differs_after=at)
