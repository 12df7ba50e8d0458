"""`ko.look`: what one look tells at either depth, and what stands when a module cannot be read to its end."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable

import pytest

from pkghook.ko import codec
from pkghook.ko.file import BytesImage
from pkghook.ko.look import Ask, look_at_fd, look_at_image
from pkghook.ko.plan import Drop
from pkghook.ko.signature import MARKER
from pkghook.model import Compression, Looked
from tests import shapes
from tests.messages import message
from tests.shapes import KINDS
from tests.surgery import Patient, native_strip

EVERY = pytest.mark.parametrize("kind", KINDS)
QUICK, FULL = Ask(tables=False), Ask()
MESSAGE = message(bytes(300))
TRAILER = MESSAGE + struct.pack(">5B3xI", 0, 0, 2, 0, 0, len(MESSAGE)) + MARKER
BLANK = Looked("lib/modules/6.1/x.ko", "6.1")


def look(data: bytes | Patient, ask: Ask = FULL, name: str = "x.ko") -> Looked:
    """As from a package, and, which has to give the same, as from a file."""
    whole = bytes(data)
    found = look_at_image(BytesImage(whole), name, BLANK, ask)
    fd = os.memfd_create("module")
    try:
        os.write(fd, whole)
        assert look_at_fd(fd, name, BLANK, ask) == found
    finally:
        os.close(fd)
    return found


def ids(found: Looked) -> list[str]:
    """Of its findings."""
    return [finding.id for finding in found.findings]


# --- sound modules ---------------------------------------------------------------------------------------------------


@EVERY
def test_bytes_to_be_had_are_what_native_frees(kind: str) -> None:
    data = shapes.module(KINDS[kind])
    stripped = native_strip(data)
    for ask in (QUICK, FULL):
        found = look(data, ask)
        assert ids(found) == ["unstripped"]
        assert (found.unstripped, found.image_size, found.expected) == (True, len(data), len(stripped))
        evidence = dict(found.findings[0].evidence)
        assert evidence["saving"] == found.saving == len(data) - len(stripped)
        assert evidence["sections"] == ".debug_info, .debug_abbrev, .debug_str"


@EVERY
def test_stripped_module_is_clean(kind: str) -> None:
    stripped = native_strip(shapes.module(KINDS[kind]))
    for ask in (QUICK, FULL):
        found = look(stripped, ask)
        assert (found.findings, found.unstripped, found.saving) == ((), False, 0)
        own_id = "01020304" if KINDS[kind].order == "<" else ""  # the note is little-endian
        assert (found.build_id, found.compression, found.signature) == (own_id, "none", "")


def test_labels_are_counted_by_the_deeper_look() -> None:
    data = native_strip(shapes.module())
    assert look(data, QUICK).label_bytes == 0
    assert look(data).label_bytes == len(data) - len(native_strip(data, Drop(labels=True))) > 0
    unstripped = shapes.module()
    without = native_strip(unstripped, Drop(labels=True))
    assert look(unstripped).label_bytes == len(native_strip(unstripped)) - len(without) > 0


@pytest.mark.parametrize("how", Compression)
def test_wrappings(how: Compression) -> None:
    inner = native_strip(shapes.module())
    data = codec.compress(inner + TRAILER, how)
    found = look(data, Ask(digests=True), f"x.ko{how.suffix}")
    assert found.findings == ()
    assert (found.compression, found.signature) == (how.value, "present")
    assert (found.file_size, found.image_size, found.expected) == (len(data), len(inner), len(inner))
    assert found.sha256 == hashlib.sha256(data).hexdigest()
    assert found.image_sha256 == hashlib.sha256(inner).hexdigest()
    plain = look(inner, Ask(digests=True))
    assert (plain.sha256, plain.image_sha256) == (found.image_sha256, "")


def test_signed_and_unstripped_says_both() -> None:
    found = look(shapes.module() + TRAILER)
    assert dict(found.findings[0].evidence)["signature"] == "present"


def test_a_signature_that_is_no_message() -> None:
    """The module inside is looked at all the same; other forms than PKCS#7 are not read."""
    inner = native_strip(shapes.module())
    for kind, known in ((2, ["bad-signature"]), (0, [])):
        found = look(inner + bytes(300) + struct.pack(">5B3xI", 0, 0, kind, 0, 0, 300) + MARKER)
        assert (ids(found), found.signature, found.image_size) == (known, "present", len(inner))


def test_livepatch_by_flag_by_modinfo_and_by_symbol() -> None:
    plain = native_strip(shapes.module())
    flagged = Patient(plain).set_section(".rela.text", flags=Patient(plain).section(".rela.text", "flags") | shapes.KLP)
    said = plain.replace(b"\0name=grown\0", b"\0livepatch=Y")
    named = Patient(plain)
    named.set_symbol(named.row("printk"), shndx=shapes.LIVEPATCH)
    assert not look(plain).livepatch
    for ask in (QUICK, FULL):
        assert look(flagged, ask).livepatch
        assert look(said, ask).livepatch
    assert look(named).livepatch


