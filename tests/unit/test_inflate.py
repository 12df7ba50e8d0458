"""`inflate` and `payload`: decompression in process, whatever the input is."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard

from pkghook.errors import InputError
from pkghook.sources.payload import KINDS, Part, Payload, inside, sniff
from tests.repo.tree import ROOT

DATA = bytes(range(256)) * 4096 + os.urandom(300_000)
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "zstd": zstandard.ZstdCompressor().compress,
}
SEVERAL = ("gzip", "bzip2", "xz", "zstd")  # kinds whose streams can follow one another
BOMB = """
import resource, sys
from pkghook.sources.payload import Part, inside
import bz2, lzma, zlib, zstandard
with open(sys.argv[1], "rb") as file:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    payload = inside(Part(file.fileno(), 0, int(sys.argv[2]), "bomb"), sys.argv[3])
    payload.skip(128 << 20)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@contextmanager
def opened(tmp_path: Path, data: bytes, kind: str) -> Iterator[Payload]:
    """The decompressed bytes of `data`, which lies in the middle of a file."""
    path = tmp_path / "data"
    path.write_bytes(b"before" + data + b"behind")
    with path.open("rb") as file:
        payload = inside(Part(file.fileno(), 6, len(data), str(path)), kind)
        yield payload
        payload.close()


def to_the_end(payload: Payload) -> None:
    """All of DATA, and nothing behind it."""
    payload.skip(len(DATA))
    assert payload.finish() == 0


def test_the_table_is_what_rpm_and_dpkg_know() -> None:
    assert set(KINDS) == set(COMPRESS)


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_it(tmp_path: Path, kind: str) -> None:
    with opened(tmp_path, COMPRESS[kind](DATA), kind) as payload:
        assert payload.read(5) == DATA[:5]
        payload.skip(100_000)
        payload.align(4096)
        start = 102_400
        assert payload.offset == start
        assert payload.read(len(DATA) - start) == DATA[start:]
        assert payload.finish() == 0
        with pytest.raises(InputError, match="end after"):
            payload.read(1)


@pytest.mark.parametrize("kind", KINDS)
def test_told_by_magic(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"?" + COMPRESS[kind](b"070701..."))
    with path.open("rb") as file:
        assert sniff(Part(file.fileno(), 1, 9, "")) == kind


@pytest.mark.parametrize("kind", SEVERAL)
def test_several_streams(tmp_path: Path, kind: str) -> None:
    two = COMPRESS[kind](DATA) + COMPRESS[kind](b"") + COMPRESS[kind](b"second") + bytes(8)
    with opened(tmp_path, two, kind) as payload:
        payload.skip(len(DATA))
        assert payload.read(6) == b"second"
        assert payload.finish() == 0


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "lzma", "zstd"])
def test_garbage_behind(tmp_path: Path, kind: str) -> None:
    with opened(tmp_path, COMPRESS[kind](DATA) + b"garbage, garbage, garbage", kind) as payload:
        payload.skip(len(DATA))
        with pytest.raises(InputError):
            payload.finish()


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "lzma", "zstd"])
def test_cut_short(tmp_path: Path, kind: str) -> None:
    whole = COMPRESS[kind](DATA)
    for end in (1, 7, 20, len(whole) // 2, len(whole) - 1):
        with (
            opened(tmp_path, whole[:end], kind) as payload,
            pytest.raises(InputError, match="cut short|cannot be decompressed"),
        ):
            to_the_end(payload)


def test_more_behind_the_end_than_anybody_looks_at(tmp_path: Path) -> None:
    with opened(tmp_path, gzip.compress(bytes(20 << 20)), "gzip") as payload:
        payload.read(1)
        with pytest.raises(InputError, match="more than 16777216 bytes behind"):
            payload.finish()


def test_dictionary_beyond_reason(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 4096}]
    small = bytearray(lzma.compress(b"x", lzma.FORMAT_RAW, filters=filters))
    head = b"\x5d" + (1 << 30).to_bytes(4, "little") + b"\xff" * 8  # .lzma: properties, dictionary, size
    with opened(tmp_path, head + bytes(small), "lzma") as payload, pytest.raises(InputError, match="[Mm]emory"):
        payload.read(1)


