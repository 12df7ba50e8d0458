"""`ko.interface` and `ko.exports`: every layout of the tables in every kind of file, and damaged ones."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkghook.errors import ModuleError
from pkghook.ko.exports import MAX_BYTES, exports
from pkghook.ko.interface import interface
from pkghook.model import Interface
from tests import exporting, shapes
from tests.shapes import ABS, ALLOC, AMD64, KINDS, Kind, Sec, Sym
from tests.surgery import Patient, elf, native_strip

KIND = pytest.mark.parametrize("kind", KINDS)


def with_info(*pairs: bytes) -> Interface:
    """The interface of a module whose .modinfo has these entries."""
    info = Sec(".modinfo", b"".join(pair + b"\0" for pair in pairs), ALLOC)
    sections = [info if section.name == info.name else section for section in shapes.basis()]
    return interface(elf(shapes.grow(sections, shapes.symbols())))


# --- .modinfo --------------------------------------------------------------------------------------------------------


def test_keys() -> None:
    found = with_info(
        b"parm=debug:Level (0: none)", b"parmtype=debug:uint", b"parmtype=quiet:bool", b"parm=told:only described",
        b"alias=pci:v*", b"alias=fs-x", b"alias=pci:v*", b"depends=b,a", b"license=GPL", b"license=Dual BSD/GPL",
        b"softdep=pre: b a post: c", b"softdep=pre: a odd", b"weakdep=d e", b"softdep=none of both",
        b"name=grown", b"name=again", b"vermagic=6.1.0 SMP ", b"no equals sign", b"=", b"padded", b"", b"",
    )  # fmt: skip
    assert found == Interface(
        "grown",
        "6.1.0 SMP",
        ("Dual BSD/GPL", "GPL"),
        (("debug", "uint"), ("quiet", "bool"), ("told", "")),
        ("fs-x", "pci:v*"),
        ("a", "b"),
        softdeps=("post: c", "pre: a", "pre: b", "pre: odd", "weak: d", "weak: e"),
    )


def test_a_module_without_modinfo_says_nothing() -> None:
    bare = [section for section in shapes.basis() if section.name != ".modinfo"]
    symbols = [symbol for symbol in shapes.symbols() if symbol.section != ".modinfo"]
    assert interface(elf(shapes.grow(bare, symbols))) == Interface("")


def test_nothing_depended_on_and_bytes_that_are_no_utf8() -> None:
    found = with_info(b"depends=", b"alias=\xff\x1b", b"alias=\xfe\x1b", b"name=x")
    assert (found.depends, found.aliases) == ((), ("\udcfe\x1b", "\udcff\x1b"))


# --- exports ---------------------------------------------------------------------------------------------------------


@KIND
@pytest.mark.parametrize("layout", exporting.LAYOUTS)
@pytest.mark.parametrize("named", [False, True])
def test_every_layout(kind: str, layout: str, *, named: bool) -> None:
    how = exporting.LAYOUTS[layout]
    assert exports(elf(exporting.exporting(KINDS[kind], how, named=named))) == exporting.expected(how)


def test_symbols_that_a_list_may_drop_are_not_needed() -> None:
    """A symbol list drops `__crc_*`, `__kstrtab_*`, `__ksymtab_*` where no relocation names them."""
    layout = exporting.LAYOUTS["6.1"]
    cut = Patient(exporting.exporting(AMD64, layout))
    for name, *_ in exporting.EXPORTS:
        cut.set_symbol(cut.row(f"__crc_{name}"), name=0)
    assert exports(elf(bytes(cut))) == exporting.expected(layout)


def test_stripping_changes_nothing() -> None:
    data = exporting.exporting(AMD64, exporting.LAYOUTS["5.4"])
    assert exports(elf(native_strip(data))) == exports(elf(data))


@KIND
def test_an_export_without_crc(kind: str) -> None:
    assert exports(elf(exporting.without_crc(KINDS[kind]))) == (("alpha_get", ""),)


def test_most_modules_export_nothing() -> None:
    assert exports(elf(shapes.module())) == ()


# --- imports ---------------------------------------------------------------------------------------------------------


def versions(kind: Kind, *pairs: tuple[int, bytes]) -> Sec:
    form = kind.order + ("Q56s" if kind.is64 else "I60s")
    return Sec("__versions", b"".join(struct.pack(form, crc, name) for crc, name in pairs), ALLOC)


def extended(kind: Kind, *pairs: tuple[int, bytes]) -> tuple[Sec, Sec]:
    crcs = b"".join(struct.pack(kind.order + "I", crc) for crc, _ in pairs)
    names = b"".join(name + b"\0" for _, name in pairs)
    return Sec("__version_ext_crcs", crcs, ALLOC), Sec("__version_ext_names", names, ALLOC)


@KIND
def test_imports_of_both_tables(kind: str) -> None:
    how = KINDS[kind]
    long = b"_RNvNtCs" + b"x" * 90
    old = versions(how, (0xC1514A3B, b"printk"), (7, b"module_layout"))
    both = shapes.stripped(how, old, *extended(how, (0xC1514A3B, b"printk"), (0x11223344, long)))
    assert interface(elf(both)).imports == (
        (long.decode(), "11223344"),
        ("module_layout", "00000007"),
        ("printk", "c1514a3b"),
    )
    new = shapes.stripped(how, *extended(how, (9, b"a")))
    assert interface(elf(new)).imports == (("a", "00000009"),)
    assert interface(elf(new), with_imports=False).imports == ()


# --- damage ----------------------------------------------------------------------------------------------------------


def refused(data: bytes | Patient) -> str:
    with pytest.raises(ModuleError) as caught:
        interface(elf(bytes(data)))
    return caught.value.id


def grown() -> Patient:
    return Patient(exporting.exporting(AMD64, exporting.LAYOUTS["6.1"]))


def test_tables_that_contradict_themselves() -> None:
    assert refused(grown().set_section("__ksymtab_gpl", size=20)) in {"bad-section", "bad-relocation"}
    assert refused(grown().set_section("__kcrctab_gpl", size=6)) == "bad-section"
    assert refused(grown().set_section("__kcrctab_gpl", size=2)) == "bad-section"
    assert refused(grown().set_section(".rela__ksymtab_gpl", entsize=8)) == "bad-relocation"
    assert refused(grown().set_target(".rela__ksymtab_gpl", 1, 99999)) == "bad-relocation"
    assert refused(grown().set_relocation(".rela__ksymtab_gpl", 1, addend=1 << 40)) == "bad-relocation"
    assert refused(grown().set_relocation(".rela__ksymtab_gpl", 1, addend=-1)) == "bad-relocation"
    assert refused(grown().set_relocation(".rela__ksymtab_gpl", 4, offset=1 << 40)) == "bad-relocation"
    assert refused(grown().drop_section(".rela__ksymtab")) == "bad-section"
    assert refused(grown().drop_section("__ksymtab_strings")) == "bad-section"
    assert refused(shapes.stripped(AMD64, Sec("__versions", bytes(65), ALLOC))) == "bad-section"
    assert refused(shapes.stripped(AMD64, Sec("__version_ext_crcs", bytes(8), ALLOC))) == "bad-section"


def test_an_entry_without_name_does_not_shift_the_crcs() -> None:
    """Three entries, of which the second's name is lost: which CRC is whose is not known any more."""
    cut = Patient(exporting.exporting(AMD64, exporting.LAYOUTS["7.0"]))
    cut.set_target(".rela__ksymtab", 4, cut.row("printk")).set_target(".rela__ksymtab", 5, cut.row("printk"))
    assert refused(cut) == "bad-section"


