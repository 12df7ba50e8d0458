"""Writing a small file so that its path holds either what was there before or all of the new bytes.

The scratch file beside it is locked while it is written, with flock(2), which ends with the process however that
ends: one whose lock is free was left by a writer that was killed, and the next write there removes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from contextlib import suppress

from pkghook.errors import InputError
from pkghook.model import MODULES

PREFIX = ".pkghook-"
TOKEN_BYTES = 8
SCRATCH = re.compile(re.escape(PREFIX) + rf"[0-9a-f]{{{2 * TOKEN_BYTES}}}")
TRIES = 100
OPEN_ALREADY = ("/dev/std", "/dev/fd/", "/proc/")


def write(path: str, data: bytes, *, fsync: bool = False) -> None:
    """Put `data` at `path`, replacing what is there; with `fsync` it is on disk when this returns.

    A symlink stays and its target is replaced.  What is no regular file (/dev/null, a FIFO), or is open already
    (/dev/stdout), is written to as it is: a rename would put a file in its place.  InputError names the file.
    """
    try:
        mode = _mode(path)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if stat.S_ISREG(mode) and not path.startswith(OPEN_ALREADY):
            _replace(os.path.realpath(path), data, fsync=fsync)
        else:
            _write_all(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC), data, fsync=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error


def check(path: str) -> None:
    """InputError if `write` to `path` cannot succeed, or must not: to be told before the work rather than after it."""
    if path.endswith(MODULES):  # a wrong word on the command line shall not cost a module
        raise InputError(f"{path}: is named like a kernel module and shall not be replaced by something else")
    try:
        mode = _mode(path)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        place = os.path.dirname(os.path.realpath(path))
        os.stat(place)
        if stat.S_ISREG(mode) and not path.startswith(OPEN_ALREADY) and not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error


def _mode(path: str) -> int:
    """The type of what `path` leads to; what does not exist is going to be a regular file."""
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return stat.S_IFREG


def _replace(path: str, data: bytes, *, fsync: bool) -> None:
    directory = os.path.dirname(path)
    _sweep(directory)
    scratch, fd = _scratch(directory)
    held = os.dup(fd)  # the lock lasts until the last handle is closed
    renamed = False
    try:
        _write_all(fd, data, fsync=fsync)
        os.rename(scratch, path)
        renamed = True
    finally:
        os.close(held)
        if not renamed:
            os.unlink(scratch)
    if fsync:
        _sync_directory(directory)


def _scratch(directory: str) -> tuple[str, int]:
    """A new locked file in `directory`: its path, and a handle to write to it."""
    for _ in range(TRIES):
        # Not named after the file to be: its name may already be as long as a name can be.
        path = os.path.join(directory, f"{PREFIX}{os.urandom(TOKEN_BYTES).hex()}")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        if _hold(fd) is not False and os.path.lexists(path):
            return path, fd
        os.close(fd)  # another writer has swept it away before it was locked
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def _hold(fd: int) -> bool | None:
    """Lock an open file; False if another process has it, None where the file system cannot lock."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _sweep(directory: str) -> None:
    """Remove our user's scratch files that nobody writes any more; what cannot be removed stays."""
    with suppress(OSError):
        for name in filter(SCRATCH.fullmatch, os.listdir(directory)):
            with suppress(OSError):
                _remove_if_left(os.path.join(directory, name))


def _remove_if_left(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and _hold(fd):
            os.unlink(path)
    finally:
        os.close(fd)


def _write_all(fd: int, data: bytes, *, fsync: bool) -> None:
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        if fsync:
            os.fsync(fd)


def _sync_directory(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
