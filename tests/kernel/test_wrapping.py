"""`ko.file`, `ko.codec` and `ko.signature` on modules that Debian ships, beside gzip, xz, zstd and modinfo."""

from __future__ import annotations

import hashlib
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest
import zstandard

from pkghook.errors import ModuleError
from pkghook.ko import codec, file, signature
from pkghook.model import Compression
from tests.support import need_kernel, need_tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMIT = 4 << 30
PACKED = [Compression.GZIP, Compression.XZ, Compression.ZSTD]


class Tool(NamedTuple):
    """How people and the kernel's makefiles call a compressor."""

    name: str
    recipe: tuple[str, ...]  # the kernel's; xz 5.6 and newer would write blocks with sizes without -T1
    others: tuple[tuple[str, ...], ...]


TOOLS = {
    Compression.GZIP: Tool("gzip", ("-n", "-f"), ((), ("-9",), ("-1", "-N"))),
    Compression.XZ: Tool(
        "xz",
        ("--check=crc32", "--lzma2=dict=1MiB", "-f", "-T1"),
        (
            (),
            ("-9e",),
            ("--check=none",),
            ("--check=sha256", "-T2", "--block-size=65536"),
            ("--x86", "--lzma2=dict=2MiB"),
        ),
    ),
    Compression.ZSTD: Tool("zstd", ("-T0", "-f", "-q"), (("-19",), ("--no-check",), ("--fast=5",), ("--ultra", "-22"))),
}


def run(tool: str, *arguments: str | Path, data: bytes | None = None) -> bytes:
    """Standard output of a real tool that must succeed."""
    return subprocess.run([need_tool(tool), *arguments], input=data, check=True, capture_output=True, timeout=60).stdout


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """An open file."""
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def unwrapped(path: Path) -> tuple[file.ModuleFile, bytes]:
    """The module at `path`, and its image."""
    with opened(path) as fd:
        module = file.load(fd, path.name, limit=LIMIT)
        return module, module.image.read(0, module.image.size)


def error(path: Path, limit: int = LIMIT) -> ModuleError:
    """The error that loading `path` raises."""
    with opened(path) as fd, pytest.raises(ModuleError) as caught:
        file.load(fd, path.name, limit=limit)
    return caught.value


def outcome(data: bytes, how: Compression) -> bytes | str:
    """What `data` decompresses to, or the id of the finding."""
    try:
        return codec.decompress(data, how, LIMIT)
    except ModuleError as found:
        return found.id


