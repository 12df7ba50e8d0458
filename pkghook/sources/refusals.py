"""What the system's refusals mean for one module: an errno and a kind of file as a ModuleError."""

from __future__ import annotations

import errno
import os
import stat

from pkghook.errors import ModuleError

# The name is not there any more, or a component of the path is no longer a directory (O_NOFOLLOW).
GONE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE))
# What opening a name for reading says of a symlink, of a socket, of a device without a driver.
IRREGULAR = frozenset((errno.ELOOP, errno.ENXIO, errno.ENODEV))

KINDS = {
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
}


def reason(error: OSError) -> str:
    """The system's words for the error, without the path (which may differ from run to run)."""
    return os.strerror(error.errno) if error.errno else str(error)


def kind(mode: int) -> str:
    """What a file that is not a regular one is, in words."""
    return KINDS.get(stat.S_IFMT(mode), "unknown")


def cannot_reach(error: OSError) -> ModuleError:
    """Why a directory or a file's status cannot be read: vanished or unreadable."""
    return ModuleError("vanished" if error.errno in GONE else "unreadable", error=reason(error))


def cannot_open(error: OSError) -> ModuleError:
    """Why a module that the walk found cannot be opened: vanished, not-regular or unreadable."""
    if error.errno in IRREGULAR:
        return ModuleError("not-regular", error=reason(error))
    return cannot_reach(error)


def cannot_write(error: OSError) -> ModuleError:
    """Why the result cannot be written; for all who write to a scratch file."""
    return ModuleError("cannot-write", error=reason(error))
