"""`ko.second`: pyelftools sees what our reader sees; what it sees otherwise, or cannot read, is a finding."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from pkghook.errors import MissingDependencyError, ModuleError
from pkghook.ko import second
from pkghook.ko.elf import parse
from pkghook.ko.file import BytesImage
from pkghook.model import SectionTable
from tests import shapes
from tests.mutants.damages import mutant
from tests.shapes import KINDS
from tests.surgery import Patient, elf

EVERY = pytest.mark.parametrize("kind", KINDS)


def disagreement(data: bytes | Patient) -> dict[str, object]:
    """The evidence."""
    with pytest.raises(ModuleError) as caught:
        second.check(elf(bytes(data)))
    assert caught.value.id == "readers-disagree"
    return dict(caught.value.evidence)


@EVERY
def test_both_see_the_same(kind: str) -> None:
    parsed = elf(shapes.module(KINDS[kind]))
    second.check(parsed)
    table = second.theirs(parsed.image)
    assert table == second.ours(parsed)
    assert (table.bits == 64, table.order, table.machine) == (KINDS[kind].is64, KINDS[kind].order, KINDS[kind].machine)
    assert list(table.columns[0]) == [name.encode() for name in Patient(shapes.module(KINDS[kind])).names]


@EVERY
@pytest.mark.parametrize("header", ["Elf_Ehdr", "Elf_Shdr"])
def test_fields_are_where_the_other_library_reads_them(kind: str, header: str) -> None:
    """Its own reading, header by header, of a table in which every byte is another."""
    from elftools.elf.structs import ELFStructs

    layouts = ELFStructs(little_endian=KINDS[kind].order == "<", elfclass=64 if KINDS[kind].is64 else 32)
    layouts.create_basic_structs()
    layouts.create_advanced_structs("ET_REL", "EM_X86_64", "ELFOSABI_SYSV")
    layout = getattr(layouts, header)
    fields, ident = (second.FIELDS, b"") if header == "Elf_Shdr" else (second.HEADER_FIELDS, second.IDENT)
    for start in (0, 1, 90, 190):
        row = ident + bytes((start + 3 * at) % 256 for at in range(len(ident), layout.sizeof()))
        parsed = layout.parse(row)
        found = second.as_struct(layout, fields, ident).unpack_from(row, len(ident))
        assert found == tuple(parsed[field] for field in fields)


@pytest.mark.parametrize("fields", ["FIELDS", "HEADER_FIELDS"])
def test_fields_in_an_unknown_order_are_a_disagreement(fields: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = getattr(second, fields)
    monkeypatch.setattr(second, fields, (*others, first))
    assert "unknown order" in str(disagreement(shapes.module())["pyelftools"])


def changed(values: tuple[Any, ...], at: int) -> list[Any]:
    """The values, one of them another."""
    found = list(values)
    found[at] += {int: 1, str: "?", bytes: b"?"}[type(found[at])]
    return found


@EVERY
def test_a_reader_that_is_wrong_is_noticed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each field of each section in turn, each field of the header: as if our reader had a fault there."""
    parsed = elf(shapes.module(KINDS[kind]))
    right = second.ours(parsed)
    wrong: list[tuple[str, SectionTable]] = []
    for at, field in enumerate(right._fields[:-1]):
        wrong.append((field, SectionTable(*changed(right, at))))
    for number, column in enumerate(right.columns):
        for at in range(len(column)):
            columns = (*right.columns[:number], tuple(changed(column, at)), *right.columns[number + 1 :])
            wrong.append((second.FIELDS[number].removeprefix("sh_"), right._replace(columns=columns)))
    wrong.append(("sections", right._replace(columns=tuple(column[:-1] for column in right.columns))))
    for field, table in wrong:
        monkeypatch.setattr(second, "ours", lambda _, table=table: table)
        assert disagreement(shapes.module(KINDS[kind]))["field"] == field


def test_names_that_are_no_utf8_are_no_disagreement() -> None:
    data = bytearray(shapes.module())
    start = bytes(data).index(b".modinfo\0") if b".modinfo\0" in data else bytes(data).index(b".text\0")
    data[start + 1] = 0xFF
    second.check(elf(bytes(data)))


def test_section_types_that_only_one_of_them_has_a_name_for() -> None:
    patient = Patient(shapes.module())
    for type in (0x6FFF4C03, 0x7000001E, 0x70000001, 0x12345678):
        second.check(elf(bytes(patient.set_section(1, type=type))))


def test_one_that_cannot_read_it_is_a_disagreement(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the other library raises on a file that ours reads."""
    from elftools.common.exceptions import ELFParseError
    from elftools.construct import ConstructError

    every = (ELFParseError("no"), ConstructError("no"), KeyError(1), TypeError("no"), UnicodeError("no"))
    for raised in every:

        def fail(_: object, raised: Exception = raised) -> SectionTable:
            raise raised

        monkeypatch.setattr(second, "_read", fail)
        found = disagreement(shapes.module())
        assert found["pkghook"] == "can read it"
        assert str(found["pyelftools"]).startswith(type(raised).__name__)


def test_faults_of_our_own_are_no_disagreement(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> SectionTable:
        raise MemoryError

    monkeypatch.setattr(second, "_read", fail)
    with pytest.raises(MemoryError):
        second.check(elf(shapes.module()))


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "elftools", None)
    with pytest.raises(MissingDependencyError) as caught:
        second.need()
    assert "python3-pyelftools" in caught.value.hint


def test_damaged_files_end_as_findings() -> None:
    """Thousands of damages: the second reader agrees, or says in a ModuleError that it does not."""
    random = Random(29)  # noqa: S311  the same damages each time
    agreed = told = 0
    for kind in KINDS.values():
        data = shapes.module(kind)
        for _ in range(150):
            damaged, _ = mutant(data, random)
            try:
                parsed = parse(BytesImage(damaged))
            except ModuleError:
                continue
            try:
                second.check(parsed)
                agreed += 1
            except ModuleError:
                told += 1
    assert agreed > 500
    assert told < agreed / 10
