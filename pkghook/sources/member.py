"""What a package holds, one member after the other: the values that all forms of packages share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from hashlib import _Hash

    from pkghook.sources.payload import Payload

Kind = Literal["file", "dir", "symlink", "link", "other"]

PIECE = 256 << 20  # bytes asked for at once; memory that a lying size asks for in vain is never touched


class Member(NamedTuple):
    """One name in a package.

    A file with several names comes once as `file`, with its bytes, and otherwise as `link` without any.  All
    its names share one `inode`.  In an RPM the links come before their file (`target` names it), in a Debian
    package after it.
    """

    path: str  # relative to the root, without leading "./" or "/"; "" for the root; decoded with `surrogateescape`
    kind: Kind
    size: int  # bytes that the reader gives: those of a `file`, 0 for all else
    mode: int  # as in st_mode
    target: str = ""  # of a symlink as it is written there; of a link the path of the file
    inode: int = 0  # a number within the package


def _nobody(digest: str) -> None:
    """Judges nothing."""


class Reader:
    """The bytes of one member, forward only, as long as the pass has not moved on.

    `read` and `readinto` raise InputError where the package is cut short or damaged.
    """

    def __init__(
        self, payload: Payload, size: int, algorithm: str = "", judge: Callable[[str], None] = _nobody
    ) -> None:
        self._payload = payload
        self._digest: _Hash | None = None  # of what `read` gave
        self.algorithm = algorithm  # of the digest that the package has of it, as hashlib calls it; "" if it has none
        self.judge = judge  # is told the digest, hexadecimal, of the whole member; at any time before the package's end
        self.left = size  # bytes that have not been read

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, fewer at the end; all that are left by default."""
        wanted = self.left if size < 0 else min(size, self.left)
        data = self._payload.read(wanted) if wanted <= PIECE else self._large(wanted)
        self.left -= wanted
        if self.algorithm:
            import hashlib

            self._digest = self._digest or hashlib.new(self.algorithm, usedforsecurity=False)
            self._digest.update(data)
        return data

    def readinto(self, buffer: memoryview) -> None:
        """Fill `buffer` with the next bytes. Their digest is for the caller to make, and to tell `judge`."""
        self._payload.readinto(buffer)
        self.left -= len(buffer)

    def _large(self, size: int) -> bytes:
        from io import BytesIO

        whole = BytesIO()  # grows in place and gives its bytes away without a copy
        for position in range(0, size, PIECE):
            whole.write(self._payload.read(min(PIECE, size - position)))
        return whole.getvalue()

    def end(self) -> None:
        """The pass moves on; what has been read to its end is judged."""
        if self._digest and not self.left:
            self.judge(self._digest.hexdigest())
