"""`ko.codec`: round trips, the kernel's recipe, damaged and hostile files."""

from __future__ import annotations

import gzip
import lzma
import sys
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pkghook.errors import MissingDependencyError, ModuleError
from pkghook.ko import codec
from pkghook.model import Compression

PACKED = [Compression.GZIP, Compression.XZ, Compression.ZSTD]
IMAGE = b"\x7fELF" + bytes(range(256)) * 40 + bytes(5000)
LIMIT = 1 << 24

packed = st.sampled_from(PACKED)


def zstd_block(content: bytes, *, last: bool, kind: int = 0, size: int | None = None) -> bytes:
    """A zstd block by hand: `kind` 0 is raw, 1 is one byte repeated `size` times."""
    length = len(content) if size is None else size
    return (length << 3 | kind << 1 | last).to_bytes(3, "little") + content


def zstd_frame(*blocks: bytes, window: int = 0x58) -> bytes:
    """A zstd frame by hand, without content size and checksum; window 0x58 is 2 MiB."""
    return b"\x28\xb5\x2f\xfd\x00" + bytes([window]) + b"".join(blocks)


def error(data: bytes, how: Compression, limit: int = LIMIT) -> ModuleError:
    """The error that decompressing `data` raises."""
    with pytest.raises(ModuleError) as caught:
        codec.decompress(data, how, limit)
    return caught.value


def outcome(data: bytes, how: Compression) -> bytes | str:
    """What `data` decompresses to, or the id of the finding."""
    try:
        return codec.decompress(data, how, LIMIT)
    except ModuleError as found:
        return found.id


# --- magic and name --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", list(Compression))
def test_magic_of_what_we_write(how: Compression) -> None:
    assert codec.sniff(codec.compress(IMAGE, how)[: codec.MAGIC_SIZE]) is how


@pytest.mark.parametrize("head", [b"", b"\x1f", b"\xfd7zXZ", b"\x28\xb5\x2f", b"\x50\x2a\x4d\x18", b"BZh9", b"\x7fELF"])
def test_no_magic(head: bytes) -> None:
    assert codec.sniff(head) is Compression.NONE


@pytest.mark.parametrize("how", list(Compression))
def test_name(how: Compression) -> None:
    assert codec.by_name(f"kernel/fs/ext4/ext4.ko{how.suffix}") is how


@pytest.mark.parametrize("name", ["a.bin", "a.xz", "ko", "a.ko.bz2", "a.KO", "a.ko.xz.bak", "a.ko.debug", ""])
def test_name_of_something_else(name: str) -> None:
    assert codec.by_name(name) is None


# --- round trips and the recipe --------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=5000), st.sampled_from(list(Compression)), st.integers(1, 300))
def test_round_trip(seed: bytes, how: Compression, times: int) -> None:
    image = seed * times
    written = codec.compress(image, how)
    assert codec.compress(image, how) == written
    assert codec.decompress(written, how, len(image)) == image
    codec.check(written, image, how)


