"""Writing a small file so that its path holds either what was there before or all of the new bytes."""

from __future__ import annotations

import errno
import os
import stat

from pkghook.errors import InputError

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
    """InputError if `write` to `path` cannot succeed: to be told before the work rather than after it."""
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
    # Not named after the file: its name may already be as long as a name can be.
    scratch = os.path.join(directory, f".pkghook-{os.urandom(8).hex()}")
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    renamed = False
    try:
        _write_all(fd, data, fsync=fsync)
        os.rename(scratch, path)
        renamed = True
    finally:
        if not renamed:
            os.unlink(scratch)
    if fsync:
        _sync_directory(directory)


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
