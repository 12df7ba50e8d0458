"""The archive inside an RPM: cpio "new ASCII" (070701, 070702), and rpm's own 07070X.

The latter, for packages with files over 4 GiB and for all of format 6, has an index into the header's list of
files in place of everything that cpio says of a member.  Source: rpm's lib/cpio.cc; cpio(5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkghook.sources.payload import damaged
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from pkghook.sources.payload import Payload

_MAGICS = (b"070701", b"070702")
_STRIPPED = b"07070X"
_TRAILER = b"TRAILER!!!"
_NAME_MAX = 4096  # bytes, with the zero at the end; rpm's own limit
_LAST = 0xFFFFFFFF  # 07070X: the index that ends the archive
_HEX = frozenset(b"0123456789abcdefABCDEF")


class Entry(NamedTuple):
    """What the archive says of a member; its bytes come next."""

    place: int = -1  # into the header's list of files; -1 where there is a name
    name: bytes = b""
    mode: int = 0  # only beside a name
    size: int = 0  # only beside a name


def read(payload: Payload, path: str) -> Entry | None:
    """The next member; None at the archive's end. Raises InputError for what is none, `path` being the package."""
    payload.align(4)
    magic = payload.read(6)
    if magic == _STRIPPED:
        index = _number(payload.read(8), path)
        payload.align(4)
        return None if index == _LAST else Entry(index)
    if magic not in _MAGICS:
        raise damaged(path, f"no cpio member begins at byte {payload.offset - 6} of its contents")
    fields = payload.read(13 * 8)
    name_size = _number(fields[88:96], path)
    if not 0 < name_size <= _NAME_MAX:
        raise damaged(path, f"a cpio member has a name of {name_size} bytes")
    name = payload.read(name_size)
    payload.align(4)
    name = name.partition(b"\0")[0]
    if name == _TRAILER:
        return None
    return Entry(-1, name, _number(fields[8:16], path), _number(fields[48:56], path))


def _number(digits: bytes, path: str) -> int:
    if not _HEX.issuperset(digits):  # int() would take blanks, signs and underscores
        raise damaged(path, f"a cpio header has {digits!r} for a number")
    return int(digits, 16)
