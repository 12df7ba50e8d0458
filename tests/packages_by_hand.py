"""Packages written byte by byte: the good, the odd and the hostile, which no packager would make."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

Tag = tuple[int, Sequence[int | bytes] | bytes]  # type, values
INT16, INT32, INT64, STRING, BIN, ARRAY = 3, 4, 5, 6, 7, 8
REGULAR, SYMLINK, DIRECTORY = 0o100644, 0o120777, 0o040755
GHOST = 64
LEAD = b"\xed\xab\xee\xdb\x03\0" + bytes(90)
TRAILER = b"070701" + b"00000000" * 11 + b"0000000b" + b"00000000" + b"TRAILER!!!\0" + bytes(3)
_WIDTHS = {INT16: ">H", INT32: ">I", INT64: ">Q"}


class File(NamedTuple):
    """One file of an RPM, in its header and in its payload."""

    path: str
    data: bytes = b""  # a symlink's target
    mode: int = REGULAR
    flags: int = 0
    inode: int = 0


# --- RPM -------------------------------------------------------------------------------------------------------------


def rpm_header(tags: Mapping[int, Tag]) -> bytes:
    """A header structure with its intro."""
    index, store = b"", b""
    for tag, (type, values) in sorted(tags.items()):
        if type in _WIDTHS:
            store += bytes(-len(store) % struct.calcsize(_WIDTHS[type]))
            raw = b"".join(struct.pack(_WIDTHS[type], value) for value in values)
        elif isinstance(values, bytes):
            raw = values
        else:
            raw = b"".join(value + b"\0" for value in values if isinstance(value, bytes))
        index += struct.pack(">IIiI", tag, type, len(store), len(values))
        store += raw
    return intro(len(tags), len(store)) + index + store


def intro(entries: int, size: int) -> bytes:
    """How a header structure begins."""
    return b"\x8e\xad\xe8\x01\0\0\0\0" + struct.pack(">II", entries, size)


def rpm_tags(files: Sequence[File], *, long: bool = False) -> dict[int, Tag]:
    """What the main header of a package with these files says. `long`: as format 6 does."""
    names = [file.path.encode("utf-8", "surrogateescape").rpartition(b"/") for file in files]
    dirs = sorted({dir + b"/" for dir, _, _ in names})
    counted = {file.inode or -number: len(file.data) for number, file in enumerate(files) if file.mode != DIRECTORY}
    tags: dict[int, Tag] = {
        1000: (STRING, [b"demo"]),
        1001: (STRING, [b"1"]),
        1002: (STRING, [b"2"]),
        1022: (STRING, [b"noarch"]),
        1044: (STRING, [b"demo-1-2.src.rpm"]),
        5009 if long else 1009: (INT64 if long else INT32, [sum(counted.values())]),
        5011: (INT32, [8]),
    }
    columns: dict[int, Tag] = {
        5008 if long else 1028: (INT64 if long else INT32, [len(file.data) for file in files]),
        1030: (INT16, [file.mode for file in files]),
        1035: (ARRAY, [_digest(file) for file in files]),
        1036: (ARRAY, [file.data if file.mode == SYMLINK else b"" for file in files]),
        1037: (INT32, [file.flags for file in files]),
        1095: (INT32, [1 for _ in files]),
        1096: (INT32, [file.inode or number + 1000 for number, file in enumerate(files)]),
        1116: (INT32, [dirs.index(dir + b"/") for dir, _, _ in names]),
        1117: (ARRAY, [name for _, _, name in names]),
        1118: (ARRAY, dirs),
    }
    return tags | (columns if files else {})


def _digest(file: File) -> bytes:
    return hashlib.sha256(file.data).hexdigest().encode() if file.mode == REGULAR else b""


def newc(files: Iterable[File]) -> bytes:
    """A cpio archive; of the names with one inode the last has the bytes."""
    files = [file for file in files if not file.flags & GHOST]
    last = {file.inode: file for file in files if file.inode}
    archive = b""
    for number, file in enumerate(files):
        data = file.data if last.get(file.inode, file) is file else b""
        archive += newc_member(
            f".{file.path}".encode("utf-8", "surrogateescape"), data, file.mode, file.inode or number
        )
    return archive + TRAILER


def newc_member(name: bytes, data: bytes, mode: int = REGULAR, inode: int = 1, size: int | None = None) -> bytes:
    """One member; `size` is what it claims."""
    size = len(data) if size is None else size
    numbers = (inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % number for number in numbers) + name + b"\0"
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def stripped(files: Sequence[File], order: Sequence[int] | None = None) -> bytes:
    """rpm's own 07070X, with the files of `order`."""
    archive = b""
    last = {file.inode: file for file in files if file.inode}
    for index in range(len(files)) if order is None else order:
        file = files[index]
        if not file.flags & GHOST:
            data = file.data if last.get(file.inode, file) is file else b""
            archive += stripped_member(index) + data + bytes(-len(data) % 4)
    return archive + TRAILER


