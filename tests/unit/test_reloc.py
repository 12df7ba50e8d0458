"""`ko.reloc`: relocations by columns for every class, byte order and form, MIPS64's own included."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from pkghook.errors import ModuleError
from pkghook.ko.elf import RELOCATIONS, Elf
from pkghook.ko.plan import plan
from pkghook.ko.reloc import RelocRun, check_relocations, reloc_runs, renumbered
from tests import shapes
from tests.shapes import KINDS, Rel, Sec
from tests.surgery import Patient, elf

KIND = pytest.mark.parametrize("kind", KINDS)


def all_runs(parsed: Elf) -> list[RelocRun]:
    """Every relocation section that is not empty."""
    return reloc_runs(parsed, [s.index for s in parsed.sections if s.type in RELOCATIONS])


def moved(run: RelocRun, numbers: dict[int, int]) -> bytes:
    """The run's bytes with other symbol numbers."""
    table = [numbers.get(number, 0) for number in range(max(numbers) + 1)]
    return bytes(memoryview(renumbered(run, table)).cast("B"))


def others(data: bytes | Patient, index: int) -> Any:  # noqa: ANN401
    """The relocation section of that index, as another reader has it."""
    return ELFFile(io.BytesIO(bytes(data))).get_section(index)


def numbers(run: RelocRun) -> list[int]:
    """The symbol number of each entry."""
    return [word >> run.shape.shift for word in run.column]


@KIND
def test_agrees_with_another_reader(kind: str) -> None:
    data = shapes.module(KINDS[kind])
    for run in all_runs(elf(data)):
        expected: list[int] = []
        for section in run.sections:
            expected += [r["r_info_sym"] for r in others(data, section.index).iter_relocations()]
        assert numbers(run) == expected
        assert set(run.symbols()) == set(expected)
        assert run.size == sum(section.size for section in run.sections)


