"""`ko.prove` on small modules: it accepts what is the same to the loader, and nothing else.

`tests.loader` is the second opinion.  Real modules are in tests/kernel/test_prove.py.
"""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pkghook.errors import ModuleError
from pkghook.ko.prove import prove
from tests import loader, shapes
from tests.shapes import ALLOC, IN_GROUP, KINDS, LINK_ORDER, LOCAL, Sec, Sym
from tests.surgery import SECTION_SIZE, Patient, elf, faults, native_strip

MORE = (
    Sec(".group", type=shapes.GROUP, align=4, entsize=4, info="helper", members=(".text.g", ".debug_g")),
    Sec(".text.g", b"\xc3", ALLOC | shapes.EXEC | IN_GROUP),
    Sec(".debug_g", b"dd", IN_GROUP),
    Sec(".note.GNU-stack", key="second"),
    Sec("__patchable_function_entries", bytes(8), ALLOC | LINK_ORDER, link=".text"),
)
BEFORE = {
    **{name: shapes.module(kind, *MORE) for name, kind in KINDS.items()},
    **{f"livepatch {name}": shapes.livepatch(name) for name in shapes.LIVEPATCH_SHAPES},
}
AFTER = {name: native_strip(data) for name, data in BEFORE.items()}


def judged(before: bytes, after: bytes) -> list[str]:
    """Finding ids, also of what cannot even be read."""
    try:
        return faults(before, after)
    except ModuleError as error:
        return [error.id]


@pytest.mark.parametrize("name", BEFORE)
def test_native_passes_and_both_opinions_agree(name: str) -> None:
    assert judged(BEFORE[name], AFTER[name]) == []
    assert loader.same(BEFORE[name], AFTER[name])


@pytest.mark.parametrize("name", BEFORE)
def test_unstripped_is_residue_for_a_step_and_the_same_module_for_the_loader(name: str) -> None:
    data, out = BEFORE[name], AFTER[name]
    assert "residue" in judged(data, data)
    assert not loader.same(data, data)
    for one in (data, out):
        for other in (data, out):
            assert prove(elf(one), elf(other), stripped=False) == ()


PLACES = st.tuples(st.sampled_from(["header", "table", "anywhere"]), st.integers(0, 1 << 20), st.integers(1, 255))


@settings(deadline=None, max_examples=1500)
@given(st.sampled_from(sorted(BEFORE)), st.lists(PLACES, min_size=1, max_size=2))
@example("amd64", [("table", 8 + 64 * 6, 4)])  # a flag alone
def test_every_flip_is_judged_as_the_loader_would(name: str, flips: list[tuple[str, int, int]]) -> None:
    out = bytearray(AFTER[name])
    table = Patient(AFTER[name]).header("shoff")
    for place, offset, mask in flips:
        start, size = {"header": (0, 64), "table": (table, len(out) - table)}.get(place, (0, len(out)))
        out[start + offset % size] ^= mask
    accepted = judged(BEFORE[name], bytes(out)) == []
    assert accepted == loader.same(BEFORE[name], bytes(out))
    # nor does anything but a ModuleError come out of it when it is the module before
    try:
        parsed = elf(bytes(out))
        reversed_ = prove(parsed, elf(BEFORE[name]), stripped=False)
    except ModuleError:
        return
    if accepted:
        assert reversed_ == ()


@pytest.mark.parametrize("name", ["amd64", "s390x", "armel", "mips64el"])
def test_where_a_flip_does_no_harm(name: str) -> None:
    """Of each byte of a stripped module: which ones the loader does not see, byte by byte."""
    out = AFTER[name]
    patient = Patient(out)
    table, size = patient.header("shoff"), SECTION_SIZE[patient.is64]
    harmless = set()
    for offset in range(len(out)):
        damaged = bytes(Patient(out).flip(offset, 0x40))
        if judged(BEFORE[name], damaged) == []:
            harmless.add(where(patient, offset, table, size))
    assert harmless <= HARMLESS


