"""Modules that export symbols, in every layout that the kernel's headers have had; grown from `tests.shapes`.

Written from include/linux/export.h, include/asm-generic/export.h and include/linux/export-internal.h of the kernels
named, not from `pkghook.ko`.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from tests.shapes import ABS, ALLOC, LOCAL, MERGE, STRINGS, UND, WEAK, Kind, Rel, Sec, Sym, stripped


class Layout(NamedTuple):
    """How an export is written."""

    distance: bool = True  # fields are distances of 32 bits, not addresses
    fields: int = 3
    namespaced: bool = True  # the third field is used
    crcs: str = "direct"  # absolute, relative, direct, or "" for none
    crc_size: int = 4
    gpl_apart: bool = True
    pairs: bool = False  # distances as an addition and a subtraction, as RISC-V has them


LAYOUTS = {
    "2.6": Layout(distance=False, fields=2, namespaced=False, crcs="absolute", crc_size=8),
    "4.14": Layout(distance=False, fields=2, namespaced=False, crcs="absolute"),
    "4.19": Layout(fields=2, namespaced=False, crcs="relative"),
    "5.4": Layout(namespaced=False, crcs="relative"),
    "5.10": Layout(crcs="absolute"),
    "6.1": Layout(),
    "6.1 addresses": Layout(distance=False),
    "6.12 without modversions": Layout(crcs=""),
    "7.0": Layout(gpl_apart=False),
    "pairs": Layout(pairs=True),
}
EXPORTS = (("alpha_get", 0x1A2B3C4D, False), ("beta", 0x00000007, True), ("gamma_put", 0xFFFFFFFF, True))
NAMESPACE = "GROWN_NS"


def expected(layout: Layout) -> tuple[tuple[str, str], ...]:
    """What the loader makes of it."""
    return tuple((name, f"{crc:08x}" if layout.crcs else "") for name, crc, _ in EXPORTS)


def exporting(kind: Kind, layout: Layout, *, named: bool = False) -> bytes:
    """A module that exports `EXPORTS`; `named`: strings have symbols of their own, which relocations name."""
    strings, at = _strings()
    symbols = [Sym(name, ".text", 4 * number) for number, (name, *_) in enumerate(EXPORTS)]
    if named:
        symbols += [Sym(f"__kstrtab_{name}", "__ksymtab_strings", at[name], bind=LOCAL) for name, *_ in EXPORTS]
    sections = [Sec("__ksymtab_strings", strings, ALLOC | MERGE | STRINGS, entsize=1)]
    for gpl in (False, True) if layout.gpl_apart else (None,):
        some = [(name, crc) for name, crc, is_gpl in EXPORTS if gpl in (None, is_gpl)]
        suffix = "_gpl" if gpl else ""
        sections.append(_table(kind, layout, suffix, [name for name, _ in some], at, named=named))
        if layout.crcs:
            section, more = _crcs(kind, layout, suffix, some)
            sections.append(section)
            symbols += more
    if layout.crcs == "relative":
        sections.append(
            Sec(".rodata.crcs", b"".join(struct.pack(kind.order + "I", crc) for _, crc, _ in EXPORTS), ALLOC)
        )
    return stripped(kind, *sections, also=tuple(symbols))


def _strings() -> tuple[bytes, dict[str, int]]:
    """The string table, and where each string lies in it."""
    data, at = b"", {}
    for text in ("", NAMESPACE, *(name for name, *_ in EXPORTS)):
        at[text] = len(data)
        data += text.encode() + b"\0"
    return data, at


def _table(kind: Kind, layout: Layout, suffix: str, names: list[str], at: dict[str, int], *, named: bool) -> Sec:
    width = 4 if layout.distance else kind.word
    data = bytearray(layout.fields * width * len(names))
    key = f"__ksymtab{suffix}"
    relocations: list[Rel] = []
    for number, name in enumerate(names):
        place = number * layout.fields * width
        string = (f"__kstrtab_{name}", 0) if named else ("@__ksymtab_strings", at[name])
        fields = [(name, 0), string]
        if layout.namespaced:
            fields.append(("@__ksymtab_strings", at[NAMESPACE]))
        for field, (symbol, addend) in enumerate(fields):
            where = place + field * width
            if not kind.rela:  # the addend stands in the bytes
                data[where : where + 4] = struct.pack(kind.order + "i", addend)
            relocations.append(Rel(where, symbol, 2, addend))
            if layout.pairs:
                relocations.append(Rel(where, f"@{key}", 3, where))
    return Sec(key, bytes(data), ALLOC, align=width, relocations=tuple(relocations))


def _crcs(kind: Kind, layout: Layout, suffix: str, some: list[tuple[str, int]]) -> tuple[Sec, list[Sym]]:
    key, size = f"__kcrctab{suffix}", layout.crc_size if kind.is64 else 4
    form = kind.order + {4: "I", 8: "Q"}[size]
    if layout.crcs == "direct":
        symbols = [Sym(f"__crc_{name}", key, size * number, bind=LOCAL) for number, (name, _) in enumerate(some)]
        return Sec(key, b"".join(struct.pack(form, crc) for _, crc in some), ALLOC, align=size), symbols
    relocations = tuple(Rel(size * number, f"__crc_{name}", 2) for number, (name, _) in enumerate(some))
    every = [name for name, *_ in EXPORTS]
    symbols = [
        Sym(f"__crc_{name}", ABS, crc) if layout.crcs == "absolute"
        else Sym(f"__crc_{name}", ".rodata.crcs", 4 * every.index(name))
        for name, crc in some
    ]  # fmt: skip
    return Sec(key, bytes(size * len(some)), ALLOC, align=size, relocations=relocations), symbols


def without_crc(kind: Kind) -> bytes:
    """One export for which genksyms found no type: `__crc_alpha_get` stays weak and undefined."""
    strings, at = _strings()
    layout = Layout(crcs="relative")
    table = _table(kind, layout, "", ["alpha_get"], at, named=False)
    crcs = Sec("__kcrctab", bytes(4), ALLOC, align=4, relocations=(Rel(0, "__crc_alpha_get", 2),))
    section = Sec("__ksymtab_strings", strings, ALLOC | MERGE | STRINGS, entsize=1)
    symbols = (Sym("alpha_get", ".text"), Sym("__crc_alpha_get", UND, bind=WEAK))
    return stripped(kind, section, table, crcs, also=symbols)