@KIND
def test_renumbering_changes_symbol_numbers_and_nothing_else(kind: str) -> None:
    data = shapes.module(KINDS[kind])
    for run in all_runs(elf(data)):
        assert moved(run, {n: n for n in run.symbols()}) == data[run.offset : run.offset + run.size]
        patient = Patient(data)
        patient.data[run.offset : run.offset + run.size] = moved(run, {n: n // 2 for n in run.symbols()})
        sections = (others(d, run.sections[0].index).iter_relocations() for d in (data, patient))
        for one, other in zip(*sections, strict=True):
            assert other["r_info_sym"] == one["r_info_sym"] // 2
            assert (other["r_offset"], other["r_info_type"]) == (one["r_offset"], one["r_info_type"])
            assert other.entry.get("r_addend") == one.entry.get("r_addend")


@KIND
@pytest.mark.parametrize("number", [255, 256, 65535, 65536, 70000])
def test_numbers_of_many_bytes(kind: str, number: int) -> None:
    """Symbol numbers of one byte are handled in another way than larger ones."""
    patient = Patient(shapes.module(KINDS[kind]))
    name = ".rela.text" if KINDS[kind].rela else ".rel.text"
    patient.set_target(name, 1, number)
    (run,) = (r for r in all_runs(elf(bytes(patient))) if r.sections[0].name == name.encode())
    assert numbers(run) == [r["r_info_sym"] for r in others(patient, run.sections[0].index).iter_relocations()]
    assert numbers(run)[1] == number
    expected = Patient(bytes(patient)).set_target(name, 1, number - 1).contents(name)
    assert moved(run, {n: n - 1 if n == number else n for n in run.symbols()}) == expected


def test_the_types_of_mips64_stay() -> None:
    """Three types and a special symbol share r_info with the symbol number, in an order of their own."""
    for kind in ("mips64el", "mips64"):
        patient = Patient(shapes.module(KINDS[kind]))
        at = patient.entry_at(".rela.text", 0)
        patient.data[at + 12 : at + 16] = b"\x01\x02\x03\x04"  # r_ssym, r_type3, r_type2, r_type
        run = all_runs(elf(bytes(patient)))[0]
        row = patient.row("printk")
        assert numbers(run)[0] == row
        number = struct.pack(KINDS[kind].order + "I", row - 1)
        assert moved(run, {n: n - 1 for n in run.symbols()})[8:16] == number + b"\x01\x02\x03\x04"


def test_neighbours_are_one_run() -> None:
    one, other = Sec(".one", b"1", relocations=(Rel(0, "printk"),)), Sec(".two", b"", relocations=(Rel(0, "maybe"),))
    last = Sec(".three", b"333", relocations=())
    parsed = elf(shapes.grow([one, other, last], shapes.symbols()[-3:]))
    (run,) = all_runs(parsed)
    assert [s.name for s in run.sections] == [b".rela.one", b".rela.two"]
    assert len(run.column) == 2


def test_forms_do_not_mix_in_a_run() -> None:
    kind = KINDS["armel"]
    rela = Sec(".odd", b"", 0, shapes.RELA, 4, 12, info=".one", relocations=())
    one = Sec(".one", b"1234", relocations=(Rel(0, "printk"),))
    data = Patient(shapes.grow([one, rela._replace(relocations=(Rel(0, "printk"),) * 3)], shapes.symbols()[-3:], kind))
    first, second = all_runs(elf(bytes(data.set_section(".odd", size=24))))
    assert (first.shape.entry, second.shape.entry) == (2, 3)


@pytest.mark.parametrize(
    "fields",
    [
        {"info": 0},  # no target
        {"info": 3},  # a relocation section as target
        {"info": 100},
        {"info": (1 << 32) - 1},
        {"link": 0},
        {"link": 1},  # no symbol table
        {"link": 100},
        {"entsize": 16},
        {"entsize": 0},
        {"size": 23},
    ],
)
def test_broken(fields: dict[str, int]) -> None:
    parsed = elf(bytes(Patient(shapes.module()).set_section(".rela.text", **fields)))
    with pytest.raises(ModuleError) as caught:
        check_relocations(parsed, [s.index for s in parsed.sections if s.name == b".rela.text"])
    assert caught.value.id == "bad-relocation"
    assert caught.value.evidence["section"] == 3
    with pytest.raises(ModuleError, match="bad-relocation"):
        plan(parsed)


@KIND
def test_a_symbol_that_the_table_does_not_have(kind: str) -> None:
    name = ".rela.text" if KINDS[kind].rela else ".rel.text"
    count = Patient(shapes.module(KINDS[kind])).count
    for number in (count, 300, 0xFFFFFF):
        parsed = elf(bytes(Patient(shapes.module(KINDS[kind])).set_target(name, 1, number)))
        with pytest.raises(ModuleError) as caught:
            plan(parsed)
        assert caught.value.id == "bad-relocation"
        assert caught.value.evidence["symbol"] == number
    assert plan(elf(bytes(Patient(shapes.module(KINDS[kind])).set_target(name, 1, count - 1))))


def test_sections_of_two_forms_over_the_same_bytes_are_not_mixed_up() -> None:
    """What one reading left behind must not serve another that only happens to cover the same bytes."""
    three = (Rel(0, "printk"),) * 3
    sections = [Sec(".one", bytes(8), relocations=three), Sec(".two", bytes(8), relocations=three)]
    data = Patient(shapes.grow(sections, shapes.symbols()[-3:], KINDS["armel"]))
    # the bytes of three REL entries are those of two RELA entries
    data.set_section(".rel.two", type=shapes.RELA, entsize=12, offset=data.section(".rel.one", "offset"))
    parsed = elf(bytes(data))
    rel, rela = (next(s.index for s in parsed.sections if s.name == name) for name in (b".rel.one", b".rel.two"))
    assert [len(run.column) for run in reloc_runs(parsed, [rel])] == [3]
    assert [len(run.column) for run in reloc_runs(parsed, [rela])] == [2]
