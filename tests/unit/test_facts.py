"""`ko.facts` and `ko.compare`: what a record keeps of a module, and what it notices."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkghook.errors import ModuleError
from pkghook.ko import facts as facts_module
from pkghook.ko.compare import compare
from pkghook.ko.facts import Facts, facts
from pkghook.ko.plan import plan
from pkghook.ko.prove import prove
from pkghook.ko.symtab import NAME_BLOCK
from tests import shapes
from tests.shapes import (
    ADDRSIG,
    ALLOC,
    AMD64,
    EXEC,
    GROUP,
    IN_GROUP,
    KINDS,
    LINK_ORDER,
    LIVEPATCH,
    LOCAL,
    NOTE,
    OBJECT,
    PROGBITS,
    WRITE,
    Rel,
    Sec,
    Sym,
)  # fmt: skip
from tests.surgery import Patient, elf, native_strip

KIND = pytest.mark.parametrize("kind", KINDS)
GROUPED = (
    Sec(".text.grouped", b"\x90" * 8, ALLOC | EXEC | IN_GROUP, relocations=(Rel(2, "printk"),)),
    Sec(".debug_macro", b"macros", IN_GROUP, key="macros"),
    Sec(".group", type=GROUP, entsize=4, align=4, info="grown_group",
        members=(".text.grouped", ".rela@.text.grouped", "macros")),
    Sec(".group", type=GROUP, entsize=4, align=4, info="macro_group", members=("macros",), key="macro group"),
)  # fmt: skip
SIGNATURES = (Sym("grown_group", ".text.grouped", bind=LOCAL), Sym("macro_group", "macros", bind=LOCAL))


def known(data: bytes | Patient, trailer: bytes = b"") -> Facts:
    """The facts of a module."""
    read = elf(bytes(data))
    return facts(read, plan(read), trailer)


def changes(before: bytes | Patient, after: bytes | Patient) -> list[str]:
    """The finding ids with which the facts differ, each once, in order."""
    return list(dict.fromkeys(fault.id for fault in compare(known(before), known(after))))


def evidence(before: bytes | Patient, after: bytes | Patient, id: str) -> dict[str, str | int]:
    """That of the first fault of a kind."""
    return dict(next(fault for fault in compare(known(before), known(after)) if fault.id == id).evidence)


def proven(before: bytes | Patient, after: bytes | Patient) -> list[str]:
    """What the direct verifier says to the same question."""
    found = prove(elf(bytes(before)), elf(bytes(after)), debuglink=True, stripped=False)
    return list(dict.fromkeys(fault.id for fault in found))


# --- the same --------------------------------------------------------------------------------------------------------


@KIND
def test_stripping_changes_no_fact(kind: str) -> None:
    """Symbols and sections get other numbers, relocations other words: the facts stay."""
    before = shapes.module(KINDS[kind])
    after = native_strip(before)
    assert changes(before, after) == []
    assert changes(after, before) == []  # debug information that is still there is no fault
    was, now = known(before), known(after)
    assert (was.unstripped, was.size, was.expected) == (True, len(before), len(after))
    assert (now.unstripped, now.size, now.expected, now.saving) == (False, len(after), len(after), 0)
    assert 0 < was.saving < len(before) - len(after)


def test_groups_that_empty_and_that_shrink() -> None:
    before = shapes.module(AMD64, *GROUPED, also=SIGNATURES)
    assert [group.members for group in known(before).groups] == [".text.grouped\n.rela.text.grouped"]
    assert changes(before, native_strip(before)) == []


def test_repeated_names_are_told_apart() -> None:
    pair = (Sec(".note.GNU-stack", key="second"), Sec(".text", b"\x90\xc3", ALLOC | EXEC, key="more text"))
    before = shapes.module(AMD64, *pair, also=(Sym("in_second", "more text", bind=LOCAL),))
    assert changes(before, native_strip(before)) == []
    patient = Patient(native_strip(before))
    row = patient.row("in_second")
    patient.set_symbol(row, shndx=patient.names.index(".text"))
    assert evidence(before, patient, "symbol-changed") == {"field": "section"}


def test_one_string_table_for_all_names() -> None:
    before = shapes.module(one_string_table=True)
    assert changes(before, native_strip(before)) == []


def test_what_may_go_or_come_or_change() -> None:
    addrsig = Sec(".llvm_addrsig", b"\1\2", 0x80000000, ADDRSIG)
    before = shapes.module(AMD64, addrsig)
    linked = bytes(Patient(native_strip(before)).append_section(".gnu_debuglink", b"x.debug\0\1\2\3\4"))
    rebuilt = Patient(linked).set_bytes(".note.gnu.build-id", 16, b"\xff\xfe\xfd\xfc")
    assert changes(before, linked) == []
    assert changes(before, rebuilt) == []
    assert (known(before).build_id, known(rebuilt).build_id) == ("01020304", "fffefdfc")
    assert proven(before, rebuilt) == ["alloc-changed"]  # for want of a record, the direct verifier is stricter


def test_symbols_of_what_may_go_or_stay() -> None:
    signs = Sec(".llvm_addrsig", b"\1\2", type=ADDRSIG, link=".text")
    before = shapes.module(AMD64, signs, also=(Sym("odd", ".llvm_addrsig", bind=LOCAL),))
    assert changes(before, native_strip(before)) == []
    assert proven(before, native_strip(before)) == []


def test_names_of_any_bytes() -> None:
    odd = Sym(b"caf\xe9\nline".decode("utf-8", "surrogateescape"), ".text", bind=LOCAL, type=OBJECT)
    before = shapes.module(AMD64, Sec("\udce9.odd", b"1", ALLOC), also=(odd,))
    patient = Patient(before)
    patient.set_bytes(patient.names.index("\xe9.odd"), 0, b"2")
    assert changes(before, native_strip(before)) == []
    assert evidence(before, patient, "alloc-changed")["section"] == "\\xe9.odd"
    gone = shapes.module(AMD64, Sec("\udce9.odd", b"1", ALLOC))
    assert evidence(before, gone, "symbol-changed")["symbol"] == "caf\\xe9"


# --- not the same: obligation by obligation, as the direct verifier has it --------------------------------------------


def _rows(patient: Patient, *names: str) -> tuple[int, ...]:
    return tuple(patient.row(name) for name in names)


def _without_symbol(patient: Patient) -> Patient:
    row = patient.row("counter")
    return patient.set_symbol(row, name=0, info=3, value=0, size=0)  # what is left is one more section symbol


def _without_relocation(patient: Patient) -> Patient:
    return patient.set_section(".rela.text", size=patient.section(".rela.text", "size") - 24)


Change = Callable[[Patient], object]
CHANGES: dict[str, tuple[Change, str, dict[str, str | int]]] = {
    "a flag of the header": (
        lambda p: p.set_header(flags=1),
        "header-changed",
        {"field": "flags", "before": 0, "after": 1},
    ),
    "the entry point": (
        lambda p: p.set_header(entry=4),
        "header-changed",
        {"field": "entry", "before": 0, "after": 4},
    ),
    "the table's name": (
        lambda p: p.set_section(".symtab", name=p.section(".strtab", "name")),
        "table-broken",
        {"rule": "table-name", "section": ".symtab", "after": ".strtab"},
    ),
    "a table that is loaded": (
        lambda p: p.set_section(".strtab", flags=ALLOC),
        "table-broken",
        {"rule": "table-flags", "section": ".strtab", "before": 0, "after": ALLOC},
    ),
    "the table's alignment": (
        lambda p: p.set_section(".symtab", align=64),
        "table-broken",
        {"rule": "table-align", "section": ".symtab", "before": 8, "after": 64},
    ),
    "a byte of code": (
        lambda p: p.set_bytes(".text", 7, b"\xff"),
        "alloc-changed",
        {"section": ".text", "field": "contents", "bytes": 32},
    ),
    "a flag of a section": (
        lambda p: p.set_section(".data", flags=ALLOC),
        "alloc-changed",
        {"section": ".data", "field": "flags", "before": ALLOC | WRITE, "after": ALLOC},
    ),
    "alignment": (
        lambda p: p.set_section(".bss", align=16),
        "alloc-changed",
        {"section": ".bss", "field": "align", "before": 8, "after": 16},
    ),
    "the size of what has no bytes": (
        lambda p: p.set_section(".bss", size=41),
        "alloc-changed",
        {"section": ".bss", "field": "size", "before": 40, "after": 41},
    ),
    "a lost section": (lambda p: p.drop_section(".bss"), "alloc-changed", {"section": ".bss", "lost": 40}),
    "a section that need not be loaded": (
        lambda p: p.drop_section(".BTF"),
        "section-changed",
        {"section": ".BTF", "lost": 7},
    ),
    "its bytes": (
        lambda p: p.set_bytes(".BTF", 0, b"!"),
        "section-changed",
        {"section": ".BTF", "field": "contents", "bytes": 7},
    ),
    "a new section": (
        lambda p: p.append_section(".extra", b"123"),
        "section-changed",
        {"section": ".extra", "added": 3},
    ),
    "a debuglink that is loaded": (
        lambda p: p.append_section(".gnu_debuglink", b"123", flags=ALLOC),
        "alloc-changed",
        {"section": ".gnu_debuglink", "added": 3},
    ),
    "what a section is ordered by": (
        lambda p: p.set_section(".ordered", link=p.names.index(".data")),
        "dangling-reference",
        {"section": ".ordered", "before": ".text", "after": ".data"},
    ),
    "writable and executable": (
        lambda p: p.set_section(".text", flags=ALLOC | EXEC | WRITE),
        "section-rule",
        {"section": ".text", "flags": "writable and executable"},
    ),
    "a lost relocation": (
        _without_relocation,
        "relocation-changed",
        {"section": ".rela.text", "field": "entries", "before": 3, "after": 2},
    ),
    "an offset": (
        lambda p: p.set_relocation(".rela.text", 1, offset=10),
        "relocation-changed",
        {"section": ".rela.text", "field": "offset, type or addend"},
    ),
    "an addend": (
        lambda p: p.set_relocation(".rela.text", 1, addend=4),
        "relocation-changed",
        {"section": ".rela.text", "field": "offset, type or addend"},
    ),
    "another symbol": (
        lambda p: p.set_relocation(".rela.text", 0, info=p.row("maybe") << 32 | 4),
        "relocation-changed",
        {"section": ".rela.text", "field": "symbol"},
    ),
    "no symbol": (
        lambda p: p.set_relocation(".rela.text", 0, info=4),
        "relocation-symbol-lost",
        {"section": ".rela.text", "entries": 1},
    ),
    "another target": (
        lambda p: p.set_section(".rela.text", info=p.names.index(".data")),
        "relocation-changed",
        {"section": ".rela.text", "lost": 3},
    ),
    "a lost symbol": (
        _without_symbol,
        "symbol-changed",
        {"symbol": "counter", "lost": 1, "symbols_before": 12, "symbols_after": 11},
    ),
    "symbols of one name in another order": (
        lambda p: p.swap_symbols(p.row("counter"), p.row("counter") + 1),
        "symbol-changed",
        {"field": "binding, type, visibility, value or size"},
    ),
    "symbols in another order": (
        lambda p: p.swap_symbols(*_rows(p, "init_module", "printk")),
        "symbol-changed",
        {"symbol": "init_module", "field": "order", "symbols_before": 12, "symbols_after": 12},
    ),
    "a symbol's value": (
        lambda p: p.set_symbol(p.row("__crc_grown"), value=1),
        "symbol-changed",
        {"field": "binding, type, visibility, value or size"},
    ),
    "a symbol's visibility": (
        lambda p: p.set_symbol(p.row("helper"), other=2),
        "symbol-changed",
        {"field": "binding, type, visibility, value or size"},
    ),
    "an import that is none any more": (
        lambda p: p.set_symbol(p.row("maybe"), shndx=0xFFF1),
        "symbol-changed",
        {"field": "section"},
    ),
    "a group's flag": (
        lambda p: p.set_bytes(".group", 0, b"\0"),
        "dangling-reference",
        {"group": ".group", "field": "flags"},
    ),
    "a group's name": (
        lambda p: p.set_section(".group", info=p.row("helper")),
        "dangling-reference",
        {"group": ".group", "field": "signature"},
    ),
    "a group's members": (
        lambda p: p.set_bytes(".group", 4, bytes([p.names.index(".text")])),
        "dangling-reference",
        {"group": ".group", "field": "members"},
    ),
    "bytes behind the end": (
        lambda p: p.data.extend(b"?"),
        "trailing-bytes",
        {"before": 0, "after": 1},
    ),
}  # fmt: skip


def patient() -> Patient:
    """A stripped module with something of everything."""
    more = (Sec(".BTF", b"\x9f\xeb\1\0\0\0\0"), Sec(".ordered", b"1234", ALLOC | LINK_ORDER, link=".text"))
    return Patient(native_strip(shapes.module(AMD64, *more, *GROUPED, also=SIGNATURES)))


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_noticed(what: str) -> None:
    """Each change has the finding that the direct verifier has for it, and says what was lost."""
    change, id, told = CHANGES[what]
    before, after = patient(), patient()
    change(after)
    assert evidence(before, after, id) == told
    assert id in proven(before, after)


def test_everything_at_once() -> None:
    """One change does not hide another, and the largest loss comes first."""
    before, after = patient(), patient()
    for change, id, _ in CHANGES.values():
        if id not in {"header-changed", "relocation-symbol-lost"}:
            change(after)
    ids = {id for _, id, _ in CHANGES.values()} - {"header-changed", "relocation-symbol-lost"}
    assert set(changes(before, after)) == ids
    fuller = shapes.stripped(AMD64, Sec(".small", b"1"), Sec(".large", b"123"))
    lost = [dict(fault.evidence)["section"] for fault in compare(known(fuller), known(shapes.stripped()))]
    assert lost == [".large", ".small"]


MARKS = Sec(".ARM.attributes", b"A\x14\0\0\0aeabi\0")
VERSIONS = Sec(".comment", b"clang", key="clang")


def without(*keys: str) -> bytes:
    """A stripped module with all of these but some."""
    sections = [*shapes.basis(), VERSIONS, MARKS]
    return shapes.grow([s for s in sections if s.called not in keys], shapes.symbols())


def test_what_nobody_reads_may_be_gone() -> None:
    """As find-debuginfo leaves it; the direct verifier, which judges our own steps, lets nothing go."""
    after = without(".note.GNU-stack", ".ARM.attributes")
    assert changes(without(), after) == ["unread-lost"]
    assert evidence(without(), after, "unread-lost") == {"sections": ".note.GNU-stack .ARM.attributes", "bytes": 11}
    assert proven(without(), after) == ["section-changed"]
    after = without(".comment", "clang")
    assert evidence(without(), after, "unread-lost") == {"sections": ".comment .comment", "bytes": 24}


@pytest.mark.parametrize("gone", [PROGBITS, NOTE])
def test_one_of_two_marks_for_the_stack_may_be_gone(gone: int) -> None:
    """Kernel 7.x has one of each type, and eu-strip without -g takes just one of them."""
    marks = [Sec(".note.GNU-stack", type=type, key=str(type)) for type in (NOTE, PROGBITS)]
    rest = [section for section in shapes.basis() if section.name != ".note.GNU-stack"]
    both, one = ([*rest, *(mark for mark in marks if mark.type != other)] for other in (0, gone))
    before, after = (shapes.grow(sections, shapes.symbols()) for sections in (both, one))
    assert evidence(before, after, "unread-lost") == {"sections": ".note.GNU-stack", "bytes": 0}
    assert changes(before, after) == ["unread-lost"]
    assert changes(after, before) == ["section-changed"]


def test_what_nobody_reads_may_not_be_another() -> None:
    """Nor go in part, nor if it is loaded: then something else has happened than that it was left out."""
    assert changes(without(), Patient(without()).set_bytes(".ARM.attributes", 1, b"?")) == ["section-changed"]
    assert changes(without(), without("clang")) == ["section-changed"]
    loaded = shapes.stripped(AMD64, MARKS._replace(flags=ALLOC))
    assert changes(loaded, shapes.stripped()) == ["alloc-changed"]


@given(st.data())
@settings(max_examples=500)
def test_agrees_with_the_direct_verifier_on_any_flipped_bit(data: st.DataObject) -> None:
    """Two implementations of the obligations, one verdict; but for the build-id, which a record lets differ."""
    before = bytes(patient())
    after = Patient(before)
    note = after.section(".note.gnu.build-id", "offset") + 16
    at = data.draw(st.integers(0, len(before) - 1).filter(lambda at: not note <= at < note + 4))
    after.flip(at, 1 << data.draw(st.integers(0, 7)))
    try:
        now = known(after)
    except ModuleError:
        return  # a module that cannot be read has no facts; the run says why
    assert bool(compare(known(before), now)) == bool(proven(before, after)), at


# --- livepatch -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", shapes.LIVEPATCH_SHAPES)
def test_livepatch(shape: str) -> None:
    before = shapes.livepatch(shape)
    assert changes(before, native_strip(before)) == []
    was = known(before)
    assert was.livepatch
    assert was.klp_symbols == ".klp.sym.vmlinux.do_something,0"
    assert [(each.name, each.size) for each in was.klp_sections] == [(".klp.rela.vmlinux..text.patched", 24)]


@pytest.mark.parametrize("shape", shapes.LIVEPATCH_SHAPES)
def test_ruined_livepatch(shape: str) -> None:
    """As GNU strip leaves them: without the flag, or with relocations whose symbol is number 0."""
    before = native_strip(shapes.livepatch(shape))
    name = ".klp.rela.vmlinux..text.patched"
    unflagged = Patient(before).set_section(name, flags=ALLOC)
    assert evidence(before, unflagged, "livepatch-changed") == {"section": name, "size": 24}
    unnamed = Patient(before).set_relocation(name, 0, info=4)
    assert evidence(before, unnamed, "relocation-symbol-lost") == {"section": name, "entries": 1}
    moved = Patient(before)
    row = moved.row(".klp.sym.vmlinux.do_something,0")
    moved.set_symbol(row, shndx=0)
    lost = {"symbol": ".klp.sym.vmlinux.do_something,0", "before": 1, "after": 0}
    assert moved.symbol(row, "shndx") != LIVEPATCH
    assert evidence(before, moved, "livepatch-changed") == lost
    assert set(changes(before, moved)) == {"livepatch-changed", "symbol-changed", "relocation-changed"}


def test_writable_code_that_goes_with_debug_information() -> None:
    before = Patient(shapes.module(AMD64)).set_section(".debug_str", flags=WRITE | EXEC)
    assert known(before).risky == ".debug_str"
    assert changes(before, native_strip(bytes(before))) == []
    unnamed = Patient(native_strip(bytes(before)))
    unnamed.set_section(".comment", name=unnamed.section(0, "name"), flags=WRITE | EXEC)
    assert "section-changed" in changes(before, unnamed), "one without a name is noticed as what it is"


# --- odd and hostile -------------------------------------------------------------------------------------------------


def test_labels_count_but_are_not_listed() -> None:
    labels = (*(Sym(f".L{i}", ".text", i, bind=LOCAL) for i in range(9)), Sym("$x", ".text", bind=LOCAL))
    with_them, without = known(shapes.module(also=labels)).symbols, known(shapes.module()).symbols
    assert with_them.total == without.total + 10
    assert with_them.listing == without.listing
    assert ".LC0" not in without.listing
    assert evidence(shapes.module(also=labels), shapes.module(), "symbol-changed") == {
        "symbols_before": with_them.total, "symbols_after": without.total,
    }  # fmt: skip


def test_too_many_names_to_list(monkeypatch: pytest.MonkeyPatch) -> None:
    before = shapes.module()
    monkeypatch.setattr(facts_module, "NAMES_LIMIT", 40)
    assert known(before).symbols.listing == ""
    after = _without_symbol(Patient(before))
    assert evidence(before, after, "symbol-changed") == {"symbols_before": 11, "symbols_after": 10}


def test_table_read_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    data = shapes.module(AMD64, *GROUPED, also=SIGNATURES)
    whole = known(data)
    monkeypatch.setattr("pkghook.ko.symtab.CHUNK", 3)
    monkeypatch.setattr("pkghook.ko.facts.CHUNK", 3)
    monkeypatch.setattr("pkghook.ko.facts.STREAM", 5)
    assert known(data) == whole


def test_name_without_end() -> None:
    """Many symbols with one name of megabytes would take hours to hash."""
    long = Sym("x" * (2 * NAME_BLOCK), ".text", bind=LOCAL)
    with pytest.raises(ModuleError, match="bad-string-table"):
        known(shapes.module(also=(long,)))


def test_group_named_by_no_symbol() -> None:
    odd = Patient(native_strip(shapes.module(AMD64, *GROUPED, also=SIGNATURES))).set_section(".group", info=9999)
    with pytest.raises(ModuleError, match="bad-group"):
        facts(elf(bytes(odd)), plan(elf(bytes(patient()))))


def test_signature_is_kept_as_digest() -> None:
    found = known(shapes.module(), b"trailer")
    assert found.signature == 7
    assert len(found.signature_digest) == 64
    assert compare(found, known(shapes.module())) == ()  # judged apart
