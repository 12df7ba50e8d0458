"""Packages taken apart and put together again: headers, archives and modules inside, sizes and sums that fit or not.

Formats: rpm's docs/manual/format_*.md, cpio(5), deb(5), tar(5); written from these alone.
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import struct
import zlib
from random import Random

from tests.fuzz import wrapped
from tests.fuzz.raw import FAILURES, number, rearrange, splice
from tests.mutants.damages import one

MOST = 1 << 18  # bytes of a payload that are unfolded here
FIX = 0.8  # of the packages get sums and sizes that fit what was changed
LEAD, INTRO, ENTRY = 96, struct.Struct(">8sII"), struct.Struct(">IIiI")
HEADER_SHA256, SIGNATURE_SIZE, PAYLOAD_SHA256 = 273, 1000, 5092
NEWC, STRIPPED = b"070701", b"07070X"
BZIP2, LZMA = b"BZh", b"\x5d\x00\x00"
BLOCK = 512
AR = b"!<arch>\n"
LINES = (
    b"Installed-Size: 99", b"Installed-Size: -1", b"Installed-Size: " + b"9" * 5000, b"Installed-Size: \xd9\xa1",
    b"Package:", b"Version: 1:2~3-4", b"Architecture: \xff", b" continued", b"", b"no colon", b"Package: other",
)  # fmt: skip


# --- payloads --------------------------------------------------------------------------------------------------------


def unfold(data: bytes) -> bytes:
    """What was compressed, in whatever way."""
    if data.startswith(BZIP2):
        return bz2.BZ2Decompressor().decompress(data, MOST)
    if data.startswith(LZMA):
        return lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(data, MOST)
    return wrapped.unwrap(data)


def fold(archive: bytes, like: bytes, random: Random) -> bytes:
    """Compressed as `like` is."""
    if like.startswith(BZIP2):
        return bz2.compress(archive, 1)
    if like.startswith(LZMA):
        return lzma.compress(archive, lzma.FORMAT_ALONE, preset=0)
    if like.startswith(wrapped.GZIP):
        return _gzip(archive)
    if like.startswith(wrapped.XZ):
        return wrapped.xz(archive, random)
    if like.startswith(wrapped.ZSTD):
        return wrapped.zstd(archive, random)
    return archive


def _gzip(archive: bytes) -> bytes:
    encoder = zlib.compressobj(1, zlib.DEFLATED, 31)
    return encoder.compress(archive) + encoder.flush()


def contents_changed(data: bytes, random: Random) -> bytes:
    """A file in a package: a module gets a module's damages."""
    if data.startswith(b"\x7fELF") and len(data) > 64 and random.random() < 0.8:
        return one(data, random)[0]
    return splice(data, random)


# --- RPM -------------------------------------------------------------------------------------------------------------


class Header:
    """A header structure: its entries and its store."""

    def __init__(self, data: bytes, at: int) -> None:
        self.magic, count, size = INTRO.unpack_from(data, at)
        start = at + INTRO.size
        if count > 1000 or size > len(data):
            raise ValueError("no header")
        self.entries = [list(ENTRY.unpack_from(data, start + i * ENTRY.size)) for i in range(count)]
        self.end = start + count * ENTRY.size + size
        self.store = bytearray(data[self.end - size : self.end])

    def render(self) -> bytes:
        """Its bytes."""
        index = b"".join(ENTRY.pack(*entry) for entry in self.entries)
        return INTRO.pack(self.magic, len(self.entries), len(self.store)) + index + bytes(self.store)

    def put(self, tag: int, value: bytes) -> None:
        """Overwrite the beginning of a tag's values, where it has any."""
        for known, _, offset, _ in self.entries:
            if known == tag and 0 <= offset <= len(self.store) - len(value):
                self.store[offset : offset + len(value)] = value

    def change(self, random: Random) -> None:
        """An entry's field, a value, an entry more or less."""
        entry = random.choice(self.entries)
        match random.randrange(8):
            case 0:
                field = random.randrange(4)
                value = number(entry[field] & 0xFFFFFFFF, 32, random)
                entry[field] = value - (value >> 31 << 32) if field == 2 else value
            case 1:
                entry[1] = random.randrange(10)
            case 2:
                self.entries.remove(entry)
            case 3:
                self.entries.append(list(entry))
            case 4:
                other = random.choice(self.entries)
                entry[2], other[2] = other[2], entry[2]
            case 5:
                entry[3] = number(entry[3], 4, random)
            case _:
                at = min(len(self.store) - 1, max(0, entry[2]) + random.randrange(8))
                self.store[at] = random.choice(
                    [0, 1, 0xFF, self.store[at] ^ 1 << random.randrange(8), ord("/"), ord(".")]
                )


