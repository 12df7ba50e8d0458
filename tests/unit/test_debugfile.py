"""`ko.debugfile` and `ko.debuglink` on modules of every class, byte order and odd shape."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import pytest

from pkghook.errors import ModuleError
from pkghook.ko import debuglink
from pkghook.ko.debugfile import Outline, Span, check, outline, render
from pkghook.ko.elf import Elf
from pkghook.ko.file import BytesImage
from pkghook.ko.plan import plan
from pkghook.ko.prove import prove
from tests import shapes
from tests.shapes import ALLOC, GROUP, IN_GROUP, KINDS, Kind, Rel, Sec
from tests.surgery import Patient, elf, native_strip

EXTRA = (
    Sec(".gnu_debugaltlink", b"dwz.debug\0" + bytes(20)),
    Sec(".BTF", b"\x9f\xeb\1\0" * 4),
)
LINK = debuglink.contents("a.debug", zlib.crc32(b"debug file"), "<")


def written(module: Elf) -> bytes:
    """The debug file of a module."""
    made = outline(module, plan(module).removed)
    pieces = [
        module.image.read(piece.offset, piece.size) if isinstance(piece, Span) else piece
        for piece in render(module, made)
    ]
    data = b"".join(pieces)
    assert len(data) == made.size
    return data


def refusal(before: bytes, debug: bytes | Patient) -> Mapping[str, object]:
    """Why a file is not the debug file of a module."""
    with pytest.raises(ModuleError) as caught:
        check(elf(before), BytesImage(bytes(debug)))
    assert caught.value.id == "debug-file-broken"
    return caught.value.evidence


@pytest.fixture(params=KINDS.values(), ids=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each machine that has something of its own."""
    found: Kind = request.param
    return found


def test_what_it_has_and_what_not(kind: Kind) -> None:
    before = shapes.module(kind, *EXTRA)
    debug = written(elf(before))
    check(elf(before), BytesImage(debug))
    old, new = Patient(before), Patient(debug)
    assert new.names == old.names
    for number, name in enumerate(old.names):
        same = [old.section(number, field) == new.section(number, field) for field in ("size", "flags", "link", "info")]
        assert all(same), name
        if any(part in name for part in (".debug", ".symtab", "strtab", ".note.gnu", "altlink")):
            assert new.contents(number) == old.contents(number), name
        elif number:
            assert new.section(number, "type") == shapes.NOBITS, name
    assert len(debug) < len(before)


def test_groups_keep_their_members() -> None:
    group = Sec(".group", b"", 0, GROUP, 4, 4, members=(".debug_macro",))
    macro = Sec(".debug_macro", b"macro", IN_GROUP, relocations=(Rel(0, "@.text"),))
    before = shapes.module(shapes.AMD64, macro, group)
    debug = written(elf(before))
    check(elf(before), BytesImage(debug))
    assert Patient(debug).contents(".group") == Patient(before).contents(".group")


def test_one_string_table_for_both() -> None:
    """As LLVM writes it."""
    before = shapes.module(one_string_table=True)
    debug = written(elf(before))
    check(elf(before), BytesImage(debug))
    stripped = native_strip(before)
    linked = b"".join(debuglink.linked(elf(stripped), LINK))
    assert prove(elf(before), elf(linked), debuglink=True) == ()
    assert len(linked) == debuglink.expected(elf(before), plan(elf(before)), LINK)


def test_a_file_that_was_changed_anywhere_is_refused() -> None:
    """Each single byte of it, but for padding."""
    before = shapes.module(shapes.AMD64, *EXTRA)
    debug = written(elf(before))
    padding = _padding(Patient(debug))
    for at in range(len(debug)):
        if at not in padding:
            refusal(before, Patient(debug).flip(at))


def _padding(debug: Patient) -> set[int]:
    """Bytes of no section and no table, fields of the header that nobody reads, and offsets of outlines."""
    data = bytes(debug)
    free = set(range(64, len(data)))
    for number in range(debug.header("shnum")):
        offset, size = debug.section(number, "offset"), debug.section(number, "size")
        if debug.section(number, "type") != shapes.NOBITS:
            free -= set(range(offset, offset + size))
        row = debug.header("shoff") + 64 * number
        own = (
            set(range(row + 24, row + 32)) if debug.section(number, "type") in (shapes.NOBITS, 0) or not size else set()
        )
        free -= set(range(row, row + 64)) - own
    return free | set(range(32, 40)) | set(range(56, 58))  # e_phoff and e_phnum: there are none


