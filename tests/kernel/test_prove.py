"""Each proof obligation on real modules: exactly that is damaged, and exactly that is found.

The damage is done to what the native step has written, which passes undamaged.  The second opinion of
`tests.loader` has to agree each time.
"""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path

import pytest

from pkghook.errors import ModuleError
from pkghook.ko.measure import account
from pkghook.ko.plan import plan
from pkghook.ko.prove import prove
from tests import loader, modules, shapes
from tests.modules import WITH_DEBUG
from tests.surgery import Patient, elf, faults, native_strip

MODULE = "af_alg"  # each kernel has it, with code, data and symbols that it exports; some 600 kB


@cache
def before(corpus: Path, kernel: str) -> bytes:
    """The module as it was built."""
    return modules.image(modules.named(corpus, kernel, MODULE))


@cache
def after(corpus: Path, kernel: str) -> bytes:
    """The module as native strips it."""
    return native_strip(before(corpus, kernel))


@pytest.fixture(params=WITH_DEBUG)
def kernel(request: pytest.FixtureRequest) -> str:
    """Name of one kernel."""
    name: str = request.param
    return name


class Case:
    """One real module, stripped, and how it is judged once it is damaged."""

    def __init__(self, data: bytes, out: bytes) -> None:
        self.before = data
        self.out = out

    def judged(self, damaged: Patient | bytes) -> list[str]:
        """Finding ids; both opinions must reject it."""
        data = bytes(damaged)
        assert data != self.out
        found = faults(self.before, data)
        assert not loader.same(self.before, data)
        return found

    @property
    def patient(self) -> Patient:
        """What is about to be damaged."""
        return Patient(self.out)

    @property
    def relocated(self) -> str:
        """A relocation section of a loaded section, with several entries that name symbols."""
        names = self.patient.names
        return next(name for name in (".rela.text", ".rel.text") if name in names)


@pytest.fixture
def case(corpus: Path, kernel: str) -> Case:
    """The module of one kernel."""
    return Case(before(corpus, kernel), after(corpus, kernel))


def test_undamaged_passes(case: Case) -> None:
    assert faults(case.before, case.out) == []
    assert loader.same(case.before, case.out)


# --- V1 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["entry", "flags"])
def test_v1_header(case: Case, field: str) -> None:
    assert case.judged(case.patient.set_header(**{field: 5})) == ["header-changed"]


def test_v1_machine(case: Case) -> None:
    assert case.judged(case.patient.set_header(machine=0xFEBA)) == ["header-changed"]


@pytest.mark.parametrize("byte", [7, 8, 9, 15])
def test_v1_identification(case: Case, byte: int) -> None:
    assert case.judged(case.patient.flip(byte)) == ["header-changed"]


