"""`ko.plan` and `chain.native`: what goes, what stays, and a size that holds to the byte."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkghook.errors import ModuleError
from pkghook.ko import symbols as lists
from pkghook.ko.plan import DEBUG_ONLY, Drop, Plan, cut, is_livepatch, plan, saved_at_least
from pkghook.ko.prove import prove
from pkghook.ko.symtab import symbol_table
from tests import shapes
from tests.shapes import ABS, ALLOC, EXEC, IN_GROUP, KINDS, LOCAL, Rel, Sec, Sym
from tests.surgery import Patient, elf, native_strip

KIND = pytest.mark.parametrize("kind", KINDS)
LABELS = Drop(labels=True)


def planned(data: bytes | Patient, drop: Drop = DEBUG_ONLY) -> Plan:
    """The plan, after native has kept to it and the verifier has found nothing."""
    before = elf(bytes(data))
    found = plan(before, drop)
    out = native_strip(bytes(data), drop)
    assert len(out) == found.expected
    assert prove(before, elf(out), drop) == ()
    return found


def refused(data: bytes | Patient) -> str:
    """The finding id with which planning ends."""
    with pytest.raises(ModuleError) as caught:
        plan(elf(bytes(data)))
    return caught.value.id


def names(data: bytes | Patient, runs: tuple[tuple[int, int], ...]) -> list[str]:
    """Of the symbols in these runs."""
    return [Patient(bytes(data)).symbol_name(row) for start, end in runs for row in range(start, end)]


# --- what goes -------------------------------------------------------------------------------------------------------


@KIND
def test_stripping_gives_what_was_never_debugged(kind: str) -> None:
    """The module with debug information, stripped, is the one that was grown without it; but for FILE symbols."""
    with_it, without = shapes.module(KINDS[kind]), shapes.stripped(KINDS[kind])
    planned(with_it)
    assert prove(elf(without), elf(native_strip(with_it))) == ()
    assert native_strip(native_strip(with_it)) == native_strip(with_it)


@KIND
def test_what_is_counted(kind: str) -> None:
    data = shapes.module(KINDS[kind])
    found = planned(data)
    assert found.unstripped
    assert not found.livepatch
    rela = b".rela.debug_info" if KINDS[kind].rela else b".rel.debug_info"
    removed = [elf(data).sections[i].name for i in sorted(found.removed)]
    assert removed == [b".debug_info", rela, b".debug_abbrev", b".debug_str"]
    assert saved_at_least(elf(data), found) == sum(elf(data).sections[i].size for i in found.removed)
    assert (found.listed, found.labels) == ((), 0)
    assert found.expected < len(data) - saved_at_least(elf(data), found)


def test_symbols_that_go() -> None:
    """FILE symbols, section symbols that nothing refers to, and all that is defined in what goes."""
    named = Sym("named_in_debug", ".debug_str", 3, bind=LOCAL)
    data = shapes.module(also=(named, Sym("global_in_debug", ".debug_info", 1)))
    gone = names(data, planned(data).dropped)
    assert [name for name in gone if name] == ["grown.c", "named_in_debug", "global_in_debug"]
    kept = {symbol_table(elf(native_strip(data))).name(row) for row in range(1, Patient(native_strip(data)).count)}
    assert kept - {b""} == {s.name.encode() for s in shapes.symbols()} - {b"grown.c"}
    # the section symbols of .text and .rodata.str1.1: only the latter is named by a relocation that stays
    out = Patient(native_strip(data))
    sections = [out.symbol(row, "shndx") for row in out.rows() if out.symbol(row, "info") == shapes.SECTION]
    assert [out.names[index] for index in sections] == [".rodata.str1.1"]


def test_a_file_symbol_that_is_not_absolute_stays() -> None:
    data = shapes.module(also=(Sym("odd.c", ".text", bind=LOCAL, type=shapes.FILE),))
    assert "odd.c" not in names(data, planned(data).dropped)


def test_a_named_section_symbol_stays() -> None:
    data = shapes.module(also=(Sym("named", ".text", bind=LOCAL, type=shapes.SECTION),))
    assert "named" not in names(data, planned(data).dropped)


def test_nothing_goes_for_the_sake_of_file_symbols() -> None:
    data = shapes.stripped()
    found = planned(data)
    assert (found.unstripped, found.removed, found.dropped, found.expected) == (False, frozenset(), (), len(data))
    assert native_strip(data) == data


def test_empty_debug_sections_make_no_module_unstripped() -> None:
    assert not planned(shapes.stripped(shapes.AMD64, Sec(".debug_info"))).unstripped


def test_addrsig_goes_with_debug_information_only() -> None:
    signed = Sec(".llvm_addrsig", b"\1\2\3", 0x80000000, shapes.ADDRSIG, link="")
    assert not planned(shapes.stripped(shapes.AMD64, signed)).removed
    with_debug = shapes.module(shapes.AMD64, signed)
    assert b".llvm_addrsig" in [elf(with_debug).sections[i].name for i in planned(with_debug).removed]


def test_compressed_debug_sections() -> None:
    zipped = Sec(".debug_line", bytes(24) + b"\x78\x9c" * 20, shapes.COMPRESSED)
    data = shapes.module(shapes.AMD64, zipped)
    assert b".debug_line" in [elf(data).sections[i].name for i in planned(data).removed]


def test_sections_that_share_a_name() -> None:
    twice = (Sec(".note.GNU-stack", b"", key="second"), Sec(".text", b"\x90" * 8, ALLOC | EXEC, key="again"))
    planned(shapes.module(shapes.AMD64, *twice, also=(Sym("there", "again", 2), Sym("f", "again", 4, bind=LOCAL))))


@KIND
def test_arc_keeps_debug_frame_and_its_relocations(kind: str) -> None:
    frame = Sec(".debug_frame", bytes(16), relocations=(Rel(4, "@.text", 1),))
    data = shapes.module(KINDS[kind], frame)
    stayed = Patient(native_strip(data)).names
    assert (".debug_frame" in stayed) == (kind == "arc")
    planned(data)


def test_sections_without_alloc_that_this_module_refers_to() -> None:
    """m68k: .m68k_fixup is not loaded, and reached through symbols that relocations of this_module name."""
    fixup = Sec(".m68k_fixup", bytes(8), relocations=(Rel(4, "@.text", 1),))
    symbols = (Sym("__start_fixup", ".m68k_fixup"), Sym("__stop_fixup", ".m68k_fixup", 8))
    arch = Sec(".data.arch", bytes(8), ALLOC | 1, relocations=(Rel(0, "__start_fixup", 1), Rel(4, "__stop_fixup", 1)))
    data = shapes.module(KINDS["m68k"], fixup, arch, also=symbols)
    planned(data)
    assert Patient(native_strip(data)).contents(".m68k_fixup") == bytes(8)


# --- groups ----------------------------------------------------------------------------------------------------------


def group(*members: str, key: str = "", info: str = "helper") -> Sec:
    """A section group."""
    return Sec(".group", type=shapes.GROUP, align=4, entsize=4, info=info, members=members, key=key)


@pytest.mark.parametrize("kind", ["amd64", "s390x", "armel"])
def test_groups(kind: str) -> None:
    macro = [Sec(".debug_macro", b"m" * n, IN_GROUP, relocations=(Rel(0, "@.debug_str"),), key=f"m{n}") for n in (3, 4)]
    text = Sec(".text.f", b"\xc3", ALLOC | EXEC | IN_GROUP)
    groups = [group("m3", ".rela@m3"), group("m4", ".text.f", ".rela@m4", key="mixed"), group(".text.f", key="kept")]
    data = shapes.module(KINDS[kind], *groups, *macro, text)
    planned(data)
    out = Patient(native_strip(data))
    found = [index for index, name in enumerate(out.names) if name == ".group"]
    expected = [1, out.names.index(".text.f")]
    for index in found:
        assert list(struct.unpack(KINDS[kind].order + "II", out.contents(index))) == expected
        assert out.symbol_name(out.section(index, "info")) == "helper"
    assert len(found) == 2


@pytest.mark.parametrize("number", [5000, 1 << 31])
def test_a_group_signed_by_no_symbol(number: int) -> None:
    text = Sec(".text.f", b"\xc3", ALLOC | EXEC | IN_GROUP)
    patient = Patient(shapes.module(shapes.AMD64, group(".text.f"), text))
    assert refused(patient.set_section(".group", info=number)) == "bad-group"


def test_a_group_signed_by_a_symbol_that_goes() -> None:
    text = Sec(".text.f", b"\xc3", ALLOC | EXEC | IN_GROUP)
    signed = Sym("signature", ".debug_str", bind=LOCAL)
    data = shapes.module(shapes.AMD64, group(".text.f", info="signature"), text, also=(signed,))
    assert refused(data) == "proof-impossible"


# --- what cannot be --------------------------------------------------------------------------------------------------


def test_a_kept_relocation_that_names_debug_information() -> None:
    for symbol in ("@.debug_str", "in_debug"):
        kept = Sec(".data.x", bytes(8), ALLOC, relocations=(Rel(0, symbol),))
        data = shapes.module(shapes.AMD64, kept, also=(Sym("in_debug", ".debug_info", bind=LOCAL),))
        assert refused(data) == "proof-impossible"


def test_kept_relocations_that_apply_to_debug_information() -> None:
    data = Patient(shapes.module()).set_section(".rela.debug_info", flags=ALLOC | shapes.KLP)
    assert refused(data) == "proof-impossible"


@pytest.mark.parametrize("fields", [{"link": 16}, {"info": 16, "flags": shapes.INFO_LINK}])
def test_a_kept_section_that_links_to_debug_information(fields: dict[str, int]) -> None:
    data = Patient(shapes.module())
    assert data.names[16] == ".debug_str"
    assert refused(data.set_section(".comment", **fields)) == "proof-impossible"


@pytest.mark.parametrize("fields", [{"link": 90}, {"link": 1 << 31}, {"info": 90, "flags": shapes.INFO_LINK}])
def test_links_outside_the_module(fields: dict[str, int]) -> None:
    assert refused(Patient(shapes.module()).set_section(".comment", **fields)) == "bad-section"


def test_overlap() -> None:
    patient = Patient(shapes.module())
    text, table = patient.section(".text", "offset"), patient.header("shoff")
    for place in (0, 8, 63, text, text + 31, text - 7, table - 1, table, len(patient.data) - 8):
        assert refused(Patient(shapes.module()).set_section(".data", offset=place, size=8)) == "sections-overlap"
    for which in (".symtab", ".debug_str", ".strtab", ".shstrtab"):
        size = Patient(shapes.module()).section(which, "size")
        moved = Patient(shapes.module()).set_section(".data", offset=patient.section(which, "offset"), size=size)
        assert refused(moved) == "sections-overlap"
    assert refused(Patient(shapes.module()).set_header(shoff=text)) in {"sections-overlap", "bad-string-table"}


def test_empty_sections_overlap_nothing() -> None:
    patient = Patient(shapes.module())
    planned(patient.set_section(".note.GNU-stack", offset=patient.section(".text", "offset") + 5))


def test_one_table_for_all_names() -> None:
    """LLVM's assembler keeps the names of sections and symbols in one table."""
    data = shapes.module(one_string_table=True)
    assert elf(data).names_index == symbol_table(elf(data)).strtab.index
    planned(data)
    assert ".debug_info" not in Patient(native_strip(data)).names