def test_a_crc_that_points_outside() -> None:
    cut = Patient(exporting.exporting(AMD64, exporting.LAYOUTS["5.4"]))
    assert refused(cut.set_symbol(cut.row("__crc_beta"), value=9)) == "bad-relocation"


def test_sections_without_bound_are_not_read() -> None:
    for name in (".modinfo", "__versions", "__ksymtab_strings"):
        data = Patient(shapes.stripped(AMD64, Sec(name, bytes(64), ALLOC), also=(Sym("a", ABS),)))
        at = data.names.index(name)
        if name == "__ksymtab_strings":
            data = grown()
            at = data.names.index(name)
        whole = Patient(bytes(data) + bytes(MAX_BYTES + 1))
        whole.set_section(at, offset=len(bytes(data)), size=MAX_BYTES + 1)
        assert refused(whole) == "bad-section", name


TABLES = ("__ksymtab", "__ksymtab_gpl", "__kcrctab", ".rela__ksymtab", ".rela__ksymtab_gpl", "__ksymtab_strings")


@settings(max_examples=200, deadline=None)
@given(table=st.sampled_from([*TABLES, ".modinfo", ".symtab"]), data=st.data())
def test_flipped_bytes_end_in_facts_or_in_a_finding(table: str, data: st.DataObject) -> None:
    whole = exporting.exporting(AMD64, exporting.LAYOUTS["6.1"])
    patient = Patient(whole)
    start, size = patient.section(table, "offset"), patient.section(table, "size")
    for _ in range(data.draw(st.integers(1, 4))):
        patient.flip(start + data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, 255)))
    try:
        found = interface(elf(bytes(patient)))
    except ModuleError:
        return
    assert isinstance(found, Interface)
