"""`ko.stranger`: what is a module by its contents, and how little is read of what is none."""

from __future__ import annotations

import io
from random import Random

import pytest

from pkghook.ko import codec
from pkghook.ko.file import BytesImage
from pkghook.ko.stranger import Stranger, is_text
from pkghook.model import Compression
from tests import shapes
from tests.shapes import KINDS
from tests.surgery import Patient, native_strip

LIMIT = 1 << 24
PACKED = [how for how in Compression if how is not Compression.NONE]


def stranger(data: bytes | Patient, name: str = "driver.bin", limit: int = LIMIT) -> tuple[Stranger, int]:
    """What it is, and how many bytes were read of it."""
    whole = bytes(data)
    reader = io.BytesIO(whole)
    return Stranger(reader, len(whole), name, limit), reader.tell()


@pytest.mark.parametrize("kind", KINDS)
def test_modules_of_every_kind(kind: str) -> None:
    for data in (shapes.module(KINDS[kind]), native_strip(shapes.module(KINDS[kind]))):
        found, _ = stranger(data)
        assert found.module
        assert found.module.read(0, found.module.size) == data
        assert not found.program


@pytest.mark.parametrize("how", PACKED)
def test_compressed_ones_keep_their_wrapping(how: Compression) -> None:
    data = codec.compress(shapes.module() + bytes(1 << 20), how)
    found, _ = stranger(data)
    assert found.module
    assert found.module.read(0, found.module.size) == data


@pytest.mark.parametrize("how", PACKED)
def test_large_ones_show_themselves_by_their_first_bytes(how: Compression) -> None:
    """Of a file larger than what is looked at first, whatever is in the rest."""
    noise = Random(3).randbytes(1 << 20)  # noqa: S311  the same each time
    module = shapes.module(shapes.AMD64, shapes.Sec(".firmware", noise, shapes.ALLOC))
    data = codec.compress(module, how)
    assert len(data) > codec.PEEK
    found, _ = stranger(data)
    assert found.module


def test_not_yet_and_no_longer_modules() -> None:
    data = native_strip(shapes.module())
    half = Patient(data).set_section(".gnu.linkonce.this_module", type=shapes.NOBITS)  # a file of debug information
    unnamed = data.replace(b".gnu.linkonce.this_module\0", b".gnu.linkonce.that_module\0")  # an object on the way
    blind = Patient(data).set_section(".symtab", type=shapes.PROGBITS)
    broken = Patient(data).set_header(shnum=60000)
    for each in (half, unnamed, blind, broken):
        found, _ = stranger(each)
        assert (found.module, found.too_large, found.closed) == (None, False, "")
        assert found.program


def test_little_is_read_of_other_files() -> None:
    text = b"no module at all " * 100_000
    for data in (text, b"", b"x", Patient(shapes.module()).set_header(type=2), b"\x7fELF"):
        found, read = stranger(data)
        assert (found.module, found.closed) == (None, "")
        assert read <= 64
    for how in PACKED:
        found, read = stranger(codec.compress(Random(1).randbytes(1 << 20), how))  # noqa: S311
        assert found.module is None
        assert read <= codec.PEEK


@pytest.mark.parametrize("how", PACKED)
def test_damaged_ones_are_modules_that_are_damaged(how: Compression) -> None:
    noise = Random(3).randbytes(1 << 20)  # noqa: S311
    data = codec.compress(shapes.module(shapes.AMD64, shapes.Sec(".firmware", noise, shapes.ALLOC)), how)
    found, _ = stranger(data[:-9])
    assert found.module


def test_too_large_to_be_read() -> None:
    data = shapes.module()
    found, read = stranger(data, limit=len(data) - 1)
    assert (found.module, found.too_large, read) == (None, True, 64)
    found, _ = stranger(b"text" * 1000, limit=10)
    assert not found.too_large


KOREAN = "모듈이 아니라 글입니다.\n"


@pytest.mark.parametrize(
    "data", [KOREAN.encode(), KOREAN.encode("euc-kr"), b"\x1b$)C text\tof\r\nold", b"<html>" * 9999]
)
def test_texts(data: bytes) -> None:
    for how in Compression:
        assert is_text(BytesImage(codec.compress(data, how)))


@pytest.mark.parametrize(
    "data", [b"", bytes(64), shapes.module(), b"text\0", b"text" + bytes(99), b"\xfd7zXZ\0text", b"\x1f\x8b\x08 text"]
)
def test_no_texts(data: bytes) -> None:
    assert not is_text(BytesImage(data))


@pytest.mark.parametrize(
    ("head", "word"),
    [
        (b"BZh91AY", "bzip2"),
        (b"\x5d\0\0\x80\0", "lzma"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"\x02\x21\x4c\x18", "lz4"),
        (b"LZIP\1", "lzip"),
    ],
)
def test_compressions_that_nobody_loads(head: bytes, word: str) -> None:
    assert stranger(head + bytes(50), "x.ko.z")[0].closed == word
    assert stranger(head + bytes(50), "x.KO")[0].closed == word
    assert stranger(head + bytes(50), "x.koala.z")[0].closed == ""
    assert stranger(b"text", "x.ko.txt")[0].closed == ""


@pytest.mark.parametrize("outer", PACKED)
@pytest.mark.parametrize("inner", PACKED)
def test_compressed_twice(inner: Compression, outer: Compression) -> None:
    """Kernel and kmod undo one compression; of a file with another name nobody says anything."""
    noise = Random(3).randbytes(1 << 20)  # noqa: S311
    for module in (shapes.module(), shapes.module(shapes.AMD64, shapes.Sec(".firmware", noise, shapes.ALLOC))):
        data = codec.compress(codec.compress(module, inner), outer)
        found, read = stranger(data, f"x.ko{inner.suffix}{outer.suffix}")
        assert (found.module, found.closed) == (None, f"{inner.value} inside {outer.value}")
        assert read <= codec.PEEK
        assert stranger(data, "changelog.gz.xz")[0].closed == ""


@pytest.mark.parametrize("how", PACKED)
def test_foreign_compressions_inside_a_known_one(how: Compression) -> None:
    assert stranger(codec.compress(b"BZh91AY" + bytes(50), how), "x.ko.z")[0].closed == f"bzip2 inside {how.value}"
    for inside in (b"text", shapes.module()):
        assert stranger(codec.compress(inside, how), "x.ko.z")[0].closed == ""
