"""`ko.debugset`: what is debug information and what never is; relocations and groups that go with it."""

from __future__ import annotations

import struct

import pytest

from pkghook.errors import ModuleError
from pkghook.ko.debugset import debug_sections, group_members, is_unstripped
from pkghook.ko.elf import Elf
from tests import shapes
from tests.shapes import ALLOC, KINDS, Kind, Rel, Sec
from tests.surgery import Patient, elf

DEBUG = (
    ".debug_info", ".debug_foo", ".debug_info.dwo", ".debug_macro", ".debug_frame", ".debug_gnu_pubnames", ".debug_",
    ".zdebug_info", ".line", ".stab", ".stab.excl", ".stab.index", ".stabstr", ".gdb_index", ".gnu.linkonce.wi.abc",
    ".gnu.debuglto_.debug_info",
)  # fmt: skip
NEVER = (
    ".BTF", ".BTF.base", ".BTF.ext", ".BTF_ids", ".ctf", ".SUNW_ctf", ".gnu_debuglink", ".gnu_debugaltlink",
    ".gnu_debugdata", ".comment", ".note", ".note.GNU-stack", ".note.Linux", ".orc_unwind", ".orc_unwind_ip",
    ".orc_header", ".mdebug.abi32", ".mdebug.abi64", ".pdr", ".ARM.attributes", ".gnu.attributes", ".riscv.attributes",
    ".m68k_fixup", ".debug", ".debugfs", "debug_info", ".line_table", ".lines", ".stabs", ".stabstring", ".stab_x",
    ".gdb_indexes", ".text.debug_x", ".gnu.lto_main", ".modinfo", ".data..debug_x", "x.debug_info", ".xdebug_info",
)  # fmt: skip


def going(parsed: Elf) -> list[str]:
    """Names of the sections that go."""
    return [parsed.sections[index].name.decode() for index in sorted(debug_sections(parsed))]


def grown(*sections: Sec, kind: Kind = shapes.AMD64) -> Elf:
    """A module without further debug information."""
    return elf(shapes.stripped(kind, *sections))


@pytest.mark.parametrize("name", DEBUG)
def test_debug_information(name: str) -> None:
    parsed = grown(Sec(name, b"x"))
    assert going(parsed) == [name]
    assert is_unstripped(parsed)
    assert not is_unstripped(grown(Sec(name)))  # empty: nothing to strip for


@pytest.mark.parametrize("name", DEBUG)
def test_what_the_kernel_loads_is_none(name: str) -> None:
    assert going(grown(Sec(name, b"x", ALLOC))) == []


@pytest.mark.parametrize("name", NEVER)
def test_never(name: str) -> None:
    assert going(grown(Sec(name, b"x"))) == []


def test_by_type_on_mips_alone() -> None:
    dwarf = Sec("odd", b"x", type=0x7000001E)
    assert going(grown(dwarf, kind=KINDS["mips64el"])) == ["odd"]
    assert going(grown(dwarf, kind=KINDS["mips"])) == ["odd"]
    assert going(grown(dwarf)) == []


@pytest.mark.parametrize("machine", [45, 93, 195])
def test_arc_keeps_debug_frame(machine: int) -> None:
    frame, info = Sec(".debug_frame", b"x", relocations=(Rel(0, "@.text"),)), Sec(".debug_info", b"x")
    kind = KINDS["arc"]._replace(machine=machine)
    assert going(grown(frame, info, kind=kind)) == [".debug_info"]
    assert not is_unstripped(grown(frame, kind=kind))


def test_relocations_go_with_their_section() -> None:
    for kind in KINDS.values():
        prefix = ".rela" if kind.rela else ".rel"
        expected = [".debug_info", prefix + ".debug_info", ".debug_abbrev", ".debug_str"]
        assert going(elf(shapes.module(kind))) == expected


def test_relocations_that_the_kernel_loads_stay() -> None:
    data = Patient(shapes.module()).set_section(".rela.debug_info", flags=ALLOC | shapes.KLP)
    assert ".rela.debug_info" not in going(elf(bytes(data)))


def group(*members: str, name: str = ".group", key: str = "") -> Sec:
    """A section group."""
    return Sec(name, type=shapes.GROUP, align=4, entsize=4, info="helper", members=members, key=key)


@pytest.mark.parametrize("kind", ["amd64", "s390x"])
def test_groups_go_when_all_of_their_members_do(kind: str) -> None:
    macro = Sec(".debug_macro", b"m", 0x200, relocations=(Rel(0, "@.debug_str"),))
    more = Sec(".debug_macro", b"n", 0x200, key="second")
    text = Sec(".text.f", b"\xc3", ALLOC | 0x200)
    whole = group(".debug_macro", ".rela@.debug_macro")
    mixed = group("second", ".text.f", key="mixed")
    sections = (whole, mixed, macro, more, text, *shapes.debug_sections())
    names = going(grown(*sections, kind=KINDS[kind]))
    assert names.count(".group") == 1
    assert names.count(".debug_macro") == 2
    assert names.count(".rela.debug_macro") == 1


def test_an_empty_group_stays_what_it_is() -> None:
    assert going(grown(group())) == []


@pytest.mark.parametrize(
    "data", [b"\1", b"\1\0\0", bytes(6), struct.pack("<II", 1, 200), struct.pack("<II", 1, 1 << 31)]
)
def test_bad_groups(data: bytes) -> None:
    parsed = grown(Sec(".group", data, 0, shapes.GROUP, 4, 4, info="helper"))
    (section,) = (s for s in parsed.sections if s.type == shapes.GROUP)
    for call in (lambda: group_members(parsed, section), lambda: debug_sections(parsed)):
        with pytest.raises(ModuleError, match="bad-group"):
            call()


def test_a_group_without_a_flag_word() -> None:
    patient = Patient(shapes.module(KINDS["amd64"], group(".text")))
    with pytest.raises(ModuleError, match="bad-group"):
        debug_sections(elf(bytes(patient.set_section(".group", size=0))))