def test_window_beyond_reason(tmp_path: Path) -> None:
    # frame header of RFC 8878 with a window of 1 GiB, and a block of 3 bytes
    frame = b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([20 << 3]) + (1 | 3 << 3).to_bytes(3, "little") + b"abc"
    with opened(tmp_path, frame, "zstd") as payload, pytest.raises(InputError, match="cannot be decompressed"):
        payload.read(1)


def skipped(size: int) -> bytes:
    """A zstd frame that is to be skipped (RFC 8878, section 3.1.2)."""
    return b"\x5a\x2a\x4d\x18" + size.to_bytes(4, "little") + bytes(size)


def streamed(data: bytes, **params: int) -> bytes:
    """A frame with several blocks and without its size in the header."""
    encoder = zstandard.ZstdCompressor(**params).compressobj()  # type: ignore[arg-type]
    blocks = [
        encoder.compress(data[at : at + 700]) + encoder.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for at in (0, 700)
    ]
    return b"".join(blocks) + encoder.compress(data[1400:]) + encoder.flush()


ZSTD = {
    "as the program": streamed(DATA, write_checksum=True),
    "no checksum": streamed(DATA[:5000]),
    "size in the header": zstandard.ZstdCompressor(write_checksum=True).compress(DATA[:70_000]),
    "a single segment": zstandard.ZstdCompressor().compress(DATA[:200]),
    "one byte over and over": zstandard.ZstdCompressor().compress(bytes(500_000)),
    "nothing": zstandard.ZstdCompressor().compress(b""),
}


@pytest.mark.parametrize("piece", [1, 7, 1 << 16])
@pytest.mark.parametrize("form", ZSTD)
def test_zstd_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, piece: int) -> None:
    """Whatever a frame is made of and wherever its pieces end, between frames that give nothing."""
    monkeypatch.setattr("pkghook.sources.inflate._PIECE", piece)
    frame = ZSTD[form]
    data = zstandard.ZstdDecompressor().decompressobj().decompress(frame)
    whole = skipped(0) + frame + skipped(300) + bytes(3) + COMPRESS["zstd"](b"second") + skipped(9)
    with opened(tmp_path, whole, "zstd") as payload:
        assert payload.read(len(data)) == data
        assert payload.read(6) == b"second"
        assert payload.finish() == 0


@pytest.mark.parametrize("form", [form for form in ZSTD if form != "nothing"])
def test_zstd_cut_short_anywhere(tmp_path: Path, form: str) -> None:
    frame = ZSTD[form][:6000] if form == "as the program" else ZSTD[form]
    for end in (*range(1, min(60, len(frame))), len(frame) - 4, len(frame) - 1):
        with (
            opened(tmp_path, frame[:end], "zstd") as payload,
            pytest.raises(InputError, match="cut short|cannot be decompressed"),
        ):
            payload.skip(1 << 40)


def test_what_is_not_compressed_goes_where_it_is_wanted(tmp_path: Path) -> None:
    """A module of any size: its bytes are in memory once."""
    path = tmp_path / "stored"
    path.write_bytes(bytes(32 << 20))
    room = memoryview(bytearray(32 << 20))
    with path.open("rb") as file:
        payload = inside(Part(file.fileno(), 0, len(room), str(path)), "none")
        tracemalloc.start()
        try:
            payload.readinto(room)
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()
        payload.close()


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "lzma", "zstd"])
def test_bomb(tmp_path: Path, kind: str) -> None:
    """128 MiB of zeros pass through with a few MiB of memory (zstd: 128 KiB come out for 4 bytes)."""
    path = tmp_path / "bomb"
    zeros = bytes(128 << 20)
    forms = {"xz": lzma.FORMAT_XZ, "lzma": lzma.FORMAT_ALONE}
    path.write_bytes(lzma.compress(zeros, forms[kind], preset=0) if kind in forms else COMPRESS[kind](zeros))
    argv = [sys.executable, "-c", BOMB, str(path), str(path.stat().st_size), kind]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 48 << 10  # KiB


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        payload = inside(Part(directory, 0, 100, "some.rpm"), "none")
        with pytest.raises(InputError, match="some.rpm: Is a directory"):
            payload.read(1)
    finally:
        os.close(directory)