def test_btf_is_noticed() -> None:
    data = native_strip(shapes.module())
    assert not look(data).btf
    assert look(data.replace(b".data\0", b".BTF\0\0")).btf


# --- stripped too far ------------------------------------------------------------------------------------------------


def no_modinfo(patient: Patient) -> Patient:
    """The section has another name, as if it were another."""
    return Patient(bytes(patient).replace(b".modinfo\0", b".madinfo\0"))


def no_this_module(patient: Patient) -> Patient:
    """The section has no contents, as in a file of debug information."""
    return patient.set_section(".gnu.linkonce.this_module", type=shapes.NOBITS)


def no_symbols(patient: Patient) -> Patient:
    """As `strip` without options: no symbol table, and no relocations that could name one."""
    for index, name in enumerate(patient.names):
        if name.startswith(".rela"):
            patient.set_section(index, type=shapes.PROGBITS)
    return patient.set_section(".symtab", type=shapes.PROGBITS)


def no_relocations(patient: Patient) -> Patient:
    """All of them are gone."""
    for index, name in enumerate(patient.names):
        if name.startswith(".rela"):
            patient.set_section(index, type=shapes.PROGBITS)
    return patient


TOO_FAR: dict[str, Callable[[Patient], Patient]] = {
    "no-symbol-table": no_symbols,
    "no-relocations": no_relocations,
    "no-modinfo": no_modinfo,
    "no-this-module": no_this_module,
}


@pytest.mark.parametrize("id", TOO_FAR)
@pytest.mark.parametrize("ask", [QUICK, FULL])
def test_stripped_too_far(id: str, ask: Ask) -> None:
    assert id in ids(look(TOO_FAR[id](Patient(native_strip(shapes.module()))), ask))


def test_too_far_and_not_far_enough() -> None:
    """Both are told; what stripping would free is not known."""
    found = look(TOO_FAR["no-modinfo"](Patient(shapes.module())))
    assert ids(found) == ["no-modinfo", "unstripped"]
    assert "saving" not in dict(found.findings[1].evidence)
    assert found.unstripped


def test_a_module_without_code_needs_no_relocations() -> None:
    data = shapes.grow([s for s in shapes.basis() if not s.flags & shapes.EXEC and not s.relocations], [])
    assert "no-relocations" not in ids(look(data))


# --- damaged ---------------------------------------------------------------------------------------------------------


def test_what_was_seen_before_the_damage_stands() -> None:
    patient = Patient(shapes.module())
    patient.set_section(".rela.text", entsize=7)
    found = look(patient)
    assert ids(found) == ["unstripped", "bad-relocation"]
    assert (found.unstripped, found.machine, found.build_id) == (True, "x86-64", "01020304")
    assert "saving" not in dict(found.findings[0].evidence)


def test_not_read_so_deep_is_not_told() -> None:
    patient = Patient(native_strip(shapes.module()))
    patient.set_section(".rela.text", entsize=7)
    assert ids(look(patient, QUICK)) == []
    assert ids(look(patient, FULL)) == ["bad-relocation"]


@pytest.mark.parametrize(
    ("data", "name", "id"),
    [
        (b"", "x.ko", "empty-file"),
        (b"hello", "x.ko", "not-elf"),
        (b"\x7fELF" + bytes(100), "x.ko", "bad-header"),
        (b"\xfd7zXZ\0" + bytes(30), "x.ko.xz", "corrupt-compression"),
        (b"\xfd7zXZ\0" + bytes(30), "x.ko", "name-content-mismatch"),
        (shapes.module() + MARKER, "x.ko", "bad-signature"),
    ],
)
def test_files_that_are_no_modules(data: bytes, name: str, id: str) -> None:
    assert ids(look(data, FULL, name)) == [id]


def test_too_large_before_and_after_decompression() -> None:
    data = shapes.module()
    assert ids(look(data, Ask(limit=len(data) - 1))) == ["too-large"]
    packed = codec.compress(bytes(1 << 20), Compression.XZ)
    assert ids(look(packed, Ask(limit=1 << 16), "x.ko.xz")) == ["too-large"]


def test_a_reader_that_disagrees_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    from pkghook.ko import second

    right = second.ours
    monkeypatch.setattr(second, "ours", lambda parsed: right(parsed)._replace(machine=3))
    assert ids(look(native_strip(shapes.module()), Ask(second=True))) == ["readers-disagree"]
    assert ids(look(native_strip(shapes.module()), Ask(second=False))) == []
