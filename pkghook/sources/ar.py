"""The outermost archive of a Debian package: ar, with the parts that deb(5) names in their order.

python-debian's arfile is not used for it: it takes a negative size, and then never ends.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pkghook.sources.payload import Part, damaged

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"!<arch>\n"

_HEADER = 60
_END = b"`\n"
_PARTS = 100  # more than any package has


def parts(fd: int, path: str) -> Iterator[tuple[str, Part]]:
    """Name and place of each part. Raises InputError for a damaged archive."""
    end = os.fstat(fd).st_size
    position = len(MAGIC)
    for _ in range(_PARTS):
        if position >= end:
            return
        header = os.pread(fd, _HEADER, position)
        size = header[48:58].rstrip(b" ")
        if len(header) < _HEADER or header[58:60] != _END or not size.isdigit():
            raise damaged(path, f"no part of an ar archive begins at byte {position}")
        start = position + _HEADER
        if start + int(size) > end:
            raise damaged(path, f"it has {end} bytes where a part promises {start + int(size)}")
        yield header[:16].rstrip(b" ").removesuffix(b"/").decode("ascii", "replace"), Part(fd, start, int(size), path)
        position = start + int(size) + int(size) % 2
    raise damaged(path, f"it has more than {_PARTS} parts")