# --- V2 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [".text", ".gnu.linkonce.this_module", ".modinfo", "__versions"])
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_v2_one_bit(case: Case, which: str, where: str) -> None:
    patient = case.patient
    offset, size = patient.section(which, "offset"), patient.section(which, "size")
    at = offset + {"first": 0, "middle": size // 2, "last": size - 1}[where]
    assert case.judged(patient.flip(at, 0x10)) == ["alloc-changed"]


@pytest.mark.parametrize("field", ["flags", "align", "entsize"])
def test_v2_fields(case: Case, field: str) -> None:
    patient = case.patient
    value = {"flags": patient.section(".text", "flags") ^ 0x10, "align": 256, "entsize": 9}[field]
    assert case.judged(patient.set_section(".text", **{field: value})) == ["alloc-changed"]


def test_v2_type(case: Case) -> None:
    assert case.judged(case.patient.set_section("__versions", type=shapes.NOBITS)) == ["alloc-changed"]


def test_v2_size(case: Case) -> None:
    patient = case.patient
    assert case.judged(patient.set_section(".modinfo", size=patient.section(".modinfo", "size") - 1)) == [
        "alloc-changed"
    ]


def test_v2_no_longer_loaded(case: Case) -> None:
    found = case.judged(case.patient.set_section("__versions", flags=0))
    assert found == ["alloc-changed"]


def test_v2_lost(case: Case) -> None:
    assert case.judged(case.patient.drop_section("__versions"))[0] == "alloc-changed"


def test_v2_renamed(case: Case) -> None:
    patient = case.patient
    at = patient.section("__versions", "name")
    found = case.judged(patient.set_section("__versions", name=at + 1))
    assert found[0] == "alloc-changed"


def test_v2_order(case: Case) -> None:
    """Two loaded sections without symbols and relocations change places: only their addresses move."""
    patient = case.patient
    one, other = patient.names.index(".modinfo"), patient.names.index("__versions")
    a, b = patient.at(one), patient.at(other)
    size = b - a if abs(other - one) == 1 else (64 if patient.is64 else 40)
    size = 64 if patient.is64 else 40
    patient.data[a : a + size], patient.data[b : b + size] = patient.data[b : b + size], patient.data[a : a + size]
    for row in patient.rows():
        index = patient.symbol(row, "shndx")
        if index in (one, other):
            patient.set_symbol(row, shndx=one + other - index)
    assert case.judged(patient) == ["alloc-changed"]


# --- V3 --------------------------------------------------------------------------------------------------------------


def unloaded(patient: Patient) -> str:
    """A section with contents that is not loaded and has nothing to do with debug information."""
    return next(name for name in (".comment", ".BTF", ".ARM.attributes") if name in patient.names)


def test_v3_one_bit(case: Case) -> None:
    patient = case.patient
    which = unloaded(patient)
    assert case.judged(patient.flip(patient.section(which, "offset") + 3)) == ["section-changed"]


def test_v3_lost(case: Case) -> None:
    patient = case.patient
    assert case.judged(patient.drop_section(unloaded(patient))) == ["section-changed"]


def test_v3_added(case: Case) -> None:
    for name in (".gnu_debuglink", ".new"):
        assert case.judged(case.patient.append_section(name, b"contents")) == ["section-changed"]
    linked = elf(bytes(case.patient.append_section(".gnu_debuglink", b"contents")))
    assert prove(elf(case.before), linked, debuglink=True) == ()


def test_v3_btf(corpus: Path) -> None:
    """What find-debuginfo and `eu-strip` without -g eat."""
    data = modules.image(modules.named(corpus, "amd64", "tun"))
    out = native_strip(data)
    assert ".BTF" in Patient(out).names
    assert faults(data, out) == []
    assert faults(data, bytes(Patient(out).drop_section(".BTF"))) == ["section-changed"]
    flipped = Patient(out)
    assert faults(data, bytes(flipped.flip(flipped.section(".BTF", "offset") + 100))) == ["section-changed"]


# --- V4 --------------------------------------------------------------------------------------------------------------


def test_v4_offset(case: Case) -> None:
    patient = case.patient
    value = patient.relocation(case.relocated, 1, "offset") + 1
    assert case.judged(patient.set_relocation(case.relocated, 1, offset=value)) == ["relocation-changed"]


def test_v4_type(case: Case) -> None:
    patient = case.patient
    at = patient.entry_at(case.relocated, 1)
    low = {("<", True): 8, (">", True): 15, ("<", False): 4}[patient.order, patient.is64]
    assert case.judged(patient.flip(at + low)) == ["relocation-changed"]


def test_v4_addend(case: Case, kernel: str) -> None:
    patient = case.patient
    if kernel == "armel":  # REL: in the bytes of the section
        at = patient.section(".text", "offset") + patient.relocation(case.relocated, 1, "offset")
        assert case.judged(patient.flip(at)) == ["alloc-changed"]
        return
    value = patient.relocation(case.relocated, 1, "addend") + 4
    assert case.judged(patient.set_relocation(case.relocated, 1, addend=value)) == ["relocation-changed"]


def test_v4_symbol(case: Case) -> None:
    """The number of another symbol."""
    for entry in range(3):
        other = case.patient.row("__this_module")
        assert case.judged(case.patient.set_target(case.relocated, entry, other)) == ["relocation-changed"]


def test_v4_order(case: Case) -> None:
    """riscv and mips pair relocations by their order."""
    patient = case.patient
    a, b = patient.entry_at(case.relocated, 0), patient.entry_at(case.relocated, 1)
    patient.data[a:b], patient.data[b : 2 * b - a] = patient.data[b : 2 * b - a], patient.data[a:b]
    assert case.judged(patient) == ["relocation-changed"]


def test_v4_target(case: Case) -> None:
    patient = case.patient
    assert (
        case.judged(patient.set_section(case.relocated, info=patient.names.index(".data")))[0] == "relocation-changed"
    )


def test_v4_lost(case: Case) -> None:
    found = case.judged(case.patient.drop_section(case.relocated))
    assert set(found) == {"relocation-changed", "section-changed"}  # the unnamed section in its place is new


def test_v4_shorter(case: Case) -> None:
    patient = case.patient
    size, entry = patient.section(case.relocated, "size"), patient.section(case.relocated, "entsize")
    found = case.judged(patient.set_section(case.relocated, size=size - entry))
    assert "relocation-changed" in found


# --- V5 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["af_alg_accept", "__crc_af_alg_accept", "__this_module"])
@pytest.mark.parametrize("field", ["value", "size", "other"])
def test_v5_fields(case: Case, name: str, field: str) -> None:
    patient = case.patient
    row = patient.row(name)
    assert case.judged(patient.set_symbol(row, **{field: patient.symbol(row, field) + 1})) == ["symbol-changed"]


def test_v5_a_lost_name(case: Case) -> None:
    """`strip --strip-unneeded` takes the names of what nothing refers to, and kallsyms with it."""
    patient = case.patient
    row = next(r for r in patient.rows() if patient.symbol_name(r).startswith("__UNIQUE_ID_license"))
    assert case.judged(patient.set_symbol(row, name=0)) == ["symbol-changed"]


def test_v5_undefined(case: Case) -> None:
    """An import is a dependency and a CRC check, whether or not a relocation names it."""
    patient = case.patient
    row = next(r for r in patient.rows() if patient.symbol(r, "shndx") == 0)
    assert case.judged(patient.set_symbol(row, info=0x20)) == ["symbol-changed"]
    assert case.judged(case.patient.set_symbol(row, shndx=0xFFF1)) == ["symbol-changed"]


def test_v5_order(case: Case) -> None:
    patient = case.patient
    rows = [r for r in patient.rows() if patient.symbol(r, "info") >> 4 == 1 and patient.symbol_name(r)]
    found = case.judged(patient.swap_symbols(rows[0], rows[1]))
    assert found[-1] == "symbol-changed"


def test_v5_one_letter(case: Case) -> None:
    patient = case.patient
    at = patient.section(".strtab", "offset") + patient.symbol(patient.row("af_alg_release"), "name")
    assert case.judged(patient.flip(at + 2)) == ["symbol-changed"]


# --- V6 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["none", "outside"])
def test_v6_a_lost_symbol(case: Case, which: str) -> None:
    patient = case.patient
    number = 0 if which == "none" else patient.count
    assert case.judged(patient.set_target(case.relocated, 0, number)) == ["relocation-symbol-lost"]


# --- V7 --------------------------------------------------------------------------------------------------------------


def broken(damaged: Patient | bytes, data: bytes) -> str:
    """The rule that is broken, whoever notices it first."""
    try:
        found = prove(elf(data), elf(bytes(damaged)))
    except ModuleError as error:
        return error.id
    assert [f.id for f in found] == ["table-broken"]
    return str(dict(found[0].evidence)["rule"])


def test_v7_tables(case: Case) -> None:
    def rule(damaged: Patient) -> str:
        assert not loader.same(case.before, bytes(damaged))
        return broken(damaged, case.before)

    patient = case.patient
    symtab, strtab, count = patient.symtab, patient.section(patient.symtab, "link"), patient.header("shnum")
    unnamed = next(r for r in patient.rows() if not patient.symbol_name(r))
    last = patient.section(strtab, "size") - 1
    assert rule(case.patient.set_section(symtab, info=1)) == "bad-symbol-table"
    assert rule(case.patient.set_section(symtab, entsize=17)) == "bad-symbol-table"
    assert rule(case.patient.set_section(symtab, link=symtab)) == "bad-symbol-table"
    assert rule(case.patient.set_section(".comment", type=shapes.SYMTAB)) == "bad-symbol-table"
    assert rule(case.patient.set_bytes(strtab, last, b"x")) == "bad-string-table"
    assert rule(case.patient.set_bytes(strtab, 0, b"x")) == "bad-string-table"
    assert rule(case.patient.set_symbol(2, name=last + 1)) == "bad-string-table"
    assert rule(case.patient.set_symbol(unnamed, shndx=count)) == "bad-symbol"
    assert rule(case.patient.set_section(case.relocated, link=strtab)) == "bad-relocation"
    assert rule(case.patient.set_section(symtab, flags=2)) == "table-flags"
    assert rule(case.patient.set_section(symtab, align=1)) == "table-align"
    assert rule(case.patient.set_section(strtab, align=1 << 30)) == "table-align"
    assert rule(case.patient.set_section(strtab, name=patient.section(symtab, "name"))) == "table-name"
    assert rule(case.patient.set_section(".text", offset=1 << 31)) == "section-outside-file"
    assert rule(case.patient.set_header(shstrndx=1)) == "bad-string-table"


def test_v7_truncated(case: Case) -> None:
    for length in (0, 1, 63, len(case.out) // 2, len(case.out) - 1):
        with pytest.raises(ModuleError):
            elf(case.out[:length])


# --- V8 --------------------------------------------------------------------------------------------------------------


def test_v8_writable_and_executable(case: Case) -> None:
    found = case.judged(case.patient.set_section(".comment", flags=shapes.WRITE | shapes.EXEC))
    assert found == ["section-changed", "section-rule"]
    assert case.judged(case.patient.set_section(".data", flags=7))[-1] == "section-rule"


def test_v8_what_the_original_has_is_no_fault(case: Case) -> None:
    data = bytes(Patient(case.before).set_section(".data", flags=7))
    assert faults(data, native_strip(data)) == []


def test_v8_section_0(case: Case) -> None:
    assert case.judged(case.patient.set_section(0, flags=2)) == ["section-rule"]
    for field in ("type", "size", "addr"):
        damaged = case.patient.set_section(0, **{field: 1})
        assert not loader.same(case.before, bytes(damaged))
        with pytest.raises(ModuleError, match="section-rule"):
            elf(bytes(damaged))


# --- V9 --------------------------------------------------------------------------------------------------------------


def test_v9_a_link_to_another_section(case: Case) -> None:
    assert case.judged(case.patient.set_section(".text", link=1)) == ["dangling-reference"]


def test_v9_link_order(corpus: Path) -> None:
    """`__patchable_function_entries` of arm64, `.ARM.exidx` of arm: linked to the code that they are about."""
    for kernel in ("arm64", "armel"):
        data, out = before(corpus, kernel), after(corpus, kernel)
        patient = Patient(out)
        linked = [i for i in range(patient.header("shnum")) if patient.section(i, "flags") & shapes.LINK_ORDER]
        assert linked, kernel
        assert faults(data, out) == []
        link = patient.section(linked[0], "link")
        assert faults(data, bytes(Patient(out).set_section(linked[0], link=0))) == ["dangling-reference"]
        assert faults(data, bytes(Patient(out).set_section(linked[0], link=link + 2))) == ["dangling-reference"]


def test_v9_an_empty_group(case: Case) -> None:
    word = struct.pack(case.patient.order + "I", 1)
    damaged = case.patient.append_section(".group", word, type=shapes.GROUP)
    assert case.judged(damaged) == ["section-changed"]


# --- V10 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [b"\0", b"behind the file"])
def test_v10_bytes_behind(case: Case, extra: bytes) -> None:
    assert case.judged(case.out + extra) == ["trailing-bytes"]
    both = native_strip(case.before + extra)
    assert both.endswith(extra)
    assert faults(case.before + extra, both) == []
    assert faults(case.before + extra, case.out) == ["trailing-bytes"]
    assert faults(case.before + extra, both[:-1] + b"x") == ["trailing-bytes"]


# --- V11 -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def patched(corpus: Path, kernel: str) -> Case:
    """A real module made a livepatch: an import is resolved later, and what names it is marked."""
    patient = Patient(before(corpus, kernel))
    row = next(r for r in patient.rows() if patient.symbol(r, "shndx") == 0)
    patient.set_symbol(row, shndx=shapes.LIVEPATCH)
    which = next(name for name in (".rela.text", ".rel.text") if name in patient.names)
    patient.set_section(which, flags=patient.section(which, "flags") | shapes.ALLOC | shapes.KLP)
    data = bytes(patient)
    return Case(data, native_strip(data))


def test_v11_undamaged_passes(patched: Case) -> None:
    assert plan(elf(patched.before)).livepatch
    assert faults(patched.before, patched.out) == []
    assert loader.same(patched.before, patched.out)


@pytest.mark.parametrize("flags", [shapes.ALLOC, shapes.KLP, 0])
def test_v11_a_lost_flag(patched: Case, flags: int) -> None:
    assert "livepatch-changed" in patched.judged(patched.patient.set_section(patched.relocated, flags=flags))


def test_v11_a_symbol_that_is_no_livepatch_symbol_any_more(patched: Case) -> None:
    patient = patched.patient
    row = next(r for r in patient.rows() if patient.symbol(r, "shndx") == shapes.LIVEPATCH)
    assert patched.judged(patient.set_symbol(row, shndx=0)) == ["symbol-changed", "livepatch-changed"]


def test_v11_a_lost_name(patched: Case) -> None:
    patient = patched.patient
    row = next(r for r in patient.rows() if patient.symbol(r, "shndx") == shapes.LIVEPATCH)
    assert patched.judged(patient.set_symbol(row, name=0)) == ["symbol-changed", "livepatch-changed"]


def test_v11_a_relocation_that_lost_its_symbol(patched: Case) -> None:
    """GNU strip does it, with exit status 0."""
    assert patched.judged(patched.patient.set_target(patched.relocated, 0, 0)) == ["relocation-symbol-lost"]


# --- V12 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [".debug_info", ".zdebug_line", ".stabstr", ".gdb_index", ".gnu.debuglto_.debug_info"])
def test_v12_residue(case: Case, name: str) -> None:
    assert case.judged(case.patient.append_section(name, b"left")) == ["residue"]


def test_v12_nothing_done(case: Case) -> None:
    assert set(case.judged(case.before)) == {"residue", "dangling-reference"}


@pytest.mark.parametrize("tool", ["", "strip", "eu-strip", "llvm-strip"])
def test_v12_sizes(case: Case, tool: str) -> None:
    parsed = elf(case.before)
    found = plan(parsed)
    slack = 8 * len(found.numbers) + 64 if tool else 0

    def judged(size: int) -> list[str]:
        return [fault.id for fault in account(parsed, found, size, tool)]

    assert judged(len(case.out)) == []
    assert judged(len(case.out) - slack) == judged(len(case.out) + slack) == []
    assert judged(len(case.out) - slack - 1) == ["overstripped"]
    assert judged(len(case.before)) == ["shrink-below-expected"]
    if tool in ("", "strip"):  # the others leave more symbols, and names
        assert judged(len(case.out) + slack + 1) == ["shrink-below-expected"]
