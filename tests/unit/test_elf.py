"""`ko.elf`: header and section headers, read as another reader reads them; and every way they can be wrong."""

from __future__ import annotations

import io

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from pkghook.errors import ModuleError
from pkghook.ko.elf import parse
from pkghook.ko.file import BytesImage
from pkghook.ko.plan import plan
from pkghook.ko.prove import prove
from tests import shapes
from tests.shapes import KINDS, Sec
from tests.surgery import Patient, elf, native_strip

GROUP = Sec(".group", type=shapes.GROUP, align=4, entsize=4, info="helper", members=(".text.g", ".debug_g"))
MEMBERS = (GROUP, Sec(".text.g", b"\xc3", 0x206), Sec(".debug_g", b"dd", 0x200))
KIND = pytest.mark.parametrize("kind", KINDS)


def refused(data: bytes) -> str:
    """The finding id with which parsing ends."""
    with pytest.raises(ModuleError) as caught:
        elf(data)
    return caught.value.id


@KIND
def test_agrees_with_another_reader(kind: str) -> None:
    data = shapes.module(KINDS[kind], *MEMBERS)
    ours, theirs = elf(data), ELFFile(io.BytesIO(data))
    assert (ours.is64, ours.machine, ours.flags) == (theirs.elfclass == 64, KINDS[kind].machine, theirs["e_flags"])
    assert ours.shoff == theirs["e_shoff"]
    assert len(ours.sections) == theirs.num_sections()
    for one, other in zip(ours.sections, theirs.iter_sections(), strict=True):
        header = other.header
        fields = ("sh_flags", "sh_addr", "sh_offset", "sh_size", "sh_link", "sh_info", "sh_addralign", "sh_entsize")
        assert one.name.decode() == other.name
        assert one[3:] == tuple(header[field] for field in fields)
        if one.size:
            assert ours.read(one) == (b"" if one.type == shapes.NOBITS else other.data())


@KIND
def test_ends(kind: str) -> None:
    data = shapes.module(KINDS[kind])
    assert elf(data).end == elf(data + b"behind").end == len(data)


def test_sections_that_share_a_name_are_told_apart_by_index() -> None:
    parsed = elf(shapes.module(KINDS["amd64"], Sec(".note.GNU-stack", key="second")))
    assert [s.index for s in parsed.sections if s.name == b".note.GNU-stack"] == [12, 17]


@pytest.mark.parametrize(("length", "id"), [(0, "not-elf"), (3, "truncated"), (16, "truncated"), (40, "truncated")])
def test_what_is_shorter_than_a_header(length: int, id: str) -> None:
    assert refused(shapes.module()[:length]) == id


def test_not_elf() -> None:
    assert refused(b"\x7fELG" + shapes.module()[4:]) == "not-elf"
    assert refused(b"!<arch>\n" + bytes(100)) == "not-elf"


@KIND
def test_truncated_at_every_byte(kind: str) -> None:
    data = shapes.module(KINDS[kind], *MEMBERS)
    for length in range(len(data)):
        with pytest.raises(ModuleError):
            parse(BytesImage(data, length))


@pytest.mark.parametrize("field", [4, 5, 6])
def test_identification(field: int) -> None:
    for value in {0, 3, 255} - {shapes.module()[field]}:
        assert refused(bytes(Patient(shapes.module()).flip(field, shapes.module()[field] ^ value))) == "bad-header"


def test_the_other_class_or_byte_order() -> None:
    for kind in KINDS.values():
        for field in (4, 5):
            with pytest.raises(ModuleError):
                elf(bytes(Patient(shapes.module(kind)).flip(field, 3)))


@pytest.mark.parametrize(
    ("fields", "id"),
    [
        ({"type": 2}, "not-relocatable"),
        ({"type": 3}, "not-relocatable"),
        ({"type": 4}, "not-relocatable"),
        ({"version": 0}, "bad-header"),
        ({"version": 2}, "bad-header"),
        ({"shoff": 0}, "bad-header"),
        ({"shentsize": 40}, "bad-header"),
        ({"shentsize": 0}, "bad-header"),
        ({"shstrndx": 0}, "bad-header"),
        ({"shstrndx": 200}, "bad-header"),
        ({"shstrndx": 0xFFFF}, "too-many-sections"),
        ({"shnum": 0}, "too-many-sections"),
        ({"shnum": 0xFF00}, "too-many-sections"),
        ({"shnum": 500}, "section-outside-file"),
        ({"shoff": 1 << 40}, "section-outside-file"),
        ({"shoff": (1 << 64) - 1}, "section-outside-file"),
        ({"shstrndx": 1}, "bad-string-table"),
    ],
)
def test_header_fields(fields: dict[str, int], id: str) -> None:
    assert refused(bytes(Patient(shapes.module()).set_header(**fields))) == id