def some(directory: Path, pattern: str, count: int) -> list[Path]:
    """About `count` modules evenly from all, in order of size, the smallest and largest among them."""
    paths = sorted(directory.rglob(pattern), key=lambda path: (path.stat().st_size, path))
    return [*paths[:: max(1, len(paths) // count)], paths[-1]]


@pytest.fixture
def signed(corpus: Path, tmp_path: Path) -> Path:
    """A copy of a signed, plain module as Debian ships it."""
    source = next(need_kernel(corpus, "amd64").rglob("nf_conntrack.ko"))
    copy = tmp_path / source.name
    copy.write_bytes(source.read_bytes())
    return copy


# --- reading what is out there ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["amd64", "arm64", "s390x", "armel"])
def test_shipped_modules(corpus: Path, kernel: str) -> None:
    for path in some(need_kernel(corpus, kernel), "*.ko", 100):
        module, image = unwrapped(path)
        assert module.compression is Compression.NONE
        assert image + module.trailer == path.read_bytes()
        assert (module.signature is not None) == path.read_bytes().endswith(signature.MARKER)


def test_unstripped_modules_have_no_signature(corpus: Path) -> None:
    for path in some(need_kernel(corpus, "amd64", "dbg"), "*.ko", 100):
        with opened(path) as fd:
            module = file.load(fd, path.name, limit=LIMIT)
        assert (module.signature, module.trailer, module.image.size) == (None, b"", path.stat().st_size)


def test_debian_signs_with_pkcs7(signed: Path) -> None:
    module, _ = unwrapped(signed)
    assert module.signature is not None
    assert signature.describe(module.signature).startswith("PKCS#7 signature of ")
    assert "which the kernel refuses" not in signature.describe(module.signature)
    assert run("modinfo", "-F", "sig_id", signed).strip() == b"PKCS#7"


def test_signed_xz_modules(corpus: Path) -> None:
    for path in some(need_kernel(corpus, "amd64-6.12"), "*.ko.xz", 25):
        module, image = unwrapped(path)
        assert module.compression is Compression.XZ
        assert module.signature is not None
        assert image + module.trailer == run("xz", "-dc", path)


@pytest.mark.parametrize("how", PACKED)
def test_what_the_tools_write(signed: Path, how: Compression) -> None:
    plain, image = unwrapped(signed)
    tool = TOOLS[how]
    for options in (tool.recipe, *tool.others):
        packed = signed.with_name(signed.name + how.suffix)
        packed.write_bytes(run(tool.name, *options, "-c", signed))
        module, unpacked = unwrapped(packed)
        assert unpacked == image, options
        assert (module.trailer, module.signature, module.compression) == (plain.trailer, plain.signature, how)


# --- writing by the kernel's recipe ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", PACKED)
def test_tools_and_modinfo_read_ours(signed: Path, how: Compression) -> None:
    data = signed.read_bytes()
    packed = signed.with_name(signed.name + how.suffix)
    written = codec.compress(data, how)
    codec.check(written, data, how)
    packed.write_bytes(written)
    run(TOOLS[how].name, "-t", packed)
    assert run(TOOLS[how].name, "-dc", packed) == data
    if f"-{'ZLIB' if how is Compression.GZIP else how.value.upper()}".encode() in run("modinfo", "--version"):
        return  # this modinfo was built without the library for it
    of_plain = run("modinfo", signed).replace(bytes(signed), bytes(packed))
    assert run("modinfo", packed) == of_plain


def test_xz_recipe_is_the_tools_to_the_byte(signed: Path) -> None:
    ours = codec.compress(signed.read_bytes(), Compression.XZ)
    assert ours == run("xz", *TOOLS[Compression.XZ].recipe, "-c", signed)


def test_zstd_recipe_is_the_tools_to_the_byte(signed: Path) -> None:
    library = ".".join(map(str, zstandard.ZSTD_VERSION))
    ours = codec.compress(signed.read_bytes(), Compression.ZSTD)
    theirs = run("zstd", *TOOLS[Compression.ZSTD].recipe, "-c", signed)
    assert ours[:5] == theirs[:5]  # frame header: content size and checksum, or not
    assert zstandard.get_frame_parameters(ours).content_size == zstandard.get_frame_parameters(theirs).content_size
    assert abs(len(ours) - len(theirs)) < len(theirs) // 20
    if library.encode() in run("zstd", "--version"):
        assert ours == theirs


def test_gzip_recipe_has_the_tools_header(signed: Path) -> None:
    ours = codec.compress(signed.read_bytes(), Compression.GZIP)
    theirs = run("gzip", *TOOLS[Compression.GZIP].recipe, "-c", signed)
    assert ours[:10] == theirs[:10]
    assert abs(len(ours) - len(theirs)) < len(theirs) // 20


# --- every finding, on a real module ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", PACKED)
def test_damaged_anywhere(signed: Path, how: Compression) -> None:
    data = signed.read_bytes()
    written = codec.compress(data, how)
    for offset in range(0, len(written), len(written) // 25):
        with pytest.raises(ModuleError, match="corrupt-compression"):
            codec.decompress(written[:offset], how, LIMIT)
        flipped = written[:offset] + bytes([written[offset] ^ 0x10]) + written[offset + 1 :]
        assert outcome(flipped, how) in {data, "corrupt-compression", "trailing-garbage"}


@pytest.mark.parametrize("how", PACKED)
def test_bytes_behind_and_a_limit(signed: Path, how: Compression) -> None:
    packed = signed.with_name(signed.name + how.suffix)
    written = codec.compress(signed.read_bytes(), how)
    packed.write_bytes(written)
    assert error(packed, signed.stat().st_size - 1).id == "too-large"
    packed.write_bytes(written + bytes(4))  # the padding that xz allows and the kernel's decoder was not asked for
    assert error(packed).evidence == {"compression": how.value, "offset": len(written), "size": 4}


@pytest.mark.parametrize("how", PACKED)
def test_name_and_contents_disagree(signed: Path, how: Compression) -> None:
    plain_named = signed.with_name("a.ko")
    plain_named.write_bytes(codec.compress(signed.read_bytes(), how))
    assert error(plain_named).evidence == {"name": "none", "contents": how.value}
    packed_named = signed.rename(signed.with_name("b.ko" + how.suffix))
    assert error(packed_named).evidence == {"name": how.value, "contents": "none"}


def test_cut_short_plain_and_signature_lies(signed: Path) -> None:
    data = signed.read_bytes()
    signed.write_bytes(data[:-32] + b"\x7f" + data[-31:])  # the first byte of the signature's length
    assert error(signed).id == "bad-signature"
    for size, id in ((0, "empty-file"), (3, "not-elf")):
        signed.write_bytes(data[:size])
        assert error(signed).id == id
    signed.write_bytes(data[:-1])  # half a marker is none: these are bytes behind the ELF file
    assert unwrapped(signed)[1] == data[:-1]


@pytest.mark.parametrize("how", PACKED)
def test_recompression_mismatch(signed: Path, how: Compression) -> None:
    data = signed.read_bytes()
    other = bytearray(data)
    other[len(data) // 2] ^= 1
    with pytest.raises(ModuleError, match="recompression-mismatch"):
        codec.check(codec.compress(bytes(other), how), data, how)


def test_the_largest_module_keeps_its_bytes(corpus: Path) -> None:
    path = some(need_kernel(corpus, "amd64", "dbg"), "*.ko", 1)[-1]
    data = path.read_bytes()
    for how in (Compression.GZIP, Compression.ZSTD):
        back = codec.decompress(codec.compress(data, how), how, len(data))
        assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()