# --- lists and labels ------------------------------------------------------------------------------------------------


def test_listed_symbols() -> None:
    drop = Drop(lists.parse(b"__UNIQUE_ID_*\n__crc_*\nhelper\nprintk\ncounter\n", "list"))
    data = shapes.module()
    found = planned(data, drop)
    # helper is named by a relocation, printk is undefined, __crc_grown absolute: all three stay
    listed = [Patient(data).symbol_name(row) for row in found.listed]
    assert listed == ["__UNIQUE_ID_license", "counter", "counter"]
    assert found.labels == 0
    assert found.expected < planned(data).expected
    assert len(planned(shapes.stripped(), drop).listed) == 3


def test_labels() -> None:
    also = (
        Sym(".L1", ".text", 3, bind=LOCAL),
        Sym(".Lused", ".text", 5, bind=LOCAL),
        Sym(".Lfunc", ".text", 5, bind=LOCAL, type=shapes.FUNC),
        Sym(".Lglobal", ".text", 5),
        Sym(".Labs", ABS, 5, bind=LOCAL),
        Sym("L1", ".text", 5, bind=LOCAL),
    )
    used = Sec(".data.x", bytes(8), ALLOC, relocations=(Rel(0, ".Lused"),))
    for data in (shapes.module(shapes.AMD64, used, also=also), shapes.stripped(shapes.AMD64, used, also=also)):
        found = planned(data, LABELS)
        assert found.labels == 2
        there = {
            Patient(native_strip(data, LABELS)).symbol_name(row) for row in Patient(native_strip(data, LABELS)).rows()
        }
        assert there.isdisjoint({".L1", ".LC0"})
        assert there >= {".Lused", ".Lfunc", ".Lglobal", ".Labs", "L1"}


