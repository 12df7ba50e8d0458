"""`ko.symtab`: symbols by columns, and every rule that a symbol table can break."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st

from pkghook.errors import ModuleError
from pkghook.ko import symtab
from pkghook.ko.symtab import FILE_KIND, SECTION_KIND, length, marked, symbol_table, unmarked
from tests import shapes
from tests.shapes import GLOBAL, KINDS, LOCAL, Sec, Sym
from tests.surgery import SYMBOL_SIZE, Patient, elf

KIND = pytest.mark.parametrize("kind", KINDS)


def refused(data: bytes | Patient) -> tuple[str, dict[str, object]]:
    """Finding id and evidence with which reading the table ends."""
    parsed = elf(bytes(data))
    with pytest.raises(ModuleError) as caught:
        symbol_table(parsed)
    return caught.value.id, dict(caught.value.evidence)


@KIND
def test_agrees_with_another_reader(kind: str) -> None:
    data = shapes.module(KINDS[kind])
    table = symbol_table(elf(data))
    theirs: Any = ELFFile(io.BytesIO(data)).get_section_by_name(".symtab")
    special = {"SHN_UNDEF": 0, "SHN_ABS": 0xFFF1}
    assert table.count == theirs.num_symbols()
    for row, other in enumerate(theirs.iter_symbols()):
        symbol = table.symbol(row)
        assert symbol.shndx == special.get(other["st_shndx"], other["st_shndx"])
        assert (symbol.value, symbol.size) == (other["st_value"], other["st_size"])
        if other["st_info"].type != "STT_SECTION":  # for those it gives the section's name
            assert symbol.name.decode() == other.name == table.name(row).decode()


@KIND
def test_rows_in_runs(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = shapes.module(KINDS[kind])
    whole = symbol_table(elf(data)).rows(0, symbol_table(elf(data)).count)
    monkeypatch.setattr(symtab, "CHUNK", 3)  # a table of many chunks
    table = symbol_table(elf(data))
    size = SYMBOL_SIZE[KINDS[kind].is64]
    assert table.rows(0, table.count) == whole
    runs = [(0, 2), (4, 5), (5, 11), (13, table.count)]
    assert b"".join(table.kept_rows(runs)) == b"".join(whole[a * size : b * size] for a, b in runs)
    assert b"".join(table.kept_rows([])) == b""
    assert [table.symbol(row) for row in range(table.count)] == [
        symbol_table(elf(data)).symbol(row) for row in range(table.count)
    ]


def test_kinds_and_places() -> None:
    parsed = elf(shapes.module())
    table = symbol_table(parsed)
    assert all(table.symbol(row).info & 15 == shapes.SECTION for row in table.of_kind(SECTION_KIND))
    assert [table.name(row) for row in table.of_kind(FILE_KIND)] == [b"grown.c"]
    (bss,) = (s.index for s in parsed.sections if s.name == b".bss")
    found = [row for row, is_there in enumerate(table.mask({bss})) if is_there]
    assert [table.name(row) for row in found] == [b"", b"counter", b"counter"]
    assert not any(table.mask({77}))


def test_a_mask_does_not_confuse_numbers_with_the_same_low_byte() -> None:
    data = shapes.module()
    table = symbol_table(elf(data))
    like_abs = 0xFFF1 & 255  # of the FILE symbol; no section of this module has that number
    assert not any(table.mask({like_abs}))


@given(st.binary(max_size=60))
def test_runs_are_what_is_marked_and_what_is_not(data: bytes) -> None:
    mask = bytearray(byte & 1 for byte in data)
    for runs, value in ((marked(mask), 1), (unmarked(mask), 0)):
        rows = [row for a, b in runs for row in range(a, b)]
        assert rows == [row for row, byte in enumerate(mask) if byte == value]
        assert length(runs) == len(rows)
        assert all(a < b for a, b in runs)
        assert all(one[1] < other[0] for one, other in pairwise(runs))


# --- broken ----------------------------------------------------------------------------------------------------------


def test_none_and_two() -> None:
    patient = Patient(shapes.module()).set_section(".symtab", type=1)
    assert refused(patient) == ("no-symbol-table", {"sections": elf(bytes(patient)).count})
    patient = Patient(shapes.module()).append_section(".symtab", bytes(48), type=shapes.SYMTAB)
    assert refused(patient) == ("bad-symbol-table", {"tables": 2})


def test_extended_section_indices() -> None:
    patient = Patient(shapes.module()).set_section(".note.GNU-stack", type=18)
    assert refused(patient)[0] == "too-many-sections"
    patient = Patient(shapes.module())
    assert refused(patient.set_symbol(patient.row("helper"), shndx=0xFFFF))[0] == "too-many-sections"


@pytest.mark.parametrize(
    ("which", "fields", "id"),
    [
        (".symtab", {"entsize": 16}, "bad-symbol-table"),
        (".symtab", {"entsize": 0}, "bad-symbol-table"),
        (".symtab", {"size": 0}, "bad-symbol-table"),
        (".symtab", {"size": 25}, "bad-symbol-table"),
        (".symtab", {"link": 0}, "bad-symbol-table"),
        (".symtab", {"link": 1}, "bad-symbol-table"),
        (".symtab", {"link": 5000}, "bad-symbol-table"),
        (".symtab", {"info": 1}, "bad-symbol-table"),
        (".symtab", {"info": 0}, "bad-symbol-table"),
        (".symtab", {"info": 27}, "bad-symbol-table"),
        (".symtab", {"info": 1 << 31}, "bad-symbol-table"),
        (".strtab", {"size": 0}, "bad-string-table"),
        (".strtab", {"size": 9}, "bad-string-table"),
        (".strtab", {"type": 1}, "bad-symbol-table"),
    ],
)
def test_header(which: str, fields: dict[str, int], id: str) -> None:
    assert refused(Patient(shapes.module()).set_section(which, **fields))[0] == id


def test_strings_framed_by_nul() -> None:
    patient = Patient(shapes.module())
    last = patient.section(".strtab", "size") - 1
    for offset in (0, last):
        assert refused(Patient(shapes.module()).set_bytes(".strtab", offset, b"x"))[0] == "bad-string-table"


@pytest.mark.parametrize("kind", ["amd64", "s390x", "armel"])
def test_name_outside_the_table(kind: str) -> None:
    patient = Patient(shapes.module(KINDS[kind]))
    size = patient.section(".strtab", "size")
    id, evidence = refused(patient.set_symbol(patient.row("helper"), name=size))
    assert (id, evidence["name_offset"], evidence["bytes"]) == ("bad-string-table", size, size)


@pytest.mark.parametrize("kind", ["amd64", "s390x", "armel"])
@pytest.mark.parametrize("index", [26, 0xFEFF, 0xFF00, 0xFF1F, 0xFFF0, 0xFFF3])
def test_section_index_outside_the_module(kind: str, index: int) -> None:
    data = shapes.module(KINDS[kind])
    count = Patient(data).header("shnum")
    index = max(index, count)
    for row in (1, Patient(data).row("helper"), Patient(data).row("printk")):  # the first has no name
        id, evidence = refused(Patient(data).set_symbol(row, shndx=index))
        assert (id, evidence) == ("bad-symbol", {"symbol": row, "section_index": index, "sections": count})
    assert symbol_table(elf(bytes(Patient(data).set_symbol(row, shndx=count - 1)))).count


@pytest.mark.parametrize("index", [0xFF20, 0xFFF1, 0xFFF2])
def test_special_indices(index: int) -> None:
    patient = Patient(shapes.module())
    row = patient.row("helper")
    assert symbol_table(elf(bytes(patient.set_symbol(row, shndx=index)))).symbol(row).shndx == index


@pytest.mark.parametrize("field", ["name", "info", "other", "shndx", "value", "size"])
def test_the_first_symbol_is_null(field: str) -> None:
    id, evidence = refused(Patient(shapes.module()).set_symbol(0, **{field: 1}))
    assert (id, evidence["symbol"]) == ("bad-symbol-table", 0)


def test_locals_come_first() -> None:
    patient = Patient(shapes.module())
    one, other = patient.row("helper"), patient.row("printk")
    assert refused(patient.swap_symbols(one, other))[0] == "bad-symbol-table"
    assert refused(Patient(shapes.module()).set_symbol(one, info=GLOBAL))[0] == "bad-symbol-table"
    assert refused(Patient(shapes.module()).set_symbol(other, info=LOCAL))[0] == "bad-symbol-table"


def test_a_module_without_locals_or_without_globals() -> None:
    text = Sec(".text", bytes(4), shapes.ALLOC)
    for symbols in ([Sym("f", ".text")], [Sym("f", ".text", bind=LOCAL)], []):
        table = symbol_table(elf(shapes.grow([text], symbols, bare=frozenset({".text"}))))
        assert table.count == 1 + len(symbols)