HARMLESS = {
    "padding",
    "header: phoff", "header: ehsize", "header: phentsize", "header: phnum",
    "section: addr", "section: info", "section: offset", "section: link", "section: flags", "section: align",
    "section: name", "section: entsize", "section 0",
    "empty or without contents: offset", "empty or without contents: size",
    "symbol",  # of a section, named by nothing
    "strings",  # which nobody uses
}  # fmt: skip


def where(patient: Patient, offset: int, table: int, size: int) -> str:
    """What lies at an offset."""
    from tests.surgery import HEADER, SECTION

    if offset < (64 if patient.is64 else 52):
        return "header: " + field_at(HEADER[patient.is64], offset)
    if offset >= table:
        index, at = divmod(offset - table, size)
        field = field_at(SECTION[patient.is64], at)
        if index == 0:
            return "section 0"
        empty = patient.section(index, "type") == shapes.NOBITS or not patient.section(index, "size")
        return f"empty or without contents: {field}" if empty and field in ("offset", "size") else f"section: {field}"
    for index in range(1, patient.header("shnum")):
        start = patient.section(index, "offset")
        if patient.section(index, "type") != shapes.NOBITS and start <= offset < start + patient.section(index, "size"):
            return {".symtab": "symbol", ".strtab": "strings", ".shstrtab": "strings"}.get(
                patient.names[index], "contents"
            )
    return "padding"


def field_at(fields: dict[str, tuple[int, str]], offset: int) -> str:
    """The field that covers an offset."""
    sizes = {"B": 1, "H": 2, "I": 4, "Q": 8}
    found = [name for name, (at, letter) in fields.items() if at <= offset < at + sizes[letter]]
    return found[0] if found else "ident"


# --- other machines, other classes -----------------------------------------------------------------------------------


def test_modules_of_different_machines() -> None:
    for one in KINDS:
        for other in KINDS:
            found = judged(BEFORE[one], AFTER[other])
            assert (found == []) == (one == other)
            assert found[:1] in ([], ["header-changed"])


# --- what may be added, and what may go or stay ----------------------------------------------------------------------

LINK = Sec(".gnu_debuglink", b"a.debug\0\1\2\3\4", align=4)
SIGNED = Sec(".llvm_addrsig", b"\1\2", 0x80000000, shapes.ADDRSIG)


def test_a_debuglink_where_a_debug_file_was_split_off() -> None:
    before, after = elf(shapes.module()), elf(shapes.stripped(shapes.AMD64, LINK))
    assert [f.id for f in prove(before, after)] == ["section-changed"]
    assert prove(before, after, debuglink=True) == ()
    assert [f.id for f in prove(after, before, stripped=False, debuglink=True)] == []
    loaded = elf(shapes.stripped(shapes.AMD64, LINK._replace(flags=ALLOC)))
    assert "alloc-changed" in [f.id for f in prove(before, loaded, debuglink=True)]
    other = elf(shapes.stripped(shapes.AMD64, LINK._replace(data=b"b.debug\0\1\2\3\4")))
    assert [f.id for f in prove(after, other, debuglink=True)] == ["section-changed"]
    assert [f.id for f in prove(after, elf(shapes.stripped()), debuglink=True)] == ["section-changed"]


def test_addrsig_may_go_or_stay_but_not_come() -> None:
    with_it, without = elf(shapes.stripped(shapes.AMD64, SIGNED)), elf(shapes.stripped())
    changed = elf(shapes.stripped(shapes.AMD64, SIGNED._replace(data=b"\7")))
    assert prove(with_it, without) == prove(with_it, with_it) == prove(with_it, changed) == ()
    assert [f.id for f in prove(without, with_it)] == ["section-changed"]
    assert prove(without, with_it, stripped=False) == ()


