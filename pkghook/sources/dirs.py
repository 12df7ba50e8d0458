"""Directory handles below one root, reached component by component without following a link.

A tree may be changed by somebody else while root works on it.  A path that was a directory
a moment ago may be a link to another place now; a handle stays what it was.
"""

from __future__ import annotations

import errno
import os

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Parent and child stay in hand together, so at least two; the more the fewer are opened twice.
HANDLES = 64
# A component that could lead out of the root, or that no file system has.
NO_NAMES = frozenset(("", ".", ".."))


def split(path: str) -> tuple[str, str]:
    """The directory and the name in it, of a path relative to the root."""
    directory, _, name = path.rpartition("/")
    return directory, name


class Dirs:
    """A bounded store of open directories, least recently used closed first."""

    def __init__(self, root: int, limit: int = HANDLES) -> None:
        """`root` stays the caller's; `limit` is how many handles are kept open beside it."""
        self._root = root
        self._limit = limit
        self._open: dict[str, int] = {}

    def get(self, path: str) -> int:
        """A handle of the directory at `path`, relative to the root ("" is the root itself).

        It stays open for at least the next `limit` - 1 directories opened through this store.
        Raises OSError: ENOENT, ENOTDIR (a link too), EACCES and whatever else open(2) knows.
        """
        if not path:
            return self._root
        fd = self._open.get(path)
        if fd is None:
            return self._descend(path)
        self._keep(path, fd)
        return fd

    def _descend(self, path: str) -> int:
        missing = []
        fd: int | None = None
        rest = path
        while fd is None:
            parent, name = split(rest)
            if name in NO_NAMES:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
            missing.append((rest, name))
            fd = self._open.get(parent) if parent else self._root
            rest = parent
        if rest:
            self._keep(rest, fd)
        for sub, name in reversed(missing):
            fd = os.open(name, DIRECTORY, dir_fd=fd)
            self._keep(sub, fd)
        return fd

    def _keep(self, path: str, fd: int) -> None:
        self._open.pop(path, None)
        self._open[path] = fd
        if len(self._open) > self._limit:
            oldest = next(iter(self._open))
            os.close(self._open.pop(oldest))

    def path_of(self, fd: int) -> str:
        """The path of a handle from this store, "" for the root and for a handle that is no longer kept."""
        return next((path for path, kept in self._open.items() if kept == fd), "")

    def close(self) -> None:
        """Close every handle of this store; it can be used again."""
        while self._open:
            os.close(self._open.popitem()[1])