@pytest.mark.parametrize("name", [".debug_info", ".symtab", ".strtab", ".note.gnu.build-id", ".rela.debug_info"])
def test_an_outline_where_bytes_are_needed(name: str) -> None:
    before = shapes.module(shapes.AMD64, *EXTRA)
    debug = Patient(written(elf(before)))
    assert name in debug.names
    assert refusal(before, debug.set_section(name, type=shapes.NOBITS))


def test_of_another_module() -> None:
    before, other = shapes.module(), shapes.module(shapes.KINDS["s390x"])
    refusal(before, written(elf(other)))
    refusal(before, before + b"\0")
    refusal(before, b"")
    refusal(before, written(elf(before)) + b"garbage")
    check(elf(before), BytesImage(before))  # which has all that a debug file has


# --- the link --------------------------------------------------------------------------------------------------------


def test_contents() -> None:
    assert debuglink.contents("x.debug", 0x12345678, "<") == b"x.debug\0\x78\x56\x34\x12"
    assert debuglink.contents("xyz.debug", 0x12345678, ">") == b"xyz.debug\0\0\0\x12\x34\x56\x78"
    assert debuglink.contents("caf\udce9", 0, "<") == b"caf\xe9\0\0\0\0\0\0\0\0"


def test_linked_is_the_same_module(kind: Kind) -> None:
    before = shapes.module(kind, *EXTRA)
    planned = plan(elf(before))
    linked = b"".join(debuglink.linked(elf(native_strip(before)), LINK))
    assert prove(elf(before), elf(linked), debuglink=True) == ()
    assert [fault.id for fault in prove(elf(before), elf(linked))] == ["section-changed"]
    assert list(debuglink.faults(elf(linked), LINK)) == []
    assert len(linked) == debuglink.expected(elf(before), planned, LINK)
    patient = Patient(linked)
    assert patient.names[-1] == ".gnu_debuglink"
    assert patient.section(".gnu_debuglink", "offset") % 4 == 0
    assert patient.contents(".gnu_debuglink") == LINK


@pytest.mark.parametrize("tail", [b"", b"bytes behind the ELF file"])
def test_bytes_behind_stay_behind(tail: bytes) -> None:
    before = shapes.module() + tail
    linked = b"".join(debuglink.linked(elf(native_strip(before)), LINK))
    assert linked.endswith(tail)
    assert prove(elf(before), elf(linked), debuglink=True) == ()
    assert len(linked) == debuglink.expected(elf(before), plan(elf(before)), LINK)


def test_a_wrong_link_is_refused() -> None:
    stripped = native_strip(shapes.module())
    linked = b"".join(debuglink.linked(elf(stripped), LINK))
    assert [fault.id for fault in debuglink.faults(elf(stripped), LINK)] == ["section-changed"]
    assert [fault.id for fault in debuglink.faults(elf(linked), LINK[:-1] + bytes([LINK[-1] ^ 1]))] == [
        "section-changed"
    ]
    for change in ({"flags": ALLOC}, {"type": shapes.NOTE}):
        spoilt = bytes(Patient(linked).set_section(".gnu_debuglink", **change))
        assert [fault.id for fault in debuglink.faults(elf(spoilt), LINK)] == ["section-changed"]


def test_no_second_link() -> None:
    linked = b"".join(debuglink.linked(elf(native_strip(shapes.module())), LINK))
    with pytest.raises(ModuleError) as caught:
        debuglink.linked(elf(linked), LINK)
    assert caught.value.id == "debug-file-failed"


def test_no_room_for_a_section_more() -> None:
    full = elf(shapes.many_sections(0xFEFF))
    with pytest.raises(ModuleError) as caught:
        debuglink.linked(full, LINK)
    assert caught.value.id == "too-many-sections"
    assert isinstance(outline(full, frozenset()), Outline)
