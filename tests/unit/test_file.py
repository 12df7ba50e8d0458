"""`ko.file`: unwrapping in the right order, by magic, with few reads; and every way it can fail."""

from __future__ import annotations

import os
import struct
from contextlib import contextmanager
from mmap import mmap
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkghook.errors import ModuleError
from pkghook.ko import codec, file
from pkghook.ko.signature import MARKER
from pkghook.model import Compression

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from mmap import mmap
from pathlib import Path

LIMIT = 1 << 24
ELF = b"\x7fELF" + bytes(range(200)) * 7
TRAILER = bytes(300) + struct.pack(">5B3xI", 0, 0, 2, 0, 0, 300) + MARKER


@contextmanager
def opened(data: bytes) -> Iterator[int]:
    """An open regular file without a name that has `data`."""
    fd = os.memfd_create("module")
    try:
        os.write(fd, data)
        yield fd
    finally:
        os.close(fd)


def error(data: bytes, name: str, limit: int = LIMIT) -> ModuleError:
    """The error that loading `data` raises."""
    with opened(data) as fd, pytest.raises(ModuleError) as caught:
        file.load(fd, name, limit=limit)
    return caught.value


@pytest.mark.parametrize("how", list(Compression))
@pytest.mark.parametrize("trailer", [b"", TRAILER])
@pytest.mark.parametrize("name", ["a.ko{}", "a.bin"])
def test_unwraps(how: Compression, trailer: bytes, name: str) -> None:
    data = codec.compress(ELF + trailer, how)
    with opened(data) as fd:
        module = file.load(fd, name.format(how.suffix), limit=LIMIT)
        assert (module.image.size, module.image.read(0, module.image.size)) == (len(ELF), ELF)
    assert (module.compression, module.file_size, module.trailer) == (how, len(data), trailer)
    assert (module.signature is not None) == bool(trailer)


def test_a_plain_module_costs_three_system_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, object]] = []

    def spy(name: str) -> None:
        real: Callable[..., object] = getattr(os, name)

        def call(*args: object) -> object:
            calls.append((name, *args[1:]))  # type: ignore[arg-type]
            return real(*args)

        monkeypatch.setattr(f"os.{name}", call)

    with opened(ELF) as fd:
        for name in ("fstat", "pread", "read", "lseek", "stat"):
            spy(name)
        file.load(fd, "a.ko", limit=LIMIT)
        monkeypatch.undo()
    assert calls == [("fstat",), ("pread", 6, 0), ("pread", 40, len(ELF) - 40)]


@pytest.mark.parametrize("named", list(Compression))
@pytest.mark.parametrize("how", list(Compression))
def test_name_and_contents(named: Compression, how: Compression) -> None:
    if named is how:
        return
    found = error(codec.compress(ELF, how), f"a.ko{named.suffix}")
    assert found.id == "name-content-mismatch"
    assert found.evidence == {"name": named.value, "contents": how.value}


@pytest.mark.parametrize("name", ["a.ko", "a.bin"])
@pytest.mark.parametrize("data", [b"\x7fEL", b"\x7f", b"#!/bin/sh\n", b"BZh9", bytes(100), b"\x28\xb5\x2f", MARKER])
def test_not_elf(name: str, data: bytes) -> None:
    found = error(data, name)
    assert found.id == "not-elf"
    assert found.evidence["starts_with"] == data[:6].hex(" ")


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
@pytest.mark.parametrize("data", [b"\x7fEL", b"\x1f", b"\xfd7zXZ", b"#!/bin/sh\n", b"BZh9", bytes(100), MARKER])
def test_compressed_by_name_and_no_magic(suffix: str, data: bytes) -> None:
    assert error(data, "a.ko" + suffix).id == "corrupt-compression"


@pytest.mark.parametrize("how", [Compression.GZIP, Compression.XZ, Compression.ZSTD])
def test_what_is_inside_must_be_elf(how: Compression) -> None:
    for inner in (b"", b"\x7fEL", b"hello", codec.compress(ELF, how)):
        assert error(codec.compress(inner, how), "a.ko" + how.suffix).id == "not-elf"


@pytest.mark.parametrize("name", ["a.ko", "a.ko.gz", "a.ko.xz", "a.ko.zst", "a.bin"])
def test_empty(name: str) -> None:
    assert error(b"", name).id == "empty-file"


@pytest.mark.parametrize("how", list(Compression))
def test_too_large(how: Compression) -> None:
    data = codec.compress(ELF, how)
    for limit in (len(data) - 1, len(ELF) - 1):
        assert error(data, "a.bin", limit).id == "too-large"


@pytest.mark.parametrize("how", list(Compression))
def test_a_signature_that_lies(how: Compression) -> None:
    lie = ELF + struct.pack(">5B3xI", 0, 0, 2, 0, 0, len(ELF)) + MARKER
    found = error(codec.compress(lie, how), "a.bin")
    assert found.id == "bad-signature"
    assert found.evidence["available"] == len(ELF)