def change_rpm(data: bytes, random: Random) -> bytes:
    """One of the headers, or the archive, with digests that fit or not."""
    if random.random() < 0.1:
        return splice(data, random)
    try:
        signature = Header(data, LEAD)
        main = Header(data, signature.end + -signature.end % 8)
        payload = data[main.end :]
        choice = random.random()
        if choice < 0.1:
            signature.change(random)
        elif choice < 0.5:
            for _ in range(random.choice([1, 1, 2])):
                main.change(random)
        elif choice < 0.9:
            payload = fold(cpio_changed(unfold(payload), random), payload, random)
        else:
            payload = wrapped.change(payload, random)
        return _rpm(data[:LEAD], signature, main, payload, fix=random.random() < FIX)
    except FAILURES:
        return splice(data, random)


def _rpm(lead: bytes, signature: Header, main: Header, payload: bytes, *, fix: bool) -> bytes:
    if fix:
        main.put(PAYLOAD_SHA256, hashlib.sha256(payload).hexdigest().encode())
        header = main.render()
        signature.put(HEADER_SHA256, hashlib.sha256(header).hexdigest().encode())
        signature.put(SIGNATURE_SIZE, (len(header) + len(payload)).to_bytes(4, "big"))
    head = lead + signature.render()
    return head + bytes(-len(head) % 8) + main.render() + payload


def cpio_changed(archive: bytes, random: Random) -> bytes:
    """A field, a name, the contents or the order of members."""
    members = _members(archive)
    if not members:
        return splice(archive, random)
    at = random.randrange(len(members))
    fields, name, content = members[at]
    match random.randrange(8):
        case 0 | 1:
            which = random.choice([0, 1, 1, 6, 6, 11, random.randrange(13)])
            fields = list(fields)
            fields[which] = number(fields[which], 32, random)
            members[at] = (fields, name, content)
            return b"".join(_member(*each, sized=False) for each in members)
        case 2:
            members[at] = (
                fields,
                random.choice([name[:-1], name + b"x", b"../" + name, b"/", b".", b"\xff", b""]),
                content,
            )
        case 3 | 4 | 5:
            rearrange(members, at, random)
        case _:
            members[at] = (fields, name, contents_changed(content, random))
    return b"".join(_member(*each, sized=True) for each in members)


def _members(archive: bytes) -> list[tuple[list[int], bytes, bytes]]:
    found = []
    at = 0
    while archive[at : at + 6] == NEWC:
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name = archive[at + 110 : at + 109 + fields[11]]
        start = at + 110 + fields[11]
        start += -start % 4
        found.append((fields, name, archive[start : start + fields[6]]))
        at = start + fields[6]
        at += -at % 4
        if name == b"TRAILER!!!" or fields[6] > len(archive):
            break
    return found


def _member(fields: list[int], name: bytes, content: bytes, *, sized: bool) -> bytes:
    numbers = list(fields)
    if sized:
        numbers[6], numbers[11] = len(content), len(name) + 1
    head = NEWC + b"".join(b"%08x" % each for each in numbers) + name + b"\0"
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


# --- Debian ----------------------------------------------------------------------------------------------------------


def change_deb(data: bytes, random: Random) -> bytes:
    """A part of the outer archive, or what is in it."""
    if random.random() < 0.1:
        return splice(data, random)
    try:
        found = _parts(data)
        if random.random() < 0.12:
            return _ar_changed(found, random)
        at = random.choice([1, 2, 2, 2]) if len(found) > 2 else random.randrange(len(found))
        name, content = found[at]
        if random.random() < 0.1:
            content = wrapped.change(content, random)
        else:
            content = fold(tar_changed(unfold(content), random), content, random)
        found[at] = (name, content)
        return _ar(found)
    except FAILURES:
        return splice(data, random)


def _parts(data: bytes) -> list[tuple[bytes, bytes]]:
    found = []
    at = len(AR)
    while at + 60 <= len(data):
        size = int(data[at + 48 : at + 58])
        found.append((data[at : at + 48], data[at + 60 : at + 60 + size]))
        at += 60 + size + size % 2
        if size < 0:
            raise ValueError("no part")
    return found


def _ar(found: list[tuple[bytes, bytes]]) -> bytes:
    whole = AR
    for head, content in found:
        whole += head + b"%-10d`\n" % len(content) + content + b"\n" * (len(content) % 2)
    return whole


