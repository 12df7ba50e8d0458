"""Files of an installed system below some root, read as a process inside that root would.

An installed system is full of symlinks (`/lib`, `/var/lib/rpm`), and on a mounted foreign root the absolute ones
lead astray: to files of the system that looks.  Here every link is followed inside the root, and only for
reading; what is changed is reached by `tree`, which follows none.
"""

from __future__ import annotations

import errno
import os
import stat

HOPS = 40  # links in one path, as in Linux
LIMIT = 256 << 20  # bytes of one file; dpkg's status is some MB
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def resolve(root: str, path: str) -> str:
    """Where `path` lies that is meant inside `root` ("" or without a slash at its end).

    The last component need not exist.  Raises OSError ELOOP.
    """
    done, hops = "", 0
    todo = path.split("/")[::-1]
    while todo:
        name = todo.pop()
        if name == "..":
            done = done.rpartition("/")[0]
        if name in ("", ".", ".."):
            continue
        try:
            target = os.readlink(f"{root}{done}/{name}")
        except OSError:  # no link, or nothing there: whoever opens it will see
            done = f"{done}/{name}"
            continue
        hops += 1
        if hops > HOPS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if target.startswith("/"):
            done = ""
        todo += target.split("/")[::-1]
    return f"{root}{done}" or "/"


def read(root: str, path: str, limit: int = LIMIT) -> bytes:
    """All of a regular file.  Raises OSError, EFBIG for one of more than `limit` bytes."""
    return slurp(resolve(root, path), limit)


def slurp(path: str, limit: int = LIMIT) -> bytes:
    """As `read`, for a path that `resolve` gave."""
    fd = os.open(path, READ)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        if status.st_size > limit:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
        data = os.read(fd, status.st_size + 1)
        if len(data) == status.st_size:  # as a file object would do, at three times the cost for a small one
            return data
        while more := os.read(fd, 1 << 20):  # it grows, or is of those in /proc
            data += more
        return data
    finally:
        os.close(fd)


def find(root: str, path: str) -> bytes | None:
    """As `read`, None where there is no such file."""
    try:
        return read(root, path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def names(root: str, path: str) -> list[str]:
    """The names in a directory, sorted; none where there is no such directory, or it cannot be read."""
    try:
        return sorted(os.listdir(resolve(root, path)))
    except OSError:
        return []


def exists(root: str, path: str) -> bool:
    """Whether there is anything at `path`, as far as it can be seen."""
    try:
        return os.path.lexists(resolve(root, path))
    except OSError:
        return False