def stripped_member(index: int) -> bytes:
    """The header of one member."""
    return b"07070X%08x\0\0" % index


def rpm(
    tags: Mapping[int, Tag], archive: bytes, *, payload: bytes | None = None, signature: Mapping[int, Tag] | None = None
) -> bytes:
    """A whole package. `payload` is what lies in it, by default the archive as it is; digests and sizes fit."""
    payload = archive if payload is None else payload
    said: dict[int, Tag] = {5092: (ARRAY, [hashlib.sha256(payload).hexdigest().encode()]), 5093: (INT32, [8])}
    header = rpm_header(said | dict(tags))
    signs: dict[int, Tag] = {
        273: (STRING, [hashlib.sha256(header).hexdigest().encode()]),
        1000: (INT32, [len(header) + len(payload)]),
    }
    head = LEAD + rpm_header(signs if signature is None else signature)
    return head + bytes(-len(head) % 8) + header + payload


def rpm_of(files: Sequence[File]) -> bytes:
    """A package of format 4 with these files."""
    return rpm(rpm_tags(files), newc(files))


# --- Debian ----------------------------------------------------------------------------------------------------------


def ar(parts: Iterable[tuple[bytes, bytes]]) -> bytes:
    """An ar archive."""
    return b"!<arch>\n" + b"".join(
        ar_header(name, b"%d" % len(data)) + data + b"\n" * (len(data) % 2) for name, data in parts
    )


def ar_header(name: bytes, size: bytes) -> bytes:
    """What comes before a part."""
    return (
        name.ljust(16) + b"0".ljust(12) + b"0".ljust(6) + b"0".ljust(6) + b"100644".ljust(8) + size.ljust(10) + b"`\n"
    )


CONTROL = b"Package: demo\nVersion: 1-2\nArchitecture: all\nInstalled-Size: 7\nDescription: demo\n"


def tar(files: Iterable[tuple[tarfile.TarInfo, bytes]], format: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar archive by the standard library."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=format) as archive:
        for info, data in files:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return whole.getvalue()


def tar_info(name: str, type: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    """What a tar archive says of a member."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = type, target, 0o755 if type == tarfile.DIRTYPE else 0o644
    return info


def control(*, control: bytes = CONTROL, sums: Mapping[str, bytes] | None = None) -> bytes:
    """The archive with the control data."""
    lines = [f"{hashlib.md5(data, usedforsecurity=False).hexdigest()}  {path}\n" for path, data in (sums or {}).items()]
    files = [("./control", control), *([("./md5sums", "".join(lines).encode())] if sums else [])]
    return tar((tar_info(name), data) for name, data in files)


def deb(data: bytes, *, name: bytes = b"data.tar", control_tar: bytes | None = None) -> bytes:
    """A whole package around a tar archive."""
    return ar([
        (b"debian-binary", b"2.0\n"),
        (b"control.tar", control() if control_tar is None else control_tar),
        (name, data),
    ])  # fmt: skip


def deb_of(files: Mapping[str, bytes]) -> bytes:
    """A package with these files and their sums."""
    data = tar((tar_info(f"./{path}"), content) for path, content in files.items())
    return deb(data, control_tar=control(sums=files))
