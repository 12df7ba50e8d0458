"""How exactly a module is compressed, read from the headers, and what the kernel's own decoders make of it.

Each grade has its source: kernel/module/decompress.c, lib/xz/xz_dec_stream.c and scripts/Makefile.modinst of Linux,
and loads tried on a kernel built for xz (Debian's 6.12): no check and CRC32 load, also with a dictionary of 8 MiB or
with zeros behind the stream; CRC64 is refused.  Formats: RFC 1952 (gzip), RFC 8878 (zstd), The .xz File Format 1.1.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pkghook.errors import ModuleError
from pkghook.findings import make
from pkghook.ko import codec
from pkghook.model import Compression
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pkghook.findings import Finding

RECIPE_DICTIONARY = 1 << 20  # bytes: `xz --check=crc32 --lzma2=dict=1MiB` of scripts/Makefile.modinst
_LZMA2 = 0x21
_BRANCH_FILTERS = range(4, 12)  # BCJ, which the kernel reads where CONFIG_XZ_DEC_BCJ has that machine's
_CHECKS = {0: "none", 1: "CRC32", 4: "CRC64", 10: "SHA-256"}
_CHECKS_KNOWN = (0, 1)
_GZIP_NAME = 0x08
_GZIP_HARMLESS = 0x01 | _GZIP_NAME  # FTEXT says nothing; module_gzip_header_len() passes over a name
_XZ_HEADER = _XZ_FOOTER = 12
_FILTERS = 1  # that may stand before LZMA2: "We support only one or two filters" (dec_block_header())
_MAX_BLOCKS = 1 << 16
_DECOMPRESSES = (5, 17)  # the first Linux that reads compressed modules itself (commit b1ae6dc41eaa)


class Wrapping(NamedTuple):
    """What a compressed module file says of itself. Sizes in bytes."""

    compression: Compression
    check: int = 0  # xz: id of the integrity check
    dictionary: int = 0  # xz: the largest of all blocks; zstd: the window
    filters: tuple[int, ...] = ()  # xz: ids before LZMA2, of the block that has most of them
    flags: int = 0  # gzip: FLG
    behind: int = 0  # bytes after the first member, stream or frame
    more: bool = False  # these begin with another one


def read(data: bytes, how: Compression, end: int) -> Wrapping:
    """The facts on a module file that can be decompressed; its first member, stream or frame ends at `end`.

    Nothing is decompressed.  Raises ModuleError corrupt-compression where the headers contradict each other.
    """
    found = Wrapping(how, behind=len(data) - end, more=_is_another(data[end:].lstrip(b"\0"), how))
    match how:
        case Compression.GZIP:
            return found._replace(flags=data[3])
        case Compression.XZ:
            return _xz(data, end, found)
        case Compression.ZSTD:
            import zstandard

            return found._replace(dictionary=zstandard.get_frame_parameters(data[:18]).window_size)
        case Compression.NONE:
            return found


def _is_another(rest: bytes, how: Compression) -> bool:
    return bool(rest) and how is not Compression.NONE and codec.sniff(rest[: codec.MAGIC_SIZE]) is how


# --- xz --------------------------------------------------------------------------------------------------------------


def _xz(data: bytes, end: int, found: Wrapping) -> Wrapping:
    blocks = [list(_block_filters(data, at)) for at in _blocks(data, end)]
    chains = [tuple(id for id, _ in block if id != _LZMA2) for block in blocks]
    sizes = [_dictionary(properties) for block in blocks for id, properties in block if id == _LZMA2]
    longest = max(chains, key=lambda chain: (len(chain), chain), default=())
    return found._replace(check=data[7] & 15, dictionary=max(sizes, default=0), filters=longest)


def _blocks(data: bytes, end: int) -> Iterator[int]:
    """Where each block of the stream that ends at `end` begins, by its index."""
    footer = end - _XZ_FOOTER
    index = footer - 4 * (int.from_bytes(data[footer + 4 : footer + 8], "little") + 1)
    if not _XZ_HEADER <= index < footer or data[index]:
        raise _damaged("no index where the footer says")
    count, at = _number(data, index + 1)
    block = _XZ_HEADER
    for _ in range(min(count, _MAX_BLOCKS)):
        yield block
        unpadded, at = _number(data, at)
        _, at = _number(data, at)
        block += -(-unpadded // 4) * 4
        if block > index:
            raise _damaged("a block lies behind the index")


def _block_filters(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Id and properties of each filter in the block header at `at`."""
    flags = data[at + 1]
    at += 2
    for size_is_there in (flags & 0x40, flags & 0x80):
        if size_is_there:
            _, at = _number(data, at)
    for _ in range((flags & 3) + 1):
        id, at = _number(data, at)
        size, at = _number(data, at)
        yield id, data[at : at + size]
        at += size


def _dictionary(properties: bytes) -> int:
    """The size in bytes that the one byte of LZMA2's properties stands for."""
    bits = properties[0] & 0x3F if properties else 0
    return (1 << 32) - 1 if bits >= 40 else (2 | bits & 1) << (bits // 2 + 11)


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A multibyte integer and the offset behind it."""
    value = shift = 0
    for position in range(at, at + 9):
        if position >= len(data):
            break
        value |= (data[position] & 0x7F) << shift
        shift += 7
        if not data[position] & 0x80:
            return value, position + 1
    raise _damaged("a number does not end")


def _damaged(reason: str) -> ModuleError:
    return ModuleError("corrupt-compression", compression=Compression.XZ.value, reason=reason)


# --- what it means ---------------------------------------------------------------------------------------------------


def judge(found: Wrapping, path: str, kernel: str) -> Iterator[Finding]:
    """What the kernel's decoders refuse of this form (compression-refused), and what its recipe never writes.

    `kernel` is the version of the kernel that the module at `path` is for, "" where nobody knows: one that reads
    no compressed module itself leaves that to kmod, which takes whatever liblzma, zlib and libzstd take.
    """
    for fact in _refused(found) if decompresses(kernel) else ():
        yield make("compression-refused", path, compression=found.compression.value, **fact)
    if found.compression is Compression.XZ and found.dictionary > RECIPE_DICTIONARY:
        yield make("compression-dictionary", path, dictionary=found.dictionary, recipe=RECIPE_DICTIONARY)
    if found.flags & _GZIP_NAME:
        yield make("compression-name", path, flags=f"{found.flags:#04x}")
    if found.more:
        yield make("compression-several", path, compression=found.compression.value, behind=found.behind)
    elif found.behind:
        yield make("compression-trailing", path, compression=found.compression.value, behind=found.behind)


def decompresses(kernel: str) -> bool:
    """Whether a kernel of this version can have been built to read compressed modules itself."""
    numbers = re.match(r"(\d+)\.(\d+)", kernel)
    return not numbers or (int(numbers[1]), int(numbers[2])) >= _DECOMPRESSES


def _refused(found: Wrapping) -> Iterator[dict[str, str]]:
    if found.check not in _CHECKS_KNOWN:
        yield {"check": _CHECKS.get(found.check, str(found.check)), "known": "none or CRC32"}
    if len(found.filters) > _FILTERS or any(id not in _BRANCH_FILTERS for id in found.filters):
        yield {
            "filters": ", ".join(f"{id:#x}" for id in found.filters),
            "known": "LZMA2 and one for branches before it",
        }
    if found.compression is Compression.GZIP and found.flags & ~_GZIP_HARMLESS:
        yield {"flags": f"{found.flags:#04x}", "known": "a name"}