@pytest.mark.parametrize(
    "name", [".BTF", ".BTF.base", ".comment", ".note.Linux", ".gnu_debuglink", ".m68k_fixup", ".ctf"]
)
def test_what_is_never_residue_must_stay(name: str) -> None:
    there = shapes.module(shapes.AMD64, Sec(name, b"contents", key="x"))
    assert judged(there, shapes.stripped(shapes.AMD64, Sec(name, b"contents", key="x"))) == []
    assert judged(there, shapes.stripped()) == ["section-changed"]
    assert judged(there, shapes.stripped(shapes.AMD64, Sec(name, b"c0ntents", key="x"))) == ["section-changed"]
    assert judged(shapes.module(), shapes.stripped(shapes.AMD64, Sec(name, b"contents", key="x"))) == [
        "section-changed"
    ]


@pytest.mark.parametrize("data", [b"", b"\1\0\0\0"])
def test_an_emptied_group_is_no_result(data: bytes) -> None:
    """What llvm-strip 14 leaves of the groups of `gcc -g3`, and with which `nm` cannot read the file."""
    macro = Sec(".debug_macro", b"m", IN_GROUP)
    whole = Sec(".group", type=shapes.GROUP, align=4, entsize=4, info="helper", members=(".debug_macro",))
    before = shapes.module(shapes.AMD64, whole, macro)
    empty = Sec(".group", b"\1\0\0\0", 0, shapes.GROUP, 4, 4, info="helper")
    after = Patient(shapes.stripped(shapes.AMD64, empty)).set_section(".group", size=len(data))
    assert judged(before, bytes(after)) == (["section-changed"] if data else ["table-broken"])


def test_a_group_with_a_member_too_few() -> None:
    def grown(*members: str) -> bytes:
        group = Sec(".group", type=shapes.GROUP, align=4, entsize=4, info="helper", members=members)
        return shapes.stripped(shapes.AMD64, group, *(Sec(f".text.{n}", b"\xc3", ALLOC | IN_GROUP) for n in "ab"))

    assert judged(grown(".text.a", ".text.b"), grown(".text.a")) == ["dangling-reference"]
    assert judged(grown(".text.a"), grown(".text.b")) == ["dangling-reference"]
    assert judged(grown(".text.a"), grown(".text.a", ".text.a")) == ["dangling-reference"]
    assert judged(grown(".text.a"), bytes(Patient(grown(".text.a")).set_section(".group", info=1))) == [
        "dangling-reference"
    ]
    assert judged(grown(".text.a"), bytes(Patient(grown(".text.a")).set_section(".group", info=900))) == [
        "dangling-reference"
    ]
    assert judged(grown(".text.a"), bytes(Patient(grown(".text.a")).set_section(".group", link=1))) == [
        "dangling-reference"
    ]


def test_a_link_to_another_section() -> None:
    out = Patient(AFTER["amd64"])
    assert judged(BEFORE["amd64"], bytes(out.set_section("__patchable_function_entries", link=3))) == [
        "dangling-reference"
    ]


def test_references_to_debug_information_that_both_have() -> None:
    """No step may strip such a module, but it can be compared."""
    refers = Sec(".data.x", bytes(8), ALLOC, relocations=(shapes.Rel(0, "@.debug_str"),))
    data = shapes.module(shapes.AMD64, refers)
    assert prove(elf(data), elf(data), stripped=False) == ()
    other = shapes.module(shapes.AMD64, refers._replace(relocations=(shapes.Rel(0, "@.debug_abbrev"),)))
    assert [f.id for f in prove(elf(data), elf(other), stripped=False)] == ["relocation-changed"]
    without = shapes.stripped(shapes.AMD64, refers._replace(relocations=(shapes.Rel(0, "@.data"),)))
    assert [f.id for f in prove(elf(data), elf(without), stripped=False)] == ["relocation-changed"]


