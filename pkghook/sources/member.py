"""What a package holds, one member after the other: the values that all forms of packages share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from hashlib import _Hash
    from threading import Thread

    from pkghook.sources.payload import Payload

Kind = Literal["file", "dir", "symlink", "link", "other"]

LARGE = 1 << 17  # bytes whose sum is worth a thread
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


class Reader:
    """The bytes of one member, forward only, as long as the pass has not moved on.

    `read` raises InputError where the package is cut short or damaged.
    """

    def __init__(self, payload: Payload, size: int, digest: _Hash | None = None) -> None:
        self._payload = payload
        self._digest = digest
        self._summing: Thread | None = None  # hashlib lets others run while it works: the reader of modules does
        self.algorithm = digest.name if digest else ""  # of `digest`, as hashlib calls it; "" where it makes none
        self.left = size  # bytes that have not been read

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, fewer at the end; all that are left by default."""
        wanted = self.left if size < 0 else min(size, self.left)
        data = self._payload.read(wanted) if wanted <= PIECE else self._large(wanted)
        self.left -= wanted
        self._wait()
        if self._digest:
            self._digest.update(data)
        return data

    def readinto(self, buffer: memoryview) -> int:
        """Fill `buffer` with the next bytes, as many as there are; how many that was. Nothing is allocated.

        The bytes stay as they are until `digest` was asked for: its sum is made meanwhile.
        """
        size = min(len(buffer), self.left)
        part = buffer[:size]
        self._payload.readinto(part)
        self.left -= size
        self._wait()
        if self._digest and size > LARGE:
            from threading import Thread

            self._summing = Thread(target=self._digest.update, args=(part,))
            self._summing.start()
        elif self._digest:
            self._digest.update(part)
        return size

    def _wait(self) -> None:
        if self._summing:
            self._summing.join()
            self._summing = None

    def _large(self, size: int) -> bytes:
        from io import BytesIO

        whole = BytesIO()  # grows in place and gives its bytes away without a copy
        for position in range(0, size, PIECE):
            whole.write(self._payload.read(min(PIECE, size - position)))
        return whole.getvalue()

    def digest(self) -> str:
        """The hexadecimal digest of the whole member by `algorithm`; "" unless all of it has been read."""
        self._wait()
        return self._digest.hexdigest() if self._digest and not self.left else ""