def _ar_changed(found: list[tuple[bytes, bytes]], random: Random) -> bytes:
    at = random.randrange(len(found))
    head, content = found[at]
    match random.randrange(6):
        case 0 | 1 | 2:
            rearrange(found, at, random)
        case 3:
            names = [
                b"_gpg",
                b"data.tar.xz",
                b"data.tar.lzma",
                b"data.tar.zst",
                b"data.tar",
                b"control.tar/",
                b"data.tar.q",
            ]
            found[at] = (random.choice(names).ljust(16) + head[16:], content)
        case 4:
            found.append((b"_more".ljust(48) if random.random() < 0.5 else b"more".ljust(48), content[:9]))
        case _:
            return _ar(found)[: -random.randrange(1, 64)]
    return _ar(found)


def tar_changed(archive: bytes, random: Random) -> bytes:
    """A header's field with a sum that fits, the contents, or members lost, doubled, moved."""
    members = _tar_members(archive)
    if not members:
        return splice(archive, random)
    at = random.randrange(len(members))
    head, content = members[at]
    match random.randrange(8):
        case 0 | 1 | 2:
            members[at] = (summed(_field_changed(bytearray(head), random)), content)
        case 3:
            del members[at]
        case 4:
            members.insert(random.randrange(len(members) + 1), members[at])
        case 5:
            name = random.choice([b"./lib/modules/6.1/" + b"d/" * 60 + b"a.ko", b"", b"x" * 5000, b"../../etc/x"])
            kind = random.choice([b"L", b"K"])
            long = bytearray(head)
            long[156:157], long[124:136] = kind, b"%011o\0" % len(name)
            members.insert(at, (summed(long), name + bytes(-len(name) % BLOCK)))
        case _:
            size = len(content)
            if content[:8].isascii() and random.random() < 0.7:
                content = _lines_changed(content.rstrip(b"\0"), random)
            else:
                content = contents_changed(content, random)
            new = bytearray(head)
            if len(content) != size:
                new[124:136] = b"%011o\0" % len(content)
            members[at] = (summed(new), content + bytes(-len(content) % BLOCK))
    end = random.choice([0, BLOCK, 2 * BLOCK, 2 * BLOCK, 2 * BLOCK])
    return b"".join(bytes(head) + content for head, content in members) + bytes(end)


def _tar_members(archive: bytes) -> list[tuple[bytes, bytes]]:
    found = []
    at = 0
    while at + BLOCK <= len(archive) and archive[at]:
        head = archive[at : at + BLOCK]
        size = int(head[124:136].strip(b" \0") or b"0", 8)
        whole = size + -size % BLOCK
        found.append((head, archive[at + BLOCK : at + BLOCK + whole]))
        at += BLOCK + whole
    return found


def _field_changed(head: bytearray, random: Random) -> bytearray:
    match random.randrange(7):
        case 0:
            head[156] = random.choice(b"0123456789LKxgSV\0")
        case 1:
            sizes = [
                b"%011o\0" % random.getrandbits(30),
                b"\x80" + random.randbytes(11),
                b" " * 12,
                bytes(12),
                b"-1".ljust(12),
            ]
            head[124:136] = random.choice(sizes)
        case 2:
            names = [
                b"./lib/modules/6.1/b.ko.xz",
                b"./",
                b"..",
                b"/",
                b"",
                b"a//b",
                b"\xff/",
                b"lib",
                b"./usr/lib/debug/a.ko",
            ]
            head[0:100] = random.choice(names).ljust(100, b"\0")
        case 3:
            head[157:257] = random.choice([b"a", b"../..", b"./lib", b"", b"x" * 100]).ljust(100, b"\0")
        case 4:
            head[257:265] = random.choice([b"ustar\x0000", b"ustar  \0", bytes(8)])
        case 5:
            head[345:500] = random.choice([b"prefix", bytes(3), b"\xff"]).ljust(155, b"\0")
        case _:
            head[random.randrange(BLOCK)] = random.randrange(256)
    return head


def summed(head: bytearray) -> bytes:
    """With its checksum."""
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % (sum(head) & 0o777777)
    return bytes(head)


def _lines_changed(text: bytes, random: Random) -> bytes:
    lines = text.split(b"\n")
    at = random.randrange(len(lines))
    match random.randrange(4):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, random.choice(LINES))
        case 2:
            lines[at] = random.choice(LINES)
        case _:
            lines[at] = splice(lines[at], random)
    return b"\n".join(lines)