def test_livepatch_modules_keep_their_labels() -> None:
    for shape in shapes.LIVEPATCH_SHAPES:
        assert planned(shapes.livepatch(shape), LABELS).labels == 0


# --- livepatch -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", shapes.LIVEPATCH_SHAPES)
def test_livepatch_shapes(shape: str) -> None:
    data = shapes.livepatch(shape)
    assert planned(data).livepatch
    out = Patient(native_strip(data))
    klp = ".klp.rela.vmlinux..text.patched"
    assert out.section(klp, "flags") == ALLOC | shapes.KLP
    row = out.target(klp, 0)
    assert (out.symbol_name(row), out.symbol(row, "shndx")) == (".klp.sym.vmlinux.do_something,0", 0xFF20)


def test_what_makes_a_livepatch_module() -> None:
    assert not is_livepatch(elf(shapes.module()))
    assert is_livepatch(elf(shapes.module(also=(Sym(".klp.sym.x.y,0", shapes.LIVEPATCH),))))
    patient = Patient(shapes.module())
    assert is_livepatch(elf(bytes(patient.set_section(".rela.text", flags=shapes.KLP))))
    assert is_livepatch(elf(bytes(Patient(shapes.module()).set_bytes(".modinfo", 0, b"livepatch=Y\0"))))
    assert not is_livepatch(elf(bytes(Patient(shapes.module()).set_bytes(".modinfo", 0, b"Xlivepatch=\0"))))


