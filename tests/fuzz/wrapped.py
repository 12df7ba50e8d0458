"""Compressed modules, taken apart and put together again with checksums that fit.

Formats: RFC 1952 (gzip), The .xz File Format 1.1, RFC 8878 (zstd).
"""

from __future__ import annotations

import lzma
import zlib
from random import Random

import zstandard

from tests.fuzz.raw import FAILURES, splice

GZIP, XZ, ZSTD = b"\x1f\x8b", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"
MOST = 1 << 18  # bytes that are unfolded here
WINDOW = 1 << 23


def change(data: bytes, random: Random) -> bytes:
    """The contents changed, the wrapping changed, another wrapping, something behind it."""
    try:
        match random.randrange(8):
            case 0:
                return wrap(splice(unwrap(data), random), random)
            case 1:
                return wrap(unwrap(data), random)
            case 2:
                return data + random.choice([b"\0", bytes(8), data[:40], wrap(b"more", random), data])
            case 3:
                return data[: random.randrange(len(data) + 1)]
            case _:
                return mended(splice(data, random))
    except FAILURES:
        return splice(data, random)


def unwrap(data: bytes) -> bytes:
    """The contents, as far as they are there."""
    if data.startswith(GZIP):
        return zlib.decompressobj(31).decompress(data, MOST)
    if data.startswith(XZ):
        return lzma.LZMADecompressor().decompress(data, MOST)
    if data.startswith(ZSTD):
        return zstandard.ZstdDecompressor(max_window_size=WINDOW).stream_reader(data).read(MOST)
    return data


def wrap(image: bytes, random: Random) -> bytes:
    """Compressed in any way that a program may choose."""
    return random.choice([gzip, xz, xz_blocks, zstd, zstd_by_hand])(image, random)


def gzip(image: bytes, random: Random) -> bytes:
    """With whatever a header may have."""
    encoder = zlib.compressobj(random.choice([0, 1, 6]), zlib.DEFLATED, -15)
    flags = random.choice([0, 0, 1, 8, 16, 24, 4, 2])
    head = GZIP + bytes([8, flags, 0, 0, 0, 0, 0, 3])
    head += b"\x04\0abcd" if flags & 4 else b""
    head += b"demo.ko\0" if flags & 8 else b""
    head += b"why\0" if flags & 16 else b""
    head += (zlib.crc32(head) & 0xFFFF).to_bytes(2, "little") if flags & 2 else b""
    body = encoder.compress(image) + encoder.flush()
    return head + body + zlib.crc32(image).to_bytes(4, "little") + len(image).to_bytes(4, "little")


def xz(image: bytes, random: Random) -> bytes:
    """With any check, filters before the last and a dictionary of any size."""
    check = random.choice([lzma.CHECK_NONE, lzma.CHECK_CRC32, lzma.CHECK_CRC64, lzma.CHECK_SHA256])
    before = random.choice([[], [], [{"id": lzma.FILTER_X86}], [{"id": lzma.FILTER_DELTA, "dist": 1}]])
    before += random.choice([[], [], [{"id": lzma.FILTER_ARM}]])
    last = {"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << random.choice([12, 16, 20, 21])}
    return lzma.compress(image, lzma.FORMAT_XZ, check, filters=[*before, last])


def xz_blocks(image: bytes, random: Random) -> bytes:
    """A stream of several blocks, with the sizes that a block may tell; `liblzma` writes one."""
    cut = random.randrange(len(image) + 1)
    body, index = b"", b""
    pieces = [piece for piece in (image[:cut], image[cut:]) if piece]
    for piece in pieces:
        chain = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << random.choice([12, 16, 23])}]
        raw = lzma.compress(piece, lzma.FORMAT_RAW, filters=chain)
        flags = random.choice([0, 0x40, 0x80, 0xC0])
        head = bytes([flags])
        head += multibyte(len(raw)) if flags & 0x40 else b""
        head += multibyte(len(piece)) if flags & 0x80 else b""
        head += b"\x21\x01" + bytes([random.choice([0, 8, 18, 22])])
        head += bytes(-(len(head) + 1) % 4 + random.choice([0, 4]))
        head = bytes([(len(head) + 1) // 4]) + head
        head += crc(head)
        body += head + raw + bytes(-len(raw) % 4) + crc(piece)
        index += multibyte(len(head) + len(raw) + 4) + multibyte(len(piece))
    index = b"\0" + multibyte(len(pieces)) + index
    index += bytes(-len(index) % 4)
    index += crc(index)
    last = (len(index) // 4 - 1).to_bytes(4, "little") + b"\0\1"
    return XZ + b"\0\1" + crc(b"\0\1") + body + index + crc(last) + last + b"YZ"


def multibyte(value: int) -> bytes:
    """A number of xz."""
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def zstd(image: bytes, random: Random) -> bytes:
    """As a library writes it."""
    made = zstandard.ZstdCompressor(
        level=random.choice([1, 3]),
        write_checksum=random.random() < 0.5,
        write_content_size=random.random() < 0.5,
    )
    return made.compress(image)


def zstd_by_hand(image: bytes, random: Random) -> bytes:
    """Raw and repeating blocks, a window of any size."""
    blocks = b""
    for at in range(0, len(image), 4096):
        piece = image[at : at + 4096]
        blocks += (len(piece) << 3).to_bytes(3, "little") + piece
    repeated = random.choice([0, 1, 1 << 10, 1 << 17])
    blocks += (repeated << 3 | 2 | 1).to_bytes(3, "little") + b"\0"
    return ZSTD + b"\0" + bytes([random.choice([0x58, 0x58, 0x70, 0x88, 0xF8])]) + blocks


# --- checksums that fit ----------------------------------------------------------------------------------------------


def crc(data: bytes | bytearray) -> bytes:
    """CRC32, as all three write it."""
    return zlib.crc32(data).to_bytes(4, "little")


def mended(data: bytes) -> bytes:
    """With checksums that fit, as far as that can be made."""
    if data.startswith(GZIP):
        return _mended_gzip(data)
    return _mended_xz(data) if data.startswith(XZ) else data


def _mended_gzip(data: bytes) -> bytes:
    decoder = zlib.decompressobj(-15)
    image = decoder.decompress(data[10:], MOST)
    end = len(data) - len(decoder.unused_data)
    return data[:end] + crc(image) + (len(image) & 0xFFFFFFFF).to_bytes(4, "little")


def _mended_xz(data: bytes) -> bytes:
    fixed = bytearray(data)
    fixed[8:12] = crc(fixed[6:8])
    footer = len(fixed) - 12
    fixed[footer : footer + 4] = crc(fixed[footer + 4 : footer + 10])
    block = (fixed[12] + 1) * 4
    fixed[12 + block - 4 : 12 + block] = crc(fixed[12 : 12 + block - 4])
    index = footer - 4 * (int.from_bytes(fixed[footer + 4 : footer + 8], "little") + 1)
    if 12 < index < footer - 4:
        fixed[footer - 4 : footer] = crc(fixed[index : footer - 4])
    return bytes(fixed)
