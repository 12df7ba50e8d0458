"""The archive inside a Debian package, read as dpkg reads it.

That is: old, ustar and GNU headers, GNU long names; no extended (pax) headers, which dpkg refuses.  The standard
library's tarfile is not used: it takes a damaged or missing header in the middle for the end of the archive, reads a
ustar prefix where dpkg sees none, and keeps all members.  Source: dpkg's lib/dpkg/tarfn.c; tar(5).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pkghook.sources.payload import damaged
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from pkghook.sources.member import Kind
    from pkghook.sources.payload import Payload

_BLOCK = 512
_NAME_MAX = 4096  # bytes; PATH_MAX
# name, mode, size, checksum, type, link name, magic, prefix
_FIELDS = struct.Struct("100s8s16x12s12x8s1s100s6s82x155s12x")
_SUM_AT = slice(148, 156)
_USTAR = b"ustar\0"
_LONG_NAME, _LONG_LINK = b"L", b"K"
_FILES = (b"0", b"\0")
_KINDS: dict[bytes, Kind] = {b"1": "link", b"2": "symlink", b"3": "other", b"4": "other", b"5": "dir", b"6": "other"}
_FORMATS = {b"2": 0o120000, b"3": 0o020000, b"4": 0o060000, b"6": 0o010000}  # of st_mode
_REGULAR, _DIRECTORY = 0o100000, 0o040000


class Entry(NamedTuple):
    """What the archive says of a member; its bytes come next."""

    name: bytes
    kind: Kind
    size: int  # bytes that follow; 0 unless it is a file
    mode: int  # as in st_mode
    target: bytes


def read(payload: Payload, path: str) -> Entry | None:
    """The next member; None at the archive's end. Raises InputError for what dpkg would not read either."""
    long: dict[bytes, bytes] = {}
    while True:
        payload.align(_BLOCK)
        block = payload.read(_BLOCK)
        if not block.strip(b"\0"):
            if long:
                raise damaged(path, "its tar archive ends after a long name")
            return None
        _check_sum(block, payload, path)
        name, mode, size, _, kind, target, magic, prefix = _FIELDS.unpack(block)
        length = _number(size, path)
        if kind not in (_LONG_NAME, _LONG_LINK):
            break
        if length > _NAME_MAX:
            raise damaged(path, f"a member of its tar archive has a name of {length} bytes")
        long[kind] = _string(payload.read(length))
    name, target = _string(name), _string(target)
    if magic == _USTAR and prefix[0]:
        name = _string(prefix) + b"/" + name
    name, target = long.get(_LONG_NAME, name), long.get(_LONG_LINK, target)
    if not name:
        raise damaged(path, "a member of its tar archive has no name")
    what = _kind(kind, name, path)
    if length and what != "file":  # dpkg would take what follows for the next member, tar for this one's bytes
        raise damaged(path, f"a member of its tar archive, a {what}, has {length} bytes of contents")
    format = _DIRECTORY if what == "dir" else _FORMATS.get(kind, _REGULAR)
    return Entry(name, what, length, format | _number(mode, path), target)


def _kind(kind: bytes, name: bytes, path: str) -> Kind:
    if kind in _FILES:
        return "dir" if name.endswith(b"/") else "file"  # a directory before POSIX
    if kind not in _KINDS:
        raise damaged(path, f"its tar archive has a member of type {kind!r}, which dpkg does not read")
    return _KINDS[kind]


def _check_sum(block: bytes, payload: Payload, path: str) -> None:
    field = block[_SUM_AT]
    if sum(block) - sum(field) + len(field) * 0x20 != _octal(field, path):
        raise damaged(path, f"no tar member begins at byte {payload.offset - _BLOCK} of its contents")


def _number(field: bytes, path: str) -> int:
    """A number in octal digits, or in base 256 with the first bit set."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:])
    return _octal(field, path)


def _octal(field: bytes, path: str) -> int:
    digits = field.lstrip(b" ").rstrip(b" \0")
    if field.strip(b" ") and not digits.strip(b"01234567"):
        return int(digits or b"0", 8)
    raise damaged(path, f"a tar header has {field!r} for a number")


def _string(field: bytes) -> bytes:
    return field.partition(b"\0")[0]
