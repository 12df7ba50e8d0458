"""`ko.wrapping`: how exactly something is compressed, also where headers lie."""

from __future__ import annotations

import gzip
import lzma
from itertools import product

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pkghook.errors import ModuleError
from pkghook.ko import codec, wrapping
from pkghook.model import Compression

DATA = bytes(range(256)) * 400
LIMIT = 1 << 30
CHECKS = {lzma.CHECK_NONE: 0, lzma.CHECK_CRC32: 1, lzma.CHECK_CRC64: 4, lzma.CHECK_SHA256: 10}


def xz(check: int = lzma.CHECK_CRC32, size: int = 1 << 20, before: tuple[int, ...] = ()) -> bytes:
    """One stream."""
    chain = [*({"id": id} for id in before), {"id": lzma.FILTER_LZMA2, "dict_size": size}]
    return lzma.compress(DATA, lzma.FORMAT_XZ, check, filters=chain)


def facts(data: bytes, how: Compression) -> wrapping.Wrapping:
    """As a look reads them."""
    image, end = codec.unfold(data, how, LIMIT)
    assert image == DATA
    return wrapping.read(data, how, end)


def ids(found: wrapping.Wrapping, kernel: str = "6.12.1") -> list[str]:
    """Of what is to be said of it."""
    return [finding.id for finding in wrapping.judge(found, "x.ko", kernel)]


@pytest.mark.parametrize(("check", "bits"), list(product(CHECKS, (12, 16, 20, 23))))
def test_xz_check_and_dictionary(check: int, bits: int) -> None:
    found = facts(xz(check, 1 << bits), Compression.XZ)
    assert (found.check, found.dictionary, found.filters) == (CHECKS[check], 1 << bits, ())


def test_dictionaries_between_the_powers_of_two() -> None:
    assert facts(xz(size=3 << 19), Compression.XZ).dictionary == 3 << 19
    assert ids(facts(xz(size=3 << 19), Compression.XZ)) == ["compression-dictionary"]


def test_xz_filters() -> None:
    one = facts(xz(before=(lzma.FILTER_X86,)), Compression.XZ)
    two = facts(xz(before=(lzma.FILTER_ARM, lzma.FILTER_X86)), Compression.XZ)
    delta = facts(xz(before=(lzma.FILTER_DELTA,)), Compression.XZ)
    assert (one.filters, two.filters, delta.filters) == ((4,), (7, 4), (3,))
    assert (ids(one), ids(two), ids(delta)) == ([], ["compression-refused"], ["compression-refused"])


@pytest.mark.parametrize("tail", [b"", b"\0", bytes(8), b"junk", bytes(4) + b"x"])
def test_what_follows(tail: bytes) -> None:
    packed = {
        Compression.GZIP: gzip.compress(DATA, mtime=0),
        Compression.XZ: xz(),
        Compression.ZSTD: zstandard.compress(DATA),
    }
    for how, data in packed.items():
        found = facts(data + tail, how)
        assert (found.behind, found.more) == (len(tail), False)
        assert ids(found) == (["compression-trailing"] if tail else [])
        again = facts(data + bytes(4) + data, how)
        assert (again.behind, again.more) == (len(data) + 4, True)
        assert ids(again) == ["compression-several"]


def test_plain() -> None:
    assert wrapping.read(DATA, Compression.NONE, len(DATA)) == wrapping.Wrapping(Compression.NONE)


def test_gzip_flags() -> None:
    plain = wrapping.Wrapping(Compression.GZIP)
    assert ids(plain) == ids(plain._replace(flags=1)) == []
    assert ids(plain._replace(flags=8)) == ["compression-name"]
    assert ids(plain._replace(flags=2)) == ids(plain._replace(flags=0x20)) == ["compression-refused"]
    assert ids(plain._replace(flags=12)) == ["compression-refused", "compression-name"]


@pytest.mark.parametrize(
    ("kernel", "itself"),
    [("5.16.20-1", False), ("4.18.0-553.el8.x86_64", False), ("5.17.0", True), ("6.1.0-1", True), ("", True)],
)
def test_kernels_that_leave_it_to_kmod(kernel: str, itself: bool) -> None:  # noqa: FBT001
    assert wrapping.decompresses(kernel) is itself
    found = facts(xz(lzma.CHECK_CRC64), Compression.XZ)
    assert ids(found, kernel) == (["compression-refused"] if itself else [])


@given(st.data())
def test_lying_headers_end_in_an_error(data: st.DataObject) -> None:
    """Whatever stands there: facts, or an error of ours."""
    whole = bytearray(xz())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, 40) | st.integers(len(whole) - 40, len(whole) - 1))
        whole[place] = data.draw(st.integers(0, 255))
    assert complaint(bytes(whole)) in ("", "corrupt-compression")


def complaint(data: bytes) -> str:
    """The id of the error about a stream, "" without one."""
    try:
        wrapping.read(data, Compression.XZ, len(data))
    except ModuleError as error:
        return error.id
    return ""