@pytest.mark.parametrize("how", PACKED)
@pytest.mark.parametrize("size", [2**17, 2**18, 2**20 - 1, 2**20, 2**20 + 1, 2**22 + 77])
def test_round_trip_at_the_edges_of_pieces_and_chunks(how: Compression, size: int) -> None:
    image = IMAGE * (size // len(IMAGE)) + zlib.compress(IMAGE) + bytes(size)
    assert codec.decompress(codec.compress(image[-size:], how), how, size) == image[-size:]


@pytest.mark.parametrize("how", PACKED)
def test_incompressible_bytes_in_many_pieces(how: Compression) -> None:
    state, image = 1, bytearray()
    while len(image) < 700_000:
        state = state * 6364136223846793005 + 1442695040888963407 & 2**64 - 1
        image += (state >> 16).to_bytes(6, "big")
    assert codec.decompress(codec.compress(bytes(image), how), how, LIMIT) == image


def test_gzip_has_neither_name_nor_time() -> None:
    assert codec.compress(IMAGE, Compression.GZIP)[:10].hex() == "1f8b0800000000000003"


def test_xz_has_crc32_and_a_dictionary_of_one_mebibyte() -> None:
    written = codec.compress(IMAGE, Compression.XZ)
    assert written[6:8] == b"\0\1"
    assert written[12:17] == b"\x02\x00\x21\x01\x10"  # LZMA2; dictionary size 2 << (16 // 2 + 11)


def test_zstd_has_size_and_checksum_and_a_window_for_the_kernel() -> None:
    frame = zstandard.get_frame_parameters(codec.compress(IMAGE, Compression.ZSTD))
    assert frame.content_size == len(IMAGE)
    assert frame.has_checksum
    assert frame.window_size <= 1 << 27


# --- forms that others write -----------------------------------------------------------------------------------------


def test_gzip_with_name_and_time() -> None:
    data = gzip.compress(IMAGE, mtime=1234567890)
    named = data[:3] + b"\x08" + data[4:10] + b"ext4.ko\0" + data[10:]
    assert codec.decompress(named, Compression.GZIP, LIMIT) == IMAGE


@pytest.mark.parametrize("check", [lzma.CHECK_NONE, lzma.CHECK_CRC32, lzma.CHECK_CRC64, lzma.CHECK_SHA256])
def test_xz_with_any_integrity_check(check: int) -> None:
    assert codec.decompress(lzma.compress(IMAGE, check=check), Compression.XZ, LIMIT) == IMAGE


@pytest.mark.parametrize("checksum", [True, False])
def test_zstd_without_content_size(checksum: bool) -> None:  # noqa: FBT001
    writer = zstandard.ZstdCompressor(write_content_size=False, write_checksum=checksum)
    data = writer.compress(IMAGE)
    assert zstandard.get_frame_parameters(data).content_size == zstandard.CONTENTSIZE_UNKNOWN
    assert codec.decompress(data, Compression.ZSTD, LIMIT) == IMAGE


def test_zstd_with_raw_repeated_and_empty_blocks() -> None:
    data = zstd_frame(
        zstd_block(b"\x7fELF", last=False),
        zstd_block(b"", last=False),
        zstd_block(b"x", last=False, kind=1, size=100_000),
        zstd_block(b"", last=True),
    )
    assert codec.decompress(data, Compression.ZSTD, LIMIT) == b"\x7fELF" + b"x" * 100_000


# --- damaged and hostile ones ----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(packed, st.data())
def test_cut_short_anywhere(how: Compression, data: st.DataObject) -> None:
    written = codec.compress(IMAGE, how)
    end = data.draw(st.integers(0, len(written) - 1))
    assert error(written[:end], how).id == "corrupt-compression"


@settings(deadline=None)
@given(packed, st.binary(min_size=1, max_size=100) | st.integers(1, 40).map(bytes))
def test_anything_appended(how: Compression, more: bytes) -> None:
    written = codec.compress(IMAGE, how)
    found = error(written + more, how)
    assert found.id == "trailing-garbage"
    assert found.evidence == {"compression": how.value, "offset": len(written), "size": len(more)}


@pytest.mark.parametrize("how", PACKED)
def test_a_second_member_stream_or_frame(how: Compression) -> None:
    written = codec.compress(IMAGE, how)
    assert error(written * 2, how).id == "trailing-garbage"


@pytest.mark.parametrize("how", PACKED)
def test_much_appended(how: Compression) -> None:
    written = codec.compress(IMAGE, how)
    assert error(written + bytes(1 << 20), how).evidence["offset"] == len(written)


def test_a_skippable_frame_behind_and_before() -> None:
    written = codec.compress(IMAGE, Compression.ZSTD)
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    assert error(written + skippable, Compression.ZSTD).id == "trailing-garbage"
    assert error(skippable + written, Compression.ZSTD).id == "corrupt-compression"


@settings(deadline=None)
@given(packed, st.data())
def test_a_flipped_bit_never_gives_other_bytes(how: Compression, data: st.DataObject) -> None:
    written = bytearray(codec.compress(IMAGE, how))
    bit = data.draw(st.integers(0, 8 * len(written) - 1))
    written[bit >> 3] ^= 1 << (bit & 7)
    # the same bytes: such as after a bit of gzip's time
    assert outcome(bytes(written), how) in {IMAGE, "corrupt-compression", "trailing-garbage", "too-large"}


@settings(deadline=None)
@given(
    st.sampled_from(["1f8b0800000000000003", "fd377a585a000001", "28b52ffd0058", "28b52ffd", ""]), packed, st.binary()
)
def test_random_bytes_raise_nothing_else(head: str, how: Compression, noise: bytes) -> None:
    result = outcome(bytes.fromhex(head) + noise, how)
    assert isinstance(result, bytes) or result in {"corrupt-compression", "trailing-garbage", "too-large"}


@pytest.mark.parametrize("how", list(Compression))
def test_one_byte_above_the_limit(how: Compression) -> None:
    written = codec.compress(IMAGE, how)
    assert codec.decompress(written, how, len(IMAGE)) == IMAGE
    found = error(written, how, len(IMAGE) - 1)
    assert found.id == "too-large"
    assert found.evidence["limit"] == len(IMAGE) - 1


def bomb(how: Compression) -> bytes:
    """64 MiB of zeros, and for zstd the worst there is: blocks of four bytes that unfold to 128 KiB."""
    if how is Compression.ZSTD:
        block = zstd_block(b"\0", last=False, kind=1, size=1 << 17)
        return zstd_frame(block * 511, zstd_block(b"\0", last=True, kind=1, size=1 << 17))
    return codec.compress(bytes(1 << 26), how)


@pytest.mark.parametrize("how", PACKED)
def test_a_bomb_ends_at_the_limit(how: Compression) -> None:
    data = bomb(how)
    tracemalloc.start()
    try:
        found = error(data, how, 1 << 20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.id == "too-large"
    assert peak < 8 << 20


@pytest.mark.parametrize("how", PACKED)
def test_no_second_copy_of_the_contents(how: Compression) -> None:
    data = bomb(how)
    tracemalloc.start()
    try:
        assert len(codec.decompress(data, how, 1 << 26)) == 1 << 26
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 80 << 20


def test_xz_with_a_hostile_dictionary() -> None:
    data = bytearray(codec.compress(IMAGE, Compression.XZ))
    data[16] = 40  # 4 GiB
    data[20:24] = zlib.crc32(data[12:20]).to_bytes(4, "little")
    assert "Memory usage limit" in str(error(bytes(data), Compression.XZ).evidence["reason"])


def test_zstd_with_a_hostile_window() -> None:
    block = zstd_block(b"x", last=True)
    assert codec.decompress(zstd_frame(block, window=17 << 3), Compression.ZSTD, LIMIT) == b"x"
    found = error(zstd_frame(block, window=18 << 3), Compression.ZSTD)
    assert found.evidence["reason"] == "window of 268435456 bytes, above the limit of 134217728"


def test_zstd_content_size_that_lies() -> None:
    data = bytearray(zstandard.ZstdCompressor().compress(IMAGE))
    assert data[4] >> 6 == 1  # a content size of two bytes, less 256
    data[5] ^= 1
    assert error(bytes(data), Compression.ZSTD).id == "corrupt-compression"


def test_zstd_checksum_and_gzip_trailer_are_checked() -> None:
    for how, offset in ((Compression.ZSTD, -1), (Compression.GZIP, -5), (Compression.GZIP, -1)):
        data = bytearray(codec.compress(IMAGE, how))
        data[offset] ^= 0x40
        assert error(bytes(data), how).id == "corrupt-compression"


def test_zstandard_is_named_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    written = codec.compress(IMAGE, Compression.ZSTD)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingDependencyError, match="zstandard is not installed"):
        codec.compress(IMAGE, Compression.ZSTD)
    with pytest.raises(MissingDependencyError, match="zstandard is not installed") as caught:
        codec.decompress(written, Compression.ZSTD, LIMIT)
    assert caught.value.hint == "apt install python3-zstandard, or pip install zstandard"


# --- V13 -------------------------------------------------------------------------------------------------------------


def mismatch(written: bytes, image: bytes, how: Compression) -> str:
    """The reason that `check` gives."""
    with pytest.raises(ModuleError) as caught:
        codec.check(written, image, how)
    assert caught.value.id == "recompression-mismatch"
    assert caught.value.evidence["compression"] == how.value
    return str(caught.value.evidence["reason"])


@pytest.mark.parametrize("how", list(Compression))
def test_check_tells_how_the_bytes_differ(how: Compression) -> None:
    written = codec.compress(IMAGE, how)
    changed = IMAGE[:-1] + b"\1"
    assert mismatch(written, changed, how).startswith("differs between bytes ")
    assert mismatch(written, IMAGE + b"\0", how) == f"ends after {len(IMAGE)} of {len(IMAGE) + 1} bytes"
    assert mismatch(written, IMAGE[:-1], how).startswith("too-large")


@pytest.mark.parametrize("how", PACKED)
def test_check_of_damaged_bytes(how: Compression) -> None:
    written = codec.compress(IMAGE, how)
    assert mismatch(written[:-1], IMAGE, how).startswith("corrupt-compression")
    assert mismatch(b"", IMAGE, how).startswith("corrupt-compression")
    assert mismatch(written + b"\0", IMAGE, how).startswith("trailing-garbage")


def test_check_wants_what_the_kernel_reads() -> None:
    data = codec.compress(IMAGE, Compression.GZIP)
    commented = data[:3] + b"\x10" + data[4:10] + b"comment\0" + data[10:]
    assert mismatch(commented, IMAGE, Compression.GZIP) == "gzip flags 0x10"
    assert mismatch(lzma.compress(IMAGE), IMAGE, Compression.XZ) == "xz integrity check 4"
    codec.check(lzma.compress(IMAGE, check=lzma.CHECK_NONE), IMAGE, Compression.XZ)
