""".gnu_debuglink: the section by which a debugger finds split-off debug information, added to any module.

Its contents: the debug file's name, NUL bytes up to a multiple of four (at least one), the CRC-32 of the
whole debug file in the module's own byte order (gdb's manual, "Debugging Information in Separate Files").

The section becomes the last one, so no section and no symbol is renumbered, and nothing else of the module
is touched: its other bytes only move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkghook.errors import ModuleError
from pkghook.ko.elf import SHF_ALLOC, SHN_LORESERVE, SHT_NOBITS, SHT_NULL, SHT_PROGBITS, SHT_SYMTAB
from pkghook.ko.match import Fault, fault, text
from pkghook.ko.plan import MAX_FILE_ALIGN
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pkghook.ko.elf import Elf
    from pkghook.ko.plan import Plan

NAME = b".gnu_debuglink"
ALIGN = 4
COPY = 1 << 20  # bytes copied at a time
_NO_CONTENTS = (SHT_NOBITS, SHT_NULL)


class _Row(NamedTuple):
    """A section as it has to be laid out."""

    number: int
    kind: int
    size: int
    align: int


class _Laid(NamedTuple):
    """Where everything lies then."""

    offsets: dict[int, int]  # by section
    link: int  # offset of the new section
    shoff: int


def contents(name: str, crc: int, order: str) -> bytes:
    """The section's contents; `order` is "<" or ">", `name` has no directory."""
    raw = name.encode("utf-8", "surrogateescape") + b"\0"
    return raw.ljust(-(-len(raw) // ALIGN) * ALIGN, b"\0") + crc.to_bytes(4, "little" if order == "<" else "big")


def linked(elf: Elf, link: bytes) -> Iterator[bytes]:
    """The module with `link` as its last section, as consecutive pieces.

    Raises ModuleError debug-file-failed (it has a debuglink already) and too-many-sections, before the first piece.
    """
    check_room(elf)
    sizes = elf.columns.size
    rows = [_Row(i, elf.columns.type[i], sizes[i], elf.columns.align[i]) for i in elf.in_file]
    rows = [row._replace(size=row.size + len(NAME) + 1) if row.number == elf.names_index else row for row in rows]
    return _render(elf, rows, _lay_out(rows, elf.header_end, elf.shape.word, len(link)), link)


def check_room(elf: Elf) -> None:
    """Whether a debuglink can be added: ModuleError debug-file-failed, too-many-sections."""
    if NAME in elf.columns.name:
        raise ModuleError("debug-file-failed", error="the module has a .gnu_debuglink already")
    if elf.count + 1 >= SHN_LORESERVE:
        raise ModuleError("too-many-sections", e_shnum=elf.count + 1)


def expected(elf: Elf, plan: Plan, link: bytes) -> int:
    """Bytes of the module that `native` writes for `plan`, with `link` added to it."""
    numbers = sorted((plan.offsets[i], new, i) for i, new in plan.numbers.items() if i)
    kinds, sizes, aligns = elf.columns.type, elf.columns.size, elf.columns.align
    names = elf.names_index
    rows = [
        _Row(i, kinds[i], plan.sizes.get(i, sizes[i]) + (len(NAME) + 1 if i == names else 0), aligns[i])
        for _, _, i in numbers
    ]
    laid = _lay_out(rows, elf.header_end, elf.shape.word, len(link))
    return laid.shoff + (len(plan.numbers) + 1) * elf.shape.section.size + elf.image.size - elf.end


def _lay_out(rows: Iterable[_Row], at: int, word: int, link: int) -> _Laid:
    """By the rules of `plan`: in the order given, each section aligned as it asks."""
    offsets: dict[int, int] = {}
    for row in rows:
        align = max(1, min(max(row.align, word if row.kind == SHT_SYMTAB else 1), MAX_FILE_ALIGN))
        start = offsets[row.number] = -(-at // align) * align
        if row.kind not in _NO_CONTENTS:
            at = start + row.size
    at = -(-at // ALIGN) * ALIGN
    return _Laid(offsets, at, -(-(at + link) // word) * word)


def _render(elf: Elf, rows: list[_Row], laid: _Laid, link: bytes) -> Iterator[bytes]:
    fields = list(elf.fields)
    fields[5], fields[11] = laid.shoff, elf.count + 1
    yield elf.ident + elf.shape.header.pack(*fields)
    at = elf.header_end
    for row in rows:
        if row.kind in _NO_CONTENTS or not row.size:
            continue
        if laid.offsets[row.number] > at:
            yield bytes(laid.offsets[row.number] - at)
        yield from _contents(elf, row.number)
        at = laid.offsets[row.number] + row.size
    yield bytes(laid.link - at) + link
    yield bytes(laid.shoff - laid.link - len(link)) + _section_headers(elf, laid, len(link))
    if elf.image.size > elf.end:
        yield elf.image.read(elf.end, elf.image.size - elf.end)


def _contents(elf: Elf, index: int) -> Iterator[bytes]:
    if index == elf.names_index:
        yield elf.names + NAME + b"\0"
        return
    start, size = elf.columns.offset[index], elf.columns.size[index]
    for at in range(start, start + size, COPY):
        yield elf.image.read(at, min(COPY, start + size - at))


def _section_headers(elf: Elf, laid: _Laid, link: int) -> bytes:
    row = elf.shape.section
    rows = [list(fields) for fields in row.iter_unpack(elf.table)]
    for index, offset in laid.offsets.items():
        rows[index][4] = offset
    rows[elf.names_index][5] += len(NAME) + 1
    rows.append([len(elf.names), SHT_PROGBITS, 0, 0, laid.link, link, 0, 0, ALIGN, 0])
    return b"".join([row.pack(*fields) for fields in rows])


def faults(elf: Elf, link: bytes) -> Iterator[Fault]:
    """V3, as far as it is about the debuglink: there is one, with these contents, and the kernel does not load it."""
    found = [elf.section(i) for i, name in enumerate(elf.columns.name) if name == NAME]
    if len(found) != 1:
        yield fault("section-changed", section=text(NAME), sections=len(found), expected=1)
        return
    (section,) = found
    if section.type != SHT_PROGBITS or section.flags & SHF_ALLOC:
        yield fault("section-changed", section=text(NAME), type=section.type, flags=section.flags)
    elif elf.read(section) != link:
        yield fault("section-changed", section=text(NAME), contents=elf.read(section).hex(), expected=link.hex())