@pytest.mark.parametrize("which", [".symtab", ".rela.text"])
def test_tables_at_odd_offsets(which: str) -> None:
    """The kernel reads them where they lie, and not every machine can do that at any address."""
    out = Patient(AFTER["amd64"])
    place = len(out.data) + 3
    out.data += bytes(3) + out.contents(which) + bytes(5)
    out.data += out.data[out.header("shoff") : out.header("shoff") + 64 * out.header("shnum")]
    out.set_header(shoff=len(out.data) - 64 * out.header("shnum"))
    assert judged(BEFORE["amd64"], bytes(out.set_section(which, offset=place))) == ["table-broken"]
    assert not loader.same(BEFORE["amd64"], bytes(out))


def test_a_relocation_section_that_is_none_any_more() -> None:
    out = Patient(AFTER["amd64"])
    assert "relocation-changed" in judged(BEFORE["amd64"], bytes(out.set_section(".rela.text", type=1)))


def test_relocation_sections_of_one_target_keep_their_order() -> None:
    """Of livepatch shape (a): the ordinary one is applied when the module is loaded, the other later."""
    data = BEFORE["livepatch a"]
    out = Patient(AFTER["livepatch a"])
    one, other = out.names.index(".rela.text.patched"), out.names.index(".klp.rela.vmlinux..text.patched")
    size, at = 64, out.at(0)
    a, b = at + one * size, at + other * size
    out.data[a : a + size], out.data[b : b + size] = out.data[b : b + size], out.data[a : a + size]
    assert "relocation-changed" in judged(data, bytes(out))


def test_of_two_groups_of_one_name_the_first_goes() -> None:
    """The other is the first then, to both judges."""
    gone = Sec(".group", type=shapes.GROUP, align=4, entsize=4, info="helper", members=(".debug_g",), key="gone")
    before = shapes.module(shapes.AMD64, gone, *MORE)
    out = native_strip(before)
    assert Patient(out).names.count(".group") == 1
    assert judged(before, out) == []
    assert loader.same(before, out)


def test_a_symbol_of_what_is_stale_anyway_goes_with_it() -> None:
    signs = Sec(".llvm_addrsig", b"\1\2", type=shapes.ADDRSIG, link=".text")
    before = shapes.module(shapes.AMD64, signs, also=(Sym("odd", ".llvm_addrsig", bind=LOCAL),))
    out = native_strip(before)
    assert b"odd" not in out
    assert judged(before, out) == []
    assert loader.same(before, out)


def test_a_symbol_that_becomes_a_livepatch_symbol() -> None:
    """Where relocations alone made it a livepatch module: there is no name before that could be told."""
    before = Patient(BEFORE["livepatch a"])
    row = before.row(".klp.sym.vmlinux.do_something,0")
    before.set_symbol(row, shndx=0)
    out = Patient(native_strip(bytes(before)))
    out.set_symbol(out.row(".klp.sym.vmlinux.do_something,0"), shndx=shapes.LIVEPATCH)
    found = {fault.id: dict(fault.evidence) for fault in prove(elf(bytes(before)), elf(bytes(out)))}
    assert found["livepatch-changed"] == {"symbol": ".klp.sym.vmlinux.do_something,0", "before": 0, "after": 1}


def test_many_faults_do_not_take_for_ever() -> None:
    """Each relocation is looked at once, however many of them are wrong."""
    number = 20_000
    symbols = [Sym(f"s{n}", ".text", n % 32, bind=LOCAL) for n in range(number + 1)]
    rels = tuple(shapes.Rel(n, f"s{n}") for n in range(number))
    sections = [Sec(".text", bytes(32), ALLOC | shapes.EXEC), Sec(".data", bytes(number), ALLOC, relocations=rels)]
    before = shapes.grow(sections, symbols)
    patient = Patient(before)
    for entry in range(number):
        at = patient.entry_at(".rela.data", entry) + 12
        patient.data[at : at + 4] = (int.from_bytes(patient.data[at : at + 4], "little") + 1).to_bytes(4, "little")
    found = prove(elf(before), elf(bytes(patient)))
    assert [f.id for f in found] == ["relocation-changed"] * number
    assert dict(found[7].evidence) == {"section": ".rela.data", "entry": 7, "symbol": "s7", "after": "s8"}
