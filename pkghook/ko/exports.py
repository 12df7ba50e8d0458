"""What a module exports, and with which CRC: read as the loader reads it, from `__ksymtab*` and `__kcrctab*`.

The names come through the relocations of the table, not from symbols named `__ksymtab_*` or `__crc_*`: a symbol list
may have dropped those, and the module still exports what it did.  Layouts that occur:

* an entry of `__ksymtab` has two fields (symbol, name), since 5.4 three (and namespace), each an address or, since
  4.19 on most machines, a distance of 32 bits; since 7.0 one table holds what `__ksymtab_gpl` had apart;
* a CRC is the value of an absolute symbol (before 5.19; a long, since 4.10 32 bits), or lies where a symbol points to
  (CONFIG_MODULE_REL_CRCS, 4.10 to 5.18), or stands in `__kcrctab` itself (since 5.19).

Sources: struct kernel_symbol in kernel/module/internal.h, include/linux/export.h and export-internal.h,
resolve_rel_crc() as it was in kernel/module.c.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from pkghook.errors import ModuleError
from pkghook.ko.elf import EM_MIPS, SHN_ABS, SHT_RELA
from pkghook.ko.match import text
from pkghook.ko.reloc import check_relocations
from pkghook.ko.symtab import symbol_table
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pkghook.ko.elf import Elf

MAX_BYTES = 2 << 20  # of one section; in Debian's kernels the largest has 0.1 MB
PREFIX, CRCS, STRINGS = b"__ksymtab", b"__kcrctab", b"__ksymtab_strings"
_LOW = 0xFFFFFFFF
_WIDTHS = (4, 8)  # of a CRC


class Reference(NamedTuple):
    """One relocation: where in its section, which symbol, and the distance from that symbol in bytes."""

    offset: int
    symbol: int
    addend: int


def exports(elf: Elf) -> tuple[tuple[str, str], ...]:
    """Symbol and CRC (8 hexadecimal digits, "" without one) of all that the module exports, sorted.

    Raises ModuleError: bad-section, bad-relocation, bad-symbol, bad-symbol-table, bad-string-table, truncated.
    """
    names = elf.columns.name
    tables = [i for i, name in enumerate(names) if name.startswith(PREFIX) and name != STRINGS and elf.columns.size[i]]
    found = {pair for table in tables for pair in _table(elf, table)}
    return tuple(sorted(found))


def _table(elf: Elf, table: int) -> Iterator[tuple[str, str]]:
    """The exports of one section: `__ksymtab`, `__ksymtab_gpl` or one of those that older kernels had."""
    names = _names(elf, table)
    suffix = elf.columns.name[table][len(PREFIX) :]
    crcs = _crcs(elf, CRCS + suffix, len(names))
    return zip(names, crcs, strict=True)


# --- names -----------------------------------------------------------------------------------------------------------


def _names(elf: Elf, table: int) -> list[str]:
    """The names in the order of the entries.

    Of the fields of an entry the first refers to what is exported, the next to its name in `__ksymtab_strings`;
    a further one there is the namespace.
    """
    symbols = symbol_table(elf)
    strings = elf.columns.name.index(STRINGS) if STRINGS in elf.columns.name else 0
    data = bounded(elf, strings) if strings else b""
    found: list[str] = []
    at: list[int] = []
    fresh = False
    room = MAX_BYTES
    for place, symbol, addend in _references(elf, table):
        if symbols.shndx[symbol] != strings:
            fresh = True
        elif fresh:
            fresh = False
            start = symbols.symbol(symbol).value + addend
            end = data.find(b"\0", start) if 0 <= start < len(data) else -1
            if end < 0:
                raise ModuleError("bad-relocation", section=text(elf.columns.name[table]), offset=place)
            room -= end - start
            if room < 0:  # names that share one string
                raise ModuleError("bad-section", section=text(STRINGS), names=len(found), at_most=MAX_BYTES)
            found.append(whole(data[start:end]))
            at.append(place)
    _check_entries(elf, table, at)
    return found


def _check_entries(elf: Elf, table: int, at: list[int]) -> None:
    """Each entry has its name, at the same place of it: else names and CRCs would not belong together."""
    size = elf.columns.size[table]
    step = size // len(at) if at else 0
    if not at or size % len(at) or at != list(range(at[0], size, step)):
        raise ModuleError("bad-section", section=text(elf.columns.name[table]), bytes=size, names=len(at))


# --- CRCs ------------------------------------------------------------------------------------------------------------


def _crcs(elf: Elf, name: bytes, count: int) -> list[str]:
    """The CRCs of `count` exports; all "" in a kernel without CONFIG_MODVERSIONS."""
    if name not in elf.columns.name:
        return [""] * count
    section = elf.columns.name.index(name)
    data = bounded(elf, section)
    width = len(data) // count
    if width not in _WIDTHS or len(data) % count:
        raise ModuleError("bad-section", section=text(name), bytes=len(data), exports=count)
    rows = Struct(f"{elf.shape.order}{'I' if width == 4 else 'Q'}").iter_unpack(data)
    values: list[int | None] = [value for (value,) in rows]
    for place, symbol, addend in _references(elf, section):
        values[place // width] = _referred(elf, symbol, addend)
    return ["" if value is None else f"{value & _LOW:08x}" for value in values]


def _referred(elf: Elf, symbol: int, addend: int) -> int | None:
    """The CRC that a symbol stands for: its value, or what lies where it points to; None where it is undefined."""
    row = symbol_table(elf).symbol(symbol)
    if row.shndx == SHN_ABS:
        return row.value
    if not row.shndx:
        return None  # weak, and genksyms found none for it
    if row.shndx >= elf.count:
        raise ModuleError("bad-symbol", symbol=symbol, section_index=row.shndx, sections=elf.count)
    section, at = elf.section(row.shndx), row.value + addend
    if at < 0 or at + 4 > section.size:
        raise ModuleError("bad-relocation", symbol=text(row.name), section=text(section.name), offset=at)
    return int.from_bytes(elf.image.read(section.offset + at, 4), "little" if elf.shape.order == "<" else "big")


# --- relocations -----------------------------------------------------------------------------------------------------


def _references(elf: Elf, section: int) -> list[Reference]:
    """The relocations of a section, in the order of the places that they change.

    Those to the section itself are left out: RISC-V writes a distance as an addition and a subtraction of the place.
    """
    infos = elf.columns.info
    relocating = [index for index in elf.relocating if infos[index] == section and elf.columns.size[index]]
    check_relocations(elf, relocating)
    symbols = symbol_table(elf)
    found = [each for index in relocating for each in _rows(elf, index)]
    size = elf.columns.size[section]
    for place, symbol, _ in found:
        if symbol >= symbols.count or place + 4 > size:
            raise ModuleError("bad-relocation", section=text(elf.columns.name[section]), offset=place, symbol=symbol)
    return sorted([each for each in found if symbols.shndx[each.symbol] != section])


def _rows(elf: Elf, index: int) -> Iterator[Reference]:
    """The entries of one relocation section; without addends of their own those stand in the bytes to be changed."""
    order, is64, data = elf.shape.order, elf.is64, bounded(elf, index)
    # MIPS64 has the symbol number first, then four bytes, whatever the byte order.
    lows = is64 and not (elf.machine == EM_MIPS and order == "<")
    shift = 32 if lows else 0 if is64 else 8
    mask = _LOW
    if elf.columns.type[index] == SHT_RELA:
        for place, info, addend in Struct(order + ("QQq" if is64 else "IIi")).iter_unpack(data):
            yield Reference(place, info >> shift & mask, addend)
        return
    target = bounded(elf, elf.columns.info[index])
    byte_order = "little" if order == "<" else "big"
    for place, info in Struct(order + ("QQ" if is64 else "II")).iter_unpack(data):
        addend = int.from_bytes(target[place : place + 4], byte_order, signed=True)  # type: ignore[arg-type]
        yield Reference(place, info >> shift & mask, addend)


def bounded(elf: Elf, index: int) -> bytes:
    """The contents of a section, of a size that can be meant."""
    section = elf.section(index)
    if section.size > MAX_BYTES:
        raise ModuleError("bad-section", section=text(section.name), bytes=section.size, at_most=MAX_BYTES)
    return elf.read(section)


def whole(name: bytes) -> str:
    """A name in full, told apart from every other one whatever its bytes are."""
    return name.decode("utf-8", "surrogateescape")
