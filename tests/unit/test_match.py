"""`ko.match`: which section and which symbol is which, whatever their numbers, order in the file or names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkghook.ko import match, symtab
from pkghook.ko import symbols as lists
from pkghook.ko.match import Pair, fault, match_symbols, same_symbol, symbol_pairs, text
from pkghook.ko.plan import DEBUG_ONLY, Drop
from pkghook.ko.prove import prove
from tests import shapes
from tests.shapes import ALLOC, KINDS, LOCAL, Kind, Rel, Sec, Sym
from tests.surgery import Patient, elf, faults, native_strip

KIND = pytest.mark.parametrize("kind", ["amd64", "s390x", "armel"])


def pair(before: bytes | Patient, after: bytes | Patient, drop: Drop = DEBUG_ONLY) -> Pair:
    """Two modules side by side."""
    return Pair(elf(bytes(before)), elf(bytes(after)), drop)


def evidence(before: bytes, after: bytes | Patient, drop: Drop = DEBUG_ONLY) -> dict[str, object]:
    """Of the one fault in the sequences of symbols."""
    (found,) = match_symbols(pair(before, after, drop)).faults
    assert found.id == "symbol-changed"
    return dict(found.evidence)


def test_names_as_evidence() -> None:
    assert text(b"plain") == "plain"
    assert text(b"\xff\x1b") == "\\xff\x1b"
    assert len(text(b"x" * 5000)) == 200
    assert fault("residue", bytes=3).evidence == (("bytes", 3),)


# --- sections --------------------------------------------------------------------------------------------------------


@KIND
def test_sections_of_one_name_pair_in_their_order(kind: str) -> None:
    twins = [Sec(".twin", bytes([n]), ALLOC, key=str(n)) for n in range(3)]
    data = shapes.module(KINDS[kind], *twins)
    found = pair(data, native_strip(data))
    assert [(old.name, new.name) for old, new in found.kept] == [(old.name, old.name) for old, _ in found.kept]
    values = [(found.before.read(old), found.after.read(new)) for old, new in found.kept if old.name == b".twin"]
    assert values == [(b"\0", b"\0"), (b"\1", b"\1"), (b"\2", b"\2")]
    assert (found.missing, found.added) == ([], [])


def test_sections_that_changed_places() -> None:
    """GNU strip moves relocation sections of modules that lld has linked."""
    one, other = Sec(".meta.a", b"aa", relocations=(Rel(0, "@.text"),)), Sec(".meta.b", b"bb")
    before, after = shapes.stripped(shapes.AMD64, one, other), shapes.stripped(shapes.AMD64, other, one)
    found = pair(before, after)
    assert not found.in_order
    assert (found.missing, found.added) == ([], [])
    assert all(old.name == new.name for old, new in found.kept)
    assert prove(elf(before), elf(after)) == ()
    assert prove(elf(after), elf(before)) == ()


def test_missing_and_added() -> None:
    found = pair(
        shapes.stripped(shapes.AMD64, Sec(".a"), Sec(".b")), shapes.stripped(shapes.AMD64, Sec(".b"), Sec(".c"))
    )
    assert ([s.name for s in found.missing], [s.name for s in found.added]) == ([b".a"], [b".c"])


# --- symbols ---------------------------------------------------------------------------------------------------------


@KIND
def test_numbers_move_and_nothing_else(kind: str) -> None:
    data = shapes.module(KINDS[kind])
    found = pair(data, native_strip(data))
    matched = found.symbols
    assert matched.faults == ()
    before, after = Patient(data), Patient(native_strip(data))
    partners = [(row, partner) for row, partner in enumerate(matched.rows) if partner]
    assert [partner for _, partner in partners] == sorted({partner for _, partner in partners})
    for row, partner in partners:
        assert before.symbol_name(row) == after.symbol_name(partner)
        assert same_symbol(found, row, partner)
    named = [row for row in range(symtab.symbol_table(found.after).count) if after.symbol_name(row)]
    assert set(named) <= {partner for _, partner in partners}


def without(section: Sec, name: str) -> Sec:
    """The section, its relocations not naming this symbol any more."""
    if section.relocations is None:
        return section
    return section._replace(
        relocations=tuple(r._replace(symbol="@.text") if r.symbol == name else r for r in section.relocations)
    )


@KIND
@pytest.mark.parametrize("name", ["helper", "counter", "__this_module", "printk", "maybe", "__crc_grown"])
def test_a_lost_symbol(kind: str, name: str) -> None:
    """Also the last one, and the first of two that are alike but for their value."""
    symbols = shapes.symbols()
    symbols.remove(next(s for s in symbols if s.name == name))
    sections = [without(section, name) for section in shapes.basis()]
    before, after = shapes.stripped(KINDS[kind]), shapes.grow(sections, symbols, KINDS[kind])
    found = evidence(before, after)
    assert found["symbol"] == name
    assert found["symbols_before"] == found["symbols_after"] + 1  # type: ignore[operator]
    assert evidence(after, before)["symbols_after"] == found["symbols_before"]
    assert "symbol-changed" in faults(before, after)


@KIND
@pytest.mark.parametrize("name", ["helper", "printk", "__crc_grown"])
@pytest.mark.parametrize("field", ["info", "other", "shndx", "value", "size"])
def test_a_changed_field(kind: str, name: str, field: str) -> None:
    data = shapes.module(KINDS[kind])
    after = Patient(native_strip(data))
    row = after.row(name)
    value = {"shndx": 1, "info": after.symbol(row, "info") ^ 1}.get(field, after.symbol(row, field) + 1)
    found = evidence(data, after.set_symbol(row, **{field: value}))
    assert (found["symbol"], found["after"]) == (name, name)


@KIND
def test_a_changed_name(kind: str) -> None:
    data = shapes.module(KINDS[kind])
    out = native_strip(data)
    row, other = Patient(out).row("helper"), Patient(out).row("printk")
    found = evidence(data, Patient(out).set_symbol(row, name=Patient(out).symbol(other, "name")))
    assert (found["symbol"], found["after"]) == ("helper", "printk")
    found = evidence(data, Patient(out).set_symbol(row, name=Patient(out).symbol(row, "name") + 1))
    assert found["after"] == "elper"
    offset = Patient(out).symbol(row, "name")
    assert evidence(data, Patient(out).set_bytes(".strtab", offset + 2, b"X"))["after"] == "heXper"


@KIND
def test_order_counts(kind: str) -> None:
    """Symbols of one name are told apart by their position (`sympos` of a livepatch)."""
    data = shapes.module(KINDS[kind])
    out = Patient(native_strip(data))
    first = out.row("counter")
    assert evidence(data, out.swap_symbols(first, first + 1))["symbol"] == "counter"


def test_unnamed_symbols_and_files_do_not_count() -> None:
    extra = (Sym("", ".text", 3, bind=LOCAL), Sym("other.c", shapes.ABS, bind=LOCAL, type=shapes.FILE))
    assert prove(elf(shapes.stripped()), elf(shapes.stripped(also=extra))) == ()
    assert prove(elf(shapes.stripped(also=extra)), elf(shapes.stripped())) == ()


def test_unnamed_symbols_that_the_loader_resolves_do_count() -> None:
    for index in (shapes.UND, shapes.ABS, shapes.COMMON):
        extra = (Sym("", index, 3),)
        assert faults(shapes.stripped(), shapes.stripped(also=extra)) == ["symbol-changed"]


def test_names_that_share_their_end() -> None:
    """`init` may be the end of `grown_init` in one string table and stand by itself in the other."""
    symbols = (Sym("grown_init", ".text", 1), Sym("init", ".text", 2))
    data = shapes.module(also=symbols)
    shared = Patient(data)
    shared.set_symbol(shared.row("init"), name=shared.symbol(shared.row("grown_init"), "name") + 6)
    for before in (data, bytes(shared)):
        for after in (data, bytes(shared)):
            assert prove(elf(before), elf(native_strip(after))) == ()


def test_long_tables_are_compared_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    data = shapes.module(KINDS["s390x"])
    out = Patient(native_strip(data))
    for size in (1, 2, 3, 5):
        monkeypatch.setattr(symtab, "CHUNK", size)
        monkeypatch.setattr(match, "CHUNK", size)
        assert faults(data, bytes(out)) == []
        for row in out.rows():
            damaged = Patient(bytes(out)).set_symbol(row, value=out.symbol(row, "value") + 4)
            assert (faults(data, bytes(damaged)) != []) == (out.symbol_name(row) != "" or row in referenced(out))


def referenced(patient: Patient) -> set[int]:
    """Symbols that relocations name."""
    rows: set[int] = set()
    for index in range(patient.header("shnum")):
        if patient.section(index, "type") == shapes.RELA:
            entries = patient.section(index, "size") // patient.section(index, "entsize")
            rows.update(patient.target(index, entry) for entry in range(entries))
    return rows


# --- what a promise allows to be missing -----------------------------------------------------------------------------


@pytest.mark.parametrize("gone", [("counter",), ("__UNIQUE_ID_license",), ("counter", "__UNIQUE_ID_license"), ()])
def test_listed_symbols_may_be_missing(gone: tuple[str, ...]) -> None:
    """All of them, some, or none: an outside tool may keep what it likes."""
    drop = Drop(lists.parse(b"counter\n__UNIQUE_ID_*\n", "list"))
    after = shapes.grow(shapes.basis(), [s for s in shapes.symbols() if s.name not in gone])
    assert faults(shapes.stripped(), after, drop) == []
    if gone:
        assert faults(shapes.stripped(), after) == ["symbol-changed"]


@pytest.mark.parametrize("name", ["__UNIQUE_ID_license", "maybe", "__crc_grown", "init_module"])
def test_no_other_symbol_may_be_missing(name: str) -> None:
    """Neither one that is not listed, nor what is undefined, absolute or protected though it is listed."""
    drop = Drop(lists.parse(b"counter\nmaybe\n__crc_*\ninit_module\n", "list"))
    sections = [s if "this_module" not in s.name else s._replace(relocations=None) for s in shapes.basis()]
    for also in ({name}, {name, "counter"}):
        kept = [s for s in shapes.symbols() if s.name not in also]
        assert faults(shapes.grow(sections, shapes.symbols()), shapes.grow(sections, kept), drop) == ["symbol-changed"]


def test_a_listed_symbol_may_not_change() -> None:
    drop = Drop(lists.parse(b"counter\n", "list"))
    out = Patient(shapes.stripped())
    assert faults(shapes.stripped(), bytes(out.set_symbol(out.row("counter"), size=5)), drop) == ["symbol-changed"]


def test_labels_may_be_missing() -> None:
    label = Sym(".L1", ".text", 3, bind=LOCAL)
    typed = label._replace(name=".L2", type=shapes.FUNC)
    drop = Drop(labels=True)
    assert faults(shapes.stripped(also=(label,)), shapes.stripped(), drop) == []
    assert faults(shapes.stripped(also=(label,)), shapes.stripped()) == ["symbol-changed"]
    assert faults(shapes.stripped(also=(typed,)), shapes.stripped(), drop) == ["symbol-changed"]
    assert faults(shapes.stripped(), shapes.stripped(also=(label,)), drop) == ["symbol-changed"]


def test_a_label_that_a_relocation_names_may_not_be_missing() -> None:
    label = Sym(".L1", ".text", 3, bind=LOCAL)
    data = Sec(".data.x", bytes(8), ALLOC, relocations=(Rel(0, ".L1"),))
    other = data._replace(relocations=(Rel(0, "@.text"),))
    before, after = shapes.stripped(shapes.AMD64, data, also=(label,)), shapes.stripped(shapes.AMD64, other)
    assert faults(before, after, Drop(labels=True)) == ["relocation-changed"]


# --- columns ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=20))
def test_pairs_of_columns(rows: list[tuple[int, int]]) -> None:
    from array import array

    one, other = array("I", [a for a, _ in rows]), array("I", [b for _, b in rows])
    assert symbol_pairs(one, other) == {a | b << 32 for a, b in rows}


NAMES = st.lists(st.sampled_from(["a", "b", "ab", ".L1", ".L2", "x_a"]), max_size=8)


@given(st.sampled_from(["amd64", "s390x", "armel"]), NAMES, NAMES)
def test_equal_sequences_and_no_others_match(kind: str, before: list[str], after: list[str]) -> None:
    def grown(names: list[str], kind: Kind) -> bytes:
        return shapes.stripped(kind, also=tuple(Sym(name, ".text", bind=LOCAL) for name in names))

    one, other = grown(before, KINDS[kind]), grown(after, KINDS[kind])
    assert (faults(one, other) == []) == (before == after)
    without = [name for name in before if not name.startswith(".L")]
    assert faults(one, grown(without, KINDS[kind]), Drop(labels=True)) == []
    if faults(one, other, Drop(labels=True)) == []:
        assert [n for n in after if not n.startswith(".L")] == without
        rest = iter(before)
        assert all(name in rest for name in after)  # a part of it, in the same order