def test_bytes_behind_the_compressed_file_are_no_signature() -> None:
    for how in (Compression.GZIP, Compression.XZ, Compression.ZSTD):
        assert error(codec.compress(ELF, how) + TRAILER, "a.ko" + how.suffix).id == "trailing-garbage"


def test_only_the_last_of_two_signatures_is_peeled() -> None:
    with opened(ELF + TRAILER * 2) as fd:
        module = file.load(fd, "a.ko", limit=LIMIT)
        assert module.image.read(0, module.image.size) == ELF + TRAILER


def test_not_regular(tmp_path: Path) -> None:
    fifo = tmp_path / "a.ko"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path, "/dev/null"):
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with pytest.raises(ModuleError, match="not-regular"):
            file.load(fd, "a.ko", limit=LIMIT)
        os.close(fd)


@settings(deadline=None)
@given(st.sampled_from(list(Compression)), st.data())
def test_any_truncation_raises(how: Compression, data: st.DataObject) -> None:
    packed = codec.compress(ELF + TRAILER, how)
    end = data.draw(st.integers(0, len(packed) - 1 if how is not Compression.NONE else 3))
    error(packed[:end], f"a.ko{how.suffix}")


NAMES = st.sampled_from(["a.ko", "a.ko.gz", "a.ko.xz", "a.ko.zst", "a.bin"])
HEADS = st.sampled_from([b"", b"\x7fELF", b"\x1f\x8b\x08\0", b"\xfd7zXZ\0\0\1", b"\x28\xb5\x2f\xfd"])


@settings(deadline=None)
@given(NAMES, HEADS, st.binary(max_size=200), st.sampled_from([b"", MARKER]))
def test_random_bytes_raise_nothing_but_module_errors(name: str, head: bytes, noise: bytes, tail: bytes) -> None:
    data = head + noise + tail
    with opened(data) as fd:
        try:
            module = file.load(fd, name, limit=LIMIT)
        except ModuleError:
            return
        assert module.image.size + len(module.trailer) >= len(b"\x7fELF")
        assert module.image.read(0, module.image.size)[:4] == b"\x7fELF"


# --- images ----------------------------------------------------------------------------------------------------------


def images(fd: int, data: bytes, size: int) -> list[file.Image]:
    """`size` bytes of `data`, which is in `fd` too, as each kind of image."""
    pages = mmap(-1, len(data) + 3)
    pages[3:] = data
    begin = max(0, len(data) - 6)
    ends = file.Ends(fd, len(data), data[:9], data[begin:], begin).first(size)
    return [file.FdImage(fd, size), file.BytesImage(data, size), file.Window(pages, 3, size), ends]


@pytest.mark.parametrize(("offset", "size"), [(0, 11), (10, 1), (11, 0), (-1, 1), (0, -1), (5, 2**62), (2**70, 1)])
def test_reads_outside(offset: int, size: int) -> None:
    with opened(bytes(20)) as fd:
        for image in images(fd, bytes(20), 10):
            with pytest.raises(ModuleError) as caught:
                image.read(offset, size)
            assert caught.value.id == "truncated"
            assert caught.value.evidence == {"offset": offset, "size": size, "available": 10}


@given(st.binary(max_size=50), st.integers(0, 50), st.integers(0, 50))
def test_all_images_read_alike(data: bytes, offset: int, size: int) -> None:
    with opened(data) as fd:
        for image in images(fd, data, len(data)):
            if offset + size <= len(data):
                assert image.read(offset, size) == data[offset : offset + size]
            else:
                with pytest.raises(ModuleError, match="truncated"):
                    image.read(offset, size)


def test_short_reads_are_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pread
    monkeypatch.setattr("os.pread", lambda fd, size, offset: real(fd, min(size, 7), offset))
    with opened(ELF) as fd:
        assert file.FdImage(fd, len(ELF)).read(3, 1000) == ELF[3:1003]


def test_a_file_that_became_shorter() -> None:
    with opened(ELF) as fd:
        image = file.load(fd, "a.ko", limit=LIMIT).image
        os.ftruncate(fd, 100)
        with pytest.raises(ModuleError, match=r"truncated, offset=50, size=100, available=100"):
            image.read(50, 100)


def test_a_read_error_of_the_system() -> None:
    # address 0 of a process is never mapped: reading it is the one EIO that any machine has
    fd = os.open("/proc/self/mem", os.O_RDONLY)
    try:
        with pytest.raises(ModuleError) as caught:
            file.FdImage(fd, 100).read(0, 4)
    finally:
        os.close(fd)
    assert caught.value.id == "unreadable"
    assert caught.value.evidence == {"error": os.strerror(5), "offset": 0, "size": 4}