@pytest.mark.parametrize(
    ("which", "fields", "id"),
    [
        (".text", {"offset": 1 << 40}, "section-outside-file"),
        (".text", {"size": 1 << 40}, "section-outside-file"),
        (".text", {"size": (1 << 64) - 1}, "section-outside-file"),
        (".debug_info", {"offset": (1 << 64) - 1}, "section-outside-file"),
        (".debug_info", {"size": 1 << 63}, "section-outside-file"),
        (".text", {"align": 3}, "bad-section"),
        (".debug_str", {"align": (1 << 63) + 1}, "bad-section"),
        (".text", {"name": 1 << 31}, "bad-string-table"),
        (".shstrtab", {"type": 1}, "bad-string-table"),
        (".shstrtab", {"size": 0}, "bad-string-table"),
        (".shstrtab", {"size": 1 << 40}, "section-outside-file"),
        (".shstrtab", {"offset": 1 << 40}, "section-outside-file"),
        (0, {"type": 1}, "section-rule"),
        (0, {"size": 70000}, "section-rule"),
        (0, {"addr": 1}, "section-rule"),
    ],
)
def test_section_fields(which: int | str, fields: dict[str, int], id: str) -> None:
    assert refused(bytes(Patient(shapes.module()).set_section(which, **fields))) == id


def test_section_names_without_an_end() -> None:
    patient = Patient(shapes.module())
    size = patient.section(".shstrtab", "size")
    assert refused(bytes(patient.set_bytes(".shstrtab", size - 1, b"x"))) == "bad-string-table"


def test_a_section_without_contents_may_lie_anywhere() -> None:
    for which, fields in (
        (".bss", {"offset": 1 << 60}),
        (".bss", {"size": 1 << 60}),
        (".note.GNU-stack", {"offset": 5}),
    ):
        data = bytes(Patient(shapes.module()).set_section(which, **fields))
        parsed = elf(data)
        assert parsed.end == len(data)
        assert len(native_strip(data)) == plan(parsed).expected
        assert prove(parsed, elf(native_strip(data))) == ()


def test_a_null_section_has_no_contents_whatever_it_says() -> None:
    data = bytes(Patient(shapes.module()).set_section(".note.GNU-stack", type=0, offset=1 << 50, size=1 << 50))
    parsed = elf(data)
    assert parsed.end == len(data)
    assert len(native_strip(data)) == plan(parsed).expected
    assert prove(parsed, elf(native_strip(data))) == ()


def test_as_many_sections_as_there_can_be_and_one_more() -> None:
    data = shapes.many_sections(0xFEFF)
    parsed = elf(data)
    assert len(parsed.sections) == 65279
    out = native_strip(data)
    assert len(out) == plan(parsed).expected
    assert prove(parsed, elf(out)) == ()
    assert refused(shapes.many_sections(0xFF00)) == "too-many-sections"


OFFSETS = st.one_of(st.integers(0, 63), st.integers(0, 10_000))


@settings(deadline=None, max_examples=500)
@given(st.sampled_from(sorted(KINDS)), st.lists(st.tuples(OFFSETS, st.integers(0, 255)), max_size=4), st.data())
def test_flipped_bytes_raise_nothing_but_module_errors(
    kind: str, changes: list[tuple[int, int]], draw: st.DataObject
) -> None:
    data = bytearray(shapes.module(KINDS[kind], *MEMBERS))
    table = Patient(bytes(data)).header("shoff")
    at = draw.draw(st.integers(table, len(data) - 1))
    for offset, value in [*changes, (at, draw.draw(st.integers(0, 255)))]:
        data[offset % len(data)] = value
    try:
        parsed = elf(bytes(data))
        found = plan(parsed)
        out = native_strip(bytes(data))
    except ModuleError:
        return
    assert len(out) == found.expected
    prove(parsed, elf(out))