# --- strings ---------------------------------------------------------------------------------------------------------

WORDS = st.lists(st.binary(min_size=1, max_size=6).map(lambda b: b.replace(b"\0", b"x")), min_size=1, max_size=8)


@given(WORDS, st.data())
def test_cut_keeps_every_name_that_stays(words: list[bytes], data: st.DataObject) -> None:
    """Names may begin inside other names, as linkers like it."""
    table = b"\0" + b"".join(word + b"\0" for word in words)
    offsets = data.draw(st.lists(st.integers(0, len(table) - 1), max_size=12))
    dropped = sorted(data.draw(st.sets(st.integers(0, len(offsets) - 1))) if offsets else [])
    gone = {offsets[row] for row in dropped}
    found = cut(table, gone, {offset for row, offset in enumerate(offsets) if row not in dropped})
    left = b"".join(table[a:b] for a, b in found.runs)
    assert len(left) == found.size
    assert left[:1] == left[-1:] == b"\0"
    kept = [offset for row, offset in enumerate(offsets) if row not in dropped]
    for old, new in zip(kept, found.moved(kept), strict=True):
        assert table[old : table.index(b"\0", old)] == left[new : left.index(b"\0", new)]


def test_cut_leaves_unused_strings_alone() -> None:
    assert cut(b"\0unused\0gone\0stays\0", {8}, {13}).size == len(b"\0unused\0stays\0")
    assert cut(b"\0gone\0", set(), {1, 0}).size == 6


@given(st.sets(st.integers(1, 3999), max_size=3000), st.data())
def test_a_table_of_places_says_what_a_search_says(gone: set[int], data: st.DataObject) -> None:
    """Thousands of cuts: two-letter names, each cut or not."""
    table = b"\0" + b"ab\0" * 4000
    found = cut(table, {3 * n + 1 for n in gone}, {3 * n + 1 for n in range(4000) if n not in gone})
    offsets = [3 * n + 1 for n in data.draw(st.lists(st.integers(0, 3999))) if n not in gone]
    assert found.mover()(offsets) == found.moved(offsets)
